//! The actions of a Version's reconcile: each does one thing that [`decide`](super::decide) has decided, and returns its effect.

mod verify;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::client::VersionClient;
use super::context::Context;
use super::decide::{Facts, Lane, NextAction, Seen, decide};
use super::delete;
use super::effect::{Effect, End};
use super::failed::{failed, unwritten};
use super::memory::{Attempt, ChangeKey};
use super::outcome::{AttemptError, AttemptFailure};
use super::progress::Progress;
use super::publish::publish;
use super::rate_limits::{AccountKey, account};
use super::report;
use super::scheduler::StagingPermit;
use crate::api::state::{StoredLocation, VersionState};
use crate::api::target::{Requests, Target, left_behind};
use crate::controller::bulkhead::BulkheadPermit;
use crate::controller::client::explain;
use crate::controller::failure::{Class, Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::domain::time::time_between;

/// Actions of one reconcile before it starts again from the cache; more than any Version needs.
const MAX_ACTIONS: usize = 8;

/// The permit that a reconcile holds.
pub(super) enum Permit {
    Api(#[expect(dead_code, reason = "held, not read")] BulkheadPermit),
    Light(#[expect(dead_code, reason = "held, not read")] [BulkheadPermit; 2]),
    Publish(StagingPermit),
}

impl Permit {
    fn lane(&self) -> Lane {
        match self {
            Self::Api(_) => Lane::Api,
            Self::Light(_) => Lane::Light,
            Self::Publish(_) => Lane::Publish,
        }
    }
}

/// Reads a Version and acts on it until nothing is left to do. Returns how that ended, and for which change it was done.
pub(super) async fn run(
    ctx: &Context,
    cached: &VersionState,
    permit: &Permit,
    attempt: Option<&Attempt>,
    progress: &Arc<Progress>,
) -> (ChangeKey, End) {
    let touched = ctx.memories.with(cached.uid(), |memory| memory.last_written.is_some());
    let client = match VersionClient::read(&ctx.client, cached, touched, progress).await {
        Ok(Some(client)) => client,
        Ok(None) => return (ChangeKey::of(cached), End::Gone),
        Err(error) => return (ChangeKey::of(cached), unwritten(ctx, cached, error.into())),
    };
    // The attempt is for the Version as it was read: later changes of other clients are not part of it.
    let mut key = ChangeKey::of(client.version());
    let mut run = Run { ctx, client, permit, attempt, seen: None, identity: None };
    let end = run.act().await;
    let Run { client, .. } = run;
    // Also after an error: the API server may still have executed a write.
    let left = client.version().metadata.resource_version.clone().zip(Some(Instant::now()));
    ctx.memories.with(cached.uid(), |memory| memory.last_written = left);
    // A generation that only this attempt's own writes have made is the one that it was for.
    if !client.has_newer_generation {
        key.generation = client.version().metadata.generation;
    }
    (key, end)
}

/// A reconcile that has read its Version.
struct Run<'a> {
    ctx: &'a Context,
    client: VersionClient,
    permit: &'a Permit,
    attempt: Option<&'a Attempt>,
    /// The intact object that it has seen in the bucket.
    seen: Option<Seen>,
    /// The identity of that object, unless it is known to be in another bucket than the objects at the old locations.
    identity: Option<u64>,
}

impl Run<'_> {
    async fn act(&mut self) -> End {
        let ctx = self.ctx;
        for _ in 0..MAX_ACTIONS {
            let facts = ctx.facts(self.client.version(), self.attempt, self.seen, &self.client.progress);
            let action = decide(self.client.version(), &facts);
            if let Some(lane) = action.lane().filter(|lane| *lane > self.permit.lane()) {
                return End::Needs(lane);
            }
            let effect = match self.act_once(action, &facts).await {
                Ok(effect) => effect,
                Err(ended) => return unwritten(ctx, self.client.version(), ended),
            };
            let (content, fetched) = (effect.content_failure(), effect.fetched);
            match effect.apply(&mut self.client, &ctx.events).await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => {
                    let ended = AttemptError::from(error).with(|failed| failed.fetched = fetched);
                    return unwritten(ctx, self.client.version(), ended).no_sooner_than(content);
                }
            }
        }
        let message = "The reconcile took too many steps: this is a defect of the operator.";
        unwritten(ctx, self.client.version(), Failure::new(Reason::InternalError, message).into())
    }

    async fn act_once(&mut self, action: NextAction, facts: &Facts<'_>) -> Result<Effect, AttemptError> {
        let (client, now) = (&self.client, facts.now);
        let effect = match action {
            NextAction::Ignore | NextAction::Rest(_) => Effect::end(End::Settled),
            // The cache was behind: the apparent change is a write of the failed attempt itself.
            NextAction::Wait(_) => Effect::end(End::Later),
            NextAction::AwaitModule => Effect::end(End::AwaitModule),
            NextAction::AddFinalizer => Effect { finalizer: Some(true), ..Effect::default() },
            NextAction::Delete => self.delete_all().await?,
            NextAction::Release => self.release(true).await,
            NextAction::Suspend => {
                let by = if client.version().suspend { "spec.suspend" } else { "its Module" };
                let end = Some(End::Settled);
                Effect { end, ..Effect::status(client.current.suspended(by, now)) }
            }
            NextAction::Reject(failure) => self.failed(&Requests::of(client.version()), failure.into()),
            NextAction::ResetForce => Effect { reset_force: true, ..Effect::default() },
            NextAction::Publish(target) => match self.permit {
                Permit::Publish(permit) => self.publish(&target, permit).await?,
                _ => Effect::end(End::Needs(Lane::Publish)),
            },
            NextAction::Verify(target) => self.verify(&target).await,
            NextAction::VerifyRecorded => {
                self.verify_recorded().await;
                // The next one may be due by now, if the store is slow: it waits for a permit of its own.
                Effect::end(End::Later)
            }
            NextAction::CleanUp(target) => self.clean_up(&target, facts.fate).await?,
            NextAction::Record(target) => report::recorded(client, &target, now),
        };
        Ok(effect)
    }

    fn failed(&self, requests: &Requests, failure: AttemptFailure) -> Effect {
        failed(self.ctx, &self.client, requests, failure)
    }

    async fn publish(&mut self, target: &Target, permit: &StagingPermit) -> Result<Effect, AttemptError> {
        let (ctx, before) = (self.ctx, self.client.version().clone());
        let failed = match Box::pin(publish(ctx, &mut self.client, target, permit)).await {
            Ok(published) => {
                self.mark_seen(false, published.identity);
                remember_location(ctx, &before, &published.location);
                return Ok(report::published(&self.client, &before, target, &published));
            }
            Err(AttemptError::Failed(failed)) => failed,
            Err(AttemptError::Outdated) => return Err(AttemptError::Outdated),
        };
        match failed.failure.reason {
            // The API server has just refused a request, or failed: no status is written.
            Reason::ApiUnavailable | Reason::VersionRefused => return Err(AttemptError::Failed(failed)),
            // A hanging store occupies its permit as long as a hanging repository does, and is limited in the same way.
            Reason::StorageUnavailable => {
                let version = self.client.version();
                ctx.scheduler.store_failed(&version.repository_key(), version.store_key());
            }
            _ => {}
        }
        let account = self.limited_account(target, &failed);
        let mut effect = self.failed(&target.requests, failed);
        if let Some(End::Failed(attempt)) = &mut effect.end {
            attempt.account = account;
        }
        Ok(effect)
    }

    /// Records a limit of GitHub that an attempt has met. Returns the account that it applies to.
    fn limited_account(&self, target: &Target, failed: &AttemptFailure) -> Option<AccountKey> {
        let Class::Wait(until) = failed.failure.class else { return None };
        let is_limited = failed.failure.reason == Reason::RateLimited;
        let account = is_limited.then(|| account(self.client.version(), target))?;
        let secret = failed.secret.as_ref().and_then(|(_, version)| version.as_deref());
        let left = time_between(Timestamp::now(), until);
        self.ctx.rate_limits.met(account, secret, left, Instant::now());
        Some(account)
    }

    /// Deletes or retains the objects that a move left behind; either way they are no longer recorded.
    async fn clean_up(&mut self, target: &Target, fate: Fate) -> Result<Effect, AttemptError> {
        let left = left_behind(self.client.version(), &target.location);
        let still_there = |Failure { message, class, .. }| Failure {
            reason: Reason::OldObjectKept,
            class,
            message: format!(
                "Stored at the new location, but the object at the old location still exists: {message}"
            ),
        };
        let ended = match fate {
            Fate::Undecided => return Ok(Effect::end(End::AwaitModule)),
            Fate::Delete => self.delete((&left, self.identity), &target.requests, still_there).await?,
            Fate::Keep => None,
        };
        let cleaned_up = || Effect::status(self.client.current.cleaned_up(Timestamp::now()));
        Ok(ended.unwrap_or_else(cleaned_up))
    }

    /// Deletes all objects of a terminating Version, then removes our finalizer.
    async fn delete_all(&mut self) -> Result<Effect, AttemptError> {
        let of_module = self.client.version().module().is_some();
        let place = if of_module { " on its Module (if that is deleted, on the Version)" } else { "" };
        let stays = |Failure { message, reason, class }| {
            // The advice comes first: the Module quotes the beginning and the end.
            let advice = "The Version is kept until its object is deleted; to delete it and leave the object in the bucket, set \
                          deletionPolicy: Retain";
            Failure { message: format!("{advice}{place}. {message}"), reason, class }
        };
        let locations = delete::all_locations(self.client.version());
        if let Some(ended) = self.delete((&locations, None), &Requests::default(), stays).await? {
            return Ok(ended);
        }
        Ok(self.release(false).await)
    }

    /// Removes our finalizer, the last step of a deletion. Without it, the Version is not reconciled again. If another client's
    /// finalizer keeps it, its last status contains no deleted object and no resolved failure. If that status cannot be written,
    /// the finalizer is removed nevertheless.
    async fn release(&mut self, retained: bool) -> Effect {
        let client = &mut self.client;
        let is_outdated = !retained || !Reason::is_progress(client.version().status.reason());
        if is_outdated && client.has_other_finalizers() {
            let held = client.current.held(retained, Timestamp::now());
            if let Err(error) = client.write_status(&held).await {
                tracing::debug!(error = explain(&error), "the status of a deleted Version was not written");
            }
        }
        tracing::info!(retained, "removed the finalizer of the deleted Version");
        Effect { finalizer: Some(false), end: Some(End::Gone), ..Effect::default() }
    }

    /// Deletes objects, but not the current one, which has this identity. Returns the effect if that ends the reconcile.
    async fn delete(
        &mut self,
        (locations, current): (&[ObjectLocation], Option<u64>),
        requests: &Requests,
        explain: impl FnOnce(Failure) -> Failure,
    ) -> Result<Option<Effect>, AttemptError> {
        let (done, result) = delete::objects(self.ctx, &self.client, locations, current).await;
        let failure = match result {
            Ok(()) => return Ok(None),
            Err(AttemptError::Failed(failed)) => explain(failed.failure),
            Err(AttemptError::Outdated) => return Err(AttemptError::Outdated),
        };
        let struck = self.client.current.struck(&done);
        self.client.write_status(&struck).await?;
        Ok(Some(self.failed(requests, failure.into()).during("Delete")))
    }
}

/// Remembers where the object was until now: an object there without metadata is still this Version's.
fn remember_location(ctx: &Context, before: &VersionState, now: &ObjectLocation) {
    let stored = before.status.storage.as_ref().map(StoredLocation::location);
    if let Some(stored) = stored.filter(|stored| !stored.is_same_location(now)) {
        ctx.memories.with(before.uid(), |memory| memory.stored_before = Some(Box::new(stored)));
    }
}
