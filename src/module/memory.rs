//! The state of each Module between reconciles, in memory. Its loss causes early retries, but no wrong result.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::attempts::Attempts;
use super::pace::StatusPace;
use crate::api::state::ModuleState;
use crate::controller::force_throttle::ForceThrottle;
use crate::domain::Mutex;
use crate::observe::log_limit::LogLimit;

/// The shortest time between two reconciles that only Versions caused: otherwise each Version would cost a status write.
pub(super) const MODULE_DEBOUNCE: Duration = Duration::from_secs(1);

/// The memory of all Modules, by UID.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

/// What is remembered of one Module between reconciles.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What the user wanted at the last reconcile.
    seen: Option<String>,
    reconciled_at: Option<Instant>,
    /// Consecutive reconciles that failed.
    pub failures: u32,
    pub forces: ForceThrottle,
    /// When the finalizer may be written.
    pub finalizer_due: Option<Instant>,
    pub attempts: Attempts,
    pub pace: StatusPace,
    /// Until when no larger status is written: the last one was too large.
    pub too_large_until: Option<Instant>,
    /// Rejected writes of the status.
    pub(super) rejected: LogLimit,
}

impl Memories {
    /// Reads or changes what is remembered of the Module with this UID.
    pub fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.0.lock().entry(uid.to_owned()).or_default())
    }

    /// The same, unless the Module was forgotten meanwhile.
    pub fn if_known<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.0.lock().get_mut(uid).map(change)
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    pub fn keep_only(&self, uids: &HashSet<&str>) {
        self.0.lock().retain(|uid, _| uids.contains(uid.as_str()));
    }
}

impl Memory {
    /// Starts a reconcile, or returns how long one that only Versions caused has to wait.
    pub fn start(&mut self, module: &ModuleState, now: Instant) -> Result<(), Duration> {
        let wanted = Some(wanted(module));
        let has_changed = self.seen != wanted;
        let is_due = self.finalizer_due.is_some_and(|at| at <= now);
        let rested = self.reconciled_at.map_or(MODULE_DEBOUNCE, |at| now.saturating_duration_since(at));
        if rested < MODULE_DEBOUNCE && !has_changed && !is_due {
            return Err(MODULE_DEBOUNCE.saturating_sub(rested));
        }
        if has_changed {
            self.attempts.retry_refused(now);
            self.too_large_until = None;
        }
        self.seen = wanted;
        self.reconciled_at = Some(now);
        Ok(())
    }

    /// For how long no larger status is written, if the last one was too large.
    pub fn too_large_for(&self, now: Instant) -> Option<Duration> {
        let left = self.too_large_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// What a user can change of a Module: everything but its status, which the operator writes.
fn wanted(module: &ModuleState) -> String {
    format!("{:?} {:?} {}", module.metadata.generation, module.requested_at, module.is_terminating())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::REQUESTED_AT;

    #[test]
    fn a_status_that_was_too_large_is_tried_again_when_the_pause_ends() {
        let (now, pause) = (Instant::now(), Duration::from_mins(10));
        let memory = Memory { too_large_until: Some(now + pause), ..Memory::default() };
        assert_eq!(memory.too_large_for(now), Some(pause));
        assert_eq!(memory.too_large_for(now + pause), None);
        assert_eq!(Memory::default().too_large_for(now), None);
    }

    #[test]
    fn what_a_user_changes_does_not_wait_and_what_versions_cause_does() {
        let module = |change: Value| {
            let mut metadata = json!({"name": "network", "uid": "u", "generation": 1});
            metadata.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap_or_default());
            serde_json::from_value::<ModuleState>(json!({"metadata": metadata})).unwrap()
        };
        let requested = |token: &str| module(json!({"annotations": {REQUESTED_AT: token}}));
        let start = Instant::now();
        for (what, changed) in [
            ("another generation", module(json!({"generation": 2}))),
            ("a request", requested("1")),
            ("a deletion", module(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}))),
        ] {
            let mut memory = Memory::default();
            assert_eq!(memory.start(&module(json!({})), start), Ok(()));
            assert_eq!(memory.start(&module(json!({})), start), Err(MODULE_DEBOUNCE), "{what}");
            assert_eq!(memory.start(&changed, start), Ok(()), "{what}");
            assert_eq!(memory.start(&changed, start), Err(MODULE_DEBOUNCE), "{what}: once only");
            assert_eq!(memory.start(&changed, start + MODULE_DEBOUNCE), Ok(()), "{what}");
        }
        let mut memory = Memory::default();
        assert_eq!(memory.start(&requested("1"), start), Ok(()));
        assert_eq!(memory.start(&requested("2"), start), Ok(()), "another request");
        let labelled = module(json!({"labels": {"a": "b"}, "resourceVersion": "8"}));
        assert_eq!(memory.start(&labelled, start), Ok(()), "the request was removed");
        assert_eq!(memory.start(&module(json!({})), start), Err(MODULE_DEBOUNCE), "a label is no request");
    }
}
