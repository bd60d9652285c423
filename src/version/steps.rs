//! The steps of one reconcile of a Version: each does what [`super::plan::next`] says and writes what came of it.
//!
//! In: the Version that the watch told of, and the right to fetch, if it has that. Out: how it ended. Between two steps
//! the Version is what the API server answered to the last write, never what the watch remembers.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;
use serde_json::json;

use super::context::{Context, api_failure};
use super::object::Object;
use super::plan::{self, Next, Requests, VersionView, Work};
use super::publish::{self, Ended, NotPublished, Note, Outcome};
use super::slots::Turn;
use super::triage::{Attempt, Seen};
use super::{SecretSeen, delete, limits, store};
use crate::api::state::VersionState;
use crate::api::{VersionStatus, condition};
use crate::controller::client;
use crate::controller::failure::{Class, Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::storage::Found;

/// Steps of one reconcile before it starts over from the watch; more than any Version needs.
const MOST_STEPS: usize = 8;

/// What a reconcile knows of the stored object.
struct Look {
    /// It is to be looked at, though nothing else asks for that.
    wanted: bool,
    /// It was seen in the bucket, as it is recorded.
    seen: bool,
    /// It was seen, and is an archive of another format than is wanted now.
    other_format: bool,
}

/// How a reconcile ended.
pub(super) enum Done {
    /// All is as wanted.
    Settled,
    /// There is more to do, which has to wait for its turn.
    Later,
    /// Its Module has to be reconciled first, which wakes it.
    ModuleFirst,
    /// The object has changed since it was read: it is to be read again. That is no failure.
    Outdated,
    /// The attempt failed.
    Failed(Box<Failed>),
    /// The object is gone, or not ours.
    Gone,
}

impl Done {
    fn failed(failed: Failed) -> Self {
        Self::Failed(Box::new(failed))
    }
}

/// A failed attempt.
pub(super) struct Failed {
    pub failure: Failure,
    pub secret: SecretSeen,
    /// In whose name it fetched, where GitHub asks that account to wait.
    pub account: Option<limits::Account>,
    /// How many failed in a row, this one counted.
    pub failures: u32,
    /// Since when they fail for this reason.
    pub since: Timestamp,
    /// When the next one is due.
    pub due: Timestamp,
    /// SHA-256 of the last download that was corrupt.
    pub download: Option<[u8; 32]>,
}

impl Failed {
    fn new(ctx: &Context, view: Option<&VersionView>, uid: &str, failure: Failure) -> Self {
        let now = Timestamp::now();
        let before = ctx.memories.with(uid, |memory| memory.attempt.clone());
        let failures = before.as_ref().map_or(0, |a| a.failures).saturating_add(1);
        let download = before.as_ref().and_then(|a| a.download);
        let since = match (before, view) {
            (Some(before), _) => (before.reason == failure.reason).then_some(before.since),
            (None, Some(view)) => failing_since(view, &failure),
            (None, None) => None,
        };
        let since = since.unwrap_or(now);
        let failing_for = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let delay = failure.delay(failures, failing_for, rand::random(), now);
        let due = now.checked_add(delay).unwrap_or(Timestamp::MAX);
        Self { failure, secret: None, account: None, failures, since, due, download }
    }
}

/// The steps of one reconcile, one after another until nothing is left or something fails.
pub(super) async fn work(
    ctx: &Context,
    lean: &VersionState,
    turn: Option<&Turn>,
    failed: Option<&Attempt>,
) -> (Option<Seen>, Done) {
    let uid = lean.metadata.uid.as_deref().unwrap_or_default();
    let touched = ctx.memories.with(uid, |memory| memory.left.is_some());
    let mut object = match Object::read(&ctx.client, lean, touched).await {
        Ok(Some(object)) => object,
        Ok(None) => return (None, Done::Gone),
        Err(error) => return (None, unwritten(ctx, lean, &error)),
    };
    // What comes while the attempt is under way is no part of it, though its own writes are.
    let seen = Seen::of(&object.view().metadata);
    // The watch may be behind: what looked like a change may be what the failed attempt itself wrote.
    if failed.is_some_and(|a| a.due > Timestamp::now() && a.seen == Seen::of(&object.view().metadata)) {
        return (None, Done::Later);
    }
    let mut look = Look { wanted: turn.is_none(), seen: false, other_format: false };
    let mut done = None;
    for _ in 0..MOST_STEPS {
        match step(ctx, lean, &mut object, turn, &mut look).await {
            Ok(None) => {}
            ended => {
                done = ended.unwrap_or_else(|error| Some(unwritten(ctx, lean, &error)));
                break;
            }
        }
    }
    let done = done.unwrap_or_else(|| {
        let words = "The Version does not settle: this is a defect of the operator.";
        unsaid(ctx, lean, Failure::retry(Reason::InternalError, words))
    });
    // Also after an error: what was written may have arrived all the same.
    let left = object.view().metadata.resource_version.clone().zip(Some(Instant::now()));
    ctx.memories.with(uid, |memory| memory.left = left);
    (Some(seen.at_generation(object.view().metadata.generation)), done)
}

/// How a reconcile ends whose request to the API server failed.
fn unwritten(ctx: &Context, lean: &VersionState, error: &kube::Error) -> Done {
    if client::is_outdated(error) { Done::Outdated } else { unsaid(ctx, lean, api_failure(error)) }
}

/// A failure that the status does not say. Where its reason is new for this Version the log says it, and so does an
/// Event, if the API server takes that.
fn unsaid(ctx: &Context, lean: &VersionState, failure: Failure) -> Done {
    let uid = lean.metadata.uid.as_deref().unwrap_or_default();
    if last_reason(ctx, uid) != Some(failure.reason) {
        tracing::warn!(reason = %failure.reason, message = failure.message, "not finished; trying again");
        let reference = ObjectReference { resource_version: None, ..lean.object_ref(&()) };
        ctx.events.warning(&reference, failure.reason.as_str(), "Reconcile", &failure.message);
    }
    Done::failed(Failed::new(ctx, None, uid, failure))
}

/// Why the last attempt failed, if it did.
fn last_reason(ctx: &Context, uid: &str) -> Option<Reason> {
    ctx.memories.with(uid, |memory| memory.attempt.as_ref().map(|attempt| attempt.reason))
}

/// One step. `None`: there may be another.
async fn step(
    ctx: &Context,
    lean: &VersionState,
    object: &mut Object,
    turn: Option<&Turn>,
    look: &mut Look,
) -> Result<Option<Done>, kube::Error> {
    let now = Timestamp::now();
    let view = object.view().clone();
    match plan::next(&view, look.wanted) {
        Next::Nothing => Ok(Some(Done::Settled)),
        Next::AddFinalizer => object.add_finalizer().await.map(|()| None),
        Next::Delete => delete_all(ctx, object).await.map(Some),
        Next::Suspend => {
            let by = if view.spec.as_ref().is_ok_and(|s| s.suspend) { "spec.suspend" } else { "its Module" };
            object.write_status(&view.suspended(by, now)).await?;
            Ok(Some(Done::Settled))
        }
        Next::Reject(failure) => {
            fail(ctx, object, &view.requests(), failure.into()).await.map(Done::failed).map(Some)
        }
        Next::ResetForce => {
            object.patch(json!({"spec": {"forceSync": false}})).await?;
            // What a move left behind is deleted next, and the write that says so speaks of this generation too.
            if !matches!(plan::next(object.view(), false), Next::CleanUp(_)) {
                object.write_status(&object.view().observed()).await?;
            }
            Ok(None)
        }
        // Small work turned out to be a fetch, which has to wait for its turn.
        // What its content has to be is known to its Module only, which is about to hand it over.
        Next::Publish(_) if ctx.awaits_digest(&view) => Ok(Some(Done::ModuleFirst)),
        Next::Publish(work) => publish_in_turn(ctx, lean, object, &work, turn, look).await,
        Next::Verify(work) | Next::CleanUp(work) | Next::Record(work) if look.other_format => {
            publish_in_turn(ctx, lean, object, &work, turn, look).await
        }
        Next::Verify(work) => look_again(ctx, object, &work, turn, look).await,
        // A copy is not deleted before the object that takes its place was seen.
        Next::CleanUp(work) if !look.seen => look_again(ctx, object, &work, turn, look).await,
        Next::CleanUp(work) => clean_up(ctx, object, &work).await,
        // A key that ends in no format is the same for both: only the object shows which one it is.
        Next::Record(work) if !look.seen && !work.module.file_format.is_extension_of(&work.place.key) => {
            look_again(ctx, object, &work, turn, look).await
        }
        Next::Record(_) => settle(ctx, object, &view.settled(now)).await.map(|()| None),
    }
}

/// Publishes; without a turn, which a fetch has to wait for, that is put off.
async fn publish_in_turn(
    ctx: &Context,
    lean: &VersionState,
    object: &mut Object,
    work: &Work<'_>,
    turn: Option<&Turn>,
    look: &mut Look,
) -> Result<Option<Done>, kube::Error> {
    match turn {
        Some(turn) => publish_one(ctx, lean, object, work, turn, look).await,
        None => Ok(Some(Done::Later)),
    }
}

async fn publish_one(
    ctx: &Context,
    lean: &VersionState,
    object: &mut Object,
    work: &Work<'_>,
    turn: &Turn,
    look: &mut Look,
) -> Result<Option<Done>, kube::Error> {
    let before = object.view().clone();
    match publish::publish(ctx, object, work, turn).await {
        Ok(outcome) => {
            let status = object.view().published(&outcome.published, &work.requests, Timestamp::now());
            object.write_status(&status).await?;
            seen_in_the_bucket(ctx, object, look);
            tell(ctx, object, &before, &outcome);
            Ok(None)
        }
        Err(Ended::Outdated) => Ok(Some(Done::Outdated)),
        // An API server that has just refused a request, or failed, is not asked to write that down.
        Err(Ended::Failed(not))
            if matches!(not.failure.reason, Reason::ApiUnavailable | Reason::VersionRefused) =>
        {
            Ok(Some(unsaid(ctx, lean, not.failure)))
        }
        Err(Ended::Failed(not)) => {
            let account = limited(ctx, object.view(), work, &not.failure);
            let failed = fail(ctx, object, &work.requests, not).await?;
            Ok(Some(Done::failed(Failed { account, ..failed })))
        }
    }
}

/// Remembers a limit of GitHub's that an attempt has met.
fn limited(ctx: &Context, view: &VersionView, work: &Work<'_>, failure: &Failure) -> Option<limits::Account> {
    let Class::Wait(until) = failure.class else { return None };
    let account = (failure.reason == Reason::RateLimited).then(|| limits::account(view, work))?;
    ctx.github_limits.met(account, until, Timestamp::now());
    Some(account)
}

/// Says so in the status, and in an Event where the reason is new.
async fn fail(
    ctx: &Context,
    object: &mut Object,
    requests: &Requests,
    not: NotPublished,
) -> Result<Failed, kube::Error> {
    let NotPublished { failure, lost, secret, download } = not;
    let download = download.map(|sha256| *sha256);
    let before = condition::find(&object.view().status.conditions, "Ready").map(|c| c.reason.clone());
    let uid = object.view().metadata.uid.clone().unwrap_or_default();
    let corrupt = ctx.memories.with(&uid, |memory| memory.attempt.as_ref().and_then(|a| a.download));
    let stalled = condition::find(&object.view().status.conditions, "Stalled")
        .is_some_and(|c| c.status == "True" && c.reason == Reason::ArchiveCorrupt.as_str());
    let failure = failure.of_download(download, corrupt, stalled);
    let mut failed = Failed::new(ctx, Some(object.view()), &uid, failure);
    failed.download = download.or(corrupt);
    let (failure, now) = (&failed.failure, Timestamp::now());
    let told = Failure { message: failure.message_with_retry(failed.due, now), ..failure.clone() };
    if let Err(error) = object.write_status(&object.view().failed(&told, requests, lost, now)).await {
        // The refusal of the write has its own line; without this one nothing would say what it was to write.
        if !client::is_outdated(&error) && last_reason(ctx, &uid) != Some(api_failure(&error).reason) {
            tracing::warn!(reason = %failure.reason, message = failure.message, "not said in the status");
        }
        return Err(error);
    }
    if before.as_deref() != Some(failure.reason.as_str()) {
        if failure.reason == Reason::TokenNotReady {
            // This is usual with new tokens, and passes within a minute: no warning.
            ctx.events.normal(&object.reference(), failure.reason.as_str(), "Publish", &failure.message);
        } else {
            ctx.events.warning(&object.reference(), failure.reason.as_str(), "Publish", &failure.message);
        }
        tracing::warn!(reason = %failure.reason, message = failure.message, "not published");
    }
    if requests.force_sync {
        reset_force(object).await?;
    }
    failed.secret =
        secret.filter(|_| failure.class == Class::Stalled && failure.reason.may_be_about_secret());
    Ok(failed)
}

/// Since when this failure has been there, as far as the status knows: the time of a condition moves with its status, not
/// with the reason. That is good enough after a restart, when nothing else is known.
fn failing_since(view: &VersionView, failure: &Failure) -> Option<Timestamp> {
    let type_ = if failure.class == Class::Stalled { "Stalled" } else { "Ready" };
    let condition = condition::find(&view.status.conditions, type_)?;
    (condition.reason == failure.reason.as_str()).then_some(condition.last_transition_time.0)
}

/// Sets `spec.forceSync` back, whose outcome is in the status, and lets the status speak of the generation that this makes.
async fn reset_force(object: &mut Object) -> Result<(), kube::Error> {
    object.patch(json!({"spec": {"forceSync": false}})).await?;
    let after = object.view().observed();
    object.write_status(&after).await
}

fn tell(ctx: &Context, object: &Object, before: &VersionView, outcome: &Outcome) {
    let reference = object.reference();
    let status = &object.view().status;
    if outcome.published.stored_now || before.status.synced != Some(true) || has_failed(before) {
        let how = if outcome.published.stored_now { "Stored" } else { "Found" };
        let note = format!(
            "{how} {}, {} bytes, SHA-256 {}, {}",
            status.storage.as_ref().map(|p| format!("s3://{}/{}", p.bucket, p.key)).unwrap_or_default(),
            status.archive_size_bytes.unwrap_or_default(),
            status.checksum.as_deref().unwrap_or_default(),
            status
                .source
                .as_ref()
                .map(|s| format!("from {} {}", s.url, s.commit.as_deref().unwrap_or(&s.ref_)))
                .unwrap_or_default(),
        );
        ctx.events.normal(&reference, Reason::Synced.as_str(), "Publish", &note);
        tracing::info!(note, "published");
    }
    for note in &outcome.notes {
        match note {
            Note::Archive(remark) => {
                ctx.events.warning(&reference, remark.reason.as_str(), "Publish", &remark.text);
            }
            Note::ContentReplaced(note) => {
                ctx.events.warning(&reference, Reason::ContentReplaced.as_str(), "Publish", note);
            }
            Note::RepositoryMoved(from, to) => report_move(ctx, object, from, to),
        }
    }
}

/// Once for each repository of a namespace, and not for each of its versions.
fn report_move(ctx: &Context, object: &Object, from: &str, to: &str) {
    let namespace = object.view().namespace();
    if ctx.moves.is_new(namespace, from, to) {
        let note = format!(
            "The repository {from} has moved to {to}; change repoUrl. GitHub redirects the old name only until \
             another owner takes it, whose content would then be published."
        );
        ctx.events.warning(&object.reference(), "RepositoryMoved", "Publish", &note);
    }
}

/// Looks whether the object is still as recorded. A clean look writes nothing.
async fn look_again(
    ctx: &Context,
    object: &mut Object,
    work: &Work<'_>,
    turn: Option<&Turn>,
    look: &mut Look,
) -> Result<Option<Done>, kube::Error> {
    let view = object.view().clone();
    let found = match permitted_head(ctx, &view, &work.place).await {
        Ok(found) => found,
        Err(failure) => {
            return fail(ctx, object, &work.requests, failure.into()).await.map(Done::failed).map(Some);
        }
    };
    let checksum = view.status.checksum.as_deref().unwrap_or_default();
    let size = u64::try_from(view.status.archive_size_bytes.unwrap_or_default()).unwrap_or_default();
    let what = match &found {
        Some(found) if store::intact(found, checksum, size) => {
            if store::other_format(work, found) {
                look.other_format = true;
                return Ok(None);
            }
            seen_in_the_bucket(ctx, object, look);
            // What a move left behind is cleaned up first, and has words of its own.
            if !view.left_behind(&work.place).is_empty() {
                return Ok(None);
            }
            let now = Timestamp::now();
            if view.status.storage.as_ref() != Some(&work.place) {
                settle(ctx, object, &view.spelled_anew(&work.place, now)).await?;
            } else if condition::find(&view.status.conditions, "Ready").is_none_or(|c| c.status != "True") {
                // Only where the look before failed there is something to say.
                settle(ctx, object, &view.settled(now)).await?;
            }
            return Ok(None);
        }
        Some(_) => "The stored object was changed",
        None => "The stored object is missing",
    };
    let message = format!("{what}: s3://{}/{} is being restored.", work.place.bucket, work.place.key);
    ctx.events.warning(&object.reference(), Reason::Restoring.as_str(), "Verify", &message);
    tracing::warn!(message, "restoring");
    object.write_status(&view.restoring(&message, Timestamp::now())).await?;
    Ok(turn.is_none().then_some(Done::Later))
}

fn seen_in_the_bucket(ctx: &Context, object: &Object, look: &mut Look) {
    *look = Look { wanted: false, seen: true, other_format: false };
    let uid = object.view().metadata.uid.as_deref().unwrap_or_default();
    ctx.memories.with(uid, |memory| memory.verified = Some(Instant::now()));
}

/// Says that all is as wanted, and, where the last word was of a failure, that this is over.
async fn settle(ctx: &Context, object: &mut Object, after: &VersionStatus) -> Result<(), kube::Error> {
    let failed = has_failed(object.view());
    object.write_status(after).await?;
    if failed && !has_failed(object.view()) {
        let note = object.view().status.sync_status.clone().unwrap_or_default();
        ctx.events.normal(&object.reference(), Reason::Synced.as_str(), "Verify", &note);
    }
    Ok(())
}

/// Whether the last word was of a failure.
fn has_failed(view: &VersionView) -> bool {
    condition::find(&view.status.conditions, "Ready")
        .is_some_and(|ready| ready.status != "True" && !Reason::is_progress(&ready.reason))
}

async fn permitted_head(
    ctx: &Context,
    view: &VersionView,
    place: &ObjectLocation,
) -> Result<Option<Found>, Failure> {
    ctx.rules.check(view.namespace(), place)?;
    ctx.head(place).await
}

/// Deletes what a move left behind, or lets it be, as the deletion policy says; either way it is struck.
async fn clean_up(ctx: &Context, object: &mut Object, work: &Work<'_>) -> Result<Option<Done>, kube::Error> {
    let view = object.view().clone();
    let left = view.left_behind(&work.place);
    let (done, result) = match ctx.fate(&view) {
        Fate::Undecided => return Ok(Some(Done::ModuleFirst)),
        Fate::Delete => delete::objects(ctx, object, &left).await,
        Fate::Keep => (left, Ok(())),
    };
    match result {
        Ok(()) => object.write_status(&view.cleaned_up(Timestamp::now())).await.map(|()| None),
        Err(Ended::Outdated) => Ok(Some(Done::Outdated)),
        Err(Ended::Failed(NotPublished { failure, .. })) => {
            object.write_status(&view.struck(&done)).await?;
            let message = format!(
                "Stored, but the object that the move left behind is still there: {}",
                failure.message
            );
            let failure = Failure { reason: Reason::OldObjectKept, message, ..failure };
            fail(ctx, object, &work.requests, failure.into()).await.map(Done::failed).map(Some)
        }
    }
}

/// The Version goes: so does what it stored, unless it is to be retained.
async fn delete_all(ctx: &Context, object: &mut Object) -> Result<Done, kube::Error> {
    let view = object.view().clone();
    let fate = ctx.fate(&view);
    if fate == Fate::Undecided {
        return Ok(Done::ModuleFirst);
    }
    if fate == Fate::Delete {
        let places = delete::all_places(&view);
        let (done, result) = delete::objects(ctx, object, &places).await;
        if let Err(ended) = result {
            let Ended::Failed(NotPublished { failure, .. }) = ended else { return Ok(Done::Outdated) };
            if !done.is_empty() {
                object.write_status(&view.struck(&done)).await?;
            }
            let message = format!(
                "{} The Version stays until the object is deleted; deletionPolicy: Retain lets it go at once.",
                failure.message
            );
            let failed =
                fail(ctx, object, &Requests::default(), Failure { message, ..failure }.into()).await?;
            return Ok(Done::failed(failed));
        }
    }
    object.remove_finalizer().await?;
    tracing::info!(retained = fate == Fate::Keep, "deleted");
    Ok(Done::Gone)
}
