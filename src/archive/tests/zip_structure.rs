//! Zip archives whose parts contradict each other, overlap, or leave room for something to hide in: a zip names
//! everything twice, and readers that trust the one or the other see different files.

use super::*;

/// One entry, said twice.
#[derive(Clone)]
struct Twice {
    local: Said,
    central: Said,
    data: Vec<u8>,
    /// What follows the data.
    descriptor: Vec<u8>,
}

/// What one of the two headers says.
#[derive(Clone)]
struct Said {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    sizes: [u32; 2],
    extra: Vec<u8>,
    /// Where the other header is; not in a local one.
    offset: Option<u32>,
}

/// A stored file of which both headers say the truth.
fn plain(name: &str, data: &str) -> Twice {
    let said = Said {
        name: name.into(),
        flags: 0,
        method: 0,
        crc: RawEntry::of(data.as_bytes()).crc,
        sizes: [u32::try_from(data.len()).unwrap(); 2],
        extra: Vec::new(),
        offset: None,
    };
    Twice { local: said.clone(), central: said, data: data.into(), descriptor: Vec::new() }
}

impl Said {
    fn shared(&self) -> Vec<u8> {
        let short = [20, self.flags, self.method, 0, 0x21].map(u16::to_le_bytes).concat();
        let long = [self.crc, self.sizes[0], self.sizes[1]].map(u32::to_le_bytes).concat();
        let lengths =
            [self.name.len(), self.extra.len()].map(|len| u16::try_from(len).unwrap().to_le_bytes());
        [short, long, lengths.concat()].concat()
    }
}

/// The parts of an archive before they are put together.
#[derive(Default)]
struct Parts {
    body: Vec<u8>,
    directory: Vec<u8>,
    listed: u16,
}

fn parts(entries: &[Twice]) -> Parts {
    let mut parts = Parts::default();
    for Twice { local, central, data, descriptor } in entries {
        let offset = central.offset.unwrap_or(u32::try_from(parts.body.len()).unwrap());
        let tail = [&[0; 6][..], &(0o100_644_u32 << 16).to_le_bytes(), &offset.to_le_bytes()].concat();
        let head = b"PK\x01\x02\x14\x03";
        parts.directory.extend([head, &central.shared()[..], &tail, &central.name, &central.extra].concat());
        let head = b"PK\x03\x04";
        parts.body.extend([head, &local.shared()[..], &local.name, &local.extra, data, descriptor].concat());
        parts.listed += 1;
    }
    parts
}

/// The record that ends an archive.
fn end(listed: u16, size: usize, start: usize, comment: &[u8]) -> Vec<u8> {
    let [size, start] = [size, start].map(|value| u32::try_from(value).unwrap().to_le_bytes());
    let comment_len = u16::try_from(comment.len()).unwrap().to_le_bytes();
    let listed = listed.to_le_bytes();
    [b"PK\x05\x06\0\0\0\0", &listed[..], &listed, &size, &start, &comment_len, comment].concat()
}

impl Parts {
    fn end(&self) -> Vec<u8> {
        end(self.listed, self.directory.len(), self.body.len(), b"")
    }

    fn zip(&self) -> Vec<u8> {
        [&self.body[..], &self.directory, &self.end()].concat()
    }

    /// With zip64 records, that say of themselves that they have this length, list so many, and lie there.
    fn zip64(&self, record_len: u64, listed: u64, at: u64) -> Vec<u8> {
        let (start, size) = (self.body.len() as u64, self.directory.len() as u64);
        let counts = [listed, listed, size, start].map(u64::to_le_bytes).concat();
        let record =
            [b"PK\x06\x06", &record_len.to_le_bytes()[..], &[45, 3, 45, 0], &[0; 8], &counts].concat();
        let locator = [b"PK\x06\x07\0\0\0\0", &at.to_le_bytes()[..], &1_u32.to_le_bytes()].concat();
        let end = [b"PK\x05\x06\0\0\0\0", &[0xff; 12][..], &[0; 2]].concat();
        [&self.body[..], &self.directory, &record, &locator, &end].concat()
    }

    fn end64(&self) -> u64 {
        (self.body.len() + self.directory.len()) as u64
    }
}

/// `path=length` of each file that is published.
fn kept(raw: &[u8]) -> Vec<String> {
    let (_, bytes) = run(raw, ArchiveFormat::Zip, &Limits::default()).unwrap();
    unpack(&bytes, ArchiveFormat::Zip)
        .iter()
        .map(|(path, file)| format!("{path}={}", file.data.len()))
        .collect()
}

fn assert_corrupt(what: &str, raw: &[u8]) {
    let outcome =
        run(raw, ArchiveFormat::Zip, &Limits::default()).map(|(_, bytes)| unpack(&bytes, ArchiveFormat::Zip));
    assert!(matches!(outcome, Err(ArchiveError::Corrupt { .. })), "{what}: {outcome:?}");
}

fn two() -> Parts {
    parts(&[plain("t/a", "1"), plain("t/b", "22")])
}

#[test]
fn an_archive_whose_parts_agree_is_kept() {
    assert_eq!(kept(&two().zip()), ["a=1", "b=2"]);
    let mut streamed = plain("t/s", "333");
    (streamed.local.flags, streamed.central.flags) = (8, 8);
    let crc = streamed.local.crc;
    (streamed.local.crc, streamed.local.sizes) = (0, [0; 2]);
    for sizes in [8, 16] {
        let descriptor = [&crc.to_le_bytes()[..], &vec![3; sizes]].concat();
        for signature in [&b""[..], b"PK\x07\x08"] {
            streamed.descriptor = [signature, &descriptor].concat();
            let raw = parts(&[streamed.clone(), plain("t/a", "1"), streamed_last(&streamed)]).zip();
            assert_eq!(kept(&raw), ["a=1", "s=3", "z=3"]);
        }
    }
}

fn streamed_last(entry: &Twice) -> Twice {
    let mut entry = entry.clone();
    (entry.local.name, entry.central.name) = (b"t/z".into(), b"t/z".into());
    entry
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    type Change = fn(&mut Said);
    let changes: [(&str, Change); 9] = [
        ("name", |said| said.name = b"t/x".into()),
        ("longer name", |said| said.name = b"t/aa".into()),
        ("name that leaves", |said| said.name = b"../x".into()),
        ("method", |said| said.method = 8),
        ("checksum", |said| said.crc ^= 1),
        ("compressed size", |said| said.sizes[0] += 1),
        ("size", |said| said.sizes[1] += 1),
        ("encryption", |said| said.flags |= 1),
        ("unicode path", |said| said.extra = unicode_path(&said.name, b"t/x")),
    ];
    for (what, change) in changes {
        let mut entry = plain("t/a", "1");
        change(&mut entry.local);
        assert_corrupt(what, &parts(&[entry, plain("t/b", "2")]).zip());
        let mut entry = plain("t/a", "1");
        change(&mut entry.central);
        let outcome = run(&parts(&[entry, plain("t/b", "2")]).zip(), ArchiveFormat::Zip, &Limits::default());
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
}

/// The extra field that gives an entry another name.
fn unicode_path(name: &[u8], other: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    let len = u16::try_from(5 + other.len()).unwrap();
    [&0x7075_u16.to_le_bytes()[..], &len.to_le_bytes(), &[1], &crc.sum().to_le_bytes(), other].concat()
}

#[test]
fn what_the_directory_does_not_list_cannot_hide() {
    let both = two();
    let first = parts(&[plain("t/a", "1")]);
    let second_at = u32::try_from(first.body.len()).unwrap();
    let mut second = plain("t/b", "22");
    second.central.offset = Some(second_at);
    let second = parts(&[second]);
    let listing = |directory: &Parts, listed| Parts {
        body: both.body.clone(),
        directory: directory.directory.clone(),
        listed,
    };
    for (what, parts) in [
        ("behind", listing(&first, 1)),
        ("in front", listing(&second, 1)),
        ("listed, not counted", Parts { listed: 1, ..two() }),
        ("counted, not listed", Parts { listed: 3, ..two() }),
        ("nothing counted", Parts { listed: 0, ..two() }),
    ] {
        assert_corrupt(what, &parts.zip());
    }
    // One that is listed and not counted, and is nowhere in the body: there is no gap that shows it.
    let twice = [first.directory.clone(), first.directory.clone()].concat();
    assert_corrupt("listed twice", &Parts { body: first.body.clone(), directory: twice, listed: 1 }.zip());
}

#[test]
fn nothing_lies_before_between_or_behind_the_parts() {
    let two = two();
    let (body, directory, end_record) = (&two.body[..], &two.directory[..], &two.end()[..]);
    let other = parts(&[plain("t/c", "4444"), plain("t/d", "")]).zip();
    let gap = &[7; 30][..];
    let shifted = end(2, directory.len(), body.len() + gap.len(), b"");
    for (what, raw) in [
        ("a byte behind", [&two.zip()[..], b"x"].concat()),
        ("zeros behind", [&two.zip()[..], &[0; 512]].concat()),
        ("another archive behind", [&two.zip()[..], &other].concat()),
        ("another archive in front", [&other[..], &two.zip()].concat()),
        ("the same archive twice", [two.zip(), two.zip()].concat()),
        ("a gap before the directory", [body, gap, directory, &shifted].concat()),
        ("a gap before the end", [body, directory, gap, end_record].concat()),
        ("two ends", [body, directory, end_record, end_record].concat()),
        ("a longer directory", [body, directory, &end(2, directory.len() + 1, body.len(), b"")].concat()),
        ("a shorter directory", [body, directory, &end(2, directory.len() - 1, body.len(), b"")].concat()),
        (
            "an end in the comment",
            [body, directory, &end(2, directory.len(), body.len(), &end(1, 49, body.len(), b""))].concat(),
        ),
    ] {
        assert_corrupt(what, &raw);
    }
    let prefixed = [b"#!/bin/sh\n", &two.zip()[..]].concat();
    let error = run(&prefixed, ArchiveFormat::Zip, &Limits::default()).unwrap_err();
    assert!(matches!(error, ArchiveError::NotAnArchive { .. }), "{error:?}");
}

#[test]
fn entries_that_overlap_are_refused() {
    // The first entry's content is the second entry, header and all.
    let inner = parts(&[plain("t/b", "22")]).body;
    let mut outer = plain("t/a", "");
    let said = Said {
        crc: RawEntry::of(&inner).crc,
        sizes: [u32::try_from(inner.len()).unwrap(); 2],
        ..outer.local
    };
    outer = Twice { local: said.clone(), central: said, data: inner, descriptor: Vec::new() };
    let mut within = plain("t/b", "22");
    within.central.offset = Some(33);
    let mut quoting = parts(&[outer, within.clone()]);
    quoting.body.truncate(quoting.body.len() - (30 + 3 + 2));
    assert_corrupt("quoted", &quoting.zip());

    // In the other order, and from the middle of a header.
    let mut swapped = [plain("t/a", "1"), plain("t/b", "22")];
    (swapped[0].central.offset, swapped[1].central.offset) = (Some(34), Some(0));
    assert_corrupt("swapped", &parts(&swapped).zip());
    for offset in [1, 40, 1 << 20, u32::MAX - 1, u32::MAX] {
        within.central.offset = Some(offset);
        assert_corrupt("astray", &parts(&[plain("t/a", "1"), within.clone()]).zip());
    }
}

#[test]
fn zip64_is_read_and_its_lies_are_refused() {
    let mut large = plain("t/a", "1");
    let wide = |values: &[u64]| {
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        [&1_u16.to_le_bytes()[..], &u16::try_from(values.len()).unwrap().to_le_bytes(), &values].concat()
    };
    (large.local.sizes, large.central.sizes) = ([u32::MAX; 2], [u32::MAX; 2]);
    large.central.offset = Some(u32::MAX);
    large.local.extra = wide(&[1, 1]);
    large.central.extra = wide(&[1, 1, 0]);
    let parts64 = parts(&[large.clone(), plain("t/b", "22")]);
    assert_eq!(kept(&parts64.zip64(44, 2, parts64.end64())), ["a=1", "b=2"]);
    let two = two();
    assert_eq!(kept(&two.zip64(44, 2, two.end64())), ["a=1", "b=2"]);

    for (what, raw) in [
        ("fewer entries", two.zip64(44, 1, two.end64())),
        ("more entries", two.zip64(44, 3, two.end64())),
        ("countless entries", two.zip64(44, u64::MAX, two.end64())),
        ("a longer record", two.zip64(45, 2, two.end64())),
        ("an endless record", two.zip64(u64::MAX, 2, two.end64())),
        ("a record elsewhere", two.zip64(44, 2, two.end64() - 1)),
        ("a record nowhere", two.zip64(44, 2, u64::MAX)),
    ] {
        assert_corrupt(what, &raw);
    }
    for sizes in [[u64::MAX, u64::MAX], [1, u64::MAX], [u64::MAX, 1], [2, 1], [1, 2]] {
        large.local.extra = wide(&sizes);
        large.central.extra = wide(&[sizes[0], sizes[1], 0]);
        assert_corrupt("sizes", &parts(&[large.clone(), plain("t/b", "22")]).zip());
    }
}
