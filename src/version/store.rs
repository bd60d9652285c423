//! Stores a normalised archive, and verifies that S3 has it.

use std::path::Path;

use jiff::Timestamp;

use super::basis::PutBasis;
use super::client::VersionClient;
use super::compare::{PutKind, changed_back};
use super::content::Content;
use super::context::{Context, encryption};
use super::existing::{Existing, archive_of, look, requested};
use super::outcome::{Ended, NotPublished, Note, Published};
use super::report;
use super::warnings::{self, Warning};
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::api::version::Source;
use crate::archive;
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::domain::object_key::fresh_file_name;
use crate::storage::{Cause, Found, Ownership, PutOutcome, Upload};

/// An archive that is to be stored, and what Events say about it.
#[derive(Clone, Copy)]
pub(super) struct Archive<'a> {
    pub file: &'a Path,
    pub content: &'a Content,
    pub source: &'a Source,
    pub report: &'a archive::Report,
    /// The note of a repository that has moved.
    pub moved: Option<&'a Note>,
}

/// Records a location in the status before anything is stored there, so that no crash orphans an object. This precedes the
/// wait for the download permit: while others transfer, the write costs no time.
pub(super) async fn record(object: &mut VersionClient, place: &ObjectLocation) -> Result<(), kube::Error> {
    if object.current().status.objects.contains(place) {
        return Ok(());
    }
    let status = object.current().publishing(place, Timestamp::now());
    object.write_status(&status).await
}

/// Locations that are tried. A fresh one is free unless the store misbehaves.
const MAX_LOCATIONS: usize = 3;

/// Stores the content and verifies it. If the location holds, or held, other content, a fresh `fileName` is used.
pub(super) async fn store(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
    existing: &Existing,
    archive: Archive<'_>,
) -> Result<Published, Ended> {
    let content = archive.content;
    let published = Published {
        place: target.location.clone(),
        checksum: content.checksum.clone(),
        digest: content.digest.clone(),
        size: i64::try_from(content.size).unwrap_or(i64::MAX),
        source: Some(archive.source.clone()),
        stored_now: true,
        answers: true,
        stored_at: None,
    };
    if let Existing::Ours(found) = existing
        && !target.requests.any()
        && target.is_stored(object.version())
        && found.is_intact(&content.checksum, content.size)
    {
        return Ok(Published { stored_now: false, ..published });
    }
    let mut place = target.location.clone();
    let mut kind = PutKind::of(object.version(), &place, existing, content);
    for _ in 0..MAX_LOCATIONS {
        if kind == PutKind::Overwrite {
            // The download took time: what is overwritten must still be ours, with the same content.
            let existing = look(ctx, object.version(), &place).await?;
            kind = PutKind::of(object.version(), &place, &existing, content);
        }
        if kind == PutKind::FreshKey {
            retained(ctx, object, &place, content)?;
            place = fresh_place(ctx, object, target).await?;
            kind = PutKind::Create;
        }
        if !object.still(PutBasis::of).await? {
            return Err(Ended::Outdated);
        }
        if put(ctx, object, target, &place, kind, archive).await? {
            warn(ctx, object, archive);
            let found = verify(ctx, object, target, &place, content).await?;
            let stored_at = found.stored_at.and_then(|at| Timestamp::from_second(at).ok());
            return Ok(Published { place, stored_at, ..published });
        }
        kind = PutKind::FreshKey;
    }
    let message =
        format!("S3 has other content at each of {MAX_LOCATIONS} fresh keys, the last of them {place}.");
    Err(Failure::retry(Reason::StorageUnavailable, message).into())
}

/// Fails if a fresh `fileName` would be the second for one content: with `Retain`, each leaves an object behind permanently, and
/// a client that changes the name back each time (as GitOps does) would create one each time.
fn retained(
    ctx: &Context,
    object: &VersionClient,
    place: &ObjectLocation,
    content: &Content,
) -> Result<(), Failure> {
    let version = object.version();
    let Some(stored) =
        changed_back(version, place, content).filter(|_| ctx.owners.fate(version) == Fate::Keep)
    else {
        return Ok(());
    };
    let file_name = stored.key.rsplit('/').next().unwrap_or_default();
    Err(Failure::stalled(
        Reason::KeyRetained,
        format!(
            "{place} holds what this Version published before, and deletionPolicy Retain keeps that; what the tag holds now \
             is stored as {stored} already, and is not stored again. Set spec.fileName to {file_name:?}, or to a name that \
             was not used yet; or remove that older object. GitOps that writes fileName has to do the same."
        ),
    ))
}

/// Sets a fresh `fileName`, and records the location.
async fn fresh_place(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
) -> Result<ObjectLocation, Ended> {
    let file_name = fresh_file_name(target.format());
    let place = target.location_named(&file_name).map_err(Failure::from)?;
    write_file_name(ctx, object, &file_name).await?;
    record(object, &place).await?;
    Ok(place)
}

/// Writes a `spec.fileName` that does not count as a change by another client.
pub(super) async fn write_file_name(
    ctx: &Context,
    object: &mut VersionClient,
    file_name: &str,
) -> Result<(), kube::Error> {
    // Before the write, whose event may arrive before its answer.
    ctx.retries.with(object.version().uid(), |retry| retry.file_names.push(file_name.into()));
    object.write_file_name(file_name).await
}

/// Sends the Events about an archive as soon as it is, or may be, stored: if the attempt fails later, the next one finds the
/// object and has no report to send.
fn warn(ctx: &Context, object: &VersionClient, archive: Archive<'_>) {
    let reference = object.reference();
    for Warning { reason, text } in warnings::of_archive(archive.report) {
        ctx.events.warning(&reference, reason.as_str(), "Publish", &text);
    }
    let namespace = object.version().namespace();
    if let Some(event) = archive.moved.and_then(|note| report::event(ctx, namespace, note)) {
        ctx.events.warning(&reference, event.reason, event.action, &event.note);
    }
}

/// Sends the PUT. Returns false if the location holds other content of this Version, which is not replaced.
async fn put(
    ctx: &Context,
    object: &VersionClient,
    target: &Target,
    place: &ObjectLocation,
    kind: PutKind,
    archive: Archive<'_>,
) -> Result<bool, Ended> {
    let (version, content) = (object.version(), archive.content);
    let encryption = encryption(target);
    let ownership = ownership(version, target, place, archive);
    let upload = Upload {
        file: archive.file,
        size: content.size,
        sha256: &content.checksum,
        ownership: &ownership,
        encryption: &encryption,
        create_only: kind == PutKind::Create,
    };
    let sending = object.progress().sending().await;
    let result = ctx.put(place, &upload).await;
    drop(sending);
    let outcome = result.map_err(|error| {
        if may_have_stored(&error.cause) {
            warn(ctx, object, archive);
        }
        error.into_failure(Timestamp::now())
    })?;
    if outcome == PutOutcome::Stored {
        ctx.metrics.stored_bytes.inc_by(content.size);
        return Ok(true);
    }
    // The object was stored by this attempt's own PUT, whose answer was lost, by an earlier attempt, or by another client.
    match look(ctx, version, place).await? {
        Existing::Ours(found) => Ok(content.is_in(&found)),
        Existing::None => {
            let error = ctx.storage.refused_without_object(place, &encryption);
            Err(error.into_failure(Timestamp::now()).into())
        }
    }
}

/// Whether a PUT that failed so may have stored the object.
fn may_have_stored(cause: &Cause) -> bool {
    matches!(cause, Cause::Network { .. } | Cause::Unavailable { .. })
}

fn ownership(
    version: &VersionState,
    target: &Target,
    place: &ObjectLocation,
    archive: Archive<'_>,
) -> Ownership {
    let Archive { content, source, .. } = archive;
    let (request, module_request) = requested(version, target);
    Ownership {
        namespace: version.namespace().to_owned(),
        version_name: version.name().to_owned(),
        module: target.module_name.clone(),
        version: target.release.to_string(),
        source: source.url.clone(),
        git_ref: source.ref_.clone(),
        commit: source.commit.clone().unwrap_or_default(),
        digest: content.digest.clone(),
        revision: archive::REVISION,
        archive: archive_of(target, place),
        request,
        module_request,
    }
}

/// Returns the object if S3 reports this checksum for it.
async fn verify(
    ctx: &Context,
    object: &VersionClient,
    target: &Target,
    place: &ObjectLocation,
    content: &Content,
) -> Result<Found, Ended> {
    let Content { checksum, size, .. } = content;
    let verified = ctx.storage.verify(place, &encryption(target), checksum, *size).await;
    verified.map_err(|error| {
        let failure = error.into_failure(Timestamp::now());
        // At the recorded location the recorded content is gone too: a PUT overwrites only the same content.
        let lost =
            failure.reason == Reason::ChecksumMismatch && object.version().status.is_recorded_at(place);
        NotPublished { lost, ..failure.into() }.into()
    })
}
