//! The metrics of `opendepot serve`. Labels come from fixed sets and from the index, never from a request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::domain::{Address, Mutex};

/// Maximum number of Modules whose downloads are counted apart.
const MODULES: usize = 500;

/// Kinds of errors of S3. Each counter starts at 0, so that alerts see the increase to the first error.
const S3_ERRORS: [&str; 9] =
    ["credentials", "cut", "denied", "differs", "missing", "network", "other", "throttled", "unavailable"];

/// The endpoint of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Discovery,
    Versions,
    Module,
    Download,
    Archive,
    Login,
    Search,
    Page,
    Other,
}

impl Endpoint {
    fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Versions => "versions",
            Self::Module => "module",
            Self::Download => "download",
            Self::Archive => "archive",
            Self::Login => "login",
            Self::Search => "search",
            Self::Page => "page",
            Self::Other => "other",
        }
    }
}

/// Labels with fixed values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointAndCode {
    endpoint: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModule {
    namespace: String,
    module: String,
    system: String,
}

/// All metrics of the registry. A clone counts into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct RegistryMetrics {
    requests: Family<EndpointAndCode, Counter>,
    durations: Durations,
    downloads: Family<Labels<1>, Counter>,
    module_downloads: Family<OfModule, Counter>,
    counted: Arc<Mutex<BTreeSet<Address>>>,
    modules: Family<Labels<1>, Gauge>,
    watch_age: Gauge,
    ready: Gauge,
    /// Panics, each of which is a defect.
    pub panics: Counter,
    auth: Family<Labels<2>, Counter>,
    reviews: Family<Labels<2>, Counter>,
    s3_errors: Family<Labels<1>, Counter>,
    /// Archives that are being streamed.
    pub streams: Gauge,
    /// Maximum number of archives that are streamed at once.
    pub max_streams: Gauge,
    /// Bytes of archives that were streamed.
    pub stream_bytes: Counter,
    /// When the certificate of the listener expires, in seconds since 1970.
    pub tls_not_after: Gauge,
}

/// Durations of requests, in seconds.
#[derive(Clone, Debug)]
struct Durations(Family<Labels<1>, Histogram>);

impl Default for Durations {
    fn default() -> Self {
        // From a quarter of a millisecond to four seconds.
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_25, 2.0, 15))))
    }
}

impl RegistryMetrics {
    /// Counts an answered request.
    pub fn answered(&self, endpoint: Endpoint, code: u16, duration: Duration) {
        let endpoint = endpoint.as_str();
        self.requests.get_or_create(&EndpointAndCode { endpoint, code }).inc();
        self.durations.0.get_or_create(&[("endpoint", endpoint)]).observe(duration.as_secs_f64());
    }

    /// Counts a download by client.
    pub fn downloaded(&self, client: &'static str) {
        self.downloads.get_or_create(&[("client", client)]).inc();
    }

    /// Counts a download of a served module, unless too many other modules are counted already.
    pub fn module_downloaded(&self, address: &Address) {
        let mut counted = self.counted.lock();
        if !counted.contains(address) {
            if counted.len() >= MODULES {
                return;
            }
            counted.insert(address.clone());
        }
        self.module_downloads.get_or_create(&OfModule::of(address)).inc();
    }

    /// Sets what is measured at each scrape, and removes the counts of modules that are no longer served.
    pub fn sample(
        &self,
        states: &BTreeMap<&'static str, i64>,
        watch_age: Duration,
        is_ready: bool,
        is_served: impl Fn(&Address) -> bool,
    ) {
        for (state, count) in states {
            self.modules.get_or_create(&[("state", *state)]).set(*count);
        }
        self.ready.set(is_ready.into());
        self.watch_age.set(i64::try_from(watch_age.as_secs()).unwrap_or(i64::MAX));
        let mut counted = self.counted.lock();
        counted.retain(|address| {
            let served = is_served(address);
            if !served {
                self.module_downloads.remove(&OfModule::of(address));
            }
            served
        });
    }

    /// Registers all metrics below the prefix `opendepot_registry`, which is that of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Answered requests, by endpoint and status", self.requests.clone());
        let help = "Time until an answer begins, by endpoint";
        registry.register_with_unit("request", help, Unit::Seconds, self.durations.0.clone());
        registry.register("downloads", "Located archives, by client", self.downloads.clone());
        let help = "Located archives, by module; of at most 500 modules";
        registry.register("module_downloads", help, self.module_downloads.clone());
        registry.register("modules", "Modules, by state", self.modules.clone());
        let help = "How long a watch has been failing; 0 while all run";
        registry.register_with_unit("watch_age", help, Unit::Seconds, self.watch_age.clone());
        let help =
            "1 while requests are to be sent to this process: from the first lists until it shuts down";
        registry.register("ready", help, self.ready.clone());
        registry.register("panics", "Panics, each of which is a defect", self.panics.clone());
        registry.register("auth", "Identified requests, by kind of token and outcome", self.auth.clone());
        let help = "Reviews by the API server, by kind and outcome";
        registry.register("reviews", help, self.reviews.clone());
        registry.register("streams", "Archives that are being streamed", self.streams.clone());
        let help = "Maximum number of archives that are streamed at once";
        registry.register("max_streams", help, self.max_streams.clone());
        let help = "Bytes of archives that were streamed";
        registry.register_with_unit("stream", help, Unit::Bytes, self.stream_bytes.clone());
        for kind in S3_ERRORS {
            drop(self.s3_errors.get_or_create(&[("kind", kind)]));
        }
        let help = "Archives that could not be read from S3 as recorded, by kind";
        registry.register("s3_errors", help, self.s3_errors.clone());
        let help = "When the TLS certificate expires, as Unix time; 0 without TLS";
        registry.register_with_unit("tls_not_after", help, Unit::Seconds, self.tls_not_after.clone());
    }

    /// Counts a request whose sender was identified or refused.
    pub fn identified(&self, kind: &'static str, outcome: &'static str) {
        self.auth.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }

    /// Counts an archive that could not be read from S3 as recorded.
    pub fn s3_error(&self, kind: &'static str) {
        self.s3_errors.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts a review by the API server.
    pub fn reviewed(&self, kind: &'static str, outcome: &'static str) {
        self.reviews.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
    }
}

impl OfModule {
    fn of(address: &Address) -> Self {
        let Address { namespace, name, system } = address.clone();
        Self { namespace, module: name, system }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Address {
        format!("platform/m{number}/aws").parse().unwrap()
    }

    fn lines(metrics: &RegistryMetrics, start: &str) -> Vec<String> {
        let mut registry = Registry::with_prefix("opendepot_registry");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    #[test]
    fn at_most_500_modules_are_counted_and_each_is_forgotten_with_its_module() {
        let metrics = RegistryMetrics::default();
        for number in 0..600 {
            metrics.module_downloaded(&address(number));
        }
        metrics.module_downloaded(&address(0));
        let series = "opendepot_registry_module_downloads_total{";
        let counted = lines(&metrics, series);
        assert_eq!(counted.len(), 500);
        let first = "opendepot_registry_module_downloads_total{namespace=\"platform\",module=\"m0\",system=\"aws\"} 2";
        assert!(counted.iter().any(|line| line == first), "{counted:?}");
        metrics.sample(&BTreeMap::new(), Duration::ZERO, true, |served| *served == address(1));
        assert_eq!(lines(&metrics, series).len(), 1);
        metrics.module_downloaded(&address(555));
        assert_eq!(lines(&metrics, series).len(), 2, "there is room again");
    }
}
