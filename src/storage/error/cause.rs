//! Causes of failed requests, for callers.

use std::time::Duration;

/// The end of a denial by a policy that revokes sessions.
const DENIED_TO_SESSIONS: &str = "explicit deny in an identity-based policy";

/// The requests that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `HeadObject` or `HeadBucket`. The answers have no body, so their causes are less precise.
    Head,
    Put,
    Delete,
    Get,
}

/// Why a request failed. Causes are permanent unless marked as transient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bucket does not exist. (A HEAD of an object does not show that.)
    BucketMissing,
    /// The bucket's name is invalid, here or for S3.
    InvalidBucket,
    /// The region or the endpoint is invalid: no request was sent.
    InvalidAddress(&'static str),
    /// The answer 403, also for a missing object if `s3:ListBucket` is not granted. S3's message often names the identity. For
    /// HEAD, `detail` is from a GET of the object; if that shows no reason, it is empty, and the keys may be wrong.
    AccessDenied { detail: String },
    /// The bucket is in another region: `right`, if S3 names it. Or the store has no such region.
    WrongRegion { right: Option<String>, detail: String },
    /// No provider of the credential chain has credentials. May be transient: the instance's provider may be slow to start.
    CredentialsMissing,
    /// A provider of the credential chain failed, such as STS for a pod's identity, or is configured wrongly. May be transient.
    CredentialsUnavailable { detail: String },
    /// S3 rejects the credentials, the signature or this machine's clock, with a code such as `ExpiredToken`.
    CredentialsInvalid { code: String },
    /// Too many requests. `retry_after`: the delay that S3 requests, cut to one hour. Transient.
    SlowDown { retry_after: Option<Duration>, detail: String },
    /// S3 received other content than announced and stored nothing. Transient, unless the disk or a proxy is faulty.
    ChecksumMismatch,
    /// After a PUT that succeeded, S3 shows another object or none. Transient, unless `repeated`: several times in a row below
    /// the same prefix.
    StoredDifferently { what: &'static str, repeated: bool },
    /// The encryption key cannot be used.
    Kms { detail: String },
    /// The file exceeds the limit of one PUT (5 GiB), or of the store.
    EntityTooLarge,
    /// A proxy or gateway in front of the store rejects a body of this length.
    BodyTooLarge,
    /// Retention protects the object from a DELETE and a PUT.
    Retained { detail: String },
    /// Another write to the same key was in progress. Transient.
    Conflict,
    /// An error of the store, which may request a delay as well. Transient.
    Unavailable { status: u16, retry_after: Option<Duration>, detail: String },
    /// No answer: DNS, connection, TLS, proxy or timeout. Transient, unless the endpoint is wrong.
    Network { detail: String },
    /// The file to store cannot be read, or has another length than announced. Transient.
    File { detail: String },
    /// Anything else. Without an answer, there is no status.
    Other { status: Option<u16>, code: Option<String>, detail: String },
}

impl Cause {
    /// An error of the store that requests no delay.
    pub(crate) fn unavailable(status: u16, detail: impl Into<String>) -> Self {
        Self::Unavailable { status, retry_after: None, detail: detail.into() }
    }

    /// The delay that the store requests.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::SlowDown { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether new credentials may be accepted.
    pub(crate) fn may_be_of_old_credentials(&self, operation: Operation) -> bool {
        match self {
            Self::CredentialsInvalid { .. } => true,
            // IAM revokes the older sessions of a role with a policy that denies them everything.
            Self::AccessDenied { detail } if detail.contains(DENIED_TO_SESSIONS) => true,
            cause => operation == Operation::Head && cause.lacks_reason(),
        }
    }

    /// Whether this is a 400, 401 or 403 without a code, as the answer to a HEAD is: it may have several reasons.
    pub(crate) fn lacks_reason(&self) -> bool {
        match self {
            Self::AccessDenied { detail } => detail.is_empty(),
            Self::Other { status: Some(400 | 401), code: None, .. } => true,
            _ => false,
        }
    }

    /// Whether this answer to a GET is also the reason why a HEAD of the object was rejected. That the object or the bucket does
    /// not exist is no reason, nor is an answer without a code, which may come from a proxy.
    pub(crate) fn names_reason(&self) -> bool {
        match self {
            Self::CredentialsInvalid { .. }
            | Self::WrongRegion { .. }
            | Self::InvalidBucket
            | Self::Kms { .. }
            | Self::Other { status: Some(400..=403), code: Some(_), .. } => true,
            Self::AccessDenied { detail } => !detail.is_empty(),
            _ => false,
        }
    }
}
