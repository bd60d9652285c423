//! The credentials of a Version, from the Secret that its configuration names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::ObjectMeta;

use super::api_failure::api_failure;
use super::context::Context;
use super::outcome::{NotPublished, SecretVersion};
use super::retry::Attempt;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::failure::{Failure, Reason};
use crate::github::{self, Credential};

/// Reads the credentials. Returns also the Secret that they come from, and when that was last written. Secrets are read by name
/// each time, never cached or watched.
pub(super) async fn credential(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Credential, Option<SecretVersion>, Option<Timestamp>), NotPublished> {
    if !target.config.authenticated() {
        return Ok((Credential::Anonymous, None, None));
    }
    let (namespace, name) = (version.namespace(), target.config.secret_name());
    let stalled = |reason, message: String, resource_version| NotPublished {
        secret: Some((name.to_owned(), resource_version)),
        ..Failure::new(reason, message).into()
    };
    let secret = match secrets(ctx, version).get(name).await {
        Ok(secret) => secret,
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            let message = format!(
                "Secret {name} does not exist in namespace {namespace}: create it with githubAppID, githubInstallID and \
                 githubPrivateKey, or with githubToken."
            );
            return Err(stalled(Reason::SecretNotFound, message, None));
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let message = format!(
                "The operator may not read Secret {name} in namespace {namespace}: allow it to get Secrets there."
            );
            return Err(stalled(Reason::SecretForbidden, message, None));
        }
        Err(error) => return Err(api_failure(&error).into()),
    };
    let (written, resource_version) = (last_written(&secret.metadata), secret.metadata.resource_version);
    let data: BTreeMap<String, Vec<u8>> = secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
    match github::credential_from_secret(&data) {
        Ok(credential) => Ok((credential, Some((name.to_owned(), resource_version)), written)),
        Err(error) => {
            let message = format!("Secret {name} in namespace {namespace}: {error}");
            Err(stalled(Reason::SecretInvalid, message, resource_version))
        }
    }
}

/// When an object was last written, as the API server records it.
fn last_written(metadata: &ObjectMeta) -> Option<Timestamp> {
    let writes = metadata.managed_fields.iter().flatten().filter_map(|write| write.time.as_ref());
    writes.chain(&metadata.creation_timestamp).map(|time| time.0).max()
}

fn secrets(ctx: &Context, version: &VersionState) -> Api<Secret> {
    Api::namespaced(ctx.client.clone(), version.namespace())
}

/// Whether another content of its Secret may end a failure: the Secret may be why it is stalled, or its account has reached
/// GitHub's limit.
pub(super) fn awaits_secret(reason: Reason, is_stalled: bool) -> bool {
    (is_stalled && reason.may_be_about_secret()) || reason == Reason::RateLimited
}

/// The Secret that the last attempt failed on; or, if this process remembers no attempt, the one that may be why the status is
/// stalled, or whose account has reached GitHub's limit.
pub(super) fn awaited_secret<'a>(version: &'a VersionState, attempt: Option<&'a Attempt>) -> Option<&'a str> {
    if let Some(attempt) = attempt {
        return attempt.secret.as_ref().map(|(name, _)| name.as_str());
    }
    let config = version.config.as_deref().filter(|config| config.authenticated())?;
    let reason = version.status.reason().parse().ok()?;
    awaits_secret(reason, version.status.is_stalled()).then(|| config.secret_name())
}

/// Whether a Version that waits for its Secret is to try it now: the Secret has changed since the attempt, or since this process
/// first read it; or, if this process remembers no attempt, no Version has tried it since this process became leader, or it has
/// worked for one since.
pub(super) async fn secret_may_work(
    ctx: &Context,
    version: &VersionState,
    attempt: Option<&Attempt>,
    secret: &str,
) -> bool {
    let namespace = version.namespace();
    let is_refused = version.status.reason().parse().is_ok_and(Reason::is_about_secret);
    if attempt.is_none() && is_refused && ctx.secret_trials.may_try(namespace, secret) {
        return true;
    }
    let request = async {
        let found = secrets(ctx, version).get_opt(secret).await;
        let found =
            found.inspect_err(|error| tracing::debug!(%error, name = secret, "cannot read the Secret"));
        found.ok().map(|found| found.and_then(|secret| secret.metadata.resource_version))
    };
    let Some(now) = ctx.secret_polls.outcome(namespace, secret, request).await else { return false };
    if let Some((_, seen)) = attempt.and_then(|attempt| attempt.secret.as_ref()) {
        return now != *seen;
    }
    ctx.retries.with(version.uid(), |retry| {
        let before = retry.secret_seen.replace(Box::new(now.clone()));
        before.is_some_and(|before| *before != now)
    })
}
