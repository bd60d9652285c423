//! Errors of a fetch, distinguished by what a caller has to do. No message contains a URL's query, a token or a key.

use std::{error::Error, io, sync::Arc, time::Instant};

use jiff::Timestamp;
use url::Url;

use super::notice::{RateLimitNotice, notice};
use crate::domain::repository::authority;
use crate::domain::text::error_chain;

/// Why no archive was fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The repository's host is neither github.com nor one of the allowed ones; nothing was sent.
    #[error(
        "host {host} is not allowed: only GitHub's repositories are fetched; for GitHub Enterprise, start the operator with \
         --github-host {host}"
    )]
    HostNotAllowed { host: String },
    /// No such repository, or no access with this credential (`authenticated`) or without one: GitHub's answers do not differ.
    #[error("repository {repository} {}", invisible(*authenticated))]
    RepositoryNotFound { repository: String, authenticated: bool },
    /// The repository exists, the tag does not.
    #[error("repository {repository} has no tag {}: push the tag, or correct the version", tried.join(" or "))]
    TagNotFound { repository: String, tried: Vec<String> },
    /// GitHub rejects the token, or creates none for the App.
    #[error(
        "GitHub rejected the credential (HTTP {status}): {what}; check the Secret, and that the App is installed or the token valid"
    )]
    CredentialRefused { status: u16, what: String },
    /// GitHub rejects a personal token that has worked within the last hour, `since` less than a minute.
    #[error(
        "{what} (HTTP {status}); the token worked within the last hour, so the operator retries for a minute"
    )]
    TokenDoubted { status: u16, what: String, since: Instant },
    /// GitHub rejects the App's signature because of the times in it.
    #[error(
        "{host} rejects the App's signature (HTTP 401): {message}; the clocks of the operator's node and of {host} differ{}: \
         correct the one that is wrong",
        by(*seconds)
    )]
    ClocksDiffer { host: String, seconds: Option<u64>, message: String },
    /// The credential is valid, and access is denied (single sign-on, address allow list, missing permission).
    #[error("{host} denies access (HTTP {status}): {message}")]
    Forbidden { host: String, status: u16, message: String },
    /// A limit on the hourly quota or, if `secondary`, on bursts. Until then nothing is sent with the same credential.
    #[error("{} ({} rate limit)", notice(host, *until), if *secondary { "secondary" } else { "primary" })]
    RateLimited { host: String, until: Timestamp, secondary: bool },
    /// The site answered an anonymous request with status 403 and a web page, without an explanation in JSON. Until then no
    /// anonymous request is sent for this repository or, if `None`, for any. `authenticated`: the fetch has a credential, which
    /// the host of archives does not get.
    #[error(
        "{} (HTTP 403 with a web page{}): if this persists, {}",
        notice(host, *until),
        blocked(repository.as_deref()),
        advice_on_page(*authenticated)
    )]
    Blocked { host: String, until: Timestamp, repository: Option<String>, authenticated: bool },
    /// A token that is less than a minute old is rejected: it has not reached all of GitHub's servers.
    #[error(
        "{what} (HTTP {status}); the token is new, and GitHub's servers may need a minute to accept it: the operator retries \
         with the same token"
    )]
    TokenNotReady { status: u16, what: String },
    /// The request for an installation token was redirected. It contains the App's signature, so it is not sent to another
    /// host.
    #[error(
        "{host} redirected the request for an installation token (HTTP {status}) to {to}: the redirect is not followed, since \
         the App's signature is for {host} alone; check that repoUrl names the host that answers, and which proxy is in front \
         of it"
    )]
    TokenRedirected { host: String, status: u16, to: String },
    /// A web page instead of an answer of GitHub's API or an archive, usually the login page of a gateway.
    #[error(
        "{host} answered with a web page, such as a login page, and not with an archive: check repoUrl, and that no \
         gateway or proxy requires a login"
    )]
    WebPage { host: String },
    /// GitHub failed: 5xx, or 400 or 408 of the host that serves archives.
    #[error("{host} failed with HTTP {status}{}", explained(message.as_deref()))]
    Server { host: String, status: u16, message: Option<String> },
    /// A host that is not GitHub's, to which GitHub or a proxy redirected, names a time. It applies to no other fetch.
    #[error("{host} failed with HTTP {status}; its Retry-After header allows no request before {until}")]
    Busy { host: String, status: u16, until: Timestamp },
    #[error(
        "{host} answered HTTP {status}, which is not a valid answer to a request for an archive{}",
        explained(message.as_deref())
    )]
    Unexpected { host: String, status: u16, message: Option<String> },
    /// No answer: name resolution, connection, TLS, a time limit.
    #[error("{what}")]
    Network { what: String },
    /// The connection ended before the archive was complete.
    #[error("the archive from {host} ended early, after {received} bytes")]
    Truncated { host: String, received: u64 },
    /// An archive of exactly `limit` bytes is allowed.
    #[error("the archive is larger than {limit} bytes: raise --max-archive-size to allow it")]
    TooLarge { limit: u64 },
    /// More redirects than GitHub ever needs.
    #[error("{host} redirected too often")]
    TooManyRedirects { host: String },
    #[error("{host} redirected {why}")]
    BadRedirect { host: String, why: String },
    /// The archive cannot be written to disk.
    #[error("cannot write the archive to disk: {source}; free or enlarge the volume of --spool-dir")]
    Spool { source: Arc<io::Error> },
}

fn blocked(repository: Option<&str>) -> String {
    match repository {
        Some(repository) => format!(" for {repository}"),
        None => " for several repositories, as after too many requests from one address".to_owned(),
    }
}

/// What to do about a web page with status 403.
pub(super) fn advice_on_page(authenticated: bool) -> &'static str {
    if authenticated {
        "check the proxy"
    } else {
        "set githubClientConfig.useAuthenticatedClient, or check the proxy"
    }
}

/// The difference of two clocks, if the answer shows the other clock.
fn by(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" by {seconds} s")).unwrap_or_default()
}

/// GitHub's explanation at the end of a message.
fn explained(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}

fn invisible(authenticated: bool) -> &'static str {
    if authenticated {
        "does not exist, or the credential has no access to it: check repoUrl, and the App's installation or the token"
    } else {
        "does not exist or is private: check repoUrl, or set githubClientConfig.useAuthenticatedClient"
    }
}

impl FetchError {
    /// Reads a limit of a whole account, and its end, from a message that starts with it, or was cut within it.
    pub fn read_limit(message: &str) -> Option<(Timestamp, Self)> {
        let RateLimitNotice { host, until } = RateLimitNotice::read(message)?;
        [
            Self::RateLimited { host: host.clone(), until, secondary: true },
            Self::RateLimited { host: host.clone(), until, secondary: false },
            Self::Blocked { host: host.clone(), until, repository: None, authenticated: true },
            Self::Blocked { host, until, repository: None, authenticated: false },
        ]
        .into_iter()
        .find(|error| {
            let text = error.to_string();
            message.starts_with(&text)
                || message.split_once('…').is_some_and(|(kept, _)| text.starts_with(kept))
        })
        .map(|error| (until, error))
    }

    /// The status and the explanation of an answer that may be about the installation token that was sent.
    pub(super) fn refuses_token(&self) -> Option<(u16, String)> {
        match self {
            Self::CredentialRefused { status, what } => Some((*status, what.clone())),
            Self::Forbidden { host, status: 403, message } => {
                Some((403, format!("{host} denies access: {message}")))
            }
            _ => None,
        }
    }

    /// `error` occurred before an answer to `url`.
    pub(super) fn network(url: &Url, error: &(dyn Error + 'static)) -> Self {
        Self::Network { what: format!("no answer from {}: {}", without_query(url), reason(error)) }
    }

    /// `error` occurred in the middle of the archive from `url`.
    pub(super) fn broken_body(url: &Url, received: u64, error: &(dyn Error + 'static)) -> Self {
        if error_chain(error).any(ends_early) {
            return Self::Truncated { host: authority(url), received };
        }
        let url = without_query(url);
        let what = format!("the download from {url} failed after {received} bytes: {}", reason(error));
        Self::Network { what }
    }
}

/// Whether the server ended the body early.
fn ends_early(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

/// A URL for messages. The queries of archive links contain tokens.
pub(super) fn without_query(url: &Url) -> String {
    format!("https://{}{}", authority(url), url.path())
}

/// The innermost cause, because the outer ones contain the whole URL with its query.
fn reason(error: &(dyn Error + 'static)) -> String {
    let transport = || error_chain(error).filter_map(|e| e.downcast_ref::<reqwest::Error>());
    if transport().any(reqwest::Error::is_timeout) {
        return "timed out".to_owned();
    }
    match error_chain(error).last() {
        Some(cause) if !cause.is::<reqwest::Error>() => cause.to_string(),
        _ => "the request failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::text::cut;

    #[test]
    fn a_limit_of_an_account_is_read_back_from_a_message_and_no_other_is() {
        let (host, until) = ("github.com".to_owned(), Timestamp::from_second(1_000_000).unwrap());
        let read = |error: &FetchError| FetchError::read_limit(&format!("{error}. More follows."));
        for error in [
            FetchError::RateLimited { host: host.clone(), until, secondary: true },
            FetchError::RateLimited { host: host.clone(), until, secondary: false },
            FetchError::Blocked { host: host.clone(), until, repository: None, authenticated: true },
            FetchError::Blocked { host: host.clone(), until, repository: None, authenticated: false },
        ] {
            let (end, limit) = read(&error).unwrap();
            assert_eq!((end, limit.to_string()), (until, error.to_string()));
        }
        let blocked = |host: &str, repository| FetchError::Blocked {
            host: host.into(),
            until,
            repository,
            authenticated: false,
        };
        // The watch cache keeps the beginning of a message, and its end.
        let read_cut = |error: &FetchError| FetchError::read_limit(&cut(&error.to_string(), 200));
        let long = blocked("codeload.github.com", None);
        let (end, limit) = read_cut(&long).unwrap();
        assert_eq!((end, limit.to_string()), (until, long.to_string()));
        let of_repository = blocked(&host, Some("https://github.com/a/b".to_owned()));
        assert!(read(&of_repository).is_none(), "it applies to that repository alone");
        let long_name = Some(format!("https://github.com/a/{}", "b".repeat(90)));
        assert!(read_cut(&blocked("codeload.github.com", long_name)).is_none());
        assert!(read(&FetchError::Busy { host, status: 503, until }).is_none());
    }

    #[test]
    fn an_early_end_is_told_from_a_broken_connection() {
        let url = Url::parse("https://codeload.github.com/a/b/zip/v1?token=HIDDEN").unwrap();
        let early = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(
            FetchError::broken_body(&url, 7, &early),
            FetchError::Truncated { received: 7, .. }
        ));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = FetchError::broken_body(&url, 7, &reset);
        assert_eq!(
            error.to_string(),
            "the download from https://codeload.github.com/a/b/zip/v1 failed after 7 bytes: connection reset"
        );
    }
}
