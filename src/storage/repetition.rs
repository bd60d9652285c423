//! Repetitions of PUT and DELETE after transient failures.
//!
//! The SDK sends each of them once. The caller checks before every repetition whether the request is still wanted: meanwhile a
//! user may have set `Retain`, suspended the Version, or requested other content.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::Cause;

/// Requests, including the first. Few, since the caller retries with back-off.
const ATTEMPTS: u32 = 3;

/// Decides whether a request is still wanted, before it is repeated.
pub type StillWanted<'a> = &'a (dyn Fn() -> BoxFuture<'a, bool> + Send + Sync);

/// For requests that are repeated in any case.
pub fn always() -> BoxFuture<'static, bool> {
    std::future::ready(true).boxed()
}

/// The repetitions of one request.
pub(super) struct Repetitions<'a> {
    still_wanted: StillWanted<'a>,
    /// After this time no repetition begins: other requests wait for the permit of this one.
    limit: Duration,
    start: Instant,
    failed: u32,
}

impl<'a> Repetitions<'a> {
    pub(super) fn new(still_wanted: StillWanted<'a>, limit: Duration) -> Self {
        Self { still_wanted, limit, start: Instant::now(), failed: 0 }
    }

    /// Whether to send the request again after this failure. Pauses first.
    pub(super) async fn after(&mut self, cause: &Cause) -> bool {
        self.failed += 1;
        if !is_repeated(cause) || self.failed >= ATTEMPTS || self.start.elapsed() >= self.limit {
            return false;
        }
        tokio::time::sleep(pause(self.failed, rand::random())).await;
        self.is_wanted().await
    }

    /// Whether the request is still wanted.
    pub(super) async fn is_wanted(&self) -> bool {
        (self.still_wanted)().await
    }
}

/// Whether the failure is likely to be brief. If the store requests a delay, the caller waits.
fn is_repeated(cause: &Cause) -> bool {
    matches!(cause, Cause::Network { .. } | Cause::Unavailable { .. } | Cause::SlowDown { .. })
        && cause.retry_after().is_none()
}

/// The pause after a number of failures: up to a second after the first, and up to twice as long after each further one, with
/// `random` from 0 to 1.
fn pause(failed: u32, random: f64) -> Duration {
    Duration::from_secs(1 << (failed - 1)).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// How often a request that fails in this way is sent, and how often the caller is asked.
    async fn sent(cause: Cause, wanted: bool, limit: Duration) -> (u32, u32) {
        let asked = AtomicU32::new(0);
        let still_wanted = || {
            asked.fetch_add(1, Ordering::SeqCst);
            std::future::ready(wanted).boxed()
        };
        let mut repetitions = Repetitions::new(&still_wanted, limit);
        let mut sent = 1;
        while repetitions.after(&cause).await {
            sent += 1;
        }
        (sent, asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_transient_failure_is_repeated_while_the_request_is_wanted() {
        let long = Duration::from_mins(1);
        let network = || Cause::Network { detail: String::new() };
        let unavailable = Cause::unavailable(503, "");
        let slow = |retry_after| Cause::SlowDown { retry_after, detail: String::new() };
        let named = Some(Duration::from_secs(30));
        let down = Cause::Unavailable { status: 503, retry_after: named, detail: String::new() };
        let counts = futures::future::join_all([
            sent(network(), true, long),
            sent(unavailable, true, long),
            sent(slow(None), true, long),
            // Retain was set meanwhile.
            sent(network(), false, long),
            // The request has taken too long.
            sent(network(), true, Duration::ZERO),
            // The caller waits until the time that the store names.
            sent(slow(named), true, long),
            sent(down, true, long),
            sent(Cause::BucketMissing, true, long),
        ]);
        assert_eq!(counts.await, [(3, 2), (3, 2), (3, 2), (1, 1), (1, 0), (1, 0), (1, 0), (1, 0)]);
    }

    #[test]
    fn pauses_double() {
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(2, 0.5), Duration::from_secs(1));
    }
}
