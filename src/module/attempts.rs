//! What came of the requests for single Versions, and when each may be sent again.
//!
//! In: a plan, and how its requests ended. Out: the part of the plan that is due, and the time at which the rest is. A
//! request that the API server refuses waits for its next attempt, a little longer each time; one that was answered is not
//! sent again before the watch has had time to show what came of it; and a run of requests of one kind ends after a few
//! failures in a row, since a quota or a webhook speaks of all of them. Pure: the time comes in. In memory only. Times are of the
//! monotonic clock: one that is set back must not make anything wait.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::{Duration, Instant};

use super::plan::{Change, Create, Plan, Target};
use crate::controller::client;

/// Requests of one Module under way at once.
const AT_ONCE: usize = 8;

/// Failures in a row that end a run.
const FEW: u32 = 3;

/// First pause after a refusal. Each further one is twice as long.
const REFUSED: Duration = Duration::from_secs(2);

/// Longest pause of a single request that is refused again and again.
const LONGEST: Duration = Duration::from_mins(10);

/// Longest pause of all requests of a kind. It costs a few requests only, and ends what may concern thousands.
const LONGEST_RUN: Duration = Duration::from_mins(2);

/// First pause after an answer that showed that the watch is behind, and the longest.
const OUTDATED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The kinds of request, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// The Module itself is patched.
    Module,
    /// A Version is created.
    Create,
    /// A Version is patched.
    Change,
    /// A Version is deleted.
    Delete,
}

/// A request about the Module itself: `spec.forceSync` is set back.
pub const FORCE_SYNC: &str = "forceSync";

/// A request about the Module itself: its finalizer is put on, or taken off.
pub const FINALIZER: &str = "finalizer";

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The object is other than the watch has shown it; for a create: it exists.
    Outdated,
    /// Refused, in words for a person.
    Refused(String),
    /// The API server as a whole did not serve it.
    Failed,
}

/// What is remembered of all requests of a Module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempts {
    tried: BTreeMap<(Verb, String), Tried>,
    pauses: BTreeMap<Verb, Pause>,
}

/// A request that was sent, and that the plan still holds.
#[derive(Clone, Debug, PartialEq)]
struct Tried {
    failures: u32,
    due: Instant,
    /// What the request was made from; anything else is news. Not of what was refused: that speaks of the request, not
    /// of the object.
    seen: Option<Seen>,
    /// Why it was refused.
    words: Option<String>,
}

/// All requests of a kind wait.
#[derive(Clone, Debug, PartialEq)]
struct Pause {
    runs: u32,
    due: Instant,
    refused: bool,
}

/// One run of requests of a kind.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Run {
    verb: Verb,
    /// The last one failed: one request at a time finds out whether that is over.
    probes: bool,
    failures_in_a_row: u32,
    last_refused: bool,
    succeeded: bool,
    stopped: bool,
}

/// The part of a plan whose time has come.
#[derive(Debug, Default)]
pub struct Due<'a> {
    /// Versions to create.
    pub create: Vec<&'a Create>,
    /// Versions to change.
    pub change: Vec<&'a Change>,
    /// Versions to delete.
    pub delete: Vec<&'a Target>,
}

/// What the API server refuses now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refused {
    /// The Versions, by name.
    pub names: BTreeSet<String>,
    /// Why, in words for a person, of the first of them.
    pub words: String,
    /// Why the Module itself cannot be patched.
    pub module: Option<String>,
    /// Whether the creates that were not tried wait as well.
    pub creates: bool,
}

impl Refused {
    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.module.is_none()
    }
}

/// What a request was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The resourceVersion that it was planned on.
    version: String,
    /// A hash of what it says: two that differ may be planned on one resourceVersion, since the Module changes as well.
    what: u64,
}

impl Seen {
    fn of(version: &str, what: impl Hash) -> Self {
        let mut hash = DefaultHasher::new();
        what.hash(&mut hash);
        Self { version: version.to_owned(), what: hash.finish() }
    }
}

/// What a plan consists of.
pub trait Planned {
    /// Which kind of request it is.
    const VERB: Verb;
    /// The Version's name.
    fn name(&self) -> &str;
    /// What it was planned on.
    fn seen(&self) -> Option<Seen>;
}

impl Planned for Create {
    const VERB: Verb = Verb::Create;
    fn name(&self) -> &str {
        &self.name
    }
    fn seen(&self) -> Option<Seen> {
        None
    }
}

impl Planned for Change {
    const VERB: Verb = Verb::Change;
    fn name(&self) -> &str {
        &self.target.name
    }
    fn seen(&self) -> Option<Seen> {
        Some(Seen::of(&self.target.resource_version, self))
    }
}

impl Planned for Target {
    const VERB: Verb = Verb::Delete;
    fn name(&self) -> &str {
        &self.name
    }
    fn seen(&self) -> Option<Seen> {
        Some(Seen::of(&self.resource_version, self))
    }
}

impl Attempts {
    /// What of `plan` is to be sent now. What the plan does not hold any more is forgotten.
    pub fn due<'a>(&mut self, plan: &'a Plan, now: Instant) -> Due<'a> {
        Due {
            create: self.those_due(&plan.create, now),
            change: self.those_due(&plan.change, now),
            delete: self.those_due(&plan.delete, now),
        }
    }

    fn those_due<'a, T: Planned>(&mut self, planned: &'a [T], now: Instant) -> Vec<&'a T> {
        if self.tried.keys().any(|(verb, _)| *verb == T::VERB) {
            let names: HashSet<&str> = planned.iter().map(Planned::name).collect();
            self.tried.retain(|(verb, name), _| *verb != T::VERB || names.contains(name.as_str()));
        }
        if planned.is_empty() {
            self.pauses.remove(&T::VERB);
        }
        let pause = self.pauses.get(&T::VERB);
        if pause.is_some_and(|pause| pause.due > now) {
            return Vec::new();
        }
        let tried = |item: &T| self.tried.get(&(T::VERB, item.name().to_owned()));
        let is_due = |item: &&T| {
            tried(item).is_none_or(|t| t.due <= now || (t.seen.is_some() && t.seen != item.seen()))
        };
        let mut due: Vec<&T> = planned.iter().filter(is_due).collect();
        // What was never tried goes first. After a run that failed the rest is taken in another order each time: one that
        // is refused for its own sake must not stand before the others for ever.
        let order = |item: &&T| pause.map_or(0, |pause| shuffled(item.name(), pause.runs));
        if !self.tried.is_empty() || pause.is_some() {
            due.sort_by_cached_key(|item| (tried(item).is_some(), order(item)));
        }
        due
    }

    /// The same of a Module that is being deleted, which makes no Versions: those that it made stay remembered.
    pub fn due_of_existing<'a>(&mut self, plan: &'a Plan, now: Instant) -> Due<'a> {
        Due {
            create: Vec::new(),
            change: self.those_due(&plan.change, now),
            delete: self.those_due(&plan.delete, now),
        }
    }

    /// Whether a Version was made a moment ago that the watch does not know yet.
    pub fn unseen(&self, known: &HashSet<&str>, now: Instant) -> bool {
        self.tried.iter().any(|((verb, name), tried)| {
            *verb == Verb::Create
                && tried.words.is_none()
                && tried.due > now
                && !known.contains(name.as_str())
        })
    }

    /// Whether just this was done, though the watch may not show it yet.
    pub fn is_done<T: Planned>(&self, item: &T) -> bool {
        self.tried
            .get(&(T::VERB, item.name().to_owned()))
            .is_some_and(|tried| tried.failures == 0 && tried.words.is_none() && tried.seen == item.seen())
    }

    /// A request about the Module itself was refused.
    pub fn refuse(&mut self, what: &str, words: String, when: (Instant, f64)) {
        // One that is still refused is not counted again.
        if self.refused_until(what, when.0).is_none() {
            self.ended(&mut self.start(Verb::Module), (what, None), Outcome::Refused(words), when);
        }
    }

    /// Why a request about the Module itself was refused, if it has to wait for that.
    pub fn refused_until(&self, what: &str, now: Instant) -> Option<String> {
        let tried = self.tried.get(&(Verb::Module, what.to_owned()))?;
        tried.words.clone().filter(|_| tried.due > now)
    }

    /// A request about the Module itself is done, or not wanted any more.
    pub fn forget(&mut self, what: &str) {
        self.tried.remove(&(Verb::Module, what.to_owned()));
    }

    /// Whether all requests of a kind wait.
    pub fn waits(&self, verb: Verb) -> bool {
        self.pauses.contains_key(&verb)
    }

    /// A run of requests begins.
    pub fn start(&self, verb: Verb) -> Run {
        Run {
            verb,
            probes: self.pauses.contains_key(&verb),
            failures_in_a_row: 0,
            last_refused: false,
            succeeded: false,
            stopped: false,
        }
    }

    /// Whether any of these was refused before: then its answer may take long again.
    pub fn distrusts<T: Planned>(&self, due: &[&T]) -> bool {
        let refused = |item: &&T| {
            self.tried.get(&(T::VERB, item.name().to_owned())).is_some_and(|tried| tried.words.is_some())
        };
        self.pauses.contains_key(&T::VERB) || due.iter().any(refused)
    }

    /// Notes how one request of a run ended. `spread` is from 0 to 1 and keeps what failed together from coming together.
    pub fn ended(
        &mut self,
        run: &mut Run,
        (name, seen): (&str, Option<Seen>),
        outcome: Outcome,
        (now, spread): (Instant, f64),
    ) {
        let key = (run.verb, name.to_owned());
        let failures = self.tried.get(&key).map_or(0, |tried| tried.failures).saturating_add(1);
        let tried = match outcome {
            Outcome::Done => {
                (run.failures_in_a_row, run.succeeded) = (0, true);
                Tried { failures: 0, due: now + client::WATCH_LAG.unsigned_abs(), seen, words: None }
            }
            Outcome::Outdated => {
                run.failed(false);
                let pause = doubled(OUTDATED.0, failures, OUTDATED.1);
                // One that exists appears in the watch, if that is not broken.
                let pause = if run.verb == Verb::Create {
                    pause.max(client::WATCH_LAG.unsigned_abs())
                } else {
                    pause
                };
                Tried { failures, due: now + pause, seen, words: None }
            }
            Outcome::Refused(words) => {
                run.failed(true);
                let pause = spread_out(doubled(REFUSED, failures, LONGEST), spread);
                Tried { failures, due: now + pause, seen: None, words: Some(words) }
            }
            Outcome::Failed => {
                run.failed(true);
                run.stopped = true;
                return;
            }
        };
        self.tried.insert(key, tried);
    }

    /// A run has ended: if failures ended it, all requests of its kind wait.
    pub fn finish(&mut self, run: &Run, (now, spread): (Instant, f64)) {
        let failed = run.failures_in_a_row >= FEW || (run.stopped && run.failures_in_a_row > 0);
        if !failed {
            self.pauses.remove(&run.verb);
            return;
        }
        let before = self.pauses.get(&run.verb).filter(|_| !run.succeeded).map_or(0, |pause| pause.runs);
        let runs = before.saturating_add(1);
        let pause = if run.last_refused {
            spread_out(doubled(REFUSED, runs, LONGEST_RUN), spread)
        } else {
            doubled(OUTDATED.0, runs, OUTDATED.1)
        };
        self.pauses.insert(run.verb, Pause { runs, due: now + pause, refused: run.last_refused });
    }

    /// A person changed something: what was refused is tried again at once.
    pub fn try_again(&mut self, now: Instant) {
        for tried in self.tried.values_mut().filter(|tried| tried.words.is_some()) {
            tried.due = tried.due.min(now);
        }
        for pause in self.pauses.values_mut().filter(|pause| pause.refused) {
            pause.due = pause.due.min(now);
        }
    }

    /// When something of the plan that waits is due.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let kinds = self.pauses.values().map(|pause| pause.due);
        let waits = |verb| self.pauses.get(verb).is_some_and(|pause| pause.due > now);
        let single = self.tried.iter().filter(|((verb, _), _)| !waits(verb)).map(|(_, tried)| tried.due);
        kinds.chain(single).filter(|due| *due > now).min()
    }

    /// Whether all changes wait because some were refused.
    pub fn refuses_changes(&self) -> bool {
        self.pauses.get(&Verb::Change).is_some_and(|pause| pause.refused)
            && self.tried.iter().any(|((verb, _), tried)| *verb == Verb::Change && tried.words.is_some())
    }

    /// What is refused now.
    pub fn refused(&self) -> Refused {
        self.refused_of(|_| true)
    }

    /// Which changes of Versions are refused now.
    pub fn refused_changes(&self) -> Refused {
        self.refused_of(|verb| verb == Verb::Change)
    }

    fn refused_of(&self, of: impl Fn(Verb) -> bool) -> Refused {
        let all = || self.tried.iter().filter(|((verb, _), _)| of(*verb));
        let refused = || all().filter_map(|((verb, name), t)| Some((*verb, name, t.words.as_ref()?)));
        let versions = || refused().filter(|(verb, ..)| *verb != Verb::Module);
        let first = versions().min_by_key(|(_, name, _)| *name);
        Refused {
            names: versions().map(|(_, name, _)| name.clone()).collect(),
            words: first.map(|(.., words)| words.clone()).unwrap_or_default(),
            module: refused().find(|(verb, ..)| *verb == Verb::Module).map(|(.., words)| words.clone()),
            creates: self.pauses.contains_key(&Verb::Create)
                && refused().any(|(verb, ..)| verb == Verb::Create),
        }
    }
}

impl Run {
    /// How many requests may be under way now.
    pub fn at_once(&self) -> usize {
        match (self.stopped || self.failures_in_a_row >= FEW, self.probes && !self.succeeded) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => AT_ONCE,
        }
    }

    /// Nothing more is sent in this run.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    fn failed(&mut self, refused: bool) {
        self.failures_in_a_row += 1;
        self.last_refused = refused;
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 2_u32.saturating_pow(times.saturating_sub(1).min(16));
    first.checked_mul(factor).unwrap_or(longest).min(longest)
}

fn spread_out(pause: Duration, spread: f64) -> Duration {
    pause.mul_f64(0.75 + 0.5 * spread)
}

fn shuffled(name: &str, runs: u32) -> u64 {
    let mut hash = DefaultHasher::new();
    (name, runs).hash(&mut hash);
    hash.finish()
}
