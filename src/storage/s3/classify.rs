//! The table from S3's answers to causes. Messages in causes contain no credential, signature or query of a URL.

use std::time::Duration;

use jiff::fmt::rfc2822;
use url::Url;

use crate::domain::names::is_region;
use crate::storage::redaction::presentable;
use crate::storage::{Cause, Operation};

/// Longer delays in answers are cut to this.
const MAX_DELAY: Duration = Duration::from_hours(1);

/// Codes for credentials, signatures and clocks that S3 rejects. `InvalidTokenId` is MinIO's, `InvalidSecurity` Google's, and
/// `XAdminUserNotFound` versitygw's.
const BAD_CREDENTIALS: [&str; 13] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "InvalidTokenId",
    "InvalidSecurity",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "AuthFailure",
    "UnrecognizedClientException",
    "Unauthorized",
    "XAdminUserNotFound",
];
/// Codes for a region that is not the bucket's, or that the store does not have.
const WRONG_REGION: [&str; 5] = [
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegionName",
    "InvalidRegion",
];
/// Codes with which S3 denies access. A 403 without one may come from a firewall or a proxy.
const DENIED: [&str; 3] = ["AccessDenied", "AllAccessDisabled", "AccountProblem"];
/// Codes for objects under retention: R2's, Dell ECS's, and two of Google's. Where retention needs versions, a DELETE succeeds.
const RETAINED: [&str; 4] =
    ["ObjectLockedByBucketPolicy", "ObjectUnderRetention", "RetentionPolicyNotMet", "ObjectUnderActiveHold"];
/// Codes for too many requests. MinIO's `SlowDownRead` and `SlowDownWrite` are none of them: its drives or nodes are down.
const TOO_FAST: [&str; 7] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "TooManyRequestsException",
    "KMS.ThrottlingException",
];

/// The parts of an answer that decide what it means.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::storage) struct Answer<'a> {
    pub status: u16,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
    /// `x-amz-bucket-region`
    pub bucket_region: Option<&'a str>,
    /// `location`, of a redirect
    pub location: Option<&'a str>,
    /// `retry-after`, seconds or a date
    pub retry_after: Option<&'a str>,
    /// `x-amz-retry-after`, milliseconds
    pub retry_after_ms: Option<&'a str>,
    /// `date`, the server's clock
    pub date: Option<&'a str>,
    /// Whether it has the ID of a request, as S3's answers do and those of proxies do not.
    pub has_id: bool,
}

/// Codes with which stores answer a DELETE or GET of an object that does not exist.
const GONE: [&str; 6] =
    ["NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchObject", "NoSuchVersion", "KeyNotFound"];

/// Classifies an answer that is no success. `Ok` is the answer that an operation treats as a result: for HEAD, the object does
/// not exist; for PUT, it exists already; for DELETE and GET, it did not exist. `region` is the one that the request was signed
/// for.
///
/// A 404 to a GET, and a 404 or 403 to a DELETE count only with an S3 error document, since a proxy may have sent it. Some stores
/// send a request ID instead of the document with a 404 to a GET.
pub(in crate::storage) fn classify(
    operation: Operation,
    region: &str,
    answer: &Answer<'_>,
) -> Result<(), Cause> {
    match (operation, answer.status, answer.code.unwrap_or_default()) {
        (Operation::Head, 404, _) | (Operation::Put, 412, _) => Ok(()),
        (Operation::Delete, 404, code) if GONE.contains(&code) => Ok(()),
        (Operation::Get, 404, "") if answer.has_id => Ok(()),
        (Operation::Get, 404, code) if GONE.contains(&code) && code != "NoSuchBucket" => Ok(()),
        (Operation::Delete, 403, _) => match cause(region, answer) {
            Cause::AccessDenied { .. } if !answer.code.is_some_and(|code| DENIED.contains(&code)) => {
                Err(answer.unknown())
            }
            cause => Err(cause),
        },
        _ => Err(cause(region, answer)),
    }
}

fn cause(region: &str, answer: &Answer<'_>) -> Cause {
    let code = answer.code.unwrap_or_default();
    if let Some(to) = answer.redirect() {
        let detail = format!("a redirect to {to}; set the endpoint to the address of the store itself");
        return Cause::Other { status: Some(answer.status), code: None, detail: presentable(&detail) };
    }
    match (answer.status, code) {
        (_, "NoSuchBucket" | "NoSuchAccessPoint") => Cause::BucketMissing,
        (_, "InvalidBucketName") => Cause::InvalidBucket,
        (_, "AuthorizationHeaderMalformed") if !answer.is_about_region(region) => {
            Cause::CredentialsInvalid { code: code.to_owned() }
        }
        _ if answer.status == 301 || WRONG_REGION.contains(&code) => answer.wrong_region(region),
        (400, _) if answer.right_region(region).is_some() => answer.wrong_region(region),
        _ if BAD_CREDENTIALS.contains(&code) => Cause::CredentialsInvalid { code: code.to_owned() },
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            Cause::ChecksumMismatch
        }
        (407, _) => Cause::Network { detail: "the proxy requires authentication (HTTP 407)".to_owned() },
        // A full quota (Ceph), and an object in an archive storage class: no permission changes that.
        (403, "QuotaExceeded" | "InvalidObjectState") => answer.unknown(),
        (_, "EntityTooLarge") => Cause::EntityTooLarge,
        (413, _) => Cause::BodyTooLarge,
        _ if answer.throttles() => Cause::SlowDown { retry_after: answer.delay(), detail: answer.detail() },
        _ if RETAINED.contains(&code) => Cause::Retained { detail: answer.detail() },
        // Garage repeats the access key ID, which is the secret key if both were swapped.
        (403, _) if answer.says("No such key: ") => {
            Cause::CredentialsInvalid { code: format!("{}: no such access key", presentable(code)) }
        }
        (_, code) if code.starts_with("KMS.") => Cause::Kms { detail: answer.detail() },
        (403, _) if answer.says("kms:") => Cause::Kms { detail: answer.detail() },
        (_, "ConditionalRequestConflict" | "OperationAborted") => Cause::Conflict,
        (403, _) => Cause::AccessDenied { detail: answer.detail() },
        (307 | 408 | 500 | 502..=599, _) | (_, "RequestTimeout" | "IncompleteBody" | "InternalError") => {
            let (status, retry_after) = (answer.status, answer.delay());
            Cause::Unavailable { status, retry_after, detail: answer.detail() }
        }
        _ => answer.unknown(),
    }
}

impl Answer<'_> {
    /// The region that S3 names in a header or in its message, if it is not the one that was used.
    fn right_region(&self, used: &str) -> Option<String> {
        let expecting = || self.message?.split_once("expecting '")?.1.split('\'').next();
        let named = self.bucket_region.or_else(expecting)?;
        (named != used && is_region(named)).then(|| named.to_owned())
    }

    fn wrong_region(&self, used: &str) -> Cause {
        Cause::WrongRegion { right: self.right_region(used), detail: self.detail() }
    }

    /// Whether a malformed `Authorization` header is so because of its region, and not because of the access key.
    fn is_about_region(&self, used: &str) -> bool {
        let scope = self.message.and_then(|message| message.split_once("scope: "));
        // Garage takes all after the first slash for the scope, also the rest of a secret key that was swapped with its ID.
        let is_whole = scope.map(|(_, scope)| scope.split('/').count() == 4);
        let is_region = is_whole.unwrap_or_else(|| self.says("region") || self.says("scope"));
        self.right_region(used).is_some() || is_region
    }

    fn says(&self, words: &str) -> bool {
        self.message.is_some_and(|message| message.contains(words))
    }

    /// The server that an answer redirects to. S3's own redirects have a code or an ID, and are about the region.
    fn redirect(&self) -> Option<String> {
        let is_of_s3 = self.code.is_some() || self.has_id || self.bucket_region.is_some();
        if is_of_s3 || !matches!(self.status, 301..=303 | 307 | 308) {
            return None;
        }
        let url = Url::parse(self.location?).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        Some(url.origin().ascii_serialization())
    }

    fn unknown(&self) -> Cause {
        Cause::Other { status: Some(self.status), code: self.code.map(presentable), detail: self.detail() }
    }

    fn throttles(&self) -> bool {
        self.status == 429 || self.code.is_some_and(|code| TOO_FAST.contains(&code))
    }

    fn delay(&self) -> Option<Duration> {
        let milliseconds = || self.retry_after_ms?.trim().parse().ok().map(Duration::from_millis);
        let seconds = || self.retry_after?.trim().parse().ok().map(Duration::from_secs);
        milliseconds().or_else(seconds).or_else(|| self.delay_by_date()).map(|delay| delay.min(MAX_DELAY))
    }

    /// A `retry-after` that is a date, measured on the server's own clock.
    fn delay_by_date(&self) -> Option<Duration> {
        let at = |date: Option<&str>| Some(rfc2822::parse(date?).ok()?.timestamp());
        let delay = at(self.retry_after)?.duration_since(at(self.date)?);
        Some(Duration::try_from(delay).unwrap_or_default())
    }

    fn detail(&self) -> String {
        match (self.code, self.message) {
            (Some(code), Some(message)) => presentable(&format!("{code}: {message}")),
            (Some(text), None) | (None, Some(text)) => presentable(text),
            (None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
