//! What the process remembers of each Version between reconciles: failed attempts, verifications, forced syncs.
//!
//! In: outcomes. Out: when to look again. Kept in memory only: losing it costs an early attempt, never correctness.
//! Times are of the monotonic clock: one that is set back must not make anything wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::triage::Attempt;
use crate::controller::client;
use crate::controller::force_throttle::ForceThrottle;

/// One Version's memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The last attempt, if it failed.
    pub attempt: Option<Attempt>,
    /// When the object was last seen in the bucket by this process.
    pub verified: Option<Instant>,
    /// The forced syncs of late.
    pub forces: ForceThrottle,
    /// The resourceVersion that the last reconcile left behind, and when.
    pub left: Option<(String, Instant)>,
}

impl Memory {
    /// Whether the watch tells of a version of the object that the last reconcile has left behind.
    pub fn is_ahead_of(&self, version: Option<&str>, now: Instant) -> bool {
        self.left.as_ref().is_some_and(|(left, at)| {
            now.duration_since(*at) < client::WATCH_LAG.unsigned_abs()
                && client::is_older(version, Some(left))
        })
    }
}

/// The memory of all Versions, by UID.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// Reads or changes what is remembered of the object with this UID.
    pub fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = all.get_mut(uid) {
            return change(memory);
        }
        let mut memory = Memory::default();
        let result = change(&mut memory);
        // Thousands of Versions rest: those of which there is nothing to remember take no memory.
        if memory != Memory::default() {
            all.insert(uid.to_owned(), memory);
        }
        result
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::super::triage::Seen;
    use super::*;
    use crate::controller::failure::Reason;

    #[test]
    fn a_watch_may_be_behind_for_a_moment_only() {
        let memory = Memory { left: Some(("10".into(), at(100))), ..Memory::default() };
        assert!(memory.is_ahead_of(Some("9"), at(105)));
        assert!(!memory.is_ahead_of(Some("10"), at(105)) && !memory.is_ahead_of(Some("9"), at(111)));
        assert!(!Memory::default().is_ahead_of(Some("9"), at(100)));
    }

    fn at(second: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(second)
    }

    #[test]
    fn whatever_is_remembered_is_kept_until_the_object_is_gone() {
        let attempt = Attempt {
            failures: 1,
            reason: Reason::TagNotFound,
            since: jiff::Timestamp::UNIX_EPOCH,
            at: at(0),
            due: jiff::Timestamp::UNIX_EPOCH,
            ends: at(9),
            seen: Seen::of(&ObjectMeta::default()),
            secret: None,
            account: None,
            download: None,
        };
        let changes: [fn(&mut Memory, Attempt); 4] = [
            |memory, attempt| memory.attempt = Some(attempt),
            |memory, _| memory.verified = Some(at(1)),
            |memory, _| memory.left = Some(("10".into(), at(1))),
            |memory, _| assert_eq!(memory.forces.admit("forceSync/1", at(1)), Ok(())),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let memories = Memories::default();
            memories.with("uid", |memory| change(memory, attempt.clone()));
            let kept = memories.with("uid", |memory| memory.clone());
            assert_ne!(kept, Memory::default(), "change {n} is forgotten");
            memories.with("another", |memory| memory.attempt = None);
            assert_eq!(memories.0.lock().unwrap().len(), 1, "what has nothing to remember takes no memory");
            memories.forget("uid");
            assert_eq!(memories.with("uid", |memory| memory.clone()), Memory::default());
        }
    }
}
