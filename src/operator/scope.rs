//! The watches and controllers of one scope: the cluster, or one namespace.
//!
//! Each kind is watched once. Events of Versions are routed to both controllers, see [`super::router`].

use std::sync::Arc;

use futures::channel::mpsc;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Client, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::router::{Queue, Router};
use crate::api::state::{ModuleState, VersionState};
use crate::controller::events::Events;
use crate::controller::object_metrics::ObjectMetrics;
use crate::controller::runner::{Controller, Latest};
use crate::controller::watch::Watcher;
use crate::controller::work_queue::Action;
use crate::module;
use crate::observe::liveness::Liveness;
use crate::observe::metrics::Metrics;
use crate::version;

/// Objects per page of a list. A Module of 5,000 versions has a megabyte, a Version some kilobytes.
const MODULES_PER_PAGE: u32 = 5;
const VERSIONS_PER_PAGE: u32 = 50;

/// What all scopes share.
pub(super) struct Shared {
    pub client: Client,
    /// Without a read timeout, since a watch is silent for minutes.
    pub watch_client: Client,
    pub version: Arc<version::Context>,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    pub object_metrics: ObjectMetrics,
    /// When the next Module of an earlier release gets the finalizer.
    pub pace: Arc<module::FinalizerPace>,
    pub liveness: Liveness,
    /// Becomes true when the operator stops.
    pub stop: watch::Receiver<bool>,
}

/// Starts the watches and controllers of one scope. The returned values become true when the cache of Modules, and that of
/// Versions, has held every object once.
pub(super) fn start_scope(
    shared: &Shared,
    namespace: Option<&str>,
    tasks: &mut JoinSet<&'static str>,
) -> [watch::Receiver<bool>; 2] {
    let (modules, module_writer) = reflector::store();
    let (versions, version_writer) = reflector::store();
    shared.object_metrics.add(modules.clone(), versions.clone());
    let (module_queue, module_requests) = mpsc::unbounded();
    let (version_queue, version_requests) = mpsc::unbounded();
    let (modules_listed, all_modules) = watch::channel(false);
    let (versions_listed, all_versions) = watch::channel(false);
    let caches = ((modules.clone(), all_modules.clone()), (versions.clone(), all_versions.clone()));
    let module = module_context(shared, caches, (module_queue.clone(), version_queue.clone()));
    let router = Arc::new(Router {
        scope: namespace.map(str::to_owned),
        modules: modules.clone(),
        versions: versions.clone(),
        module_queue,
        version_queue,
        modules_listed,
        versions_listed,
        module: Arc::clone(&module),
        version: Arc::clone(&shared.version),
    });
    let watcher =
        Watcher { client: &shared.watch_client, namespace, liveness: &shared.liveness, stop: &shared.stop };
    let [on_modules, on_versions] = [Arc::clone(&router), Arc::clone(&router)];
    let [on_modules_listed, on_versions_listed] = [Arc::clone(&router), router];
    tasks.spawn(watcher.run(
        (modules.clone(), module_writer),
        MODULES_PER_PAGE,
        move |module| on_modules.on_module(module),
        move || on_modules_listed.on_modules_listed(),
    ));
    tasks.spawn(watcher.run(
        (versions.clone(), version_writer),
        VERSIONS_PER_PAGE,
        move |version| on_versions.on_version(version),
        move || on_versions_listed.on_versions_listed(),
    ));
    let reconcile = |module, _, context| module::reconcile(module, context);
    tasks.spawn(shared.controller("module", reconcile, module, modules, module_requests));
    let version = Arc::clone(&shared.version);
    tasks.spawn(shared.controller("version", version::reconcile, version, versions, version_requests));
    [all_modules, all_versions]
}

/// A cache, and whether it has held every object once.
type Cache<K> = (Store<K>, watch::Receiver<bool>);

fn module_context(
    shared: &Shared,
    ((modules, modules_listed), (versions, versions_listed)): (Cache<ModuleState>, Cache<VersionState>),
    (module_queue, version_queue): (Queue<ModuleState>, Queue<VersionState>),
) -> Arc<module::Context> {
    Arc::new(module::Context {
        client: shared.client.clone(),
        versions: module::Versions::new(versions),
        versions_listed,
        modules,
        modules_listed,
        addresses: module::Addresses::default(),
        permits: module::Permits::default(),
        retries: module::Retries::default(),
        waiting: module::WaitingModules::default(),
        owners: shared.version.owners.clone(),
        finalizer_pace: Arc::clone(&shared.pace),
        module_queue,
        version_queue,
        events: shared.events.clone(),
        metrics: Arc::clone(&shared.metrics),
    })
}

impl Shared {
    /// A controller that reconciles the objects of a queue until the operator stops.
    fn controller<K, C, F>(
        &self,
        name: &'static str,
        reconcile: impl Fn(Arc<K>, Latest<K>, Arc<C>) -> F + Send + 'static,
        context: Arc<C>,
        cache: Store<K>,
        requests: mpsc::UnboundedReceiver<ObjectRef<K>>,
    ) -> impl Future<Output = &'static str> + Send + 'static
    where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
        C: Send + Sync + 'static,
        F: Future<Output = Action> + Send + 'static,
    {
        let controller = Controller { name, context, cache, requests, stop: self.stop.clone() };
        controller.run(self.liveness.part(&format!("the {name} controller")), reconcile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn waiting_reconciles_are_small() {
        // Thousands wait at once, each with the whole size of its future.
        let (version, module) = (
            size_of_future(version::reconcile),
            size_of_future(|module, (), context| module::reconcile(module, context)),
        );
        assert!(version <= 2048 && module <= 2048, "a Version holds {version} bytes, a Module {module}");
    }
}
