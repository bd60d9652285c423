//! What hostile archives cost in memory, each in a process of its own, since a process knows only its highest size.

use std::path::Path;
use std::process::Command;

use super::*;

/// Says to the process of its own which archive it is to normalise.
const ARCHIVE: &str = "OPENDEPOT_TEST_ARCHIVE";

/// What normalising may add to the size of a process. The index alone may take 24 MiB, as the module says.
const MOST: u64 = 56 << 20;

/// A number that the kernel keeps of this process.
fn proc(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Not a test by itself: the process that [`assert_refused_cheaply`] starts.
#[test]
#[ignore = "runs in a process of its own"]
fn in_a_process_of_its_own() {
    let Some(archive) = std::env::var_os(ARCHIVE) else { return };
    let archive = Path::new(&archive);
    let (size, read) = (proc("status", "VmHWM:"), proc("io", "rchar:"));
    let spool = archive.parent().unwrap();
    let error = normalise(archive, ArchiveFormat::Zip, &Limits::default(), spool).unwrap_err();
    let (grown, read) = ((proc("status", "VmHWM:") - size) << 10, proc("io", "rchar:") - read);
    println!("grew by {grown}, read {read}: {error:?}");
}

/// Refuses an archive of hostile `bytes` in a new process. Returns how much was read, in hundredths of the archive's length.
fn assert_refused_cheaply(bytes: impl FnOnce(&mut dyn Write), expected: &str) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    bytes(&mut file);
    file.into_inner().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "archive::tests::memory::in_a_process_of_its_own",
            "--include-ignored",
            "--nocapture",
        ])
        .env(ARCHIVE, &path)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    let report = output.lines().find_map(|line| line.strip_prefix("grew by ")).expect(&output);
    let (numbers, error) = report.split_once(": ").unwrap();
    let (grown, read) = numbers.split_once(", read ").unwrap();
    assert!(error.starts_with(expected), "{report}");
    assert!(grown.parse::<u64>().unwrap() < MOST, "{report}");
    read.parse::<u64>().unwrap() * 100 / fs::metadata(&path).unwrap().len()
}

/// Deflated zeros that can be put behind one another, each piece standing for a mebibyte.
fn deflated_mebibyte() -> Vec<u8> {
    let mut compressor = flate2::Compress::new(Compression::best(), false);
    let mut piece = Vec::with_capacity(1 << 16);
    compressor.compress_vec(&vec![0; 1 << 20], &mut piece, flate2::FlushCompress::Full).unwrap();
    piece
}

/// A zip with `count` entries, each with these bytes as its content.
fn zip_of_many(out: &mut dyn Write, count: usize, content: &[u8], sizes: [u32; 2]) {
    for i in 0..count {
        out.write_all(&[b"PK\x03\x04", &said(i, 0, sizes)[..], content].concat()).unwrap();
    }
    let len = 40 + content.len();
    for i in 0..count {
        write_central(out, &said(i, 0, sizes), i * len);
    }
    write_zip64_end(out, count as u64, count as u64 * 56, (count * len) as u64, 0);
}

fn write_central(out: &mut dyn Write, said: &[u8], offset: usize) {
    let (shared, name) = said.split_at(26);
    let attributes = (0o100_644_u32 << 16).to_le_bytes();
    let offset = u32::try_from(offset).unwrap().to_le_bytes();
    let record = [b"PK\x01\x02\x14\x03", shared, &[0; 6], &attributes, &offset, name];
    out.write_all(&record.concat()).unwrap();
}

/// The zip64 records, the first of which is longer than it has to be, and the last record.
fn write_zip64_end(out: &mut dyn Write, count: u64, size: u64, start: u64, longer: usize) {
    let counts = [count, count, size, start].map(u64::to_le_bytes).concat();
    let len = (44 + longer as u64).to_le_bytes();
    out.write_all(&[b"PK\x06\x06", &len[..], &[45, 3, 45, 0], &[0; 8], &counts].concat()).unwrap();
    out.write_all(&vec![0; longer]).unwrap();
    out.write_all(&[b"PK\x06\x07\0\0\0\0", &(start + size).to_le_bytes()[..], &1_u32.to_le_bytes()].concat())
        .unwrap();
    out.write_all(&[b"PK\x05\x06\0\0\0\0", &[0xff; 12][..], &[0; 2]].concat()).unwrap();
}

#[test]
fn a_million_entries_in_a_zip() {
    assert_refused_cheaply(|out| zip_of_many(out, 1_000_000, &[3, 0], [2, 0]), "TooManyEntries");
}

#[test]
fn a_million_entries_in_a_tar() {
    // The names repeat, which is found out only when all of them are known.
    let thousand: Vec<u8> =
        (0..1000).flat_map(|i| raw_tar(b'0', format!("t/{i}").as_bytes(), b"", 0o644, b"")).collect();
    let part = gzip(&thousand);
    let million = |out: &mut dyn Write| (0..1000).for_each(|_| out.write_all(&part).unwrap());
    let read = assert_refused_cheaply(million, "TooManyEntries");
    assert!(read < 20, "the first 100,001 entries are enough: {read} %");
}

#[test]
fn long_names_for_every_entry() {
    let long = format!("t/{}", "n".repeat(1000));
    let hundred: Vec<u8> = (0..100)
        .flat_map(|_| [pax(b'x', &[("path", long.as_bytes())]), raw_tar(b'0', b"", b"", 0o644, b"")].concat())
        .collect();
    let part = gzip(&hundred);
    assert_refused_cheaply(|out| (0..900).for_each(|_| out.write_all(&part).unwrap()), "PathsTooLong");
}

#[test]
fn a_gibibyte_of_zeros_in_a_megabyte() {
    let header = {
        let mut header = tar::Header::from_byte_slice(&raw_tar(b'0', b"t/a", b"", 0o644, b"")).clone();
        header.set_size(1 << 30);
        header.set_cksum();
        gzip(header.as_bytes())
    };
    let zeros = gzip(&vec![0; 1 << 20]);
    let tar = |out: &mut dyn Write| {
        out.write_all(&header).unwrap();
        (0..1024).for_each(|_| out.write_all(&zeros).unwrap());
        out.write_all(&gzip(&[0; 1024])).unwrap();
    };
    assert_refused_cheaply(tar, "RatioTooHigh");

    let content = [deflated_mebibyte().repeat(1024), vec![3, 0]].concat();
    let sizes = [u32::try_from(content.len()).unwrap(), 1 << 30];
    assert_refused_cheaply(|out| zip_of_many(out, 1, &content, sizes), "RatioTooHigh");
}

/// As in the densest bombs known: each content is a stored block that quotes the next entry's header, and continues into
/// that entry's own content, so that all of them share one kernel of zeros.
#[test]
fn entries_that_quote_one_another() {
    const ENTRIES: usize = 200;
    const HEADER: usize = 40;
    let mut content = [deflated_mebibyte(), vec![3, 0]].concat();
    let mut plain = vec![0; 1 << 20];
    let mut heads = Vec::new();
    for i in (0..ENTRIES).rev() {
        let sizes = [content.len(), plain.len()].map(|size| u32::try_from(size).unwrap());
        let said = said(i, RawEntry::of(&plain).crc, sizes);
        let local = [b"PK\x03\x04", &said[..]].concat();
        let len = u16::try_from(HEADER).unwrap();
        let block = [&[0][..], &len.to_le_bytes(), &(!len).to_le_bytes(), &local].concat();
        heads.push(said);
        content.splice(0..0, block);
        plain.splice(0..0, local);
    }
    // The outermost header is quoted by no other.
    let body = &content[5..];
    let mut directory = Vec::new();
    for (i, said) in heads.iter().rev().enumerate() {
        write_central(&mut directory, said, i * (HEADER + 5));
    }
    let bomb = |out: &mut dyn Write| {
        out.write_all(body).unwrap();
        out.write_all(&directory).unwrap();
        write_zip64_end(out, ENTRIES as u64, directory.len() as u64, body.len() as u64, 0);
    };
    assert_refused_cheaply(bomb, "Corrupt { what: \"its entries overlap\"");
}

/// What both headers of a deflated entry called by a number say, and its name.
fn said(i: usize, crc: u32, sizes: [u32; 2]) -> Vec<u8> {
    let short = [20_u16, 0, 8, 0, 0x21].map(u16::to_le_bytes).concat();
    let long = [crc, sizes[0], sizes[1]].map(u32::to_le_bytes).concat();
    [short, long, [10, 0].map(u16::to_le_bytes).concat(), format!("t/{i:08}").into()].concat()
}

#[test]
fn records_that_are_longer_than_they_need_to_be() {
    let entry = zip_of(&[file("t/a", "1")]);
    let parts = entry.len() - 22 - COMMIT.len();
    let start = u32::from_le_bytes(entry[parts + 16..parts + 20].try_into().unwrap());
    let size = parts as u64 - u64::from(start);
    let padded = |out: &mut dyn Write| {
        out.write_all(&entry[..parts]).unwrap();
        write_zip64_end(out, 1, size, start.into(), 200 << 20);
    };
    assert_refused_cheaply(padded, "Corrupt");

    // A name in the gzip header, and an extension header, of many mebibytes.
    let builder = flate2::GzBuilder::new().filename(vec![b'n'; 100 << 20]);
    let named = builder.write(Vec::new(), Compression::none()).finish().unwrap();
    assert_refused_cheaply(|out| out.write_all(&named).unwrap(), "Corrupt");
    let extension = gzip(&raw_tar(b'x', b"x", b"", 0, &vec![b'1'; 100 << 20]));
    assert_refused_cheaply(|out| out.write_all(&extension).unwrap(), "Corrupt");
}

#[test]
fn nests_of_links() {
    let mut items = vec![file("d30/f", "1")];
    for i in 0..30 {
        items.extend(["a", "b"].map(|name| link(&format!("d{i}/{name}"), &format!("../d{}", i + 1))));
    }
    assert_refused_cheaply(|out| out.write_all(&zip_of(&in_top(&items))).unwrap(), "TooManyEntries");
}
