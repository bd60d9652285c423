//! Deletes what a Version stored: all of it when the Version goes, the old place after a move.
//!
//! In: places on record. Out: those that are gone, or that are not this Version's to delete. Already gone is success, and
//! nothing here needs a spec that can be read.

use super::basis::DeleteBasis;
use super::context::Context;
use super::object::Object;
use super::plan::VersionView;
use super::publish::{Ended, is_ours};
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;

/// Deletes the objects at `places`, as far as they are this Version's. Gives the places that need no further thought;
/// each is tried, and the failure is the first. Once the Version is not what that was decided on, nothing more is deleted.
pub async fn objects(
    ctx: &Context,
    object: &Object,
    places: &[ObjectLocation],
) -> (Vec<ObjectLocation>, Result<(), Ended>) {
    let (mut done, mut result) = (Vec::new(), Ok(()));
    for place in places {
        match at(ctx, object, place).await {
            Err(Ended::Outdated) => return (done, Err(Ended::Outdated)),
            Err(Ended::Failed(not)) if matters(object.view(), place, &not.failure) => {
                result = result.and(Err(Ended::Failed(not)));
            }
            _ => done.push(place.clone()),
        }
    }
    (done, result)
}

/// Whether a failure keeps the Version. A place that is not on record is a guess from the spec: one that may not or
/// cannot be used at all holds nothing of ours, and neither does one of a Version that was never let store anything.
pub fn matters(view: &VersionView, place: &ObjectLocation, failure: &Failure) -> bool {
    // Refused after a look that found it: it is there.
    let refused = failure.reason == Reason::StorageRefused;
    let answered = !matches!(failure.reason, Reason::StorageUnavailable | Reason::StorageThrottled);
    recorded(view, place) || refused || (failure.is_transient() && !view.never_stored(answered))
}

async fn at(ctx: &Context, object: &Object, place: &ObjectLocation) -> Result<(), Ended> {
    let view = object.view();
    ctx.rules.check(view.namespace(), place).map_err(Failure::from)?;
    match ctx.head(place).await? {
        Some(found) if is_ours(view, place, &found) => delete(ctx, object, place).await,
        None if recorded(view, place) => confirm(ctx, object, place).await,
        // Somebody else's, or a guess.
        _ => Ok(()),
    }
}

/// Sends the DELETE, unless somebody has changed meanwhile what it was decided on.
async fn delete(ctx: &Context, object: &Object, place: &ObjectLocation) -> Result<(), Ended> {
    // What the owner record says of the policy comes first where there is one, and it may have news too.
    if !object.still(DeleteBasis::of).await? || ctx.fate(object.view()) != Fate::Delete {
        return Err(Ended::Outdated);
    }
    Ok(ctx.delete(place).await?)
}

/// Any proxy can say 404 to a HEAD. What has no body may be from anybody; the answer to a DELETE is S3's own, or none. One
/// that S3 refuses is no reason to wait: it has said that there is nothing.
async fn confirm(ctx: &Context, object: &Object, place: &ObjectLocation) -> Result<(), Ended> {
    match delete(ctx, object, place).await {
        Err(Ended::Failed(not)) if not.failure.reason == Reason::StorageAccessDenied => Ok(()),
        result => result,
    }
}

fn recorded(view: &VersionView, place: &ObjectLocation) -> bool {
    view.status.objects.iter().chain(&view.status.storage).any(|p| p == place)
}

/// Every place where an object of this Version may be, the status being lost or not. One bucket and key under two
/// endpoints may be two objects: here, where nothing is to stay, both are looked at.
pub fn all_places(view: &VersionView) -> Vec<ObjectLocation> {
    let mut places = view.status.objects.clone();
    places.extend(view.status.storage.clone().filter(|place| !view.status.objects.contains(place)));
    if places.is_empty() {
        places.extend(view.named_place());
    }
    places
}
