//! The credentials of a Version, from the Secret that its configuration names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::api_failure::api_failure;
use super::context::Context;
use super::memory::Attempt;
use super::outcome::{AttemptFailure, SecretVersion};
use super::publish_delay::recalled;
use super::secret_polls::SecretRead;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::client::{explain, is_older};
use crate::controller::failure::{Failure, Reason};
use crate::github::{self, Credential, CredentialError};

/// Reads the credentials. Returns also the Secret that they come from. Secrets are read by name each time, never cached or
/// watched.
pub(super) async fn credential(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Credential, Option<SecretVersion>), AttemptFailure> {
    let Some(name) = target.config.secret() else { return Ok((Credential::Anonymous, None)) };
    let namespace = version.namespace();
    let stalled = |reason, message: String, resource_version| AttemptFailure {
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
                "The operator has no permission to read Secret {name} in namespace {namespace}: grant its ServiceAccount get on it."
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
    let reason = version.status.reason().parse().ok()?;
    version.secret().filter(|_| awaits_secret(reason, version.status.is_stalled()))
}

/// Lets another Version try the Secret after a reconcile that has shown nothing of it, such as one that a change has ended, unless
/// GitHub has answered this Version's trial.
pub(super) fn return_trial(ctx: &Context, version: &VersionState) {
    if let Some(name) = version.secret() {
        ctx.secret_trials.take_back(version.uid(), version.namespace(), name, &version.repository_key());
    }
}

/// Whether a Version that waits for its Secret is to try it now.
pub(super) async fn secret_may_work(
    ctx: &Context,
    version: &VersionState,
    attempt: Option<&Attempt>,
    secret: &str,
) -> bool {
    let (uid, namespace) = (version.uid(), version.namespace());
    let reason = version.status.reason().parse::<Reason>().ok();
    let may_try = |repository: Option<&str>| ctx.secret_trials.may_try(uid, namespace, secret, repository);
    if attempt.is_none() && reason.is_some_and(Reason::is_about_secret) && may_try(None) {
        return true;
    }
    let recalls_limit = attempt.is_none() && reason == Some(Reason::RateLimited);
    let request = resource_version(ctx, version, secret, recalls_limit);
    let Some(now) = ctx.secret_polls.read(namespace, secret, request).await else { return false };
    let (seen, status) = match attempt.and_then(|attempt| attempt.secret.clone()) {
        Some((_, seen)) => (seen, None),
        None => ctx.memories.with(uid, |memory| {
            let first = memory.secret_seen.get_or_insert_with(|| Box::new(now.clone()));
            ((**first).clone(), version.metadata.resource_version.as_deref())
        }),
    };
    let may_access = || may_try(Some(&version.repository_key()));
    may_work(reason, seen.as_deref(), now.as_deref(), status, may_access)
}

/// Reads the resourceVersion of a Secret. `recalls_limit`: whether the limit in the status is applied to its credential.
async fn resource_version(
    ctx: &Context,
    version: &VersionState,
    name: &str,
    recalls_limit: bool,
) -> SecretRead {
    let found = secrets(ctx, version).get_opt(name).await;
    let log = |error: &kube::Error| tracing::debug!(error = explain(error), name, "cannot read the Secret");
    let found = found.inspect_err(log).ok()?;
    let resource_version = found.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
    if let Some(secret) = found.filter(|_| recalls_limit)
        && let (Ok(target), Ok(credential)) = (Target::of(version), parsed(secret))
    {
        recalled(ctx, version, &target, &credential, resource_version.as_deref());
    }
    Some(resource_version)
}

/// Whether a Secret may work after a failure for `reason`, which may be about it.
///
/// - It has changed: from the resourceVersion `seen` by the attempt, or when this process first read it, to the one `now`.
/// - It was written after the `status`, accepted by GitHub, and `may_try` permits to test its access to the repository. `status`
///   is the resourceVersion of the Version, unless the attempt is remembered. A rate limit needs no such test: GitHub's first
///   answer counts for the whole account.
fn may_work(
    reason: Option<Reason>,
    seen: Option<&str>,
    now: Option<&str>,
    status: Option<&str>,
    may_try: impl FnOnce() -> bool,
) -> bool {
    let is_accepted = !reason.is_some_and(Reason::is_about_secret);
    let may_have_access = || reason == Some(Reason::RateLimited) || may_try();
    seen != now || (is_accepted && is_older(status, now) && may_have_access())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_work_once_it_has_changed_or_is_newer_than_the_failure() {
        use Reason::{RateLimited, RepositoryNotFound, SecretInvalid, SecretNotFound};
        for (reason, seen, now, status, may_try, expected) in [
            // The attempt is remembered.
            (SecretInvalid, Some("5"), Some("6"), None, false, true),
            (SecretInvalid, Some("5"), Some("5"), None, true, false),
            (RateLimited, Some("9"), Some("9"), None, true, false),
            (SecretNotFound, None, Some("1"), None, false, true),
            (SecretNotFound, None, None, None, true, false),
            // The status is all that is known.
            (SecretInvalid, Some("9"), Some("9"), Some("8"), true, false),
            (SecretInvalid, Some("9"), None, Some("8"), false, true),
            (RepositoryNotFound, Some("9"), Some("9"), Some("8"), true, true),
            (RepositoryNotFound, Some("9"), Some("9"), Some("8"), false, false),
            (RepositoryNotFound, Some("7"), Some("7"), Some("8"), true, false),
            (RateLimited, Some("9"), Some("9"), Some("8"), false, true),
            (RateLimited, Some("7"), Some("7"), Some("8"), false, false),
        ] {
            let may = may_work(Some(reason), seen, now, status, || may_try);
            assert_eq!(may, expected, "{reason}, seen {seen:?}, now {now:?}, status {status:?}, {may_try}");
        }
    }
}
