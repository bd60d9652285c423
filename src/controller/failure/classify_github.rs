//! Reasons of failed fetches from GitHub.

use super::{Class, Failure, Reason};
use crate::github::FetchError;

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        use FetchError as E;
        let failure = |reason| Self::new(reason, error.to_string());
        match &error {
            E::HostNotAllowed { .. } => failure(Reason::HostNotAllowed),
            E::RepositoryNotFound { .. } => failure(Reason::RepositoryNotFound),
            E::TagNotFound { .. } => failure(Reason::TagNotFound),
            E::CredentialRefused { .. } => failure(Reason::CredentialsRefused),
            E::Forbidden { .. } => failure(Reason::AccessForbidden),
            // Other repositories with the same credential do not wait.
            E::Blocked { until, repository: Some(_), .. } => {
                Self { class: Class::RetryAfter(*until), ..failure(Reason::RateLimited) }
            }
            E::RateLimited { until, .. } | E::Blocked { until, .. } => {
                Self { class: Class::Wait(*until), ..failure(Reason::RateLimited) }
            }
            E::TokenNotReady { .. } | E::TokenDoubted { .. } => failure(Reason::TokenNotReady),
            E::Busy { until, .. } => {
                Self { class: Class::RetryAfter(*until), ..failure(Reason::GitHubUnavailable) }
            }
            E::Server { .. } | E::Network { .. } => failure(Reason::GitHubUnavailable),
            E::Unexpected { .. }
            | E::TooManyRedirects { .. }
            | E::BadRedirect { .. }
            | E::TokenRedirected { .. }
            | E::ClocksDiffer { .. }
            | E::WebPage { .. } => failure(Reason::UnexpectedAnswer),
            E::Truncated { .. } => failure(Reason::DownloadIncomplete),
            E::TooLarge { .. } => failure(Reason::ArchiveTooLarge),
            E::Spool { .. } => failure(Reason::SpoolFailed),
        }
    }
}
