//! What can go wrong while an archive is fetched, told apart so that a caller can decide between waiting, repeating and
//! asking a person. In come statuses, bodies and transport errors; out come [`FetchError`]s. No message may carry a
//! query string, a token or a key.

use std::{error::Error, io, sync::Arc};

use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{notice::RateLimitNotice, redaction::redacted};
use crate::domain::repository::authority;

/// GitHub's own explanation is passed on up to this many characters.
const LONGEST_MESSAGE: usize = 200;

/// Why no archive was fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The repository's host is neither github.com nor one of the allowed ones; nothing was sent.
    #[error("host {host} is not allowed: start the operator with --github-host {host} to allow it")]
    HostNotAllowed {
        /// Host, and port if any.
        host: String,
    },
    /// No such repository, or none that this credential can see: GitHub answers both alike.
    #[error("repository {repository} {}", invisible(*authenticated))]
    RepositoryNotFound {
        /// Its address.
        repository: String,
        /// Whether a credential was sent.
        authenticated: bool,
    },
    /// The repository is there, the tag is not.
    #[error("repository {repository} has no tag {}: push the tag, or correct the version", tried.join(" or "))]
    TagNotFound {
        /// Its address.
        repository: String,
        /// The tags that were asked for, in that order.
        tried: Vec<String>,
    },
    /// GitHub does not accept the token, or grants none to the App.
    #[error(
        "GitHub refused the credential (HTTP {status}): {what}; check the Secret, and that the App is installed or the token valid"
    )]
    CredentialRefused {
        /// The HTTP status.
        status: u16,
        /// Which credential, and what GitHub said about it.
        what: String,
    },
    /// The credential is good but may not do this (single sign-on, address allow list, missing permission).
    #[error("{host} forbids the access (HTTP {status}): {message}")]
    Forbidden {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// GitHub's explanation, shortened.
        message: String,
    },
    /// GitHub asked to wait. Until then nothing is sent with the same credential.
    #[error("{} ({} rate limit)", notice(host, *until), if *secondary { "secondary" } else { "primary" })]
    RateLimited {
        /// Who asked.
        host: String,
        /// When the next request may be sent.
        until: Timestamp,
        /// A limit on bursts rather than the hourly quota.
        secondary: bool,
    },
    /// The site answered an anonymous request with a web page, where GitHub's API explains itself in JSON. Until then no
    /// anonymous request is sent for this repository, or, without one, for any.
    #[error(
        "{} (HTTP 403 with a web page{}): if it stays, set githubClientConfig.useAuthenticatedClient, or check the proxy",
        notice(host, *until),
        blocked(repository.as_deref())
    )]
    Blocked { host: String, until: Timestamp, repository: Option<String> },
    /// A token that GitHub gave less than a minute ago is refused: not all of GitHub knows it yet.
    #[error(
        "{what} (HTTP {status}); the token is new and may take a minute to be known everywhere at GitHub: the same one is \
         tried again"
    )]
    TokenNotReady {
        /// The HTTP status.
        status: u16,
        /// Who refused what.
        what: String,
    },
    /// The request for an installation token was redirected. It carries the App's signature, and is not repeated
    /// elsewhere.
    #[error(
        "{host} redirected the request for an installation token (HTTP {status}) to {to}: it is not followed, since the \
         App's signature is for {host} alone; check that repoUrl names the host that answers, and what stands before it"
    )]
    TokenRedirected {
        /// Who redirected.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The host that it names.
        to: String,
    },
    /// A web page came where GitHub's API or an archive should answer: a gateway's login, most often.
    #[error(
        "{host} answered with a web page, such as a login page, and not with an archive: check repoUrl, and that no \
         gateway or proxy asks the operator to sign in"
    )]
    WebPage {
        /// Who answered.
        host: String,
    },
    /// GitHub failed (5xx).
    #[error("{host} failed with HTTP {status}")]
    Server {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// A status that means nothing here.
    #[error("{host} answered HTTP {status}, which means nothing for an archive")]
    Unexpected {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer: name resolution, connection, TLS, a time limit.
    #[error("{what}")]
    Network {
        /// What was asked for, and what went wrong.
        what: String,
    },
    /// The archive ended before its end.
    #[error("the archive from {host} ended early, after {received} bytes")]
    Truncated {
        /// Who sent it.
        host: String,
        /// Bytes that came.
        received: u64,
    },
    /// The archive is larger than allowed.
    #[error("the archive is larger than {limit} bytes: raise --max-archive-size to allow it")]
    TooLarge {
        /// The limit in bytes; an archive of exactly this size is allowed.
        limit: u64,
    },
    /// More redirects than GitHub ever needs.
    #[error("{host} redirected too often")]
    TooManyRedirects {
        /// Who sent the last one.
        host: String,
    },
    /// A redirect that must not be followed.
    #[error("{host} redirected to {why}")]
    BadRedirect {
        /// Who sent it.
        host: String,
        /// What is wrong with the target.
        why: &'static str,
    },
    /// The archive cannot be written to disk.
    #[error("cannot write the archive to disk: {source}; free room on the volume of --spool-dir")]
    Spool {
        /// The system's reason.
        #[source]
        source: Arc<io::Error>,
    },
}

fn notice(host: &str, until: Timestamp) -> RateLimitNotice {
    RateLimitNotice { host: host.to_owned(), until }
}

fn blocked(repository: Option<&str>) -> String {
    match repository {
        Some(repository) => format!(" for {repository}"),
        None => " for several repositories, as after too many requests from one address".to_owned(),
    }
}

fn invisible(authenticated: bool) -> &'static str {
    if authenticated {
        "does not exist, or the credential has no access to it: check repoUrl, and the App's installation or the token"
    } else {
        "does not exist or is private: check repoUrl, or set githubClientConfig.useAuthenticatedClient"
    }
}

impl FetchError {
    /// The status and the explanation of an answer that may be about the installation token that was sent.
    pub(super) fn refuses_token(&self) -> Option<(u16, String)> {
        match self {
            Self::CredentialRefused { status, what } => Some((*status, what.clone())),
            Self::Forbidden { host, status: 403, message } => {
                Some((403, format!("{host} forbids the access: {message}")))
            }
            _ => None,
        }
    }

    /// `error` came instead of an answer to `url`.
    pub(super) fn network(url: &Url, error: &(dyn Error + 'static)) -> Self {
        Self::Network { what: format!("no answer from {}: {}", without_query(url), reason(error)) }
    }

    /// `error` came in the middle of the archive from `url`.
    pub(super) fn broken_body(url: &Url, received: u64, error: &(dyn Error + 'static)) -> Self {
        if chain(error).any(ends_early) {
            return Self::Truncated { host: authority(url), received };
        }
        let what = format!("{} broke off after {received} bytes: {}", without_query(url), reason(error));
        Self::Network { what }
    }
}

/// Whether the sender gave up: HTTP/1 shows that as an early end, HTTP/2 as a stream that is reset (or, where the whole
/// connection went, as a broken pipe).
fn ends_early(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let gone =
            |e: &io::Error| matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe);
        return error.reason().is_some() || error.get_io().is_some_and(gone);
    }
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
}

/// Queries of archive links are tokens.
pub(super) fn without_query(url: &Url) -> String {
    format!("https://{}{}", authority(url), url.path())
}

/// GitHub's explanation in an error body, without control characters and secrets. `sent` is the request's token.
pub(super) fn explanation(body: &[u8], sent: Option<&SecretString>) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        message: String,
    }
    let Body { message } = serde_json::from_slice(body).ok()?;
    let message: String = message.chars().filter(|c| !c.is_control()).collect();
    let short: String = redacted(&message, sent).chars().take(LONGEST_MESSAGE).collect();
    Some(short.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The innermost cause: the outer ones print the whole URL, with its query.
fn reason(error: &(dyn Error + 'static)) -> String {
    let transport = || chain(error).filter_map(|e| e.downcast_ref::<reqwest::Error>());
    if transport().any(reqwest::Error::is_timeout) {
        return "timed out".to_owned();
    }
    match chain(error).last() {
        Some(cause) if !cause.is::<reqwest::Error>() => cause.to_string(),
        _ => "the request failed".to_owned(),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_short_and_clean() {
        assert_eq!(
            explanation(br#"{"message":"Bad\u0000 cred\nentials"}"#, None).as_deref(),
            Some("Bad credentials")
        );
        assert_eq!(explanation(b"404: Not Found", None), None);
        assert_eq!(explanation(br#"{"message":" "}"#, None), None);
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(900));
        assert_eq!(explanation(long.as_bytes(), None).map(|text| text.len()), Some(LONGEST_MESSAGE));
        // A token is hidden before the text is cut, also where control characters divide it.
        let late = format!(r#"{{"message":"{} ghp_\u0001{}"}}"#, "x".repeat(190), "y".repeat(36));
        let shown = explanation(late.as_bytes(), None).unwrap();
        assert!(!shown.contains("gh") && !shown.contains('y'), "{shown}");
    }

    #[test]
    fn an_early_end_is_told_from_a_broken_connection() {
        let url = Url::parse("https://codeload.github.com/a/b/zip/v1?token=HIDDEN").unwrap();
        let early = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(matches!(
            FetchError::broken_body(&url, 7, &early),
            FetchError::Truncated { received: 7, .. }
        ));
        for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
            let error = FetchError::broken_body(&url, 7, &h2::Error::from(reason));
            assert!(matches!(error, FetchError::Truncated { received: 7, .. }), "{error}");
        }
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = FetchError::broken_body(&url, 7, &reset);
        assert_eq!(
            error.to_string(),
            "https://codeload.github.com/a/b/zip/v1 broke off after 7 bytes: connection reset"
        );
    }
}
