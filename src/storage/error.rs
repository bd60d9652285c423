//! Errors of storage: causes for callers, and messages for users (what failed, on which object, what to do).

use std::time::Duration;

use thiserror::Error;

use crate::domain::ObjectLocation;

/// A failed request to S3.
#[derive(Debug, Error)]
#[error("cannot {} {location}: {}", .operation.verb(), explained(*.operation, .location, .cause))]
pub struct StorageError {
    pub operation: Operation,
    /// Boxed to keep results small.
    pub location: Box<ObjectLocation>,
    pub cause: Cause,
}

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
    /// The bucket is in another region: `right`, if S3 names it.
    WrongRegion { right: Option<String> },
    /// No provider of the credential chain has credentials. May be transient: the instance's provider may be slow to start.
    CredentialsMissing,
    /// A provider of the credential chain failed, such as STS for a pod's identity, or is configured wrongly. May be transient.
    CredentialsUnavailable { detail: String },
    /// S3 rejects the credentials, the signature or this machine's clock, with a code such as `ExpiredToken`.
    CredentialsInvalid { code: String },
    /// Too many requests. `retry_after`: the delay that S3 requests, cut to one hour. Transient.
    SlowDown { retry_after: Option<Duration> },
    /// S3 received other content than announced and stored nothing. Transient, unless the disk or a proxy is faulty.
    ChecksumMismatch,
    /// After a PUT that succeeded, S3 shows another object or none. Transient, unless `repeated`: several times in a row below
    /// the same prefix.
    StoredDifferently { what: &'static str, repeated: bool },
    /// The encryption key cannot be used.
    Kms { detail: String },
    /// The file exceeds the limit of one PUT (5 GiB), or of the store.
    EntityTooLarge,
    /// Another write to the same key was in progress. Transient.
    Conflict,
    /// An error of the store. Transient.
    Unavailable { status: u16, detail: String },
    /// No answer: DNS, connection, TLS, proxy or timeout. Transient, unless the endpoint is wrong.
    Network { detail: String },
    /// The file to store cannot be read, or has another length than announced. Transient.
    File { detail: String },
    /// Anything else. Without an answer, there is no status.
    Other { status: Option<u16>, code: Option<String>, detail: String },
}

impl StorageError {
    /// Whether AWS has answered that the bucket is in another region. Names are unique there, so the one in this region was
    /// deleted with all its objects.
    pub fn shows_deleted_bucket(&self) -> bool {
        self.location.endpoint.is_none() && matches!(self.cause, Cause::WrongRegion { right: Some(_) })
    }
}

impl Cause {
    /// Whether new credentials may be accepted.
    pub(super) fn may_be_of_old_credentials(&self, operation: Operation) -> bool {
        match self {
            Self::CredentialsInvalid { .. } => true,
            // IAM revokes the older sessions of a role with a policy that denies them everything.
            Self::AccessDenied { detail } if detail.contains(DENIED_TO_SESSIONS) => true,
            cause => operation == Operation::Head && cause.lacks_reason(),
        }
    }

    /// Whether this is a 400, 401 or 403 without a code, as the answer to a HEAD is: it may have several reasons.
    pub(super) fn lacks_reason(&self) -> bool {
        match self {
            Self::AccessDenied { detail } => detail.is_empty(),
            Self::Other { status: Some(400 | 401), code: None, .. } => true,
            _ => false,
        }
    }

    /// Whether this answer to a GET is also the reason why a HEAD of the object was rejected. That the object or the bucket does
    /// not exist is no reason, nor is an answer without a code, which may come from a proxy.
    pub(super) fn names_reason(&self) -> bool {
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

impl Operation {
    /// Whose request it is. Only the registry reports a GET.
    fn whose(self) -> &'static str {
        if self == Self::Get { "registry" } else { "operator" }
    }

    /// The end of a message about a retry. Only the operator retries; requests of the registry are retried by its clients.
    fn retried(self) -> &'static str {
        if self == Self::Get { "" } else { "; this is retried" }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Head => "look up",
            Self::Put => "store",
            Self::Delete => "delete",
            Self::Get => "read",
        }
    }

    fn permission(self) -> &'static str {
        match self {
            Self::Head | Self::Get => "s3:GetObject on the object",
            Self::Put => "s3:PutObject on the object",
            Self::Delete => "s3:DeleteObject on the object",
        }
    }
}

const DENIED_TO_SESSIONS: &str = "explicit deny in an identity-based policy";
const LIST_BUCKET: &str =
    ", and s3:ListBucket on the bucket, without which S3 also returns 403 for an object that does not exist";

/// The message of a cause: what it is, and what to do.
fn explained(operation: Operation, location: &ObjectLocation, cause: &Cause) -> String {
    let (bucket, path_style) = (&location.bucket, path_style(location));
    let (whose, retried) = (operation.whose(), operation.retried());
    match cause {
        Cause::BucketMissing => format!(
            "bucket {bucket} does not exist; create it, or correct its name, region or endpoint{path_style}"
        ),
        Cause::InvalidBucket => format!(
            "{bucket:?} is not a valid bucket name; use 3 to 63 lower-case letters, digits, dots and hyphens{path_style}"
        ),
        Cause::InvalidAddress(problem) => (*problem).to_owned(),
        Cause::AccessDenied { detail } => access_denied(operation, detail),
        Cause::WrongRegion { right } => wrong_region(location, right.as_deref()),
        Cause::CredentialsMissing => format!(
            "no AWS credentials found; give the {whose} an identity (IRSA, pod identity, instance profile) or \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ),
        Cause::CredentialsUnavailable { detail } => {
            format!("AWS credentials could not be loaded: {detail}; {}", advice_on_credentials(detail))
        }
        Cause::CredentialsInvalid { code } => format!(
            "S3 rejects the {whose}'s credentials ({code}); check the keys, their expiry and this machine's clock"
        ),
        Cause::SlowDown { .. } => format!("S3 throttles requests{retried}"),
        Cause::ChecksumMismatch => String::from(
            "the content that S3 received does not have the announced SHA-256, so nothing was stored; this is retried",
        ),
        Cause::StoredDifferently { what, repeated } => stored_differently(what, *repeated),
        Cause::Kms { detail } => key_unusable(operation, detail),
        Cause::EntityTooLarge => {
            "the archive exceeds the limit of one PUT (5 GiB, or the store's own limit)".to_owned()
        }
        Cause::Conflict => "another write to the same key was in progress; this is retried".to_owned(),
        Cause::Unavailable { status, detail } => {
            format!("S3 failed (HTTP {status}{}){retried}", aside(", ", detail))
        }
        Cause::Network { detail } => {
            format!("no answer from S3: {detail}; check endpoint, region, proxy and --ca-file{path_style}")
        }
        Cause::File { detail } => {
            format!("the temporary archive cannot be read: {detail}; it is fetched again")
        }
        Cause::Other { status: None, detail, .. } => format!("the request could not be made: {detail}"),
        Cause::Other { status: Some(status), code, detail } => {
            other(operation, *status, code.as_deref(), detail)
        }
    }
}

/// What to do if AWS credentials could not be loaded, by the SDK's description.
pub fn advice_on_credentials(detail: &str) -> &'static str {
    if detail.contains("requires following cargo feature") {
        "OpenDepot supports no AWS profile with IAM Identity Center, credential_process or `aws login`: use a role, or set the \
         variables that `aws configure export-credentials --format env` prints"
    } else if detail.contains("not properly configured") {
        "correct the AWS profile or variable"
    } else {
        "check the role, its trust policy and the egress to STS"
    }
}

fn wrong_region(ObjectLocation { bucket, region, .. }: &ObjectLocation, right: Option<&str>) -> String {
    match right {
        Some(right) => format!("bucket {bucket} is in region {right}, not in {region}; correct the region"),
        None => format!("bucket {bucket} is not in region {region}; correct the region, or the endpoint"),
    }
}

/// Most stores other than AWS need the bucket in the path. `BUCKET.HOST` has no DNS name there, or the store takes the first
/// segment of the key for the bucket.
fn path_style(location: &ObjectLocation) -> &'static str {
    let advised = location.endpoint.is_some() && !location.path_style();
    if advised { ", or set forcePathStyle: true" } else { "" }
}

fn stored_differently(what: &str, repeated: bool) -> String {
    let advice = if repeated {
        "this happened several times in a row: check which proxy or gateway is in front of the store, and what else writes there"
    } else {
        "this is retried"
    };
    format!("S3 accepted the object, but then reports {what}; {advice}")
}

fn key_unusable(operation: Operation, detail: &str) -> String {
    let whose = operation.whose();
    let actions =
        if operation == Operation::Get { "kms:Decrypt" } else { "kms:GenerateDataKey and kms:Decrypt" };
    format!(
        "the encryption key cannot be used: {detail}; check that the key is enabled and that the {whose}'s role has {actions} \
         on it"
    )
}

fn access_denied(operation: Operation, detail: &str) -> String {
    let (list, head) = match operation {
        Operation::Put | Operation::Delete => ("", ""),
        Operation::Head if detail.is_empty() => {
            (LIST_BUCKET, "; wrong keys, a wrong clock and a missing kms:Decrypt have the same result")
        }
        Operation::Head | Operation::Get => (LIST_BUCKET, ""),
    };
    let (whose, permission) = (operation.whose(), operation.permission());
    format!("access denied{}; the {whose}'s role needs {permission}{list}{head}", aside(": ", detail))
}

fn other(operation: Operation, status: u16, code: Option<&str>, detail: &str) -> String {
    let detail = if detail.is_empty() { code.unwrap_or_default() } else { detail };
    let advice = match code {
        None if operation == Operation::Head => {
            "; the answer to a HEAD has no details: check region, endpoint and that the credentials have not expired"
        }
        Some("QuotaExceeded") => "; enlarge the quota of the store, or delete objects",
        Some("InvalidObjectState") => {
            "; the object is archived: remove the lifecycle rule that does this, then request a sync of the Version"
        }
        _ => "",
    };
    format!("S3 answered HTTP {status}{}{advice}", aside(", ", detail))
}

/// A separator and a text, or nothing.
fn aside(separator: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{separator}{text}") }
}

#[cfg(test)]
mod tests;
