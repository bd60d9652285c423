//! The metrics of `/metrics`, in the OpenMetrics format.
//!
//! They include those of the [process](super::process).
//!
//! Labels come from fixed sets (controller, outcome, reason, kind of credential), never from names of objects.

use std::collections::BTreeMap;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::watch_age::WatchAge;
use crate::domain::Mutex;

pub type StateAndReason = (&'static str, &'static str);

/// The number of objects by state and reason.
pub type Counts = BTreeMap<StateAndReason, i64>;

/// The name and value of a label.
type Label = (&'static str, &'static str);

/// Queues of objects that wait for a permit. Versions that wait for a fetch do not delay those without a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Queue {
    controller: &'static str,
    lane: &'static str,
}

impl Queue {
    pub const MODULES: Self = Self { controller: "module", lane: "light" };
    /// Versions whose work needs no fetch.
    pub const LIGHT: Self = Self { controller: "version", lane: "light" };
    /// Versions that are fetched and stored.
    pub const PUBLISH: Self = Self { controller: "version", lane: "publish" };
    const ALL: [Self; 3] = [Self::MODULES, Self::LIGHT, Self::PUBLISH];
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    reconciles: Family<[Label; 2], Counter>,
    durations: Family<[Label; 1], Histogram>,
    queue: Family<Queue, Gauge>,
    turns: Family<Queue, Counter>,
    failures: Family<[Label; 2], Counter>,
    remaining: Family<[Label; 1], Gauge>,
    modules: Family<[Label; 2], Gauge>,
    versions: Family<[Label; 2], Gauge>,
    watch_age: Gauge,
    /// The watches that fail.
    pub watches: WatchAge,
    /// 1 while this process is the leader, 0 while it stands by.
    pub leader: Gauge,
    /// Reconciles that panicked and were caught.
    pub panics: Counter,
    /// Bytes of archives fetched from GitHub.
    pub fetched_bytes: Counter,
    /// Bytes of objects stored in S3.
    pub stored_bytes: Counter,
}

struct Queued(Gauge);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// The counters of `failures_from_zero` (controller, reason) start at zero: a counter that appears with its first count
    /// shows no increase.
    pub fn new(failures_from_zero: impl IntoIterator<Item = (&'static str, &'static str)>) -> Self {
        let mut registry = Registry::default();
        super::process::register(&mut registry);
        let r = registry.sub_registry_with_prefix("opendepot");
        let durations = Family::<[Label; 1], Histogram>::new_with_constructor(|| {
            // From 5 ms, a status write, to 3 minutes, a large archive over a slow line.
            Histogram::new(exponential_buckets(0.005, 2.0, 16))
        });
        let help = "Duration of reconciles, excluding the wait for a permit, by controller";
        r.register_with_unit("reconcile_duration", help, Unit::Seconds, durations.clone());
        let remaining = "Lowest remaining number of requests in GitHub's rate limit, by kind of credential";
        let watch_age = "Time for which a watch has been failing, the longest of all; 0 while all work";
        let panics = "Panics that were caught, in reconciles and while reading archives";
        let build = [("version", env!("CARGO_PKG_VERSION")), ("revision", super::REVISION)];
        // In the order of the output.
        let metrics = Self {
            durations,
            watch_age: registered_in(r, Unit::Seconds, "watch_age", watch_age),
            watches: WatchAge::default(),
            queue: registered(r, "queue_depth", "Objects that wait for a permit, by controller and lane"),
            turns: registered(r, "turns", "Objects that received a permit, by controller and lane"),
            reconciles: registered(r, "reconciles", "Reconciles, by controller and outcome"),
            failures: registered(r, "failures", "Failed attempts, by controller and reason"),
            remaining: registered(r, "github_requests_remaining", remaining),
            modules: registered(r, "modules", "Watched Modules, by state and reason"),
            versions: registered(r, "versions", "Watched Versions, by state and reason"),
            leader: registered(r, "leader", "1 while this process is the leader, 0 while it stands by"),
            panics: registered(r, "panics", panics),
            fetched_bytes: registered_in(r, Unit::Bytes, "fetched", "Archives fetched from GitHub"),
            stored_bytes: registered_in(r, Unit::Bytes, "stored", "Objects stored in S3"),
            // Last: the other fields register into it.
            registry: {
                r.register("build", "This build", Info::new(build));
                Mutex::new(registry)
            },
        };
        metrics.start_from_zero(failures_from_zero);
        metrics
    }

    fn start_from_zero(&self, failures: impl IntoIterator<Item = (&'static str, &'static str)>) {
        for queue in Queue::ALL {
            self.queue.get_or_create(&queue).set(0);
            self.turns.get_or_create(&queue).inc_by(0);
        }
        for (controller, reason) in failures {
            self.failures.get_or_create(&[("controller", controller), ("reason", reason)]).inc_by(0);
        }
    }

    /// Counts a reconcile that received its permit at `since`.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, since: Instant) {
        let controller = ("controller", controller);
        self.reconciles.get_or_create(&[controller, ("outcome", outcome)]).inc();
        self.durations.get_or_create(&[controller]).observe(since.elapsed().as_secs_f64());
    }

    /// Waits for a permit and counts the object as queued meanwhile.
    pub async fn queued<T>(&self, queue: Queue, turn: impl Future<Output = T>) -> T {
        // A guard, because the future may be dropped while it waits.
        let queued = Queued(self.queue.get_or_create_owned(&queue));
        queued.0.inc();
        let turn = turn.await;
        drop(queued);
        self.turns.get_or_create(&queue).inc();
        turn
    }

    pub fn failed(&self, controller: &'static str, reason: &'static str) {
        self.failures.get_or_create(&[("controller", controller), ("reason", reason)]).inc();
    }

    fn github_remaining(&self, remaining: &[(&'static str, i64)]) {
        // A number from before a reset of the limit is meaningless.
        self.remaining.clear();
        for (credential, requests) in remaining {
            self.remaining.get_or_create(&[("credential", *credential)]).set(*requests);
        }
    }

    /// The text of `/metrics`. Gauges are set under the lock: concurrent scrapes would read gauges that the other one cleared.
    pub fn scrape(
        &self,
        remaining: &[(&'static str, i64)],
        (modules, versions): &(Counts, Counts),
    ) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock();
        self.github_remaining(remaining);
        let failing = self.watches.longest(Instant::now());
        self.watch_age.set(i64::try_from(failing.as_secs()).unwrap_or(i64::MAX));
        for (gauges, counts) in [(&self.modules, modules), (&self.versions, versions)] {
            gauges.clear();
            for ((state, reason), count) in counts {
                gauges.get_or_create(&[("state", *state), ("reason", *reason)]).set(*count);
            }
        }
        render(&registry)
    }
}

/// A new metric, registered.
pub fn registered<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same, with a unit.
pub fn registered_in<M: Metric + Default + Clone>(r: &mut Registry, unit: Unit, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register_with_unit(name, help, unit, metric.clone());
    metric
}

/// The metrics in the OpenMetrics text format.
pub(crate) fn render(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Metrics {
        fn text(&self) -> Result<String, std::fmt::Error> {
            render(&self.registry.lock())
        }
    }

    #[test]
    fn concurrent_scrapes_are_complete() {
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
    fn remaining_requests_from_before_a_reset_are_removed() {
        let metrics = Metrics::new([]);
        metrics.github_remaining(&[("app", 3), ("token", 4_000)]);
        assert!(metrics.text().unwrap().contains("requests_remaining{credential=\"app\"} 3\n"));
        metrics.github_remaining(&[("token", 4_000)]);
        assert!(!metrics.text().unwrap().contains("credential=\"app\""));
    }

    #[tokio::test]
    async fn waiting_objects_and_permits_are_counted_by_lane() {
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
