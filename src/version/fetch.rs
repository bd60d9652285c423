//! From a tag to a normalised archive on disk.

use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

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

/// Fetches the archive of the first tag that exists, with the credentials of the Version's Secret.
pub(super) async fn fetch(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<(Fetched, NamedTempFile), NotPublished> {
    let (credential, secret) = credential(ctx, version, target).await?;
    let spool_failed = |error: std::io::Error| {
        Failure::retry(
            Reason::SpoolFailed,
            format!(
                "Cannot write to {}: {error}. Free or enlarge the volume of --spool-dir.",
                ctx.spool_dir.display()
            ),
        )
    };
    let raw = workdir::temporary_file(&ctx.spool_dir).map_err(spool_failed)?;
    let mut file = File::from_std(raw.as_file().try_clone().map_err(spool_failed)?);
    has_room(&mut file).await.map_err(spool_failed)?;
    let repository = &target.repository;
    let result = ctx.github.fetch(repository, &target.tags, target.format(), &credential, &mut file).await;
    let is_refused = matches!(result, Err(FetchError::CredentialRefused { .. }));
    if let Some((name, _)) = secret.as_ref().filter(|_| is_refused || result.is_ok()) {
        ctx.secret_trials.record(version.namespace(), name, !is_refused);
    }
    match result {
        Ok(fetched) => {
            ctx.scheduler.repository_answered(&version.repository_key());
            ctx.metrics.fetched_bytes.inc_by(fetched.bytes);
            Ok((fetched, raw))
        }
        Err(error) => {
            if matches!(error, FetchError::Server { .. } | FetchError::Network { .. }) {
                ctx.scheduler.repository_failed(&version.repository_key());
            }
            Err(NotPublished { secret, ..Failure::from(error).into() })
        }
    }
}

/// Fails if the disk has no room, before a download is requested: a file can be created on a full volume.
async fn has_room(file: &mut File) -> std::io::Result<()> {
    static PROBE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    file.write_all(&PROBE).await?;
    file.flush().await?;
    file.set_len(0).await?;
    file.rewind().await?;
    Ok(())
}

/// Normalises a fetched archive on a blocking thread. The thread cannot be stopped, so it holds the permit: if the Version
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
    let defect = "Reading the archive failed because of a defect of the operator: report it with the log of this \
                  minute.";
    // The task panicked, which the panic hook has counted and logged, or the runtime shuts down.
    work.await.unwrap_or_else(|_| Err(Failure::retry(Reason::InternalError, defect).into()))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_noticed_before_a_download_and_a_probe_leaves_nothing() {
        let mut full = tokio::fs::OpenOptions::new().write(true).open("/dev/full").await.unwrap();
        assert_eq!(has_room(&mut full).await.unwrap_err().kind(), ErrorKind::StorageFull);
        let mut file = File::from_std(tempfile::tempfile().unwrap());
        has_room(&mut file).await.unwrap();
        assert_eq!(file.stream_position().await.unwrap(), 0);
        assert_eq!(file.metadata().await.unwrap().len(), 0);
    }
}
