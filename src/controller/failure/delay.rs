//! When a failed attempt is repeated.

use std::time::Duration;

use jiff::Timestamp;

use super::reasons::Reason;
use super::{Class, Failure};
use crate::domain::time::{doubled, time_between};

/// Shortest wait before a failed attempt is repeated.
pub const SHORTEST_DELAY: Duration = Duration::from_secs(5);

/// Longest wait before an attempt that failed for a transient reason is repeated.
pub const LONGEST_DELAY: Duration = Duration::from_mins(10);

/// Pause between attempts that require manual action, unless the object changes.
pub const HOURLY: Duration = Duration::from_hours(1);

/// The same, once a failure that is about an archive's content has lasted a day: each attempt downloads the archive, and
/// a tag rarely changes.
pub const DAILY: Duration = Duration::from_hours(24);

/// How often the Secret of a stalled Version is read.
pub const SECRET_POLL_INTERVAL: Duration = Duration::from_mins(1);

/// How long a missing tag may still appear: a release event may precede the tag.
pub const TAG_MAY_APPEAR: Duration = Duration::from_hours(6);

impl Failure {
    /// How long to wait before the next attempt, after `failures` in a row (this one included) over `failing_for`.
    /// `jitter` is from 0 to 1 and spreads attempts that failed together.
    pub fn delay(&self, failures: u32, failing_for: Duration, jitter: f64, now: Timestamp) -> Duration {
        // Shortly after the named time, spread over some seconds.
        let after =
            |until| time_between(now, until) + Duration::from_secs(1) + SHORTEST_DELAY.mul_f64(jitter);
        let growing = || {
            // A token is valid on all servers within a minute, however many attempts failed before.
            let failures = if self.reason == Reason::TokenNotReady { failures.min(3) } else { failures };
            doubled(SHORTEST_DELAY, failures, LONGEST_DELAY)
                .mul_f64(0.75 + 0.5 * jitter)
                .clamp(SHORTEST_DELAY, LONGEST_DELAY)
        };
        match self.class {
            Class::Stalled => stalled_pause(self.reason, failing_for).mul_f64(0.9 + 0.2 * jitter),
            Class::RetryTag if failing_for >= TAG_MAY_APPEAR => HOURLY.mul_f64(0.9 + 0.2 * jitter),
            Class::Wait(until) => after(until),
            Class::RetryAfter(until) => after(until).max(growing()),
            Class::Retry | Class::RetryTag => growing(),
        }
    }
}

/// Pause between attempts that require manual action, after the object has been stalled for `stalled_for`.
pub fn stalled_pause(reason: Reason, stalled_for: Duration) -> Duration {
    if reason.is_about_content() && stalled_for >= DAILY { DAILY } else { HOURLY }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::classify_storage::put_failed;
    use super::*;
    use crate::github::FetchError;
    use crate::storage::Cause;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn retries_grow_from_five_seconds_to_ten_minutes() {
        let failure = Failure::retry(Reason::StorageUnavailable, "");
        let pause = |n, jitter| failure.delay(n, Duration::ZERO, jitter, now());
        assert_eq!(pause(1, 0.5), SHORTEST_DELAY);
        assert_eq!(pause(2, 0.5), Duration::from_secs(10));
        for n in 1..40 {
            for jitter in [0.0, 0.3, 0.999] {
                assert!((SHORTEST_DELAY..=LONGEST_DELAY).contains(&pause(n, jitter)), "{n}");
            }
            assert!(pause(n + 1, 0.5) >= pause(n, 0.5));
        }
        assert_eq!(pause(u32::MAX, 0.5), LONGEST_DELAY);
    }

    #[test]
    fn a_new_token_is_tried_again_within_half_a_minute() {
        let error = FetchError::TokenNotReady { status: 404, what: "api.github.com finds nothing".into() };
        let failure = Failure::from(error);
        assert_eq!((failure.reason, failure.class), (Reason::TokenNotReady, Class::Retry));
        assert_eq!(failure.delay(1, Duration::ZERO, 0.0, now()), SHORTEST_DELAY);
        for n in 1..40 {
            assert!(failure.delay(n, Duration::ZERO, 0.999, now()) < Duration::from_secs(30), "{n}");
        }
    }

    #[test]
    fn what_its_content_stalls_is_tried_daily_after_a_day() {
        use Reason as R;
        let content = [
            R::NotAnArchive,
            R::ArchiveCorrupt,
            R::ArchiveEmpty,
            R::ArchiveUnsafe,
            R::ArchiveTooLarge,
            R::ImmutableContentChanged,
            R::SameCommitOtherContent,
        ];
        for reason in Reason::ALL {
            let later = if content.contains(reason) { DAILY } else { HOURLY };
            for (stalled_for, pause) in [
                (Duration::ZERO, HOURLY),
                (Duration::from_mins(24 * 60 - 1), HOURLY),
                (DAILY, later),
                (DAILY * 30, later),
            ] {
                assert_eq!(stalled_pause(*reason, stalled_for), pause, "{reason} for {stalled_for:?}");
                let failure = Failure::stalled(*reason, "");
                assert_eq!(failure.delay(1, stalled_for, 0.5, now()), pause, "{reason} for {stalled_for:?}");
            }
        }
    }

    #[test]
    fn a_missing_tag_is_looked_for_hourly_after_six_hours() {
        let failure = Failure { class: Class::RetryTag, ..Failure::retry(Reason::TagNotFound, "") };
        assert!(failure.delay(50, Duration::from_mins(359), 0.5, now()) <= LONGEST_DELAY);
        assert_eq!(failure.delay(50, Duration::from_hours(6), 0.5, now()), HOURLY);
    }

    #[test]
    fn a_wait_never_ends_before_its_time() {
        let until = now() + Duration::from_secs(40);
        let failure = Failure { class: Class::Wait(until), ..Failure::retry(Reason::RateLimited, "") };
        for jitter in [0.0, 0.5, 0.999] {
            let pause = failure.delay(1, Duration::ZERO, jitter, now());
            assert!(pause > Duration::from_secs(40) && pause < Duration::from_secs(50), "{pause:?}");
        }
        assert!(failure.delay(1, Duration::ZERO, 0.0, until + Duration::from_secs(9)) < SHORTEST_DELAY);
    }

    fn any_timestamp() -> impl Strategy<Value = Timestamp> {
        let limits = [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH];
        let usual = (0..4_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).unwrap());
        prop_oneof![3 => usual, 1 => proptest::sample::select(limits.to_vec())]
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_bounds(
            failures in prop_oneof![0..30_u32, Just(u32::MAX)],
            failing_for in prop_oneof![0..200_000_u64, Just(u64::MAX)],
            jitter in 0.0..=1.0_f64,
            (until, now) in (any_timestamp(), any_timestamp()),
        ) {
            let failing_for = Duration::from_secs(failing_for);
            let delay = |class, failures| {
                let failure = Failure { class, ..Failure::retry(Reason::InternalError, "") };
                failure.delay(failures, failing_for, jitter, now)
            };
            let hourly = HOURLY.mul_f64(0.899)..=HOURLY.mul_f64(1.101);
            prop_assert!(hourly.contains(&delay(Class::Stalled, failures)));
            let refused = Failure::stalled(Reason::ArchiveUnsafe, "").delay(failures, failing_for, jitter, now);
            let pause = if failing_for >= DAILY { DAILY } else { HOURLY };
            prop_assert!((pause.mul_f64(0.899)..=pause.mul_f64(1.101)).contains(&refused), "{refused:?}");
            let retry = delay(Class::Retry, failures);
            prop_assert!((SHORTEST_DELAY..=LONGEST_DELAY).contains(&retry), "{retry:?}");
            prop_assert!(delay(Class::Retry, failures.saturating_add(1)) >= retry, "pauses grow");
            let tag = delay(Class::RetryTag, failures);
            let late = failing_for >= TAG_MAY_APPEAR;
            prop_assert!(if late { hourly.contains(&tag) } else { tag == retry }, "{tag:?}");
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            let wait = delay(Class::Wait(until), failures);
            prop_assert!(wait > left && wait <= left + Duration::from_secs(1) + SHORTEST_DELAY, "{wait:?} for {left:?}");
            prop_assert_eq!(delay(Class::RetryAfter(until), failures), wait.max(retry));
        }
    }

    #[test]
    fn a_store_that_asks_for_a_second_each_time_is_asked_less_and_less() {
        let slow = |retry_after| {
            let cause = Cause::SlowDown { retry_after: Some(retry_after), detail: String::new() };
            put_failed(cause).into_failure(now())
        };
        let (slow, long) = (slow(Duration::from_secs(1)), slow(Duration::from_hours(1)));
        let delay = |failures| slow.delay(failures, Duration::ZERO, 0.5, now());
        assert!(
            delay(1) >= SHORTEST_DELAY && delay(3) >= SHORTEST_DELAY * 4 && delay(20) >= LONGEST_DELAY,
            "{:?}",
            delay(20)
        );
        assert!(long.delay(1, Duration::ZERO, 0.0, now()) > Duration::from_hours(1));
    }
}
