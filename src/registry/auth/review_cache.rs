//! Remembers the answers of reviews. For each pair of keys, one review runs at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::bounded::Bounded;
use super::denied::{Denied, REVIEW_PAUSE};
use crate::domain::Mutex;

/// A digest of what is reviewed.
pub(super) type ReviewKey = [u8; 32];

/// For how long answers count, from their review.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub yes: Duration,
    pub no: Duration,
    /// A yes while reviews fail.
    pub stale: Duration,
    /// How long a failure is not repeated.
    pub failure: Duration,
}

/// Times of access reviews.
pub(super) const TIMES: Times = Times {
    yes: Duration::from_mins(1),
    no: Duration::from_secs(10),
    stale: Duration::from_mins(10),
    failure: Duration::from_secs(1).saturating_mul(REVIEW_PAUSE),
};

/// Where the answer is kept. A no may need a narrower key than a yes: see [`ModuleRef`](super::ModuleRef).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ReviewKeys {
    pub yes: ReviewKey,
    pub no: ReviewKey,
}

/// The result of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReviewResult<Y, N> {
    /// `life`: the longest time for which it counts, if something limits it.
    Yes {
        value: Y,
        life: Option<Duration>,
    },
    No(N),
    /// No answer. If the API server does not answer, no other review is requested for a while, and an earlier yes counts meanwhile.
    Failed(Denied),
}

/// A yes or no, or why there is neither.
pub(super) type Decision<Y, N> = Result<Result<Y, N>, Denied>;

struct Yes<Y> {
    value: Y,
    fresh_until: Instant,
    stale_until: Instant,
}

struct State<Y, N> {
    yes: Bounded<ReviewKey, Yes<Y>>,
    /// In a map of its own, so that a flood of refusals evicts no permission.
    no: Bounded<ReviewKey, (N, Instant)>,
    /// Until when reviews that the API server did not answer are not repeated.
    failed: Bounded<ReviewKey, Instant>,
    /// By both keys: while the holder of an address changes, two requests for it may need reviews of different objects. Each
    /// ends with the task that holds the sender.
    open: HashMap<ReviewKeys, watch::Receiver<Option<Decision<Y, N>>>>,
}

pub(super) struct ReviewCache<Y, N> {
    times: Times,
    state: Mutex<State<Y, N>>,
}

impl<Y, N> ReviewCache<Y, N>
where
    Y: Clone + Send + Sync + 'static,
    N: Clone + Send + Sync + 'static,
{
    pub(super) fn new(capacity: usize, times: Times) -> Self {
        let state = State {
            yes: Bounded::new(capacity),
            no: Bounded::new(capacity),
            failed: Bounded::new(capacity),
            open: HashMap::new(),
        };
        Self { times, state: Mutex::new(state) }
    }

    /// What is known without a review.
    pub(super) fn known(&self, keys: &ReviewKeys, now: Instant) -> Option<Decision<Y, N>> {
        self.state.lock().known(keys, now)
    }

    /// A permission that counts although another identity's review was denied. One that is kept for failing reviews does not
    /// count if there are only too many of them: the API server may have withdrawn it meanwhile.
    pub(super) fn yes_despite(&self, denied: Denied, keys: &ReviewKeys, now: Instant) -> Option<Y> {
        if denied == Denied::API_SERVER {
            return self.state.lock().stale(keys, now);
        }
        self.known(keys, now)?.ok()?.ok()
    }

    /// Whether the last answer that is kept is a yes, which may count only while reviews fail.
    pub(super) fn has_yes(&self, keys: &ReviewKeys, now: Instant) -> bool {
        self.state.lock().stale(keys, now).is_some()
    }

    /// Returns what is known, or waits for the review of another caller, or starts one if `admit` permits it. The review
    /// continues when its caller gives up. The second value says whether this call started it.
    pub(super) async fn ask<F>(
        self: &Arc<Self>,
        keys: ReviewKeys,
        now: Instant,
        admit: impl FnOnce() -> Result<(), Denied>,
        review: impl FnOnce() -> F,
    ) -> (Decision<Y, N>, bool)
    where
        F: Future<Output = ReviewResult<Y, N>> + Send + 'static,
    {
        let (mut receiver, started) = {
            let mut state = self.state.lock();
            // Answers are stored before their review is no longer open: there is no gap in which a second one starts.
            if let Some(outcome) = state.known(&keys, now) {
                return (outcome, false);
            }
            if let Some(receiver) = state.open.get(&keys) {
                (receiver.clone(), false)
            } else if let Err(denied) = admit() {
                return (Err(denied), false);
            } else {
                let review = review();
                let (sender, receiver) = watch::channel(None);
                state.open.insert(keys, receiver.clone());
                let open = Open { cache: Arc::clone(self), keys };
                tokio::spawn(async move {
                    let answer = review.await;
                    let outcome = open.cache.store(&keys, answer, Instant::now());
                    sender.send_replace(Some(outcome));
                    drop(open);
                });
                (receiver, true)
            }
        };
        let outcome = receiver.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        (outcome.unwrap_or(Err(Denied::API_SERVER)), started)
    }

    /// Keeps the answer, and returns the outcome for its callers.
    pub(super) fn store(
        &self,
        keys: &ReviewKeys,
        answer: ReviewResult<Y, N>,
        now: Instant,
    ) -> Decision<Y, N> {
        let mut state = self.state.lock();
        match answer {
            ReviewResult::Yes { value, life } => {
                let until = |time: Duration| now + life.map_or(time, |life| life.min(time));
                let (fresh_until, stale_until) = (until(self.times.yes), until(self.times.stale));
                state.no.remove(&keys.no);
                state.failed.remove(&keys.no);
                let yes = Yes { value: value.clone(), fresh_until, stale_until };
                state.yes.insert(keys.yes, yes, |yes| yes.stale_until <= now);
                Ok(Ok(value))
            }
            ReviewResult::No(reason) => {
                state.yes.remove(&keys.yes);
                state.failed.remove(&keys.no);
                let no = (reason.clone(), now + self.times.no);
                state.no.insert(keys.no, no, |(_, until)| *until <= now);
                Ok(Err(reason))
            }
            ReviewResult::Failed(Denied::API_SERVER) => {
                state.failed.insert(keys.no, now + self.times.failure, |until| *until <= now);
                state.while_away(keys, now)
            }
            ReviewResult::Failed(denied) => Err(denied),
        }
    }
}

impl<Y: Clone, N: Clone> State<Y, N> {
    fn known(&self, keys: &ReviewKeys, now: Instant) -> Option<Decision<Y, N>> {
        if let Some((reason, until)) = self.no.get(&keys.no)
            && now < *until
        {
            return Some(Ok(Err(reason.clone())));
        }
        if let Some(yes) = self.yes.get(&keys.yes)
            && now < yes.fresh_until
        {
            return Some(Ok(Ok(yes.value.clone())));
        }
        let until = self.failed.get(&keys.no)?;
        (now < *until).then(|| self.while_away(keys, now))
    }

    /// What counts while the API server does not answer.
    fn while_away(&self, keys: &ReviewKeys, now: Instant) -> Decision<Y, N> {
        self.stale(keys, now).map(Ok).ok_or(Denied::API_SERVER)
    }

    fn stale(&self, keys: &ReviewKeys, now: Instant) -> Option<Y> {
        self.yes.get(&keys.yes).filter(|yes| now < yes.stale_until).map(|yes| yes.value.clone())
    }
}

/// Ends an open review when its task ends, a panic included.
struct Open<Y, N> {
    cache: Arc<ReviewCache<Y, N>>,
    keys: ReviewKeys,
}

impl<Y, N> Drop for Open<Y, N> {
    fn drop(&mut self) {
        self.cache.state.lock().open.remove(&self.keys);
    }
}
