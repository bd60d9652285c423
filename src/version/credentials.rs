//! The credentials of a Version, from the Secret that its configuration names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::api_failure::api_failure;
use super::context::Context;
use super::outcome::{NotPublished, SecretVersion};
use super::retry::Attempt;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::failure::{Failure, Reason};
use crate::github::{self, Credential};

/// Reads the credentials. Secrets are read by name each time, never cached or watched.
pub(super) async fn credential(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Credential, Option<SecretVersion>), NotPublished> {
    if !target.config.authenticated() {
        return Ok((Credential::Anonymous, None));
    }
    let (namespace, name) = (version.namespace(), target.config.secret_name());
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let failed = |failure: Failure, resource_version| NotPublished {
        secret: Some((name.to_owned(), resource_version)),
        ..failure.into()
    };
    let secret = match secrets.get(name).await {
        Ok(secret) => secret,
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            let message = format!(
                "Secret {name} does not exist in namespace {namespace}: create it with githubAppID, githubInstallID and \
                 githubPrivateKey, or with githubToken."
            );
            return Err(failed(Failure::stalled(Reason::SecretNotFound, message), None));
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let message = format!(
                "The operator may not read Secret {name} in namespace {namespace}: allow it to get Secrets there."
            );
            return Err(failed(Failure::stalled(Reason::SecretForbidden, message), None));
        }
        Err(error) => return Err(api_failure(&error).into()),
    };
    let resource_version = secret.metadata.resource_version;
    let data: BTreeMap<String, Vec<u8>> = secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
    match github::credential_from_secret(&data) {
        Ok(credential) => Ok((credential, Some((name.to_owned(), resource_version)))),
        Err(error) => {
            let failure = Failure::stalled(
                Reason::SecretInvalid,
                format!("Secret {name} in namespace {namespace}: {error}"),
            );
            Err(failed(failure, resource_version))
        }
    }
}

/// Whether the Secret that an attempt failed on has changed since.
pub(super) async fn secret_has_changed(ctx: &Context, version: &VersionState, attempt: &Attempt) -> bool {
    let Some((name, seen)) = &attempt.secret else { return false };
    let current = ctx.secret_version(version.namespace(), name).await;
    current.is_some_and(|current| current != *seen)
}

/// The Secret that may be why a Version is stalled, according to the status.
pub(super) fn suspected_secret(version: &VersionState) -> Option<&str> {
    let config = version.config.as_deref().filter(|config| config.authenticated())?;
    let is_suspected = version.status.reason().parse().is_ok_and(Reason::may_be_about_secret);
    (version.status.is_stalled() && is_suspected).then(|| config.secret_name())
}

/// Whether a Secret is another one than when this process first looked at it for this Version.
pub(super) async fn secret_was_replaced(ctx: &Context, version: &VersionState, secret: &str) -> bool {
    let Some(now) = ctx.secret_version(version.namespace(), secret).await else { return false };
    ctx.retries.with(version.uid(), |retry| {
        let before = retry.secret_seen.replace(Box::new(now.clone()));
        before.is_some_and(|before| *before != now)
    })
}
