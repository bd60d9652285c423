//! In whose name requests are sent. In come a credential and GitHub's answers; out comes what a request is sent with, or
//! that it has to wait, and what a refusal means. An App's installation token is asked for here. It does not know what
//! the requests are for.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    client::Client,
    credential::{Account, AppKey, Credential},
    error::{FetchError, explanation},
    rate_limit::{Answer, LimitKind, RateLimit},
    redirect::{host_named, is_page},
    token::{Grant, Minted},
    transport::{Scope, Transport, bounded_body},
};
use crate::domain::Repository;
use crate::domain::repository::authority;

/// Who asks, and whose limits are obeyed.
pub(super) struct Requester<'a, T> {
    client: &'a Client<T>,
    repository: &'a Repository,
    credential: &'a Credential,
    account: Account,
}

/// What a request is sent with.
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
    body: Vec<u8>,
    message: Option<String>,
}

impl<'a, T: Transport> Requester<'a, T> {
    pub(super) fn new(client: &'a Client<T>, repository: &'a Repository, credential: &'a Credential) -> Self {
        let host = match credential {
            Credential::Anonymous => repository.host(),
            Credential::Token(_) | Credential::App(_) => authority(repository.api()),
        };
        let account = Account { host, identity: credential.identity() };
        Self { client, repository, credential, account }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn authenticated(&self) -> bool {
        !matches!(self.credential, Credential::Anonymous)
    }

    /// What the account's own host is sent, if the account's gate is open.
    pub(super) async fn authorization(&self) -> Result<Authorization, FetchError> {
        self.pass(&self.account)?;
        match self.credential {
            Credential::Anonymous => Ok(Authorization::None),
            Credential::Token(token) => Ok(Authorization::Personal(token.clone())),
            Credential::App(app) => {
                let grant = self.client.tokens.get(&self.account, || self.mint(app)).await?;
                // While this one waited for the token, another's answer may have closed the gate.
                self.pass(&self.account)?;
                Ok(Authorization::App(grant))
            }
        }
    }

    /// Asks for a token that can read contents and nothing else. Where GitHub cannot make that (422: the App was not
    /// granted it, or there are too many repositories for a narrowed token), for one that can do what the App can.
    async fn mint(&self, app: &AppKey) -> Result<Minted, FetchError> {
        #[derive(Deserialize)]
        struct Granted {
            token: String,
            expires_at: Timestamp,
        }
        let host = &self.account.host;
        let mut minting = self.ask_for_token(app, Scope::ReadContents).await?;
        if minting.status == StatusCode::UNPROCESSABLE_ENTITY {
            minting = self.ask_for_token(app, Scope::Everything).await?;
        }
        let Minting { status, body, message } = minting;
        match status.as_u16() {
            201 => {
                let unreadable = |_| FetchError::Unexpected { host: host.clone(), status: 201 };
                let Granted { token, expires_at } = serde_json::from_slice(&body).map_err(unreadable)?;
                Ok(Minted { token: token.into(), expires_at })
            }
            code @ (401 | 403 | 404 | 422) => {
                let (app, installation) = (app.app_id(), app.installation_id());
                let message = message.unwrap_or_else(|| "no reason given".to_owned());
                // GitHub takes no signature from the future.
                let clock = if message.contains("claim") { " (is the operator's clock right?)" } else { "" };
                let what = format!(
                    "{host} gives no token for installation {installation} of App {app}: {message}{clock}"
                );
                Err(FetchError::CredentialRefused { status: code, what })
            }
            _ => Err(self.refusal(host, status, message)),
        }
    }

    /// GitHub counts these requests for the App, and what its tokens are used for for the installation.
    async fn ask_for_token(&self, app: &AppKey, scope: Scope) -> Result<Minting, FetchError> {
        let account = Account { host: self.account.host.clone(), identity: app.itself() };
        self.pass(&account)?;
        let api = self.repository.api();
        let response = self.client.transport.mint(api, app, scope).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let (host, to) = (account.host, host_named(api, &headers));
            return Err(FetchError::TokenRedirected { host, status: status.as_u16(), to });
        }
        if status == StatusCode::OK && is_page(&headers) {
            return Err(FetchError::WebPage { host: account.host });
        }
        let body = bounded_body(response).await;
        let message = explanation(&body);
        let answer = Answer { status, headers: &headers, message: message.as_deref(), authorized: true };
        self.take_note(&account, &account.host, answer)?;
        Ok(Minting { status, body, message })
    }

    /// Takes note of an answer of `host`; an error where it is an order to wait.
    pub(super) fn observe(&self, host: &str, answer: Answer<'_>) -> Result<(), FetchError> {
        self.take_note(&self.account, host, answer)
    }

    fn take_note(&self, account: &Account, host: &str, answer: Answer<'_>) -> Result<(), FetchError> {
        let limit = self.client.rate_limits.observe(account, answer, Timestamp::now());
        limit.map_or(Ok(()), |limit| Err(limited(host, limit)))
    }

    fn pass(&self, account: &Account) -> Result<(), FetchError> {
        let passed = self.client.rate_limits.check(account, Timestamp::now());
        passed.map_err(|limit| limited(&account.host, limit))
    }

    /// What a status means that is neither good nor a 404.
    pub(super) fn refusal(&self, host: &str, status: StatusCode, message: Option<String>) -> FetchError {
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
            // Whoever has not signed in is asked to.
            (401, None) => FetchError::RepositoryNotFound {
                repository: self.repository.to_string(),
                authenticated: false,
            },
            (401 | 403 | 451, _) => FetchError::Forbidden { host, status: code, message },
            (500..=599, _) => FetchError::Server { host, status: code },
            _ => FetchError::Unexpected { host, status: code },
        }
    }
}

fn limited(host: &str, RateLimit { until, kind }: RateLimit) -> FetchError {
    let host = host.to_owned();
    match kind {
        LimitKind::Page => FetchError::Blocked { host, until },
        LimitKind::Primary | LimitKind::Secondary => {
            FetchError::RateLimited { host, until, secondary: kind == LimitKind::Secondary }
        }
    }
}
