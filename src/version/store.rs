//! From a normalised archive on disk to an object that S3 is known to have.
//!
//! In: the archive and what lies at its place. Out: [`Published`], after HEAD has shown it. The place is on record in the
//! status before any of this is called.

use std::path::Path;

use super::basis::PutBasis;
use super::content::{Content, Target, changed_back};
use super::context::Context;
use super::object::Object;
use super::plan::Work;
use super::publish::{Ended, Lying, NotPublished, look, record, recorded_at, requested};
use super::record::Published;
use crate::api::version::Source;
use crate::archive;
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::domain::object_key::fresh_file_name;
use crate::storage::{Found, Ownership, PutOutcome, Upload};

/// How many places are tried. A fresh one is free unless the store answers nonsense.
const MOST_PLACES: usize = 3;

/// Stores, and looks whether it is there. Other content than what is, or was, at the place gets a fresh `fileName`.
pub(super) async fn store(
    ctx: &Context,
    object: &mut Object,
    work: &Work<'_>,
    lying: &Lying,
    (file, content): (&Path, &Content),
    source: Source,
) -> Result<Published, Ended> {
    let published = Published {
        place: work.place.clone(),
        checksum: content.checksum.clone(),
        digest: content.digest.clone(),
        size: i64::try_from(content.size).unwrap_or(i64::MAX),
        source: Some(source.clone()),
        stored_now: true,
        stored_at: None,
    };
    if let Lying::Ours(found) = lying
        && !work.requests.any()
        && object.view().stored_as_wanted(work)
        && intact(found, &content.checksum, content.size)
    {
        return Ok(Published { stored_now: false, ..published });
    }
    let mut place = work.place.clone();
    let mut target = Target::of(object.view(), &place, lying, content);
    for _ in 0..MOST_PLACES {
        if target == Target::Overwrite {
            // Fetching took its time: what is overwritten has to be ours, and the same content, now.
            let lying = look(ctx, object.view(), &place).await?;
            target = Target::of(object.view(), &place, &lying, content);
        }
        if target == Target::Fresh {
            retained(ctx, object, &place, content)?;
            place = fresh_place(object, work).await?;
            target = Target::Create;
        }
        if !object.still(PutBasis::of).await? {
            return Err(Ended::Outdated);
        }
        if put(ctx, object, work, &place, target, (file, content), &source).await? {
            let found = verify(ctx, object, &place, content).await?;
            let stored_at = found.stored_at.and_then(|at| jiff::Timestamp::from_second(at).ok());
            return Ok(Published { place, stored_at, ..published });
        }
        target = Target::Fresh;
    }
    let message =
        format!("S3 has other content at each of {MOST_PLACES} fresh keys, the last of them {place:?}.");
    Err(Failure::retry(Reason::StorageUnavailable, message).into())
}

/// Fails where a fresh `fileName` would be the second for one content: with `Retain`, each of them leaves an object behind
/// for ever, and whoever changes the name back each time (GitOps does) makes one each time.
fn retained(
    ctx: &Context,
    object: &Object,
    place: &ObjectLocation,
    content: &Content,
) -> Result<(), Failure> {
    let view = object.view();
    let Some(stored) = changed_back(view, place, content).filter(|_| ctx.fate(view) == Fate::Keep) else {
        return Ok(());
    };
    let file_name = stored.key.rsplit('/').next().unwrap_or_default();
    Err(Failure::stalled(
        Reason::KeyRetained,
        format!(
            "s3://{}/{} holds what this Version published before, and deletionPolicy Retain keeps that; what the tag holds now \
             is stored as s3://{}/{} already, and is not stored again. Set spec.fileName to {file_name:?}, or to a name that \
             was not used yet; or remove that older object. GitOps that writes fileName has to do the same.",
            place.bucket, place.key, stored.bucket, stored.key
        ),
    ))
}

/// Gives the Version a fresh `fileName`, and puts the place that this makes on record.
async fn fresh_place(object: &mut Object, work: &Work<'_>) -> Result<ObjectLocation, Ended> {
    let file_name = fresh_file_name(work.module.file_format);
    let place = work.config.place(&file_name).map_err(Failure::from)?;
    object.write_file_name(&file_name).await?;
    record(object, &place).await?;
    Ok(place)
}

/// Sends the PUT. `false`: the place holds other content of this Version, which is not replaced.
async fn put(
    ctx: &Context,
    object: &Object,
    work: &Work<'_>,
    place: &ObjectLocation,
    target: Target,
    (file, content): (&Path, &Content),
    source: &Source,
) -> Result<bool, Ended> {
    let view = object.view();
    let encryption = work.encryption();
    let (request, module_request) = requested(view, work);
    let ownership = Ownership {
        namespace: view.namespace().to_owned(),
        version_name: view.name().to_owned(),
        module: work.config.name.to_owned(),
        version: work.release.to_string(),
        source: source.url.clone(),
        git_ref: source.ref_.clone(),
        commit: source.commit.clone().unwrap_or_default(),
        digest: content.digest.clone(),
        revision: archive::REVISION,
        archive: archive_of(work, place),
        request,
        module_request,
    };
    let upload = Upload {
        file,
        size: content.size,
        sha256: &content.checksum,
        ownership: &ownership,
        encryption: &encryption,
        create_only: target == Target::Create,
    };
    if ctx.put(place, &upload).await? == PutOutcome::Stored {
        ctx.metrics.stored_bytes.inc_by(content.size);
        return Ok(true);
    }
    // Something was there first: this attempt's own PUT whose answer was lost, an earlier attempt's, or another's.
    match look(ctx, view, place).await? {
        Lying::Ours(found) => Ok(content.is_in(&found)),
        Lying::Nothing => {
            let message = format!(
                "S3 refused to store s3://{}/{} because an object is there, and then showed none.",
                place.bucket, place.key
            );
            Err(Failure::retry(Reason::StorageUnavailable, message).into())
        }
    }
}

/// What S3 has there now, if it has this checksum.
async fn verify(
    ctx: &Context,
    object: &Object,
    place: &ObjectLocation,
    content: &Content,
) -> Result<Found, Ended> {
    let what = match ctx.head(place).await? {
        Some(found) if intact(&found, &content.checksum, content.size) => return Ok(found),
        Some(_) => "another checksum or size than what was sent",
        None => "no object",
    };
    let message = format!("After storing s3://{}/{}, S3 reports {what} there.", place.bucket, place.key);
    // At the recorded place, what was recorded is not there either: a PUT overwrites the same content only.
    let lost = recorded_at(object.view(), place);
    Err(NotPublished { lost, ..Failure::retry(Reason::ChecksumMismatch, message).into() }.into())
}

/// Whether what HEAD shows is what was stored. A store that keeps no SHA-256 is trusted on the size.
pub fn intact(found: &Found, checksum: &str, size: u64) -> bool {
    found.size == size && found.sha256.as_deref().is_none_or(|sha256| sha256 == checksum)
}

/// The format to write down with an object, where its key does not tell.
fn archive_of(work: &Work<'_>, place: &ObjectLocation) -> String {
    let format = work.module.file_format;
    if format.is_extension_of(&place.key) { String::new() } else { format.extension().to_owned() }
}

/// Whether an object is known to be an archive of another format than is wanted now.
pub fn other_format(work: &Work<'_>, found: &Found) -> bool {
    let wanted = archive_of(work, &work.place);
    let written = found.ownership.as_ref().map(|owner| owner.archive.as_str()).unwrap_or_default();
    !wanted.is_empty() && !written.is_empty() && wanted != written
}
