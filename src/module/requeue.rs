//! When a Module is reconciled again, after success and after failure.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::apply::Done;
use super::attempts::Attempts;
use crate::controller::client::explain;
use crate::controller::failure::{Failure, Reason};
use crate::controller::work_queue::Action;

/// The earliest time at which anything is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requeue(Option<Duration>);

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfinished {
    /// A quota, an admission webhook, a rule of the schema.
    #[error("the API server rejected {}; {first}", crate::domain::text::plural(*count, "request"))]
    Refused {
        count: usize,
        /// The message for the first of them.
        first: String,
        next: Action,
    },
    #[error("{0}")]
    StatusRefused(String),
    /// The Module was changed by others, or its next status has to be smaller. Not a failure.
    #[error("the Module has to be read again")]
    Again(Action),
    #[error("the Kubernetes API failed: {}", explain(.0))]
    Api(#[from] kube::Error),
}

impl Requeue {
    pub(super) fn after(&mut self, wait: Duration) {
        self.0 = Some(self.0.map_or(wait, |before| before.min(wait)));
    }

    /// The end of a reconcile that sent requests.
    pub(super) fn finish(mut self, done: &Done, attempts: &Attempts) -> Result<Action, Unfinished> {
        let now = Instant::now();
        if let Some(due) = attempts.next(now) {
            self.after(due.duration_since(now));
        }
        if done.has_more {
            self.after(Duration::ZERO);
        }
        let next = self.0.map_or_else(Action::await_change, Action::requeue);
        if done.refused == 0 {
            return Ok(next);
        }
        let refused = attempts.refused();
        let first = refused.module.unwrap_or(refused.words);
        Err(Unfinished::Refused { count: done.refused, first, next })
    }
}

impl Unfinished {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } | Self::StatusRefused(_) => Reason::VersionRefused,
            Self::Api(_) | Self::Again(_) => Reason::ApiUnavailable,
        }
    }

    /// The consecutive failures, given those before, and when to reconcile again. A refused request has its own pauses, and
    /// shows that the API server answers.
    pub(super) fn retry(self, before: u32) -> (u32, Action) {
        if let Self::Refused { next, .. } | Self::Again(next) = self {
            return (0, next);
        }
        let (failure, failures) = (Failure::new(Reason::ApiUnavailable, ""), before.saturating_add(1));
        let delay = failure.delay(failures, Duration::ZERO, rand::random(), Timestamp::now());
        (failures, Action::requeue(delay))
    }
}
