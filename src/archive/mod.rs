//! Converts GitHub's archives to the ones that are stored.
//!
//! A downloaded zip or tar.gz becomes an archive of the same files with the module at its root and symbolic links replaced. The
//! same commit gives the same bytes, however it was packed.
//!
//! ```text
//! raw ─► read_zip │ read_tar ─► tree (index) ─► links ─► write ─► file, sha256, h1
//!                     └───────► contents (on disk) ─────────┘
//! ```
//!
//! Empty folders, among them submodules, are dropped: git has none. Names that differ only by case are kept as they are;
//! those that a module cannot have are left out, and what is missing in what GitHub sends (submodules, Git LFS objects) is
//! reported. Memory is a few buffers and the index (at most 32 MiB of paths by default, and 100 bytes for each entry);
//! disk is the unpacked size and the output's. All functions block.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use tempfile::TempPath;

use crate::domain::ArchiveFormat;

mod contents;
mod digest;
mod error;
mod limits;
mod links;
mod names;
mod pax;
mod read_tar;
mod read_zip;
mod report;
mod sink;
mod stored;
#[cfg(test)]
mod tests;
mod tree;
mod unpacked;
mod write;
mod write_tar;
mod write_zip;
mod zip_end;

pub use digest::ContentDigest;
pub use error::ArchiveError;
pub use limits::Limits;
pub use report::{Listed, Report, SkipReason, SkippedLink};
pub use stored::{StoredArchive, StoredFile};

use tree::Layout;
use unpacked::Unpacked;
use write_zip::Narrow;

/// What archives that can be read start with.
const MAGIC_NUMBERS: [&[u8]; 3] = [b"PK\x03\x04", b"PK\x05\x06", &[0x1f, 0x8b]];

/// The revision of what is written: it grows with each change that gives the bytes of a tree another form. Objects carry
/// it in their metadata, so that other bytes of an older revision are not taken for other content.
pub const REVISION: u32 = 1;

/// A normalised archive, on disk until it is dropped.
#[derive(Debug)]
pub struct Normalised {
    /// Its path. Dropping this deletes the file.
    pub file: TempPath,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Digest of the files in it, which does not depend on the format.
    pub digest: ContentDigest,
    /// The full id of the commit that GitHub says it packed, in lower case, where it says so.
    pub commit: Option<String>,
    /// What was left out, and what the archive lacks of its repository.
    pub report: Report,
    /// How many files it holds.
    pub files: u64,
}

/// Makes the archive that is to be stored out of the one at `raw`. Both the output and what is needed on the way lie in
/// `spool_dir`.
///
/// # Errors
/// [`ArchiveError::Io`] when this machine's disk fails; every other error means that these bytes cannot be published.
pub fn normalise(
    raw: &Path,
    format: ArchiveFormat,
    limits: &Limits,
    spool_dir: &Path,
) -> Result<Normalised, ArchiveError> {
    normalise_with(raw, format, limits, spool_dir, &Narrow::ZIP)
}

fn normalise_with(
    raw: &Path,
    format: ArchiveFormat,
    limits: &Limits,
    spool_dir: &Path,
    narrow: &Narrow,
) -> Result<Normalised, ArchiveError> {
    let mut file = File::open(raw).map_err(ArchiveError::io("open the downloaded archive"))?;
    let raw_bytes = file.metadata().map_err(ArchiveError::io("open the downloaded archive"))?.len();
    if raw_bytes > limits.archive_bytes {
        return Err(ArchiveError::ArchiveTooLarge { limit: limits.archive_bytes });
    }
    let budget = limits.budget(raw_bytes);
    let read = reader_for(&mut file)?;
    let mut unpacked = Unpacked::new(spool_dir, budget, Layout::TopFolder)?;
    let commit = read(file, &mut unpacked)?;
    let tree = unpacked.tree.finish()?;
    let (files, report) = links::expand(&tree, budget)?;
    if files.len() == 0 {
        return Err(ArchiveError::Empty);
    }
    drop(tree);
    let written = write::write(&files, &unpacked.contents.into_reader()?, format, spool_dir, narrow)?;
    Ok(Normalised {
        file: written.file,
        size: written.size,
        sha256: written.sha256,
        digest: written.digest,
        commit,
        report,
        files: files.len() as u64,
    })
}

/// SHA-256 of a download that could not be read, by which it is known again. `None` where it broke off before it said what
/// it is: that is nothing to be known by.
pub fn fingerprint(raw: &Path) -> Option<[u8; 32]> {
    let mut file = File::open(raw).ok()?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; sink::CHUNK_BYTES];
    let mut len = 0;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                len += n;
            }
        }
    }
    (len >= MAGIC_NUMBERS[0].len()).then(|| digest::sha256_bytes(&hash.finish()))
}

/// Fills the second argument and returns the commit.
type Reader = fn(File, &mut Unpacked) -> Result<Option<String>, ArchiveError>;

/// The reader for what `file` starts with.
fn reader_for(file: &mut File) -> Result<Reader, ArchiveError> {
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start).map_err(ArchiveError::reading)?;
    file.rewind().map_err(ArchiveError::reading)?;
    match start.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(read_zip::read),
        [0x1f, 0x8b, ..] => Ok(read_tar::read),
        // What a proxy passes on when GitHub's side breaks off at once: nothing is known about the archive.
        [] => Err(ArchiveError::corrupt("it is empty")),
        cut if MAGIC_NUMBERS.iter().any(|magic| magic.starts_with(cut)) => {
            Err(ArchiveError::corrupt(format!("it ends after {} bytes", cut.len())))
        }
        other if other.trim_ascii_start().starts_with(b"<") => Err(ArchiveError::NotAnArchive {
            found:
                "it looks like an HTML page, such as a login or an error page; check repoUrl and any proxy"
                    .into(),
        }),
        other => {
            Err(ArchiveError::NotAnArchive { found: format!("it starts with `{}`", error::shown(other)) })
        }
    }
}
