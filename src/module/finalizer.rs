//! The finalizer of a Module: while it is set, the Module's Versions can still be given its deletion policy. Pure.
//!
//! Without it, a deleted Module disappears at once, and Kubernetes deletes its Versions. Each has its own copy of the deletion
//! policy, which may be older than the Module's. So a Module with Versions stays until their copies agree. It does not wait
//! for S3 or for the end of its Versions.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::attempts::Attempts;
use super::edit::Change;
use super::plan::Plan;
use super::rejected_requests::RejectedRequests;
use super::status::{shared_reason, why};
use super::summary::has_failed;
use super::view::ModuleView;
use crate::api::condition::{self, Outcome};
use crate::api::state::VersionState;
use crate::api::{MODULE_FINALIZER, ModuleStatus};
use crate::controller::failure::Reason;
use crate::domain::Mutex;
use crate::domain::text::{cut, plural};

/// The pause between two Modules that get the finalizer although they have Versions already: ten per second.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a Module needs the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It has the finalizer, or no Versions.
    None,
    /// It has Versions already, as after an upgrade: soon.
    Soon,
    /// Before its first Version is created or adopted.
    First,
}

/// Whether `module` needs the finalizer before `plan` is applied.
pub(super) fn need(module: &ModuleView, plan: &Plan, children: &[&VersionState]) -> Need {
    if module.is_terminating() || module.has_finalizer() {
        return Need::None;
    }
    if children.iter().any(|child| module.manages(child)) {
        return Need::Soon;
    }
    let is_first = !plan.create.is_empty() || plan.change.iter().any(Change::adopts);
    if is_first { Need::First } else { Need::None }
}

/// The finalizers of a Module with ours.
pub(super) fn added(module: &ModuleView) -> Vec<String> {
    module.finalizers().cloned().chain([MODULE_FINALIZER.to_owned()]).collect()
}

/// The finalizers of a Module without ours, wherever it is in the list.
pub(super) fn removed(module: &ModuleView) -> Vec<String> {
    module.finalizers().filter(|finalizer| *finalizer != MODULE_FINALIZER).cloned().collect()
}

/// Assigns times to writes of the finalizer, [`PAUSE`] apart, so that an upgrade with thousands of Modules causes no storm of
/// writes.
#[derive(Debug, Default)]
pub struct FinalizerPace(Mutex<Times>);

#[derive(Debug, Default)]
struct Times {
    /// The next time that is free.
    free: Option<Instant>,
    /// The last time that was used.
    used: Option<Instant>,
}

impl FinalizerPace {
    /// Whether a Module to which the time `due` was assigned, or none yet, may write now; otherwise its assigned time. Modules
    /// that are late do not write together: each is assigned another time.
    pub fn turn(&self, due: Option<Instant>, now: Instant) -> Result<(), Instant> {
        let mut times = self.0.lock();
        if let Some(later) = due.filter(|due| *due > now) {
            return Err(later);
        }
        let free = times.free.map_or(now, |free| free.max(now));
        let has_rested = times.used.is_none_or(|used| used + PAUSE <= now);
        if has_rested && (free == now || due.is_some()) {
            times.used = Some(now);
            times.free = Some(free.max(now + PAUSE));
            return Ok(());
        }
        times.free = Some(free + PAUSE);
        Err(free)
    }
}

/// Whether the finalizer may be removed from a Module that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FinalizerRemoval {
    Now,
    /// Some of its Versions have not been given its policy yet.
    Later,
    /// These Versions cannot be given its policy.
    Refused(RejectedRequests),
}

/// Whether a Module that is being deleted may lose the finalizer after `plan` was applied. `has_uncached`: whether it created
/// Versions that the cache does not have yet. A refused patch keeps the Module only under `Retain`: otherwise no object is to be
/// kept.
pub(super) fn removal(
    module: &ModuleView,
    plan: &Plan,
    attempts: &Attempts,
    has_uncached: bool,
) -> FinalizerRemoval {
    let refused = attempts.refused_changes();
    let is_open = |change: &Change| !attempts.is_done(change) && !refused.names.contains(&change.target.name);
    // After a few refusals the rest is not sent.
    let has_open = !attempts.refuses_changes() && plan.change.iter().any(is_open);
    if !has_open && module.policy.retain && !refused.names.is_empty() {
        FinalizerRemoval::Refused(refused)
    } else if has_open || has_uncached {
        FinalizerRemoval::Later
    } else {
        FinalizerRemoval::Now
    }
}

/// The message of a Module that stays because some of its Versions cannot be given its policy.
pub(super) fn without_policy(refused: &RejectedRequests) -> String {
    let first = &refused.words;
    let more = match refused.names.len() {
        0 | 1 => String::new(),
        n => format!(" The same applies to {} more.", n - 1),
    };
    format!(
        "The Module is being deleted, and stays until each of its Versions has deletionPolicy: Retain. {first}{more}"
    )
}

/// What the status reports of a Module that is being deleted, and that something keeps.
type Blocked = (Outcome, Reason, String);

/// What blocks a Module that is being deleted: its Versions cannot be deleted, or the last one is gone after such a failure. With
/// `--cascade=foreground`, Kubernetes keeps the Module as long as they exist.
pub(super) fn undeletable(module: &ModuleView, children: &[&VersionState]) -> Option<Blocked> {
    let mut left = children.iter().copied().filter(|child| module.manages(child)).peekable();
    let ready = condition::find(&module.status.conditions, "Ready");
    if left.peek().is_none() && ready.is_some_and(|ready| !Reason::is_progress(&ready.reason)) {
        let message = "The Module is being deleted, and stays until other clients remove their finalizers.";
        return Some((Outcome::Working, Reason::Progressing, message.to_owned()));
    }
    let is_stuck = |child: &&VersionState| child.is_terminating() && has_failed(child);
    let mut stuck: Vec<&VersionState> = left.filter(is_stuck).collect();
    stuck.sort_by_key(|child| child.name());
    let first = stuck.first()?;
    let message = format!(
        "The Module is being deleted. {} cannot be deleted; first {}: {}",
        plural(stuck.len(), "Version"),
        first.version,
        why(first)
    );
    let is_stalled = stuck.iter().all(|child| child.status.is_stalled());
    let outcome = if is_stalled { Outcome::Stalled } else { Outcome::Working };
    Some((outcome, shared_reason(stuck.into_iter()), message))
}

/// The status of a Module that is being deleted and stays.
pub(super) fn blocked_status(
    module: &ModuleView,
    (outcome, reason, message): &Blocked,
    now: Timestamp,
) -> ModuleStatus {
    let (before, observed_generation) = (module.status.clone(), module.metadata.generation);
    let reason = reason.as_str();
    let conditions = condition::set(&before.conditions, outcome, reason, message, observed_generation, now);
    let sync_status = Some(cut(message, condition::MAX_MESSAGE));
    ModuleStatus { observed_generation, conditions, sync_status, ..before }
}
