//! Fetches archives from GitHub.

mod credential;
mod error;
mod gate;
mod repository;
mod token;

pub use self::{
    credential::{AppKey, Credential, CredentialError, credential_from_secret},
    error::FetchError,
    repository::{Repository, RepositoryError},
};

/// The kind of archive to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A zip file.
    Zip,
    /// A gzip-compressed tar.
    TarGz,
}
