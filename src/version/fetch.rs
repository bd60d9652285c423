//! From a tag to a normalised archive on disk.

use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::client::VersionClient;
use super::context::Context;
use super::credentials::credential;
use super::outcome::AttemptFailure;
use super::publish_delay::recalled;
use super::scheduler::{FetchPermit, LEAST_BYTES, LOW_SPEED_TIME};
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target};
use crate::archive::{self, ArchiveError, Normalised};
use crate::controller::failure::{Failure, Reason};
use crate::domain::{ArchiveFormat, Repository};
use crate::github::{Credential, FetchError, Fetched};
use crate::workdir;

/// Fetches the archive of the first tag that exists, with the credentials of the Version's Secret.
pub(super) async fn fetch(
    ctx: &Context,
    object: &VersionClient,
    target: &Target,
    permit: &FetchPermit,
) -> Result<(Fetched, NamedTempFile), AttemptFailure> {
    let version = object.version();
    let (credential, secret) = credential(ctx, version, target).await?;
    let resource_version = secret.as_ref().and_then(|(_, resource_version)| resource_version.as_deref());
    let disregarded = rejections_before(&target.requests, *object.progress.begun.lock());
    if let Some(known) = known_failure(ctx, version, target, &credential, resource_version, disregarded) {
        return Err(AttemptFailure { secret, ..Failure::from(known).into() });
    }
    let spool_failed = |error: std::io::Error| {
        let folder = ctx.spool_dir.display();
        let message =
            format!("Cannot write to {folder}: {error}. Free or enlarge the volume of --spool-dir.");
        Failure::new(Reason::SpoolFailed, message)
    };
    let raw = workdir::temporary_file(&ctx.spool_dir).map_err(spool_failed)?;
    let mut file = File::from_std(raw.as_file().try_clone().map_err(spool_failed)?);
    has_room(&mut file).await.map_err(spool_failed)?;
    let repository = &target.repository;
    let received = || raw.as_file().metadata().map_or(0, |file| file.len());
    let result = tokio::select! {
        result = ctx.github.fetch(repository, &target.tags, target.format(), &credential, &mut file) => result,
        () = permit.must_yield(received) => Err(too_slow(repository)),
    };
    if let Some((name, _)) = &secret {
        let (namespace, repository) = (version.namespace(), version.repository_key());
        ctx.secret_trials.record(namespace, name, &repository, result.as_ref().err());
    }
    permit.host_answered(!matches!(result, Err(FetchError::Network { .. })));
    match result {
        Ok(fetched) => {
            permit.repository_answered();
            ctx.metrics.fetched_bytes.inc_by(fetched.bytes);
            Ok((fetched, raw))
        }
        Err(error) => {
            if is_outage(&error) {
                permit.repository_failed();
            }
            Err(AttemptFailure { secret, ..Failure::from(error).into() })
        }
    }
}

/// What prevents a fetch and is known without a request: a rate limit that a status named, or a recent rejection of the
/// credential or repository. `secret`: the resourceVersion of the credential's Secret. Rejections until `disregarded` do not count.
fn known_failure(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
    credential: &Credential,
    secret: Option<&str>,
    disregarded: Option<Instant>,
) -> Option<FetchError> {
    recalled(ctx, version, target, credential, secret).or_else(|| {
        let last =
            ctx.memories.with(version.uid(), |memory| memory.attempt.as_ref().map(|attempt| attempt.at));
        ctx.github.refused(&target.repository, credential, last.max(disregarded))
    })
}

/// How much older than a reconcile a rejection may be that answers the request of its Module. Such a request reaches one Version
/// after another, and not each of them is to test the credential.
const SHARED_FOR: Duration = Duration::from_secs(10);

/// Until when rejections of the credential do not answer these requests, in a reconcile that has `begun` then: the credential may
/// have been corrected before the request.
fn rejections_before(requests: &Requests, begun: Option<Instant>) -> Option<Instant> {
    if requests.force_sync || requests.requested_at.is_some() {
        begun
    } else {
        begun?.checked_sub(SHARED_FOR).filter(|_| requests.module_request.is_some())
    }
}

/// The failure of a fetch that leaves its permit to another repository.
fn too_slow(repository: &Repository) -> FetchError {
    let what = format!(
        "fetching from {repository} returned less than {LEAST_BYTES} bytes in {} s, while other repositories waited",
        LOW_SPEED_TIME.as_secs()
    );
    FetchError::Network { what }
}

/// Whether the repository's host failed, as opposed to a rejection: such fetches may occupy a permit for long.
fn is_outage(error: &FetchError) -> bool {
    use FetchError::{Busy, Network, Server, Truncated};
    matches!(error, Server { .. } | Busy { .. } | Network { .. } | Truncated { .. })
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
) -> Result<(Normalised, FetchPermit), AttemptFailure> {
    let (limits, folder) = (ctx.limits, ctx.spool_dir.clone());
    let work = tokio::task::spawn_blocking(move || {
        let made = archive::normalise(raw.path(), format, &limits, &folder).map_err(|error| {
            let corrupt = matches!(error, ArchiveError::Corrupt { .. });
            if corrupt {
                // As after a download that ended early, which not every transfer shows.
                permit.repository_failed();
            }
            let download = if corrupt { archive::fingerprint(raw.path()).map(Box::new) } else { None };
            AttemptFailure { download, ..Failure::from(error).into() }
        });
        made.map(|made| (made, permit))
    });
    let defect = "Reading the archive failed because of a defect of the operator: report it with the log of this \
                  minute.";
    // The task panicked, which the panic hook has counted and logged, or the runtime shuts down.
    work.await.unwrap_or_else(|_| Err(Failure::new(Reason::InternalError, defect).into()))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_rejection_from_before_a_new_request_does_not_answer_it() {
        let start = Instant::now();
        let begun = start + SHARED_FOR;
        let token = || Some("now".to_owned());
        for (requests, expected) in [
            (Requests { force_sync: true, ..Requests::default() }, Some(begun)),
            (Requests { requested_at: token(), ..Requests::default() }, Some(begun)),
            (Requests { module_request: token(), ..Requests::default() }, Some(start)),
            (Requests { module_request: token(), requested_at: token(), ..Requests::default() }, Some(begun)),
            (Requests { pending: true, ..Requests::default() }, None),
            (Requests::default(), None),
        ] {
            assert_eq!(rejections_before(&requests, Some(begun)), expected, "{requests:?}");
        }
    }

    #[test]
    fn a_download_that_breaks_off_is_an_outage_like_one_that_never_begins() {
        let host = || "codeload.github.com".to_owned();
        for error in [
            FetchError::Server { host: host(), status: 502, message: None },
            FetchError::Busy { host: host(), status: 503, until: Timestamp::UNIX_EPOCH },
            FetchError::Network { what: host() },
            FetchError::Truncated { host: host(), received: 7 },
        ] {
            assert!(is_outage(&error), "{error}");
        }
        for error in [
            FetchError::TagNotFound { repository: host(), tried: Vec::new() },
            FetchError::RateLimited { host: host(), until: Timestamp::UNIX_EPOCH, secondary: true },
        ] {
            assert!(!is_outage(&error), "{error}");
        }
    }

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
