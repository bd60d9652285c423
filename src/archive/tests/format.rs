//! What is written, to the byte.

use super::*;

/// A small tree with something of everything that the writers treat differently.
fn fixed_tree() -> Vec<Item> {
    in_top(&[
        file("main.tf", "resource \"terraform_data\" \"this\" {}\n"),
        script("scripts/run.sh", "#!/bin/sh\n"),
        file("empty", ""),
        file("naïve/Ünïcode.tf", "# ü\n"),
        file(&format!("{}/deep.tf", ["long-folder-name"; 10].join("/")), "# deep\n"),
        file("large.txt", lines(20_000)),
        file("random.bin", noise(70_000)),
        link("link.tf", "main.tf"),
    ])
}

/// Bytes that cannot be compressed, the same ones each time.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    Iterator::take(bytes, len).collect()
}

/// A stored object's checksum is compared for as long as the module lives. If this fails after an update of a
/// dependency, every object would be stored once more and every immutable module's checksum would change: keep the old
/// version, or be sure that this is what you want.
#[test]
fn the_bytes_are_pinned() {
    let golden = [
        (ArchiveFormat::Zip, "0f3657392b794cb1dc556d7703cfd3ce0030dc9546c64db1e94590feafd0c6c8"),
        (ArchiveFormat::Tar, "44059a8e0e9e4c94fa1fccb9267cc179c28417c7b5c866897612ee08397a7ce9"),
    ];
    for (format, expected) in golden {
        for pack in PACKS {
            let (normalised, _) = run(&pack.pack(&fixed_tree()), format, &Limits::default()).unwrap();
            assert_eq!(hex(&normalised.sha256), expected, "{pack:?} to {format:?}");
        }
    }
}

#[test]
fn one_commit_has_one_digest() {
    let digest = "h1:K1TZMZGhYO8KqMKAFjmcTyYGM3rSdqSldYDC9ioRVXI=";
    for pack in PACKS {
        for format in FORMATS {
            let (normalised, bytes) = run(&pack.pack(&fixed_tree()), format, &Limits::default()).unwrap();
            assert_eq!(normalised.digest.to_string(), digest);
            assert_eq!(h1(&unpack(&bytes, format)), digest);
            assert_eq!(normalised.commit.as_deref(), Some(COMMIT));
            assert_eq!(normalised.files, 8);
        }
    }
}

#[test]
fn headers_carry_nothing_of_the_machine() {
    let raw = zip_of(&in_top(&[file("a", "1")]));
    let (_, gz) = run(&raw, ArchiveFormat::Tar, &Limits::default()).unwrap();
    assert_eq!(gz[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let (_, zip) = run(&raw, ArchiveFormat::Zip, &Limits::default()).unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
    let entry = archive.by_index(0).unwrap();
    assert_eq!(entry.last_modified(), Some(zip::DateTime::default()));
    assert_eq!((entry.extra_data().unwrap_or_default(), entry.comment()), (vec![], ""));
}

#[test]
fn names_that_differ_by_case_are_kept() {
    let (_, files) = publish(&[file("a", "1"), file("A", "2"), file("d/x", "3"), file("D/x", "4")]);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["A", "D/x", "a", "d/x"]);
}

#[test]
fn only_a_commit_id_is_taken_for_one() {
    for comment in ["", "0123", &COMMIT.replace('0', "g"), &format!("{COMMIT}0"), &COMMIT.to_uppercase()] {
        let expected = comment.eq_ignore_ascii_case(COMMIT).then(|| COMMIT.to_owned());
        let mut zip = RawZip::default();
        zip.add(b"t/a", 0o100_644, b"1", &RawEntry::of(b"1"));
        let member = raw_tar(b'0', b"t/a", b"", 0o644, b"1");
        let tar = [pax(b'g', &[("comment", comment.as_bytes())]), member, vec![0; 1024]].concat();
        for raw in [zip.finish(comment.as_bytes()), gzip(&tar)] {
            assert_eq!(run(&raw, ArchiveFormat::Zip, &Limits::default()).unwrap().0.commit, expected);
        }
    }
}

#[test]
fn tar_dialects_are_understood() {
    let long = format!("t/{}", "n".repeat(150));
    let gnu = |kind| raw_tar(kind, b"././@LongLink", b"", 0, format!("{long}\0").as_bytes());
    let member = raw_tar(b'0', b"t/cut", b"", 0o644, b"1");
    let old = {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..5].copy_from_slice(b"t/old");
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let linked = raw_tar(b'2', b"t/link", b"cut", 0o777, b"");
    let target = raw_tar(b'K', b"././@LongLink", b"", 0, format!("{}\0", "n".repeat(150)).as_bytes());
    let tar = [gnu(b'L'), member, old, target, linked, vec![0; 10 << 10]].concat();
    let (_, bytes) = run(&gzip(&tar), ArchiveFormat::Zip, &Limits::default()).unwrap();
    assert_eq!(unpack(&bytes, ArchiveFormat::Zip).keys().collect::<Vec<_>>(), ["link", &long[2..], "old"]);
}

#[test]
fn more_entries_than_an_old_zip_can_count() {
    let items: Vec<_> = (0..65_534).map(|i| file(&format!("{i}"), "")).collect();
    let extra = [link("l1", "0"), link("l2", "0")];
    for (items, total) in [(items.clone(), 65_534), ([&items[..], &extra].concat(), 65_536)] {
        let raw = gzip(&tar_of(&in_top(&items)));
        let (normalised, bytes) = run(&raw, ArchiveFormat::Zip, &Limits::default()).unwrap();
        assert_eq!(normalised.files, total);
        assert_eq!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().len() as u64, total);
    }
}

/// What takes gigabytes at the format's own limits: here they are a few hundred bytes.
#[test]
fn what_does_not_fit_into_an_old_zip_is_read_back() {
    let items: Vec<_> = (0..6)
        .map(|i: usize| script(&format!("inner/f{i}"), noise(i * 50)))
        .chain([file("inner/large", lines(20_000)), file("inner/é", "")])
        .collect();
    let raw = zip_of(&in_top(&items));
    let (plain, bytes) = run(&raw, ArchiveFormat::Zip, &Limits::default()).unwrap();
    let expected = unpack(&bytes, ArchiveFormat::Zip);
    let (mut outputs, none) = (vec![bytes], u64::MAX);
    for (content, offset, entries) in
        [(150, none, none), (none, 300, none), (none, none, 5), (0, 0, 0), (151, 301, 9), (150, 1000, 8)]
    {
        let narrow = Narrow { content, offset, entries };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        fs::write(&path, &raw).unwrap();
        let wide =
            normalise_with(&path, ArchiveFormat::Zip, &Limits::default(), dir.path(), &narrow).unwrap();
        let bytes = fs::read(&wide.file).unwrap();
        assert_eq!(unpack(&bytes, ArchiveFormat::Zip), expected, "{content} {offset} {entries}");
        assert_eq!((wide.digest, wide.files), (plain.digest, plain.files));
        let end64 = bytes.windows(4).any(|window| window == b"PK\x06\x06");
        assert_eq!(end64, offset < none || entries <= 8, "{content} {offset} {entries}");
        // In front of the content, too: who reads it as a stream knows how wide the sizes behind it are.
        let local64 = bytes.windows(6).filter(|window| *window == b"PK\x03\x04\x2d\0").count();
        let all = if content == 0 { expected.len() } else { 0 };
        assert!((1..none).contains(&content) || local64 == all, "{content}: {local64}");
        // The reader of this module refuses what is said twice and differs. It takes `inner` for GitHub's top folder.
        let (_, again) = run(&bytes, ArchiveFormat::Tar, &Limits::default()).unwrap();
        let again: Vec<_> = unpack(&again, ArchiveFormat::Tar).into_values().collect();
        assert_eq!(again, expected.values().cloned().collect::<Vec<_>>());
        outputs.push(bytes);
    }
    outputs.sort();
    outputs.dedup();
    assert_eq!(outputs.len(), 7, "each limit shows");
}

/// Sizes and offsets beyond 32 bits. Needs 10 GB of disk and some minutes; TMPDIR says where.
#[test]
#[ignore = "large"]
fn more_bytes_than_an_old_zip_can_count() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    let mut gz = GzEncoder::new(fs::File::create(&raw).unwrap(), Compression::none());
    let large: u64 = (4 << 30) + 5;
    // Nothing that deflate could see repeats, so that the offset of the second file is large as well.
    let block = noise(1 << 20);
    for (name, size) in [("t/a", large), ("t/b", 3)] {
        let mut header =
            tar::Header::from_byte_slice(&raw_tar(b'0', name.as_bytes(), b"", 0o644, b"")).clone();
        header.set_size(size);
        header.set_cksum();
        gz.write_all(header.as_bytes()).unwrap();
        let mut left = usize::try_from(size.next_multiple_of(512)).unwrap();
        while left > 0 {
            left -= gz.write(&block[..left.min(block.len())]).unwrap();
        }
    }
    gz.write_all(&[0; 1024]).unwrap();
    gz.finish().unwrap();
    let limits = Limits { archive_bytes: 6 << 30, unpacked_bytes: 6 << 30, ..Limits::default() };
    let normalised = normalise(&raw, ArchiveFormat::Zip, &limits, dir.path()).unwrap();
    let mut archive = zip::ZipArchive::new(fs::File::open(&normalised.file).unwrap()).unwrap();
    assert_eq!(std::io::copy(&mut archive.by_name("a").unwrap(), &mut std::io::sink()).unwrap(), large);
    let mut last = archive.by_name("b").unwrap();
    assert!(last.header_start() > 4 << 30);
    assert_eq!(std::io::copy(&mut last, &mut std::io::sink()).unwrap(), 3);
}

/// The highest resident size of this process so far, MiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() >> 10
}

/// 100,000 files with 1 GiB in all, in either direction. Run it alone: it looks at the whole process.
#[test]
#[ignore = "large"]
fn memory_stays_flat() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    let mut gz = GzEncoder::new(fs::File::create(&raw).unwrap(), Compression::fast());
    let text = lines(1000);
    for i in 0..100_000 {
        let path = format!("top/modules/some-folder-{}/{i}.tf", i % 100);
        gz.write_all(&raw_tar(b'0', path.as_bytes(), b"", 0o644, format!("{i}{text}").as_bytes())).unwrap();
    }
    gz.write_all(&[0; 1024]).unwrap();
    gz.finish().unwrap();
    let before = peak_memory();
    for format in FORMATS {
        let start = std::time::Instant::now();
        let normalised = normalise(&raw, format, &Limits::default(), dir.path()).unwrap();
        let peak = peak_memory();
        println!(
            "{format:?}: {} files, {:?}, {before} MiB before, {peak} MiB peak",
            normalised.files,
            start.elapsed()
        );
        assert!(peak < before + 32, "{before} MiB before, {peak} MiB after {format:?}");
        fs::rename(&normalised.file, dir.path().join(format.extension())).unwrap();
    }
}
