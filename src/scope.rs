//! The watches and controllers of one scope: the cluster, or one namespace.
//!
//! In: what all scopes share. Out: running tasks, and a sign for each watch that it has seen every object once. Each kind
//! is watched once; what the Version watch tells goes to both controllers.

use std::collections::HashSet;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::runtime::controller::{Action, Config as Applier};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, applier, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::census::Census;
use crate::crd::lean::{LeanModule, LeanVersion};
use crate::events::Events;
use crate::liveness::{Liveness, Part};
use crate::metrics::Metrics;
use crate::owners::{self, Owners};
use crate::{module, version};

/// Objects per page of a list: a page is in memory as text and parsed at once.
const PAGE: u32 = 50;

/// Modules that are reconciled at once.
const MODULES: usize = 8;

/// What all scopes share.
pub struct Shared {
    /// For requests.
    pub client: Client,
    /// For watches, which are silent for minutes.
    pub watch_client: Client,
    /// What the Version controller works with.
    pub version: Arc<version::Context>,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Counts what is watched.
    pub census: Census,
    /// When the next Module gets the finalizer that had Versions before.
    pub pace: Arc<module::finalizer::Pace>,
    /// Where loops show that they are alive.
    pub liveness: Liveness,
    /// Becomes true when the operator stops.
    pub stop: watch::Receiver<bool>,
}

/// Starts the watches and controllers of one scope. Gives what becomes true when each watch has seen every object once.
pub fn start_scope(
    shared: &Shared,
    namespace: Option<&str>,
    tasks: &mut JoinSet<&'static str>,
) -> [watch::Receiver<bool>; 2] {
    let (modules, module_writer) = reflector::store();
    let (versions, version_writer) = reflector::store();
    shared.census.add(modules.clone(), versions.clone());
    let (module_queue, module_requests) = mpsc::unbounded();
    let (version_queue, version_requests) = mpsc::unbounded();
    let (modules_seen, all_modules) = watch::channel(false);
    let (versions_seen, all_versions) = watch::channel(false);
    let context = Arc::new(module::Context {
        client: shared.client.clone(),
        versions: versions.clone(),
        versions_seen: all_versions.clone(),
        turns: Arc::new(Semaphore::new(MODULES)),
        memories: module::Memories::default(),
        waiting: module::Waiting::default(),
        owners: shared.version.owners.clone(),
        pace: Arc::clone(&shared.pace),
        wake: version_queue.clone(),
        events: shared.events.clone(),
        metrics: Arc::clone(&shared.metrics),
    });

    let owned = Owned {
        owners: shared.version.owners.clone(),
        scope: namespace.map(str::to_owned),
        versions: versions.clone(),
        queue: version_queue.clone(),
    };
    let (module_context, queue, known_modules, watched) =
        (Arc::clone(&context), module_queue.clone(), modules.clone(), owned.clone());
    let listed_modules = all_modules.clone();
    let tell = move |module: &LeanModule| {
        let reference = ObjectRef::from_obj(module);
        if known(&known_modules, &reference, module) {
            let new = watched.owners.update(&module.metadata, &module.policy);
            // Its Versions may have been seen before it was.
            if new && *listed_modules.borrow() {
                watched.look_again(module.metadata.uid.as_deref());
            }
        } else {
            module_context.forget(module);
            watched.gone(module);
        }
        let _ = queue.unbounded_send(reference);
    };
    let (module_context, known_modules) = (Arc::clone(&context), modules.clone());
    let queue = module_queue.clone();
    let listed = move || {
        let all = known_modules.state();
        owned.listed(&all, &queue);
        modules_seen.send_replace(true);
        module_context.keep_only(&all);
    };
    tasks.spawn(watch_loop(shared, namespace, (modules.clone(), module_writer), tell, listed));

    let (module_context, queue) = (Arc::clone(&context), module_queue.clone());
    let (version_context, known_versions) = (Arc::clone(&shared.version), versions.clone());
    let tell = move |version: &LeanVersion| {
        let reference = ObjectRef::from_obj(version);
        // Before its Module is reconciled, which is to find what this one held.
        if known(&known_versions, &reference, version) {
            version_context.owners.note(version);
        } else {
            version_context.owners.version_gone(version);
            // Another client may have removed our finalizer, so that no reconcile saw the end of this Version.
            version_context.memories.forget(version.metadata.uid.as_deref().unwrap_or_default());
        }
        let _ = version_queue.unbounded_send(reference);
        for module in concerned(version, &module_context.waiting) {
            let _ = queue.unbounded_send(module);
        }
    };
    let known_modules = modules.clone();
    let listed = move || {
        versions_seen.send_replace(true);
        // While the watch was down Versions may have gone without a word: every Module looks again.
        for module in known_modules.state() {
            let _ = module_queue.unbounded_send(ObjectRef::from_obj(module.as_ref()));
        }
    };
    tasks.spawn(watch_loop(shared, namespace, (versions.clone(), version_writer), tell, listed));
    // Unbounded on purpose: semaphores are the bounds, so that one that waits for a fetch keeps no deletion waiting, and
    // those who wait can be counted.
    tasks.spawn(controller(
        "module",
        shared.liveness.part("the module controller"),
        applier(
            guarded("module", module::reconcile),
            no_error,
            context,
            modules.clone(),
            queue_until(module_requests, shared.stop.clone()),
            Applier::default().concurrency(0),
        ),
    ));
    tasks.spawn(controller(
        "version",
        shared.liveness.part("the version controller"),
        applier(
            guarded("version", version::reconcile),
            no_error,
            Arc::clone(&shared.version),
            versions.clone(),
            queue_until(version_requests, shared.stop.clone()),
            Applier::default().concurrency(0),
        ),
    ));
    [all_modules, all_versions]
}

/// The Modules that a Version's change may concern: its owner, and those that wait for its name.
fn concerned(version: &LeanVersion, waiting: &module::Waiting) -> Vec<ObjectRef<LeanModule>> {
    let namespace = version.namespace().unwrap_or_default();
    let mut names = waiting.for_name(&namespace, &version.name_any());
    names.extend(version.controller().filter(|o| o.kind == "Module").map(|o| o.name.clone()));
    names.into_iter().map(|name| ObjectRef::new(&name).within(&namespace)).collect()
}

/// Whether a store has this very object, which is not so of one that was deleted.
fn known<K>(store: &Store<K>, reference: &ObjectRef<K>, object: &K) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(reference).is_some_and(|known| known.meta().uid == object.meta().uid)
}

/// What the Module watch does for the Versions that Modules own.
#[derive(Clone)]
struct Owned {
    owners: Owners,
    scope: Option<String>,
    versions: Store<LeanVersion>,
    queue: mpsc::UnboundedSender<ObjectRef<LeanVersion>>,
}

impl Owned {
    /// All Modules were listed.
    fn listed(&self, modules: &[Arc<LeanModule>], queue: &mpsc::UnboundedSender<ObjectRef<LeanModule>>) {
        let uids: HashSet<_> = modules.iter().filter_map(|module| module.metadata.uid.clone()).collect();
        self.owners.listed(self.scope.as_deref(), &uids, Timestamp::now());
        self.look_again(None);
        self.ask_owners_of_deleted(queue);
    }

    /// A Module came to be known, or all did: their Versions that wait for it look again.
    fn look_again(&self, module: Option<&str>) {
        for version in self.versions.state() {
            let theirs = |uid| owners::owner(&version.metadata).is_some_and(|owner| owner.uid == uid);
            if module.is_some_and(|uid| !theirs(uid)) {
                continue;
            }
            self.owners.note(&version);
            if version.terminating() || !version.knows_digest() {
                let _ = self.queue.unbounded_send(ObjectRef::from_obj(version.as_ref()));
            }
        }
    }

    /// Queues the Modules of Versions that are being deleted: one that was reconciled before these were noted has not
    /// answered for them.
    fn ask_owners_of_deleted(&self, queue: &mpsc::UnboundedSender<ObjectRef<LeanModule>>) {
        let owner = |version: &Arc<LeanVersion>| {
            let owner = owners::owner(&version.metadata).filter(|_| version.terminating())?;
            Some(ObjectRef::new(&owner.name).within(&version.namespace().unwrap_or_default()))
        };
        let owners: HashSet<_> = self.versions.state().iter().filter_map(owner).collect();
        for module in owners {
            let _ = queue.unbounded_send(module);
        }
    }

    /// A Module is gone: that decides what becomes of its Versions.
    fn gone(&self, module: &LeanModule) {
        let (now, namespace) = (Timestamp::now(), module.namespace().unwrap_or_default());
        for name in self.owners.gone(module, now) {
            let _ = self.queue.unbounded_send(ObjectRef::new(&name).within(&namespace));
        }
        self.owners.sweep(self.scope.as_deref(), now, || {
            let versions = self.versions.state();
            versions
                .iter()
                .filter_map(|v| owners::owner(&v.metadata).map(|owner| owner.uid.clone()))
                .collect()
        });
    }
}

/// Watches a kind into a store; tells of each object that appears, changes or goes, and after each list of the end of it.
///
/// What a list brings is told when the store has it, not before: the store changes over as a whole. (Nothing but the
/// controller may wait for the store itself: kube wakes only the last of several who do.)
fn watch_loop<K>(
    shared: &Shared,
    namespace: Option<&str>,
    (store, writer): (Store<K>, reflector::store::Writer<K>),
    tell: impl Fn(&K) + Send + 'static,
    listed: impl Fn() + Send + 'static,
) -> impl Future<Output = &'static str> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
    K: DeserializeOwned + Send + Sync + 'static,
{
    let client = shared.watch_client.clone();
    let api: Api<K> =
        namespace.map_or_else(|| Api::all(client.clone()), |ns| Api::namespaced(client.clone(), ns));
    let config = watcher::Config::default().page_size(PAGE);
    let stop = stopping(shared.stop.clone());
    let mut part = shared.liveness.part(&format!("the watch of {}s", K::kind(&()).to_lowercase()));
    async move {
        let events = watcher(api, config).default_backoff().reflect(writer).take_until(stop);
        let mut events = std::pin::pin!(events);
        while let Some(event) = part.next_of(&mut events).await {
            match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => tell(&object),
                Ok(Event::InitDone) => {
                    store.state().iter().for_each(|object| tell(object));
                    listed();
                }
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "the watch failed; trying again"),
            }
        }
        "a watch"
    }
}

/// Drives a controller until its queue ends and its work in flight is done.
async fn controller<K, E>(
    name: &'static str,
    mut part: Part,
    results: impl Stream<Item = Result<(ObjectRef<K>, Action), E>>,
) -> &'static str
where
    K: Resource,
    E: std::fmt::Display,
{
    let mut results = std::pin::pin!(results);
    while let Some(result) = part.next_of(&mut results).await {
        // The one error there is: an object that went before its turn came.
        if let Err(error) = result {
            tracing::trace!(%error, name, "nothing to reconcile");
        }
    }
    name
}

/// The requests of a queue until the operator stops.
fn queue_until<K: Resource + 'static>(
    requests: mpsc::UnboundedReceiver<ObjectRef<K>>,
    stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> {
    requests.map(Ok).take_until(stopping(stop))
}

/// A reconcile that cannot end the controller: a panic is caught, and the object is requeued after a minute. Each log line
/// within carries controller, object and an id of the reconcile.
fn guarded<K, C, F>(
    controller: &'static str,
    reconcile: impl Fn(Arc<K>, Arc<C>) -> F,
) -> impl FnMut(Arc<K>, Arc<C>) -> futures::future::BoxFuture<'static, Result<Action, Infallible>>
where
    K: Resource<DynamicType = ()>,
    F: Future<Output = Action> + Send + 'static,
{
    static RECONCILES: AtomicU64 = AtomicU64::new(0);
    move |object, context| {
        let id = RECONCILES.fetch_add(1, Ordering::Relaxed);
        let (namespace, object_name) = (object.namespace().unwrap_or_default(), object.name_any());
        let span =
            tracing::info_span!(parent: None, "reconcile", controller, namespace, object = object_name, id);
        // Combinators, not an async block: a block that captures a future and awaits it holds that future twice.
        AssertUnwindSafe(reconcile(object, context))
            .catch_unwind()
            .map(|outcome| {
                Ok(outcome.unwrap_or_else(|_| {
                    // The panic hook has counted and logged the panic itself.
                    tracing::error!("the reconcile ended with a panic; retrying in 1 minute");
                    Action::requeue(Duration::from_mins(1))
                }))
            })
            .instrument(span)
            .boxed()
    }
}

/// The reconciles above give no errors: each failure has a status, a memory and a time for the next attempt.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is that of kube")]
fn no_error<K, C>(_: Arc<K>, error: &Infallible, _: Arc<C>) -> Action {
    match *error {}
}

/// Resolves when the operator stops.
pub async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the operator.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_caught_and_the_object_requeued() {
        let reconcile = |module: Arc<LeanModule>, _: Arc<()>| async move {
            assert!(module.name_any() != "odd", "an odd one");
            Action::await_change()
        };
        let mut guarded = guarded("module", reconcile);
        let module = |name: &str| {
            let object = serde_json::json!({"metadata": {"name": name, "namespace": "acme"}, "spec": {}});
            Arc::new(serde_json::from_value::<LeanModule>(object).unwrap())
        };
        assert_eq!(guarded(module("odd"), Arc::default()).await, Ok(Action::requeue(Duration::from_mins(1))));
        assert_eq!(guarded(module("even"), Arc::default()).await, Ok(Action::await_change()));
    }

    fn size_of_future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_waits_is_small() {
        // Thousands wait at once, each with all that its future may come to hold.
        let (version, module) = (size_of_future(version::reconcile), size_of_future(module::reconcile));
        assert!(version <= 2048 && module <= 2048, "a Version holds {version} bytes, a Module {module}");
    }
}
