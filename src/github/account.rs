//! One fetch and its credential: authorization of its requests, their rate limits, and the meaning of a rejection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    client::Client,
    credential::{Account, AppKey, Credential},
    error::{FetchError, advice_on_page},
    limit_times::{Now, server_time},
    rate_limit::{Answer, LimitKind, RateLimit, Rejection},
    redaction::explanation,
    redirect::{host_named, is_page},
    token::{Grant, Minted},
    transport::{Scope, Transport, bounded_body},
};
use crate::domain::Repository;
use crate::domain::repository::authority;

/// One fetch. All its requests use one credential, within the limits of that credential.
pub(super) struct Session<'a, T> {
    pub(super) client: &'a Client<T>,
    pub(super) repository: &'a Repository,
    credential: &'a Credential,
    pub(super) account: Account,
    /// The repository as a key of rate limits: GitHub's names ignore case.
    pub(super) key: String,
    /// Whether a revoked installation token has been replaced.
    pub(super) renewed: bool,
}

pub(super) enum Authorization {
    None,
    Personal(SecretString),
    App(Arc<Grant>),
}

impl Authorization {
    pub(super) fn token(&self) -> Option<&SecretString> {
        match self {
            Self::None => None,
            Self::Personal(token) => Some(token),
            Self::App(grant) => Some(&grant.token),
        }
    }
}

/// GitHub's answer to a request for a token.
struct Minting {
    status: StatusCode,
    /// GitHub's clock.
    time: Option<Timestamp>,
    body: Vec<u8>,
    message: Option<String>,
}

impl<'a, T: Transport> Session<'a, T> {
    pub(super) fn new(client: &'a Client<T>, repository: &'a Repository, credential: &'a Credential) -> Self {
        let host = match credential {
            Credential::Anonymous => repository.host(),
            Credential::Token(_) | Credential::App(_) => authority(repository.api()),
        };
        let account = Account { host, identity: credential.identity() };
        let key = repository.to_string().to_ascii_lowercase();
        Self { client, repository, credential, account, key, renewed: false }
    }

    pub(super) fn authenticated(&self) -> bool {
        !matches!(self.credential, Credential::Anonymous)
    }

    pub(super) fn no_repository(&self) -> FetchError {
        let authenticated = self.authenticated();
        FetchError::RepositoryNotFound { repository: self.repository.to_string(), authenticated }
    }

    /// The authorization for the account's own host; an error during a rate limit.
    pub(super) async fn authorization(&self) -> Result<Authorization, FetchError> {
        self.check(&self.account)?;
        match self.credential {
            Credential::Anonymous => Ok(Authorization::None),
            Credential::Token(token) => Ok(Authorization::Personal(token.clone())),
            Credential::App(app) => {
                let minted = self.client.tokens.get(&self.account, || self.mint(app)).await;
                let grant = minted.map_err(|error| self.note_refusal(error))?;
                // While this request waited for the token, GitHub may have limited another one.
                self.check(&self.account)?;
                Ok(Authorization::App(grant))
            }
        }
    }

    /// Notes a rejection of the whole credential, if `error` is one, for others that use it. Returns the error to report.
    pub(super) fn note_refusal(&self, error: FetchError) -> FetchError {
        self.client.refusals.record(&self.account, error, Instant::now())
    }

    /// Requests a token that can only read contents. If GitHub cannot create one (422: the App lacks that permission, or
    /// has too many repositories for a narrowed token), requests one with all permissions of the App.
    async fn mint(&self, app: &AppKey) -> Result<Minted, FetchError> {
        #[derive(Deserialize)]
        struct Granted {
            token: String,
            expires_at: Timestamp,
            permissions: Option<serde_json::Value>,
        }
        let host = &self.account.host;
        let mut minting = self.ask_for_token(app, Scope::ReadContents).await?;
        let is_narrow = minting.status != StatusCode::UNPROCESSABLE_ENTITY;
        if !is_narrow {
            minting = self.ask_for_token(app, Scope::Everything).await?;
        }
        let Minting { status, time, body, message } = minting;
        match (status.as_u16(), message) {
            (201, _) => {
                let unreadable =
                    |_| FetchError::Unexpected { host: host.clone(), status: 201, message: None };
                let Granted { token, expires_at, permissions } =
                    serde_json::from_slice(&body).map_err(unreadable)?;
                let received = time.unwrap_or_else(Timestamp::now);
                let lifetime = Duration::try_from(expires_at.duration_since(received)).unwrap_or_default();
                let reads_contents = permissions.is_some_and(|given| given.get("contents").is_some());
                Ok(Minted { token: token.into(), lifetime, lacks_contents: !is_narrow && !reads_contents })
            }
            (401, Some(message)) if ["('iat')", "('exp')"].iter().any(|claim| message.contains(claim)) => {
                let difference = time.map(|time| time.duration_since(Timestamp::now()).unsigned_abs());
                let seconds = difference.map(|difference| difference.as_secs());
                Err(FetchError::ClocksDiffer { host: host.clone(), seconds, message })
            }
            (code @ (401 | 403 | 404 | 422), Some(message)) => {
                let (app, installation) = (app.app_id, app.installation_id);
                let what = format!(
                    "{host} does not create a token for installation {installation} of App {app}: {message}"
                );
                Err(FetchError::CredentialRefused { status: code, what })
            }
            (_, message) => Err(self.refusal(host, status, message)),
        }
    }

    /// GitHub counts these requests for the App, and requests with its tokens for the installation.
    async fn ask_for_token(&self, app: &AppKey, scope: Scope) -> Result<Minting, FetchError> {
        let account = Account { host: self.account.host.clone(), identity: app.itself() };
        self.check(&account)?;
        let api = self.repository.api();
        let sent = Instant::now();
        let response = self.client.transport.mint(api, app, scope).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let (host, to) = (account.host, host_named(api, &headers));
            return Err(FetchError::TokenRedirected { host, status: status.as_u16(), to });
        }
        let body = bounded_body(response).await;
        let message = explanation(&body, None);
        let time = server_time(&headers);
        let answer =
            Answer { status, headers: &headers, message: message.as_deref(), authorized: true, sent };
        self.record(&account, &account.host, answer)?;
        if is_page(&headers) && !status.is_server_error() {
            return Err(FetchError::WebPage { host: account.host });
        }
        Ok(Minting { status, time, body, message })
    }

    /// Records an answer of `host`; an error if it is a rate limit.
    pub(super) fn record(&self, account: &Account, host: &str, answer: Answer<'_>) -> Result<(), FetchError> {
        let recorded = self.client.rate_limits.observe(account, &self.key, answer, Now::read());
        recorded.map_err(|rejection| match rejection {
            Rejection::RateLimit(limit) => self.limited(host, limit),
            Rejection::PageAgain => {
                let message = format!(
                    "the answer for {} is a web page again, while other repositories are available; {}",
                    self.repository,
                    advice_on_page(self.authenticated())
                );
                FetchError::Forbidden { host: host.to_owned(), status: 403, message }
            }
        })
    }

    /// Fails during a limit that applies to a request to which GitHub has redirected. A quota that is used up does not: such
    /// requests do not count for it.
    pub(super) fn check_redirected(&self) -> Result<(), FetchError> {
        self.check(&self.account).or_else(|error| match error {
            FetchError::RateLimited { secondary: false, .. } => Ok(()),
            error => Err(error),
        })
    }

    fn check(&self, account: &Account) -> Result<(), FetchError> {
        let checked = self.client.rate_limits.check(account, &self.key, Now::read());
        checked.map_err(|limit| self.limited(&account.host, limit))
    }

    fn limited(&self, host: &str, RateLimit { until, kind }: RateLimit) -> FetchError {
        let (host, secondary) = (host.to_owned(), kind == LimitKind::Secondary);
        let authenticated = self.authenticated();
        let repository = (kind == LimitKind::RepositoryPage).then(|| self.repository.to_string());
        match kind {
            LimitKind::Primary | LimitKind::Secondary => FetchError::RateLimited { host, until, secondary },
            LimitKind::Pages | LimitKind::RepositoryPage => {
                FetchError::Blocked { host, until, repository, authenticated }
            }
        }
    }

    /// The error for a status that is not good. A 404 has another meaning if it is explained.
    pub(super) fn refusal(&self, host: &str, status: StatusCode, message: Option<String>) -> FetchError {
        let (host, code) = (host.to_owned(), status.as_u16());
        if status.is_server_error() {
            return FetchError::Server { host, status: code, message };
        }
        // GitHub's API explains each rejection. A gateway or load balancer under its name does not.
        let is_unexplained = message.is_none() && self.authenticated() && host == self.account.host;
        if is_unexplained || !matches!(code, 401 | 403 | 451) {
            return FetchError::Unexpected { host, status: code, message };
        }
        let message = message.unwrap_or_else(|| "no reason given".to_owned());
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
            // A site in private mode requires a login.
            (401, None) if host == self.repository.host() => self.no_repository(),
            _ => FetchError::Forbidden { host, status: code, message },
        }
    }
}
