//! Fetches archives from GitHub.

mod repository;

pub use self::repository::{Repository, RepositoryError};

/// The kind of archive to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A zip file.
    Zip,
    /// A gzip-compressed tar.
    TarGz,
}
