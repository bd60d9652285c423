//! Reviews by the API server: whose token it is, and what an identity may do.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};

use super::identity::{Identity, Kind};
use super::token::Unverified;

/// Time limit of one review.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A review in progress. The error is for the log, and contains no token.
pub(super) type Pending<T> = BoxFuture<'static, Result<T, String>>;

/// Requests reviews. A trait, so that tests need no API server.
pub(super) trait Reviewer: Send + Sync + 'static {
    /// Whose token it is; `None` if it is not accepted for `audience`.
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>>;

    /// Whether `identity` has this right to the Module `name` of `namespace`, or to all of them if it is empty.
    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool>;
}

/// Reviews by the API server.
impl Reviewer for Client {
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>> {
        let api: Api<TokenReview> = Api::all(self.clone());
        Box::pin(async move {
            let review = TokenReview {
                spec: TokenReviewSpec {
                    audiences: Some(vec![audience.clone()]),
                    token: Some(token.expose_secret().to_owned()),
                },
                ..TokenReview::default()
            };
            let answer = in_time(api.create(&PostParams::default(), &review)).await?;
            Ok(answer.status.and_then(|status| identity(status, &audience, token.expose_secret())))
        })
    }

    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool> {
        let api: Api<SubjectAccessReview> = Api::all(self.clone());
        let review = access_review(identity, right, namespace, name);
        Box::pin(async move {
            let answer = in_time(api.create(&PostParams::default(), &review)).await?;
            Ok(answer.status.is_some_and(|status| permits(&status)))
        })
    }
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
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
    /// To install it. Not plain `get modules`: a role that shows Modules does not hand out their code.
    Download,
    /// To read the object, and so what its conditions say.
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
        group: Some("opendepot.defdev.io".into()),
        version: Some("v1alpha1".into()),
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
