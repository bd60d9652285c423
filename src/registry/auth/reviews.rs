//! Requests reviews within the limits of the process, and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::denied::{self, Denied};
use super::identity::Identity;
use super::limits::ReviewPermits;
use super::review::{Pending, Reviewer, Right};
use super::review_cache::ReviewResult;
use crate::domain::Mutex;
use crate::observe::log_limit::LogLimit;
use crate::registry::metrics::RegistryMetrics;

/// Whose token it is, or the reason phrase.
pub(super) type TokenReviewResult = ReviewResult<Arc<Identity>, &'static str>;

pub(super) struct Reviews {
    reviewer: Box<dyn Reviewer>,
    permits: ReviewPermits,
    metrics: RegistryMetrics,
    failed: Mutex<LogLimit>,
    /// Whether the last review that ended has failed.
    last_failed: AtomicBool,
}

impl Reviews {
    pub(super) fn new(reviewer: Box<dyn Reviewer>, metrics: RegistryMetrics) -> Self {
        let (failed, last_failed) = (Mutex::default(), AtomicBool::default());
        Self { reviewer, permits: ReviewPermits::default(), metrics, failed, last_failed }
    }

    pub(super) async fn token(self: Arc<Self>, token: SecretString, audience: String) -> TokenReviewResult {
        let answer = |identity: Option<Identity>| match identity {
            Some(identity) => ReviewResult::Yes { life: life(&identity), value: Arc::new(identity) },
            None => ReviewResult::No(denied::NOT_ACCEPTED),
        };
        self.review("token", || self.reviewer.token(token, audience), answer).await
    }

    pub(super) async fn access(
        self: Arc<Self>,
        identity: Arc<Identity>,
        right: Right,
        namespace: String,
        name: String,
    ) -> ReviewResult<(), ()> {
        let answer = |permitted| {
            if permitted { ReviewResult::Yes { value: (), life: None } } else { ReviewResult::No(()) }
        };
        let request = || self.reviewer.access(&identity, right, &namespace, &name);
        self.review("access", request, answer).await
    }

    /// Requests a review when there is a permit for it.
    async fn review<T, Y, N>(
        &self,
        kind: &'static str,
        request: impl FnOnce() -> Pending<T>,
        answer: impl FnOnce(T) -> ReviewResult<Y, N>,
    ) -> ReviewResult<Y, N> {
        let Some(_permit) = self.permits.take().await else {
            self.metrics.reviewed(kind, "not_sent");
            // Clients can cause too many reviews: unless reviews fail, that prolongs no permission.
            let is_away = self.last_failed.load(Ordering::Relaxed);
            return ReviewResult::Failed(if is_away { Denied::API_SERVER } else { Denied::BUSY });
        };
        let reviewed = request().await;
        self.last_failed.store(reviewed.is_err(), Ordering::Relaxed);
        match reviewed {
            Ok(reviewed) => {
                let answer = answer(reviewed);
                let outcome = if matches!(answer, ReviewResult::Yes { .. }) { "accepted" } else { "refused" };
                self.metrics.reviewed(kind, outcome);
                answer
            }
            Err(error) => {
                self.metrics.reviewed(kind, "failed");
                if let Some(count) = self.failed.lock().add() {
                    tracing::warn!(kind, error, count, "a review by the Kubernetes API failed");
                }
                ReviewResult::Failed(Denied::API_SERVER)
            }
        }
    }
}

/// The time until the identity's token expires.
pub(super) fn life(identity: &Identity) -> Option<Duration> {
    let left = identity.expires?.duration_since(Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}
