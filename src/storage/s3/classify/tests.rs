use super::*;
use Operation::{Delete, Get, Head, Put};

fn answer(status: u16, code: &'static str) -> Answer<'static> {
    Answer { status, code: (!code.is_empty()).then_some(code), ..Answer::default() }
}

fn failed(operation: Operation, answer: &Answer<'_>) -> Cause {
    classify(operation, "us-west-2", answer).expect_err("a failure")
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
        assert_eq!(classify(operation, "us-west-2", &answer(status, code)), Ok(()));
    }
}

#[test]
fn only_s3_may_say_that_an_object_is_gone() {
    assert!(matches!(failed(Delete, &answer(404, "")), Cause::Other { status: Some(404), .. }));
    assert!(matches!(failed(Put, &answer(404, "")), Cause::Other { status: Some(404), .. }));
    let get = |code, has_id| classify(Get, "us-west-2", &Answer { has_id, ..answer(404, code) });
    assert_eq!((get("", true), get("NoSuchKey", false)), (Ok(()), Ok(())));
    for (code, has_id) in [("", false), ("DefaultBackend", true)] {
        assert!(matches!(get(code, has_id), Err(Cause::Other { status: Some(404), .. })), "{code:?}");
    }
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
        (Head, 301, "", |c| matches!(c, Cause::WrongRegion { right: None, .. })),
        (Put, 301, "PermanentRedirect", |c| matches!(c, Cause::WrongRegion { right: None, .. })),
        (Head, 400, "InvalidRegionName", |c| matches!(c, Cause::WrongRegion { right: None, .. })),
        (Put, 404, "NoSuchAccessPoint", |c| *c == Cause::BucketMissing),
        (Put, 400, "IllegalLocationConstraintException", |c| matches!(c, Cause::WrongRegion { .. })),
        (Put, 403, "InvalidAccessKeyId", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Put, 403, "SignatureDoesNotMatch", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Delete, 400, "ExpiredToken", |c| *c == Cause::CredentialsInvalid { code: "ExpiredToken".into() }),
        (Put, 404, "XAdminUserNotFound", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Delete, 404, "XAdminUserNotFound", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Head, 403, "InvalidTokenId", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Put, 403, "InvalidSecurity", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Put, 403, "RequestTimeTooSkewed", |c| matches!(c, Cause::CredentialsInvalid { .. })),
        (Put, 400, "BadDigest", |c| *c == Cause::ChecksumMismatch),
        (Put, 400, "XAmzContentSHA256Mismatch", |c| *c == Cause::ChecksumMismatch),
        (Put, 400, "EntityTooLarge", |c| *c == Cause::EntityTooLarge),
        (Put, 413, "", |c| *c == Cause::BodyTooLarge),
        (Put, 409, "ObjectLockedByBucketPolicy", |c| matches!(c, Cause::Retained { .. })),
        (Delete, 409, "ObjectUnderRetention", |c| matches!(c, Cause::Retained { .. })),
        (Delete, 403, "RetentionPolicyNotMet", |c| matches!(c, Cause::Retained { .. })),
        (Put, 403, "ObjectUnderActiveHold", |c| matches!(c, Cause::Retained { .. })),
        (Head, 407, "", |c| matches!(c, Cause::Network { detail } if detail.contains("proxy requires"))),
        (Put, 403, "QuotaExceeded", |c| matches!(c, Cause::Other { status: Some(403), .. })),
        (Get, 403, "InvalidObjectState", |c| matches!(c, Cause::Other { status: Some(403), .. })),
        (
            Put,
            503,
            "SlowDown",
            |c| matches!(c, Cause::SlowDown { retry_after: None, detail } if detail == "SlowDown"),
        ),
        (Head, 429, "", |c| matches!(c, Cause::SlowDown { retry_after: None, .. })),
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
    let is = |region: &str, detail: &str| Cause::WrongRegion {
        right: Some(region.to_owned()),
        detail: detail.to_owned(),
    };
    assert_eq!(right(&Answer { bucket_region: Some("eu-west-1"), ..answer(301, "") }), is("eu-west-1", ""));
    assert_eq!(right(&Answer { bucket_region: Some("eu-west-1"), ..answer(400, "") }), is("eu-west-1", ""));
    let malformed =
        |message| Answer { message: Some(message), ..answer(400, "AuthorizationHeaderMalformed") };
    let message = "the region 'us-west-2' is wrong; expecting 'eu-central-1'";
    let detail = format!("AuthorizationHeaderMalformed: {message}");
    assert_eq!(right(&malformed(message)), is("eu-central-1", &detail));
    // Garage names it in another way. The other message is about the access key: both keys were swapped.
    let scope = "unexpected scope: 20261129/us-east-1/s3/aws4_request";
    let unnamed = right(&malformed(scope));
    assert!(
        matches!(&unnamed, Cause::WrongRegion { right: None, detail } if detail.ends_with(scope)),
        "{unnamed:?}"
    );
    let keys =
        "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
    let with_secret = format!("Authorization header malformed, {}", scope.replace(": ", ": HUNTER/2/"));
    for message in [keys, &with_secret] {
        let code = "AuthorizationHeaderMalformed".to_owned();
        assert_eq!(right(&malformed(message)), Cause::CredentialsInvalid { code });
    }
    let same = Answer { bucket_region: Some("us-west-2"), ..answer(400, "") };
    assert!(matches!(right(&same), Cause::Other { .. }));
    let hostile = Answer { bucket_region: Some("x; curl evil"), ..answer(301, "") };
    assert_eq!(right(&hostile), Cause::WrongRegion { right: None, detail: String::new() });
}

/// Garage repeats what it received as the access key ID.
#[test]
fn a_secret_key_that_was_sent_as_the_access_key_id_is_not_shown() {
    let message =
        Some("Forbidden: No such key: 7d37d093435a41f2aab8f13c19ba067d9776c90215f56614adad6ece597dbb34");
    for operation in [Put, Delete, Get] {
        let cause = failed(operation, &Answer { message, ..answer(403, "AccessDenied") });
        let code = "AccessDenied: no such access key".to_owned();
        assert_eq!(cause, Cause::CredentialsInvalid { code });
    }
}

#[test]
fn a_redirect_by_another_server_names_its_target() {
    let to = |status, location, has_id| {
        let answer = Answer { location: Some(location), has_id, ..answer(status, "") };
        match failed(Head, &answer) {
            Cause::Other { code: None, detail, .. } => {
                detail.strip_prefix("a redirect to ").map(|to| to.split(';').next().unwrap().to_owned())
            }
            _ => None,
        }
    };
    let here = "https://u:hunter2@s3.example.com/modules/x?token=hunter2";
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(to(status, here, false).as_deref(), Some("https://s3.example.com"), "{status}");
        assert_eq!(to(status, here, true), None, "{status} of S3");
    }
    assert_eq!(to(302, "http://login:8080/start", false).as_deref(), Some("http://login:8080"));
    for (status, location) in [(302, "/login"), (302, "javascript:alert(1)"), (200, here)] {
        assert_eq!(to(status, location, false), None, "{status} {location}");
    }
}

#[test]
fn delays_are_read_and_bounded() {
    let delay = |seconds, milliseconds| {
        let slow = Answer { retry_after: seconds, retry_after_ms: milliseconds, ..answer(503, "SlowDown") };
        failed(Put, &slow).retry_after()
    };
    assert_eq!(delay(Some("7"), None), Some(Duration::from_secs(7)));
    assert_eq!(delay(Some("7"), Some("1500")), Some(Duration::from_millis(1500)));
    assert_eq!(delay(Some("99999999"), None), Some(Duration::from_hours(1)));
    assert_eq!(delay(Some("soon"), None), None);
    // Stores and proxies send one with any 503: MinIO while its drives are down, others on a page about maintenance.
    for code in ["", "SlowDownWrite", "XMinioServerNotInitialized", "ServerBusy"] {
        let down = failed(Put, &Answer { retry_after: Some("3"), ..answer(503, code) });
        let retry_after = Some(Duration::from_secs(3));
        assert_eq!(down, Cause::Unavailable { status: 503, retry_after, detail: code.to_owned() });
    }
}

#[test]
fn a_delay_may_be_a_date_on_the_clock_of_the_server() {
    let delay = |until, date| {
        let slow = Answer { retry_after: Some(until), date, ..answer(503, "SlowDown") };
        failed(Put, &slow).retry_after()
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
    assert_eq!(failed(Head, &bodyless).retry_after(), Some(Duration::from_secs(9)));
}

#[test]
fn a_refused_key_is_told_from_a_refused_bucket() {
    let message =
        Some("User: arn:aws:sts::1:assumed-role/op is not authorized to perform: kms:GenerateDataKey");
    let refused = Answer { message, ..answer(403, "AccessDenied") };
    assert!(matches!(failed(Put, &refused), Cause::Kms { .. }));
}
