//! Reviews by the API server: whose token it is, and what an identity may do.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

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

/// The API server gave no answer. The text is for the log, and contains no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoAnswer(pub String);

/// A review in progress.
pub(super) type Pending<T> = Pin<Box<dyn Future<Output = Result<T, NoAnswer>> + Send>>;

/// Asks for reviews. A trait, so that tests need no API server.
pub(super) trait Reviewer: Send + Sync + 'static {
    /// Whose token it is; `None` if it is not accepted for `audience`.
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>>;

    /// Whether `identity` has this right to the Module `name` of `namespace`, or to all of them if it is empty.
    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool>;
}

/// Reviews by the API server of `client`.
pub(super) struct ApiServer {
    pub client: Client,
}

impl Reviewer for ApiServer {
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>> {
        let api: Api<TokenReview> = Api::all(self.client.clone());
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
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = access_review(identity, right, namespace, name);
        Box::pin(async move {
            let answer = in_time(api.create(&PostParams::default(), &review)).await?;
            Ok(answer.status.is_some_and(|status| permits(&status)))
        })
    }
}

async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, NoAnswer> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(NoAnswer(error.to_string())),
        Err(_) => Err(NoAnswer(format!("no answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// The identity of a review that accepts the token for `audience`: an authenticator that knows no audiences leaves
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

impl Right {
    const fn subresource(self) -> Option<&'static str> {
        match self {
            Self::Download => Some("download"),
            Self::Read => None,
        }
    }
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
        subresource: right.subresource().map(Into::into),
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
