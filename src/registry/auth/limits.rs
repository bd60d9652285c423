//! Limits on what one identity or one peer costs others.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::bounded::Bounded;
use super::review_cache::Key;
use crate::domain::Mutex;
use crate::registry::http::Peer;

/// Identities and peers that each limit remembers.
const REMEMBERED: usize = 16_384;

/// Reviews that run at once.
const RUNNING: usize = 32;
/// Reviews that wait for one of these slots.
const WAITING: usize = 256;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(3);

const MINUTE: Duration = Duration::from_mins(1);

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Identity(Key),
    Peer(Peer),
}

/// Permits a number of events per minute, and as many at once: a token bucket, kept as the instant at which it is full again.
pub(super) struct Limit {
    interval: Duration,
    full_at: Mutex<Bounded<Who, Instant>>,
}

impl Limit {
    pub(super) fn per_minute(count: u32) -> Self {
        Self { interval: MINUTE / count, full_at: Mutex::new(Bounded::new(REMEMBERED)) }
    }

    /// Whether another one is permitted; otherwise the seconds until it is.
    pub(super) fn check(&self, who: &Who, now: Instant) -> Result<(), u32> {
        let full_at = self.full_at.lock();
        self.room(full_at.get(who), now)
    }

    /// Takes one, if it is permitted.
    pub(super) fn take(&self, who: Who, now: Instant) -> Result<(), u32> {
        let mut full_at = self.full_at.lock();
        self.room(full_at.get(&who), now)?;
        let next = full_at.get(&who).copied().unwrap_or(now).max(now) + self.interval;
        full_at.insert(who, next, |full_at| *full_at <= now);
        Ok(())
    }

    /// Counts one that has happened, permitted or not.
    pub(super) fn record(&self, who: Who, now: Instant) {
        let mut full_at = self.full_at.lock();
        let next = full_at.get(&who).copied().unwrap_or(now).max(now) + self.interval;
        full_at.insert(who, next.min(now + MINUTE), |full_at| *full_at <= now);
    }

    fn room(&self, full_at: Option<&Instant>, now: Instant) -> Result<(), u32> {
        let missing = full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        // `minute / count` is rounded down: half an interval decides, not a nanosecond.
        let over = (missing + self.interval / 2).saturating_sub(MINUTE);
        if over.is_zero() {
            return Ok(());
        }
        Err(u32::try_from(over.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
    }
}

/// Slots for reviews in flight.
pub(super) struct Slots {
    running: Semaphore,
    waiting: Semaphore,
}

impl Default for Slots {
    fn default() -> Self {
        Self { running: Semaphore::new(RUNNING), waiting: Semaphore::new(WAITING) }
    }
}

impl Slots {
    /// A slot, or `None` when too many wait or the wait takes too long.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(slot) = self.running.try_acquire() {
            return Some(slot);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(PATIENCE, self.running.acquire()).await.ok()?.ok()
    }
}
