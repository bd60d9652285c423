//! The metrics of `opendepot serve`. Labels come from fixed sets, never from a request.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindAndOutcome {
    kind: &'static str,
    outcome: &'static str,
}

/// All metrics of the registry. A clone counts into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct RegistryMetrics {
    auth: Family<KindAndOutcome, Counter>,
    reviews: Family<KindAndOutcome, Counter>,
}

impl RegistryMetrics {
    /// Registers all metrics below the prefix `opendepot_registry`, which is that of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("auth", "Identified requests, by kind of token and outcome", self.auth.clone());
        let help = "Reviews by the API server, by kind and outcome";
        registry.register("reviews", help, self.reviews.clone());
    }

    /// Counts a request whose sender was identified or refused.
    pub fn identified(&self, kind: &'static str, outcome: &'static str) {
        self.auth.get_or_create(&KindAndOutcome { kind, outcome }).inc();
    }

    /// Counts a review by the API server.
    pub fn reviewed(&self, kind: &'static str, outcome: &'static str) {
        self.reviews.get_or_create(&KindAndOutcome { kind, outcome }).inc();
    }
}
