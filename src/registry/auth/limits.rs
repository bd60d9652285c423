//! Limits on what one identity or one peer costs others.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::bounded::Bounded;
use super::review_cache::ReviewKey;
use crate::domain::Mutex;
use crate::registry::http::Peer;

/// Identities and peers that each limit remembers.
const REMEMBERED: usize = 16_384;

/// Reviews that run at once.
const RUNNING: usize = 32;
/// Reviews that wait for one of these permits.
const WAITING: usize = 256;
/// How long they wait.
const REVIEW_WAIT: Duration = Duration::from_secs(3);

const MINUTE: Duration = Duration::from_mins(1);

/// The identity or peer whose events a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitKey {
    Identity(ReviewKey),
    Peer(Peer),
}

/// Permits a number of events per minute, and as many at once: a token bucket, kept as the instant at which it is full again.
pub(super) struct Limit {
    interval: Duration,
    full_at: Mutex<Bounded<LimitKey, Instant>>,
}

impl Limit {
    pub(super) fn per_minute(count: u32) -> Self {
        Self { interval: MINUTE / count, full_at: Mutex::new(Bounded::new(REMEMBERED)) }
    }

    /// Whether another one is permitted; otherwise the seconds until it is.
    pub(super) fn check(&self, key: &LimitKey, now: Instant) -> Result<(), u32> {
        let full_at = self.full_at.lock();
        self.room(full_at.get(key), now)
    }

    /// Takes one, if it is permitted.
    pub(super) fn take(&self, key: LimitKey, now: Instant) -> Result<(), u32> {
        let mut full_at = self.full_at.lock();
        self.room(full_at.get(&key), now)?;
        let next = full_at.get(&key).copied().unwrap_or(now).max(now) + self.interval;
        full_at.insert(key, next, |full_at| *full_at <= now);
        Ok(())
    }

    /// Counts one that has happened, permitted or not. What is above the limit is forgotten.
    pub(super) fn record(&self, key: LimitKey, now: Instant) {
        self.record_with_excess(key, now, 0);
    }

    /// The same, but remembers `excess` events above the limit, as many as can happen at once.
    pub(super) fn record_with_excess(&self, key: LimitKey, now: Instant, excess: u32) {
        let latest = now + MINUTE + self.interval * excess;
        let mut full_at = self.full_at.lock();
        let next = full_at.get(&key).copied().unwrap_or(now).max(now) + self.interval;
        full_at.insert(key, next.min(latest), |full_at| *full_at <= now);
    }

    /// Takes back one that was counted.
    pub(super) fn take_back(&self, key: LimitKey, now: Instant) {
        let mut full_at = self.full_at.lock();
        if let Some(earlier) = full_at.get(&key).and_then(|full_at| full_at.checked_sub(self.interval)) {
            full_at.insert(key, earlier, |full_at| *full_at <= now);
        }
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

/// Permits for reviews in flight.
pub(super) struct ReviewPermits {
    running: Semaphore,
    waiting: Semaphore,
}

impl Default for ReviewPermits {
    fn default() -> Self {
        Self { running: Semaphore::new(RUNNING), waiting: Semaphore::new(WAITING) }
    }
}

impl ReviewPermits {
    /// A permit, or `None` when too many wait or the wait takes too long.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.running.try_acquire() {
            return Some(permit);
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(REVIEW_WAIT, self.running.acquire()).await.ok()?.ok()
    }
}
