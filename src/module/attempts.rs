//! How the requests of a plan ended, and when each may be sent again.
//!
//! A refused request waits, longer after each refusal. A request that was answered is not sent again before the watch has had
//! time to show the result. A few consecutive failures end a batch, and then all requests of its kind wait, since a quota or
//! a webhook usually concerns all of them. Pure: the time is a parameter. Times are of the monotonic clock, so that a clock that
//! is set back delays nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::batch::{Batch, Due, Planned, RequestOutcome, Verb};
use super::plan::{Plan, version_ref};
use super::rejected_requests::RejectedRequests;
use crate::api::state::VersionState;
use crate::controller::client;
use crate::domain::hash_of;
use crate::domain::time::doubled;

/// The first pause after a refusal. It doubles with each further refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause of one request.
const MAX_PAUSE: Duration = Duration::from_mins(10);
/// The longest pause of all requests of a kind. A retry that fails costs a few requests only, but thousands may wait for it.
const MAX_BATCH_PAUSE: Duration = Duration::from_mins(2);
/// The first and the longest pause after an answer that shows that the cache is outdated.
const CONFLICT_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The request about the Module itself that resets `spec.forceSync`.
pub(super) const FORCE_SYNC: &str = "forceSync";
/// The request about the Module itself that adds or removes its finalizer.
pub(super) const FINALIZER: &str = "finalizer";

/// The requests of one Module that were sent, and what they wait for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    by_request: BTreeMap<(Verb, String), Attempt>,
    pauses: BTreeMap<Verb, Pause>,
}

/// A request that was sent, and that the plan still contains.
#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    failures: u32,
    due: Instant,
    /// A changed request, or one for a changed object, does not wait. `None` after a refusal, which concerns the request and
    /// not the object.
    planned_on: Option<u64>,
    /// The message of the refusal.
    words: Option<String>,
}

/// The pause of all requests of a kind after failed batches.
#[derive(Clone, Debug, PartialEq)]
struct Pause {
    /// Failed batches.
    batches: u32,
    due: Instant,
    is_refusal: bool,
}

impl Attempts {
    /// The requests of `plan` that may be sent now. Those that the plan does not contain any more are forgotten, except
    /// deletions.
    pub fn due<'a>(&mut self, plan: &'a Plan, now: Instant) -> Due<'a> {
        Due { create: self.those_due(&plan.create, now), ..self.due_of_existing(plan, now) }
    }

    /// The same for a Module that is being deleted. It creates nothing, but its recent creates are not forgotten.
    pub fn due_of_existing<'a>(&mut self, plan: &'a Plan, now: Instant) -> Due<'a> {
        Due {
            create: Vec::new(),
            change: self.those_due(&plan.change, now),
            delete: self.those_due(&plan.delete, now),
        }
    }

    fn those_due<'a, T: Planned>(&mut self, planned: &'a [T], now: Instant) -> Vec<&'a T> {
        if self.by_request.keys().any(|(verb, _)| *verb == T::VERB) {
            let names: HashSet<&str> = planned.iter().map(Planned::name).collect();
            self.by_request.retain(|(verb, name), attempt| {
                *verb != T::VERB || names.contains(name.as_str()) || is_deletion(*verb, attempt)
            });
        }
        if planned.is_empty() {
            self.pauses.remove(&T::VERB);
        }
        let pause = self.pauses.get(&T::VERB);
        if pause.is_some_and(|pause| pause.due > now) {
            return Vec::new();
        }
        let is_due = |item: &&T| {
            self.attempt(*item)
                .is_none_or(|a| a.due <= now || (a.planned_on.is_some() && a.planned_on != item.planned_on()))
        };
        let mut due: Vec<&T> = planned.iter().filter(is_due).collect();
        // New requests come first. After a failed batch the others follow in another order each time, so that requests which
        // are always refused do not hold up the rest.
        let order = |item: &&T| pause.map_or(0, |pause| hash_of((item.name(), pause.batches)));
        if !self.by_request.is_empty() || pause.is_some() {
            due.sort_by_cached_key(|item| (self.attempt(*item).is_some(), order(item)));
        }
        due
    }

    fn attempt<T: Planned>(&self, item: &T) -> Option<&Attempt> {
        self.by_request.get(&(T::VERB, item.name().to_owned()))
    }

    /// Whether a Version was created that the cache does not have yet.
    pub fn created_uncached(&self, known: &HashSet<&str>, now: Instant) -> bool {
        self.by_request.iter().any(|((verb, name), attempt)| {
            *verb == Verb::Create
                && attempt.words.is_none()
                && attempt.due > now
                && !known.contains(name.as_str())
        })
    }

    /// The names of the deleted Versions that the cache does not show as deleted yet. Other deletions are forgotten.
    pub fn deleting(&mut self, cached: &[&VersionState], now: Instant) -> BTreeSet<String> {
        if !self.by_request.iter().any(|((verb, _), attempt)| is_deletion(*verb, attempt)) {
            return BTreeSet::new();
        }
        let by_name: HashMap<&str, &VersionState> =
            cached.iter().map(|child| (child.name(), *child)).collect();
        let mut deleting = BTreeSet::new();
        self.by_request.retain(|(verb, name), attempt| {
            if !is_deletion(*verb, attempt) {
                return true;
            }
            let shown = by_name.get(name.as_str()).and_then(|child| version_ref(child).planned_on());
            let is_unseen = attempt.due > now && attempt.planned_on == shown;
            deleting.extend(is_unseen.then(|| name.clone()));
            is_unseen
        });
        deleting
    }

    /// Whether exactly this request succeeded, although the cache may not show it yet.
    pub fn is_done<T: Planned>(&self, item: &T) -> bool {
        self.attempt(item)
            .is_some_and(|attempt| attempt.has_succeeded() && attempt.planned_on == item.planned_on())
    }

    /// Records that a request about the Module itself was refused.
    pub fn refuse(&mut self, what: &str, words: String, when: (Instant, f64)) {
        // A refusal that still holds is not counted again.
        if !self.is_refused(what, when.0) {
            self.ended(&mut self.start(Verb::Module), (what, None), RequestOutcome::Refused(words), when);
        }
    }

    /// Whether a request about the Module itself was refused, and has to wait.
    pub fn is_refused(&self, what: &str, now: Instant) -> bool {
        let attempt = self.by_request.get(&(Verb::Module, what.to_owned()));
        attempt.is_some_and(|attempt| attempt.words.is_some() && attempt.due > now)
    }

    /// Forgets a request about the Module itself: it is done, or not wanted any more.
    pub fn forget(&mut self, what: &str) {
        self.by_request.remove(&(Verb::Module, what.to_owned()));
    }

    /// Whether all requests of a kind wait.
    pub fn is_paused(&self, verb: Verb) -> bool {
        self.pauses.contains_key(&verb)
    }

    /// Starts a batch of requests.
    pub fn start(&self, verb: Verb) -> Batch {
        Batch::new(verb, self.is_paused(verb))
    }

    /// Whether any request was refused: its answer may be slow again.
    pub fn had_refusals(&self) -> bool {
        !self.pauses.is_empty() || self.by_request.values().any(|attempt| attempt.words.is_some())
    }

    /// Whether any of these was refused before: its answer may be slow again.
    pub fn expects_refusal<T: Planned>(&self, due: &[&T]) -> bool {
        let was_refused = |item: &&T| self.attempt(*item).is_some_and(|attempt| attempt.words.is_some());
        self.is_paused(T::VERB) || due.iter().any(was_refused)
    }

    /// Records how one request of a batch ended. `jitter`, from 0 to 1, spreads the retries of requests that failed together.
    pub fn ended(
        &mut self,
        batch: &mut Batch,
        (name, planned_on): (&str, Option<u64>),
        outcome: RequestOutcome,
        (now, jitter): (Instant, f64),
    ) {
        let key = (batch.verb, name.to_owned());
        let failures = self.by_request.get(&key).map_or(0, |attempt| attempt.failures).saturating_add(1);
        let attempt = match outcome {
            RequestOutcome::Done => {
                batch.succeeded();
                Attempt { failures: 0, due: now + client::WATCH_LAG.unsigned_abs(), planned_on, words: None }
            }
            RequestOutcome::Outdated => {
                batch.failed(false);
                let mut pause = doubled(CONFLICT_PAUSE.0, failures, CONFLICT_PAUSE.1);
                if batch.verb == Verb::Create {
                    // An object that exists appears in the cache, if the watch works.
                    pause = pause.max(client::WATCH_LAG.unsigned_abs());
                }
                Attempt { failures, due: now + pause, planned_on, words: None }
            }
            RequestOutcome::Refused(words) => {
                batch.failed(true);
                let pause = jittered(doubled(FIRST_PAUSE, failures, MAX_PAUSE), jitter);
                Attempt { failures, due: now + pause, planned_on: None, words: Some(words) }
            }
            RequestOutcome::Failed => {
                batch.failed(true);
                batch.stop();
                return;
            }
        };
        self.by_request.insert(key, attempt);
    }

    /// Records the end of a batch. If failures ended it, all requests of its kind wait.
    pub fn finish(&mut self, batch: &Batch, (now, jitter): (Instant, f64)) {
        if !batch.has_failed() {
            self.pauses.remove(&batch.verb);
            return;
        }
        let before = self.pauses.get(&batch.verb).filter(|_| !batch.has_succeeded);
        let batches = before.map_or(0, |pause| pause.batches).saturating_add(1);
        let pause = if batch.was_refused {
            jittered(doubled(FIRST_PAUSE, batches, MAX_BATCH_PAUSE), jitter)
        } else {
            doubled(CONFLICT_PAUSE.0, batches, CONFLICT_PAUSE.1)
        };
        self.pauses.insert(batch.verb, Pause { batches, due: now + pause, is_refusal: batch.was_refused });
    }

    /// A user changed the Module: what was refused is sent again at once.
    pub fn retry_refused(&mut self, now: Instant) {
        for attempt in self.by_request.values_mut().filter(|attempt| attempt.words.is_some()) {
            attempt.due = attempt.due.min(now);
        }
        for pause in self.pauses.values_mut().filter(|pause| pause.is_refusal) {
            pause.due = pause.due.min(now);
        }
    }

    /// When the next request that waits is due.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let kinds = self.pauses.values().map(|pause| pause.due);
        let waits = |verb| self.pauses.get(verb).is_some_and(|pause| pause.due > now);
        let single =
            self.by_request.iter().filter(|((verb, _), _)| !waits(verb)).map(|(_, attempt)| attempt.due);
        kinds.chain(single).filter(|due| *due > now).min()
    }

    /// Whether all changes wait because some were refused.
    pub fn refuses_changes(&self) -> bool {
        self.pauses.get(&Verb::Change).is_some_and(|pause| pause.is_refusal)
            && !self.refused_changes().names.is_empty()
    }

    pub fn refused(&self) -> RejectedRequests {
        self.refused_of(|_| true)
    }

    /// The refused changes of Versions.
    pub fn refused_changes(&self) -> RejectedRequests {
        self.refused_of(|verb| verb == Verb::Change)
    }

    fn refused_of(&self, of: impl Fn(Verb) -> bool) -> RejectedRequests {
        let all = || self.by_request.iter().filter(|((verb, _), _)| of(*verb));
        let refused = || all().filter_map(|((verb, name), t)| Some((*verb, name, t.words.as_ref()?)));
        let versions = || refused().filter(|(verb, ..)| *verb != Verb::Module);
        let first = versions().min_by_key(|(_, name, _)| *name);
        RejectedRequests {
            names: versions().map(|(_, name, _)| name.clone()).collect(),
            words: first.map(|(.., words)| words.clone()).unwrap_or_default(),
            module: refused().find(|(verb, ..)| *verb == Verb::Module).map(|(.., words)| words.clone()),
            creates: self.is_paused(Verb::Create) && refused().any(|(verb, ..)| verb == Verb::Create),
        }
    }
}

impl Attempt {
    fn has_succeeded(&self) -> bool {
        self.failures == 0 && self.words.is_none()
    }
}

/// Whether a Version was deleted by this request.
fn is_deletion(verb: Verb, attempt: &Attempt) -> bool {
    verb == Verb::Delete && attempt.has_succeeded()
}

fn jittered(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.75 + 0.5 * jitter)
}
