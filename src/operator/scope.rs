//! The watches and controllers of one scope: the cluster, or one namespace.
//!
//! Each kind is watched once. Events of Versions are routed to both controllers, see [`super::router`].

use std::sync::Arc;

use futures::channel::mpsc;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::router::Router;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::object_metrics::ObjectMetrics;
use crate::controller::runner::Controller;
use crate::controller::watch::{MODULES_PER_PAGE, VERSIONS_PER_PAGE, Watcher, stopping};
use crate::module;
use crate::observe::liveness::Liveness;
use crate::version;

/// What all scopes share.
pub(super) struct Shared {
    /// Without a read timeout, since a watch is silent for minutes.
    pub watch_client: Client,
    pub version: Arc<version::Context>,
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
    let context = shared.module_context(caches, (module_queue, version_queue));
    let router = Arc::new(Router {
        scope: namespace.map(str::to_owned),
        modules_listed,
        versions_listed,
        module: Arc::clone(&context),
        version: Arc::clone(&shared.version),
    });
    let Shared { watch_client: client, version, liveness, stop, .. } = shared;
    let watcher = Watcher { client, namespace, liveness, age: &version.metrics.watches };
    let stop = || stopping(stop.clone());
    let on_event = routed(module_writer, Arc::clone(&router), Router::on_module, Router::on_modules_listed);
    tasks.spawn(watcher.run(MODULES_PER_PAGE, stop(), on_event));
    let on_event = routed(version_writer, router, Router::on_version, Router::on_versions_listed);
    tasks.spawn(watcher.run(VERSIONS_PER_PAGE, stop(), on_event));
    let heartbeat = liveness.heartbeat_in(namespace, "the module controller");
    // With an incomplete cache of either kind, a name or an address would appear to be free.
    let controller = shared.controller("module", context, (modules, module_requests), &listed);
    tasks.spawn(controller.run(heartbeat, |module, _, context| module::reconcile(module, context)));
    let heartbeat = liveness.heartbeat_in(namespace, "the version controller");
    let requested = (versions, version_requests);
    let controller = shared.controller("version", Arc::clone(version), requested, &listed[1..]);
    tasks.spawn(controller.run(heartbeat, version::reconcile));
    listed
}

/// Fills a cache with the events of a kind. Calls `on_object` for each object that was added, changed or deleted, and
/// `on_listed` after each list.
///
/// `on_object` is called for the objects of a list once the cache holds all of them, because the cache is replaced as a whole.
fn routed<K: Resource<DynamicType = ()> + Clone + 'static>(
    mut cache: Writer<K>,
    router: Arc<Router>,
    on_object: fn(&Router, &K),
    on_listed: fn(&Router),
) -> impl FnMut(Event<K>) {
    move |event| {
        cache.apply_watcher_event(&event);
        match event {
            Event::Apply(object) | Event::Delete(object) => on_object(&router, &object),
            Event::InitDone => {
                cache.as_reader().state().iter().for_each(|object| on_object(&router, object));
                on_listed(&router);
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// A queue of objects to reconcile.
type Queue<K> = mpsc::UnboundedSender<ObjectRef<K>>;

impl Shared {
    fn module_context(
        &self,
        (modules, versions): (Store<ModuleState>, Store<VersionState>),
        (module_queue, version_queue): (Queue<ModuleState>, Queue<VersionState>),
    ) -> Arc<module::Context> {
        Arc::new(module::Context {
            client: self.version.client.clone(),
            versions: module::Versions::new(versions),
            modules,
            addresses: module::Addresses::default(),
            permits: module::Permits::default(),
            memories: module::Memories::default(),
            waiting: module::WaitingModules::default(),
            owners: self.version.owners.clone(),
            finalizer_pace: Arc::clone(&self.pace),
            module_queue,
            version_queue,
            events: self.version.events.clone(),
            metrics: Arc::clone(&self.version.metrics),
        })
    }

    fn controller<K, C>(
        &self,
        name: &'static str,
        context: Arc<C>,
        (cache, requests): (Store<K>, mpsc::UnboundedReceiver<ObjectRef<K>>),
        listed: &[watch::Receiver<bool>],
    ) -> Controller<K, C>
    where
        K: Resource<DynamicType = ()> + 'static,
    {
        Controller { name, context, cache, listed: listed.to_vec(), requests, stop: self.stop.clone() }
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
        assert!(version <= 2304 && module <= 1024, "a Version holds {version} bytes, a Module {module}");
    }
}
