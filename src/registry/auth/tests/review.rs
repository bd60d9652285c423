use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::SubjectAccessReviewStatus;
use kube::core::Status;

use super::doubles::{AUDIENCE, jwt};
use crate::registry::auth::identity::Kind;
use crate::registry::auth::review::{Right, access_review, identity, permits, token_review, without_token};

fn accepted() -> TokenReviewStatus {
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![AUDIENCE.into()]),
        user: Some(UserInfo {
            username: Some("system:serviceaccount:team-a:ci".into()),
            uid: Some("1234".into()),
            groups: Some(vec!["system:serviceaccounts".into(), "system:authenticated".into()]),
            extra: Some([("authentication.kubernetes.io/credential-id".into(), vec!["JTI=1".into()])].into()),
        }),
        error: None,
    }
}

#[test]
fn an_identity_is_taken_over_unchanged() {
    let token =
        jwt(&serde_json::json!({ "alg": "RS256" }), &serde_json::json!({ "exp": 2_000_000_000 }), b"");
    let identity = identity(accepted(), AUDIENCE, &token).unwrap();
    assert_eq!(identity.kind, Kind::Reviewed);
    assert_eq!(identity.expires.unwrap().as_second(), 2_000_000_000);
    let review = access_review(&identity, Right::Download, "team-a", "eks").spec;
    let (user, status) = (accepted().user.unwrap(), review.resource_attributes.unwrap());
    assert_eq!((review.user, review.uid), (user.username, user.uid));
    assert_eq!((review.groups, review.extra), (user.groups, user.extra));
    let [verb, group, resource, subresource, namespace, name] =
        [status.verb, status.group, status.resource, status.subresource, status.namespace, status.name]
            .map(Option::unwrap);
    assert_eq!(
        [&*verb, &*group, &*resource, &*subresource],
        ["get", "opendepot.defdev.io", "modules", "download"]
    );
    assert_eq!([&*namespace, &*name], ["team-a", "eks"]);
    let read = access_review(&identity, Right::Read, "team-a", "eks").spec.resource_attributes.unwrap();
    assert_eq!((read.verb.as_deref(), read.resource.as_deref()), (Some("get"), Some("modules")));
    assert_eq!(read.subresource, None, "the object itself");
}

#[test]
fn an_empty_list_may_be_null() {
    let review = TokenReview { status: Some(accepted()), ..TokenReview::default() };
    let mut answer = serde_json::to_value(&review).unwrap();
    answer["status"]["user"]["extra"]["empty"] = serde_json::Value::Null;
    assert_eq!(token_review(answer).unwrap(), review);
}

#[test]
fn a_review_that_does_not_name_our_audience_identifies_no_one() {
    let refused = |change: fn(&mut TokenReviewStatus)| {
        let mut status = accepted();
        change(&mut status);
        assert_eq!(identity(status.clone(), AUDIENCE, "opaque"), None, "{status:?}");
    };
    refused(|status| status.authenticated = Some(false));
    refused(|status| status.authenticated = None);
    refused(|status| status.audiences = None);
    refused(|status| status.audiences = Some(Vec::new()));
    refused(|status| status.audiences = Some(vec!["https://kubernetes.default.svc".into()]));
    refused(|status| status.user = None);
    refused(|status| status.user.as_mut().unwrap().username = None);
    refused(|status| status.user.as_mut().unwrap().username = Some(String::new()));
}

#[test]
fn no_description_of_a_failed_review_contains_the_token() {
    const TOKEN: &str = "S3CR3T-token";
    let answer = |code: u16, reason: &str| {
        let message = format!("spec.token: Invalid value: \"{TOKEN}\"");
        kube::Error::Api(Status::failure(&message, reason).with_code(code).boxed())
    };
    let unreadable = || {
        let text = format!("{{\"status\":\"{TOKEN}\"}}");
        kube::Error::SerdeError(serde_json::from_str::<TokenReview>(&text).unwrap_err())
    };
    let other = || kube::Error::Service(format!("no answer to {TOKEN}").into());
    for (error, expected) in [
        (answer(422, "Invalid"), "the API server returned HTTP 422 Invalid"),
        (answer(403, "Forbidden"), "the ClusterRole system:auth-delegator"),
        (answer(500, TOKEN), "the API server returned HTTP 500 [token]"),
        (unreadable(), "cannot read the answer: line 1, column "),
        (other(), "no answer to [token]"),
    ] {
        let text = without_token(&error, TOKEN);
        assert!(text.contains(expected) && !text.contains(TOKEN), "{text}");
    }
}

#[test]
fn a_review_that_denies_permits_nothing() {
    for (allowed, denied, expected) in [
        (true, None, true),
        (true, Some(false), true),
        (true, Some(true), false),
        (false, None, false),
        (false, Some(false), false),
    ] {
        let status = SubjectAccessReviewStatus { allowed, denied, ..SubjectAccessReviewStatus::default() };
        assert_eq!(permits(&status), expected, "{status:?}");
    }
}
