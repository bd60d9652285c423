//! How long the watches of a process have been failing, for its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::Mutex;

/// Without a failure for this long, a watch that failed counts as running: its retries come at shorter intervals.
const RECOVERED: Duration = Duration::from_secs(90);
/// The same if it failed after it had been answered: a pause and a new connection take no longer.
const RAN: Duration = Duration::from_secs(20);
/// How long each list of a watch has to be rejected before it counts. An API server that starts rejects lists for a few seconds.
const REJECTED: Duration = Duration::from_secs(30);

/// The watches that fail. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct WatchAge(Arc<Mutex<BTreeMap<String, Failing>>>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    step: Step,
    /// Since when the API server has been rejecting each list.
    rejected: Option<Instant>,
}

/// The step of a watch that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    List,
    /// The API server rejects the list: the permission, the namespace or the kind is missing.
    Rejected,
    Start,
    /// The connection of a watch broke, which may have run before.
    Runs,
}

impl WatchAge {
    /// How long a watch has been failing; zero while all run.
    pub fn longest(&self, now: Instant) -> Duration {
        let failing = self.0.lock();
        let current =
            failing.values().filter(|failing| now.saturating_duration_since(failing.last) < RECOVERED);
        current.map(|failing| now.saturating_duration_since(failing.since)).max().unwrap_or_default()
    }

    /// The number of watches of which the API server has been rejecting each list for 30 s.
    pub fn rejected(&self, now: Instant) -> usize {
        let since = |failing: &Failing| Some(now.saturating_duration_since(failing.rejected?));
        let failing = self.0.lock();
        failing.values().filter_map(since).filter(|rejected| *rejected >= REJECTED).count()
    }

    /// Records an attempt of a watch that failed.
    pub fn failed(&self, watch: &str, now: Instant, step: Step) {
        let recovered = if step == Step::Runs { RAN } else { RECOVERED };
        let mut all = self.0.lock();
        let failing =
            all.entry(watch.to_owned()).or_insert(Failing { since: now, last: now, step, rejected: None });
        failing.step = step;
        failing.rejected = (step == Step::Rejected).then(|| failing.rejected.unwrap_or(now));
        if now.saturating_duration_since(failing.last) >= recovered {
            failing.since = now;
        }
        failing.last = now;
    }

    /// Records that the list of a watch is complete. If the watch itself could not be started before, that is still to be shown.
    /// Returns whether a failure has ended.
    pub fn listed(&self, watch: &str) -> bool {
        let mut all = self.0.lock();
        all.get(watch).is_some_and(|failing| failing.step != Step::Start) && all.remove(watch).is_some()
    }

    /// Records that a watch runs: it showed a change. Returns whether a failure has ended.
    pub fn succeeded(&self, watch: &str) -> bool {
        self.0.lock().remove(watch).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_watch_that_has_failed_longest() {
        let (ages, start) = (WatchAge::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 30, 100] {
            ages.failed("a", at(second), Step::List);
        }
        ages.failed("b", at(90), Step::List);
        assert_eq!(ages.longest(at(110)), Duration::from_secs(110));
        ages.succeeded("a");
        assert_eq!(ages.longest(at(110)), Duration::from_secs(20));
        assert_eq!(ages.longest(at(90) + RECOVERED), Duration::ZERO, "it has not failed since");
    }

    #[test]
    fn a_watch_whose_connection_breaks_now_and_then_runs_in_between() {
        let (ages, start) = (WatchAge::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in (0..600).step_by(35) {
            ages.failed("reset", at(second), Step::Runs);
        }
        for second in (0..=600).step_by(10) {
            ages.failed("cut", at(second), Step::Runs);
        }
        assert_eq!(ages.longest(at(600)), Duration::from_mins(10));
        ages.succeeded("cut");
        assert_eq!(ages.longest(at(600)), Duration::from_secs(5));
    }

    #[test]
    fn a_list_does_not_show_that_a_watch_that_could_not_be_started_runs() {
        let (ages, start) = (WatchAge::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (step, age) in [(Step::Start, 60), (Step::List, 0), (Step::Runs, 0)] {
            ages.succeeded("a");
            for second in [0, 30] {
                ages.failed("a", at(second), step);
            }
            ages.listed("a");
            assert_eq!(ages.longest(at(60)), Duration::from_secs(age), "{step:?}");
        }
    }

    #[test]
    fn only_lists_that_are_rejected_each_time_for_a_while_count_as_rejected() {
        let (ages, start) = (WatchAge::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (watch, second, step) in [
            ("deleted", 0, Step::Rejected),
            ("deleted", 20, Step::Rejected),
            ("unreachable", 0, Step::List),
            ("unreachable", 20, Step::Rejected),
            ("busy", 0, Step::Rejected),
            ("busy", 20, Step::List),
            ("restored", 0, Step::Rejected),
        ] {
            ages.failed(watch, at(second), step);
        }
        ages.listed("restored");
        assert_eq!([29, 30, 50].map(|second| ages.rejected(at(second))), [0, 1, 2]);
    }
}
