//! From a normalised archive on disk to an object that S3 is known to have.
//!
//! In: the archive and what lies at its place. Out: [`Published`], after HEAD has shown it. The place is on record in the
//! status before any of this is called.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::context::Context;
use super::object::Object;
use super::plan::{VersionView, Work};
use super::publish::{Lying, NotPublished, look, requested};
use super::record::Published;
use crate::archive::Normalised;
use crate::crd::Place;
use crate::crd::version::Source;
use crate::failure::{Failure, Reason};
use crate::storage::{Encryption, Found, Ownership, PutOutcome, Upload};

/// Stores, and looks whether it is there.
pub(super) async fn store(
    ctx: &Context,
    object: &mut Object,
    work: &Work<'_>,
    lying: &Lying,
    made: &Normalised,
    source: Source,
) -> Result<Published, NotPublished> {
    let place = &work.place;
    let checksum = STANDARD.encode(made.sha256);
    let published = Published {
        place: place.clone(),
        checksum: checksum.clone(),
        digest: made.digest.to_string(),
        size: i64::try_from(made.size).unwrap_or(i64::MAX),
        source: Some(source.clone()),
        stored_now: true,
        stored_at: None,
    };
    if let Lying::Ours(found) = lying
        && !work.requests.any()
        && object.view().stored_as_wanted(work)
        && intact(found, &checksum, made.size)
    {
        return Ok(Published { stored_now: false, ..published });
    }
    let (request, module_request) = requested(object.view(), work);
    let ownership = Ownership {
        namespace: object.view().namespace().to_owned(),
        version_name: object.view().name().to_owned(),
        module: work.config.name.to_owned(),
        version: work.release.to_string(),
        source: source.url,
        git_ref: source.ref_,
        commit: source.commit.unwrap_or_default(),
        digest: published.digest.clone(),
        request,
        module_request,
    };
    let create_only = matches!(lying, Lying::Nothing);
    put(ctx, object.view(), work, made, &checksum, &ownership, create_only).await?;
    ctx.metrics.stored_bytes.inc_by(made.size);
    verify(ctx, place, &checksum, made.size).await?;
    Ok(published)
}

async fn put(
    ctx: &Context,
    view: &VersionView,
    work: &Work<'_>,
    made: &Normalised,
    checksum: &str,
    ownership: &Ownership,
    create_only: bool,
) -> Result<(), Failure> {
    let place = &work.place;
    let encryption = Encryption {
        server_side_encryption: work.config.s3.server_side_encryption.map(|sse| sse.as_str().to_owned()),
        kms_key_id: work.config.s3.kms_key_id.clone(),
    };
    let file: &Path = &made.file;
    let upload =
        Upload { file, size: made.size, sha256: checksum, ownership, encryption: &encryption, create_only };
    if ctx.put(place, &upload).await? == PutOutcome::Stored {
        return Ok(());
    }
    // Somebody was faster: this Version's own earlier attempt, or another.
    match look(ctx, view, place).await? {
        Lying::Ours(found) if found.sha256.as_deref() == Some(checksum) => Ok(()),
        _ => ctx.put(place, &Upload { create_only: false, ..upload }).await.map(|_| ()),
    }
}

/// Whether S3 has the object now, with this checksum.
async fn verify(ctx: &Context, place: &Place, checksum: &str, size: u64) -> Result<(), Failure> {
    let found = ctx.head(place).await?;
    if found.as_ref().is_some_and(|found| intact(found, checksum, size)) {
        return Ok(());
    }
    let what = if found.is_some() { "another checksum or size than what was sent" } else { "no object" };
    Err(Failure::retry(
        Reason::ChecksumMismatch,
        format!("After storing s3://{}/{}, S3 reports {what} there.", place.bucket, place.key),
    ))
}

/// Whether what HEAD shows is what was stored. A store that keeps no SHA-256 is trusted on the size.
pub fn intact(found: &Found, checksum: &str, size: u64) -> bool {
    found.size == size && found.sha256.as_deref().is_none_or(|sha256| sha256 == checksum)
}
