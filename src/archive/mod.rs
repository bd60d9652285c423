//! Reads what GitHub sends and writes what S3 keeps.
//!
//! In: a downloaded zip or tar.gz on disk. Out: an archive of the same files on disk, with the module at its root,
//! symbolic links followed and nothing left to chance: the same commit gives the same bytes, however it was packed. It
//! knows no network, no Kubernetes and no S3.
//!
//! ```text
//! raw ─► read_zip │ read_tar ─► tree (index) ─► links ─► write ─► file, sha256, h1
//!                     └───────► spool (contents, on disk) ──┘
//! ```
//!
//! Empty folders, among them submodules, are dropped: git has none. Names that differ only by case are kept as they are.
//! Memory is a few buffers and the index (at most 32 MiB of paths, and 100 bytes for each entry); disk is the
//! unpacked size and the output's. Everything here blocks: call it where blocking is allowed.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use tempfile::TempPath;

mod digest;
mod error;
mod limits;
mod links;
mod read_tar;
mod read_zip;
mod spool;
#[cfg(test)]
mod tests;
mod tree;
mod write;
mod write_zip;
mod zip_end;

pub use digest::ContentDigest;
pub use error::ArchiveError;
pub use limits::Limits;
pub use links::{SkipReason, SkippedLink};

use limits::Budget;
use spool::SpoolWriter;
use tree::TreeBuilder;

/// The revision of what is written: it grows with each change that gives the bytes of a tree another form. Objects carry
/// it in their metadata, so that other bytes of an older revision are not taken for other content.
pub const REVISION: u32 = 1;

/// Hexadecimal digits of a commit id.
const COMMIT_LEN: usize = 40;

/// What is written. What is read may be either, and is told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A zip archive.
    Zip,
    /// A gzip-compressed tar archive.
    TarGz,
}

impl Format {
    /// The file name extension, without a leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TarGz => "tar.gz",
        }
    }
}

/// A normalised archive, on disk until it is dropped.
#[derive(Debug)]
pub struct Normalised {
    /// Where it lies. Dropping this deletes the file.
    pub file: TempPath,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Digest of the files in it, which does not depend on the format.
    pub digest: ContentDigest,
    /// The full id of the commit that GitHub says it packed, in lower case, where it says so.
    pub commit: Option<String>,
    /// The first 20 symbolic links that were left out, by path.
    pub skipped_links: Vec<SkippedLink>,
    /// How many symbolic links were left out in all.
    pub skipped_links_total: u64,
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
    format: Format,
    limits: &Limits,
    spool_dir: &Path,
) -> Result<Normalised, ArchiveError> {
    let mut file = File::open(raw).map_err(ArchiveError::io("open the downloaded archive"))?;
    let raw_bytes = file.metadata().map_err(ArchiveError::io("open the downloaded archive"))?.len();
    if raw_bytes > limits.archive_bytes {
        return Err(ArchiveError::ArchiveTooLarge { limit: limits.archive_bytes });
    }
    let budget = limits.budget(raw_bytes);
    let read = reader_for(&mut file)?;
    let mut unpacked = Unpacked::new(spool_dir, budget)?;
    let commit = read(file, &mut unpacked)?;
    let tree = unpacked.tree.finish()?;
    let (files, skipped) = links::expand(&tree, budget)?;
    if files.len() == 0 {
        return Err(ArchiveError::Empty);
    }
    drop(tree);
    let written = write::write(&files, &unpacked.spool.into_reader()?, format, spool_dir)?;
    Ok(Normalised {
        file: written.file,
        size: written.size,
        sha256: written.sha256,
        digest: written.digest,
        commit,
        skipped_links: skipped.links,
        skipped_links_total: skipped.total,
        files: files.len() as u64,
    })
}

/// What a reader fills: the index and the contents.
struct Unpacked {
    budget: Budget,
    tree: TreeBuilder,
    spool: SpoolWriter,
}

impl Unpacked {
    fn new(dir: &Path, budget: Budget) -> Result<Self, ArchiveError> {
        Ok(Self { budget, tree: TreeBuilder::new(budget), spool: SpoolWriter::new(dir, budget)? })
    }
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
        [] => Err(ArchiveError::NotAnArchive { found: "it is empty".into() }),
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

/// `text` as a commit id, if it is one.
fn commit_id(text: &[u8]) -> Option<String> {
    let is_commit = text.len() == COMMIT_LEN && text.iter().all(u8::is_ascii_hexdigit);
    is_commit.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}
