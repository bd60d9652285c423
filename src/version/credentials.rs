//! The credentials of a Version, from the Secret that its configuration names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::api_failure::api_failure;
use super::context::Context;
use super::held_back::recalled;
use super::outcome::{NotPublished, SecretVersion};
use super::progress::Progress;
use super::retry::Attempt;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::client::is_older;
use crate::controller::failure::{Failure, Reason};
use crate::github::{self, Credential, CredentialError};

/// Reads the credentials. Returns also the Secret that they come from. Secrets are read by name each time, never cached or
/// watched.
pub(super) async fn credential(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Credential, Option<SecretVersion>), NotPublished> {
    if !target.config.authenticated() {
        return Ok((Credential::Anonymous, None));
    }
    let (namespace, name) = (version.namespace(), target.config.secret_name());
    let stalled = |reason, message: String, resource_version| NotPublished {
        secret: Some((name.to_owned(), resource_version)),
        ..Failure::new(reason, message).into()
    };
    let secret = match secrets(ctx, version).get(name).await {
        Ok(secret) => secret,
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            ctx.secret_polls.record(namespace, name, None);
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
    let resource_version = secret.metadata.resource_version.clone();
    ctx.secret_polls.record(namespace, name, resource_version.clone());
    match parsed(secret) {
        Ok(credential) => Ok((credential, Some((name.to_owned(), resource_version)))),
        Err(error) => {
            let message = format!("Secret {name} in namespace {namespace}: {error}");
            Err(stalled(Reason::SecretInvalid, message, resource_version))
        }
    }
}

fn parsed(secret: Secret) -> Result<Credential, CredentialError> {
    let data: BTreeMap<String, Vec<u8>> = secret.data.into_iter().flatten().map(|(k, v)| (k, v.0)).collect();
    github::credential_from_secret(&data)
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

/// Applies the limit in the status of a Version to the credential in its Secret.
fn recall_limit(ctx: &Context, version: &VersionState, secret: Secret) {
    let resource_version = secret.metadata.resource_version.clone();
    if let (Ok(target), Ok(credential)) = (Target::of(version), parsed(secret)) {
        recalled(ctx, version, &target, &credential, resource_version.as_deref());
    }
}

/// Lets another Version try the Secret of an attempt that has ended without a failure, such as after a change of its Version.
pub(super) fn return_trial(ctx: &Context, version: &VersionState, progress: &Progress) {
    let config = version.config.as_deref().filter(|config| config.authenticated());
    if let Some(config) = config.filter(|_| progress.tries_now.is_set()) {
        let repository = version.repository_key();
        ctx.secret_trials.take_back(version.namespace(), config.secret_name(), &repository);
    }
}

/// Whether a Version that waits for its Secret is to try it now. If this process remembers the attempt: the Secret has changed
/// since. Otherwise: it has changed since this process first read it; or it was rejected, or written after the status, and no
/// Version has tried it since this process became leader, or it has worked for one. A rate limit needs no such trial, because
/// GitHub's first answer counts for the whole account.
pub(super) async fn secret_may_work(
    ctx: &Context,
    version: &VersionState,
    attempt: Option<&Attempt>,
    secret: &str,
) -> bool {
    let namespace = version.namespace();
    let reason = version.status.reason().parse::<Reason>().ok();
    let is_refused = reason.is_some_and(Reason::is_about_secret);
    if attempt.is_none() && is_refused && ctx.secret_trials.may_try(namespace, secret, None) {
        return true;
    }
    let request = async {
        let found = secrets(ctx, version).get_opt(secret).await;
        let found =
            found.inspect_err(|error| tracing::debug!(%error, name = secret, "cannot read the Secret"));
        let seen = |secret: Secret| {
            let resource_version = secret.metadata.resource_version.clone();
            if attempt.is_none() && reason == Some(Reason::RateLimited) {
                recall_limit(ctx, version, secret);
            }
            resource_version
        };
        found.ok().map(|found| found.and_then(seen))
    };
    let Some(now) = ctx.secret_polls.outcome(namespace, secret, request).await else { return false };
    if let Some((_, seen)) = attempt.and_then(|attempt| attempt.secret.as_ref()) {
        return now != *seen;
    }
    let is_replaced = ctx.retries.with(version.uid(), |retry| {
        let first = retry.secret_seen.get_or_insert_with(|| Box::new(now.clone()));
        **first != now
    });
    let is_newer = || is_older(version.metadata.resource_version.as_deref(), now.as_deref());
    let may_try = || ctx.secret_trials.may_try(namespace, secret, Some(&version.repository_key()));
    is_replaced || (!is_refused && is_newer() && (reason == Some(Reason::RateLimited) || may_try()))
}
