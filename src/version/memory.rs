//! What the process remembers of each Version between reconciles: failed attempts, verifications, forced syncs.
//!
//! In: outcomes. Out: when to look again. Kept in memory only: losing it costs an early attempt, never correctness.
//! Times are of the monotonic clock: one that is set back must not make anything wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::triage::Attempt;
use crate::api;

/// Forces within this window are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// So many forces within the window are done at once.
const FREE_FORCES: usize = 3;
/// First pause of the forces that follow; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// One Version's memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The last attempt, if it failed.
    pub attempt: Option<Attempt>,
    /// When the object was last seen in the bucket by this process.
    pub verified: Option<Instant>,
    /// The forced syncs of late.
    pub forces: Forces,
    /// The resourceVersion that the last reconcile left behind, and when.
    pub left: Option<(String, Instant)>,
}

impl Memory {
    /// Whether the watch tells of a version of the object that the last reconcile has left behind.
    pub fn is_ahead_of(&self, version: Option<&str>, now: Instant) -> bool {
        self.left.as_ref().is_some_and(|(left, at)| {
            now.duration_since(*at) < api::WATCH_LAG.unsigned_abs() && api::is_older(version, Some(left))
        })
    }
}

/// Forced syncs of one object, so that a loop that asks for ever makes no storm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forces {
    last: Option<String>,
    recent: Vec<Instant>,
    pause: Option<Duration>,
    free_at: Option<Instant>,
}

impl Forces {
    /// Whether the force called `id`, which stands now, may start, or else how long it waits. One that may is counted once.
    pub fn admit(&mut self, id: &str, now: Instant) -> Result<(), Duration> {
        if self.last.as_deref() == Some(id) {
            return Ok(());
        }
        if let Some(at) = self.free_at.filter(|at| *at > now) {
            return Err(at.duration_since(now));
        }
        let waited = self.free_at.take().is_some();
        // A loop that pauses as told is still a loop: the window of the last pause counts as well.
        let window = WINDOW + self.pause.unwrap_or_default();
        self.recent.retain(|at| now.duration_since(*at) < window);
        if self.recent.len() < FREE_FORCES {
            if self.recent.is_empty() {
                self.pause = None;
            }
        } else if !waited {
            let pause = self.pause.map_or(FIRST_PAUSE, |p| (p * 2).min(LONGEST_PAUSE));
            self.pause = Some(pause);
            self.free_at = Some(now + pause);
            return Err(pause);
        }
        self.last = Some(id.to_owned());
        self.recent.push(now);
        if self.recent.len() > FREE_FORCES {
            self.recent.remove(0);
        }
        Ok(())
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

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::super::triage::Seen;
    use super::*;
    use crate::failure::Reason;

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
        let changes: [fn(&mut Memory, Attempt); 5] = [
            |memory, attempt| memory.attempt = Some(attempt),
            |memory, _| memory.verified = Some(at(1)),
            |memory, _| memory.left = Some(("10".into(), at(1))),
            |memory, _| assert_eq!(memory.forces.admit("forceSync/1", at(1)), Ok(())),
            |memory, _| memory.forces.free_at = Some(at(1)),
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

    /// Asks at each time that the throttle names, as a loop would, and gives the times of the syncs.
    fn loop_for(seconds: u64) -> Vec<u64> {
        let (mut forces, mut now, mut done) = (Forces::default(), 0, Vec::new());
        while now < seconds {
            match forces.admit(&now.to_string(), at(now)) {
                Ok(()) => {
                    done.push(now);
                    now += 1;
                }
                Err(pause) => now += pause.as_secs(),
            }
            // The same force asked about again is no new one.
            if let Some(last) = forces.last.clone() {
                assert_eq!(forces.admit(&last, at(now)), Ok(()));
            }
        }
        done
    }

    #[test]
    fn three_forces_are_free_and_a_loop_slows_down_to_one_in_ten_minutes() {
        let done = loop_for(7200);
        assert_eq!(done[..3], [0, 1, 2]);
        let pauses: Vec<u64> = done[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..4], [11, 21, 41, 81], "{pauses:?}");
        assert!(pauses.iter().all(|p| *p <= 601) && pauses.ends_with(&[601]), "{pauses:?}");
    }

    #[test]
    fn forces_a_minute_apart_are_never_held_back() {
        let mut forces = Forces::default();
        for minute in 0..50 {
            assert_eq!(forces.admit(&minute.to_string(), at(minute * 60)), Ok(()));
        }
    }
}
