//! The Module controller: keeps one Version object for each version that a Module wants.
//!
//! In: Modules and Versions, as the watches tell of them. Out: Version objects and the Module's status. It knows nothing
//! of GitHub or S3; its [`Context`] cannot even name them. [`plan`] and [`status`] decide (pure), [`apply`] does.

use crate::controller::force_throttle::ForceThrottle;
use crate::domain::text::cut;
pub mod apply;
pub mod attempts;
pub mod finalizer;
pub mod leftovers;
pub mod names;
pub mod pace;
pub mod plan;
mod record;
pub mod select;
pub mod status;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::Status;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use self::apply::{Done, Turn};
use self::attempts::{Attempts, FINALIZER, FORCE_SYNC};
use self::finalizer::{Leave, Need, Written};
use self::pace::Pace;
use self::plan::Plan;
use self::select::{ModuleView, Selection};
use self::status::Facts;
use crate::api::requests::ForceToken;
use crate::api::state::{ModuleState, OwnerPolicy, VersionState};
use crate::api::{Module, ModuleStatus, REQUESTED_AT, condition, requests};
use crate::controller::client;
use crate::controller::events::Events;
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::{Deletion, Deletions, Owners};
use crate::observe::metrics::{Metrics, Queue};

/// Shortest time between two reconciles that only Versions asked for: so their number costs no status writes.
const COALESCE: Duration = Duration::from_secs(1);

/// How long after a status that was too large no larger one is tried, unless a person changes the Module.
const TOO_LARGE: Duration = Duration::from_mins(10);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The Versions that the watch knows.
    pub versions: Store<VersionState>,
    /// Whether the watch has seen every Version once: before that, all of them would look missing.
    pub versions_seen: watch::Receiver<bool>,
    /// Modules that are reconciled at once.
    pub turns: Arc<Semaphore>,
    /// What is remembered.
    pub memories: Memories,
    /// Names that Modules wait for, so that their disappearance wakes every Module that wants one.
    pub waiting: Waiting,
    /// What the Version controller knows of Modules.
    pub owners: Owners,
    /// When the next Module gets the finalizer that had Versions before.
    pub pace: Arc<finalizer::Pace>,
    /// Wakes Versions that wait for their Module.
    pub wake: mpsc::UnboundedSender<ObjectRef<VersionState>>,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// What is remembered of each Module, by UID. In memory only.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

#[derive(Clone, Debug, Default)]
struct Memory {
    seen: Option<String>,
    reconciled: Option<Instant>,
    failures: u32,
    forces: ForceThrottle,
    /// When the finalizer is due.
    finalizer_due: Option<Instant>,
    attempts: Attempts,
    pace: Pace,
    /// Until when no status is tried that records more: the last one was too large.
    too_large: Option<Instant>,
}

/// What makes a Module's spec unusable.
#[derive(Clone, Debug)]
pub struct Problem {
    /// For the status.
    pub message: String,
    /// Whether the spec as a whole can be read: then what it says of suspension and deletion still counts.
    pub readable: bool,
}

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    /// A quota, an admission webhook, a rule of the schema.
    #[error("the API server refused {count} requests; {first}")]
    Refused {
        /// How many.
        count: usize,
        /// The words for the first that is refused.
        first: String,
        /// When something is due.
        next: Action,
    },
    #[error("the Kubernetes API failed: {0}")]
    Api(#[from] kube::Error),
}

impl Unfinished {
    fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } => Reason::VersionRefused,
            Self::Api(_) => Reason::ApiUnavailable,
        }
    }

    /// When to go on.
    fn next(self, failures: u32) -> Action {
        match self {
            Self::Refused { next, .. } => next,
            Self::Api(_) => {
                let failure = Failure::retry(Reason::ApiUnavailable, "");
                let now = Timestamp::now();
                Action::requeue(failure.delay(failures, Duration::ZERO, rand::random(), now))
            }
        }
    }
}

/// Which Modules wait for which names, per namespace.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<BTreeMap<(String, String), BTreeSet<String>>>);

impl Waiting {
    /// The Modules that want the Version of this name.
    pub fn for_name(&self, namespace: &str, name: &str) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten().cloned().collect()
    }

    fn set<'a>(&self, namespace: &str, module: &str, names: impl Iterator<Item = &'a String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(ns, _), modules| {
            if ns == namespace {
                modules.remove(module);
            }
            !modules.is_empty()
        });
        for name in names {
            all.entry((namespace.to_owned(), name.clone())).or_default().insert(module.to_owned());
        }
    }
}

impl Waiting {
    fn keep_only(&self, known: &HashSet<(String, String)>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(namespace, _), modules| {
            modules.retain(|module| known.contains(&(namespace.clone(), module.clone())));
            !modules.is_empty()
        });
    }
}

impl Context {
    /// Forgets a Module that is gone.
    pub fn forget(&self, module: &ModuleState) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let metadata = &module.metadata;
        self.memories.forget(&text(&metadata.uid));
        self.waiting.set(&text(&metadata.namespace), &text(&metadata.name), std::iter::empty());
    }

    /// These deletions were looked at: their Versions are woken.
    fn answer(&self, namespace: &str, uid: &str, deletions: &Deletions) {
        self.owners.answer(uid, deletions);
        self.wake(namespace, deletions.values().map(|deletion| deletion.name.as_str()));
    }

    /// Takes up what was just written.
    fn record(&self, raw: &DynamicObject, resource_version: Option<String>, module: &mut ModuleView) {
        let published = module.status.published.iter().flat_map(|all| all.keys().cloned());
        let immutable = module.policy.immutable;
        module.policy = module.policy.clone().recording(published.filter(|_| immutable));
        let metadata = ObjectMeta {
            uid: raw.metadata.uid.clone(),
            namespace: raw.metadata.namespace.clone(),
            resource_version,
            ..ObjectMeta::default()
        };
        self.owners.update(&metadata, &module.policy);
    }

    /// The Module was reconciled, which those of its Versions may wait for that do not know their content.
    fn reconciled(&self, namespace: &str, uid: &str, module: &ModuleView) {
        if !self.owners.reconciled(uid) || !module.policy.immutable {
            return;
        }
        let versions = self.versions.state();
        let waits =
            |v: &&Arc<VersionState>| !v.knows_digest() && v.module().is_some_and(|owner| owner.uid == uid);
        self.wake(namespace, versions.iter().filter(waits).filter_map(|v| v.metadata.name.as_deref()));
    }

    fn wake<'a>(&self, namespace: &str, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let _ = self.wake.unbounded_send(ObjectRef::new(name).within(namespace));
        }
    }
}

/// What the Versions held that are being deleted.
fn held(deletions: &Deletions) -> BTreeMap<String, String> {
    let held = |d: &Deletion| Some((d.release.clone(), d.digest.clone()?));
    deletions.values().filter_map(held).collect()
}

impl Context {
    /// Forgets all Modules but these: what a list does not hold has gone, though no event said so.
    pub fn keep_only(&self, modules: &[Arc<ModuleState>]) {
        let uids: HashSet<&str> = modules.iter().filter_map(|m| m.metadata.uid.as_deref()).collect();
        self.memories.all().retain(|uid, _| uids.contains(uid.as_str()));
        let name = |m: &'_ Arc<ModuleState>| Some((m.metadata.namespace.clone()?, m.metadata.name.clone()?));
        self.waiting.keep_only(&modules.iter().filter_map(name).collect());
    }
}

impl Memories {
    /// Begins with an empty memory where there is none.
    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.all().entry(uid.to_owned()).or_default())
    }

    /// Of a Module that is gone nothing is remembered again.
    fn if_known<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.all().get_mut(uid).map(change)
    }

    fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the Versions of one Module closer to what it wants.
pub async fn reconcile(lean: Arc<ModuleState>, ctx: Arc<Context>) -> Action {
    if ctx.versions_seen.clone().wait_for(|seen| *seen).await.is_err() {
        return Action::await_change();
    }
    let uid = lean.metadata.uid.clone().unwrap_or_default();
    if let Some(pause) = coalesced(&ctx, &lean, &uid, Instant::now()) {
        return Action::requeue(pause);
    }
    let Ok(turn) = ctx.metrics.queued(Queue::MODULES, Arc::clone(&ctx.turns).acquire_owned()).await else {
        return Action::await_change();
    };
    let since = Instant::now();
    let mut attempts = ctx.memories.with(&uid, |memory| std::mem::take(&mut memory.attempts));
    // Boxed, and made only now: thousands of Modules may wait above, and a future holds all that it awaits.
    let result = Box::pin(bring_closer(&ctx, &lean, &uid, &mut attempts, &mut Some(turn))).await;
    ctx.memories.if_known(&uid, |memory| memory.attempts = attempts);
    match result {
        Ok(next) => {
            ctx.metrics.reconciled("module", "settled", since);
            ctx.memories.if_known(&uid, |memory| memory.failures = 0);
            next
        }
        Err(error) => {
            ctx.metrics.reconciled("module", "failed", since);
            ctx.metrics.failed("module", error.reason().as_str());
            // A refusal has pauses of its own, and shows that the API server answers.
            let refused = matches!(error, Unfinished::Refused { .. });
            let failures = ctx.memories.if_known(&uid, |memory| {
                memory.failures = if refused { 0 } else { memory.failures.saturating_add(1) };
                memory.failures
            });
            tracing::warn!(%error, "not finished; trying again");
            error.next(failures.unwrap_or(1))
        }
    }
}

/// How long a reconcile that only Versions asked for has still to wait.
fn coalesced(ctx: &Context, lean: &ModuleState, uid: &str, now: Instant) -> Option<Duration> {
    ctx.memories.with(uid, |memory| {
        let asked = Some(asked(&lean.metadata));
        let due = memory.finalizer_due.is_some_and(|at| at <= now);
        let changed = memory.seen != asked;
        match memory.reconciled.map(|at| now.saturating_duration_since(at)) {
            Some(since) if !changed && !due && since < COALESCE => Some(COALESCE.saturating_sub(since)),
            _ => {
                if changed {
                    memory.attempts.try_again(now);
                    memory.too_large = None;
                }
                memory.seen = asked;
                memory.reconciled = Some(now);
                None
            }
        }
    })
}

/// What a person can change of a Module: all but its status, whose writes are our own.
fn asked(metadata: &ObjectMeta) -> String {
    let requested_at = metadata.annotations.as_ref().and_then(|a| a.get(REQUESTED_AT));
    format!("{:?} {requested_at:?} {}", metadata.generation, metadata.deletion_timestamp.is_some())
}

async fn bring_closer(
    ctx: &Context,
    lean: &ModuleState,
    uid: &str,
    attempts: &mut Attempts,
    turn: &mut Turn,
) -> Result<Action, Unfinished> {
    let namespace = lean.metadata.namespace.clone().unwrap_or_default();
    let name = lean.metadata.name.clone().unwrap_or_default();
    let api = client::objects::<Module>(&ctx.client, &namespace);
    let deletions = ctx.owners.waiting(uid);
    let Some(mut raw) = api.get_opt(&name).await?.filter(|raw| raw.metadata.uid == lean.metadata.uid) else {
        ctx.forget(lean);
        return Ok(Action::await_change());
    };
    // Of a long list they are the largest part.
    raw.metadata.managed_fields = None;
    let children: Vec<Arc<VersionState>> = ctx
        .versions
        .state()
        .into_iter()
        .filter(|v| v.metadata.namespace.as_ref() == Some(&namespace))
        .collect();
    let children: Vec<&VersionState> = children.iter().map(AsRef::as_ref).collect();
    let (mut module, problem) = view(&mut raw);
    module.departed = held(&deletions);
    ctx.owners.update(&raw.metadata, &module.policy);
    let (selection, plan) = decide(&module, &children, problem.as_ref());
    ctx.waiting.set(&namespace, &name, plan.waiting.keys());
    if module.terminating() {
        ctx.answer(&namespace, uid, &deletions);
        return let_go(ctx, &api, &raw, (&module, &plan, &children), (attempts, turn)).await;
    }
    let (token, mut again) = open_request(ctx, &module, uid);
    let refused = attempts.refused();
    let too_large = ctx.memories.with(uid, |memory| memory.too_large);
    let mut facts = Facts {
        selection: &selection,
        children: &children,
        plan: &plan,
        problem: problem.as_ref(),
        refused: &refused,
        too_large: too_large.is_some_and(|until| until > Instant::now()),
    };
    // The status goes first: it records digests before their Versions go, and a request before it is handed on.
    let (after, written) = write_or_less(ctx, &api, &raw, (&module, token.as_deref()), &mut facts).await;
    if matches!(&written, Err(kube::Error::Api(status)) if apply::is_refusal(status)) {
        // What cannot be recorded keeps nothing from going.
        ctx.answer(&namespace, uid, &deletions);
    }
    let recorded = matches!(written, Ok(StatusWrite::Now(_)));
    let version = match written? {
        StatusWrite::Now(version) => {
            // What was written counts at once: a request that was opened goes along with the Versions that are made now.
            module.status = after;
            ctx.record(&raw, version.clone(), &mut module);
            version
        }
        StatusWrite::Later(wait) => {
            again = Some(sooner(again, wait));
            raw.metadata.resource_version.clone()
        }
        StatusWrite::Conflict => return Ok(Action::requeue(COALESCE)),
        // Nothing can be said in the status, and nothing new is made, but what is to go still goes.
        StatusWrite::TooLarge => {
            again = Some(sooner(again, TOO_LARGE));
            raw.metadata.resource_version.clone()
        }
    };
    ctx.answer(&namespace, uid, &deletions);
    let (_, mut plan) = decide(&module, &children, problem.as_ref());
    if facts.too_large {
        plan.create.retain(|create| create.expected_digest.is_some());
    }
    let version =
        match first(ctx, &api, (&module, &plan, &children), version, (&mut *attempts, &mut again)).await? {
            Written::Done(version) => version,
            Written::Outdated => return Ok(Action::requeue(COALESCE)),
            Written::Refused(words) => {
                attempts.refuse(FINALIZER, words, (Instant::now(), rand::random()));
                return finished(&Done { refused: 1, ..Done::default() }, attempts, again);
            }
        };
    if !status::resets_force(&module) {
        attempts.forget(FORCE_SYNC);
    } else if !reset_force(&api, &name, version.as_deref(), attempts).await? {
        return Ok(Action::requeue(COALESCE));
    }
    // A Version that is made now carries its digest. One that is there and whose digest is recorded waits until it was
    // given that, and holds up no other.
    let hands_over: Vec<_> = plan.change.iter().filter(|change| change.expected_digest.is_some()).collect();
    if hands_over.is_empty() || recorded {
        ctx.reconciled(&namespace, uid, &module);
    }
    let due = attempts.due(&plan, Instant::now());
    let mut done = apply::apply(&ctx.client, &module, &due, attempts, turn).await?;
    done.log();
    if !hands_over.is_empty() && hands_over.iter().all(|change| attempts.is_done(*change)) {
        ctx.reconciled(&namespace, uid, &module);
    }
    let now_refused = attempts.refused();
    if now_refused != refused {
        done.refused += usize::from(now_refused.module.is_some() && now_refused.module != refused.module);
        let facts = Facts { plan: &plan, refused: &now_refused, ..facts };
        let after = status::status(&module, &facts, None, Timestamp::now());
        let mut raw = raw;
        raw.metadata.resource_version = version;
        if let StatusWrite::Later(wait) = write(ctx, &api, &raw, (&module, &after), &facts).await? {
            again = Some(sooner(again, wait));
        }
    }
    finished(&done, attempts, again)
}

fn sooner(again: Option<Duration>, wait: Duration) -> Duration {
    again.map_or(wait, |again| again.min(wait))
}

/// When to go on, after the requests of a plan.
fn finished(done: &Done, attempts: &Attempts, again: Option<Duration>) -> Result<Action, Unfinished> {
    let now = Instant::now();
    let due = attempts.next(now).map(|at| at.duration_since(now));
    let next = [again, due, done.more.then_some(COALESCE)].into_iter().flatten().min();
    let next = next.map_or_else(Action::await_change, Action::requeue);
    if done.refused == 0 {
        return Ok(next);
    }
    let refused = attempts.refused();
    let first = refused.module.unwrap_or(refused.words);
    Err(Unfinished::Refused { count: done.refused, first, next })
}

/// Puts the finalizer on where the Module needs it. One that has Versions already waits for its moment, and goes on.
async fn first(
    ctx: &Context,
    api: &Api<DynamicObject>,
    (module, plan, children): (&ModuleView, &Plan, &[&VersionState]),
    version: Option<String>,
    (attempts, again): (&mut Attempts, &mut Option<Duration>),
) -> Result<Written, kube::Error> {
    let need = finalizer::need(module, plan, children);
    if need == Need::None {
        attempts.forget(FINALIZER);
        return Ok(Written::Done(version));
    }
    if let Some(words) = attempts.refused_until(FINALIZER, Instant::now()) {
        // Without it nothing is made.
        return Ok(if need == Need::First { Written::Refused(words) } else { Written::Done(version) });
    }
    if need == Need::Soon {
        let now = Instant::now();
        let turn = ctx.memories.with(module.uid(), |memory| {
            let turn = ctx.pace.turn(memory.finalizer_due, now);
            memory.finalizer_due = turn.err();
            turn
        });
        if let Err(due) = turn {
            *again = Some(sooner(*again, due - now));
            return Ok(Written::Done(version));
        }
    }
    ctx.memories.with(module.uid(), |memory| memory.finalizer_due = None);
    finalizer::add(api, module, version.as_deref()).await
}

/// The Module is being deleted: its Versions learn what is to become of their objects, and then it may go.
async fn let_go(
    ctx: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    (module, plan, children): (&ModuleView, &Plan, &[&VersionState]),
    (attempts, turn): (&mut Attempts, &mut Turn),
) -> Result<Action, Unfinished> {
    let now = Instant::now();
    let known: HashSet<&str> = children.iter().filter_map(|c| c.metadata.name.as_deref()).collect();
    // One that was made a moment ago, and that the watch does not know yet, may have the policy of before.
    let unseen = attempts.unseen(&known, now);
    let due = attempts.due_of_existing(plan, now);
    let mut done = apply::apply(&ctx.client, module, &due, attempts, turn).await?;
    match finalizer::leave(module, plan, attempts, unseen) {
        Leave::Now => {}
        Leave::Later => return finished(&done, attempts, unseen.then_some(COALESCE)),
        Leave::Refused(refused) => {
            let after = finalizer::held(module, &refused, Timestamp::now());
            write_at_once(ctx, api, raw, (&module.status, &after)).await?;
            return finished(&done, attempts, unseen.then_some(COALESCE));
        }
    }
    if !finalizer::has(module) {
        return Ok(Action::await_change());
    }
    if attempts.refused_until(FINALIZER, now).is_some() {
        return finished(&done, attempts, None);
    }
    match finalizer::remove(api, module).await? {
        Written::Done(_) => Ok(Action::await_change()),
        Written::Outdated => Ok(Action::requeue(COALESCE)),
        Written::Refused(words) => {
            attempts.refuse(FINALIZER, words, (Instant::now(), rand::random()));
            done.refused += 1;
            finished(&done, attempts, None)
        }
    }
}

/// What became of a status.
enum StatusWrite {
    /// It is as it should be. The resourceVersion that is current then.
    Now(Option<String>),
    /// It has to wait: it is mere progress.
    Later(Duration),
    /// The object has changed since it was read.
    Conflict,
    /// The object would be larger than the API server can keep.
    TooLarge,
}

/// Writes the status that the facts make, or, where it is too large to be kept, one that records nothing new.
async fn write_or_less(
    ctx: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    (module, token): (&ModuleView, Option<&str>),
    facts: &mut Facts<'_>,
) -> (ModuleStatus, Result<StatusWrite, kube::Error>) {
    let after = status::status(module, facts, token, Timestamp::now());
    let written = write(ctx, api, raw, (module, &after), facts).await;
    if facts.too_large || !matches!(written, Ok(StatusWrite::TooLarge)) {
        return (after, written);
    }
    let until = Instant::now() + TOO_LARGE;
    ctx.memories.if_known(module.uid(), |memory| memory.too_large = Some(until));
    facts.too_large = true;
    let after = status::status(module, facts, token, Timestamp::now());
    let written = write(ctx, api, raw, (module, &after), facts).await;
    (after, written)
}

/// Writes the status where it changed, with an Event where that matters, unless it has to wait.
async fn write(
    ctx: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    (module, after): (&ModuleView, &ModuleStatus),
    facts: &Facts<'_>,
) -> Result<StatusWrite, kube::Error> {
    let before = &module.status;
    let change = pace::change(before, after, status::awaits_digest(module, after, facts));
    let wait = ctx.memories.with(module.uid(), |memory| memory.pace.wait(change, Instant::now()));
    if !wait.is_zero() {
        return Ok(StatusWrite::Later(wait));
    }
    let since = Instant::now();
    let written = write_at_once(ctx, api, raw, (before, after)).await?;
    if change != pace::Change::None {
        let wrote = |memory: &mut Memory| memory.pace.wrote(change, since.elapsed(), Instant::now());
        ctx.memories.if_known(module.uid(), wrote);
    }
    Ok(written)
}

async fn write_at_once(
    ctx: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    (before, after): (&ModuleStatus, &ModuleStatus),
) -> Result<StatusWrite, kube::Error> {
    let version = raw.metadata.resource_version.as_deref();
    let name = raw.metadata.name.as_deref().unwrap_or_default();
    match client::patch_status(api, name, version, before, after).await {
        Ok(Some(written)) => {
            tell(ctx, raw, before, after);
            Ok(StatusWrite::Now(written.metadata.resource_version))
        }
        Ok(None) => Ok(StatusWrite::Now(version.map(str::to_owned))),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(StatusWrite::Conflict),
        Err(kube::Error::Api(status)) if is_too_large(&status) => {
            tracing::warn!(message = status.message, "the Module's status is too large");
            Ok(StatusWrite::TooLarge)
        }
        Err(error) => Err(error),
    }
}

/// The API server's own limit, etcd's, or that of the connection between the two.
fn is_too_large(status: &Status) -> bool {
    let says = |words: &str| status.message.contains(words);
    status.code == 413 || says("request is too large") || says("message larger than max")
}

/// Sets `spec.forceSync` back. Whether the Module is still as it was read: a change by others is seen by the next
/// reconcile.
async fn reset_force(
    api: &Api<DynamicObject>,
    name: &str,
    version: Option<&str>,
    attempts: &mut Attempts,
) -> Result<bool, kube::Error> {
    if attempts.refused_until(FORCE_SYNC, Instant::now()).is_some() {
        return Ok(true);
    }
    match client::patch(api, name, version, json!({"spec": {"forceSync": false}})).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
        Err(kube::Error::Api(status)) if apply::is_refusal(&status) => {
            let words = cut(&status.message, apply::MOST_WORDS);
            let words = format!("spec.forceSync cannot be set back, the API server refuses: {words}");
            attempts.refuse(FORCE_SYNC, words, (Instant::now(), rand::random()));
            Ok(true)
        }
        result => result.map(|_| {
            attempts.forget(FORCE_SYNC);
            true
        }),
    }
}

/// Selection and plan. With a problem in the configuration nothing is created, moved or deleted.
fn decide(module: &ModuleView, children: &[&VersionState], problem: Option<&Problem>) -> (Selection, Plan) {
    let selection = select::select(module, children);
    let plan = plan::plan(module, &selection, children);
    (selection, if problem.is_some() { plan.held() } else { plan })
}

/// The Module with its parts parsed, which leave `raw`, and what makes it unusable.
fn view(raw: &mut DynamicObject) -> (ModuleView, Option<Problem>) {
    let mut status: ModuleStatus = client::take_part(raw, "status").unwrap_or_default();
    status.last_handled_request.iter_mut().for_each(requests::shorten_recorded);
    let mut metadata = raw.metadata.clone();
    metadata.annotations.iter_mut().for_each(requests::shorten_annotations);
    let config = raw.data.pointer("/spec/moduleConfig").unwrap_or(&Value::Null);
    let policy = OwnerPolicy::of(config, status.published.iter().flat_map(|all| all.keys().cloned()));
    let spec = client::take_part::<crate::api::ModuleSpec>(raw, "spec");
    let name = raw.metadata.name.clone().unwrap_or_default();
    let problem = match &spec {
        Err(unreadable) => Some(Problem { message: unreadable.clone(), readable: false }),
        Ok(spec) => spec
            .module_config
            .check(&name)
            .err()
            .map(|invalid| Problem { message: invalid.to_string(), readable: true }),
    };
    let module =
        ModuleView { metadata, spec: spec.unwrap_or_default(), status, policy, departed: BTreeMap::new() };
    (module, problem)
}

/// A fresh name for the request that stands, if it may be opened now, or else how long it has to wait: a loop of forced
/// syncs is slowed down.
fn open_request(ctx: &Context, module: &ModuleView, uid: &str) -> (Option<String>, Option<Duration>) {
    let Some(id) = status::wants_request(module) else { return (None, None) };
    match ctx.memories.with(uid, |memory| memory.forces.admit(&id, Instant::now())) {
        Ok(()) => (Some(ForceToken::create(module.spec.force_sync)), None),
        Err(pause) => (None, Some(pause)),
    }
}

/// Events where the Module's readiness or reason changed, or where `immutable` was turned off.
fn tell(ctx: &Context, raw: &DynamicObject, before: &ModuleStatus, after: &ModuleStatus) {
    let mut reference: ObjectReference = raw.object_ref(&ApiResource::erase::<Module>(&()));
    reference.resource_version = None;
    if let Some(note) = status::unpinned(before, after) {
        ctx.events.normal(&reference, "ImmutableTurnedOff", "Reconcile", &note);
    }
    let ready =
        |conditions| condition::find(conditions, "Ready").map(|c| (c.status.clone(), c.reason.clone()));
    let (old, new) = (ready(&before.conditions), ready(&after.conditions));
    if old == new {
        return;
    }
    let Some(condition) = condition::find(&after.conditions, "Ready") else { return };
    if Reason::is_progress(&condition.reason) {
        ctx.events.normal(&reference, &condition.reason, "Reconcile", &condition.message);
    } else {
        ctx.events.warning(&reference, &condition.reason, "Reconcile", &condition.message);
    }
    tracing::info!(
        ready = condition.status,
        reason = condition.reason,
        message = condition.message,
        "status changed"
    );
}
