//! Tests of the whole module: the input is bytes made by [`Item`]s, the output is read back with other code.

mod format;
mod git;
mod limits;
mod links;
mod memory;
mod mutations;
mod odd;
mod properties;
mod refusals;
mod tar_structure;
mod zip_structure;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::{ArchiveError, ArchiveFormat, Limits, Narrow, Normalised, normalise, normalise_with};
use crate::domain::text::hex;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One entry of an archive as a stranger might write it: nothing about it is checked.
#[derive(Clone, Debug)]
struct Item {
    path: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    File { data: Vec<u8>, executable: bool },
    Folder,
    Link(Vec<u8>),
    Special { tar: u8, zip: u32 },
}

fn file(path: &str, data: impl AsRef<[u8]>) -> Item {
    Item { path: path.into(), kind: Kind::File { data: data.as_ref().into(), executable: false } }
}

fn script(path: &str, data: impl AsRef<[u8]>) -> Item {
    Item { path: path.into(), kind: Kind::File { data: data.as_ref().into(), executable: true } }
}

fn folder(path: &str) -> Item {
    Item { path: path.into(), kind: Kind::Folder }
}

fn link(path: &str, target: &str) -> Item {
    Item { path: path.into(), kind: Kind::Link(target.into()) }
}

/// The items below GitHub's top folder.
fn in_top(items: &[Item]) -> Vec<Item> {
    let inside = items.iter().cloned().map(|item| Item { path: [b"top/", &item.path[..]].concat(), ..item });
    [folder("top/")].into_iter().chain(inside).collect()
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pack {
    Zip,
    TarGz,
}

const PACKS: [Pack; 2] = [Pack::Zip, Pack::TarGz];
const FORMATS: [ArchiveFormat; 2] = [ArchiveFormat::Zip, ArchiveFormat::Tar];

impl Pack {
    fn pack(self, items: &[Item]) -> Vec<u8> {
        match self {
            Self::Zip => zip_of(items),
            Self::TarGz => gzip(&tar_of(items)),
        }
    }
}

fn zip_of(items: &[Item]) -> Vec<u8> {
    let mut zip = RawZip::default();
    for item in items {
        let (mode, data) = match &item.kind {
            Kind::File { data, executable } => (if *executable { 0o100_775 } else { 0o100_664 }, &data[..]),
            Kind::Folder => (0o040_775, &b""[..]),
            Kind::Link(target) => (0o120_000, &target[..]),
            Kind::Special { zip, .. } => (*zip, &b""[..]),
        };
        // As git does it: what is not UTF-8 is not said to be.
        let flags = if str::from_utf8(&item.path).is_ok() { 0x0800 } else { 0 };
        zip.add(&item.path, mode, data, &RawEntry { flags, ..RawEntry::of(data) });
    }
    zip.finish(COMMIT.as_bytes())
}

/// What a zip says about an entry, true or not. `method` 8 deflates.
struct RawEntry {
    flags: u16,
    method: u16,
    crc: u32,
    size: u32,
}

impl RawEntry {
    fn of(data: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        Self { flags: 0, method: 8, crc: crc.sum(), size: u32::try_from(data.len()).unwrap() }
    }
}

#[derive(Default)]
struct RawZip {
    body: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl RawZip {
    fn add(&mut self, name: &[u8], mode: u32, data: &[u8], entry: &RawEntry) {
        let mut stored = data.to_vec();
        if entry.method == 8 {
            let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::default());
            deflate.write_all(data).unwrap();
            stored = deflate.finish().unwrap();
        }
        let offset = u32::try_from(self.body.len()).unwrap();
        let mut shared = Vec::new();
        for value in [20, entry.flags, entry.method, 0, 0x21] {
            shared.extend(value.to_le_bytes());
        }
        for value in [entry.crc, u32::try_from(stored.len()).unwrap(), entry.size] {
            shared.extend(value.to_le_bytes());
        }
        shared.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        shared.extend([0, 0]);
        self.body.extend([b"PK\x03\x04", &shared[..], name, &stored].concat());
        let attributes = (mode << 16).to_le_bytes();
        let record = [b"PK\x01\x02\x14\x03", &shared[..], &[0; 6], &attributes, &offset.to_le_bytes(), name];
        self.directory.extend(record.concat());
        self.entries += 1;
    }

    fn finish(self, comment: &[u8]) -> Vec<u8> {
        let entries = self.entries.to_le_bytes();
        let size = u32::try_from(self.directory.len()).unwrap().to_le_bytes();
        let start = u32::try_from(self.body.len()).unwrap().to_le_bytes();
        let len = u16::try_from(comment.len()).unwrap().to_le_bytes();
        let end = [&[0; 4][..], &entries, &entries, &size, &start, &len, comment].concat();
        [&self.body[..], &self.directory, b"PK\x05\x06", &end].concat()
    }
}

fn tar_of(items: &[Item]) -> Vec<u8> {
    let mut tar = pax(b'g', &[("comment", COMMIT.as_bytes())]);
    for item in items {
        let (kind, mode, data, target) = match &item.kind {
            Kind::File { data, executable } => {
                (b'0', if *executable { 0o775 } else { 0o664 }, &data[..], &b""[..])
            }
            Kind::Folder => (b'5', 0o775, &b""[..], &b""[..]),
            Kind::Link(target) => (b'2', 0o777, &b""[..], &target[..]),
            Kind::Special { tar, .. } => (*tar, 0o644, &b""[..], &b""[..]),
        };
        let long: Vec<_> = [("path", &item.path[..]), ("linkpath", target)]
            .into_iter()
            .filter(|(_, text)| text.len() > 100)
            .collect();
        if !long.is_empty() {
            tar.extend(pax(b'x', &long));
        }
        tar.extend(raw_tar(kind, &item.path, target, mode, data));
    }
    tar.extend([0; 1024]);
    tar
}

/// Extension records as a tar member of the given kind.
fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions(records.iter().copied()).unwrap();
    let bytes = builder.into_inner().unwrap();
    let data = &bytes[512..bytes.len() - 1024];
    let len = usize::try_from(tar::Header::from_byte_slice(&bytes[..512]).entry_size().unwrap()).unwrap();
    raw_tar(kind, b"pax", b"", 0o644, &data[..len])
}

fn raw_tar(kind: u8, path: &[u8], target: &[u8], mode: u32, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let fields = header.as_old_mut();
    fields.name[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
    fields.linkname[..target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(mode);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_mtime(1_700_000_000);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
    [header.as_bytes(), data, &padding].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Normalises `raw` and reads the output. Whatever happens, nothing else is left in the spool folder.
fn run(raw: &[u8], format: ArchiveFormat, limits: &Limits) -> Result<(Normalised, Vec<u8>), ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let path = dir.path().join("raw");
    fs::write(&path, raw).unwrap();
    let outcome = normalise(&path, format, limits, &spool);
    let left = fs::read_dir(&spool).unwrap().count();
    assert_eq!(left, usize::from(outcome.is_ok()), "files in the spool folder");
    let normalised = outcome?;
    let bytes = fs::read(&normalised.file).unwrap();
    assert_eq!(normalised.size, bytes.len() as u64);
    assert_eq!(normalised.sha256, *digest(&SHA256, &bytes).as_ref());
    Ok((normalised, bytes))
}

/// Normalises a valid archive to a zip.
fn publish(items: &[Item]) -> (Normalised, BTreeMap<String, Published>) {
    let (normalised, bytes) = run(&zip_of(&in_top(items)), ArchiveFormat::Zip, &Limits::default()).unwrap();
    let files = unpack(&bytes, ArchiveFormat::Zip);
    (normalised, files)
}

/// A file as a client would install it.
#[derive(Clone, Debug, PartialEq)]
struct Published {
    data: Vec<u8>,
    mode: u32,
}

/// Reads an output with the readers that were not used to write or normalise it.
fn unpack(bytes: &[u8], format: ArchiveFormat) -> BTreeMap<String, Published> {
    let mut files = BTreeMap::new();
    let mut order = Vec::new();
    let mut put = |path: String, mode, content: &mut dyn Read| {
        let mut data = Vec::new();
        content.read_to_end(&mut data).unwrap();
        order.push(path.clone());
        assert!(files.insert(path, Published { data, mode }).is_none());
    };
    match format {
        ArchiveFormat::Zip => {
            let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
            assert!(archive.comment().is_empty());
            for i in 0..archive.len() {
                let mut entry = archive.by_index(i).unwrap();
                assert!(entry.is_file());
                put(entry.name().unwrap().into_owned(), entry.unix_mode().unwrap() & 0o7777, &mut entry);
            }
        }
        ArchiveFormat::Tar => {
            for entry in tar::Archive::new(GzDecoder::new(bytes)).entries().unwrap() {
                let mut entry = entry.unwrap();
                let header = entry.header();
                assert_eq!(header.entry_type(), tar::EntryType::Regular);
                assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 0));
                let path = entry.path().unwrap().to_str().unwrap().to_owned();
                put(path, header.mode().unwrap(), &mut entry);
            }
        }
    }
    assert!(order.is_sorted());
    files
}

/// The digest as its definition says, not as the module computes it.
fn h1(files: &BTreeMap<String, Published>) -> String {
    let mut lines = Vec::new();
    for (path, file) in files {
        writeln!(lines, "{}  {path}", hex(digest(&SHA256, &file.data).as_ref())).unwrap();
    }
    format!("h1:{}", STANDARD.encode(digest(&SHA256, &lines)))
}

/// Some text that compresses about as well as source code.
fn lines(count: usize) -> String {
    (0..count).map(|i| ["line ", &i.to_string(), "\n"].concat()).collect()
}
