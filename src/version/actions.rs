//! The actions of a Version's reconcile: each does one thing that [`decide`](super::decide) has decided, and returns its effect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::client::VersionClient;
use super::context::Context;
use super::decide::{Action, Facts, Lane, Seen, decide};
use super::delete;
use super::effect::{Effect, End, Event};
use super::existing::other_format;
use super::failed::{failed, unreported, unwritten};
use super::outcome::{Ended, NotPublished};
use super::progress::Progress;
use super::publish::publish;
use super::rate_limits;
use super::report;
use super::retry::{Attempt, ChangeKey};
use super::scheduler::StagingPermit;
use crate::api::state::{StoredLocation, VersionState};
use crate::api::target::{Requests, Target, left_behind};
use crate::controller::bulkhead::BulkheadPermit;
use crate::controller::failure::{Class, Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::storage::Found;

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
    let touched = ctx.retries.with(cached.uid(), |retry| retry.left.is_some());
    let mut client = match VersionClient::read(&ctx.client, cached, touched, progress).await {
        Ok(Some(client)) => client,
        Ok(None) => return (ChangeKey::of(cached), End::Gone),
        Err(error) => return (ChangeKey::of(cached), unwritten(ctx, cached, &error, false)),
    };
    // Later changes are not part of this attempt, though its own writes are.
    let key = ChangeKey::of(client.version());
    let end = act(ctx, cached, &mut client, permit, attempt).await;
    // Also after an error: a write may still have been executed.
    let left = client.version().metadata.resource_version.clone().zip(Some(Instant::now()));
    ctx.retries.with(cached.uid(), |retry| retry.left = left);
    // A generation that another client has made is not part of it either.
    let is_own = !client.has_newer_generation();
    let key = if is_own { key.at_generation(client.version().metadata.generation) } else { key };
    (key, end)
}

async fn act(
    ctx: &Context,
    cached: &VersionState,
    client: &mut VersionClient,
    permit: &Permit,
    attempt: Option<&Attempt>,
) -> End {
    let mut seen = None;
    for _ in 0..MAX_ACTIONS {
        let tries_now = client.progress().tries_now();
        let facts = Facts { tries_now, ..ctx.facts(client.version(), attempt, seen) };
        let action = decide(client.version(), &facts);
        if let Some(lane) = action.lane().filter(|lane| *lane > permit.lane()) {
            return End::Needs(lane);
        }
        let effect = match act_once(ctx, cached, client, action, &facts, permit, &mut seen).await {
            Ok(effect) => effect,
            Err(error) => return unwritten(ctx, cached, &error, false),
        };
        let (pause, fetched) = (effect.content_pause(), effect.fetched);
        match effect.apply(client, &ctx.events).await {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            Err(error) => return unwritten(ctx, cached, &error, fetched).no_sooner_than(pause),
        }
    }
    let message = "The Version does not settle: this is a defect of the operator.";
    unreported(ctx, cached, Failure::retry(Reason::InternalError, message), false)
}

async fn act_once(
    ctx: &Context,
    cached: &VersionState,
    client: &mut VersionClient,
    action: Action,
    facts: &Facts<'_>,
    permit: &Permit,
    seen: &mut Option<Seen>,
) -> Result<Effect, kube::Error> {
    let now = facts.now;
    let effect = match action {
        Action::Ignore | Action::Rest(_) => Effect::end(End::Settled),
        // The cache was behind: what looked like a change is what the failed attempt itself wrote.
        Action::Wait(_) => Effect::end(End::Later),
        Action::AwaitModule => Effect::end(End::AwaitModule),
        Action::AddFinalizer => Effect { finalizer: Some(true), ..Effect::default() },
        Action::Delete => delete_all(ctx, client).await?,
        Action::Release => released(true),
        Action::Suspend => Effect::status(client.current().suspended(suspended_by(client.version()), now))
            .ending(End::Settled),
        Action::Reject(failure) => failed(ctx, client, &Requests::of(client.version()), failure.into()),
        Action::ResetForce => Effect { reset_force: true, ..Effect::default() },
        Action::Publish(target) => match permit {
            Permit::Publish(permit) => publish_target(ctx, cached, client, &target, permit, seen).await,
            _ => Effect::end(End::Needs(Lane::Publish)),
        },
        Action::Verify(target) => verify(ctx, client, &target, seen).await,
        Action::CleanUp(target) => clean_up(ctx, client, &target, facts.fate).await?,
        Action::Record(target) => report::recorded(client, &target, now),
    };
    Ok(effect)
}

fn suspended_by(version: &VersionState) -> &'static str {
    if version.suspend { "spec.suspend" } else { "its Module" }
}

async fn publish_target(
    ctx: &Context,
    cached: &VersionState,
    client: &mut VersionClient,
    target: &Target,
    permit: &StagingPermit,
    seen: &mut Option<Seen>,
) -> Effect {
    let before = client.version().clone();
    match Box::pin(publish(ctx, client, target, permit)).await {
        Ok(outcome) => {
            mark_seen(ctx, &before, seen, false);
            remember_location(ctx, &before, &outcome.published.place);
            report::published(ctx, client, &before, target, &outcome)
        }
        Err(Ended::Outdated) => Effect::end(End::Outdated),
        // An API server that has just refused a request, or failed, is not asked to store that.
        Err(Ended::Failed(not))
            if matches!(not.failure.reason, Reason::ApiUnavailable | Reason::VersionRefused) =>
        {
            Effect::end(unreported(ctx, cached, not.failure, not.fetched))
        }
        Err(Ended::Failed(not)) => {
            let account = limited_account(ctx, client.version(), target, &not.failure);
            let effect = failed(ctx, client, &target.requests, not);
            match effect.end {
                Some(End::Failed(attempt)) => {
                    let end = End::Failed(Box::new(Attempt { account, ..*attempt }));
                    Effect { end: Some(end), ..effect }
                }
                _ => effect,
            }
        }
    }
}

/// Remembers where the object was until now: an object there without metadata is still this Version's.
fn remember_location(ctx: &Context, before: &VersionState, now: &ObjectLocation) {
    let stored = before.status.storage.as_ref().map(StoredLocation::location);
    if let Some(stored) = stored.filter(|stored| !stored.is_same_location(now)) {
        ctx.retries.with(before.uid(), |retry| retry.stored_before = Some(Box::new(stored)));
    }
}

/// Records a limit of GitHub that an attempt has met. Returns the account that it applies to.
fn limited_account(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
    failure: &Failure,
) -> Option<rate_limits::Account> {
    let Class::Wait(until) = failure.class else { return None };
    let account = (failure.reason == Reason::RateLimited).then(|| rate_limits::account(version, target))?;
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    ctx.rate_limits.met(account, left, Instant::now());
    Some(account)
}

/// Checks whether the object is still as recorded. If it is, nothing is written.
async fn verify(ctx: &Context, client: &VersionClient, target: &Target, seen: &mut Option<Seen>) -> Effect {
    let version = client.version();
    let found = match permitted_head(ctx, version, target).await {
        Ok(found) => found,
        Err(failure) => return failed(ctx, client, &target.requests, failure.into()).during("Verify"),
    };
    let checksum = version.status.checksum.as_deref().unwrap_or_default();
    let size = u64::try_from(version.status.archive_size_bytes.unwrap_or_default()).unwrap_or_default();
    let what = match &found {
        Some(found) if found.is_intact(checksum, size) => {
            mark_seen(ctx, version, seen, other_format(target, found));
            return Effect::default();
        }
        Some(_) => "The stored object was changed",
        None => "The stored object is missing",
    };
    let message = format!("{what}: {} is being restored.", target.location);
    tracing::warn!(message, "restoring");
    let restoring = client.current().restoring(&message, Timestamp::now());
    Effect::status(restoring).with_event(Event::warning(Reason::Restoring.as_str(), "Verify", message))
}

fn mark_seen(ctx: &Context, version: &VersionState, seen: &mut Option<Seen>, other_format: bool) {
    *seen = Some(Seen { other_format });
    if !other_format {
        ctx.retries.with(version.uid(), |retry| retry.verified = Some(Instant::now()));
    }
}

async fn permitted_head(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
) -> Result<Option<Found>, Failure> {
    ctx.rules.check(version.namespace(), &target.location)?;
    ctx.head(&target.location).await
}

/// Deletes or retains the objects that a move left behind; either way they are no longer recorded.
async fn clean_up(
    ctx: &Context,
    client: &mut VersionClient,
    target: &Target,
    fate: Fate,
) -> Result<Effect, kube::Error> {
    let left = left_behind(client.version(), &target.location);
    let (done, result) = match fate {
        Fate::Undecided => return Ok(Effect::end(End::AwaitModule)),
        Fate::Delete => delete::objects(ctx, client, &left).await,
        Fate::Keep => (left, Ok(())),
    };
    match result {
        Ok(()) => Ok(report::cleaned_up(client, Timestamp::now())),
        Err(Ended::Outdated) => Ok(Effect::end(End::Outdated)),
        Err(Ended::Failed(NotPublished { failure, .. })) => {
            client.write_status(&client.current().struck(&done)).await?;
            let message = format!(
                "Stored, but the object that the move left behind is still there: {}",
                failure.message
            );
            let failure = Failure { reason: Reason::OldObjectKept, message, ..failure };
            Ok(failed(ctx, client, &target.requests, failure.into()).during("Delete"))
        }
    }
}

/// Deletes all objects of a terminating Version, then removes our finalizer.
async fn delete_all(ctx: &Context, client: &mut VersionClient) -> Result<Effect, kube::Error> {
    let places = delete::all_places(client.version());
    let (done, result) = delete::objects(ctx, client, &places).await;
    let failure = match result {
        Ok(()) => return Ok(released(false)),
        Err(Ended::Outdated) => return Ok(Effect::end(End::Outdated)),
        Err(Ended::Failed(NotPublished { failure, .. })) => failure,
    };
    if !done.is_empty() {
        client.write_status(&client.current().struck(&done)).await?;
    }
    let message = format!(
        "{} The Version stays until the object is deleted; deletionPolicy: Retain lets it go at once.",
        failure.message
    );
    let failure = Failure { message, ..failure };
    Ok(failed(ctx, client, &Requests::default(), failure.into()).during("Delete"))
}

/// Removes our finalizer, the last step of a deletion.
fn released(retained: bool) -> Effect {
    tracing::info!(retained, "deleted");
    Effect { finalizer: Some(false), end: Some(End::Gone), ..Effect::default() }
}
