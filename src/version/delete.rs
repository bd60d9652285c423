//! Deletes what a Version stored: all of it when the Version goes, the old place after a move.
//!
//! In: places on record. Out: those that are gone, or that are not this Version's to delete. Already gone is success, and
//! nothing here needs a spec that can be read.

use super::context::Context;
use super::plan::VersionView;
use super::publish::is_ours;
use crate::crd::Place;
use crate::failure::{Failure, Reason};

/// Deletes the objects at `places`, as far as they are this Version's. Gives the places that need no further thought;
/// each is tried, and the failure is the first.
pub async fn objects(
    ctx: &Context,
    view: &VersionView,
    places: &[Place],
) -> (Vec<Place>, Result<(), Failure>) {
    let (mut done, mut result) = (Vec::new(), Ok(()));
    for place in places {
        match object(ctx, view, place).await {
            Err(failure) if matters(view, place, &failure) => result = result.and(Err(failure)),
            _ => done.push(place.clone()),
        }
    }
    (done, result)
}

/// Whether a failure keeps the Version. A place that is not on record is a guess from the spec: one that may not or
/// cannot be used at all holds nothing of ours.
fn matters(view: &VersionView, place: &Place, failure: &Failure) -> bool {
    recorded(view, place) || failure.passes()
}

async fn object(ctx: &Context, view: &VersionView, place: &Place) -> Result<(), Failure> {
    ctx.rules.check(view.namespace(), &place.into())?;
    match ctx.head(place).await? {
        Some(found) if is_ours(view, place, &found) => ctx.delete(place).await,
        None if recorded(view, place) => confirm(ctx, place).await,
        // Somebody else's, or a guess.
        _ => Ok(()),
    }
}

/// Any proxy can say 404 to a HEAD. What has no body may be from anybody; the answer to a DELETE is S3's own, or none. One
/// that S3 refuses is no reason to wait: it has said that there is nothing.
async fn confirm(ctx: &Context, place: &Place) -> Result<(), Failure> {
    match ctx.delete(place).await {
        Err(failure) if failure.reason == Reason::StorageAccessDenied => Ok(()),
        result => result,
    }
}

fn recorded(view: &VersionView, place: &Place) -> bool {
    view.status.objects.iter().chain(&view.status.storage).any(|p| p == place)
}

/// Every place where an object of this Version may be, the status being lost or not. One bucket and key under two
/// endpoints may be two objects: here, where nothing is to stay, both are looked at.
pub fn all_places(view: &VersionView) -> Vec<Place> {
    let mut places = view.status.objects.clone();
    places.extend(view.status.storage.clone().filter(|place| !view.status.objects.contains(place)));
    if places.is_empty() {
        places.extend(view.work().ok().map(|work| work.place));
    }
    places
}
