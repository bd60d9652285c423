//! What this process remembers of each Version between reconciles: the last failed attempt, the last verification, forced
//! syncs, and its own last write.
//!
//! Losing it costs an early attempt, never correctness. Times are of the monotonic clock: a wall clock that is set back must
//! not prolong a pause.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outcome::SecretVersion;
use super::rate_limits::AccountKey;
use crate::api::state::VersionState;
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::client;
use crate::controller::failure::{LONGEST_DELAY, Reason, SHORTEST_DELAY};
use crate::controller::force_throttle::ForceThrottle;
use crate::domain::time::doubled;
use crate::domain::{Mutex, ObjectLocation, hash_of};

/// The last attempt of a Version, which failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// How many failed in a row.
    pub failures: u32,
    pub reason: Reason,
    /// Since when they fail for that reason.
    pub since: Timestamp,
    /// The last failure in the row that was about the tag or its content, and its first time, which an outage in between does
    /// not change.
    pub content: Option<(Reason, Timestamp)>,
    pub at: Instant,
    /// When the pause after it ends.
    pub ends: Instant,
    /// The same time by the wall clock, which may have been set since.
    pub due: Timestamp,
    /// The change that the attempt was for, known at the end of the reconcile. Another change does not wait for the retry.
    pub key: ChangeKey,
    /// The Secret that it failed on: its name and resourceVersion (none if it was missing).
    pub secret: Option<SecretVersion>,
    /// SHA-256 of the last download that was corrupt.
    pub download: Option<[u8; 32]>,
    /// The account that it fetched with, if that met a rate limit.
    pub account: Option<AccountKey>,
}

/// What a user or the Module changes to request another attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeKey {
    pub(super) generation: Option<i64>,
    requested_at: Option<Box<str>>,
    module_request: Option<Box<str>>,
    /// The version, its repository and its store, as a hash: failures with other ones do not count as earlier failures of this
    /// attempt. The file name is not part of it, since attempts change it.
    pub(super) subject: u64,
    /// Its namespace and repository, as a hash.
    pub(super) repository: u64,
}

/// What is remembered of one Version between reconciles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    pub attempt: Option<Attempt>,
    /// When this process last verified the object in the bucket.
    pub verified: Option<Instant>,
    pub forces: ForceThrottle,
    /// The resourceVersion after the last reads and writes of the last reconcile, and when that was.
    pub last_written: Option<(String, Instant)>,
    /// Where the object was recorded before it was stored elsewhere.
    pub stored_before: Option<Box<ObjectLocation>>,
    /// The resourceVersion of its Secret when this process first read it (`None`: no such Secret), if the Version failed before
    /// this process became leader.
    pub secret_seen: Option<Box<Option<String>>>,
    /// Publishes in a row that ended because the Version had changed.
    pub interruptions: Interruptions,
}

/// Publishes in a row that ended because the Version had changed. The first few are repeated at once, since a user may correct a
/// spec several times. Later ones wait, so that a client which changes it in a loop causes no storm of downloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interruptions {
    count: u32,
    free_at: Option<Instant>,
}

impl Interruptions {
    /// How many are repeated at once.
    const FREE: u32 = 3;

    pub fn count(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        let beyond = self.count.saturating_sub(Self::FREE);
        self.free_at = (beyond > 0).then(|| now + doubled(SHORTEST_DELAY, beyond, LONGEST_DELAY));
    }

    /// How long the next publish waits.
    pub fn pause(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

impl Attempt {
    /// Since when attempts have failed for this reason, if the next one does too.
    pub fn failing_since(&self, reason: Reason) -> Option<Timestamp> {
        let of_content = || self.content.filter(|(content, _)| *content == reason).map(|(_, since)| since);
        if self.reason == reason { Some(self.since) } else { of_content() }
    }
}

impl ChangeKey {
    /// Of a Version as it is now.
    pub fn of(version: &VersionState) -> Self {
        let repository = version.repository_key();
        Self {
            generation: version.metadata.generation,
            requested_at: version.annotation(REQUESTED_AT).map(Into::into),
            module_request: version.annotation(MODULE_REQUEST).map(Into::into),
            subject: hash_of((&version.version, &repository, version.store_key())),
            repository: hash_of((version.namespace(), &repository)),
        }
    }
}

impl Memory {
    /// The last attempt, with its due time by the wall clock as it is set now.
    pub fn attempt_at(&self, now: Timestamp) -> Option<Attempt> {
        let attempt = self.attempt.clone()?;
        let left = attempt.ends.saturating_duration_since(Instant::now());
        Some(Attempt { due: now.checked_add(left).unwrap_or(now), ..attempt })
    }

    /// Whether the cached object is older than what the last reconcile read or wrote. Counts for [`client::WATCH_LAG`] only.
    pub fn is_ahead_of(&self, version: Option<&str>, now: Instant) -> bool {
        self.last_written.as_ref().is_some_and(|(left, at)| {
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
        let mut all = self.0.lock();
        let memory = all.entry(uid.to_owned()).or_default();
        let result = change(memory);
        // Thousands of Versions rest, and an empty entry for each would take memory.
        if *memory == Memory::default() {
            all.remove(uid);
        }
        result
    }

    /// How many tags of a repository have been missing since `from` or later.
    pub(super) fn missing_tags(&self, repository: u64, from: Timestamp) -> usize {
        let is_missing = |attempt: &Attempt| {
            let content = attempt.content.filter(|(reason, _)| *reason == Reason::TagNotFound);
            attempt.key.repository == repository && content.is_some_and(|(_, since)| since >= from)
        };
        self.0.lock().values().filter(|memory| memory.attempt.as_ref().is_some_and(is_missing)).count()
    }

    /// Forgets an object that no longer exists.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    #[test]
    fn a_watch_may_be_behind_for_a_moment_only() {
        let memory = Memory { last_written: Some(("10".into(), at(100))), ..Memory::default() };
        assert!(memory.is_ahead_of(Some("9"), at(105)));
        assert!(!memory.is_ahead_of(Some("10"), at(105)) && !memory.is_ahead_of(Some("9"), at(111)));
        assert!(!Memory::default().is_ahead_of(Some("9"), at(100)));
    }

    fn at(second: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(second)
    }

    #[test]
    fn a_wall_clock_that_is_set_changes_no_pause() {
        let ends = Instant::now() + Duration::from_mins(1);
        let due = Timestamp::from_second(1_000_060).unwrap();
        let memory = Memory { attempt: Some(Attempt { ends, due, ..attempt() }), ..Memory::default() };
        for now in [1_000_000, 1_000_000 - 3_600, 1_000_000 + 3_600] {
            let now = Timestamp::from_second(now).unwrap();
            let left = memory.attempt_at(now).unwrap().due.duration_since(now).as_secs();
            assert!((50..=60).contains(&left), "{left} s at {now}");
        }
    }

    fn attempt() -> Attempt {
        Attempt {
            failures: 1,
            reason: Reason::TagNotFound,
            since: Timestamp::UNIX_EPOCH,
            content: None,
            at: at(0),
            due: Timestamp::UNIX_EPOCH,
            ends: at(9),
            key: ChangeKey::of(&VersionState::default()),
            secret: None,
            account: None,
            download: None,
        }
    }

    #[test]
    fn an_outage_in_between_does_not_make_a_failure_about_content_new() {
        let since = |second| Timestamp::from_second(second).unwrap();
        let content = Some((Reason::ArchiveUnsafe, since(7)));
        let attempt = |reason, begun| Attempt { reason, since: since(begun), content, ..attempt() };
        for (attempt, reason, expected) in [
            (attempt(Reason::ArchiveUnsafe, 7), Reason::ArchiveUnsafe, Some(7)),
            (attempt(Reason::StorageUnavailable, 9), Reason::ArchiveUnsafe, Some(7)),
            (attempt(Reason::StorageUnavailable, 9), Reason::StorageUnavailable, Some(9)),
            (attempt(Reason::StorageUnavailable, 9), Reason::ArchiveEmpty, None),
            (attempt(Reason::ArchiveUnsafe, 7), Reason::StorageUnavailable, None),
        ] {
            let found = attempt.failing_since(reason);
            assert_eq!(found, expected.map(since), "{} then {reason}", attempt.reason);
        }
    }

    #[test]
    fn a_version_that_changes_during_each_publish_is_published_less_and_less_often() {
        let mut interruptions = Interruptions::default();
        let pauses: Vec<u64> = (0..12)
            .map(|_| {
                interruptions.count(at(0));
                interruptions.pause(at(0)).as_secs()
            })
            .collect();
        assert_eq!(pauses, [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!((interruptions.pause(at(599)).as_secs(), interruptions.pause(at(700)).as_secs()), (1, 0));
        interruptions.count = u32::MAX;
        interruptions.count(at(0));
        assert_eq!(interruptions.pause(at(0)), LONGEST_DELAY);
    }

    #[test]
    fn whatever_is_remembered_is_kept_until_the_object_is_gone() {
        let attempt = attempt();
        let changes: [fn(&mut Memory, Attempt); 7] = [
            |memory, _| memory.stored_before = Some(Box::default()),
            |memory, _| memory.secret_seen = Some(Box::default()),
            |memory, _| memory.interruptions.count(at(1)),
            |memory, attempt| memory.attempt = Some(attempt),
            |memory, _| memory.verified = Some(at(1)),
            |memory, _| memory.last_written = Some(("10".into(), at(1))),
            |memory, _| assert_eq!(memory.forces.admit("forceSync/1", at(1)), Ok(())),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let memories = Memories::default();
            memories.with("uid", |memory| change(memory, attempt.clone()));
            let kept = memories.with("uid", |memory| memory.clone());
            assert_ne!(kept, Memory::default(), "change {n} is forgotten");
            memories.with("another", |memory| memory.attempt = None);
            assert_eq!(memories.0.lock().len(), 1, "what has nothing to remember takes no memory");
            memories.forget("uid");
            assert_eq!(memories.with("uid", |memory| memory.clone()), Memory::default());
        }
    }
}
