//! The watches and controllers of one scope: the cluster, or one namespace.
//!
//! Each kind is watched once. Events of Versions are routed to both controllers, see [`super::router`].

use std::sync::Arc;

use futures::channel::mpsc;
use kube::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::router::Router;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::events::Events;
use crate::controller::object_metrics::ObjectMetrics;
use crate::controller::runner::Controller;
use crate::controller::watch::Watcher;
use crate::module;
use crate::observe::liveness::Liveness;
use crate::observe::metrics::Metrics;
use crate::version;

/// Objects per page of a list. A page is in memory as a whole. While the queue is longest, 32 MiB of the shipped memory limit are
/// free. A Module of 5,000 versions has a megabyte, and more while it is parsed; a Version has some kilobytes. Where Versions have
/// more, the client reads fewer at once.
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
    let listed = [all_modules, all_versions];
    let caches = (modules.clone(), versions.clone());
    let context = shared.module_context(caches, listed.clone(), (module_queue, version_queue));
    let router = Arc::new(Router {
        scope: namespace.map(str::to_owned),
        modules_listed,
        versions_listed,
        module: Arc::clone(&context),
        version: Arc::clone(&shared.version),
    });
    start_watches(
        shared,
        namespace,
        &router,
        (modules.clone(), module_writer),
        (versions.clone(), version_writer),
        tasks,
    );
    let (part, stop) = (shared.liveness.part_in(namespace, "the module controller"), shared.stop.clone());
    let [all_modules, all_versions] = listed.clone();
    let controller = Controller {
        name: "module",
        context,
        cache: modules,
        listed: all_modules,
        requests: module_requests,
        stop,
    };
    tasks.spawn(controller.run(part, |module, _, context| module::reconcile(module, context)));
    let (part, stop) = (shared.liveness.part_in(namespace, "the version controller"), shared.stop.clone());
    let context = Arc::clone(&shared.version);
    let controller = Controller {
        name: "version",
        context,
        cache: versions,
        listed: all_versions,
        requests: version_requests,
        stop,
    };
    tasks.spawn(controller.run(part, version::reconcile));
    listed
}

/// Starts the watches of Modules and Versions, each of which fills a cache.
fn start_watches(
    shared: &Shared,
    namespace: Option<&str>,
    router: &Arc<Router>,
    modules: (Store<ModuleState>, Writer<ModuleState>),
    versions: (Store<VersionState>, Writer<VersionState>),
    tasks: &mut JoinSet<&'static str>,
) {
    let watcher = Watcher {
        client: &shared.watch_client,
        namespace,
        liveness: &shared.liveness,
        age: &shared.metrics.watches,
        stop: &shared.stop,
    };
    tasks.spawn(watcher.run(
        modules,
        MODULES_PER_PAGE,
        Arc::clone(router),
        Router::on_module,
        Router::on_modules_listed,
    ));
    tasks.spawn(watcher.run(
        versions,
        VERSIONS_PER_PAGE,
        Arc::clone(router),
        Router::on_version,
        Router::on_versions_listed,
    ));
}

/// A queue of objects to reconcile.
type Queue<K> = mpsc::UnboundedSender<ObjectRef<K>>;

impl Shared {
    fn module_context(
        &self,
        (modules, versions): (Store<ModuleState>, Store<VersionState>),
        listed: [watch::Receiver<bool>; 2],
        (module_queue, version_queue): (Queue<ModuleState>, Queue<VersionState>),
    ) -> Arc<module::Context> {
        Arc::new(module::Context {
            client: self.client.clone(),
            versions: module::Versions::new(versions),
            modules,
            listed,
            addresses: module::Addresses::default(),
            permits: module::Permits::default(),
            retries: module::Retries::default(),
            waiting: module::WaitingModules::default(),
            owners: self.version.owners.clone(),
            finalizer_pace: Arc::clone(&self.pace),
            module_queue,
            version_queue,
            events: self.events.clone(),
            metrics: Arc::clone(&self.metrics),
        })
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
