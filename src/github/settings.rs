//! Settings of the GitHub client, and the errors that they can cause.

use std::time::Duration;

use crate::domain::RepositoryError;

/// How to connect to GitHub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts allowed besides github.com, each `name` or `name:port`.
    pub extra_hosts: Vec<String>,
    /// PEM certificates trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Largest accepted archive in bytes, inclusive.
    pub max_archive_bytes: u64,
    /// Time limit for a server that sends nothing.
    pub idle_timeout: Duration,
    /// Time limit for a whole fetch.
    pub total_timeout: Duration,
    /// Whether [`fetch`](super::GitHub::fetch) takes full refs and commits among the tags as such. The operator fetches tags
    /// only.
    pub any_reference: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extra_hosts: Vec::new(),
            ca_pem: None,
            max_archive_bytes: 512 * 1024 * 1024,
            idle_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(15),
            any_reference: false,
        }
    }
}

/// Settings that no client can be built from.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A host is not `name` or `name:port`.
    #[error("cannot allow a GitHub host")]
    Host(#[from] RepositoryError),
    /// The additional roots are not PEM certificates.
    #[error("the CA file contains no PEM certificate, or an invalid one")]
    Ca,
    /// The HTTP client rejects its configuration.
    #[error("cannot set up the HTTP client for GitHub")]
    Build(#[source] reqwest::Error),
}
