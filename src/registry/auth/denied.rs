//! Why a request is refused.
//!
//! The texts are fixed and short, since they become reason phrases: `terraform init` prints them. None contains text of a user
//! or of the API server.

use http::StatusCode;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401, with the reason phrase.
    Unauthenticated(&'static str),
    /// 403: the same for what exists and what does not.
    Forbidden,
    /// 429, and seconds until another attempt is worthwhile.
    TooMany { phrase: &'static str, retry_after: u32 },
    /// 503: the API server or an identity provider did not answer. The clients repeat the request once, after so many seconds.
    Unavailable { phrase: &'static str, retry_after: u32 },
}

/// Seconds for which a failed review is not repeated.
pub(super) const REVIEW_PAUSE: u32 = 5;

/// The beginning of the phrase: which setting the client needs depends on the registry's host.
pub(super) const NO_TOKEN: &str = "token required";
pub(super) const NOT_BEARER: &str = "not a bearer token";
pub(super) const EMPTY: &str = "token is empty: TF_TOKEN_HOST is set without a value";
pub(super) const MALFORMED: &str = "token is malformed";
pub(super) const TOO_LONG: &str = "token is longer than 16 KiB";
pub(super) const EXPIRED: &str = "token expired: get a new one";
pub(super) const OTHER_AUDIENCE: &str = "token is for another audience";
pub(super) const NOT_ACCEPTED: &str = "token is not accepted";
pub(super) const UNKNOWN_STATIC: &str = "token is not known";
pub(super) const SHORT_STATIC: &str = "token has less than 32 random bytes";
pub(super) const NOT_YET_VALID: &str = "token is not valid yet: compare the clocks";
pub(super) const NO_EXPIRY: &str = "token has no expiry";
pub(super) const BAD_ALGORITHM: &str = "token is signed with an algorithm that is not accepted";
pub(super) const CRITICAL: &str = "token has critical header fields";
pub(super) const UNKNOWN_KEY: &str = "token is signed with an unknown key";
pub(super) const BAD_SIGNATURE: &str = "token signature is wrong";
pub(super) const CLAIM_MISSING: &str = "token lacks a required claim";
pub(super) const CLAIM_UNUSABLE: &str = "token has a claim that cannot be used";
pub(super) const EMAIL_UNVERIFIED: &str = "token has an email address that is not verified";

pub(super) const TOO_MANY_FAILED_TOKENS: &str = "too many failed tokens: wait";
pub(super) const TOO_MANY_REVIEWS: &str = "too many requests: wait";
pub(super) const TOO_MANY_REFUSALS: &str = "too many refused requests: wait";

impl Denied {
    /// The API server did not answer a review.
    pub const API_SERVER: Self =
        Self::unavailable("the Kubernetes API does not answer: try again", REVIEW_PAUSE + 1);
    /// Too many reviews wait for the API server.
    pub const BUSY: Self = Self::unavailable("too many reviews are waiting: try again", 2);
    /// Too many pages are being sent.
    pub(crate) const SENDING: Self = Self::unavailable("too many pages are being sent: try again", 2);

    /// An identity provider did not answer. `pause`: seconds between requests to it.
    pub const fn identity_provider(pause: u32) -> Self {
        Self::unavailable("the identity provider does not answer: try again", pause + 1)
    }

    const fn unavailable(phrase: &'static str, retry_after: u32) -> Self {
        Self::Unavailable { phrase, retry_after }
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether a token is all that is missing.
    pub(crate) fn lacks_token(self) -> bool {
        matches!(self, Self::Unauthenticated(phrase) if phrase.starts_with(NO_TOKEN))
    }

    /// Why, in fixed words.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Unauthenticated(phrase)
            | Self::TooMany { phrase, .. }
            | Self::Unavailable { phrase, .. } => phrase,
            Self::Forbidden => "Forbidden: no permission to download this module",
        }
    }

    /// Seconds until another attempt is worthwhile.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::TooMany { retry_after, .. } | Self::Unavailable { retry_after, .. } => Some(retry_after),
            Self::Unauthenticated(_) | Self::Forbidden => None,
        }
    }
}
