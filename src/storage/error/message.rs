//! The messages of errors: what failed, and what to do.

use super::cause::{Cause, Operation};
use crate::domain::{Endpoint, ObjectLocation};

impl Operation {
    /// Whose request it is. Only the registry reports a GET.
    fn whose(self) -> &'static str {
        if self == Self::Get { "registry" } else { "operator" }
    }

    /// The end of a message about a retry. Only the operator retries; requests of the registry are retried by its clients.
    fn retried(self) -> &'static str {
        if self == Self::Get { "" } else { "; this is retried" }
    }

    pub(super) fn verb(self) -> &'static str {
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

const LIST_BUCKET: &str =
    ", and s3:ListBucket on the bucket, without which S3 also returns 403 for an object that does not exist";
const BODY_TOO_LARGE: &str = "a proxy or gateway in front of the store rejects an archive of this size (HTTP 413); raise its limit, such \
                              as client_max_body_size of nginx";
const RETAINED: &str =
    "the store keeps the object until its retention ends, and neither replaces nor deletes it before";

/// The message of a cause: what it is, and what to do.
pub(super) fn explained(operation: Operation, location: &ObjectLocation, cause: &Cause) -> String {
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
        Cause::WrongRegion { right, detail } => wrong_region(location, right.as_deref(), detail),
        Cause::CredentialsMissing => format!(
            "no AWS credentials found; give the {whose} an identity (IRSA, pod identity, instance profile) or \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ),
        Cause::CredentialsUnavailable { detail } => {
            format!("AWS credentials could not be loaded: {detail}; {}", advice_on_credentials(detail))
        }
        Cause::CredentialsInvalid { code } => credentials_rejected(whose, location, code),
        Cause::SlowDown { detail, .. } => format!("S3 throttles requests{}{retried}", aside(": ", detail)),
        Cause::ChecksumMismatch => String::from(
            "the content that S3 received does not have the announced SHA-256, so nothing was stored; this is retried",
        ),
        Cause::StoredDifferently { what, repeated } => stored_differently(what, *repeated),
        Cause::Kms { detail } => key_unusable(operation, detail),
        Cause::EntityTooLarge => String::from(
            "the archive exceeds the limit of one PUT (5 GiB, or the store's own limit): make it smaller",
        ),
        Cause::BodyTooLarge => BODY_TOO_LARGE.to_owned(),
        Cause::Retained { detail } => format!("{RETAINED}: {detail}; wait, or shorten the retention"),
        Cause::Conflict => "another write to the same key was in progress; this is retried".to_owned(),
        Cause::Unavailable { status, detail, .. } => {
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

pub(super) fn is_of_aws(endpoint: &str) -> bool {
    endpoint.parse().is_ok_and(|endpoint: Endpoint| endpoint.belongs_to_aws())
}

/// A store other than AWS is often behind a proxy that changes what is signed.
fn credentials_rejected(whose: &str, location: &ObjectLocation, code: &str) -> String {
    let is_other_store = location.endpoint.as_deref().is_some_and(|endpoint| !is_of_aws(endpoint));
    let check = if code == "SignatureDoesNotMatch" && is_other_store {
        "the keys, and that a proxy in front of the store passes Host and the x-amz headers on unchanged"
    } else {
        "the keys, their expiry and this machine's clock"
    };
    format!("S3 rejects the {whose}'s credentials ({code}); check {check}")
}

fn wrong_region(location: &ObjectLocation, right: Option<&str>, detail: &str) -> String {
    let ObjectLocation { bucket, region, .. } = location;
    match right {
        Some(right) => format!("bucket {bucket} is in region {right}, not in {region}; correct the region"),
        None => format!(
            "bucket {bucket} is not in region {region}{}; correct the region, or the endpoint",
            aside(": ", detail)
        ),
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
        None if operation == Operation::Head && detail.is_empty() => {
            "; the answer to a HEAD has no details: check region, endpoint and that the credentials have not expired"
        }
        Some(code) if code.contains("Quota") => "; enlarge the quota of the store, or delete objects",
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
