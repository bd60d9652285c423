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

use crate::census::Kind;
use crate::failure::Reason;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
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
    queue: Family<Controller, Gauge>,
    failures: Family<Failed, Counter>,
    remaining: Family<Credential, Gauge>,
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

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("opendepot");
        let metrics = (Family::default(), Family::default(), Family::default());
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
        let queue = Family::<Controller, Gauge>::default();
        registry.register("queue_depth", "Objects that wait for their turn, by controller", queue.clone());
        registry.register("reconciles", "Reconciles, by controller and outcome", metrics.0.clone());
        registry.register("failures", "Failed attempts, by controller and reason", metrics.1.clone());
        registry.register(
            "github_requests_remaining",
            "Requests that GitHub still grants before its reset, the least of each kind of credential",
            metrics.2.clone(),
        );
        let versions = Family::<State, Gauge>::default();
        registry.register("versions", "Versions that are watched, by state and reason", versions.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this process leads, 0 while it waits", leader.clone());
        registry.register("panics", "Reconciles that panicked and were caught", panics.clone());
        registry.register_with_unit(
            "fetched",
            "Archives fetched from GitHub",
            Unit::Bytes,
            fetched_bytes.clone(),
        );
        registry.register_with_unit("stored", "Objects stored in S3", Unit::Bytes, stored_bytes.clone());
        registry.register("build", "This build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            registry: Mutex::new(registry),
            reconciles: metrics.0,
            durations,
            queue,
            failures: metrics.1,
            remaining: metrics.2,
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
    pub async fn queued<T>(&self, controller: &'static str, turn: impl Future<Output = T>) -> T {
        // A guard, since a wait may be dropped before its end.
        let _queued = Queued::new(&self.queue.get_or_create(&Controller { controller }));
        turn.await
    }

    /// An attempt failed.
    pub fn failed(&self, controller: &'static str, reason: Reason) {
        self.failures.get_or_create(&Failed { controller, reason: reason.as_str() }).inc();
    }

    /// What GitHub still grants, by kind of credential.
    pub fn github_remaining(&self, remaining: &[(&'static str, i64)]) {
        for (credential, requests) in remaining {
            self.remaining.get_or_create(&Credential { credential }).set(*requests);
        }
    }

    /// How many Versions are of each kind; those of no kind named are none.
    pub fn versions(&self, counts: &BTreeMap<Kind, i64>) {
        self.versions.clear();
        for ((state, reason), count) in counts {
            self.versions.get_or_create(&State { state, reason }).set(*count);
        }
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
