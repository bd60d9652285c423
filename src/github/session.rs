//! The requests of one fetch: which host receives the credential, which redirects are followed, and the meaning of each answer.
//! [`Session`] itself is in `account`.

use std::time::Instant;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use reqwest::Response;
use secrecy::SecretString;
use url::Url;

use super::{
    account::{Authorization, Session},
    error::FetchError,
    limit_times::{LONGEST_WAIT, Times},
    rate_limit::Answer,
    redaction::{explanation, plain_text},
    redirect::{is_foreign, is_page, serves_archives, target},
    token::TokenRejection,
    transport::{Transport, bounded_body, drain},
};
use crate::domain::repository::authority;
use crate::domain::time::whole_second_after;

const MOST_REDIRECTS: usize = 5;

/// End of a chain of redirects.
pub(super) enum End {
    Body { response: Box<Response>, served_by: Url, moved: Option<Url> },
    Missing(Missing),
}

/// Meaning of a 404.
#[derive(Clone, Copy)]
pub(super) struct Missing {
    /// Whether the host that serves archives sent it. Then the tag does not exist; otherwise the repository does not or,
    /// with a credential, either of them.
    pub(super) handed_over: bool,
    pub(super) doubt: Doubt,
}

/// Whether a new token, which not all of GitHub's servers accept yet, may be the cause of a 404.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    /// The token is new, but has worked for this repository.
    New,
    /// The token is new, and has not worked for this repository yet.
    Unproven,
}

impl<T: Transport> Session<'_, T> {
    /// The error for a web page instead of an answer. For an anonymous request, a login page of the repository's own host
    /// means that the repository is not public.
    async fn login(&self, url: &Url, response: Response) -> FetchError {
        drain(response).await;
        if self.authenticated() || is_foreign(self.repository, url) {
            FetchError::WebPage { host: authority(url) }
        } else {
            self.no_repository()
        }
    }

    /// Follows redirects, and checks each one. Only the host of `start` receives the credential and counts for its limits,
    /// and a chain that has left that host does not return to it with the credential.
    pub(super) async fn follow(&mut self, start: &Url) -> Result<End, FetchError> {
        let mut url = start.clone();
        let (mut at_home, mut temporary, mut moved) = (true, false, None);
        for _ in 0..=MOST_REDIRECTS {
            at_home &= authority(&url) == authority(start);
            let (response, doubt) = self.send(&url, at_home).await?;
            let (page, foreign) =
                (is_page(response.headers()) && !serves_archives(&url), is_foreign(self.repository, &url));
            let at_api = at_home && self.authenticated() && !serves_archives(&url);
            let status = response.status();
            match status {
                StatusCode::OK if page => return Err(self.login(&url, response).await),
                // A gateway's page. GitHub's API sends none, and its site's pages for missing repositories are not foreign.
                StatusCode::NOT_FOUND if page && (foreign || at_api) => {
                    return Err(self.login(&url, response).await);
                }
                StatusCode::OK => {
                    return Ok(End::Body { response: Box::new(response), served_by: url, moved });
                }
                StatusCode::NOT_FOUND => {
                    if !at_api {
                        drain(response).await;
                    } else if explanation(&bounded_body(response).await, None).is_none() {
                        return Err(self.refusal(&authority(&url), status, None));
                    }
                    self.api_of_other_host(&url).map_or(Ok(()), Err)?;
                    let handed_over = serves_archives(&url) || (temporary && foreign);
                    return Ok(End::Missing(Missing { handed_over, doubt }));
                }
                StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT => {}
                StatusCode::FOUND | StatusCode::SEE_OTHER | StatusCode::TEMPORARY_REDIRECT => {
                    temporary = true;
                }
                _ => return Err(self.refusal(&authority(&url), status, None)),
            }
            let next = target(&url, response.headers())?;
            drain(response).await;
            // A site in private mode: the login page may be that of an identity provider.
            if !self.authenticated() && !is_foreign(self.repository, &next) && next.path() == "/login" {
                return Err(self.no_repository());
            }
            // A permanent redirect names the repository's new address; the last one counts.
            if !temporary && !serves_archives(&url) {
                moved = Some(next.clone());
            }
            url = next;
        }
        Err(FetchError::TooManyRedirects { host: authority(&url) })
    }

    /// Sends one request, with the credential if `at_home`. A revoked installation token is replaced once; one that is too
    /// new for its rejection to count is kept for the next attempt.
    async fn send(&mut self, url: &Url, at_home: bool) -> Result<(Response, Doubt), FetchError> {
        let repository = self.repository.to_string();
        loop {
            let by = if at_home { self.authorization().await? } else { Authorization::None };
            if !at_home && !is_foreign(self.repository, url) {
                self.check_redirected()?;
            }
            let sent = Instant::now();
            let response = self.client.transport.get(url, by.token()).await?;
            let outcome = self.judge(url, response, by.token(), sent).await;
            let certain = |response| (response, Doubt::None);
            let grant = match by {
                Authorization::None => return outcome.map(certain),
                Authorization::Personal(_) => {
                    return outcome.map(certain).map_err(|error| self.note_refusal(error));
                }
                // An installation's token may be rejected for one repository alone.
                Authorization::App(grant) => grant,
            };
            let error = match outcome {
                Ok(response) if response.status() != StatusCode::NOT_FOUND => {
                    grant.worked_for(&repository);
                    return Ok((response, Doubt::None));
                }
                Ok(response) => {
                    let doubt = match (self.client.tokens.is_new(&grant), grant.works_for(&repository)) {
                        (false, _) => Doubt::None,
                        (true, true) => Doubt::New,
                        (true, false) => Doubt::Unproven,
                    };
                    return Ok((response, doubt));
                }
                Err(error) => error,
            };
            let Some((status, what)) = error.refuses_token() else { return Err(error) };
            match self.client.tokens.refused(&self.account, &grant, status).await {
                TokenRejection::TooNew => return Err(FetchError::TokenNotReady { status, what }),
                TokenRejection::Replace if !self.renewed => self.renewed = true,
                TokenRejection::Replace | TokenRejection::Counts => return Err(error),
            }
        }
    }

    /// Returns an answer that leads further (below 400, and 404); every other status is an error.
    async fn judge(
        &self,
        url: &Url,
        response: Response,
        token: Option<&SecretString>,
        sent: Instant,
    ) -> Result<Response, FetchError> {
        let (host, status, authorized) = (authority(url), response.status(), token.is_some());
        // The answer of another host does not concern GitHub's limits.
        let is_foreign = is_foreign(self.repository, url);
        if status.as_u16() < 400 || status == StatusCode::NOT_FOUND {
            if !is_foreign {
                let answer = Answer { status, headers: response.headers(), message: None, authorized, sent };
                self.record(&self.account, &host, answer)?;
            }
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = bounded_body(response).await;
        let message = explanation(&body, token);
        if is_foreign {
            return Err(self.foreign_refusal(url, status, &headers, message));
        }
        let answer = Answer { status, headers: &headers, message: message.as_deref(), authorized, sent };
        self.record(&self.account, &host, answer)?;
        let (page, archives) = (is_page(&headers), serves_archives(url));
        // That host explains in plain text.
        let message = message.or_else(|| plain_text(&body, token).filter(|_| archives && !page));
        if archives && matches!(status, StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT) {
            // Under load, GitHub rejects valid requests, and may do so again on the same connection.
            self.client.transport.forget_connections();
            return Err(FetchError::Server { host, status: status.as_u16(), message });
        }
        if authorized && page && status.is_client_error() {
            return Err(FetchError::WebPage { host });
        }
        Err(self.refusal(&host, status, message))
    }

    /// The error for a status above 400 of a host that is not GitHub's.
    fn foreign_refusal(
        &self,
        url: &Url,
        code: StatusCode,
        headers: &HeaderMap,
        message: Option<String>,
    ) -> FetchError {
        let (host, now, status) = (authority(url), Timestamp::now(), code.as_u16());
        let is_passing = code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error();
        match Times::read(headers, now).retry_after.filter(|_| is_passing) {
            Some(wait) => {
                let until = now.checked_add(wait.min(LONGEST_WAIT)).unwrap_or(now);
                FetchError::Busy { host, status, until: whole_second_after(until) }
            }
            None if is_passing => FetchError::Server { host, status, message },
            None if is_page(headers) => FetchError::WebPage { host },
            None => self.api_of_other_host(url).unwrap_or_else(|| self.refusal(&host, code, message)),
        }
    }

    /// The error for a rejection by the API of another host, to which the repository's own API has redirected.
    fn api_of_other_host(&self, url: &Url) -> Option<FetchError> {
        let to = authority(url);
        let is_api = to.starts_with("api.") || url.path().starts_with("/api/v3/");
        let site = to.strip_prefix("api.").unwrap_or(&to);
        let why = format!(
            "to {to}, which does not get the credential: write https://{site} in repoUrl, and start the operator with \
             --github-host {site}"
        );
        let is_other = self.authenticated() && is_foreign(self.repository, url) && is_api;
        is_other.then(|| FetchError::BadRedirect { host: self.account.host.clone(), why })
    }
}
