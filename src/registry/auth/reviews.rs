//! Asks for reviews within the limits of the process, and counts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::SecretString;

use super::denied::{self, Denied};
use super::identity::Identity;
use super::limits::Places;
use super::review::{NoAnswer, Reviewer, Right};
use super::review_cache::{Answer, Failure};
use crate::domain::Mutex;
use crate::registry::metrics::RegistryMetrics;

/// Failures are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Whose token it is, or the reason phrase.
pub(super) type TokenAnswer = Answer<Arc<Identity>, &'static str>;
/// Whether it is permitted.
pub(super) type AccessAnswer = Answer<(), ()>;

pub(super) struct Reviews {
    reviewer: Box<dyn Reviewer>,
    places: Places,
    metrics: RegistryMetrics,
    logged: Mutex<Option<Instant>>,
}

impl Reviews {
    pub(super) fn new(reviewer: Box<dyn Reviewer>, metrics: RegistryMetrics) -> Self {
        Self { reviewer, places: Places::default(), metrics, logged: Mutex::default() }
    }

    pub(super) async fn token(self: Arc<Self>, token: SecretString, audience: String) -> TokenAnswer {
        let Some(_place) = self.places.take().await else { return Answer::Failed(self.busy("token")) };
        match self.reviewer.token(token, audience).await {
            Ok(Some(identity)) => {
                self.metrics.reviewed("token", "accepted");
                Answer::Yes { life: life(&identity), value: Arc::new(identity) }
            }
            Ok(None) => {
                self.metrics.reviewed("token", "refused");
                Answer::No(denied::NOT_ACCEPTED)
            }
            Err(error) => Answer::Failed(self.failed("token", &error)),
        }
    }

    pub(super) async fn access(
        self: Arc<Self>,
        identity: Arc<Identity>,
        right: Right,
        namespace: String,
        name: String,
    ) -> AccessAnswer {
        let Some(_place) = self.places.take().await else { return Answer::Failed(self.busy("access")) };
        match self.reviewer.access(&identity, right, &namespace, &name).await {
            Ok(true) => {
                self.metrics.reviewed("access", "accepted");
                Answer::Yes { value: (), life: None }
            }
            Ok(false) => {
                self.metrics.reviewed("access", "refused");
                Answer::No(())
            }
            Err(error) => Answer::Failed(self.failed("access", &error)),
        }
    }

    fn busy(&self, kind: &'static str) -> Failure {
        self.metrics.reviewed(kind, "not_sent");
        Failure { denied: Denied::busy(), remember: false, stale: true }
    }

    fn failed(&self, kind: &'static str, error: &NoAnswer) -> Failure {
        self.metrics.reviewed(kind, "failed");
        let mut logged = self.logged.lock();
        if logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            tracing::warn!(kind, error = error.0, "the Kubernetes API does not answer reviews");
        }
        Failure { denied: Denied::api_server(), remember: true, stale: true }
    }
}

/// The time until the identity's token expires.
pub(super) fn life(identity: &Identity) -> Option<Duration> {
    let left = identity.expires?.duration_since(Timestamp::now());
    Some(Duration::try_from(left).unwrap_or_default())
}
