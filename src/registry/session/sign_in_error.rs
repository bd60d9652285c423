//! Why a sign-in failed: fixed words, which the page shows. None holds text of a user or of the identity provider.

use http::{Response, StatusCode};

use crate::registry::auth::Denied;
use crate::registry::http::Body;
use crate::registry::http::answer::{error, with_remedy};

/// Why a sign-in failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInError {
    pub status: StatusCode,
    /// The reason phrase.
    pub phrase: &'static str,
    /// What failed, and what to do next.
    pub sentence: String,
    /// Seconds after which another attempt is worthwhile.
    pub retry_after: Option<u32>,
    /// Whether a sign-in at the identity provider counts as a failed token: what the browser brought is wrong. What this registry
    /// or the provider cannot do does not count.
    pub(super) is_failed_token: bool,
}

impl SignInError {
    pub(super) fn new(status: StatusCode, phrase: &'static str, sentence: impl Into<String>) -> Self {
        Self { status, phrase, sentence: sentence.into(), retry_after: None, is_failed_token: false }
    }

    /// The same, which counts as a failed token or not.
    pub(super) fn counted(self, is_failed_token: bool) -> Self {
        Self { is_failed_token, ..self }
    }

    pub(super) fn bad_request(sentence: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad Request", sentence)
    }

    pub(super) fn forbidden(sentence: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", sentence)
    }

    /// The identity provider does not do what it should.
    pub(super) fn provider(sentence: &'static str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "Bad Gateway: identity provider", sentence)
    }

    /// Try again in a moment.
    pub(super) fn later(sentence: &'static str) -> Self {
        let phrase = "Service Unavailable: try again";
        Self { retry_after: Some(2), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, phrase, sentence) }
    }

    pub(super) fn too_long() -> Self {
        Self::bad_request(
            "This token is too long for a cookie, which holds 3 KiB at most: sign in with a token that has fewer groups or claims.",
        )
    }

    /// A token that is refused.
    pub(super) fn denied(denied: Denied) -> Self {
        let phrase = denied.phrase();
        let sentence = format!("You are not signed in: {phrase}.");
        let refused = Self::new(denied.status(), phrase, sentence);
        let refused = Self { retry_after: denied.retry_after(), ..refused };
        refused.counted(matches!(denied, Denied::Unauthenticated(_)))
    }

    /// The answer as plain text, where there is no page.
    pub fn plain(&self) -> Response<Body> {
        with_remedy(error(self.status, self.phrase, format!("{}\n", self.sentence)), self.retry_after)
    }
}
