//! What the fuzz targets share.
//!
//! In: bytes of anybody. Out: nothing, or a panic that says which rule was broken.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::LazyLock;

use opendepot::archive::{Format, Limits, normalise};

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

/// Normalises an archive: it is refused, or what comes out is a plain tree, and the same one in both formats.
pub fn check_archive(raw: &[u8]) {
    std::fs::write(&*RAW, raw).expect("room for the archive");
    let run = |format| normalise(&RAW, format, &LIMITS, &std::env::temp_dir());
    let (zip, tar) = match (run(Format::Zip), run(Format::TarGz)) {
        (Ok(zip), Ok(tar)) => (zip, tar),
        (Err(zip), Err(tar)) => {
            assert_eq!(zip.to_string(), tar.to_string());
            assert!(!zip.to_string().chars().any(char::is_control), "{zip}");
            return;
        }
        (zip, tar) => panic!("the formats disagree: {zip:?} {tar:?}"),
    };
    assert_eq!((zip.digest, zip.files, &zip.commit), (tar.digest, tar.files, &tar.commit));
    let bytes = std::fs::read(&zip.file).expect("the archive that was written");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip");
    assert_eq!(archive.len() as u64, zip.files);
    let mut last = String::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).expect("an entry");
        let path = entry.name().expect("a name").into_owned();
        assert!(last.is_empty() || last < path, "sorted, and nothing twice: {last:?} {path:?}");
        assert!(path.split('/').all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
        assert!(!path.contains('\\') && !path.chars().any(char::is_control), "{path:?}");
        assert!(entry.is_file(), "{path:?}");
        last = path;
    }
}
