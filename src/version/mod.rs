//! The Version controller: stores one archive of one tag in S3, and keeps it there.
//!
//! It never reads a Module: a Version carries everything that its reconcile needs, except what `controller::owners` knows. The
//! order of a reconcile: [`decide`] (pure) → a permit → [`client`] reads the Version → `decide` again → [`actions`] → an
//! [`effect`], which is the only thing that writes.

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
pub(crate) mod held_back;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod publish;
pub(crate) mod rate_limits;
pub(crate) mod report;
pub(crate) mod retry;
pub(crate) mod scheduler;
pub(crate) mod secret_polls;
pub(crate) mod secret_trials;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod warnings;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use self::actions::Permit;
use self::basis::is_superseded;
pub use self::context::Context;
use self::credentials::{secret_has_changed, secret_was_replaced, suspected_secret};
use self::decide::{Action, Facts, Lane, decide, is_refused_by_secret};
use self::due::phase;
use self::effect::End;
use self::held_back::{held_back, limited};
use self::progress::Progress;
use self::retry::{Attempt, ChangeKey, Restarts};
use crate::api::state::VersionState;
use crate::controller::bulkhead::tenant;
use crate::controller::failure::SECRET_POLL_INTERVAL;
use crate::controller::runner::Latest;
use crate::controller::work_queue::Action as Requeue;
use crate::observe::metrics::Queue;

/// The wait for a cache that is behind this process's own writes.
const CACHE_LAG_REQUEUE: Duration = Duration::from_secs(2);
/// The wait after a conflict.
const CONFLICT_REQUEUE: Duration = Duration::from_secs(1);
/// The wait for a Module, which wakes its Versions once it was reconciled: longer than that should ever take.
const MODULE_REQUEUE: Duration = Duration::from_secs(30);

/// Reconciles one Version. Whatever that waits for, it ends when a change asks for something else: the Version's removal or
/// suspension, a change of Retain, or another spec.
pub async fn reconcile(
    version: Arc<VersionState>,
    latest: Latest<VersionState>,
    ctx: Arc<Context>,
) -> Requeue {
    let progress = Arc::new(Progress::default());
    tokio::select! {
        biased;
        requeue = work(&version, &ctx, &progress) => requeue,
        now = superseded(&version, &latest, &ctx, &progress) => {
            abandon(&ctx, &version, now.as_deref(), &progress)
        }
    }
}

/// Waits until the Version has changed so that its work is superseded, and for the end of a request to S3 that changes
/// something. Returns the Version as it is then.
async fn superseded(
    version: &VersionState,
    latest: &Latest<VersionState>,
    ctx: &Context,
    progress: &Progress,
) -> Option<Arc<VersionState>> {
    loop {
        let Some(now) = latest.next().await else {
            drop(progress.sending().await);
            return None;
        };
        let own = ctx.retries.with(version.uid(), |retry| retry.file_names.clone());
        if is_superseded(version, &now, progress.publishes(), &own) {
            drop(progress.sending().await);
            return Some(now);
        }
    }
}

/// Ends work that was dropped. A request of it may still have been executed: each PUT is recorded before it is sent.
fn abandon(
    ctx: &Context,
    version: &VersionState,
    now: Option<&VersionState>,
    progress: &Progress,
) -> Requeue {
    tracing::debug!("the Version has changed: its work starts again");
    if now.is_some_and(|now| now.uid() == version.uid()) {
        if progress.has_started_publish() {
            ctx.retries.with(version.uid(), |retry| retry.restarts.count(Instant::now()));
        }
        let left = version.metadata.resource_version.clone().zip(Some(Instant::now()));
        ctx.retries.with(version.uid(), |retry| {
            retry.file_names.clear();
            retry.left = retry.left.take().or(left);
        });
    } else {
        ctx.retries.forget(version.uid());
    }
    // The event that ended the work starts the next reconcile.
    Requeue::await_change()
}

/// Waits for a permit, and works with it.
async fn work(version: &Arc<VersionState>, ctx: &Context, progress: &Arc<Progress>) -> Requeue {
    // What waits below keeps the cached Version and this, nothing else: thousands wait.
    let (mut lane, attempt) = match next_lane(ctx, version, progress).await {
        Ok(next) => next,
        Err(requeue) => return requeue,
    };
    loop {
        if lane == Lane::Publish {
            progress.begin_publish();
            if let Some(pause) = held_back(ctx, version, attempt.as_deref()) {
                return Requeue::requeue(pause);
            }
        }
        let permit = permit(ctx, version, lane).await;
        if lane == Lane::Publish {
            // While this one waited, another of the same account may have met the next limit.
            if let Some(pause) = limited(ctx, version, attempt.as_deref()) {
                return Requeue::requeue(pause);
            }
            progress.start_publish();
        }
        // Boxed, and made only with the permit: a future holds all that it awaits, and thousands wait.
        let (key, end, since) = Box::pin(timed(ctx, version, &permit, attempt.as_deref(), progress)).await;
        drop(permit);
        match end {
            End::Needs(next) if next > lane => lane = next,
            end => return finish(ctx, version, key, end, since),
        }
    }
}

/// Waits for a permit of the queue.
async fn permit(ctx: &Context, version: &VersionState, lane: Lane) -> Permit {
    match lane {
        Lane::Api => {
            let permit = ctx.api.acquire(tenant(version.namespace()));
            Permit::Api(ctx.metrics.queued(Queue::LIGHT, permit).await)
        }
        Lane::Light => {
            let store = version.store_key();
            // The namespace's own first: one whose API requests hang delays no other that uses the same store.
            let permits = async {
                let own = ctx.light.shares.acquire(tenant((version.namespace(), store))).await;
                [own, ctx.light.stores.acquire(store).await]
            };
            Permit::Light(ctx.metrics.queued(Queue::LIGHT, permits).await)
        }
        Lane::Publish => {
            let repository = version.repository_key();
            let permit = ctx.scheduler.acquire(&repository, version.store_key());
            Permit::Publish(ctx.metrics.queued(Queue::PUBLISH, permit).await)
        }
    }
}

/// Decides on the cached Version: the queue to wait in, and the failed attempt that is known; or when to reconcile again.
async fn next_lane(
    ctx: &Context,
    version: &VersionState,
    progress: &Progress,
) -> Result<(Lane, Option<Box<Attempt>>), Requeue> {
    let now = Timestamp::now();
    let retry = ctx.retries.with(version.uid(), |retry| retry.clone());
    if retry.is_ahead_of(version.metadata.resource_version.as_deref(), Instant::now()) {
        return Err(Requeue::requeue(CACHE_LAG_REQUEUE));
    }
    let mut attempt = retry.attempt_at(now).map(Box::new);
    let mut action = decide(version, &ctx.facts(version, attempt.as_deref(), None));
    if let (Action::Wait(due), Some(failed)) = (&action, &mut attempt) {
        // Boxed: it may read a Secret.
        if !Box::pin(secret_has_changed(ctx, version, failed)).await {
            return Err(requeue_at((*due).min(next_poll(failed, now).unwrap_or(*due)), now));
        }
        failed.due = now;
        action = decide(version, &ctx.facts(version, attempt.as_deref(), None));
    }
    if let (Action::Wait(due), None) = (&action, &attempt)
        && let Some(secret) = suspected_secret(version)
    {
        let may_try = is_refused_by_secret(version) && ctx.secret_trials.may_try(version.namespace(), secret);
        // Boxed: it may read a Secret.
        if !may_try && !Box::pin(secret_was_replaced(ctx, version, secret)).await {
            let poll = now.checked_add(SECRET_POLL_INTERVAL).unwrap_or(now);
            return Err(requeue_at((*due).min(poll), now));
        }
        progress.try_now();
        action = decide(version, &Facts { tries_now: true, ..ctx.facts(version, None, None) });
    }
    action.lane().map(|lane| (lane, attempt)).ok_or_else(|| rest(&action, now))
}

/// Runs the actions. Returns when they started, too.
async fn timed(
    ctx: &Context,
    version: &VersionState,
    permit: &Permit,
    attempt: Option<&Attempt>,
    progress: &Arc<Progress>,
) -> (ChangeKey, End, Instant) {
    let since = Instant::now();
    let (key, end) = actions::run(ctx, version, permit, attempt, progress).await;
    (key, end, since)
}

/// What follows from an action that needs no permit.
fn rest(action: &Action, now: Timestamp) -> Requeue {
    match action {
        Action::Rest(Some(at)) | Action::Wait(at) => requeue_at(*at, now),
        Action::AwaitModule => Requeue::requeue(MODULE_REQUEUE),
        _ => Requeue::await_change(),
    }
}

/// Remembers how the reconcile ended. Returns when to reconcile again.
fn finish(ctx: &Context, version: &VersionState, key: ChangeKey, end: End, since: Instant) -> Requeue {
    let (now, uid) = (Timestamp::now(), version.uid());
    let label = match &end {
        End::Settled => "settled",
        End::Later | End::Needs(_) | End::AwaitModule | End::Outdated => "later",
        End::Failed(..) => "failed",
        End::Gone => "gone",
    };
    ctx.metrics.reconciled("version", label, since);
    let is_outdated = matches!(end, End::Outdated);
    ctx.retries.with(uid, |retry| {
        retry.file_names.clear();
        if is_outdated { retry.restarts.count(Instant::now()) } else { retry.restarts = Restarts::default() }
    });
    match end {
        End::Gone => {
            ctx.retries.forget(uid);
            Requeue::await_change()
        }
        End::Later | End::Needs(_) | End::Outdated => Requeue::requeue(CONFLICT_REQUEUE),
        End::AwaitModule => Requeue::requeue(MODULE_REQUEUE),
        End::Settled => {
            ctx.retries.with(uid, |retry| retry.attempt = None);
            // The writes of this reconcile come back through the watch, and are checked again.
            let due = ctx.verify_interval.map(|interval| phase(version, interval, now));
            due.map_or_else(Requeue::await_change, |due| requeue_at(due, now))
        }
        End::Failed(failed) => {
            ctx.metrics.failed("version", failed.reason.as_str());
            let attempt = Attempt { key, ..*failed };
            let next = next_poll(&attempt, now).map_or(attempt.due, |poll| poll.min(attempt.due));
            ctx.retries.with(uid, |retry| retry.attempt = Some(attempt));
            requeue_at(next, now)
        }
    }
}

fn requeue_at(at: Timestamp, now: Timestamp) -> Requeue {
    let pause = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Requeue::requeue(pause.max(Duration::from_millis(10)))
}

/// When the Secret that stalls a Version is polled next, if one does.
fn next_poll(attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
    attempt.secret.as_ref().map(|_| now.checked_add(SECRET_POLL_INTERVAL).unwrap_or(now))
}
