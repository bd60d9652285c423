//! The next status of a Version: pure functions from the current status and an outcome to the status to write.
//!
//! A function that changes nothing returns an equal status, and then nothing is written.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::DynamicObject;

use super::outcome::Published;
use crate::api::VersionStatus;
use crate::api::condition::{self, Outcome};
use crate::api::requests::{PendingForce, shorten_recorded};
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target, left_behind, satisfies_spec};
use crate::controller::client;
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::domain::text::cut;

/// A Version as it was last read: what decisions use, and the full status that writes start from.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The pruned Version.
    pub version: VersionState,
    /// The whole status; empty if it cannot be read.
    pub status: VersionStatus,
}

/// The unresolved reason why `Ready` is not True, also if a suspension or a later failure has written another reason. `None`: no
/// failure is unresolved.
pub(crate) fn standing(version: &VersionState) -> Option<&str> {
    let ready = version.status.ready.as_ref().filter(|ready| !ready.is_true)?;
    let last = Some(&*ready.reason).filter(|reason| *reason != Reason::Suspended.as_str());
    let kept = kept_reason(version);
    // A failure that only a fetch resolves stays longer than one that a HEAD resolves.
    kept.filter(|reason| Reason::needs_fetch(reason)).or(last).or(kept)
}

/// The reason that [`keep_reason`] has kept.
fn kept_reason(version: &VersionState) -> Option<&str> {
    let quiet = [&version.status.stalled, &version.status.reconciling];
    let kept = quiet.into_iter().flatten().find(|c| !c.is_true && c.reason.parse::<Reason>().is_ok());
    kept.map(|condition| &*condition.reason)
}

/// The same for the stored object. If the last failure was for another object, a reason of the stored one is always kept, since
/// such a failure is resolved once the spec is changed back.
fn standing_of_stored(version: &VersionState) -> Option<&str> {
    let standing = standing(version)?;
    kept_reason(version).or(Some(standing))
}

/// The reason of an unresolved failure of the stored object, or of a Version without one, that only a fetch resolves.
pub(crate) fn fetch_reason(version: &VersionState) -> Option<&str> {
    standing_of_stored(version).filter(|reason| Reason::needs_fetch(reason))
}

/// Whether the spec wants another object than the one that is stored.
fn is_for_other_object(version: &VersionState) -> bool {
    version.status.synced && !satisfies_spec(version)
}

impl Snapshot {
    /// Of an object from the API server.
    pub(crate) fn of(raw: &DynamicObject) -> Self {
        let object = serde_json::to_value(raw).unwrap_or_default();
        let mut status: VersionStatus = client::part(raw, "status").unwrap_or_default();
        let recorded = [&mut status.last_handled_request, &mut status.last_module_request];
        recorded.into_iter().flatten().for_each(shorten_recorded);
        Self { version: serde_json::from_value(object).unwrap_or_default(), status }
    }

    fn with(&self, outcome: &Outcome, reason: Reason, message: &str, now: Timestamp) -> VersionStatus {
        let mut after = self.status.clone();
        let generation = self.version.metadata.generation;
        after.observed_generation = generation;
        after.conditions =
            condition::set(&after.conditions, outcome, reason.as_str(), message, generation, now);
        let created = self.version.metadata.creation_timestamp.as_ref();
        if let Some(created) = created.filter(|_| *outcome == Outcome::Ready) {
            // An earlier time, from a backup, shows that the object was not verified since the restore.
            for Condition { last_transition_time: since, .. } in ours(&mut after.conditions) {
                *since = since.clone().max(created.clone());
            }
        }
        after.sync_status = Some(cut(message, condition::MAX_MESSAGE));
        after.synced = Some(after.synced.unwrap_or(false));
        after
    }

    /// Before a PUT: records the location, so that no crash orphans the object.
    pub(crate) fn publishing(&self, location: &ObjectLocation, now: Timestamp) -> VersionStatus {
        let message = format!("Publishing to {location}.");
        let mut after = self.with(&Outcome::Working, Reason::Publishing, &message, now);
        keep_reason(&mut after, fetch_reason(&self.version));
        if !after.objects.contains(location) {
            after.objects.push(location.clone());
        }
        after
    }

    /// The object is stored as wanted. `Ready` stays False while objects that a move left behind are to be deleted.
    pub(crate) fn published(
        &self,
        published: &Published,
        requests: &Requests,
        now: Timestamp,
    ) -> VersionStatus {
        let Published { location, content, source, stored_now, answers, stored_at, .. } = published;
        let mut after = if left_behind(&self.version, location).is_empty() {
            self.with(&Outcome::Ready, Reason::Synced, &stored(Some(location)), now)
        } else {
            let message =
                format!("{} The objects at old locations are not deleted yet.", stored(Some(location)));
            self.with(&Outcome::Working, Reason::Publishing, &message, now)
        };
        after.synced = Some(true);
        after.checksum = Some(content.checksum.clone());
        after.content_digest = Some(content.digest.clone());
        after.archive_size_bytes = Some(i64::try_from(content.size).unwrap_or(i64::MAX));
        after.source.clone_from(source);
        after.storage = Some(location.clone());
        // One spelling of a location is enough to find the object again.
        after.objects.retain(|p| !p.is_same_object(location));
        after.objects.push(location.clone());
        // An object that was found was stored by an attempt whose outcome was not recorded.
        let found_at = (*stored_at).max(after.last_sync_time.map(|before| before.0));
        let stored_at = if *stored_now { stored_at.or(Some(now)) } else { found_at };
        after.last_sync_time = stored_at.map(|at| Time(condition::whole_seconds(at)));
        if *answers {
            self.answer(requests, false, &mut after);
        }
        after
    }

    /// The attempt failed. The stored object stays recorded: `synced` is about the object, `Ready` about the attempt.
    /// `is_stored`: whether the object is stored as recorded, if the attempt has found that out.
    pub(crate) fn failed(
        &self,
        failure: &Failure,
        requests: &Requests,
        is_stored: Option<bool>,
        now: Timestamp,
    ) -> VersionStatus {
        let outcome = if failure.is_transient() { Outcome::Working } else { Outcome::Stalled };
        let mut after = self.with(&outcome, failure.reason, &failure.message, now);
        // For `standing_of_stored`.
        let synced = is_for_other_object(&self.version).then_some(Reason::Synced.as_str());
        if synced.is_some() || !Reason::needs_fetch(failure.reason.as_str()) {
            keep_reason(&mut after, fetch_reason(&self.version).or(synced));
        }
        after.synced = is_stored.or(after.synced);
        self.answer(requests, failure.is_transient(), &mut after);
        after
    }

    /// The object was found missing or damaged; it is about to be restored.
    pub(crate) fn restoring(&self, what: &str, now: Timestamp) -> VersionStatus {
        let mut after = self.with(&Outcome::Working, Reason::Restoring, what, now);
        keep_reason(&mut after, fetch_reason(&self.version));
        after.synced = Some(false);
        after
    }

    /// The recorded object was verified after a failure, which stays as it is.
    pub(crate) fn verified(&self, is_stored: bool) -> VersionStatus {
        VersionStatus { synced: Some(is_stored), ..self.status.clone() }
    }

    /// Work is suspended. A failure before that stays unresolved.
    pub(crate) fn suspended(&self, by: &str, now: Timestamp) -> VersionStatus {
        let standing = standing(&self.version);
        let failed = standing.filter(|reason| !Reason::is_progress(reason));
        let failed = failed
            .map(|reason| format!(" The last attempt before that failed: {reason}."))
            .unwrap_or_default();
        let mut after =
            self.with(&Outcome::Idle, Reason::Suspended, &format!("Suspended by {by}.{failed}"), now);
        keep_reason(&mut after, standing_of_stored(&self.version));
        after
    }

    /// The object is as wanted: `Ready` becomes True, and no request is pending.
    pub(crate) fn settled(&self, now: Timestamp) -> VersionStatus {
        let message = stored(self.status.storage.as_ref());
        let mut after = self.with(&Outcome::Ready, Reason::Synced, &message, now);
        after.pending_force = None;
        after
    }

    /// The object was found at the target's location, which is recorded as the spec spells it.
    pub(crate) fn recorded(&self, target: &Target, now: Timestamp) -> VersionStatus {
        let location = &target.location;
        if self.status.storage.as_ref() == Some(location) {
            return self.settled(now);
        }
        let is_moving = !left_behind(&self.version, location).is_empty();
        let mut after = if is_moving { self.status.clone() } else { self.settled(now) };
        after.storage = Some(location.clone());
        after.objects.retain(|p| !p.is_same_object(location));
        after.objects.push(location.clone());
        after
    }

    /// The objects that a move left behind are deleted or retained.
    pub(crate) fn cleaned_up(&self, now: Timestamp) -> VersionStatus {
        let mut after = self.settled(now);
        after.objects.retain(|p| self.version.status.has_same_key(p));
        after
    }

    /// The same outcome, about the generation that our own reset of `spec.forceSync` has made.
    pub(crate) fn observed(&self) -> VersionStatus {
        let mut after = self.status.clone();
        observed_generations(&mut after).for_each(|at| *at = self.version.metadata.generation);
        after.pending_force = after
            .pending_force
            .filter(|p| matches!(PendingForce::parse(Some(p)), Some(PendingForce::Retry(_))));
        after
    }

    /// `locations` no longer have an object of this Version.
    pub(crate) fn struck(&self, locations: &[ObjectLocation]) -> VersionStatus {
        let mut after = self.status.clone();
        after.objects.retain(|p| !locations.contains(p));
        after
    }

    /// All objects of a Version that is being deleted are gone or `retained`, and another client's finalizer keeps it.
    pub(crate) fn held(&self, retained: bool, now: Timestamp) -> VersionStatus {
        let end = if retained { "stay in the bucket" } else { "are deleted" };
        let message =
            format!("Its objects {end}. The Version stays until other clients remove their finalizers.");
        let mut after = self.with(&Outcome::Working, Reason::Progressing, &message, now);
        if !retained {
            after.synced = Some(false);
            after.objects.clear();
        }
        after
    }

    /// Records the outcome of an attempt that answers `requests`.
    fn answer(&self, requests: &Requests, is_transient: bool, after: &mut VersionStatus) {
        if let Some(token) = &requests.requested_at {
            after.last_handled_request = Some(token.clone());
        }
        if let Some(token) = &requests.module_request {
            after.last_module_request = Some(token.clone());
        }
        let generation = if requests.force_sync { self.version.generation() } else { 0 };
        let pending = match (requests.any() && is_transient, requests.force_sync) {
            (true, _) => Some(PendingForce::Retry(generation)),
            (false, true) => Some(PendingForce::Done(generation)),
            (false, false) => None,
        };
        after.pending_force = pending.map(|pending| pending.to_string());
    }
}

/// A status about the generation `before`, changed to one about `now`, which differs in nothing that the status describes.
pub(crate) fn at_generation(status: &VersionStatus, before: i64, now: i64) -> VersionStatus {
    let mut after = status.clone();
    observed_generations(&mut after).filter(|at| **at == Some(before)).for_each(|at| *at = Some(now));
    let pending = PendingForce::parse(after.pending_force.as_deref()).filter(|p| p.handles(before));
    if let Some(pending) = pending {
        let moved = match pending {
            PendingForce::Retry(_) => PendingForce::Retry(now),
            PendingForce::Done(_) => PendingForce::Done(now),
        };
        after.pending_force = Some(moved.to_string());
    }
    after
}

/// The generations that the status and our conditions describe.
fn observed_generations(status: &mut VersionStatus) -> impl Iterator<Item = &mut Option<i64>> {
    let generations = ours(&mut status.conditions).map(|condition| &mut condition.observed_generation);
    generations.chain([&mut status.observed_generation])
}

fn ours(conditions: &mut [Condition]) -> impl Iterator<Item = &mut Condition> {
    conditions.iter_mut().filter(|condition| condition::OURS.contains(&condition.type_.as_str()))
}

/// Keeps a reason of the stored object in one of the two conditions that are False, since `Ready` has another reason.
fn keep_reason(after: &mut VersionStatus, reason: Option<&str>) {
    let quiet = |type_: &&str| condition::find(&after.conditions, type_).is_some_and(|c| c.status == "False");
    let quiet = ["Stalled", "Reconciling"].into_iter().find(quiet);
    let condition = after.conditions.iter_mut().find(|c| Some(c.type_.as_str()) == quiet);
    if let Some((reason, condition)) = reason.zip(condition) {
        reason.clone_into(&mut condition.reason);
        "An earlier attempt ended with this reason, which no later attempt has changed."
            .clone_into(&mut condition.message);
    }
}

fn stored(location: Option<&ObjectLocation>) -> String {
    location.map_or_else(|| "Stored.".to_owned(), |location| format!("Stored as {location}."))
}
