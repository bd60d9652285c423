//! Times rounded to whole seconds, and pauses that grow.

use std::time::Duration;

use jiff::Timestamp;

/// The next whole second, for times in messages: they are never too early.
pub(crate) fn whole_second_after(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at)
}

/// The time from `start` to `end`; zero if `end` is earlier.
pub(crate) fn time_between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// The pause after the last of `count` failures: `first`, then twice as long each time, up to `longest`.
pub(crate) fn doubled(first: Duration, count: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1).min(16))).min(longest)
}
