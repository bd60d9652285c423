//! Settings of the GitHub client, and the error that they can cause.

use std::time::Duration;

use reqwest::Certificate;

/// How to connect to GitHub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts allowed besides github.com, each as [`Repository::host`](crate::domain::Repository::host) spells it.
    pub extra_hosts: Vec<String>,
    /// Certificates trusted besides the system's.
    pub roots: Vec<Certificate>,
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
            roots: Vec::new(),
            max_archive_bytes: 512 * 1024 * 1024,
            idle_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(15),
            any_reference: false,
        }
    }
}

/// The HTTP client rejects its configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client for GitHub")]
pub struct ClientError(#[from] reqwest::Error);
