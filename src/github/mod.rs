//! Client that downloads the archive of one tag from GitHub to a file.
//!
//! It depends on neither Kubernetes nor the archive's content.
//!
//! | file | content |
//! |---|---|
//! | `settings` | time limits, allowed hosts, trusted certificates |
//! | `client` | state that all fetches share |
//! | `fetch` | the archive of the first tag that exists |
//! | `session` | the requests of one fetch, and which host receives the credential |
//! | `account` | the credential of one fetch, and the meaning of a rejection |
//! | `credential` | credentials from a Secret, validated before any request |
//! | `token` | cache of installation tokens |
//! | `rate_limit` | GitHub's rate limits, per credential |
//! | `limit_times` | times in GitHub's headers, and waits without one |
//! | `page_block` | meaning of a web page with status 403 |
//! | `notice` | the rate limit as a sentence in a status |
//! | `redaction` | GitHub's explanations without secrets |
//! | `redirect` | validation of redirects, login pages and new repository names |
//! | `transport` | one HTTP request |
//! | `error` | errors of a fetch |

mod account;
mod client;
mod credential;
mod error;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod limit_times;
mod notice;
mod page_block;
mod rate_limit;
mod redaction;
mod redirect;
mod session;
mod settings;
mod token;
mod transport;

use std::{sync::Arc, time::Duration};

use tokio::fs::File;

use self::{
    client::Client,
    fetch::Order,
    transport::{Https, Transport as _},
};
pub use self::{
    credential::{AppKey, Credential, CredentialError, credential_from_secret},
    error::FetchError,
    fetch::Fetched,
    notice::RateLimitNotice,
    settings::{ClientError, Settings},
};
use crate::domain::repository::{authority, site};
use crate::domain::{ArchiveFormat, Repository};

/// A client for GitHub. Its clones share connections, tokens and rate limits.
#[derive(Debug, Clone)]
pub struct GitHub {
    client: Arc<Client<Https>>,
    hosts: Vec<String>,
    max_archive_bytes: u64,
    total_timeout: Duration,
    any_reference: bool,
}

impl GitHub {
    /// Reads proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`). A rustls crypto provider must be installed.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let extra = settings.extra_hosts.iter().map(String::as_str);
        let hosts = std::iter::once("github.com").chain(extra).map(site);
        Ok(Self {
            client: Arc::new(Client::new(Https::new(settings)?)),
            hosts: hosts
                .map(|url| url.as_ref().map(authority).map_err(Clone::clone))
                .collect::<Result<_, _>>()?,
            max_archive_bytes: settings.max_archive_bytes,
            total_timeout: settings.total_timeout,
            any_reference: settings.any_reference,
        })
    }

    /// Whether the settings allow this repository's host.
    pub fn host_allowed(&self, repository: &Repository) -> bool {
        self.hosts.contains(&repository.host())
    }

    /// Fetches the archive of the first of `tags` that exists and appends it to `into`. The file should be empty; after an
    /// error it may contain a part of the archive. During a rate limit of the credential, this fails without a request.
    /// Dropping the future cancels the transfer.
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
        let any_reference = self.any_reference;
        let order = Order { repository, tags, any_reference, format, limit, time };
        fetch::fetch(&self.client, order, credential, into).await
    }

    /// Checks that GitHub shows a repository to the credential, with a request to its API.
    pub async fn is_visible(
        &self,
        repository: &Repository,
        credential: &Credential,
    ) -> Result<(), FetchError> {
        if !self.host_allowed(repository) {
            return Err(FetchError::HostNotAllowed { host: repository.host() });
        }
        fetch::is_visible(&self.client, repository, credential).await
    }

    /// Sends an anonymous request to a host of GitHub. Returns the status of the answer, whatever that is.
    ///
    /// # Errors
    /// [`FetchError::Network`] without an answer.
    pub async fn reach(&self, host: &str) -> Result<u16, FetchError> {
        let url = site(host).map_err(|error| FetchError::Network { what: error.to_string() })?;
        let response = self.client.transport.get(&url, None).await?;
        let status = response.status().as_u16();
        transport::drain(response).await;
        Ok(status)
    }

    /// The smallest current quota that GitHub reported, by kind of credential (`anonymous`, `app`, `token`).
    pub fn remaining(&self) -> Vec<(&'static str, i64)> {
        self.client.remaining()
    }
}
