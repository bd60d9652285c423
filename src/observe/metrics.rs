//! What is counted. In: outcomes. Out: the text of `/metrics`, in the OpenMetrics format.
//!
//! Labels come from fixed sets (controller, outcome, reason, kind of credential), never from names of objects.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// State and reason.
pub type StateAndReason = (&'static str, &'static str);

/// The number of objects by state and reason.
pub type Counts = BTreeMap<StateAndReason, i64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

/// What objects wait for. One that waits for a fetch is kept apart from small work, which goes on beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Queue {
    controller: &'static str,
    lane: &'static str,
}

impl Queue {
    /// Modules.
    pub const MODULES: Self = Self { controller: "module", lane: "light" };
    /// Versions with small work.
    pub const LIGHT: Self = Self { controller: "version", lane: "light" };
    /// Versions that are to be fetched and stored.
    pub const PUBLISH: Self = Self { controller: "version", lane: "publish" };
    const ALL: [Self; 3] = [Self::MODULES, Self::LIGHT, Self::PUBLISH];
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    controller: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Credential {
    credential: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    reconciles: Family<Reconciled, Counter>,
    durations: Family<Controller, Histogram>,
    queue: Family<Queue, Gauge>,
    turns: Family<Queue, Counter>,
    failures: Family<Failed, Counter>,
    remaining: Family<Credential, Gauge>,
    modules: Family<State, Gauge>,
    versions: Family<State, Gauge>,
    /// 1 while this process leads, 0 while it waits.
    pub leader: Gauge,
    /// Reconciles that panicked and were caught.
    pub panics: Counter,
    /// Bytes of archives that came from GitHub.
    pub fetched_bytes: Counter,
    /// Bytes of objects that went to S3.
    pub stored_bytes: Counter,
}

struct Queued(Gauge);

impl Queued {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// `failures_from_zero` are the controllers and reasons whose counters start at zero: a counter that appears with its first count
    /// shows no increase.
    pub fn new(failures_from_zero: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let mut registry = Registry::with_prefix("opendepot");
        let (reconciles, remaining) = (Family::default(), Family::default());
        let failures = Family::<Failed, Counter>::default();
        let (panics, fetched_bytes, stored_bytes) =
            (Counter::default(), Counter::default(), Counter::default());
        let durations = Family::<Controller, Histogram>::new_with_constructor(|| {
            // From 5 ms, a status write, to 3 minutes, a large archive over a slow line.
            Histogram::new(exponential_buckets(0.005, 2.0, 16))
        });
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took from their turn to their end, by controller",
            Unit::Seconds,
            durations.clone(),
        );
        let (queue, turns) = (Family::<Queue, Gauge>::default(), Family::<Queue, Counter>::default());
        registry.register(
            "queue_depth",
            "Objects that wait for their turn, by controller and lane",
            queue.clone(),
        );
        registry.register("turns", "Objects that got their turn, by controller and lane", turns.clone());
        registry.register("reconciles", "Reconciles, by controller and outcome", reconciles.clone());
        registry.register("failures", "Failed attempts, by controller and reason", failures.clone());
        registry.register(
            "github_requests_remaining",
            "Requests that GitHub still grants before its reset, the least of each kind of credential",
            remaining.clone(),
        );
        let modules = Family::<State, Gauge>::default();
        registry.register("modules", "Modules that are watched, by state and reason", modules.clone());
        let versions = Family::<State, Gauge>::default();
        registry.register("versions", "Versions that are watched, by state and reason", versions.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this process leads, 0 while it waits", leader.clone());
        registry.register(
            "panics",
            "Panics that were caught, in reconciles and while reading archives",
            panics.clone(),
        );
        registry.register_with_unit(
            "fetched",
            "Archives fetched from GitHub",
            Unit::Bytes,
            fetched_bytes.clone(),
        );
        registry.register_with_unit("stored", "Objects stored in S3", Unit::Bytes, stored_bytes.clone());
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", super::REVISION)];
        registry.register("build", "This build", Info::new(build));
        for queue_of in Queue::ALL {
            queue.get_or_create(&queue_of).set(0);
            turns.get_or_create(&queue_of).inc_by(0);
        }
        for (controller, reason) in failures_from_zero {
            failures.get_or_create(&Failed { controller, reason }).inc_by(0);
        }
        Self {
            registry: Mutex::new(registry),
            reconciles,
            durations,
            queue,
            turns,
            failures,
            remaining,
            modules,
            versions,
            leader,
            panics,
            fetched_bytes,
            stored_bytes,
        }
    }
}

impl Metrics {
    /// A reconcile ended that had its turn at `since`.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, since: Instant) {
        self.reconciles.get_or_create(&Reconciled { controller, outcome }).inc();
        self.durations.get_or_create(&Controller { controller }).observe(since.elapsed().as_secs_f64());
    }

    /// Waits for `turn`, and counts who waits meanwhile.
    pub async fn queued<T>(&self, queue: Queue, turn: impl Future<Output = T>) -> T {
        // A guard, since a wait may be dropped before its end.
        let queued = Queued::new(&self.queue.get_or_create(&queue));
        let turn = turn.await;
        drop(queued);
        self.turns.get_or_create(&queue).inc();
        turn
    }

    /// An attempt failed.
    pub fn failed(&self, controller: &'static str, reason: &'static str) {
        self.failures.get_or_create(&Failed { controller, reason }).inc();
    }

    /// What GitHub still grants before its next reset, by kind of credential; of one that is not named, nothing is known.
    fn github_remaining(&self, remaining: &[(&'static str, i64)]) {
        // What was left before a reset says nothing after it.
        self.remaining.clear();
        for (credential, requests) in remaining {
            self.remaining.get_or_create(&Credential { credential }).set(*requests);
        }
    }

    /// How many Modules and Versions are of each kind; those of no kind named are none.
    fn census(&self, (modules, versions): &(Counts, Counts)) {
        for (gauges, counts) in [(&self.modules, modules), (&self.versions, versions)] {
            gauges.clear();
            for ((state, reason), count) in counts {
                gauges.get_or_create(&State { state, reason }).set(*count);
            }
        }
    }

    /// The text of `/metrics`, with what is counted at each scrape. All under one lock: of two scrapes at once neither reads
    /// the gauges that the other has just cleared.
    pub fn scrape(
        &self,
        remaining: &[(&'static str, i64)],
        counts: &(Counts, Counts),
    ) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.github_remaining(remaining);
        self.census(counts);
        text(&registry)
    }
}

fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Metrics {
        fn text(&self) -> Result<String, std::fmt::Error> {
            text(&self.registry.lock().unwrap())
        }
    }

    #[test]
    fn of_two_scrapes_at_once_neither_misses_what_the_other_counts() {
        let metrics = Metrics::new([]);
        let counts =
            (Counts::from([(("ready", "Synced"), 3)]), Counts::from([(("stalled", "NotAnArchive"), 2)]));
        let scrape = || {
            for _ in 0..300 {
                let text = metrics.scrape(&[("app", 3)], &counts).unwrap();
                for series in
                    ["opendepot_modules{", "opendepot_versions{", "opendepot_github_requests_remaining{"]
                {
                    assert!(text.contains(series), "{series} is missing");
                }
            }
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(scrape)).collect();
            assert!(all.into_iter().all(|thread| thread.join().is_ok()));
        });
    }

    #[test]
    fn what_github_granted_before_its_reset_is_forgotten() {
        let metrics = Metrics::new([]);
        metrics.github_remaining(&[("app", 3), ("token", 4_000)]);
        assert!(metrics.text().unwrap().contains("requests_remaining{credential=\"app\"} 3\n"));
        metrics.github_remaining(&[("token", 4_000)]);
        assert!(!metrics.text().unwrap().contains("credential=\"app\""));
    }

    #[tokio::test]
    async fn who_waits_and_who_got_its_turn_is_counted_by_lane() {
        let metrics = Metrics::new([]);
        let says = |line: &str| assert!(metrics.text().unwrap().contains(&format!("{line}\n")), "{line}");
        says("opendepot_turns_total{controller=\"version\",lane=\"publish\"} 0");
        {
            let mut waits = std::pin::pin!(metrics.queued(Queue::PUBLISH, std::future::pending::<()>()));
            assert!(futures::poll!(waits.as_mut()).is_pending());
            says("opendepot_queue_depth{controller=\"version\",lane=\"publish\"} 1");
        }
        metrics.queued(Queue::LIGHT, async {}).await;
        says("opendepot_queue_depth{controller=\"version\",lane=\"publish\"} 0");
        says("opendepot_turns_total{controller=\"version\",lane=\"publish\"} 0");
        says("opendepot_turns_total{controller=\"version\",lane=\"light\"} 1");
    }

    #[test]
    fn each_failure_is_counted_from_zero() {
        let text = Metrics::new([("version", "TagNotFound")]).text().unwrap();
        assert!(text.contains("opendepot_failures_total{controller=\"version\",reason=\"TagNotFound\"} 0"));
    }
}
