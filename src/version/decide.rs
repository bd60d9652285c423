//! Decides what a Version's reconcile does next: one pure function, used on the cached Version and, after each read or write,
//! on the current one.

use std::time::Duration;

use jiff::Timestamp;

use super::due::{after_restart, has_new_request, has_older_status, phase, verify_interval};
use super::memory::{Attempt, ChangeKey};
use super::status::{fetch_reason, standing};
use crate::api::state::VersionState;
use crate::api::target::{MISNAMED, Requests, Target, force_is_handled, left_behind};
use crate::api::version::TYPE_MODULE;
use crate::controller::failure::{About, Failure, Reason};
use crate::controller::owners::Fate;

/// What a reconcile does next.
#[derive(Clone, Debug)]
pub(crate) enum NextAction {
    /// The Version is not this operator's.
    Ignore,
    /// Nothing, until that time or (`None`) until the Version changes.
    Rest(Option<Timestamp>),
    /// Nothing before that time: a failed attempt waits for its retry.
    Wait(Timestamp),
    /// Nothing before the Module is reconciled: it determines whether objects are deleted, or has the expected digest.
    AwaitModule,
    AddFinalizer,
    /// Delete the objects, then remove our finalizer.
    Delete,
    /// Remove our finalizer: the objects stay.
    Release,
    Suspend,
    /// Write that the spec is invalid.
    Reject(Failure),
    /// Reset `spec.forceSync`: its outcome is in the status.
    ResetForce,
    /// Fetch, compare and store.
    Publish(Box<Target>),
    /// Check the object in the bucket.
    Verify(Box<Target>),
    /// Check the recorded object of a Version that waits after a failure. Only `status.synced` depends on the result.
    VerifyRecorded,
    /// Delete the objects that a move left behind.
    CleanUp(Box<Target>),
    /// Write the status: the object is as wanted.
    Record(Box<Target>),
}

/// The queue in which an action waits for its permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// A few requests to the API server, which no hanging store delays.
    Api,
    /// The same, and a few to the bucket.
    Light,
    Publish,
}

/// What a decision depends on besides the Version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The last attempt, if it failed.
    pub attempt: Option<&'a Attempt>,
    /// The interval of verifications; `None`: never.
    pub verify_interval: Option<Duration>,
    pub now: Timestamp,
    /// When this process became leader. It remembers failures and verifications since then.
    pub leading_since: Timestamp,
    /// When this process last verified the object in the bucket.
    pub verified: Option<Timestamp>,
    /// The intact object that this reconcile saw in the bucket.
    pub seen: Option<Seen>,
    /// Whether objects of a deleted Version, or left behind by a move, are deleted.
    pub fate: Fate,
    /// Whether the Module may have an expected digest that the Version does not contain yet.
    pub awaits_digest: bool,
    /// Whether no pause after an earlier failure applies.
    pub tries_now: bool,
}

/// An intact object that was seen in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether it is an archive of another format than the spec wants.
    pub other_format: bool,
}

impl Seen {
    /// Whether the next verification is due an interval later. A Ready Version must not rest on an archive of another format.
    pub(crate) fn is_verification(self, version: &VersionState) -> bool {
        !self.other_format || version.status.is_ready() != Some(true)
    }
}

impl NextAction {
    /// The queue of this action; `None` if nothing is to be done now.
    pub(crate) fn lane(&self) -> Option<Lane> {
        match self {
            Self::Ignore | Self::Rest(_) | Self::Wait(_) | Self::AwaitModule => None,
            Self::AddFinalizer
            | Self::Release
            | Self::Suspend
            | Self::Reject(_)
            | Self::ResetForce
            | Self::Record(_) => Some(Lane::Api),
            Self::Delete | Self::Verify(_) | Self::VerifyRecorded | Self::CleanUp(_) => Some(Lane::Light),
            Self::Publish(_) => Some(Lane::Publish),
        }
    }

    /// The store that this action sends requests to, if it is one for [`Lane::Light`].
    pub(crate) fn store(&self, version: &VersionState) -> u64 {
        match self {
            Self::VerifyRecorded => version.recorded_store_key(),
            _ => version.store_key(),
        }
    }
}

pub(crate) fn decide(version: &VersionState, facts: &Facts<'_>) -> NextAction {
    let is_foreign = version.controller().is_some() || version.is_original;
    if *version.type_ != *TYPE_MODULE || (!version.has_finalizer && is_foreign) {
        return NextAction::Ignore;
    }
    let waits = |a: &&Attempt| !facts.tries_now && a.due > facts.now && a.key == ChangeKey::of(version);
    if let Some(attempt) = facts.attempt.filter(waits) {
        // A deletion is a change too: it makes a new generation.
        return wait(version, Some(attempt.reason), attempt.due, facts);
    }
    if version.is_terminating() {
        return match (version.has_finalizer, facts.fate) {
            (false, _) => NextAction::Ignore,
            (true, Fate::Undecided) => NextAction::AwaitModule,
            (true, Fate::Keep) => NextAction::Release,
            (true, Fate::Delete) => NextAction::Delete,
        };
    }
    if !version.has_finalizer {
        return NextAction::AddFinalizer;
    }
    if version.is_suspended() {
        let is_written = version.is_observed() && version.status.reason() == Reason::Suspended.as_str();
        return if is_written { NextAction::Rest(None) } else { NextAction::Suspend };
    }
    if facts.awaits_digest {
        return NextAction::AwaitModule;
    }
    if version.force_sync && force_is_handled(version) {
        return NextAction::ResetForce;
    }
    if rests(version, facts) {
        return NextAction::Rest(verification_due(version, facts));
    }
    let action = match Target::of(version) {
        Ok(target) => towards(version, target, facts),
        Err(error) => NextAction::Reject(error.into()),
    };
    match restart_pause(version, facts, &action) {
        Some(due) => wait(version, version.status.reason().parse().ok(), due, facts),
        None => action,
    }
}

/// Nothing before `due`, after a failure. The recorded object is verified meanwhile.
fn wait(version: &VersionState, failure: Option<Reason>, due: Timestamp, facts: &Facts<'_>) -> NextAction {
    match failure.and_then(|failure| verification_meanwhile(version, failure, facts)) {
        Some((at, verify)) if at <= facts.now => verify,
        Some((at, _)) => NextAction::Wait(due.min(at)),
        None => NextAction::Wait(due),
    }
}

/// Whether a Version rests: this generation was handled, nothing is requested, and no verification is due. This is cheaper than
/// a comparison with its target, and most Versions rest.
fn rests(version: &VersionState, facts: &Facts<'_>) -> bool {
    let status = &version.status;
    let expects_other = version.expected_digest.is_some() && version.expected_digest != status.content_digest;
    let is_handled = status.synced
        && status.checksum.is_some()
        && is_settled(version)
        && !Requests::of(version).any()
        && !expects_other
        && status.objects().all(|object| status.has_same_key(&object.location()));
    let due = verification_due(version, facts);
    is_handled && facts.seen.is_none() && due.is_none_or(|due| due > facts.now)
}

/// Whether, according to the status, this generation was handled with success and no forced sync is open.
fn is_settled(version: &VersionState) -> bool {
    let status = &version.status;
    let is_handled = status.is_ready() == Some(true) && version.is_observed();
    is_handled && status.pending_force.is_none() && !has_older_status(version)
}

/// When the next verification is due, if there are any.
fn verification_due(version: &VersionState, facts: &Facts<'_>) -> Option<Timestamp> {
    let interval = verify_interval(version, facts.verify_interval)?;
    Some(phase(version, interval, facts.verified.unwrap_or(facts.leading_since)))
}

/// When and how to verify the recorded object of a Version that waits after a failure, since such a wait may last for days.
/// `None` if there is no object to verify, it has just been verified, or the next attempt does so.
fn verification_meanwhile(
    version: &VersionState,
    failure: Reason,
    facts: &Facts<'_>,
) -> Option<(Timestamp, NextAction)> {
    let status = &version.status;
    let is_active = version.has_finalizer && !version.is_terminating() && !version.is_suspended();
    // Only a failure that is in the status: others are retried within seconds.
    let is_failed = status.is_ready() == Some(false);
    let has_object = status.storage.is_some() && status.checksum.is_some();
    let due = verification_due(version, facts)?;
    if !is_active || !is_failed || !has_object || facts.seen.is_some() {
        return None;
    }
    let verify = match Target::of(version) {
        Ok(target) if failure.is_about_source() && target.is_satisfied_by(version) => {
            NextAction::Verify(Box::new(target))
        }
        // Each attempt sends a HEAD there, and adopts an object that was put back. Attempts after other failures are rarer.
        Ok(target) if failure.about() == About::Storage && status.is_recorded_at(&target.location) => {
            return None;
        }
        _ => NextAction::VerifyRecorded,
    };
    Some((due, verify))
}

/// What is missing between a Version and its target.
fn towards(version: &VersionState, target: Target, facts: &Facts<'_>) -> NextAction {
    let other_format = facts.seen.is_some_and(|seen| seen.other_format);
    let left_behind = !left_behind(version, &target.location).is_empty();
    if target.requests.any()
        || !target.is_satisfied_by(version)
        || fetch_reason(version).is_some()
        || other_format
        || was_misnamed(version)
    {
        return NextAction::Publish(Box::new(target));
    }
    let status = &version.status;
    let is_settled = is_settled(version);
    // The spec spells the same location in another way: only a HEAD shows whether the object can be reached like that.
    let is_spelled_anew = !version.is_observed()
        && status.storage.as_ref().is_none_or(|storage| storage.location() != target.location);
    let due = verification_due(version, facts);
    // A failure that needs no fetch is checked in the bucket. A key without extension is the same for both formats: only the
    // object shows which it is.
    let is_unclear = status.ready.is_none()
        || has_older_status(version)
        || standing(version).is_some()
        || is_spelled_anew
        || !target.format().is_extension_of(&target.location.key) && !is_settled;
    let is_due = due.is_some_and(|due| due <= facts.now);
    if facts.seen.is_none() && (left_behind || is_unclear || is_due) {
        return NextAction::Verify(Box::new(target));
    }
    if left_behind {
        return NextAction::CleanUp(Box::new(target));
    }
    if is_settled { NextAction::Rest(due) } else { NextAction::Record(Box::new(target)) }
}

/// Until when a Version waits whose last failure was before this process became leader. `None` if an attempt is requested.
fn restart_pause(version: &VersionState, facts: &Facts<'_>, action: &NextAction) -> Option<Timestamp> {
    let failed = action.lane().is_some() && version.status.is_ready() != Some(true) && version.is_observed();
    // An intact object resolves no failure that needs a fetch.
    let is_resolved = facts.seen.is_some() && !matches!(action, NextAction::Publish(_));
    if facts.attempt.is_some() || is_resolved || facts.tries_now || has_new_request(version) || !failed {
        return None;
    }
    after_restart(version, facts.leading_since).filter(|due| *due > facts.now)
}

/// Whether `fileName` and format contradicted each other before. Early releases stored such archives, and the object does not
/// show its format: after a correction only a fetch shows whether it is as wanted.
fn was_misnamed(version: &VersionState) -> bool {
    let status = &version.status;
    status.reason() == Reason::InvalidSpec.as_str() && status.message.starts_with(MISNAMED)
}
