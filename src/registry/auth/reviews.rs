//! Requests reviews within the limits of the process, and counts them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::denied::{self, Denied};
use super::identity::Identity;
use super::limits::Slots;
use super::review::{Pending, Reviewer, Right};
use super::review_cache::{Answer, Failure};
use crate::domain::Mutex;
use crate::observe::log_limit::LogLimit;
use crate::registry::metrics::RegistryMetrics;

/// Whose token it is, or the reason phrase.
pub(super) type TokenAnswer = Answer<Arc<Identity>, &'static str>;

pub(super) struct Reviews {
    reviewer: Box<dyn Reviewer>,
    slots: Slots,
    metrics: RegistryMetrics,
    failed: Mutex<LogLimit>,
}

impl Reviews {
    pub(super) fn new(reviewer: Box<dyn Reviewer>, metrics: RegistryMetrics) -> Self {
        Self { reviewer, slots: Slots::default(), metrics, failed: Mutex::default() }
    }

    pub(super) async fn token(self: Arc<Self>, token: SecretString, audience: String) -> TokenAnswer {
        let answer = |identity: Option<Identity>| match identity {
            Some(identity) => Answer::Yes { life: life(&identity), value: Arc::new(identity) },
            None => Answer::No(denied::NOT_ACCEPTED),
        };
        self.review("token", || self.reviewer.token(token, audience), answer).await
    }

    pub(super) async fn access(
        self: Arc<Self>,
        identity: Arc<Identity>,
        right: Right,
        namespace: String,
        name: String,
    ) -> Answer<(), ()> {
        let answer =
            |permitted| if permitted { Answer::Yes { value: (), life: None } } else { Answer::No(()) };
        let request = || self.reviewer.access(&identity, right, &namespace, &name);
        self.review("access", request, answer).await
    }

    /// Requests a review when there is a slot for it.
    async fn review<T, Y, N>(
        &self,
        kind: &'static str,
        request: impl FnOnce() -> Pending<T>,
        answer: impl FnOnce(T) -> Answer<Y, N>,
    ) -> Answer<Y, N> {
        let Some(_slot) = self.slots.take().await else {
            self.metrics.reviewed(kind, "not_sent");
            return Answer::Failed(Failure { denied: Denied::BUSY, remember: false, stale: true });
        };
        match request().await {
            Ok(reviewed) => {
                let answer = answer(reviewed);
                let outcome = if matches!(answer, Answer::Yes { .. }) { "accepted" } else { "refused" };
                self.metrics.reviewed(kind, outcome);
                answer
            }
            Err(error) => {
                self.metrics.reviewed(kind, "failed");
                if let Some(count) = self.failed.lock().add() {
                    tracing::warn!(kind, error, count, "a review by the Kubernetes API failed");
                }
                Answer::Failed(Failure { denied: Denied::API_SERVER, remember: true, stale: true })
            }
        }
    }
}

/// The time until the identity's token expires.
pub(super) fn life(identity: &Identity) -> Option<Duration> {
    let left = identity.expires?.duration_since(Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}
