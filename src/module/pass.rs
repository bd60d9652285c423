//! The steps of one reconcile that write: first the status, then the Module itself, then its Versions.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::addresses::StatusWrite;
use super::apply::{self, Done};
use super::attempts::{Attempts, FINALIZER, FORCE_SYNC};
use super::client::{ModuleClient, Written};
use super::context::Context;
use super::edit::Change;
use super::finalizer::{self, Need};
use super::ledger::Ledger;
use super::memory::MODULE_DEBOUNCE;
use super::pace;
use super::permit::Permit;
use super::plan::Plan;
use super::requests;
use super::requeue::{Requeue, Unfinished};
use super::status::{self, Facts};
use super::view::ModuleView;
use crate::api::ModuleStatus;
use crate::api::requests::ForceToken;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::failure::Reason;
use crate::controller::owners::{Deletion, Deletions};
use crate::controller::work_queue::Action;

/// How long no larger status is written after one that was too large, unless the user changes the Module.
const TOO_LARGE_PAUSE: Duration = Duration::from_mins(10);

/// The message of a Module whose status cannot be stored even without further digests.
const TOO_LARGE: &str = "The status of the Module cannot be written: the object is too large for the API server. \
                         Shorten spec.versions or its texts, or remove annotations.";

/// A reconcile of one Module.
pub(super) struct Pass<'a> {
    pub ctx: &'a Context,
    pub client: ModuleClient<'a>,
    pub module: ModuleView,
    /// Its Versions that are being deleted and wait for this reconcile.
    pub deletions: Deletions,
    pub attempts: &'a mut Attempts,
    pub permit: &'a mut Permit,
    pub requeue: Requeue,
    /// Whether the last status was too large to be stored.
    pub is_too_large: bool,
    /// Whether the status has the ledger.
    is_recorded: bool,
    /// Whether the ledger cannot be recorded, because the status is too large.
    pub is_unrecordable: bool,
    /// The message if the API server refused the status.
    pub status_refusal: Option<String>,
}

/// The end of a reconcile that has to read the Module again.
fn again() -> Unfinished {
    Unfinished::Again(Action::requeue(MODULE_DEBOUNCE))
}

impl<'a> Pass<'a> {
    /// Reads the Module. `None` if it is gone.
    pub(super) async fn read(
        ctx: &'a Context,
        cached: &ModuleState,
        attempts: &'a mut Attempts,
        permit: &'a mut Permit,
    ) -> Result<Option<Self>, kube::Error> {
        // Before the read, so that it is newer than these deletions.
        let (deletions, began) = (ctx.owners.waiting(cached.uid()), Instant::now());
        let Some((client, mut module)) = ModuleClient::read(ctx, cached).await? else { return Ok(None) };
        let digest = |d: &Deletion| Some((d.release.clone(), d.digest.clone()?));
        module.deleted_digests = deletions.values().filter_map(digest).collect();
        ctx.owners.read(&module.metadata, &module.policy, began);
        let too_large_for = ctx.memories.with(cached.uid(), |memory| memory.too_large_for(Instant::now()));
        let mut requeue = Requeue::default();
        if let Some(left) = too_large_for {
            // What this reconcile leaves out of the status is due then.
            requeue.after(left);
        }
        Ok(Some(Self {
            ctx,
            client,
            module,
            deletions,
            attempts,
            permit,
            requeue,
            is_too_large: too_large_for.is_some(),
            is_recorded: false,
            is_unrecordable: false,
            status_refusal: None,
        }))
    }

    /// A new token if a request may be opened now. A loop of forced syncs is throttled.
    pub(super) fn new_token(&mut self) -> Option<String> {
        let id = requests::unopened(&self.module)?;
        let memories = &self.ctx.memories;
        match memories.with(self.module.uid(), |memory| memory.forces.admit(&id, Instant::now())) {
            Ok(()) => Some(ForceToken::create(self.module.spec.force_sync)),
            Err(pause) => {
                self.requeue.after(pause);
                None
            }
        }
    }

    /// Decides on the registry address. It is part of the next status, and reserved until that is written.
    pub(super) fn decide_address(&mut self) {
        let (namespace, uid) = (self.module.namespace(), self.module.uid());
        let is_live = |name: &str, uid: &str| {
            self.ctx.cached(namespace, name).is_some_and(|module| module.uid() == uid)
        };
        let read = (&self.module.address, self.client.resource_version());
        let decided = self.ctx.addresses.decide((namespace, uid), read, is_live);
        self.module.addressing = decided.map(|(addressing, names)| {
            self.ctx.queue_modules(namespace, &names);
            addressing
        });
    }

    /// `is_awaited`: whether work waits for a new digest.
    async fn send_status(&mut self, after: &ModuleStatus, is_awaited: bool) -> Result<Written, kube::Error> {
        let urgency = pace::urgency(&self.module.status, after, is_awaited);
        let result = self.client.write_status(&self.module.status, after, urgency).await;
        let end = match &result {
            Ok(Written::Done) => StatusWrite::Done(self.client.resource_version()),
            Ok(_) => StatusWrite::None,
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => StatusWrite::None,
            Err(_) => StatusWrite::Unknown,
        };
        let names = self.ctx.addresses.written((self.module.namespace(), self.module.uid()), end);
        self.ctx.queue_modules(self.module.namespace(), &names);
        result
    }

    /// Writes the status. It comes first: it records digests before their Versions are deleted, and a request before it is
    /// passed on. If the ledger cannot be recorded, nothing that depends on it is done.
    pub(super) async fn write_status(&mut self, facts: &Facts<'_>) -> Result<(), Unfinished> {
        let after = status::status(&self.module, facts, Timestamp::now());
        let is_awaited = status::awaits_digest(&self.module, facts);
        match self.send_status(&after, is_awaited).await {
            Ok(Written::Done) => {
                if let Some(note) = facts.plan.removal.announcement(&self.module) {
                    self.client.warn(Reason::RemovingVersions, &note);
                }
                self.ctx.record(&self.module, facts.ledger, &self.client.object.metadata);
                self.module.status = after;
                self.is_recorded = true;
            }
            Ok(Written::Later(wait)) => self.requeue.after(wait),
            Ok(Written::TooLarge) if self.is_too_large => {
                self.is_unrecordable = true;
                self.client.warn(Reason::VersionRefused, TOO_LARGE);
                self.requeue.after(TOO_LARGE_PAUSE);
            }
            Ok(Written::TooLarge) => {
                // The next reconcile writes a status without further digests.
                let until = Instant::now() + TOO_LARGE_PAUSE;
                self.ctx.memories.if_known(self.module.uid(), |memory| memory.too_large_until = Some(until));
                return Err(again());
            }
            Ok(Written::Refused(words)) => {
                // Actions that need no record are still taken.
                self.status_refusal = Some(words);
                let module = &self.module;
                self.deletions.retain(|_, deletion| {
                    deletion.digest.is_none() || !module.is_to_record(&deletion.release)
                });
            }
            Ok(Written::Conflict) => return Err(again()),
            Err(error) => return Err(error.into()),
        }
        self.ctx.answer(&self.module, &self.deletions);
        Ok(())
    }

    /// Takes out of the plan what depends on a status that could not be written.
    pub(super) fn limit(&self, plan: &mut Plan, children: &[&VersionState]) {
        if self.status_refusal.is_some() {
            plan.without_status(&self.module, children);
        } else if self.is_unrecordable {
            plan.without_ledger(&self.module);
        }
    }

    /// Writes the Module itself: its finalizer before its first Version, and the reset of `spec.forceSync`.
    pub(super) async fn write_module(
        &mut self,
        ledger: &Ledger,
        plan: &Plan,
        children: &[&VersionState],
    ) -> Result<(), Unfinished> {
        self.add_finalizer(plan, children).await?;
        let token = ledger.force_token.as_deref().filter(|_| self.is_recorded);
        let token = token.or(self.module.status.force_token.as_deref());
        if !requests::resets_force_sync(&self.module, token) {
            self.attempts.forget(FORCE_SYNC);
        } else if !self.attempts.is_refused(FORCE_SYNC, Instant::now()) {
            match self.client.reset_force_sync().await? {
                Written::Done => self.attempts.forget(FORCE_SYNC),
                Written::Refused(words) => self.refuse(FORCE_SYNC, words),
                _ => return Err(again()),
            }
        }
        Ok(())
    }

    /// Adds the finalizer if the Module needs it. A Module that has Versions waits for its time, and is reconciled meanwhile.
    async fn add_finalizer(&mut self, plan: &Plan, children: &[&VersionState]) -> Result<(), Unfinished> {
        let need = finalizer::need(&self.module, plan, children);
        if need == Need::None {
            self.attempts.forget(FINALIZER);
            return Ok(());
        }
        if self.attempts.is_refused(FINALIZER, Instant::now()) {
            return if need == Need::First { Err(self.refused()) } else { Ok(()) };
        }
        let (ctx, uid, now) = (self.ctx, self.module.uid(), Instant::now());
        let due = ctx.memories.with(uid, |memory| {
            let is_soon = need == Need::Soon;
            let turn = if is_soon { ctx.finalizer_pace.turn(memory.finalizer_due, now) } else { Ok(()) };
            memory.finalizer_due = turn.err();
            memory.finalizer_due
        });
        if let Some(due) = due {
            self.requeue.after(due - now);
            return Ok(());
        }
        match self.client.write_finalizers(&finalizer::added(&self.module)).await? {
            Written::Done => Ok(()),
            Written::Refused(words) => {
                self.refuse(FINALIZER, words);
                Err(self.refused())
            }
            _ => Err(again()),
        }
    }

    /// Without the finalizer nothing is created.
    fn refused(&self) -> Unfinished {
        let done = Done { refused: 1, ..Done::default() };
        self.requeue.finish(&done, self.attempts).map_or_else(|failed| failed, Unfinished::Again)
    }

    pub(super) fn refuse(&mut self, what: &str, words: String) {
        self.attempts.refuse(what, words, (Instant::now(), rand::random()));
    }

    /// Sends the requests of the plan that are due.
    pub(super) async fn apply(&mut self, plan: &Plan) -> Result<Done, Unfinished> {
        // A Version that is created now contains its digest. An existing one whose digest is recorded waits until its spec
        // contains the digest, and delays no other.
        let pinned: Vec<&Change> = plan.change.iter().filter(|change| change.pins_digest()).collect();
        if pinned.is_empty() || self.is_recorded {
            self.ctx.mark_reconciled(&self.module);
        }
        let due = self.attempts.due(plan, Instant::now());
        let progress = (&mut *self.attempts, &mut *self.permit);
        let done = apply::apply(&self.client, &self.module, &due, progress).await?;
        if !pinned.is_empty() && pinned.iter().all(|change| self.attempts.is_done(*change)) {
            self.ctx.mark_reconciled(&self.module);
        }
        Ok(done)
    }

    /// Writes the status once more if other requests are refused than when it was written.
    pub(super) async fn report_refusals(
        &mut self,
        facts: &Facts<'_>,
        done: &mut Done,
    ) -> Result<(), Unfinished> {
        let refused = &self.attempts.refused();
        if refused == facts.refused {
            return Ok(());
        }
        done.refused += usize::from(refused.module.is_some() && refused.module != facts.refused.module);
        let mut ledger = facts.ledger.clone();
        ledger.close_request(&self.module, (facts.selection, facts.children), refused);
        let facts = Facts { ledger: &ledger, refused, ..*facts };
        let after = status::status(&self.module, &facts, Timestamp::now());
        if let Written::Later(wait) = self.send_status(&after, false).await? {
            self.requeue.after(wait);
        }
        Ok(())
    }
}
