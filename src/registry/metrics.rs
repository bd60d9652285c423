//! The metrics of `opendepot serve`. Labels come from fixed sets, never from a request.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindAndOutcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// All metrics of the registry. A clone counts into the same metrics.
#[derive(Clone, Debug, Default)]
pub struct RegistryMetrics {
    auth: Family<KindAndOutcome, Counter>,
    reviews: Family<KindAndOutcome, Counter>,
    s3_errors: Family<Kind, Counter>,
    /// Archives that are being streamed.
    pub streams: Gauge,
    /// Bytes of archives that were streamed.
    pub stream_bytes: Counter,
    /// When the certificate of the listener expires, in seconds since 1970.
    pub tls_not_after: Gauge,
}

impl RegistryMetrics {
    /// Registers all metrics below the prefix `opendepot_registry`, which is that of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("auth", "Identified requests, by kind of token and outcome", self.auth.clone());
        let help = "Reviews by the API server, by kind and outcome";
        registry.register("reviews", help, self.reviews.clone());
        registry.register("streams", "Archives that are being streamed", self.streams.clone());
        let help = "Bytes of archives that were streamed";
        registry.register_with_unit("stream", help, Unit::Bytes, self.stream_bytes.clone());
        let help = "Archives that could not be read from S3 as recorded, by kind";
        registry.register("s3_errors", help, self.s3_errors.clone());
        let help = "When the TLS certificate expires, as Unix time; 0 without TLS";
        registry.register_with_unit("tls_not_after", help, Unit::Seconds, self.tls_not_after.clone());
    }

    /// Counts a request whose sender was identified or refused.
    pub fn identified(&self, kind: &'static str, outcome: &'static str) {
        self.auth.get_or_create(&KindAndOutcome { kind, outcome }).inc();
    }

    /// Counts an archive that could not be read from S3 as recorded.
    pub fn s3_error(&self, kind: &'static str) {
        self.s3_errors.get_or_create(&Kind { kind }).inc();
    }

    /// Counts a review by the API server.
    pub fn reviewed(&self, kind: &'static str, outcome: &'static str) {
        self.reviews.get_or_create(&KindAndOutcome { kind, outcome }).inc();
    }
}
