//! The Module controller: keeps one Version object for each version that a Module wants.
//!
//! In: Modules and Versions, as the watches tell of them. Out: Version objects and the Module's status. It knows nothing
//! of GitHub or S3; its [`Context`] cannot even name them. [`plan`] and [`status`] decide (pure), [`apply`] does.

pub mod apply;
pub mod finalizer;
pub mod leftovers;
pub mod names;
pub mod plan;
pub mod select;
pub mod status;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource as _};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use self::apply::Refused;
use self::finalizer::{Need, Written};
use self::plan::Plan;
use self::select::{ModuleView, Selection};
use self::status::Facts;
use crate::api;
use crate::crd::lean::{LeanModule, LeanVersion, OwnerPolicy};
use crate::crd::{Module, ModuleStatus, REQUESTED_AT, condition, token};
use crate::events::Events;
use crate::failure::{Failure, Reason};
use crate::metrics::{Metrics, Queue};
use crate::owners::{self, Deletion, Deletions, Owners};
use crate::version::memory::Forces;

/// Shortest time between two reconciles that only Versions asked for: so their number costs no status writes.
const COALESCE: Duration = Duration::from_secs(1);

/// How long to wait for the watch after a write that found the object changed.
const OUTDATED: Duration = Duration::from_millis(50);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The Versions that the watch knows.
    pub versions: Store<LeanVersion>,
    /// Whether the watch has seen every Version once: before that, all of them would look missing.
    pub versions_seen: watch::Receiver<bool>,
    /// Modules that are reconciled at once.
    pub turns: Semaphore,
    /// What is remembered.
    pub memories: Memories,
    /// Names that Modules wait for, so that their disappearance wakes every Module that wants one.
    pub waiting: Waiting,
    /// What the Version controller knows of Modules.
    pub owners: Owners,
    /// When the next Module gets the finalizer that had Versions before.
    pub pace: Arc<finalizer::Pace>,
    /// Wakes Versions that wait for their Module.
    pub wake: mpsc::UnboundedSender<ObjectRef<LeanVersion>>,
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
    reconciled: Option<Timestamp>,
    failures: u32,
    forces: Forces,
    refused: Refused,
    /// When the finalizer is due.
    finalizer_due: Option<Instant>,
    /// Versions that were made a moment ago, until the watch tells of them.
    made: BTreeMap<String, Timestamp>,
}

impl Memory {
    /// Takes out of the plan what was made already, though the watch has not told yet. Gives how much that is.
    fn without_made(&mut self, plan: &mut Plan, children: &[&LeanVersion], now: Timestamp) -> usize {
        self.forget_known(children, now);
        let planned = plan.create.len();
        plan.create.retain(|create| !self.made.contains_key(&create.name));
        planned - plan.create.len()
    }

    /// Forgets what was made and is known to the watch.
    fn forget_known(&mut self, children: &[&LeanVersion], now: Timestamp) {
        let known: BTreeSet<&str> = children.iter().filter_map(|c| c.metadata.name.as_deref()).collect();
        self.made
            .retain(|name, at| !known.contains(name.as_str()) && now.duration_since(*at) < api::WATCH_LAG);
    }
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
    #[error("{}", .0.values().map(String::as_str).collect::<Vec<_>>().join("; "))]
    Refused(Refused),
    #[error("the Kubernetes API failed: {0}")]
    Api(#[from] kube::Error),
}

impl Unfinished {
    fn reason(&self) -> Reason {
        match self {
            Self::Refused(_) => Reason::VersionRefused,
            Self::Api(_) => Reason::ApiUnavailable,
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

impl Context {
    /// Forgets a Module that is gone.
    pub fn forget(&self, module: &LeanModule) {
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
        let waits = |v: &&Arc<LeanVersion>| {
            !v.knows_digest() && owners::owner(&v.metadata).is_some_and(|owner| owner.uid == uid)
        };
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

impl Memories {
    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.to_owned()).or_default())
    }

    fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Brings the Versions of one Module closer to what it wants.
pub async fn reconcile(lean: Arc<LeanModule>, ctx: Arc<Context>) -> Action {
    if ctx.versions_seen.clone().wait_for(|seen| *seen).await.is_err() {
        return Action::await_change();
    }
    let uid = lean.metadata.uid.clone().unwrap_or_default();
    let now = Timestamp::now();
    if let Some(pause) = coalesced(&ctx, &lean, &uid, now) {
        return Action::requeue(pause);
    }
    let Ok(_turn) = ctx.metrics.queued(Queue::MODULES, ctx.turns.acquire()).await else {
        return Action::await_change();
    };
    let since = Instant::now();
    // Boxed, and made only now: thousands of Modules may wait above, and a future holds all that it awaits.
    match Box::pin(bring_closer(&ctx, &lean, &uid)).await {
        Ok(next) => {
            ctx.metrics.reconciled("module", "settled", since);
            ctx.memories.with(&uid, |memory| memory.failures = 0);
            next
        }
        Err(error) => {
            ctx.metrics.reconciled("module", "failed", since);
            ctx.metrics.failed("module", error.reason());
            let failures = ctx.memories.with(&uid, |memory| {
                memory.failures = memory.failures.saturating_add(1);
                memory.failures
            });
            tracing::warn!(%error, "not finished; trying again");
            let failure = Failure::retry(error.reason(), "");
            Action::requeue(failure.delay(failures, Duration::ZERO, rand::random(), now))
        }
    }
}

/// How long a reconcile that only Versions asked for has still to wait.
fn coalesced(ctx: &Context, lean: &LeanModule, uid: &str, now: Timestamp) -> Option<Duration> {
    ctx.memories.with(uid, |memory| {
        let asked = Some(asked(&lean.metadata));
        let changed = memory.seen != asked;
        let since =
            memory.reconciled.map(|at| now.duration_since(at)).and_then(|d| Duration::try_from(d).ok());
        match since {
            Some(since) if !changed && since < COALESCE => Some(COALESCE.saturating_sub(since)),
            _ => {
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

async fn bring_closer(ctx: &Context, lean: &LeanModule, uid: &str) -> Result<Action, Unfinished> {
    let namespace = lean.metadata.namespace.clone().unwrap_or_default();
    let name = lean.metadata.name.clone().unwrap_or_default();
    let api = api::objects::<Module>(&ctx.client, &namespace);
    let deletions = ctx.owners.waiting(uid);
    let Some(raw) = api.get_opt(&name).await?.filter(|raw| raw.metadata.uid == lean.metadata.uid) else {
        ctx.forget(lean);
        return Ok(Action::await_change());
    };
    let children: Vec<Arc<LeanVersion>> = ctx
        .versions
        .state()
        .into_iter()
        .filter(|v| v.metadata.namespace.as_ref() == Some(&namespace))
        .collect();
    let children: Vec<&LeanVersion> = children.iter().map(AsRef::as_ref).collect();
    let (mut module, problem) = view(&raw);
    module.departed = held(&deletions);
    ctx.owners.update(&raw.metadata, &module.policy);
    let (selection, plan) = decide(&module, &children, problem.as_ref());
    ctx.waiting.set(&namespace, &name, plan.waiting.keys());
    if module.terminating() {
        ctx.answer(&namespace, uid, &deletions);
        return let_go(ctx, &api, &raw, (&module, &plan, &children), uid).await;
    }
    let (token, mut again) = open_request(ctx, &module, uid);
    let refused = ctx.memories.with(uid, |memory| memory.refused.clone());
    let facts = Facts {
        selection: &selection,
        children: &children,
        plan: &plan,
        problem: problem.as_ref(),
        refused: &refused,
    };
    // The status goes first: it records digests before their Versions go, and a request before it is handed on.
    let after = status::status(&module, &facts, token.as_deref(), Timestamp::now());
    let written = write(ctx, &api, &raw, (&module.status, &after)).await;
    if matches!(&written, Err(kube::Error::Api(status)) if apply::is_refusal(status)) {
        // What cannot be recorded keeps nothing from going.
        ctx.answer(&namespace, uid, &deletions);
    }
    let Some(version) = written? else { return Ok(Action::requeue(OUTDATED)) };
    // What was written counts at once: a request that was opened goes along with the Versions that are made now.
    module.status = after;
    ctx.record(&raw, version.clone(), &mut module);
    ctx.answer(&namespace, uid, &deletions);
    let (_, mut plan) = decide(&module, &children, problem.as_ref());
    let made = ctx.memories.with(uid, |memory| memory.without_made(&mut plan, &children, Timestamp::now()));
    if made > 0 {
        again = Some(again.unwrap_or(COALESCE).min(COALESCE));
    }
    let version = match first(ctx, &api, (&module, &plan, &children), version, &mut again).await? {
        Written::Done(version) => version,
        Written::Outdated => return Ok(Action::requeue(COALESCE)),
        Written::Refused(words) => {
            let refused = Refused::from([(String::new(), words)]);
            ctx.memories.with(uid, |memory| memory.refused.clone_from(&refused));
            return Err(Unfinished::Refused(refused));
        }
    };
    let mut unset = None;
    if status::resets_force(&module) {
        unset = reset_force(&api, &name, version.as_deref()).await?;
        if unset.is_none() {
            return Ok(Action::requeue(COALESCE));
        }
    }
    // A Version that is made now carries its digest; one that is there has to be given it first.
    let hands_over = plan.change.iter().any(|change| change.expected_digest.is_some());
    if !hands_over {
        ctx.reconciled(&namespace, uid, &module);
    }
    let mut done = apply::apply(&ctx.client, &module, &plan).await?;
    done.log();
    if hands_over && done.outdated == 0 {
        ctx.reconciled(&namespace, uid, &module);
    }
    let now = Timestamp::now();
    ctx.memories.with(uid, |memory| memory.made.extend(done.created.drain(..).map(|name| (name, now))));
    done.refused.extend(unset.map(|words| (String::new(), words)));
    if done.refused != refused {
        ctx.memories.with(uid, |memory| memory.refused.clone_from(&done.refused));
        let facts = Facts { plan: &plan, refused: &done.refused, ..facts };
        let after = status::status(&module, &facts, None, Timestamp::now());
        let mut raw = raw;
        raw.metadata.resource_version = version;
        write(ctx, &api, &raw, (&module.status, &after)).await?;
    }
    if !done.refused.is_empty() {
        return Err(Unfinished::Refused(done.refused));
    }
    if done.outdated > 0 {
        again = Some(again.unwrap_or(COALESCE).min(COALESCE));
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Puts the finalizer on where the Module needs it. One that has Versions already waits for its moment, and goes on.
async fn first(
    ctx: &Context,
    api: &Api<DynamicObject>,
    (module, plan, children): (&ModuleView, &Plan, &[&LeanVersion]),
    version: Option<String>,
    again: &mut Option<Duration>,
) -> Result<Written, kube::Error> {
    match finalizer::need(module, plan, children) {
        Need::None => return Ok(Written::Done(version)),
        Need::First => {}
        Need::Soon => {
            let now = Instant::now();
            let reserved = || ctx.pace.reserve(now);
            let due =
                ctx.memories.with(module.uid(), |memory| *memory.finalizer_due.get_or_insert_with(reserved));
            if due > now {
                *again = Some(again.unwrap_or(due - now).min(due - now));
                return Ok(Written::Done(version));
            }
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
    (module, plan, children): (&ModuleView, &Plan, &[&LeanVersion]),
    uid: &str,
) -> Result<Action, Unfinished> {
    let done = apply::apply(&ctx.client, module, plan).await?;
    let now = Timestamp::now();
    // One that was made a moment ago, and that the watch does not know yet, may have the policy of before.
    let unseen = ctx.memories.with(uid, |memory| {
        memory.forget_known(children, now);
        !memory.made.is_empty()
    });
    if done.outdated > 0 || unseen {
        return Ok(Action::requeue(COALESCE));
    }
    if !done.refused.is_empty() && module.policy.retain {
        let after = finalizer::held(module, &done.refused, now);
        write(ctx, api, raw, (&module.status, &after)).await?;
        return Err(Unfinished::Refused(done.refused));
    }
    if !finalizer::has(module) {
        return Ok(Action::await_change());
    }
    match finalizer::remove(api, module).await? {
        Written::Done(_) => Ok(Action::await_change()),
        Written::Outdated => Ok(Action::requeue(OUTDATED)),
        Written::Refused(words) => Err(Unfinished::Refused(Refused::from([(String::new(), words)]))),
    }
}

/// Writes the status where it changed, and tells of it. Gives the resourceVersion that is current then, or nothing if
/// somebody else was faster.
async fn write(
    ctx: &Context,
    api: &Api<DynamicObject>,
    raw: &DynamicObject,
    (before, after): (&ModuleStatus, &ModuleStatus),
) -> Result<Option<Option<String>>, kube::Error> {
    let version = raw.metadata.resource_version.as_deref();
    let name = raw.metadata.name.as_deref().unwrap_or_default();
    match api::patch_status(api, name, version, before, after).await {
        Ok(Some(written)) => {
            tell(ctx, raw, before, after);
            Ok(Some(written.metadata.resource_version))
        }
        Ok(None) => Ok(Some(version.map(str::to_owned))),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets `spec.forceSync` back; somebody who changed the Module meanwhile is seen by the next reconcile. Gives the words for
/// it where the API server refuses.
async fn reset_force(
    api: &Api<DynamicObject>,
    name: &str,
    version: Option<&str>,
) -> Result<Option<String>, kube::Error> {
    match api::patch(api, name, version, json!({"spec": {"forceSync": false}})).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
        Err(kube::Error::Api(status)) if apply::is_refusal(&status) => {
            Ok(Some(format!("spec.forceSync cannot be set back, the API server refuses: {}", status.message)))
        }
        result => result.map(|_| None),
    }
}

/// Selection and plan. With a problem in the configuration nothing is created, moved or deleted.
fn decide(module: &ModuleView, children: &[&LeanVersion], problem: Option<&Problem>) -> (Selection, Plan) {
    let selection = select::select(module, children);
    let plan = plan::plan(module, &selection, children);
    (selection, if problem.is_some() { plan.held() } else { plan })
}

/// The Module with its parts parsed, and what makes it unusable.
fn view(raw: &DynamicObject) -> (ModuleView, Option<Problem>) {
    let spec = api::part::<crate::crd::ModuleSpec>(raw, "spec");
    let mut status: ModuleStatus = api::part(raw, "status").unwrap_or_default();
    status.last_handled_request.iter_mut().for_each(token::shorten_recorded);
    let mut metadata = raw.metadata.clone();
    metadata.annotations.iter_mut().for_each(token::shorten_annotations);
    let config = raw.data.pointer("/spec/moduleConfig").unwrap_or(&Value::Null);
    let policy = OwnerPolicy::of(config, status.published.iter().flat_map(|all| all.keys().cloned()));
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
    let now = Timestamp::now();
    match ctx.memories.with(uid, |memory| memory.forces.admit(&id, now)) {
        Ok(()) => (Some(status::token(module)), None),
        Err(at) => (None, Duration::try_from(at.duration_since(now)).ok()),
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
