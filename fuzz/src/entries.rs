//! Archives that are made from a list of entries, which the input describes: well-formed in all but what they list.
//!
//! In: bytes of anybody. Out: a zip and a tar.gz of the same entries, and what is known of the module that they are. No
//! mutation of a zip gets past its checksums and the rule that all it says twice agrees; here every input does.

use std::io::Write as _;

use flate2::write::GzEncoder;
use opendepot::archive::ArchiveError;

use crate::{Files, check_archive};

/// One entry, below a top folder.
#[derive(Clone, Debug)]
pub struct Entry {
    path: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    File { executable: bool, content: Vec<u8> },
    Folder,
    Link(Vec<u8>),
}

/// Components of paths and targets: few, so that they meet; and what is worth meeting.
const PARTS: [&[u8]; 24] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"..",
    b"main.tf",
    b"a-b",
    b"e",
    b".gitmodules",
    b".",
    b"",
    b"a.b",
    b"A",
    b"\xff",
    b"a\n",
    b"\xe9.tf",
    b"x\\y",
    b"C:",
    b"\x01.tf.json",
    "\u{202e}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"x.tofu",
    b"\0",
    b"\x7f",
];

const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// The longest list: as a tar, with 1.5 KiB for each entry, it stays below the limit for archives.
const MOST_ENTRIES: usize = 300;
/// The longest path: longer than any that is accepted, and short enough for a zip's header.
const MOST_PARTS: usize = 300;

/// Reads the input as a list: a byte for the kind, then components up to one that says that it is the last.
#[must_use]
pub fn entries(input: &[u8]) -> Vec<Entry> {
    let mut bytes = input.iter().copied().take(4096);
    let mut entries = Vec::new();
    while let Some(kind) = bytes.next().filter(|_| entries.len() < MOST_ENTRIES) {
        let path = joined(&mut bytes);
        let kind = match kind % 8 {
            // In a zip, only the name says that it is a folder.
            _ if path.is_empty() || path.ends_with(b"/") => Kind::Folder,
            0..=2 => {
                let content = bytes.by_ref().take(usize::from(kind >> 4)).collect();
                Kind::File { executable: kind & 8 != 0, content }
            }
            3 => Kind::File { executable: kind & 8 != 0, content: LFS.into() },
            4 => Kind::Folder,
            _ => Kind::Link(joined(&mut bytes)),
        };
        entries.push(Entry { path, kind });
    }
    entries
}

fn joined(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    let mut parts = Vec::new();
    for byte in bytes {
        // Three in four of the bytes name one of the first eight, as trees of few names are where paths meet.
        let all = byte & 0x60 == 0x60;
        let index = usize::from(if all { byte & 0x1f } else { byte & 7 }) % PARTS.len();
        parts.push(PARTS[index]);
        if byte & 0x80 != 0 || parts.len() == MOST_PARTS {
            break;
        }
    }
    parts.join(&b'/')
}

/// Normalises what `input` lists, packed either way: both are one module, or refused for the same reason, and no plain
/// file is lost or changed.
pub fn check(input: &[u8]) {
    let entries = entries(input);
    let (zip, tar) = (check_archive(&zip(&entries)), check_archive(&tar_gz(&entries)));
    let (zip, tar) = match (zip, tar) {
        (Ok(zip), Ok(tar)) => (zip, tar),
        // Which of several faults is found first depends on how the archive is read.
        (Err(zip), Err(tar)) => return assert!(!is_corrupt(&zip) && !is_corrupt(&tar), "{zip} {tar}"),
        (zip, tar) => panic!("the packings disagree: {:?} {:?}", zip.err(), tar.err()),
    };
    assert_eq!((zip.0.digest, &zip.0.report), (tar.0.digest, &tar.0.report));
    assert_eq!(zip.1, tar.1);
    let plain = plain_files(&entries);
    let stored = |path: &String| zip.1.get(path);
    for (path, file) in &plain {
        assert_eq!(stored(path), Some(file), "{path:?} is as it came");
    }
    if !entries.iter().any(|entry| matches!(entry.kind, Kind::Link(_))) {
        assert_eq!(zip.1, plain, "and there is nothing else");
        let odd =
            entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count() - plain.len();
        assert_eq!(zip.0.report.skipped_files.total, odd, "all that is left out is counted");
    }
}

fn is_corrupt(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Corrupt { .. } | ArchiveError::NotAnArchive { .. })
}

/// The files that a module can have.
fn plain_files(entries: &[Entry]) -> Files {
    let mut files = Files::new();
    for entry in entries {
        let Kind::File { executable, content } = &entry.kind else { continue };
        let Ok(path) = String::from_utf8(entry.path.clone()) else { continue };
        let has_drive = matches!(path.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic());
        if !has_drive && !path.contains('\\') && !path.chars().any(char::is_control) {
            files.insert(path, (*executable, content.clone()));
        }
    }
    files
}

fn in_top(entry: &Entry) -> Vec<u8> {
    let slash: &[u8] = if matches!(entry.kind, Kind::Folder) { b"/" } else { b"" };
    [b"top/", &entry.path[..], slash].concat()
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut body, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = in_top(entry);
        let (mode, content): (u32, &[u8]) = match &entry.kind {
            Kind::File { executable, content } => (if *executable { 0o100_755 } else { 0o100_644 }, content),
            Kind::Folder => (0o040_755, b""),
            Kind::Link(target) => (0o120_777, target),
        };
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let (offset, size) = (len32(&body), len32(content));
        // Version 2.0; git says that a name is UTF-8 where it is; stored; no time, 1 January 1980.
        let flags = if str::from_utf8(&name).is_ok() { 0x0800_u16 } else { 0 };
        let head = [
            &[20, 0][..],
            &flags.to_le_bytes(),
            &[0, 0, 0, 0, 0x21, 0],
            &crc.sum().to_le_bytes(),
            &size,
            &size,
        ];
        let shared = [&head.concat()[..], &len32(&name)[..2], &[0, 0]].concat();
        body.extend([b"PK\x03\x04", &shared[..], &name, content].concat());
        let record =
            [b"PK\x01\x02\x14\x03", &shared[..], &[0; 6], &(mode << 16).to_le_bytes(), &offset, &name];
        directory.extend(record.concat());
    }
    let count = u16::try_from(entries.len()).expect("a small archive").to_le_bytes();
    let end = [b"PK\x05\x06", &[0; 4][..], &count, &count, &len32(&directory), &len32(&body), &[0, 0]];
    [&body[..], &directory, &end.concat()].concat()
}

fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("a small archive").to_le_bytes()
}

fn tar_gz(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), flate2::Compression::none()));
    for entry in entries {
        let name = in_top(entry);
        let (kind, mode, content, target): (_, _, &[u8], &[u8]) = match &entry.kind {
            Kind::File { executable, content } => {
                (tar::EntryType::Regular, if *executable { 0o755 } else { 0o644 }, content, b"")
            }
            Kind::Folder => (tar::EntryType::Directory, 0o755, b"", b""),
            Kind::Link(target) => (tar::EntryType::Symlink, 0o777, b"", target),
        };
        // Always in an extension header: names in the fixed fields end at their first NUL.
        let extensions = [("path", &name[..]), ("linkpath", target)];
        tar.append_pax_extensions(extensions).expect("memory");
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).expect("memory");
    }
    tar.into_inner().and_then(|mut gzip| gzip.flush().and_then(|()| gzip.finish())).expect("memory")
}
