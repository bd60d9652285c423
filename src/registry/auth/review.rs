//! Reviews by the API server: whose token it is, and what an identity may do.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::identity::{Identity, Kind};
use super::token::Unverified;
use crate::api::{GROUP, VERSION};
use crate::controller::client::explain;

/// Time limit of one review.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A review in progress. The error is for the log, and contains no token.
pub(super) type Pending<T> = BoxFuture<'static, Result<T, String>>;

/// Requests reviews. A trait, so that tests need no API server.
pub trait Reviewer: Send + Sync + 'static {
    /// Whose token it is; `None` if it is not accepted for `audience`.
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>>;

    /// Whether `identity` has this right to the Module `name` of `namespace`, or to all of them if it is empty.
    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool>;
}

/// Reviews by the API server.
impl Reviewer for Client {
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>> {
        let client = self.clone();
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    audiences: Some(vec![audience.clone()]),
                    token: Some(token.expose_secret().to_owned()),
                },
                ..TokenReview::default()
            };
            let failed = |error: kube::Error| without_token(&error, token.expose_secret());
            let answer = in_time(reviewed(&client, &review), failed).await?;
            Ok(answer.status.and_then(|status| identity(status, &audience, token.expose_secret())))
        })
    }

    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool> {
        let api: Api<SubjectAccessReview> = Api::all(self.clone());
        let review = access_review(identity, right, namespace, name);
        Box::pin(async move {
            let failed = |error: kube::Error| with_advice(&error, explain(&error));
            let answer = in_time(api.create(&PostParams::default(), &review), failed).await?;
            Ok(answer.status.is_some_and(|status| permits(&status)))
        })
    }
}

/// The API server's answer to the review of a token.
async fn reviewed(client: &Client, review: &TokenReview) -> kube::Result<TokenReview> {
    let body = serde_json::to_vec(review).map_err(kube::Error::SerdeError)?;
    let request = Request::new(TokenReview::url_path(&(), None)).create(&PostParams::default(), body);
    let answer = client.request(request.map_err(kube::Error::BuildRequest)?).await?;
    token_review(answer).map_err(kube::Error::SerdeError)
}

/// The review in an answer. A list in `extra` may be null: an authenticator that is written in Go may leave it so.
pub(super) fn token_review(mut answer: Value) -> serde_json::Result<TokenReview> {
    if let Some(extra) = answer.pointer_mut("/status/user/extra").and_then(Value::as_object_mut) {
        extra.retain(|_, list| !list.is_null());
    }
    serde_json::from_value(answer)
}

/// The answer to a review. `failed` describes an error for the log.
async fn in_time<T>(
    request: impl Future<Output = kube::Result<T>>,
    failed: impl FnOnce(kube::Error) -> String,
) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

/// The description of an error without the token. An answer that rejects a request may repeat the request.
pub(super) fn without_token(error: &kube::Error, token: &str) -> String {
    let text = match error {
        kube::Error::Api(status) => format!("the API server returned HTTP {} {}", status.code, status.reason),
        kube::Error::SerdeError(error) => {
            format!("cannot read the answer: line {}, column {}", error.line(), error.column())
        }
        error => explain(error),
    };
    let text = if token.is_empty() { text } else { text.replace(token, "[token]") };
    with_advice(error, text)
}

/// The description with what to do about the error, if that is known.
fn with_advice(error: &kube::Error, text: String) -> String {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            format!("{text}; bind the ClusterRole system:auth-delegator to the registry's ServiceAccount")
        }
        _ => text,
    }
}

/// The identity of a review that accepts the token for `audience`. An authenticator without support for audiences leaves
/// `status.audiences` empty, which counts as another audience.
pub(super) fn identity(status: TokenReviewStatus, audience: &str, token: &str) -> Option<Identity> {
    let ours = status.audiences.unwrap_or_default().iter().any(|one| one == audience);
    if status.authenticated != Some(true) || !ours {
        return None;
    }
    let user = status.user?;
    let name = user.username.filter(|name| !name.is_empty())?;
    let expires = Unverified::parse(token).and_then(|jwt| jwt.expires().ok().flatten());
    let uid = user.uid.filter(|uid| !uid.is_empty());
    let (groups, extra) = (user.groups.unwrap_or_default(), user.extra.unwrap_or_default());
    Some(Identity::new(Kind::Reviewed, name, uid, groups, extra, expires))
}

/// Whether the API server permits it. An authorizer that denies wins over those that allow.
pub(super) fn permits(status: &SubjectAccessReviewStatus) -> bool {
    status.allowed && status.denied != Some(true)
}

/// A right to a Module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To install it. Not plain `get modules`: a role that shows Modules gives no access to their code.
    Download,
    /// To read the object, and so the messages of its conditions.
    Read,
}

/// Whether `identity` has a right to a Module.
pub(super) fn access_review(
    identity: &Identity,
    right: Right,
    namespace: &str,
    name: &str,
) -> SubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some("get".into()),
        group: Some(GROUP.into()),
        version: Some(VERSION.into()),
        resource: Some("modules".into()),
        subresource: (right == Right::Download).then(|| "download".into()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(identity.user.clone()),
            uid: identity.uid.clone(),
            groups: Some(identity.groups.clone()),
            extra: Some(identity.extra.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
