//! Decisions about the Lease, without client or clock.
//!
//! The times in the Lease are not compared with the local clock, because clocks of machines differ. A Lease counts as expired
//! only if this process has seen it unchanged for its whole duration, measured on its own monotonic clock.

use std::time::Duration;

use tokio::time::Instant;

/// How long a Lease remains valid without renewal.
pub(crate) const DURATION: Duration = Duration::from_secs(15);
/// How long after the last renewal was *sent* its holder still acts. The rest of [`DURATION`] is a margin for requests in
/// flight and for clocks that run at different speeds.
pub(crate) const TERM: Duration = Duration::from_secs(10);
/// Interval of renewals, and of retries after a failed renewal.
pub(crate) const RENEW: Duration = Duration::from_secs(2);
/// Timeout of a request to the API server. A renewal that takes longer is sent again.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a standby replica reads the Lease.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The fields of a Lease that change with each renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// `spec.holderIdentity`; none or empty: released.
    pub holder: Option<String>,
    /// `spec.renewTime`, as written.
    pub renewed: Option<String>,
    /// `spec.leaseDurationSeconds`.
    pub duration: Duration,
    /// `spec.leaseTransitions`.
    pub transitions: i32,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The Lease does not exist: create it.
    Create,
    /// It is released or expired: take it.
    Take,
    /// This process holds it, by a write whose response was lost: renew it.
    Renew,
    /// Another process holds it.
    Wait,
}

/// Why a renewal failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RenewalFailure {
    /// No answer within [`REQUEST_TIMEOUT`]; the API server may have executed the write.
    Late,
    /// The Lease had another resourceVersion than in the last response, and was read again.
    Outdated,
    /// Anything else, such as a refused connection.
    Other,
}

/// How long the holder waits before it renews again after a failed renewal.
///
/// After a timeout the pause is already over, and after a conflict the Lease was read again. Both are retried at once, so
/// that a request that hangs costs [`REQUEST_TIMEOUT`] and no more. Others would fail again at once.
pub(crate) fn pause_after(failure: RenewalFailure) -> Duration {
    match failure {
        RenewalFailure::Late | RenewalFailure::Outdated => Duration::ZERO,
        RenewalFailure::Other => RENEW / 2,
    }
}

/// A standby replica, with the last change of the Lease that it has seen.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    identity: String,
    observed: Option<(Record, Instant)>,
}

impl Candidate {
    /// `identity` must be unique to this process.
    pub(crate) fn new(identity: String) -> Self {
        Self { identity, observed: None }
    }

    /// Decides what to do with the Lease as read at `now`.
    pub(crate) fn next(&mut self, read: Option<&Record>, now: Instant) -> Next {
        let Some(record) = read else {
            // It was deleted; its holder may not have noticed.
            let held = |(record, since): &(Record, Instant)| {
                record.holder.as_ref().is_some_and(|h| !h.is_empty())
                    && now.saturating_duration_since(*since) < record.duration
            };
            return if self.observed.as_ref().is_some_and(held) { Next::Wait } else { Next::Create };
        };
        let holder = record.holder.as_deref().unwrap_or_default();
        if holder == self.identity {
            return Next::Renew;
        }
        let since = match &self.observed {
            Some((seen, since)) if seen == record => *since,
            _ => {
                self.observed = Some((record.clone(), now));
                now
            }
        };
        let expired = now.saturating_duration_since(since) >= record.duration;
        if holder.is_empty() || expired { Next::Take } else { Next::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "me";

    fn held_by(holder: &str, renewed: u32) -> Record {
        Record {
            holder: Some(holder.to_owned()),
            renewed: Some(renewed.to_string()),
            duration: DURATION,
            transitions: 1,
        }
    }

    /// What a candidate does that reads these records, each at its second.
    fn decisions(reads: &[(u64, Option<Record>)]) -> Vec<Next> {
        let (mut candidate, start) = (Candidate::new(ME.to_owned()), Instant::now());
        reads
            .iter()
            .map(|(at, record)| candidate.next(record.as_ref(), start + Duration::from_secs(*at)))
            .collect()
    }

    #[test]
    fn a_lease_is_created_taken_or_left_alone() {
        let other = |renewed| Some(held_by("other", renewed));
        let released = Some(Record { duration: Duration::from_secs(1), ..held_by("", 1) });
        for (what, reads, expected) in [
            ("there is none", vec![(0, None)], vec![Next::Create]),
            ("it is released", vec![(0, released)], vec![Next::Take]),
            ("no holder was ever written", vec![(0, Some(Record::default()))], vec![Next::Take]),
            ("a write of ours got through", vec![(0, Some(held_by(ME, 1)))], vec![Next::Renew]),
            (
                "the holder renews, however slowly",
                vec![(0, other(1)), (14, other(2)), (28, other(3)), (42, other(3))],
                vec![Next::Wait, Next::Wait, Next::Wait, Next::Wait],
            ),
            (
                "the holder is dead: its whole duration is waited for, from when this process saw it",
                vec![(0, other(1)), (14, other(1)), (15, other(1))],
                vec![Next::Wait, Next::Wait, Next::Take],
            ),
            (
                "another replica was faster",
                vec![
                    (0, other(1)),
                    (15, other(1)),
                    (15, Some(held_by("third", 1))),
                    (29, Some(held_by("third", 1))),
                ],
                vec![Next::Wait, Next::Take, Next::Wait, Next::Wait],
            ),
            (
                "it was deleted while it was held",
                vec![(0, other(1)), (10, None), (14, None), (15, None)],
                vec![Next::Wait, Next::Wait, Next::Wait, Next::Create],
            ),
        ] {
            assert_eq!(decisions(&reads), expected, "{what}");
        }
    }

    #[test]
    fn a_holder_stops_well_before_another_can_take_its_lease() {
        // It stops TERM after it sent its last successful renewal. No other process has seen that write earlier.
        let sent = Instant::now();
        assert!(sent + TERM + Duration::from_secs(5) <= sent + DURATION);
        // Three renewals in a row may fail, and two in a row may hang, before the last one that is still in time.
        assert!(RENEW + pause_after(RenewalFailure::Other) * 3 < TERM);
        assert!(RENEW + (REQUEST_TIMEOUT + pause_after(RenewalFailure::Late)) * 2 < TERM);
        // Fail-over: the Lease expires, then a standby replica reads it.
        assert!(DURATION + POLL_INTERVAL * 2 < Duration::from_secs(20));
    }
}
