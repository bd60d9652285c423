//! The Version controller: makes one object in S3 out of one tag on GitHub, and keeps it.
//!
//! In: Versions, as the watch tells of them. Out: objects, statuses, Events. It never reads a Module: a Version carries
//! all that is needed. The order of things: [`plan`] decides (pure), [`publish`] and [`delete`] do, [`record`] says what
//! the status is (pure), and this file is the table of contents.

pub mod basis;
pub mod content;
pub mod context;
pub mod delete;
pub mod fetch;
pub mod limits;
pub mod memory;
pub mod notes;
pub mod object;
pub mod plan;
pub mod publish;
pub mod record;
pub mod secret_looks;
pub mod shares;
pub mod slots;
pub mod steps;
pub mod store;

pub mod triage;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;

pub use self::context::Context;
use self::steps::{Done, Failed};
use self::triage::{Attempt, Seen, Times, Triage};
use crate::api::state::VersionState;
use crate::controller::failure::{Class, Failure, HOURLY, Reason, SECRET_POLL_INTERVAL};
use crate::controller::owners::Fate;
use crate::observe::metrics::Queue;

/// How long to wait at most for a watch that is behind.
const BEHIND: Duration = Duration::from_secs(2);

/// How long to wait for a Module, which wakes its Versions when it was reconciled: longer than that should ever take.
const MODULE_FIRST: Duration = Duration::from_secs(30);

type SecretSeen = Option<(String, Option<String>)>;

/// Brings one Version closer to what it says.
pub async fn reconcile(version: Arc<VersionState>, ctx: Arc<Context>) -> Action {
    let uid = version.metadata.uid.clone().unwrap_or_default();
    let now = Timestamp::now();
    let mut memory = ctx.memories.with(&uid, |memory| memory.clone());
    if memory.is_ahead_of(version.metadata.resource_version.as_deref(), Instant::now()) {
        // The watch is behind what the last reconcile wrote; it will tell of that in a moment.
        return Action::requeue(BEHIND);
    }
    if let Some(attempt) = &mut memory.attempt {
        let left = attempt.ends.saturating_duration_since(Instant::now());
        attempt.due = now.checked_add(left).unwrap_or(now);
    }
    let verified = memory.verified.and_then(|at| now.checked_sub(at.elapsed()).ok());
    let times = Times { now, leading_since: ctx.leading_since, verified };
    let decision = triage::triage(&version, memory.attempt.as_ref(), ctx.verify_interval, times);
    let mut failed = memory.attempt.as_ref();
    match decision {
        Triage::Ignore | Triage::Settled(None) => return Action::await_change(),
        Triage::Settled(Some(at)) => return requeue_at(at, now),
        Triage::Waiting(due) => {
            // Boxed like the work below: it may ask for a Secret.
            if let Some(action) = Box::pin(wait(&ctx, &version, failed, due, now)).await {
                return action;
            }
            failed = None;
        }
        Triage::Light | Triage::Publish => {}
    }
    if module_first(&ctx, &version) {
        return Action::requeue(MODULE_FIRST);
    }
    if decision == Triage::Light {
        let permit = ctx.metrics.queued(Queue::LIGHT, ctx.light.turn(version.store)).await;
        let since = Instant::now();
        // Boxed, and made only now: a future holds all that it awaits, so a Version that waits would hold the work, too.
        let outcome = Box::pin(steps::work(&ctx, &version, None, failed)).await;
        drop(permit);
        // Small work that turns out to be a fetch goes on here: what the watch knows may never call it one.
        if !matches!(outcome.1, Done::Later) {
            return finish(&ctx, &version, &uid, outcome, since);
        }
    }
    if let Some(at) = throttled(&ctx, &version, &uid, now).or_else(|| limited(&ctx, &version, failed)) {
        return requeue_at(at, now);
    }
    let turn =
        ctx.metrics.queued(Queue::PUBLISH, ctx.slots.turn(&triage::lane(&version), version.store)).await;
    // While this one waited, another of the same credential may have met the next limit.
    if let Some(at) = limited(&ctx, &version, failed) {
        return requeue_at(at, Timestamp::now());
    }
    let since = Instant::now();
    let outcome = Box::pin(steps::work(&ctx, &version, Some(&turn), failed)).await;
    finish(&ctx, &version, &uid, outcome, since)
}

/// Whether the Module has to be reconciled before there is anything to do: the one of a Version that is being deleted, or
/// of one that does not know what its content has to be.
fn module_first(ctx: &Context, version: &VersionState) -> bool {
    let (metadata, owners) = (&version.metadata, &ctx.owners);
    if version.terminating() {
        return owners.fate(metadata, version.retain, true) == Fate::Undecided;
    }
    let suspended = version.suspend || version.module_suspended;
    let unknown = !version.knows_digest() && !suspended && version.has_finalizer();
    unknown && owners.withholds(metadata, &version.version, version.immutable)
}

/// Remembers how it ended, and says when to look again.
fn finish(
    ctx: &Context,
    version: &VersionState,
    uid: &str,
    outcome: (Option<Seen>, Done),
    since: Instant,
) -> Action {
    let now = Timestamp::now();
    let (seen, done) = outcome;
    let label = match &done {
        Done::Settled => "settled",
        Done::Later | Done::ModuleFirst | Done::Outdated => "later",
        Done::Failed(..) => "failed",
        Done::Gone => "gone",
    };
    ctx.metrics.reconciled("version", label, since);
    match done {
        Done::Gone => {
            ctx.memories.forget(uid);
            Action::await_change()
        }
        Done::Later | Done::Outdated => Action::requeue(Duration::from_secs(1)),
        Done::ModuleFirst => Action::requeue(MODULE_FIRST),
        Done::Settled => {
            ctx.memories.with(uid, |memory| memory.attempt = None);
            // What this reconcile wrote comes back through the watch, and is looked at again.
            let due = ctx.verify_interval.map(|interval| triage::next_verification(version, interval, now));
            due.map_or_else(Action::await_change, |due| requeue_at(due, now))
        }
        Done::Failed(failed) => {
            let Failed { failure, secret, account, failures, since, due, download } = *failed;
            ctx.metrics.failed("version", failure.reason.as_str());
            let seen = seen.unwrap_or_else(|| Seen::of(&version.metadata));
            let pause = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            let at = Instant::now();
            let ends = at.checked_add(pause).unwrap_or(at);
            let reason = failure.reason;
            let attempt = Attempt { failures, reason, since, at, ends, due, seen, secret, download, account };
            ctx.memories.with(uid, |memory| memory.attempt = Some(attempt));
            tracing::debug!(reason = %failure.reason, %due, message = failure.message, "the attempt failed");
            requeue_at(due.min(next_look(ctx, uid, now).unwrap_or(due)), now)
        }
    }
}

fn next_look(ctx: &Context, uid: &str, now: Timestamp) -> Option<Timestamp> {
    let stalled_by_secret =
        ctx.memories.with(uid, |m| m.attempt.as_ref().is_some_and(|a| a.secret.is_some()));
    stalled_by_secret.then(|| now.checked_add(SECRET_POLL_INTERVAL).unwrap_or(now))
}

fn requeue_at(at: Timestamp, now: Timestamp) -> Action {
    Action::requeue(
        Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(10)),
    )
}

/// A failed attempt waits. One that a Secret stalls looks at that Secret each minute, and goes on when it changed.
async fn wait(
    ctx: &Context,
    version: &VersionState,
    attempt: Option<&Attempt>,
    due: Timestamp,
    now: Timestamp,
) -> Option<Action> {
    let Some((name, seen)) = attempt.and_then(|a| a.secret.as_ref()) else {
        return Some(requeue_at(due, now));
    };
    let namespace = version.metadata.namespace.clone().unwrap_or_default();
    let current = ctx.secret_version(&namespace, name).await;
    if current.is_some_and(|current| current != *seen) {
        return None;
    }
    Some(requeue_at(due.min(now.checked_add(SECRET_POLL_INTERVAL).unwrap_or(due)), now))
}

/// One whose last attempt met GitHub's limit, and of which nothing has changed since, makes no other attempt while its
/// credential is limited still. Hourly it does, so that its status names the limit of the day.
fn limited(ctx: &Context, version: &VersionState, attempt: Option<&Attempt>) -> Option<Timestamp> {
    let now = Timestamp::now();
    let attempt = attempt.filter(|a| a.seen == Seen::of(&version.metadata))?;
    let recent = attempt.at.elapsed() < HOURLY;
    let until = ctx.github_limits.until(attempt.account?, now).filter(|_| recent)?;
    let failure = Failure { class: Class::Wait(until), ..Failure::retry(Reason::RateLimited, "") };
    now.checked_add(failure.delay(1, Duration::ZERO, rand::random(), now)).ok()
}

/// A loop of forced syncs is slowed down; nothing is dropped.
fn throttled(ctx: &Context, version: &VersionState, uid: &str, now: Timestamp) -> Option<Timestamp> {
    let id = triage::forced(version)?;
    let pause = ctx.memories.with(uid, |memory| memory.forces.admit(&id, Instant::now())).err()?;
    now.checked_add(pause).ok()
}
