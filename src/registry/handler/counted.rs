//! Counts each request once: with the status of its answer, or as one whose client left before.

use std::time::Instant;

use http::StatusCode;

use super::log::final_status;
use crate::registry::metrics::RegistryMetrics;

/// A request that is being answered. It is counted when this is dropped: with status 499 if there is no answer.
pub(super) struct Counted<'a> {
    metrics: &'a RegistryMetrics,
    endpoint: &'static str,
    start: Instant,
    status: Option<StatusCode>,
}

impl<'a> Counted<'a> {
    pub(super) fn start(metrics: &'a RegistryMetrics, endpoint: &'static str) -> Self {
        Self { metrics, endpoint, start: Instant::now(), status: None }
    }

    pub(super) fn answered(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(code) = final_status(self.status.map(|status| status.as_u16())) {
            self.metrics.answered(self.endpoint, code, self.start.elapsed());
        }
    }
}
