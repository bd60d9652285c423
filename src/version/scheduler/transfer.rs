//! The progress of a fetch, and when it is too slow while others wait. Pure.

use std::time::{Duration, Instant};

/// While another repository waits, a fetch ends that has taken this long for the last [`LEAST_BYTES`].
pub(crate) const LOW_SPEED_TIME: Duration = Duration::from_secs(10);
/// 1 KiB per second.
pub(crate) const LEAST_BYTES: u64 = 1024 * LOW_SPEED_TIME.as_secs();

/// The progress of a fetch.
pub(super) struct Transfer {
    /// The bytes that had been received at `since`.
    mark: u64,
    since: Instant,
}

impl Transfer {
    pub(super) fn new(received: u64, now: Instant) -> Self {
        Self { mark: received, since: now }
    }

    /// Whether the last [`LEAST_BYTES`] take too long. `received`: all bytes so far.
    pub(super) fn is_slow(&mut self, received: u64, now: Instant) -> bool {
        if received >= self.mark.saturating_add(LEAST_BYTES) {
            *self = Self { mark: received, since: now };
        }
        now.saturating_duration_since(self.since) >= LOW_SPEED_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_slow_after_ten_seconds_with_less_than_a_kibibyte_per_second() {
        let slow_after = |rate: u64| {
            let start = Instant::now();
            let mut transfer = Transfer::new(0, start);
            (1..=900).find(|second| transfer.is_slow(second * rate, start + Duration::from_secs(*second)))
        };
        assert_eq!([0, 1, 1000].map(slow_after), [Some(10), Some(10), Some(10)]);
        assert_eq!([1024, 2048, 1 << 30].map(slow_after), [None; 3]);
        let start = Instant::now();
        let mut transfer = Transfer::new(0, start);
        let at = |second| start + Duration::from_secs(second);
        assert!(!transfer.is_slow(1 << 20, at(60)), "much has arrived since");
        assert!(!transfer.is_slow(1 << 20, at(69)) && transfer.is_slow(1 << 20, at(70)), "then it stopped");
    }
}
