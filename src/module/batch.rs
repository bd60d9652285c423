//! The requests of a plan as [`super::attempts`] and [`super::apply`] handle them: batches of requests of one kind. Pure.

use std::hash::Hash;
use std::time::Duration;

use super::edit::{Change, VersionRef};
use super::plan::Create;
use crate::domain::hash_of;

/// Requests of one Module in flight at once.
const MAX_IN_FLIGHT: usize = 8;

/// Consecutive failures that end a batch: a quota or a webhook usually concerns all requests of a kind.
const MAX_CONSECUTIVE_FAILURES: u32 = 3;

/// After this time a batch sends nothing more: the next reconcile reads the Module again, writes its status, and sends the rest.
/// The time suffices for the failures that end a batch, sent one at a time, if no answer is slow.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The kinds of request, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// A patch of the Module itself.
    Module,
    Create,
    Change,
    Delete,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    Done,
    /// The object is not as the cache has it; for a create: it exists.
    Outdated,
    /// The API server refused it, with this message for the status.
    Refused(String),
    /// It failed for a reason that concerns the API server as a whole.
    Failed,
}

/// The part of a plan that may be sent now.
#[derive(Debug, Default)]
pub struct Due<'a> {
    pub create: Vec<&'a Create>,
    pub change: Vec<&'a Change>,
    pub delete: Vec<&'a VersionRef>,
}

/// A request of a plan.
pub trait Planned: Hash {
    const VERB: Verb;
    /// The Version's name.
    fn name(&self) -> &str;
    /// A hash of the request and the resourceVersion on which it was planned; `None` for a create. Two requests may be planned on
    /// one resourceVersion, since the Module changes too.
    fn planned_on(&self) -> Option<u64> {
        (Self::VERB != Verb::Create).then(|| hash_of(self))
    }
}

impl Planned for Create {
    const VERB: Verb = Verb::Create;
    fn name(&self) -> &str {
        &self.name
    }
}

impl Planned for Change {
    const VERB: Verb = Verb::Change;
    fn name(&self) -> &str {
        &self.target.name
    }
}

impl Planned for VersionRef {
    const VERB: Verb = Verb::Delete;
    fn name(&self) -> &str {
        &self.name
    }
}

/// A batch of requests of one kind while it is sent.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Batch {
    pub verb: Verb,
    /// Whether the last batch failed: then one request at a time is sent until one succeeds.
    probes: bool,
    consecutive_failures: u32,
    /// Whether the last failure was a refusal.
    pub was_refused: bool,
    pub has_succeeded: bool,
    is_stopped: bool,
}

impl Batch {
    pub fn new(verb: Verb, probes: bool) -> Self {
        Self {
            verb,
            probes,
            consecutive_failures: 0,
            was_refused: false,
            has_succeeded: false,
            is_stopped: false,
        }
    }

    /// How many requests may be in flight now, so long after the batch was started.
    pub fn max_in_flight(&self, elapsed: Duration) -> usize {
        let is_over = self.is_stopped || elapsed >= TIME_LIMIT;
        if is_over || self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES {
            0
        } else if self.probes && !self.has_succeeded {
            1
        } else {
            MAX_IN_FLIGHT
        }
    }

    /// Nothing more is sent in this batch.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    pub fn succeeded(&mut self) {
        (self.consecutive_failures, self.has_succeeded) = (0, true);
    }

    pub fn failed(&mut self, refused: bool) {
        self.consecutive_failures += 1;
        self.was_refused = refused;
    }

    pub fn has_failed(&self) -> bool {
        self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
            || (self.is_stopped && self.consecutive_failures > 0)
    }
}
