//! Client that downloads the archive of one tag from GitHub to a file.
//!
//! It depends on neither Kubernetes nor the archive's content.
//!
//! | file | content |
//! |---|---|
//! | `settings` | time limits, allowed hosts, trusted certificates |
//! | `client` | state and limits that all fetches share |
//! | `fetch` | the archive of the first tag that exists |
//! | `session` | the requests of one fetch, and which host receives the credential |
//! | `account` | one fetch, its credential, and the meaning of a rejection |
//! | `credential` | credentials from a Secret, validated before any request |
//! | `token` | cache of installation tokens |
//! | `rate_limit` | GitHub's rate limits, per credential |
//! | `limit_times` | times in GitHub's headers, and waits without one |
//! | `page_block` | meaning of a web page with status 403 |
//! | `notice` | the rate limit as a sentence in a status |
//! | `refusals` | credentials that GitHub has just rejected, and repositories that it has not found |
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
mod refusals;
mod session;
mod settings;
mod token;
mod transport;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::fs::File;

use self::{
    account::Session,
    client::Client,
    limit_times::Now,
    rate_limit::LimitKind,
    transport::{Https, Transport as _},
};
pub use self::{
    credential::{AppKey, Credential, CredentialError, credential_from_secret},
    error::FetchError,
    fetch::Fetched,
    notice::RateLimitNotice,
    settings::{ClientError, Settings},
};
use crate::domain::repository::site;
use crate::domain::{ArchiveFormat, Repository};

/// A client for GitHub. Its clones share connections, tokens and rate limits.
#[derive(Clone)]
pub struct GitHub {
    client: Arc<Client<Https>>,
    extra_hosts: Vec<String>,
}

impl GitHub {
    /// Reads proxies from the environment (`HTTPS_PROXY`, `NO_PROXY`). A rustls crypto provider must be installed.
    pub fn new(settings: &Settings) -> Result<Self, ClientError> {
        let client = Arc::new(Client::new(Https::new(settings)?, settings));
        Ok(Self { client, extra_hosts: settings.extra_hosts.clone() })
    }

    /// Whether the settings allow this repository's host.
    pub fn host_allowed(&self, repository: &Repository) -> bool {
        let host = repository.host();
        host == "github.com" || self.extra_hosts.contains(&host)
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
        self.session(repository, credential)?.fetch(tags, format, into).await
    }

    /// The recent rejection of the credential, or of this repository with it, unless the caller's `last` attempt ended after it.
    /// Callers that share a credential call this before a fetch, so that a wrong one costs a single request, and a wrong
    /// repository few.
    pub fn refused(
        &self,
        repository: &Repository,
        credential: &Credential,
        last: Option<Instant>,
    ) -> Option<FetchError> {
        let session: Session<'_, Https> = Session::new(&self.client, repository, credential);
        let (account, now) = (&session.account, Instant::now());
        let rejected = self.client.refusals.recent(account, last, now);
        rejected.or_else(|| self.client.missing.recent(account, &session.key, last, now))
    }

    /// Applies a rate limit that another process has met to the credential.
    pub fn limit(&self, repository: &Repository, credential: &Credential, until: Timestamp, secondary: bool) {
        let session: Session<'_, Https> = Session::new(&self.client, repository, credential);
        let kind = if secondary { LimitKind::Secondary } else { LimitKind::Primary };
        self.client.rate_limits.recall(&session.account, until, kind, Now::read());
    }

    /// Checks with a request to GitHub's API that the credential has access to the repository.
    pub async fn is_visible(
        &self,
        repository: &Repository,
        credential: &Credential,
    ) -> Result<(), FetchError> {
        self.session(repository, credential)?.repository_answers().await
    }

    fn session<'a>(
        &'a self,
        repository: &'a Repository,
        credential: &'a Credential,
    ) -> Result<Session<'a, Https>, FetchError> {
        if !self.host_allowed(repository) {
            return Err(FetchError::HostNotAllowed { host: repository.host() });
        }
        Ok(Session::new(&self.client, repository, credential))
    }

    /// Sends an anonymous request to a host of GitHub. Returns the status of the answer, which may be an error.
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
        self.client.rate_limits.remaining(Now::read())
    }
}
