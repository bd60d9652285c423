//! The order of requests that leads to an archive. In come a repository, tags and a credential; out comes the archive's
//! bytes in a file, or a [`FetchError`]. It decides which host sees the credential, which 404 means what, and what is never
//! sent because the account has to wait. It must not look into the archive.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::LOCATION};
use jiff::Timestamp;
use reqwest::Response;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::fs::File;
use url::Url;

use super::{
    Fetched, Format,
    credential::{Account, AppKey, Credential},
    error::{FetchError, explanation},
    gate::{Gates, Limit},
    repository::{Repository, authority},
    token::{Minted, TokenCache},
    transport::{Transport, bounded_body, drain, save},
};

const MOST_REDIRECTS: usize = 5;

/// The wire, and what is remembered between fetches.
#[derive(Debug)]
pub(super) struct Fetcher<T> {
    transport: T,
    gates: Gates,
    tokens: TokenCache,
}

/// What to fetch, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) repository: &'a Repository,
    pub(super) tags: &'a [String],
    pub(super) format: Format,
    pub(super) limit: u64,
    pub(super) time: Duration,
}

impl<T: Transport> Fetcher<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, gates: Gates::default(), tokens: TokenCache::new(Timestamp::now) }
    }

    pub(super) fn remaining(&self) -> Vec<(&'static str, i64)> {
        self.gates.remaining(Timestamp::now())
    }

    pub(super) async fn fetch(
        &self,
        order: Order<'_>,
        credential: &Credential,
        into: &mut File,
    ) -> Result<Fetched, FetchError> {
        let mut session = Session::new(self, order.repository, credential);
        let work = async {
            let found = session.find(order.tags, order.format).await?;
            let bytes = save(found.response, &found.served_by, order.limit, into).await?;
            Ok(Fetched { tag: found.tag, url: found.url.into(), bytes })
        };
        tokio::time::timeout(order.time, work).await.unwrap_or_else(|_| {
            let what =
                format!("fetching from {} took longer than {} s", order.repository, order.time.as_secs());
            Err(FetchError::Network { what })
        })
    }
}

/// One fetch: everything in it is sent in the name of one account.
struct Session<'a, T> {
    fetcher: &'a Fetcher<T>,
    repository: &'a Repository,
    credential: &'a Credential,
    account: Account,
    renewed: bool,
}

/// An archive that is about to be read.
struct Found {
    tag: String,
    url: Url,
    served_by: Url,
    response: Response,
}

/// Where a chain of redirects ended.
enum End {
    /// With an answer, from this address.
    Body(Box<Response>, Url),
    /// With a 404. Before GitHub hands a request over to the host that serves archives, it is about the repository (or,
    /// with a credential, about either); after that, it is about the tag.
    Missing { handed_over: bool },
}

impl<'a, T: Transport> Session<'a, T> {
    fn new(fetcher: &'a Fetcher<T>, repository: &'a Repository, credential: &'a Credential) -> Self {
        let host = match credential {
            Credential::Anonymous => repository.host(),
            Credential::Token(_) | Credential::App(_) => authority(repository.api()),
        };
        let account = Account { host, identity: credential.identity() };
        Self { fetcher, repository, credential, account, renewed: false }
    }

    async fn find(&mut self, tags: &[String], format: Format) -> Result<Found, FetchError> {
        let authenticated = !matches!(self.credential, Credential::Anonymous);
        let no_repository =
            FetchError::RepositoryNotFound { repository: self.repository.to_string(), authenticated };
        let mut repository_seen = false;
        for tag in tags {
            let url = if authenticated {
                self.repository.api_archive(tag, format)
            } else {
                self.repository.site_archive(tag, format)
            };
            match self.follow(&url).await? {
                End::Body(response, served_by) => {
                    return Ok(Found { tag: tag.clone(), url, served_by, response: *response });
                }
                End::Missing { handed_over } => repository_seen |= handed_over,
            }
            if !authenticated && !repository_seen {
                return Err(no_repository);
            }
        }
        if !repository_seen && !self.repository_answers().await? {
            return Err(no_repository);
        }
        Err(FetchError::TagNotFound { repository: self.repository.to_string(), tried: tags.to_vec() })
    }

    async fn repository_answers(&mut self) -> Result<bool, FetchError> {
        match self.follow(&self.repository.api_repository()).await? {
            End::Body(response, _) => {
                drain(*response).await;
                Ok(true)
            }
            End::Missing { .. } => Ok(false),
        }
    }

    /// Redirects are followed by hand, so that each hop is judged: the credential and the gate belong to the host of
    /// `start` and to no other.
    async fn follow(&mut self, start: &Url) -> Result<End, FetchError> {
        let mut url = start.clone();
        let mut handed_over = false;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(&url, authority(&url) == authority(start)).await?;
            let status = response.status();
            match status {
                StatusCode::OK => return Ok(End::Body(Box::new(response), url)),
                StatusCode::NOT_FOUND => {
                    drain(response).await;
                    return Ok(End::Missing { handed_over });
                }
                // A renamed repository has moved for good; the way to the archive is always a temporary one.
                StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT => {}
                StatusCode::FOUND | StatusCode::SEE_OTHER | StatusCode::TEMPORARY_REDIRECT => {
                    handed_over = true;
                }
                _ => return Err(self.refusal(&authority(&url), status, None)),
            }
            url = target(&url, response.headers())?;
            drain(response).await;
        }
        Err(FetchError::TooManyRedirects { host: authority(&url) })
    }

    /// One request, at `home` with the credential. An installation token that is refused is replaced once.
    async fn send(&mut self, url: &Url, home: bool) -> Result<Response, FetchError> {
        loop {
            let token = if home { self.token().await? } else { None };
            let response = self.fetcher.transport.get(url, token.as_ref()).await?;
            let outcome = self.judge(url, response).await;
            match (&outcome, self.credential, token) {
                (Err(FetchError::CredentialRefused { .. }), Credential::App(_), Some(refused))
                    if !self.renewed =>
                {
                    self.renewed = true;
                    self.fetcher.tokens.discard(&self.account, &refused).await;
                }
                _ => return outcome,
            }
        }
    }

    /// Passes on what leads further (below 400, and 404); everything else becomes an error.
    async fn judge(&self, url: &Url, response: Response) -> Result<Response, FetchError> {
        let (host, status) = (authority(url), response.status());
        if status.as_u16() < 400 || status == StatusCode::NOT_FOUND {
            self.observe(&host, status, response.headers(), None)?;
            return Ok(response);
        }
        let headers = response.headers().clone();
        let message = explanation(&bounded_body(response).await);
        self.observe(&host, status, &headers, message.as_deref())?;
        Err(self.refusal(&host, status, message))
    }

    fn refusal(&self, host: &str, status: StatusCode, message: Option<String>) -> FetchError {
        let message = message.unwrap_or_else(|| "no reason given".to_owned());
        let (host, code) = (host.to_owned(), status.as_u16());
        let credential = match self.credential {
            Credential::Anonymous => None,
            Credential::Token(_) => Some("the personal access token (githubToken)"),
            Credential::App(_) => Some("the GitHub App's installation token"),
        };
        match (code, credential) {
            (401, Some(credential)) if host == self.account.host => {
                let what = format!("{host} does not accept {credential}: {message}");
                FetchError::CredentialRefused { status: code, what }
            }
            (401 | 403 | 451, _) => FetchError::Forbidden { host, status: code, message },
            (500..=599, _) => FetchError::Server { host, status: code },
            _ => FetchError::Unexpected { host, status: code },
        }
    }

    /// The bearer token for the account's own host, if its gate is open.
    async fn token(&self) -> Result<Option<SecretString>, FetchError> {
        self.pass_gate()?;
        match self.credential {
            Credential::Anonymous => Ok(None),
            Credential::Token(token) => Ok(Some(token.clone())),
            Credential::App(app) => {
                let token = self.fetcher.tokens.get(&self.account, || self.mint(app)).await?;
                // While this one waited for the token, another's answer may have closed the gate.
                self.pass_gate()?;
                Ok(Some(token))
            }
        }
    }

    async fn mint(&self, app: &AppKey) -> Result<Minted, FetchError> {
        #[derive(Deserialize)]
        struct Grant {
            token: String,
            expires_at: Timestamp,
        }
        self.pass_gate()?;
        let host = &self.account.host;
        let response = self.fetcher.transport.mint(self.repository.api(), app).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = bounded_body(response).await;
        let message = explanation(&body);
        self.observe(host, status, &headers, message.as_deref())?;
        match status.as_u16() {
            201 => {
                let unreadable = |_| FetchError::Unexpected { host: host.clone(), status: 201 };
                let Grant { token, expires_at } = serde_json::from_slice(&body).map_err(unreadable)?;
                Ok(Minted { token: token.into(), expires_at })
            }
            code @ (401 | 403 | 404) => {
                let (app, installation) = (app.app_id(), app.installation_id());
                let message = message.unwrap_or_else(|| "no reason given".to_owned());
                let what =
                    format!("{host} gives no token for installation {installation} of App {app}: {message}");
                Err(FetchError::CredentialRefused { status: code, what })
            }
            _ => Err(self.refusal(host, status, message)),
        }
    }

    fn pass_gate(&self) -> Result<(), FetchError> {
        self.fetcher.gates.check(&self.account, Timestamp::now()).map_err(|limit| self.limited(limit))
    }

    fn observe(
        &self,
        host: &str,
        status: StatusCode,
        headers: &HeaderMap,
        message: Option<&str>,
    ) -> Result<(), FetchError> {
        let answer = (status, headers);
        match self.fetcher.gates.observe(&self.account, answer, message, Timestamp::now()) {
            None => Ok(()),
            Some(Limit { until, secondary }) => {
                Err(FetchError::RateLimited { host: host.to_owned(), until, secondary })
            }
        }
    }

    fn limited(&self, Limit { until, secondary }: Limit) -> FetchError {
        FetchError::RateLimited { host: self.account.host.clone(), until, secondary }
    }
}

/// Where a redirect leads, if it may be followed.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, FetchError> {
    let bad = |why| FetchError::BadRedirect { host: authority(from), why };
    let location = headers.get(LOCATION).ok_or(bad("nowhere"))?;
    let location = location.to_str().map_err(|_| bad("something that is no address"))?;
    let url = from.join(location).map_err(|_| bad("something that is no address"))?;
    if url.scheme() != "https" {
        return Err(bad("an address without TLS"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("an address with a user name in it"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
