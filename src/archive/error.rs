//! Why an archive cannot be used. Names from an archive are escaped and cut before they are part of a message.

use std::io;

pub(super) use crate::domain::text::shown;

/// Why an archive could not be normalised.
///
/// [`ArchiveError::Io`] is a transient fault of this machine; every other variant is a fault of the archive, and the
/// same bytes will fail again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are neither a zip nor a gzip file.
    #[error("the download is neither a zip nor a tar.gz archive: {found}")]
    NotAnArchive { found: String },
    /// The archive is incomplete, fails its own checksums or contradicts itself.
    #[error("the archive is truncated or corrupt ({what})")]
    Corrupt { what: String },
    /// No file is left below the top folder.
    #[error("the archive contains no file; tag a commit that contains the module")]
    Empty,
    /// An entry is outside the top folder of GitHub's archives.
    #[error("the archive's entries do not share one top folder, as GitHub's do: `{path}` is outside it")]
    NoTopFolder { path: String },
    /// An entry's path starts with `/`.
    #[error("the archive contains the absolute path `{path}`; remove it from the repository")]
    AbsolutePath { path: String },
    /// An entry's path has a `..` component.
    #[error("the archive contains the path `{path}`, which contains `..`; remove it from the repository")]
    ParentPath { path: String },
    /// An entry's name cannot be a path of a module, and Terraform would read it, or it means something else elsewhere.
    #[error("the archive contains `{path}`, which {why}; rename it in the repository")]
    BadName { path: String, why: &'static str },
    /// Two entries have the same path.
    #[error("the archive contains `{path}` twice")]
    Duplicate { path: String },
    /// A file or link has entries below it.
    #[error("the archive contains `{path}` both as a file and as a folder")]
    FileIsFolder { path: String },
    /// A device, fifo, hard link or sparse file, which no git repository contains.
    #[error("the archive contains `{path}`, {kind}; only files, folders and symbolic links can be published")]
    SpecialFile { path: String, kind: &'static str },
    /// A zip entry is encrypted.
    #[error("the archive's entry `{path}` is encrypted; publish it without a password")]
    Encrypted { path: String },
    /// A zip entry is compressed with a method other than deflate.
    #[error(
        "the archive's entry `{path}` is compressed by {method}; only stored and deflated entries can be read"
    )]
    UnsupportedMethod { path: String, method: String },
    #[error(
        "the symbolic link `{path}` points to `{target}`, outside the module; remove or change it in the repository"
    )]
    LinkLeavesTree { path: String, target: String },
    /// Following the symbolic links takes more steps than any real repository needs.
    #[error("the archive's symbolic links are nested too deeply to follow; simplify them in the repository")]
    TangledLinks,
    /// The downloaded file is larger than [`Limits::archive_bytes`](super::Limits::archive_bytes).
    #[error("the archive is larger than {limit} bytes; make it smaller, or raise --max-archive-size")]
    ArchiveTooLarge { limit: u64 },
    /// The files are larger than [`Limits::unpacked_bytes`](super::Limits::unpacked_bytes) in total.
    #[error(
        "the archive's files exceed {limit} bytes in total, with symbolic links followed; make them smaller, or raise --max-unpacked-size"
    )]
    UnpackedTooLarge { limit: u64 },
    /// The files are larger than [`Limits::ratio`](super::Limits::ratio) allows for so small an archive.
    #[error(
        "the archive's files are more than {ratio} times as large as the archive itself, as in a decompression bomb; keep \
         large files of repeated bytes out of it, for example with export-ignore (64 MiB of files are allowed at any ratio)"
    )]
    RatioTooHigh { ratio: u64 },
    /// There are more entries than [`Limits::entries`](super::Limits::entries).
    #[error(
        "the archive has more than {limit} entries, with symbolic links followed; make it smaller, or raise --max-entries"
    )]
    TooManyEntries { limit: u64 },
    /// All paths together are too long to be kept in memory.
    #[error(
        "the paths in the archive take more than {limit} bytes in total; use fewer or shorter ones, or raise --max-entries, with which that limit grows"
    )]
    PathsTooLong { limit: u64 },
    /// Reading the download, or writing to the spool folder, failed.
    #[error("cannot {action}: {source}; check the spool folder's free space and permissions")]
    Io { action: &'static str, source: io::Error },
}

impl ArchiveError {
    /// For `map_err`: a failure of this machine's disk.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    /// A failed read of the download: an error of the operating system is about the disk, any other is about the
    /// archive's bytes, and may contain some of them.
    pub(super) fn reading(error: io::Error) -> Self {
        if error.raw_os_error().is_some() {
            Self::Io { action: "read the downloaded archive", source: error }
        } else {
            Self::corrupt(shown(error.to_string().as_bytes()))
        }
    }

    pub(super) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(super) fn bad_name(path: &[u8], why: &'static str) -> Self {
        Self::BadName { path: shown(path), why }
    }
}
