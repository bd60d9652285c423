use super::*;
use Operation::{Delete, Get, Head, Put};

fn location() -> ObjectLocation {
    ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: None,
        force_path_style: None,
    }
}

fn wrong_region(right: Option<&str>, detail: &str) -> Cause {
    Cause::WrongRegion { right: right.map(str::to_owned), detail: detail.to_owned() }
}

#[test]
fn messages_say_what_where_and_what_to_do() {
    let location = location();
    let text = |operation, cause| {
        StorageError { operation, location: Box::new(location.clone()), cause }.to_string()
    };
    assert_eq!(
        text(Put, Cause::BucketMissing),
        "cannot store s3://modules/vpc/a.zip: bucket modules does not exist; create it, or correct its name, \
         region or endpoint"
    );
    assert!(text(Head, Cause::AccessDenied { detail: String::new() }).contains("s3:ListBucket"));
    assert!(text(Delete, Cause::AccessDenied { detail: String::new() }).contains("s3:DeleteObject"));
    assert!(text(Put, wrong_region(Some("eu-west-1"), "")).contains("in region eu-west-1"));
    let unnamed = text(Head, wrong_region(None, "InvalidRegionName: auto"));
    assert!(unnamed.contains("not in region us-west-2: InvalidRegionName: auto; correct"), "{unnamed}");
    let slow = Cause::SlowDown { retry_after: None, detail: "SlowDown: Reduce your rate".into() };
    assert!(text(Put, slow).ends_with("S3 throttles requests: SlowDown: Reduce your rate; this is retried"));
    assert!(text(Put, Cause::BodyTooLarge).contains("client_max_body_size"));
    let locked = text(Delete, Cause::Retained { detail: "ObjectUnderRetention".into() });
    assert!(locked.contains("until its retention ends") && locked.contains("ObjectUnder"), "{locked}");
    for code in ["QuotaExceeded", "XMinioAdminBucketQuotaExceeded"] {
        let full = Cause::Other { status: Some(400), code: Some(code.to_owned()), detail: String::new() };
        assert!(text(Put, full).ends_with("; enlarge the quota of the store, or delete objects"), "{code}");
    }
    let code = "InvalidObjectState".to_owned();
    let archived = Cause::Other { status: Some(403), code: Some(code.clone()), detail: code };
    assert!(text(Get, archived).contains("InvalidObjectState; the object is archived: remove the lifecycle"));
}

#[test]
fn a_bucket_of_that_name_in_another_region_is_another_one_at_aws() {
    let elsewhere = || wrong_region(Some("eu-west-1"), "");
    let minio = Some("https://minio.example.com".to_owned());
    let private = |region| Some(format!("https://bucket.vpce-1-2.s3.{region}.vpce.amazonaws.com"));
    for (endpoint, cause, expected) in [
        (None, elsewhere(), true),
        (None, wrong_region(None, ""), false),
        (None, Cause::BucketMissing, false),
        (minio, elsewhere(), false),
        (private("us-west-2"), elsewhere(), true),
        (private("eu-west-1"), elsewhere(), false),
    ] {
        let location = Box::new(ObjectLocation { endpoint, ..location() });
        let error = StorageError { operation: Head, location, cause };
        assert_eq!(error.shows_deleted_bucket(), expected, "{error}");
    }
}

#[test]
fn a_message_names_the_process_whose_request_it_was() {
    let location = location();
    let causes = [
        Cause::CredentialsMissing,
        Cause::CredentialsInvalid { code: "ExpiredToken".into() },
        Cause::AccessDenied { detail: String::new() },
    ];
    for cause in causes {
        let text = |operation| explained(operation, &location, &cause);
        assert!(text(Head).contains("the operator") && !text(Head).contains("registry"), "{}", text(Head));
        assert!(text(Get).contains("the registry") && !text(Get).contains("operator"), "{}", text(Get));
    }
    let failed = Cause::unavailable(503, "");
    assert_eq!(explained(Put, &location, &failed), "S3 failed (HTTP 503); this is retried");
    assert_eq!(explained(Get, &location, &failed), "S3 failed (HTTP 503)");
}

#[test]
fn advice_on_credentials_depends_on_why_they_could_not_be_loaded() {
    for (detail, advice) in [
        (
            "not properly configured: This behavior requires following cargo feature(s) enabled: sso.",
            "aws configure export-credentials",
        ),
        ("not properly configured: could not parse profile file", "correct the AWS profile"),
        ("an error occurred while loading credentials: AccessDenied", "trust policy"),
    ] {
        let text = explained(Put, &location(), &Cause::CredentialsUnavailable { detail: detail.into() });
        assert!(text.contains(detail) && text.contains(advice), "{text}");
    }
}

#[test]
fn new_credentials_are_loaded_after_answers_that_old_ones_may_have() {
    let expired = Cause::CredentialsInvalid { code: "ExpiredToken".into() };
    let denied = |detail: &str| Cause::AccessDenied { detail: detail.into() };
    let bad = |code: Option<&str>| {
        let code = code.map(str::to_owned);
        Cause::Other { status: Some(400), code, detail: String::new() }
    };
    for (operation, cause, may_be) in [
        (Get, expired.clone(), true),
        (Head, expired, true),
        // The answer to a HEAD is only a status.
        (Head, denied(""), true),
        (Head, bad(None), true),
        (Put, denied(""), false),
        (Head, denied("AccessDenied"), false),
        (
            Put,
            denied("AccessDenied: not authorized, with an explicit deny in an identity-based policy"),
            true,
        ),
        (
            Put,
            denied("AccessDenied: not authorized, with an explicit deny in a resource-based policy"),
            false,
        ),
        (Put, bad(Some("InvalidArgument")), false),
        (Head, Cause::unavailable(503, ""), false),
    ] {
        assert_eq!(cause.may_be_of_old_credentials(operation), may_be, "{operation:?} {cause:?}");
    }
}

#[test]
fn only_an_unexplained_head_names_several_reasons() {
    let denied = |detail: &str| explained(Head, &location(), &Cause::AccessDenied { detail: detail.into() });
    assert!(denied("").contains("wrong keys"), "{}", denied(""));
    let named = denied("AccessDenied: Access Denied");
    assert!(named.contains("access denied: AccessDenied") && named.contains("s3:ListBucket"), "{named}");
    assert!(!named.contains("wrong keys"), "{named}");
    let bad = |code: Option<&str>| {
        let code = code.map(str::to_owned);
        explained(Head, &location(), &Cause::Other { status: Some(400), code, detail: String::new() })
    };
    assert!(bad(None).contains("the answer to a HEAD has no details"), "{}", bad(None));
    assert_eq!(bad(Some("InvalidRequest")), "S3 answered HTTP 400, InvalidRequest");
}

#[test]
fn a_wrong_signature_may_be_due_to_a_proxy_in_front_of_a_store() {
    let cause = |code: &str| Cause::CredentialsInvalid { code: code.to_owned() };
    let at = |endpoint: &str| ObjectLocation { endpoint: Some(endpoint.to_owned()), ..location() };
    let minio = at("https://minio.example.com");
    let private = at("https://bucket.vpce-1-2.s3.us-west-2.vpce.amazonaws.com");
    for (location, code, expected) in [
        (&minio, "SignatureDoesNotMatch", true),
        (&private, "SignatureDoesNotMatch", false),
        (&minio, "InvalidAccessKeyId", false),
        (&location(), "SignatureDoesNotMatch", false),
    ] {
        let text = explained(Head, location, &cause(code));
        assert_eq!((text.contains("passes Host"), text.contains("clock")), (expected, !expected), "{text}");
    }
}

#[test]
fn the_reason_of_a_rejected_head_is_an_answer_of_s3_itself() {
    let other = |status, code: Option<&str>| {
        let code = code.map(str::to_owned);
        Cause::Other { status: Some(status), code, detail: String::new() }
    };
    let denied = |detail: &str| Cause::AccessDenied { detail: detail.into() };
    for cause in [
        Cause::CredentialsInvalid { code: "InvalidAccessKeyId".into() },
        wrong_region(None, ""),
        Cause::Kms { detail: "AccessDenied: kms:Decrypt".into() },
        denied("AccessDenied"),
        other(400, Some("InvalidRequest")),
    ] {
        assert!(cause.names_reason() && !cause.lacks_reason(), "{cause:?}");
    }
    for cause in [denied(""), other(400, None), other(401, None)] {
        assert!(cause.lacks_reason() && !cause.names_reason(), "{cause:?}");
    }
    for cause in [
        Cause::BucketMissing,
        Cause::Network { detail: "timeout".into() },
        Cause::unavailable(503, ""),
        other(404, Some("DefaultBackend")),
    ] {
        assert!(!cause.lacks_reason() && !cause.names_reason(), "{cause:?}");
    }
}

#[test]
fn path_style_is_named_where_an_endpoint_is_set_without_it() {
    let location = ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: Some("http://minio.storage.svc:9000".into()),
        force_path_style: None,
    };
    let path_style = ObjectLocation { force_path_style: Some(true), ..location.clone() };
    let aws = ObjectLocation { endpoint: None, ..location.clone() };
    let causes = [
        (Put, Cause::BucketMissing),
        (Head, Cause::Network { detail: "dns error".into() }),
        (Put, Cause::InvalidBucket),
    ];
    for (operation, cause) in causes {
        let text = |location: &ObjectLocation| {
            StorageError { operation, location: Box::new(location.clone()), cause: cause.clone() }.to_string()
        };
        assert!(text(&location).ends_with(", or set forcePathStyle: true"), "{}", text(&location));
        assert!(!text(&path_style).contains("forcePathStyle") && !text(&aws).contains("forcePathStyle"));
    }
}
