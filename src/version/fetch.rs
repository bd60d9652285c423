//! From a tag to a normalised archive on disk.

use tempfile::NamedTempFile;

use super::context::Context;
use super::credentials::credential;
use super::outcome::NotPublished;
use super::scheduler::FetchPermit;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::archive::{self, ArchiveError, Normalised};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ArchiveFormat;
use crate::github::{FetchError, Fetched};
use crate::workdir;

/// Fetches the archive of the first tag that exists, in the name of the credentials of the Version's Secret.
pub(super) async fn fetch(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Fetched, NamedTempFile), NotPublished> {
    let (credential, secret) = credential(ctx, version, target).await?;
    let spool_failed = |error: std::io::Error| {
        Failure::retry(
            Reason::SpoolFailed,
            format!("Cannot write to {}: {error}. Give --spool-dir room.", ctx.spool_dir.display()),
        )
    };
    let raw = workdir::temporary_file(&ctx.spool_dir).map_err(spool_failed)?;
    let file = raw.as_file().try_clone().map_err(spool_failed)?;
    let mut file = tokio::fs::File::from_std(file);
    let repository = &target.repository;
    let result = ctx.github.fetch(repository, &target.tags, target.format(), &credential, &mut file).await;
    match &result {
        Ok(_) => ctx.scheduler.repository_answered(&version.repository_key()),
        Err(FetchError::Server { .. } | FetchError::Network { .. }) => {
            ctx.scheduler.repository_failed(&version.repository_key());
        }
        Err(_) => {}
    }
    if let Some((name, _)) = &secret {
        let refused = matches!(result, Err(FetchError::CredentialRefused { .. }));
        if refused || result.is_ok() {
            ctx.secret_trials.record(version.namespace(), name, !refused);
        }
    }
    match result {
        Ok(fetched) => {
            ctx.metrics.fetched_bytes.inc_by(fetched.bytes);
            Ok((fetched, raw))
        }
        Err(error) => Err(NotPublished { secret, ..Failure::from(error).into() }),
    }
}

/// Normalises a fetched archive, off the async threads. Such a thread cannot be stopped, so it holds the permit: if the Version
/// changes meanwhile, the next fetch waits for its end.
pub(super) async fn normalise(
    ctx: &Context,
    raw: NamedTempFile,
    format: ArchiveFormat,
    permit: FetchPermit,
) -> Result<(Normalised, FetchPermit), NotPublished> {
    let (limits, folder) = (ctx.limits, ctx.spool_dir.clone());
    let work = tokio::task::spawn_blocking(move || {
        let made = archive::normalise(raw.path(), format, &limits, &folder).map_err(|error| {
            let corrupt = matches!(error, ArchiveError::Corrupt { .. });
            let download = if corrupt { archive::fingerprint(raw.path()).map(Box::new) } else { None };
            NotPublished { download, ..Failure::from(error).into() }
        });
        made.map(|made| (made, permit))
    });
    let defect =
        "Reading the archive ended with a defect of the operator: report it with the log of this minute.";
    // A panic, which the panic hook has counted and logged; or the runtime shuts down.
    work.await.unwrap_or_else(|_| Err(Failure::retry(Reason::InternalError, defect).into()))
}
