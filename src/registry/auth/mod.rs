//! Who sends a request, and what this identity may download.
//!
//! The answer never depends on whether the module exists: permission is checked first.

/// Why a request is refused. The texts are fixed: none contains text of a user or of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 400: the header is not understood.
    Malformed(&'static str),
    /// 401, with the reason phrase that `terraform init` prints.
    Unauthenticated(&'static str),
    /// 403.
    Forbidden,
    /// 429, and seconds until another attempt is worthwhile.
    TooMany { phrase: &'static str, retry_after: u32 },
    /// 503: the API server or an identity provider did not answer.
    Unavailable { phrase: &'static str, retry_after: u32 },
}
