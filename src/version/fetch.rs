//! From a tag to a normalised archive on disk.
//!
//! In: the work and the Version's namespace, whose Secret is read anew each time. Out: the archive, or a failure that
//! names the Secret it was about. Nothing is stored here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tempfile::NamedTempFile;

use super::SecretSeen;
use super::context::{Context, api_failure};
use super::plan::{VersionView, Work};
use super::publish::NotPublished;
use crate::archive::{self, ArchiveError, Normalised};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ArchiveFormat;
use crate::github::{self, Credential, FetchError, Fetched};
use crate::workdir;

pub(super) async fn fetch(
    ctx: &Context,
    view: &VersionView,
    work: &Work<'_>,
) -> Result<(Fetched, NamedTempFile), NotPublished> {
    let (credential, secret) = credential(ctx, view, work).await?;
    let spool_failed = |error: std::io::Error| {
        Failure::retry(
            Reason::SpoolFailed,
            format!("Cannot write to {}: {error}. Give --spool-dir room.", ctx.spool_dir.display()),
        )
    };
    let raw = workdir::temporary_file(&ctx.spool_dir).map_err(spool_failed)?;
    let file = raw.as_file().try_clone().map_err(spool_failed)?;
    let mut file = tokio::fs::File::from_std(file);
    let repository = &work.config.repository;
    let result =
        ctx.github.fetch(repository, &work.tags, work.module.file_format, &credential, &mut file).await;
    match &result {
        Ok(_) => ctx.slots.answered(&work.lane()),
        Err(FetchError::Server { .. } | FetchError::Network { .. }) => ctx.slots.failed(&work.lane()),
        Err(_) => {}
    }
    match result {
        Ok(fetched) => {
            ctx.metrics.fetched_bytes.inc_by(fetched.bytes);
            Ok((fetched, raw))
        }
        Err(error) => Err(NotPublished { secret, ..Failure::from(error).into() }),
    }
}

/// Reads the credentials, each time anew: Secrets are only ever `get`, by name, and never cached or watched.
async fn credential(
    ctx: &Context,
    view: &VersionView,
    work: &Work<'_>,
) -> Result<(Credential, SecretSeen), NotPublished> {
    if !work.module.authenticated() {
        return Ok((Credential::Anonymous, None));
    }
    let (namespace, name) = (view.namespace(), work.module.secret_name());
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

pub(super) async fn normalise(
    ctx: &Context,
    raw: NamedTempFile,
    format: ArchiveFormat,
) -> Result<Normalised, NotPublished> {
    let (limits, folder) = (ctx.limits, ctx.spool_dir.clone());
    let work = tokio::task::spawn_blocking(move || {
        archive::normalise(raw.path(), format, &limits, &folder).map_err(|error| {
            let corrupt = matches!(error, ArchiveError::Corrupt { .. });
            let download = if corrupt { archive::fingerprint(raw.path()).map(Box::new) } else { None };
            NotPublished { download, ..Failure::from(error).into() }
        })
    });
    let defect =
        "Reading the archive ended with a defect of the operator: report it with the log of this minute.";
    // A panic, which the panic hook has counted and logged; or the runtime shuts down.
    work.await.unwrap_or_else(|_| Err(Failure::retry(Reason::InternalError, defect).into()))
}
