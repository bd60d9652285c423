//! Deletes the objects of a Version: all of them with the Version, or those that a move left behind.
//!
//! An invalid spec does not prevent a deletion, and an object that no longer exists counts as deleted.

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::basis::DeleteBasis;
use super::client::VersionClient;
use super::context::{Context, classified};
use super::existing::is_ours;
use super::outcome::{AttemptError, AttemptFailure, Unwanted};
use super::status::standing;
use crate::api::state::{StoredLocation, VersionState};
use crate::api::target::named_location;
use crate::controller::events::Event;
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::storage::Found;

/// The largest difference between the clocks of the API server and of this process.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// Deletes the objects at `locations` that are this Version's, except the `current` one, if its identity is given. Tries each location,
/// and returns those that are done and the first failure. Once the Version has changed, nothing more is deleted.
pub(crate) async fn objects(
    ctx: &Context,
    object: &VersionClient,
    locations: &[ObjectLocation],
    current: Option<u64>,
) -> (Vec<ObjectLocation>, Result<(), AttemptError>) {
    let (mut done, mut result) = (Vec::new(), Ok(()));
    for location in locations {
        match at(ctx, object, location, current).await {
            Err(AttemptError::Outdated) => return (done, Err(AttemptError::Outdated)),
            Err(AttemptError::Failed(failed)) if blocks_deletion(object.version(), location, &failed) => {
                result = result.and(Err(AttemptError::Failed(failed)));
            }
            _ => done.push(location.clone()),
        }
    }
    (done, result)
}

/// Whether a failure keeps the Version. Each does after a HEAD has found an object of ours. A location that is not recorded is
/// derived from the spec: if it is not allowed or cannot be used, or if the Version has never stored anything, it contains no
/// object of ours.
pub(crate) fn blocks_deletion(
    version: &VersionState,
    location: &ObjectLocation,
    failed: &AttemptFailure,
) -> bool {
    let AttemptFailure { failure, is_stored, .. } = failed;
    let answered = !matches!(failure.reason, Reason::StorageUnavailable | Reason::StorageThrottled);
    is_recorded(version, location)
        || *is_stored == Some(true)
        || (failure.is_transient() && !never_stored(version, standing(version), answered))
}

async fn at(
    ctx: &Context,
    object: &VersionClient,
    location: &ObjectLocation,
    current: Option<u64>,
) -> Result<(), AttemptError> {
    let version = object.version();
    // The bucket may be that of the current object under another name, such as the alias of an access point.
    let has_its_key = version.status.storage.as_ref().is_some_and(|stored| stored.key() == location.key);
    let current = current.filter(|_| has_its_key);
    ctx.rules.check(version.namespace(), location).map_err(Failure::from)?;
    let found = match ctx.storage.head_without_checksum(location).await {
        Err(error) if error.shows_deleted_bucket() => return Ok(()),
        result => result.map_err(classified)?,
    };
    match found {
        Some(found) if current.is_some() && found.identity == current => {
            let note = format!(
                "{location} is not deleted: key, ETag and time are those of the current object, so that its bucket may be the \
                 current one under another name. If these are two objects, delete this one."
            );
            ctx.events.send(version, &(), Event::normal("OneObject", "Delete", note));
            Ok(())
        }
        Some(found) if is_ours(version, location, &found) || was_ours(ctx, version, location, &found) => {
            let deleted = delete(ctx, object, location).await;
            deleted.map_err(|ended| ended.with(|failed| failed.is_stored = Some(true)))?;
            tracing::info!(%location, "deleted an object");
            Ok(())
        }
        // A DELETE might delete the current object, under another name of its bucket.
        None if is_recorded(version, location) && current.is_some() => {
            ctx.storage.confirm_missing(location).await.map_err(|error| classified(error).into())
        }
        None if is_recorded(version, location) => confirm(ctx, object, location).await,
        // A foreign object, or a derived location.
        _ => Ok(()),
    }
}

/// Whether an object without metadata is at the location that was recorded before the last move. This is in memory only: after
/// a restart such an object is not deleted.
fn was_ours(ctx: &Context, version: &VersionState, location: &ObjectLocation, found: &Found) -> bool {
    let is_former = |before: &ObjectLocation| before.is_same_location(location);
    found.ownership.is_none()
        && ctx.memories.with(version.uid(), |memory| memory.stored_before.as_deref().is_some_and(is_former))
}

/// Sends the DELETE, unless the Version or its Module has changed since the decision.
async fn delete(
    ctx: &Context,
    object: &VersionClient,
    location: &ObjectLocation,
) -> Result<(), AttemptError> {
    let is_wanted = async || {
        Ok::<_, kube::Error>(
            object.still(DeleteBasis::of).await? && ctx.owners.fate(object.version()) == Fate::Delete,
        )
    };
    if !is_wanted().await? {
        return Err(AttemptError::Outdated);
    }
    let _sending = object.progress.sending().await;
    let unwanted = Unwanted::default();
    let still_wanted = || unwanted.check(is_wanted()).boxed();
    ctx.delete(location, &still_wanted).await.map_err(|failure| unwanted.or(failure))
}

/// A 404 on HEAD has no body, so it may come from a proxy instead of S3. Confirms it with a DELETE, whose success `Storage`
/// accepts from S3 only. If S3 denies the DELETE, the 404 is trusted; if it allows none at all, a GET confirms it.
async fn confirm(
    ctx: &Context,
    object: &VersionClient,
    location: &ObjectLocation,
) -> Result<(), AttemptError> {
    match delete(ctx, object, location).await {
        // S3 itself has answered, in its own form.
        Err(AttemptError::Failed(failed)) if failed.failure.reason == Reason::StorageAccessDenied => Ok(()),
        // S3 has answered here too, but the object may exist under retention.
        Err(AttemptError::Failed(failed)) if failed.failure.reason == Reason::StorageRefused => {
            ctx.storage.confirm_missing(location).await.map_err(|error| classified(error).into())
        }
        // An earlier DELETE, whose answer was lost, may have deleted it.
        result => result.inspect(|()| tracing::info!(%location, "no object is left")),
    }
}

fn is_recorded(version: &VersionState, location: &ObjectLocation) -> bool {
    let status = &version.status;
    status.objects().chain(&status.storage).any(|recorded| recorded.location() == *location)
}

/// Every location where an object of this Version may exist, also if the status is lost. One bucket and key under two endpoints
/// may be two objects, so both are checked.
pub(crate) fn all_locations(version: &VersionState) -> Vec<ObjectLocation> {
    let status = &version.status;
    let mut locations: Vec<ObjectLocation> = status.objects().map(StoredLocation::location).collect();
    let storage = status.storage.as_ref().map(StoredLocation::location);
    locations.extend(storage.filter(|storage| !locations.contains(storage)));
    if locations.is_empty() {
        locations.extend(named_location(version));
    }
    locations
}

/// Whether the status shows that nothing was ever stored: each location is recorded before its first PUT, and the attempt that
/// failed did not come that far. A file name that is older than this object was restored from a backup, whose status is lost.
/// A name without a time may be restored too; it counts as new only if the store has `answered`, because after an outage the
/// object can be looked for.
fn never_stored(version: &VersionState, standing: Option<&str>, answered: bool) -> bool {
    let attempted = standing.is_some_and(|reason| !Reason::is_progress(reason));
    attempted && !version.records_object() && !has_older_file_name(version).unwrap_or(!answered)
}

/// Whether `spec.fileName` was made well before this object was: names that the operator makes carry their time. `None` for
/// names without a time.
fn has_older_file_name(version: &VersionState) -> Option<bool> {
    let file_name = version.file_name.as_deref()?;
    let made = Uuid::parse_str(file_name.split('.').next()?).ok()?.get_timestamp()?;
    let made = Timestamp::from_second(i64::try_from(made.to_unix().0).ok()?).ok()?;
    let created = version.metadata.creation_timestamp.as_ref()?.0;
    Some(created.duration_since(made) > SKEW)
}
