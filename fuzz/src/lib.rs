//! What the fuzz targets share.
//!
//! In: bytes of anybody. Out: nothing, or a panic that says which rule was broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use opendepot::archive::{ArchiveError, Limits, Normalised, normalise};
use opendepot::domain::ArchiveFormat;

pub mod entries;

/// The file that the archive under test is written to. hack/fuzz makes the temporary folder, and removes it.
static RAW: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("opendepot-fuzz-{}", std::process::id())));

/// Small enough that a bomb costs no time, large enough that nothing else is refused.
const LIMITS: Limits = Limits {
    archive_bytes: 1 << 20,
    unpacked_bytes: 1 << 20,
    entries: 2000,
    ratio: 200,
    ratio_exempt_bytes: 1 << 19,
};

/// The files of an archive: whether each may be executed, and its content.
pub type Files = BTreeMap<String, (bool, Vec<u8>)>;

/// Normalises an archive: it is refused, or what comes out is a plain tree, the same one in both formats, and all that is
/// said about it is true of the bytes that were written.
///
/// # Errors
/// Why it is refused.
pub fn check_archive(raw: &[u8]) -> Result<(Normalised, Files), ArchiveError> {
    std::fs::write(&*RAW, raw).expect("room for the archive");
    let run = |format| normalise(&RAW, format, &LIMITS, &std::env::temp_dir());
    let (zip, tar) = match (run(ArchiveFormat::Zip), run(ArchiveFormat::Tar)) {
        (Ok(zip), Ok(tar)) => (zip, tar),
        (Err(zip), Err(tar)) => {
            assert_eq!(zip.to_string(), tar.to_string());
            assert!(is_plain_text(&zip.to_string()), "{zip}");
            return Err(zip);
        }
        (zip, tar) => panic!("the formats disagree: {zip:?} {tar:?}"),
    };
    assert_eq!((zip.digest, zip.files, &zip.commit), (tar.digest, tar.files, &tar.commit));
    assert_eq!(zip.report, tar.report);
    check_report(&zip);
    let files = zip_files(&written(&zip));
    assert_eq!(files, tar_files(&written(&tar)), "one module in both formats");
    assert_eq!(files.len() as u64, zip.files);
    assert_eq!(h1(&files), zip.digest.to_string());
    Ok((zip, files))
}

/// The bytes that were written, which are what was said about them.
fn written(archive: &Normalised) -> Vec<u8> {
    let bytes = std::fs::read(&archive.file).expect("the archive that was written");
    assert_eq!(archive.size, bytes.len() as u64);
    assert_eq!(archive.sha256, *digest(&SHA256, &bytes).as_ref());
    bytes
}

fn zip_files(bytes: &[u8]) -> Files {
    let mut files = Sorted::default();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        assert!(entry.is_file());
        let (path, mode) = (entry.name().expect("a name").into_owned(), entry.unix_mode());
        files.add(path, mode.expect("a mode") & 0o7777, &mut entry);
    }
    files.0
}

fn tar_files(bytes: &[u8]) -> Files {
    let mut files = Sorted::default();
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        assert_eq!(entry.header().entry_type(), tar::EntryType::Regular);
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let mode = entry.header().mode().expect("a mode");
        files.add(path, mode, &mut entry);
    }
    files.0
}

/// Files in the order of an archive, which is that of their paths.
#[derive(Default)]
struct Sorted(Files);

impl Sorted {
    fn add(&mut self, path: String, mode: u32, content: &mut impl Read) {
        if let Some((last, _)) = self.0.last_key_value() {
            assert!(*last < path, "sorted, and nothing twice: {last:?} {path:?}");
        }
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
        assert!(!path.contains('\\') && !path.chars().any(char::is_control), "{path:?}");
        assert!([0o644, 0o755].contains(&mode), "{path:?}: {mode:o}");
        let mut data = Vec::new();
        content.read_to_end(&mut data).expect("content");
        self.0.insert(path, (mode == 0o755, data));
    }
}

/// The digest as its definition says.
fn h1(files: &Files) -> String {
    let mut lines = String::new();
    for (path, (_, content)) in files {
        for byte in digest(&SHA256, content).as_ref() {
            write!(lines, "{byte:02x}").expect("memory");
        }
        writeln!(lines, "  {path}").expect("memory");
    }
    format!("h1:{}", STANDARD.encode(digest(&SHA256, lines.as_bytes())))
}

/// Names that get into messages are escaped, the first few are listed, and all are counted.
fn check_report(archive: &Normalised) {
    let report = &archive.report;
    let links = &report.skipped_links;
    assert_eq!(links.first.len(), links.total.min(20));
    let names = links.first.iter().flat_map(|link| [&link.path, &link.target]);
    let lists = [&report.skipped_files, &report.submodules, &report.lfs_pointers];
    for name in names.chain(lists.iter().flat_map(|list| &list.first)) {
        assert!(is_plain_text(name), "{name:?}");
    }
    for list in lists {
        assert_eq!(list.first.len(), list.total.min(20));
    }
    assert!(report.lfs_pointers.total as u64 <= archive.files);
}

/// Whether a terminal shows `text` as it is.
fn is_plain_text(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{202a}'..='\u{202e}').contains(&c)
    })
}
