//! Fetches the archive of one tag from GitHub, as a stream to a file.
//!
//! In come a [`Repository`], the spellings of a tag and a [`Credential`]; out come the archive's bytes, or a [`FetchError`]
//! that tells apart what a caller has to tell apart. It knows nothing of what the bytes mean, where they go, or who asked.
//!
//! | file | part |
//! |---|---|
//! | `repository` | what may be fetched: host, owner, name, and the addresses made of them |
//! | `credential` | who asks: what a Secret holds, checked before anything is sent |
//! | `fetch` | the order of requests, and which host sees the credential |
//! | `account` | in whose name they are sent, and what a refusal means |
//! | `redirect` | where GitHub sends its visitors |
//! | `token` | installation tokens, minted once for all who share a key |
//! | `gate` | GitHub's rate limits, obeyed by all who share a credential |
//! | `transport` | one request on the wire |
//! | `error` | what can go wrong |

use crate::domain::RepositoryError;
use crate::domain::repository::{authority, site};
use crate::domain::{ArchiveFormat, Repository};
mod account;
mod credential;
mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod notice;
mod redirect;
mod token;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::fs::File;

pub use self::{
    credential::{AppKey, Credential, CredentialError, credential_from_secret},
    error::FetchError,
    notice::RateLimitNotice,
};
use self::{
    fetch::{Fetcher, Order},
    transport::Https,
};

/// How to reach GitHub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts allowed besides github.com, each `name` or `name:port`.
    pub extra_hosts: Vec<String>,
    /// PEM certificates trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The largest archive that is accepted, in bytes, inclusive.
    pub max_archive_bytes: u64,
    /// Limit for one connection to be made, TLS included.
    pub connect_timeout: Duration,
    /// Limit for a server that sends nothing.
    pub idle_timeout: Duration,
    /// Limit for a whole fetch.
    pub total_timeout: Duration,
    /// How the client introduces itself; GitHub refuses requests without it.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extra_hosts: Vec::new(),
            ca_pem: None,
            max_archive_bytes: 512 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(15),
            user_agent: concat!("opendepot/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why no client could be made of some [`Settings`].
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A host is not `name` or `name:port`.
    #[error("cannot allow a GitHub host")]
    Host(#[from] RepositoryError),
    /// The additional roots are not PEM certificates.
    #[error("the additional CA file holds no PEM certificate, or a damaged one")]
    Ca,
    /// The HTTP client refuses its configuration.
    #[error("cannot set up the HTTP client for GitHub")]
    Build(#[source] reqwest::Error),
}

/// An archive that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The spelling of the tag that exists.
    pub tag: String,
    /// Where it was asked for: a stable address, without the token of the link that served it.
    pub url: String,
    /// The archive's length.
    pub bytes: u64,
    /// What the repository is called now, where GitHub says that it has moved for good.
    pub moved_to: Option<String>,
}

/// A client for GitHub, shared by all fetches: it holds the connections, the tokens and the rate limits.
#[derive(Debug, Clone)]
pub struct GitHub {
    fetcher: Arc<Fetcher<Https>>,
    hosts: Vec<String>,
    max_archive_bytes: u64,
    total_timeout: Duration,
}

impl GitHub {
    /// Takes proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`). A rustls crypto provider must be installed.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let extra = settings.extra_hosts.iter().map(String::as_str);
        let hosts = std::iter::once("github.com").chain(extra).map(site);
        Ok(Self {
            fetcher: Arc::new(Fetcher::new(Https::new(settings)?)),
            hosts: hosts
                .map(|url| url.as_ref().map(authority).map_err(Clone::clone))
                .collect::<Result<_, _>>()?,
            max_archive_bytes: settings.max_archive_bytes,
            total_timeout: settings.total_timeout,
        })
    }

    /// Whether requests may be sent to this repository's host.
    pub fn host_allowed(&self, repository: &Repository) -> bool {
        self.hosts.contains(&repository.host())
    }

    /// Fetches the archive of the first of `tags` that exists and appends it to `into`. The file should be empty; after
    /// an error it may hold a part. While the credential has to wait for a rate limit, this fails at once and sends
    /// nothing. Dropping the future ends the transfer.
    pub async fn fetch(
        &self,
        repository: &Repository,
        tags: &[String],
        format: ArchiveFormat,
        credential: &Credential,
        into: &mut File,
    ) -> Result<Fetched, FetchError> {
        if !self.host_allowed(repository) {
            return Err(FetchError::HostNotAllowed { host: repository.host() });
        }
        let (limit, time) = (self.max_archive_bytes, self.total_timeout);
        self.fetcher.fetch(Order { repository, tags, format, limit, time }, credential, into).await
    }

    /// The smallest quota that GitHub last reported and that still holds, by kind of credential (`anonymous`, `app`,
    /// `token`).
    pub fn remaining(&self) -> Vec<(&'static str, i64)> {
        self.fetcher.remaining()
    }
}
