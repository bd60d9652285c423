//! Limits of an archive: sizes and counts. They count what is read, not what the archive announces.

use super::ArchiveError;

/// The longest path of an entry, in bytes: no path is longer for git and Linux.
pub(super) const PATH_BYTES: usize = 4095;

/// The longest target of a symbolic link, in bytes: Linux cannot make a longer one.
pub(super) const TARGET_BYTES: usize = 4095;

/// Bytes that all paths and link targets together may have for each entry that is allowed: they are kept in memory. Real paths
/// have about 64 bytes.
const PATHS_BYTES_FOR_EACH_ENTRY: u64 = 168;

/// Bytes that all paths and link targets together may always have, however few entries are allowed.
const LEAST_PATHS_BYTES: u64 = 1 << 20;

/// What an archive may cost. Each number is itself allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the download, bytes.
    pub archive_bytes: u64,
    /// Size of all files together, bytes, with every symbolic link's copy counted again.
    pub unpacked_bytes: u64,
    /// Files, folders and symbolic links that the archive lists, with every symbolic link's copies counted again. The
    /// top folder is not counted.
    pub entries: u64,
    /// Unpacked bytes for each byte of the download, once more than `ratio_exempt_bytes` are unpacked.
    ///
    /// Deflate reaches at most 1,032 and source code 3 to 10, so 200 stops a file that consists of zeros, but not
    /// an archive that has real content beside it.
    pub ratio: u64,
    /// Unpacked bytes up to which the ratio is not checked: a few MiB of zeros are an ordinary test fixture.
    pub ratio_exempt_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 512 << 20,
            unpacked_bytes: 2 << 30,
            entries: 100_000,
            ratio: 200,
            ratio_exempt_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// The bytes that an archive of `archive_bytes` may unpack to.
    pub(super) fn budget(&self, archive_bytes: u64) -> Budget {
        let by_ratio = archive_bytes.saturating_mul(self.ratio).max(self.ratio_exempt_bytes);
        Budget { limits: *self, bytes: self.unpacked_bytes.min(by_ratio) }
    }
}

/// Unpacked bytes and entries that one archive may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    limits: Limits,
    bytes: u64,
}

impl Budget {
    /// Refuses `total` unpacked bytes that are too many.
    pub(super) fn check_bytes(&self, total: u64) -> Result<(), ArchiveError> {
        if total <= self.bytes {
            Ok(())
        } else if total > self.limits.unpacked_bytes {
            Err(ArchiveError::UnpackedTooLarge { limit: self.limits.unpacked_bytes })
        } else {
            Err(ArchiveError::RatioTooHigh { ratio: self.limits.ratio })
        }
    }

    /// Refuses `total` entries that are too many.
    pub(super) fn check_entries(&self, total: u64) -> Result<(), ArchiveError> {
        let limit = self.limits.entries;
        if total <= limit { Ok(()) } else { Err(ArchiveError::TooManyEntries { limit }) }
    }

    /// Refuses paths and link targets that have too many bytes in total.
    pub(super) fn check_paths(&self, total: usize) -> Result<(), ArchiveError> {
        if total as u64 <= self.paths_bytes() { Ok(()) } else { Err(self.paths_too_long()) }
    }

    /// The error for paths that are too long in total.
    pub(super) fn paths_too_long(&self) -> ArchiveError {
        ArchiveError::PathsTooLong { limit: self.paths_bytes() }
    }

    /// Bytes that all paths and link targets may have together. Their positions have 32 bits.
    pub(super) fn paths_bytes(&self) -> u64 {
        let paths = self.limits.entries.saturating_mul(PATHS_BYTES_FOR_EACH_ENTRY);
        paths.clamp(LEAST_PATHS_BYTES, u32::MAX.into())
    }

    /// Bytes that a tar stream may have: the files, and for each entry its header, padding and extension headers. Those stay far
    /// below 8 KiB on average, since all paths together are bounded. Headers that describe nothing are not counted otherwise.
    pub(super) fn tar_bytes(&self) -> u64 {
        const FOR_EACH_ENTRY: u64 = 8 << 10;
        const FOR_THE_REST: u64 = 2 << 20;
        let headers = self.limits.entries.saturating_mul(FOR_EACH_ENTRY);
        self.bytes.saturating_add(headers).saturating_add(FOR_THE_REST)
    }

    /// Path components that may be looked up while links are followed; in a long path each counts for more, and so does a link
    /// with a long target. Real links need a few each; without a bound, links to links with long targets would cost minutes of
    /// work and add no file.
    pub(super) fn link_steps(&self) -> u64 {
        self.limits.entries.saturating_mul(64)
    }
}
