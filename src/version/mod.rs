//! The Version controller: stores one archive of one tag in S3, and keeps it there.
//!
//! It never reads a Module: a Version contains everything that its reconcile needs, except the records in `controller::owners`.
//! The order of a reconcile: [`decide`] (pure) → a permit → [`client`] reads the Version → `decide` again → [`actions`] → an
//! [`effect`], which is written.

pub(crate) mod actions;
pub(crate) mod api_failure;
pub(crate) mod basis;
pub(crate) mod client;
pub(crate) mod compare;
pub(crate) mod content;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod decide;
pub(crate) mod delete;
pub(crate) mod due;
pub(crate) mod effect;
pub(crate) mod existing;
pub(crate) mod failed;
pub(crate) mod fetch;
pub(crate) mod memory;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod publish;
pub(crate) mod publish_delay;
pub(crate) mod rate_limits;
pub(crate) mod report;
pub(crate) mod scheduler;
pub(crate) mod secret_polls;
pub(crate) mod secret_trials;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod warnings;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::actions::Permit;
use self::basis::is_superseded;
pub use self::context::Context;
use self::credentials::{awaited_secret, return_trial, secret_may_work};
use self::decide::{Lane, NextAction, decide};
use self::due::{phase, verify_interval};
use self::effect::End;
use self::memory::{Attempt, ChangeKey, Interruptions};
use self::progress::Progress;
use self::publish_delay::{limited, publish_delay};
use crate::api::state::VersionState;
use crate::controller::failure::SECRET_POLL_INTERVAL;
use crate::controller::runner::Latest;
use crate::controller::work_queue::Action;
use crate::domain::hash_of;
use crate::domain::time::time_between;
use crate::observe::metrics::Queue;

/// The wait for a cache that is behind this process's own writes.
const CACHE_LAG_REQUEUE: Duration = Duration::from_secs(2);
/// The wait after a conflict.
const CONFLICT_REQUEUE: Duration = Duration::from_secs(1);
/// The wait for a Module. A Module that is reconciled queues its Versions, which takes less time.
const MODULE_REQUEUE: Duration = Duration::from_secs(30);

/// Reconciles one Version. A change that supersedes the work ends it, also while it waits: deletion, suspension, another
/// deletion policy, or another spec.
pub async fn reconcile(
    version: Arc<VersionState>,
    latest: Latest<VersionState>,
    ctx: Arc<Context>,
) -> Action {
    let progress = Arc::new(Progress::new());
    tokio::select! {
        biased;
        requeue = work(&version, &ctx, &progress) => requeue,
        now = superseded(&version, &latest, &progress) => {
            abandon(&ctx, &version, now.as_deref(), &progress)
        }
    }
}

/// Waits until a change of the Version supersedes its work, then for the end of a PUT or DELETE in progress. Returns the
/// changed Version.
async fn superseded(
    version: &VersionState,
    latest: &Latest<VersionState>,
    progress: &Progress,
) -> Option<Arc<VersionState>> {
    loop {
        let now = latest.next().await;
        let (publishes, own) = (progress.publishes.load(Relaxed), progress.file_names.lock().clone());
        if now.as_ref().is_none_or(|now| is_superseded(version, now, publishes, &own)) {
            drop(progress.sending().await);
            return now;
        }
    }
}

/// Cleans up after work that was dropped. The API server may still have executed its last request.
fn abandon(ctx: &Context, version: &VersionState, now: Option<&VersionState>, progress: &Progress) -> Action {
    tracing::debug!("the Version has changed: reconciling again");
    return_trial(ctx, version);
    if now.is_some_and(|now| now.uid() == version.uid()) {
        let left = version.metadata.resource_version.clone().zip(Some(Instant::now()));
        ctx.memories.with(version.uid(), |memory| {
            if progress.has_permit.load(Relaxed) {
                memory.interruptions.count(Instant::now());
            }
            memory.last_written = memory.last_written.take().or(left);
        });
    } else {
        ctx.memories.forget(version.uid());
    }
    // The event that ended the work starts the next reconcile.
    Action::await_change()
}

/// Waits for a permit, and works with it.
async fn work(version: &Arc<VersionState>, ctx: &Context, progress: &Arc<Progress>) -> Action {
    // Thousands of Versions wait below: each keeps the cached object and this in memory, nothing else.
    let (mut lane, store, attempt) = match next_lane(ctx, version, progress).await {
        Ok(next) => next,
        Err(requeue) => return requeue,
    };
    loop {
        if lane == Lane::Publish {
            progress.publishes.store(true, Relaxed);
            if let Some(pause) = publish_delay(ctx, version) {
                return_trial(ctx, version);
                return Action::requeue(pause);
            }
        }
        let permit = permit(ctx, version, lane, store).await;
        if lane == Lane::Publish {
            // While this Version waited, another one of the same account may have met the next limit.
            let limit = limited(ctx, version, attempt.as_deref());
            if let Some(pause) = limit.filter(|_| !progress.tries_now.load(Relaxed)) {
                // Its Secret is polled from then on.
                return Action::requeue(pause.min(SECRET_POLL_INTERVAL));
            }
            progress.has_permit.store(true, Relaxed);
        }
        let since = Instant::now();
        // Boxed, and created only with the permit, so that the futures of thousands of waiting Versions stay small.
        let (key, end) = Box::pin(actions::run(ctx, version, &permit, attempt.as_deref(), progress)).await;
        drop(permit);
        if !end.keeps_trial() {
            return_trial(ctx, version);
        }
        match end {
            End::Needs(next) if next > lane => lane = next,
            end => return finish(ctx, version, key, end, since),
        }
    }
}

/// Waits for a permit of the queue. `store`: that of [`Lane::Light`].
async fn permit(ctx: &Context, version: &VersionState, lane: Lane, store: u64) -> Permit {
    // Pinned here: a future that is passed on takes its size twice.
    match lane {
        Lane::Api => {
            let permit = pin!(ctx.api.acquire(hash_of(version.namespace())));
            Permit::Api(ctx.metrics.queued(Queue::LIGHT, permit).await)
        }
        Lane::Light => {
            // The namespace's own permit first: a namespace whose API requests hang delays no other with the same store.
            let permits = pin!(async {
                let own = ctx.light_shares.acquire(hash_of((version.namespace(), store))).await;
                [own, ctx.light.acquire(store).await]
            });
            Permit::Light(ctx.metrics.queued(Queue::LIGHT, permits).await)
        }
        Lane::Publish => {
            let (namespace, queue) = (hash_of(version.namespace()), queue_key(version));
            let (repository, store) = (version.repository_key(), version.store_key());
            let permit = pin!(ctx.scheduler.acquire(namespace, queue, &repository, store));
            Permit::Publish(ctx.metrics.queued(Queue::PUBLISH, permit).await)
        }
    }
}

/// The queue of the scheduler in which a Version waits: that of its Module, or of the module that it names. Versions that have an
/// object wait in another one, so that a new version does not wait for those of its Module that are fetched again.
fn queue_key(version: &VersionState) -> u64 {
    let owner = version.controller().map(|owner| owner.uid.as_str());
    let module = owner.or_else(|| version.config.as_ref()?.name.as_deref()).unwrap_or(version.name());
    // An owner reference may contain any UID: with the namespace, no other namespace's queue is affected.
    hash_of((version.namespace(), module, version.status.storage.is_some()))
}

/// Decides on the cached Version. Returns the queue and the store to wait for and the last failed attempt, or when to reconcile
/// again.
async fn next_lane(
    ctx: &Context,
    version: &VersionState,
    progress: &Progress,
) -> Result<(Lane, u64, Option<Box<Attempt>>), Action> {
    let now = Timestamp::now();
    let memory = ctx.memories.with(version.uid(), |memory| memory.clone());
    if memory.is_ahead_of(version.metadata.resource_version.as_deref(), Instant::now()) {
        return Err(Action::requeue(CACHE_LAG_REQUEUE));
    }
    let mut attempt = memory.attempt_at(now).map(Box::new);
    // While its account's next limit lasts, the Version waits as if it had met that itself: its Secret is polled and its object
    // verified.
    let limited = limited(ctx, version, attempt.as_deref()).and_then(|left| now.checked_add(left).ok());
    if let Some((attempt, until)) = attempt.as_mut().zip(limited) {
        attempt.due = attempt.due.max(until);
    }
    let mut action = decide(version, &ctx.facts(version, attempt.as_deref(), None, progress));
    if let Some(until) = limited
        && matches!(action, NextAction::Publish(_))
    {
        action = NextAction::Wait(until);
    }
    // Also if a verification is due meanwhile: with a short interval, one always is.
    if matches!(action, NextAction::Wait(_) | NextAction::Verify(_) | NextAction::VerifyRecorded)
        && let Some(secret) = awaited_secret(version, attempt.as_deref())
    {
        // Boxed: it may read a Secret.
        if Box::pin(secret_may_work(ctx, version, attempt.as_deref(), secret)).await {
            progress.tries_now.store(true, Relaxed);
            action = decide(version, &ctx.facts(version, attempt.as_deref(), None, progress));
        } else if let NextAction::Wait(due) = action {
            return Err(requeue_at(next_poll(due, now), now));
        }
    }
    let next = action.lane().map(|lane| (lane, action.store(version), attempt));
    next.ok_or_else(|| rest(&action, now))
}

/// When to reconcile again after a decision that needs no permit.
fn rest(action: &NextAction, now: Timestamp) -> Action {
    match action {
        NextAction::Rest(Some(at)) | NextAction::Wait(at) => requeue_at(*at, now),
        NextAction::AwaitModule => Action::requeue(MODULE_REQUEUE),
        _ => Action::await_change(),
    }
}

/// Remembers how the reconcile ended. Returns when to reconcile again.
fn finish(ctx: &Context, version: &VersionState, key: ChangeKey, end: End, since: Instant) -> Action {
    let (now, uid) = (Timestamp::now(), version.uid());
    let label = match &end {
        End::Settled => "settled",
        End::Later | End::Needs(_) | End::AwaitModule | End::Outdated => "later",
        End::Failed(..) => "failed",
        End::Gone => "gone",
    };
    ctx.metrics.reconciled("version", label, since);
    let is_outdated = matches!(end, End::Outdated);
    ctx.memories.with(uid, |memory| {
        if is_outdated {
            memory.interruptions.count(Instant::now());
        } else {
            memory.interruptions = Interruptions::default();
        }
    });
    match end {
        End::Gone => {
            ctx.memories.forget(uid);
            Action::await_change()
        }
        End::Later | End::Needs(_) | End::Outdated => Action::requeue(CONFLICT_REQUEUE),
        End::AwaitModule => Action::requeue(MODULE_REQUEUE),
        End::Settled => {
            ctx.memories.with(uid, |memory| memory.attempt = None);
            // The watch returns the writes of this reconcile, which queue it again.
            let due = ctx.verify_interval.map(|interval| phase(version, interval, now));
            due.map_or_else(Action::await_change, |due| requeue_at(due, now))
        }
        End::Failed(failed) => {
            ctx.metrics.failed("version", failed.reason.as_str());
            let attempt = Attempt { key, ..*failed };
            let next = if attempt.secret.is_some() { next_poll(attempt.due, now) } else { attempt.due };
            // The object is verified meanwhile.
            let next = verify_interval(version, ctx.verify_interval)
                .map_or(next, |interval| next.min(phase(version, interval, now)));
            ctx.memories.with(uid, |memory| memory.attempt = Some(attempt));
            requeue_at(next, now)
        }
    }
}

fn requeue_at(at: Timestamp, now: Timestamp) -> Action {
    Action::requeue(time_between(now, at).max(Duration::from_millis(10)))
}

/// When the Secret of a Version that waits until `due` is polled, or `due` if that is earlier.
fn next_poll(due: Timestamp, now: Timestamp) -> Timestamp {
    due.min(now.checked_add(SECRET_POLL_INTERVAL).unwrap_or(now))
}
