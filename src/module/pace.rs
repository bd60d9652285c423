//! When a Module's status is written: at once if a client may wait for it, and progress less often the longer a write takes.
//!
//! Pure. A status write costs the API server time in proportion to the length of the Module, six sevenths of it for the field
//! management of `spec.versions`.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::ModuleStatus;

/// The shortest time between two writes of progress.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Progress waits this many times as long as the last write took, so that writes take at most a twentieth of the time.
const WAIT_PER_WRITE: u32 = 19;

/// It also waits for a share of the time during which only progress was written, one fourth, so that the number of writes grows
/// with the logarithm of that time.
const PROGRESS_PER_WAIT: u32 = 4;

/// The longest such share.
const LONGEST_SHARE: Duration = Duration::from_secs(30);

/// The recent status writes of a Module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusPace {
    /// When the last write ended, and how long it took.
    last: Option<(Instant, Duration)>,
    /// Since when only progress was written.
    progress_since: Option<Instant>,
}

/// What a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    None,
    /// Counts, the messages with counts, and digests that no work waits for.
    Progress,
    /// Fields that a client or our own work may wait for.
    Urgent,
}

/// What differs between two statuses. `digest_is_awaited`: whether work waits for a new digest.
pub(super) fn urgency(before: &ModuleStatus, after: &ModuleStatus, digest_is_awaited: bool) -> Urgency {
    if before == after {
        return Urgency::None;
    }
    let ModuleStatus {
        observed_generation,
        conditions,
        synced,
        force_token,
        last_handled_request,
        address,
        refused_address,
        claim_void,
        void_confirmation,
        // More entries are progress, unless work waits for one. Without the field, `immutable` was turned off.
        published,
        // Counts, and messages with counts.
        sync_status: _,
        latest_version: _,
        versions: _,
    } = after;
    let urgent = digest_is_awaited
        || before.observed_generation != *observed_generation
        || before.synced != *synced
        || before.force_token != *force_token
        || before.last_handled_request != *last_handled_request
        || before.address != *address
        || before.refused_address != *refused_address
        || before.claim_void != *claim_void
        || before.void_confirmation != *void_confirmation
        || before.published.is_some() != published.is_some()
        || before.conditions.iter().map(sign).ne(conditions.iter().map(sign));
    if urgent { Urgency::Urgent } else { Urgency::Progress }
}

/// What clients react to in a condition.
fn sign(condition: &Condition) -> (&str, &str, &str) {
    (&condition.type_, &condition.status, &condition.reason)
}

impl StatusPace {
    /// How long a write has to wait.
    pub fn wait(&self, urgency: Urgency, now: Instant) -> Duration {
        let (Urgency::Progress, Some((ended, took))) = (urgency, self.last) else { return Duration::ZERO };
        let since = self.progress_since.unwrap_or(ended);
        let share = ended.saturating_duration_since(since) / PROGRESS_PER_WAIT;
        let pause = SHORTEST_PAUSE.max(took.saturating_mul(WAIT_PER_WRITE)).max(share.min(LONGEST_SHARE));
        pause.saturating_sub(now.saturating_duration_since(ended))
    }

    pub fn wrote(&mut self, urgency: Urgency, took: Duration, ended: Instant) {
        let rested =
            self.last.is_none_or(|(last, _)| ended.saturating_duration_since(last) > 2 * LONGEST_SHARE);
        let since = self.progress_since.filter(|_| urgency == Urgency::Progress && !rested);
        self.progress_since = Some(since.unwrap_or(ended));
        self.last = Some((ended, took));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(change: &serde_json::Value) -> ModuleStatus {
        let mut base = json!({
            "observedGeneration": 3, "synced": false, "forceToken": "done:3", "latestVersion": "1.0.0",
            "syncStatus": "1 of 9", "published": {"1.0.0": "h1:a"},
            "conditions": [{"type": "Ready", "status": "False", "reason": "Progressing", "message": "1 of 9",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "versions": {"desired": 9, "synced": 1, "failed": 0, "pruned": 0, "summary": "1/9"},
        });
        for (key, value) in change.as_object().unwrap() {
            base[key] = value.clone();
        }
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn only_counts_and_digests_that_are_not_waited_for_are_mere_progress() {
        let ready = |status: &str, reason: &str, message: &str| {
            json!({"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let table = [
            (json!({}), Urgency::None),
            (json!({"syncStatus": "2 of 9"}), Urgency::Progress),
            (json!({"versions": {"desired": 9, "synced": 2, "failed": 1, "pruned": 0}}), Urgency::Progress),
            (json!({"latestVersion": "1.1.0"}), Urgency::Progress),
            (json!({"published": {"1.0.0": "h1:a", "1.1.0": "h1:b"}}), Urgency::Progress),
            (ready("False", "Progressing", "2 of 9"), Urgency::Progress),
            (ready("True", "Progressing", "1 of 9"), Urgency::Urgent),
            (ready("False", "TagNotFound", "1 of 9"), Urgency::Urgent),
            (json!({"conditions": []}), Urgency::Urgent),
            (json!({"observedGeneration": 4}), Urgency::Urgent),
            (json!({"synced": true}), Urgency::Urgent),
            (json!({"forceToken": "a request"}), Urgency::Urgent),
            (json!({"lastHandledRequest": "now"}), Urgency::Urgent),
            (json!({"published": null}), Urgency::Urgent),
            (json!({"address": "acme/network/aws"}), Urgency::Urgent),
            (json!({"refusedAddress": "acme/network/aws"}), Urgency::Urgent),
            (json!({"claimVoid": true}), Urgency::Urgent),
        ];
        let before = status(&json!({}));
        for (changes, expected) in table {
            assert_eq!(urgency(&before, &status(&changes), false), expected, "{changes}");
        }
        let recorded = status(&json!({"published": {"1.0.0": "h1:a", "1.1.0": "h1:b"}}));
        assert_eq!(urgency(&before, &recorded, true), Urgency::Urgent);
    }

    /// The number of writes while a Module publishes for some seconds, with a change in each, and the time between the last two.
    fn writes(seconds: u32, took: Duration) -> (usize, Duration) {
        let (mut pace, mut now, mut count) = (StatusPace::default(), Instant::now(), 0);
        let (mut last, mut gap) = (now, Duration::ZERO);
        let end = now + Duration::from_secs(seconds.into());
        pace.wrote(Urgency::Urgent, took, now);
        while now < end {
            let wait = pace.wait(Urgency::Progress, now);
            if wait.is_zero() {
                now += took;
                pace.wrote(Urgency::Progress, took, now);
                (count, gap, last) = (count + 1, now.duration_since(last), now);
            }
            now += wait.max(Duration::from_millis(50));
        }
        (count, gap)
    }

    #[test]
    fn progress_is_written_as_seldom_as_it_is_expensive() {
        let ms = Duration::from_millis;
        // Duration of the publishing, duration of a write, maximum number of writes. The end is one more, the beginning two.
        for (seconds, took, most) in
            [(5, 20, 5), (60, 20, 18), (60, 140, 18), (180, 140, 24), (180, 800, 14), (600, 800, 37)]
        {
            let (count, gap) = writes(seconds, ms(took));
            assert!((2..=most).contains(&count), "{seconds} s at {took} ms: {count}");
            assert!(gap >= ms(took * 19).max(ms(1_000)), "{seconds} s at {took} ms: {gap:?}");
            assert!(gap <= LONGEST_SHARE + ms(took) + ms(100), "{seconds} s at {took} ms: {gap:?}");
        }
    }

    #[test]
    fn what_may_be_waited_for_is_never_delayed_and_a_rest_is_forgotten() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut pace = StatusPace::default();
        assert_eq!(pace.wait(Urgency::Progress, at(0)), Duration::ZERO, "the first");
        for second in 0..100 {
            pace.wrote(Urgency::Progress, Duration::from_millis(100), at(second));
        }
        assert!(pace.wait(Urgency::Progress, at(99)) > Duration::from_secs(20));
        assert_eq!(pace.wait(Urgency::Urgent, at(99)), Duration::ZERO);
        let mut urgent = pace.clone();
        urgent.wrote(Urgency::Urgent, Duration::from_millis(100), at(99));
        assert_eq!(urgent.wait(Urgency::Progress, at(99)), Duration::from_millis(1_900));
        pace.wrote(Urgency::Progress, Duration::from_millis(10), at(500));
        assert_eq!(pace.wait(Urgency::Progress, at(500)), Duration::from_secs(1));
    }
}
