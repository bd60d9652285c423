//! When a Module's status is written: at once where it may be waited for, and mere progress as seldom as it is expensive.
//!
//! In: the status before and after, what is known of the last write, and the time. Out: how long to wait. Pure. A status write
//! costs the API server as much as the Module is long, six sevenths of it for the field management of `spec.versions`.

use std::time::{Duration, Instant};

use crate::api::ModuleStatus;

/// Shortest time between two writes of progress.
const SHORTEST: Duration = Duration::from_secs(1);

/// Progress waits for so many times what the last write took: writes take up a twentieth of the time at most.
const TIMES: u32 = 19;

/// It also waits for this part of the time for which nothing but progress has been written: the number of writes grows with
/// the logarithm of what a publish takes.
const PART: u32 = 4;

/// Longest wait that this part makes.
const LONGEST_PART: Duration = Duration::from_secs(30);

/// What is known of a Module's status writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    last: Option<Write>,
    /// Since when nothing but progress is written.
    progress_since: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq)]
struct Write {
    ended: Instant,
    took: Duration,
}

/// What a write would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Counts, the words that speak of them, digests that are not waited for.
    Progress,
    /// What may be waited for.
    Urgent,
}

/// What differs between two statuses. Whether a new digest is waited for, the caller says.
pub fn change(before: &ModuleStatus, after: &ModuleStatus, digest_is_awaited: bool) -> Change {
    if before == after {
        return Change::None;
    }
    let ModuleStatus {
        observed_generation,
        conditions,
        synced,
        force_token,
        last_handled_request,
        // More entries are progress, unless one is waited for. With none at all `immutable` was turned off.
        published,
        // Never written.
        module_version_refs: _,
        file_name: _,
        // Counts, and sentences that tell them.
        sync_status: _,
        latest_version: _,
        versions: _,
    } = after;
    let signs = |status: &ModuleStatus| -> Vec<_> {
        let of = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            (c.type_.clone(), c.status.clone(), c.reason.clone())
        };
        status.conditions.iter().map(of).collect()
    };
    let urgent = digest_is_awaited
        || before.observed_generation != *observed_generation
        || before.synced != *synced
        || before.force_token != *force_token
        || before.last_handled_request != *last_handled_request
        || before.published.is_some() != published.is_some()
        || before.conditions.len() != conditions.len()
        || signs(before) != signs(after);
    if urgent { Change::Urgent } else { Change::Progress }
}

impl Pace {
    /// How long a write that changes this has to wait.
    pub fn wait(&self, change: Change, now: Instant) -> Duration {
        let (Change::Progress, Some(last)) = (change, &self.last) else { return Duration::ZERO };
        let part = self
            .progress_since
            .map_or(Duration::ZERO, |since| last.ended.saturating_duration_since(since) / PART);
        let pause = SHORTEST.max(last.took.saturating_mul(TIMES)).max(part.min(LONGEST_PART));
        pause.saturating_sub(now.saturating_duration_since(last.ended))
    }

    /// A write ended.
    pub fn wrote(&mut self, change: Change, took: Duration, ended: Instant) {
        let rested = self
            .last
            .as_ref()
            .is_none_or(|last| ended.saturating_duration_since(last.ended) > 2 * LONGEST_PART);
        let since = self.progress_since.filter(|_| change == Change::Progress && !rested);
        self.progress_since = Some(since.unwrap_or(ended));
        self.last = Some(Write { ended, took });
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
            (json!({}), Change::None),
            (json!({"syncStatus": "2 of 9"}), Change::Progress),
            (json!({"versions": {"desired": 9, "synced": 2, "failed": 1, "pruned": 0}}), Change::Progress),
            (json!({"latestVersion": "1.1.0"}), Change::Progress),
            (json!({"published": {"1.0.0": "h1:a", "1.1.0": "h1:b"}}), Change::Progress),
            (ready("False", "Progressing", "2 of 9"), Change::Progress),
            (ready("True", "Progressing", "1 of 9"), Change::Urgent),
            (ready("False", "TagNotFound", "1 of 9"), Change::Urgent),
            (json!({"conditions": []}), Change::Urgent),
            (json!({"observedGeneration": 4}), Change::Urgent),
            (json!({"synced": true}), Change::Urgent),
            (json!({"forceToken": "a request"}), Change::Urgent),
            (json!({"lastHandledRequest": "now"}), Change::Urgent),
            (json!({"published": null}), Change::Urgent),
        ];
        let before = status(&json!({}));
        for (changes, expected) in table {
            assert_eq!(change(&before, &status(&changes), false), expected, "{changes}");
        }
        let recorded = status(&json!({"published": {"1.0.0": "h1:a", "1.1.0": "h1:b"}}));
        assert_eq!(change(&before, &recorded, true), Change::Urgent);
    }

    /// Writes while a Module publishes for so many seconds, with news in each of them, and the time between the last two.
    fn writes(seconds: u32, took: Duration) -> (usize, Duration) {
        let (mut pace, mut now, mut count) = (Pace::default(), Instant::now(), 0);
        let (mut last, mut gap) = (now, Duration::ZERO);
        let end = now + Duration::from_secs(seconds.into());
        pace.wrote(Change::Urgent, took, now);
        while now < end {
            let wait = pace.wait(Change::Progress, now);
            if wait.is_zero() {
                now += took;
                pace.wrote(Change::Progress, took, now);
                (count, gap, last) = (count + 1, now.duration_since(last), now);
            }
            now += wait.max(Duration::from_millis(50));
        }
        (count, gap)
    }

    #[test]
    fn progress_is_written_as_seldom_as_it_is_expensive() {
        let ms = Duration::from_millis;
        // How long it takes, what a write takes, at most so many. The end is one more, the beginning two.
        for (seconds, took, most) in
            [(5, 20, 5), (60, 20, 18), (60, 140, 18), (180, 140, 24), (180, 800, 14), (600, 800, 37)]
        {
            let (count, gap) = writes(seconds, ms(took));
            assert!((2..=most).contains(&count), "{seconds} s at {took} ms: {count}");
            assert!(gap >= ms(took * 19).max(ms(1_000)), "{seconds} s at {took} ms: {gap:?}");
            assert!(gap <= LONGEST_PART + ms(took) + ms(100), "{seconds} s at {took} ms: {gap:?}");
        }
    }

    #[test]
    fn what_may_be_waited_for_is_never_delayed_and_a_rest_is_forgotten() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut pace = Pace::default();
        assert_eq!(pace.wait(Change::Progress, at(0)), Duration::ZERO, "the first");
        for second in 0..100 {
            pace.wrote(Change::Progress, Duration::from_millis(100), at(second));
        }
        assert!(pace.wait(Change::Progress, at(99)) > Duration::from_secs(20));
        assert_eq!(pace.wait(Change::Urgent, at(99)), Duration::ZERO);
        let mut urgent = pace.clone();
        urgent.wrote(Change::Urgent, Duration::from_millis(100), at(99));
        assert_eq!(urgent.wait(Change::Progress, at(99)), Duration::from_millis(1_900));
        pace.wrote(Change::Progress, Duration::from_millis(10), at(500));
        assert_eq!(pace.wait(Change::Progress, at(500)), Duration::from_secs(1));
    }
}
