//! Publishes one version: check the location, fetch, normalise, compare, record, store, verify.
//!
//! The location is recorded in the status before the first PUT, so that no crash orphans an object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::NamedTempFile;

use super::client::VersionClient;
use super::compare::{compare, file_name_before, replaced};
use super::content::{Content, other_bytes};
use super::context::Context;
use super::existing::{Existing, is_lost, look, take_over};
use super::fetch::{fetch, normalise};
use super::outcome::{Ended, NotPublished, Note, Outcome};
use super::scheduler::{FetchPermit, StagingPermit};
use super::store::{Archive, record, store, write_file_name};
use crate::api::state::{StoredLocation, VersionState};
use crate::api::target::Target;
use crate::api::version::Source;
use crate::archive;
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::github::{FetchError, Fetched};

pub(crate) async fn publish(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
    staging: &StagingPermit,
) -> Result<Outcome, Ended> {
    permitted(ctx, object.version(), target)?;
    let existing = look(ctx, object.version(), &target.location)
        .await
        .map_err(|not| NotPublished { failure: held_back(ctx, object.version(), not.failure), ..not })?;
    let lost = is_lost(object.version(), target, &existing);
    prepare_and_store(ctx, object, target, staging, &existing, lost).await.map_err(|ended| match ended {
        Ended::Outdated => Ended::Outdated,
        Ended::Failed(not) => {
            let failure = held_back(ctx, object.version(), not.failure);
            Ended::Failed(NotPublished { failure, lost: not.lost || lost, ..not })
        }
    })
}

async fn prepare_and_store(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
    staging: &StagingPermit,
    existing: &Existing,
    lost: bool,
) -> Result<Outcome, Ended> {
    if let Existing::Ours(found) = existing
        && let Some(published) = take_over(object.version(), target, found)
    {
        let bytes_changed =
            bytes_changed(ctx, object.version(), target, existing, &Content::found(found)).await;
        let replaced = replaced(object.version(), &published.digest, bytes_changed);
        return Ok(Outcome { published, notes: replaced.map(Note::ContentReplaced).into_iter().collect() });
    }
    bucket_is_back(ctx, object.version(), &target.location, existing).await?;
    record(object, &target.location).await?;
    drop(ctx.may_store(target)?);
    let Some(permit) = staging.fetch().await else {
        return Err(Failure::retry(Reason::InternalError, "The operator is shutting down.").into());
    };
    // Checked again: while this one waited, the store may have refused another PUT.
    let _attempt = ctx.may_store(target)?;
    let fetched = fetch(ctx, object.version(), target).await?;
    store_fetched(ctx, object, target, existing, lost, fetched, permit).await.map_err(Ended::after_fetch)
}

/// Normalises, compares and stores what was fetched.
async fn store_fetched(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
    existing: &Existing,
    lost: bool,
    (fetched, raw): (Fetched, NamedTempFile),
    permit: FetchPermit,
) -> Result<Outcome, Ended> {
    let (made, _permit) = normalise(ctx, raw, target.format(), permit).await?;
    let content = Content {
        checksum: STANDARD.encode(made.sha256),
        size: made.size,
        digest: made.digest.to_string(),
        commit: made.commit.clone(),
    };
    let bytes_changed = bytes_changed(ctx, object.version(), target, existing, &content).await;
    if let Err(refused) = compare(object.version(), target, &content, bytes_changed, existing, lost) {
        if let Some(file_name) = file_name_before(object.version(), target) {
            write_file_name(ctx, object, &file_name).await?;
        }
        return Err(refused.into());
    }
    let source = Source {
        url: target.source_url(),
        ref_: format!("refs/tags/{}", fetched.tag),
        commit: made.commit.clone(),
    };
    let replaced = replaced(object.version(), &content.digest, bytes_changed);
    let mut notes: Vec<Note> = replaced.map(Note::ContentReplaced).into_iter().collect();
    let moved = fetched.moved_to.map(|to| Note::RepositoryMoved(source.url.clone(), to));
    let archive = Archive {
        file: &made.file,
        content: &content,
        source: &source,
        report: &made.report,
        moved: moved.as_ref(),
    };
    let published = store(ctx, object, target, existing, archive).await?;
    notes.extend(moved);
    Ok(Outcome { published, notes })
}

/// A hanging store occupies its permit as long as a hanging repository does, and is limited in the same way.
fn held_back(ctx: &Context, version: &VersionState, failure: Failure) -> Failure {
    if failure.reason == Reason::StorageUnavailable {
        ctx.scheduler.repository_failed(&version.repository_key());
    }
    failure
}

/// Whether flags allow the host and the location. Nothing is sent to those that they do not allow.
fn permitted(ctx: &Context, version: &VersionState, target: &Target) -> Result<(), Failure> {
    if !ctx.github.host_allowed(&target.repository) {
        let host = target.repository.host();
        return Err(FetchError::HostNotAllowed { host }.into());
    }
    ctx.rules.check(version.namespace(), &target.location)?;
    Ok(())
}

/// Checks the bucket first if the last attempt did not find it, which saves useless downloads.
async fn bucket_is_back(
    ctx: &Context,
    version: &VersionState,
    place: &ObjectLocation,
    existing: &Existing,
) -> Result<(), Failure> {
    let missed = version.status.reason() == Reason::BucketNotFound.as_str();
    if missed && matches!(existing, Existing::None) { ctx.bucket(place).await } else { Ok(()) }
}

/// Whether the same files have other bytes than the recorded object, although the same revision of the normaliser wrote both.
/// The recorded object's revision is read only if the bytes differ, and assumed to be the same if it is unknown.
async fn bytes_changed(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
    existing: &Existing,
    content: &Content,
) -> bool {
    let recorded = version.status.storage.as_ref().filter(|_| other_bytes(version, target, content));
    let Some(recorded) = recorded.map(StoredLocation::location) else {
        return false;
    };
    let owner = match existing {
        Existing::Ours(found) if version.status.is_recorded_at(&target.location) => found.ownership.clone(),
        _ => match look(ctx, version, &recorded).await {
            Ok(Existing::Ours(found)) => found.ownership,
            _ => None,
        },
    };
    owner.is_none_or(|owner| {
        let may_be_same_format = owner.archive.is_empty() || owner.archive == target.format().extension();
        owner.revision == archive::REVISION && may_be_same_format
    })
}
