use super::*;
use Operation::{Delete, Get, Head, Put};

fn place() -> ObjectLocation {
    ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: None,
        force_path_style: None,
    }
}

#[test]
fn messages_say_what_where_and_what_to_do() {
    let place = place();
    let text =
        |operation, cause| StorageError { operation, place: Box::new(place.clone()), cause }.to_string();
    assert_eq!(
        text(Put, Cause::BucketMissing),
        "cannot store s3://modules/vpc/a.zip: bucket modules does not exist; create it, or correct its name, \
         region or endpoint"
    );
    assert!(text(Head, Cause::AccessDenied { detail: String::new() }).contains("s3:ListBucket"));
    assert!(text(Delete, Cause::AccessDenied { detail: String::new() }).contains("s3:DeleteObject"));
    assert!(
        text(Put, Cause::WrongRegion { right: Some("eu-west-1".into()) }).contains("in region eu-west-1")
    );
}

#[test]
fn a_message_names_the_process_whose_request_it_was() {
    let place = place();
    let causes = [
        Cause::CredentialsMissing,
        Cause::CredentialsInvalid { code: "ExpiredToken".into() },
        Cause::AccessDenied { detail: String::new() },
    ];
    for cause in causes {
        let text = |operation| explained(operation, &place, &cause);
        assert!(text(Head).contains("the operator") && !text(Head).contains("registry"), "{}", text(Head));
        assert!(text(Get).contains("the registry") && !text(Get).contains("operator"), "{}", text(Get));
    }
    let failed = Cause::Unavailable { status: 503, detail: String::new() };
    assert_eq!(explained(Put, &place, &failed), "S3 failed (HTTP 503); this is retried");
    assert_eq!(explained(Get, &place, &failed), "S3 failed (HTTP 503)");
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
        (Put, bad(Some("InvalidArgument")), false),
        (Head, Cause::Unavailable { status: 503, detail: String::new() }, false),
    ] {
        assert_eq!(cause.may_be_of_old_credentials(operation), may_be, "{operation:?} {cause:?}");
    }
}

#[test]
fn path_style_is_named_where_an_endpoint_is_set_without_it() {
    let place = ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: Some("http://minio.storage.svc:9000".into()),
        force_path_style: None,
    };
    let path_style = ObjectLocation { force_path_style: Some(true), ..place.clone() };
    let aws = ObjectLocation { endpoint: None, ..place.clone() };
    let causes = [
        (Put, Cause::BucketMissing),
        (Head, Cause::Network { detail: "dns error".into() }),
        (Put, Cause::InvalidBucket),
    ];
    for (operation, cause) in causes {
        let text = |place: &ObjectLocation| {
            StorageError { operation, place: Box::new(place.clone()), cause: cause.clone() }.to_string()
        };
        assert!(text(&place).ends_with(", or set forcePathStyle: true"), "{}", text(&place));
        assert!(!text(&path_style).contains("forcePathStyle") && !text(&aws).contains("forcePathStyle"));
    }
}
