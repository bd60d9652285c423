//! Converts GitHub's archives to the ones that are stored.
//!
//! A downloaded zip or tar.gz becomes an archive of the same files with the module at its root and symbolic links replaced. The
//! same commit gives the same bytes, however it was packed: everything that could differ between two runs is fixed (order,
//! times, owners, modes, compression level, and the pieces in which the compressor gets its input).
//!
//! ```text
//! raw ─► read_zip │ read_tar ─► tree (index) ─► links ─► write_zip │ write_tar ─► file, sha256, h1
//!                     └───────► contents (on disk) ───────────┘
//! ```
//!
//! Empty folders, among them submodules, are dropped: git has none. Names that differ only by case are kept. Files that a module
//! cannot have are left out, and what GitHub's archives lack (submodules, Git LFS objects) is reported. Memory is a few buffers
//! and the index (at most 16 MiB of paths by default, and 64 bytes for each entry), and at most one index above 2 MiB at a time;
//! disk is the unpacked size and the output's. All functions block.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use tempfile::{NamedTempFile, TempPath};

use crate::domain::ArchiveFormat;

mod contents;
mod digest;
mod error;
mod index_memory;
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
mod texts;
mod tree;
mod unpacked;
mod write_tar;
mod write_zip;
mod zip_end;

pub use digest::ContentDigest;
pub use error::ArchiveError;
pub use limits::Limits;
pub use report::{Listed, Report, SkipReason, SkippedLink};
pub use stored::{StoredArchive, StoredFile};

use contents::ContentsWriter;
use sink::Sink;
use tree::{Layout, TreeBuilder};
use unpacked::Unpacked;
use write_zip::Narrow;

/// The first bytes of archives that can be read.
const MAGIC_NUMBERS: [&[u8]; 3] = [b"PK\x03\x04", b"PK\x05\x06", &[0x1f, 0x8b]];

/// The revision of the output: it grows with each change that gives the same tree other bytes. Objects have it in their
/// metadata, so that other bytes of an older revision do not count as other content.
pub const REVISION: u32 = 1;

/// A normalised archive, on disk until it is dropped.
#[derive(Debug)]
pub struct Normalised {
    /// Its path. Dropping this deletes the file.
    pub file: TempPath,
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Digest of the files in it, which does not depend on the format.
    pub digest: ContentDigest,
    /// The full id of the commit in the archive's metadata, in lower case, if there is one.
    pub commit: Option<String>,
    /// Files that were left out, and contents of the repository that the archive lacks.
    pub report: Report,
    /// Number of files in it.
    pub files: u64,
}

/// Converts the archive at `raw` to the one that is stored. The output and all temporary files are in `spool_dir`.
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
    let (unpacked, commit) =
        unpack(raw, "open the downloaded archive", limits, spool_dir, Layout::TopFolder)?;
    let tree = unpacked.tree.finish()?;
    let (files, report) = links::expand(tree, unpacked.budget)?;
    if files.len() == 0 {
        return Err(ArchiveError::Empty);
    }
    let contents = unpacked.contents.into_reader()?;
    let failed = "write the normalised archive";
    let file = NamedTempFile::new_in(spool_dir).map_err(ArchiveError::io(failed))?;
    let mut sink = Sink::new(file.as_file());
    let written = match format {
        ArchiveFormat::Zip => write_zip::write(&files, &contents, &mut sink, narrow),
        ArchiveFormat::Tar => write_tar::write(&files, &contents, &mut sink),
    };
    let digest = written.map_err(ArchiveError::io(failed))?;
    let (size, sha256) = sink.finish().map_err(ArchiveError::io(failed))?;
    let (file, files) = (file.into_temp_path(), files.len() as u64);
    Ok(Normalised { file, size, sha256, digest, commit, report, files })
}

/// Reads the archive at `path` into `spool_dir`. Returns it with the commit that it contains in its metadata.
fn unpack(
    path: &Path,
    opening: &'static str,
    limits: &Limits,
    spool_dir: &Path,
    layout: Layout,
) -> Result<(Unpacked, Option<String>), ArchiveError> {
    let mut file = File::open(path).map_err(ArchiveError::io(opening))?;
    let bytes = file.metadata().map_err(ArchiveError::io(opening))?.len();
    if bytes > limits.archive_bytes {
        return Err(ArchiveError::ArchiveTooLarge { limit: limits.archive_bytes });
    }
    let budget = limits.budget(bytes);
    let read = reader_for(&mut file)?;
    let contents = ContentsWriter::new(spool_dir, budget)?;
    let mut unpacked = Unpacked { budget, tree: TreeBuilder::new(budget, layout), contents };
    let commit = read(file, &mut unpacked)?;
    Ok((unpacked, commit))
}

/// SHA-256 of a download that could not be read, to recognise the same one later. `None` if it ended before its first bytes
/// showed what it is.
pub fn fingerprint(raw: &Path) -> Option<[u8; 32]> {
    let mut file = File::open(raw).ok()?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; sink::CHUNK_BYTES];
    let mut len = 0;
    while let n @ 1.. = file.read(&mut buffer).ok()? {
        hash.update(&buffer[..n]);
        len += n;
    }
    (len >= MAGIC_NUMBERS[0].len()).then(|| digest::sha256_bytes(&hash.finish()))
}

/// Fills the second argument and returns the commit.
type Reader = fn(File, &mut Unpacked) -> Result<Option<String>, ArchiveError>;

/// The reader for the format that the first bytes of `file` show.
fn reader_for(file: &mut File) -> Result<Reader, ArchiveError> {
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start).map_err(ArchiveError::reading)?;
    file.rewind().map_err(ArchiveError::reading)?;
    match start.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(read_zip::read),
        [0x1f, 0x8b, ..] => Ok(read_tar::read),
        // A proxy sends this when GitHub closes the connection at once: nothing is known about the archive.
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
