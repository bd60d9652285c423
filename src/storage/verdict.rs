//! What S3's answers mean: one table. In: an operation, and the status, code, message and headers of an answer. Out: a
//! [`Cause`]. Pure. No text that leaves here may hold a credential, a signature or a URL's query.

use std::time::Duration;

use jiff::fmt::rfc2822;

use super::redaction::redacted;
use super::{Cause, Operation};
use crate::domain::names::is_region;

/// The longest text of S3 or of the network that is passed on, in characters.
const MAX_DETAIL: usize = 300;
/// The longest delay that an answer may ask for.
const MAX_DELAY: Duration = Duration::from_hours(1);

/// Codes for credentials, signatures and clocks that S3 does not accept. `XAdminUserNotFound` is versitygw's.
const BAD_CREDENTIALS: [&str; 11] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "AuthFailure",
    "UnrecognizedClientException",
    "Unauthorized",
    "XAdminUserNotFound",
];
/// Codes by which S3 itself denies an access: a 403 without one may be of a firewall or a proxy.
const DENIED: [&str; 4] = ["AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState"];
/// Codes for too many requests.
const TOO_FAST: [&str; 7] = [
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "TooManyRequestsException",
    "KMS.ThrottlingException",
];

/// The parts of an answer that tell what it means.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer<'a> {
    pub status: u16,
    pub code: Option<&'a str>,
    pub message: Option<&'a str>,
    /// `x-amz-bucket-region`
    pub bucket_region: Option<&'a str>,
    /// `retry-after`, seconds or a date
    pub retry_after: Option<&'a str>,
    /// `x-amz-retry-after`, milliseconds
    pub retry_after_ms: Option<&'a str>,
    /// `date`, the server's clock
    pub date: Option<&'a str>,
}

/// The table, for answers that are no success. `Ok` is the one that each operation takes for a result: HEAD, there is no
/// such object; PUT, there is one already; DELETE, it was gone before. `region` is what the request was signed for.
///
/// A DELETE's 404 without an S3 error document is no "gone before", and its 403 no denial: the answer is not from S3. Stores
/// have different codes in that document (`NoSuchKey`, `NotFound`, `NoSuchObject`).
pub(super) fn verdict(operation: Operation, region: &str, answer: &Answer<'_>) -> Result<(), Cause> {
    match (operation, answer.status, answer.code.unwrap_or_default()) {
        (Operation::Head, 404, _) | (Operation::Put, 412, _) => Ok(()),
        (Operation::Delete, 404, code) if !code.is_empty() && !BAD_CREDENTIALS.contains(&code) => Ok(()),
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
    match (answer.status, code) {
        (_, "NoSuchBucket") => Cause::BucketMissing,
        (_, "InvalidBucketName") => Cause::InvalidBucket,
        (301, _)
        | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            Cause::WrongRegion { right: answer.right_region(region) }
        }
        (400, _) if answer.right_region(region).is_some() => {
            Cause::WrongRegion { right: answer.right_region(region) }
        }
        _ if BAD_CREDENTIALS.contains(&code) => Cause::CredentialsInvalid { code: code.to_owned() },
        (_, "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch") => {
            Cause::ChecksumMismatch
        }
        (413, _) | (_, "EntityTooLarge") => Cause::EntityTooLarge,
        _ if answer.throttles() => Cause::SlowDown { retry_after: answer.delay() },
        (_, code) if code.starts_with("KMS.") => Cause::Kms { detail: answer.detail() },
        (403, _) if answer.message.is_some_and(|text| text.contains("kms:")) => {
            Cause::Kms { detail: answer.detail() }
        }
        (_, "ConditionalRequestConflict" | "OperationAborted") => Cause::Conflict,
        (403, _) => Cause::AccessDenied { detail: answer.detail() },
        (307 | 408 | 500 | 502..=599, _) | (_, "RequestTimeout" | "IncompleteBody" | "InternalError") => {
            Cause::Unavailable { status: answer.status, detail: answer.detail() }
        }
        _ => answer.unknown(),
    }
}

impl Answer<'_> {
    /// The region that S3 names, by header or in its message's words, if it is not the one that was used.
    fn right_region(&self, used: &str) -> Option<String> {
        let expecting = || self.message?.split_once("expecting '")?.1.split('\'').next();
        let named = self.bucket_region.or_else(expecting)?;
        (named != used && is_region(named)).then(|| named.to_owned())
    }

    fn unknown(&self) -> Cause {
        Cause::Other { status: Some(self.status), code: self.code.map(presentable), detail: self.detail() }
    }

    fn throttles(&self) -> bool {
        // A HEAD's 503 has no code, but a delay is only asked of those who are too fast.
        let delayed = self.status == 503 && self.delay().is_some();
        self.status == 429 || delayed || self.code.is_some_and(|code| TOO_FAST.contains(&code))
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

/// A text fit for a status and a log: one line, bounded, and without secrets.
pub(super) fn presentable(text: &str) -> String {
    let line = redacted(text);
    match line.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Delete, Head, Put};

    fn answer(status: u16, code: &'static str) -> Answer<'static> {
        Answer { status, code: (!code.is_empty()).then_some(code), ..Answer::default() }
    }

    fn failed(operation: Operation, answer: &Answer<'_>) -> Cause {
        verdict(operation, "us-west-2", answer).expect_err("a failure")
    }

    #[test]
    fn each_operation_has_one_answer_that_is_a_result() {
        for (operation, status, code) in [
            (Head, 404, ""),
            (Head, 404, "NotFound"),
            (Put, 412, "PreconditionFailed"),
            (Delete, 404, "NoSuchKey"),
            (Delete, 404, "NoSuchBucket"),
            // Other stores have other codes for it.
            (Delete, 404, "NotFound"),
            (Delete, 404, "NoSuchObject"),
            (Delete, 404, "NoSuchVersion"),
        ] {
            assert_eq!(verdict(operation, "us-west-2", &answer(status, code)), Ok(()));
        }
    }

    #[test]
    fn only_s3_may_say_that_an_object_is_gone() {
        assert!(matches!(failed(Delete, &answer(404, "")), Cause::Other { status: Some(404), .. }));
        assert!(matches!(failed(Put, &answer(404, "")), Cause::Other { status: Some(404), .. }));
        // Nor that it may not be deleted, after which nothing is left to do for one that a HEAD does not find.
        for code in ["", "Forbidden", "RequestBlocked"] {
            let cause = failed(Delete, &answer(403, code));
            assert!(matches!(cause, Cause::Other { status: Some(403), .. }), "{code:?} gave {cause:?}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        type Is = fn(&Cause) -> bool;
        let table: &[(Operation, u16, &str, Is)] = &[
            (Put, 404, "NoSuchBucket", |c| *c == Cause::BucketMissing),
            (Put, 400, "InvalidBucketName", |c| *c == Cause::InvalidBucket),
            (
                Put,
                403,
                "AccessDenied",
                |c| matches!(c, Cause::AccessDenied { detail } if detail == "AccessDenied"),
            ),
            (Head, 403, "", |c| matches!(c, Cause::AccessDenied { detail } if detail.is_empty())),
            (Delete, 403, "AccessDenied", |c| matches!(c, Cause::AccessDenied { .. })),
            (Delete, 403, "AllAccessDisabled", |c| matches!(c, Cause::AccessDenied { .. })),
            (Delete, 403, "SignatureDoesNotMatch", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Put, 401, "Unauthorized", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Head, 301, "", |c| *c == Cause::WrongRegion { right: None }),
            (Put, 301, "PermanentRedirect", |c| *c == Cause::WrongRegion { right: None }),
            (Put, 400, "IllegalLocationConstraintException", |c| matches!(c, Cause::WrongRegion { .. })),
            (Put, 403, "InvalidAccessKeyId", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Put, 403, "SignatureDoesNotMatch", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Delete, 400, "ExpiredToken", |c| {
                *c == Cause::CredentialsInvalid { code: "ExpiredToken".into() }
            }),
            (Put, 404, "XAdminUserNotFound", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Delete, 404, "XAdminUserNotFound", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Put, 403, "RequestTimeTooSkewed", |c| matches!(c, Cause::CredentialsInvalid { .. })),
            (Put, 400, "BadDigest", |c| *c == Cause::ChecksumMismatch),
            (Put, 400, "XAmzContentSHA256Mismatch", |c| *c == Cause::ChecksumMismatch),
            (Put, 400, "EntityTooLarge", |c| *c == Cause::EntityTooLarge),
            (Put, 413, "", |c| *c == Cause::EntityTooLarge),
            (Put, 503, "SlowDown", |c| *c == Cause::SlowDown { retry_after: None }),
            (Head, 429, "", |c| *c == Cause::SlowDown { retry_after: None }),
            (Put, 400, "KMS.DisabledException", |c| matches!(c, Cause::Kms { .. })),
            (Put, 400, "KMS.NotFoundException", |c| matches!(c, Cause::Kms { .. })),
            (Put, 400, "KMS.ThrottlingException", |c| matches!(c, Cause::SlowDown { .. })),
            (Put, 409, "ConditionalRequestConflict", |c| *c == Cause::Conflict),
            (Put, 500, "InternalError", |c| matches!(c, Cause::Unavailable { status: 500, .. })),
            (Head, 503, "", |c| matches!(c, Cause::Unavailable { status: 503, .. })),
            (Put, 400, "RequestTimeout", |c| matches!(c, Cause::Unavailable { .. })),
            (Put, 307, "TemporaryRedirect", |c| matches!(c, Cause::Unavailable { .. })),
            (Put, 501, "NotImplemented", |c| matches!(c, Cause::Other { status: Some(501), .. })),
            (Head, 400, "", |c| matches!(c, Cause::Other { status: Some(400), .. })),
            (Put, 200, "", |c| matches!(c, Cause::Other { status: Some(200), .. })),
        ];
        for (operation, status, code, is) in table {
            let cause = failed(*operation, &answer(*status, code));
            assert!(is(&cause), "{operation:?} {status} {code:?} gave {cause:?}");
        }
    }

    #[test]
    fn the_right_region_is_named_where_s3_names_it() {
        let right = |answer: &Answer<'_>| failed(Head, answer);
        let is = |region: &str| Cause::WrongRegion { right: Some(region.to_owned()) };
        assert_eq!(right(&Answer { bucket_region: Some("eu-west-1"), ..answer(301, "") }), is("eu-west-1"));
        assert_eq!(right(&Answer { bucket_region: Some("eu-west-1"), ..answer(400, "") }), is("eu-west-1"));
        let message = Some("the region 'us-west-2' is wrong; expecting 'eu-central-1'");
        let malformed = Answer { message, ..answer(400, "AuthorizationHeaderMalformed") };
        assert_eq!(right(&malformed), is("eu-central-1"));
        let same = Answer { bucket_region: Some("us-west-2"), ..answer(400, "") };
        assert!(matches!(right(&same), Cause::Other { .. }));
        let hostile = Answer { bucket_region: Some("x; curl evil"), ..answer(301, "") };
        assert_eq!(right(&hostile), Cause::WrongRegion { right: None });
    }

    #[test]
    fn delays_are_read_and_bounded() {
        let delay = |seconds, milliseconds| {
            let slow =
                Answer { retry_after: seconds, retry_after_ms: milliseconds, ..answer(503, "SlowDown") };
            match failed(Put, &slow) {
                Cause::SlowDown { retry_after } => retry_after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(delay(Some("7"), None), Some(Duration::from_secs(7)));
        assert_eq!(delay(Some("7"), Some("1500")), Some(Duration::from_millis(1500)));
        assert_eq!(delay(Some("99999999"), None), Some(Duration::from_hours(1)));
        assert_eq!(delay(Some("soon"), None), None);
        let bodyless = Answer { retry_after: Some("3"), ..answer(503, "") };
        assert_eq!(failed(Head, &bodyless), Cause::SlowDown { retry_after: Some(Duration::from_secs(3)) });
    }

    #[test]
    fn a_delay_may_be_a_date_on_the_clock_of_the_server() {
        let delay = |until, date| {
            let slow = Answer { retry_after: Some(until), date, ..answer(503, "SlowDown") };
            match failed(Put, &slow) {
                Cause::SlowDown { retry_after } => retry_after,
                other => panic!("{other:?}"),
            }
        };
        let seven_minutes_later = Some("Wed, 21 Oct 2026 07:21:00 GMT");
        assert_eq!(delay("Wed, 21 Oct 2026 07:28:00 GMT", seven_minutes_later), Some(Duration::from_mins(7)));
        assert_eq!(delay("Thu, 22 Oct 2026 07:28:00 GMT", seven_minutes_later), Some(MAX_DELAY));
        assert_eq!(delay("Wed, 21 Oct 2026 07:20:59 GMT", seven_minutes_later), Some(Duration::ZERO));
        assert_eq!(delay("Wed, 21 Oct 2026 07:28:00 GMT", None), None, "without a clock to compare it with");
        let bodyless = Answer {
            retry_after: Some("Wed, 21 Oct 2026 07:21:09 GMT"),
            date: seven_minutes_later,
            ..answer(503, "")
        };
        assert_eq!(failed(Head, &bodyless), Cause::SlowDown { retry_after: Some(Duration::from_secs(9)) });
    }

    #[test]
    fn a_refused_key_is_told_from_a_refused_bucket() {
        let message =
            Some("User: arn:aws:sts::1:assumed-role/op is not authorized to perform: kms:GenerateDataKey");
        let refused = Answer { message, ..answer(403, "AccessDenied") };
        assert!(matches!(failed(Put, &refused), Cause::Kms { .. }));
    }

    #[test]
    fn a_text_is_one_line_and_bounded() {
        assert_eq!(presentable("two\nlines\u{7}"), "two lines");
        assert_eq!(presentable(&"é".repeat(400)).chars().count(), MAX_DETAIL + 1);
    }
}
