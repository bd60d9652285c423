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
use crate::observe::metrics::{registered, registered_in, render};
use crate::observe::process;

/// Maximum number of Modules whose downloads are counted apart.
const MODULES: usize = 500;

/// Kinds of errors of S3. Each counter starts at 0, so that alerts see the increase to the first error.
const S3_ERRORS: [&str; 10] = [
    "credentials",
    "cut",
    "denied",
    "differs",
    "missing",
    "network",
    "other",
    "slow",
    "throttled",
    "unavailable",
];

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
#[derive(Clone, Debug)]
pub struct RegistryMetrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<EndpointAndCode, Counter>,
    durations: Family<Labels<1>, Histogram>,
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

impl Default for RegistryMetrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        process::register(&mut registry);
        let r = registry.sub_registry_with_prefix("opendepot_registry");
        let durations = Family::<Labels<1>, Histogram>::new_with_constructor(|| {
            // From a quarter of a millisecond to four seconds.
            Histogram::new(exponential_buckets(0.000_25, 2.0, 15))
        });
        let help = "Time until an answer begins, by endpoint";
        r.register_with_unit("request", help, Unit::Seconds, durations.clone());
        let module_downloads = "Answers with the link to an archive, by module, for at most 500 modules";
        let watch_age = "Time for which a watch has been failing, the longest of all; 0 while all work";
        let ready = "1 while this process is ready to serve requests, 0 while it starts or shuts down";
        let s3_errors = "Archives that could not be read from S3 as recorded, by kind";
        let not_after = "When the TLS certificate expires, as Unix time; 0 without TLS";
        let metrics = Self {
            durations,
            requests: registered(r, "requests", "Answered requests, by endpoint and status"),
            downloads: registered(r, "downloads", "Answers with the link to an archive, by client"),
            module_downloads: registered(r, "module_downloads", module_downloads),
            counted: Arc::default(),
            modules: registered(r, "modules", "Modules, by state"),
            watch_age: registered_in(r, Unit::Seconds, "watch_age", watch_age),
            ready: registered(r, "ready", ready),
            panics: registered(r, "panics", "Panics that were caught; each is a defect"),
            auth: registered(r, "auth", "Authenticated or rejected requests, by kind of token and outcome"),
            reviews: registered(r, "reviews", "TokenReviews and SubjectAccessReviews, by kind and outcome"),
            streams: registered(r, "streams", "Archives that are being streamed"),
            max_streams: registered(r, "max_streams", "Maximum number of archives that are streamed at once"),
            stream_bytes: registered_in(r, Unit::Bytes, "stream", "Bytes of archives that were streamed"),
            s3_errors: registered(r, "s3_errors", s3_errors),
            tls_not_after: registered_in(r, Unit::Seconds, "tls_not_after", not_after),
            // Last: the other fields register into it.
            registry: Arc::new(Mutex::new(registry)),
        };
        for kind in S3_ERRORS {
            drop(metrics.s3_errors.get_or_create(&[("kind", kind)]));
        }
        metrics
    }
}

impl RegistryMetrics {
    /// Counts an answered request.
    pub fn answered(&self, endpoint: &'static str, code: u16, duration: Duration) {
        self.requests.get_or_create(&EndpointAndCode { endpoint, code }).inc();
        self.durations.get_or_create(&[("endpoint", endpoint)]).observe(duration.as_secs_f64());
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

    /// The text of `/metrics`, with the metrics of the process.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        render(&self.registry.lock())
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
        let text = metrics.text().unwrap();
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
