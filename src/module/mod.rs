//! The Module controller: keeps one Version object for each version that a Module wants.
//!
//! In: Modules and Versions, as the watches tell of them. Out: Version objects and the Module's status. It knows nothing
//! of GitHub or S3; its [`Context`] cannot even name them. [`plan`] and [`status`] decide (pure), [`apply`] does.

pub mod apply;
pub mod names;
pub mod plan;
pub mod select;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, Resource as _};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use self::plan::Plan;
use self::select::{ModuleView, Selection};
use crate::api;
use crate::crd::lean::{LeanModule, LeanVersion};
use crate::crd::{Module, REQUESTED_AT, condition};
use crate::events::Events;
use crate::failure::{Failure, Reason};
use crate::metrics::Metrics;
use crate::version::memory::Forces;

/// Shortest time between two reconciles that only Versions asked for: so their number costs no status writes.
const COALESCE: Duration = Duration::from_secs(1);

/// What the controller works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The Versions that the watch knows.
    pub versions: Store<LeanVersion>,
    /// Whether the watch has seen every Version once: before that, all of them would look missing.
    pub versions_seen: watch::Receiver<bool>,
    /// What is remembered.
    pub memories: Memories,
    /// Names that Modules wait for, so that their disappearance wakes every Module that wants one.
    pub waiting: Waiting,
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
    match bring_closer(&ctx, &lean, &uid).await {
        Ok(next) => {
            ctx.metrics.reconciled("module", "settled");
            ctx.memories.with(&uid, |memory| memory.failures = 0);
            next
        }
        Err(error) => {
            ctx.metrics.reconciled("module", "failed");
            ctx.metrics.failed("module", Reason::ApiUnavailable);
            let failures = ctx.memories.with(&uid, |memory| {
                memory.failures = memory.failures.saturating_add(1);
                memory.failures
            });
            tracing::warn!(%error, "the Kubernetes API failed; trying again");
            if failures == 1 {
                // A quota or a webhook may refuse a Version: the status cannot say so, whoever describes the Module can see it.
                let reason = Reason::ApiUnavailable.as_str();
                ctx.events.warning(&lean.object_ref(&()), reason, "Reconcile", &error.to_string());
            }
            let failure = Failure::retry(Reason::ApiUnavailable, "");
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

async fn bring_closer(ctx: &Context, lean: &LeanModule, uid: &str) -> Result<Action, kube::Error> {
    let namespace = lean.metadata.namespace.clone().unwrap_or_default();
    let name = lean.metadata.name.clone().unwrap_or_default();
    let api = api::objects::<Module>(&ctx.client, &namespace);
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
    let (module, problem) = view(&raw);
    let (selection, plan) = decide(&module, &children, problem.as_ref());
    ctx.waiting.set(&namespace, &name, plan.waiting.keys());
    if module.metadata.deletion_timestamp.is_some() {
        apply::apply(&ctx.client, &module, &plan).await?;
        return Ok(Action::await_change());
    }
    let mut again = None;
    let token = match throttle(ctx, &module, uid) {
        Some(Ok(())) => Some(Uuid::new_v4().to_string()),
        Some(Err(at)) => {
            again = Duration::try_from(at.duration_since(Timestamp::now())).ok();
            None
        }
        None => None,
    };
    let after = status::status(
        &module,
        &selection,
        &children,
        &plan,
        problem.as_ref(),
        token.as_deref(),
        Timestamp::now(),
    );
    // The status goes first: it records digests before their Versions go, and a request before it is handed on.
    let mut version = raw.metadata.resource_version.clone();
    match api::patch_status(&api, &name, version.as_deref(), &module.status, &after).await {
        Ok(Some(written)) => {
            version = written.metadata.resource_version;
            tell(ctx, &raw, &module, &after);
            // The write comes back through the watch. It changed nothing that the plan was made on, unless it opened or
            // closed a request: then the next reconcile hands it on.
        }
        Ok(None) => {}
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            return Ok(Action::requeue(Duration::from_millis(50)));
        }
        Err(error) => return Err(error),
    }
    if status::resets_force(&module) {
        let patched =
            api::patch(&api, &name, version.as_deref(), json!({"spec": {"forceSync": false}})).await;
        if !matches!(&patched, Err(kube::Error::Api(status)) if status.is_conflict()) {
            patched?;
        }
        return Ok(Action::requeue(COALESCE));
    }
    let done = apply::apply(&ctx.client, &module, &plan).await?;
    if done != apply::Done::default() {
        tracing::info!(
            created = done.created,
            changed = done.changed,
            deleted = done.deleted,
            "Versions brought up to date"
        );
    }
    if done.outdated > 0 {
        again = Some(again.unwrap_or(COALESCE).min(COALESCE));
    }
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// Selection and plan; with a problem in the configuration, nothing is created, changed or deleted.
fn decide(
    module: &ModuleView,
    children: &[&LeanVersion],
    problem: Option<&(Reason, String)>,
) -> (Selection, Plan) {
    let selection = select::select(module, children);
    let plan = if problem.is_some() { Plan::default() } else { plan::plan(module, &selection, children) };
    (selection, plan)
}

/// The Module with its parts parsed, and what makes it unusable.
fn view(raw: &DynamicObject) -> (ModuleView, Option<(Reason, String)>) {
    let spec = api::part::<crate::crd::ModuleSpec>(raw, "spec");
    let status = api::part(raw, "status").unwrap_or_default();
    let name = raw.metadata.name.clone().unwrap_or_default();
    let problem = match &spec {
        Err(unreadable) => Some(unreadable.clone()),
        Ok(spec) => spec.module_config.check(&name).err().map(|invalid| invalid.to_string()),
    };
    let module = ModuleView { metadata: raw.metadata.clone(), spec: spec.unwrap_or_default(), status };
    (module, problem.map(|message| (Reason::InvalidSpec, message)))
}

/// Whether a request that stands may be opened now, or else when: a loop of forced syncs is slowed down.
fn throttle(ctx: &Context, module: &ModuleView, uid: &str) -> Option<Result<(), Timestamp>> {
    let id = status::wants_request(module)?;
    Some(ctx.memories.with(uid, |memory| memory.forces.admit(&id, Timestamp::now())))
}

/// Events where the Module's readiness or reason changed.
fn tell(ctx: &Context, raw: &DynamicObject, before: &ModuleView, after: &crate::crd::ModuleStatus) {
    let ready =
        |conditions| condition::find(conditions, "Ready").map(|c| (c.status.clone(), c.reason.clone()));
    let (old, new) = (ready(&before.status.conditions), ready(&after.conditions));
    if old == new {
        return;
    }
    let Some(condition) = condition::find(&after.conditions, "Ready") else { return };
    let mut reference: ObjectReference = raw.object_ref(&ApiResource::erase::<Module>(&()));
    reference.resource_version = None;
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
