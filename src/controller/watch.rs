//! Watches of a kind into a store, and the loops that drive controllers.
//!
//! `kube::runtime::Controller` is not used: each kind is watched once for both controllers, which kube 5.0 offers
//! only as the unstable feature `unstable-runtime-subscribe`.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::observe::liveness::{Liveness, Part};

/// Whether the cache holds this object, by UID. It no longer holds a deleted one.
pub fn is_cached<K>(store: &Store<K>, reference: &ObjectRef<K>, object: &K) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(reference).is_some_and(|cached| cached.meta().uid == object.meta().uid)
}

/// What the watches of one scope have in common.
#[derive(Clone, Copy)]
pub struct Watcher<'a> {
    /// A client without a read timeout: a watch is silent for minutes.
    pub client: &'a Client,
    /// The namespace to watch; `None` is the whole cluster.
    pub namespace: Option<&'a str>,
    /// Records that the watch is alive.
    pub liveness: &'a Liveness,
    /// Becomes true when the operator stops.
    pub stop: &'a watch::Receiver<bool>,
}

impl Watcher<'_> {
    /// Watches a kind into a cache until the operator stops. Calls `on_event` for each object that was added, changed or
    /// deleted, and `on_listed` after each list. Lists are read in pages of `page_size` objects: the text of a page is in memory
    /// as a whole, twice.
    ///
    /// The objects of a list are announced once the cache holds all of them, because the cache is replaced as a whole. (Only
    /// the controller may await the cache itself: kube wakes only the last of several waiters.)
    pub fn run<K>(
        self,
        (cache, writer): (Store<K>, reflector::store::Writer<K>),
        page_size: u32,
        on_event: impl Fn(&K) + Send + 'static,
        on_listed: impl Fn() + Send + 'static,
    ) -> impl Future<Output = &'static str> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned + Send + Sync + 'static,
    {
        let client = self.client.clone();
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let config = watcher::Config::default().page_size(page_size);
        let stop = stopping(self.stop.clone());
        let mut part = self.liveness.part(&format!("the watch of {}s", K::kind(&()).to_lowercase()));
        async move {
            let events = watcher(api, config).default_backoff().reflect(writer).take_until(stop);
            let mut events = std::pin::pin!(events);
            while let Some(event) = part.next_of(&mut events).await {
                match event {
                    Ok(Event::Apply(object) | Event::Delete(object)) => on_event(&object),
                    Ok(Event::InitDone) => {
                        cache.state().iter().for_each(|object| on_event(object));
                        on_listed();
                    }
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watch failed; retrying"),
                }
            }
            "a watch"
        }
    }
}

/// Drives a controller until its queue ends and its work in flight is done.
pub async fn controller<K, E>(
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
        // The only possible error: the object was deleted while it was queued.
        if let Err(error) = result {
            tracing::trace!(%error, name, "object no longer exists");
        }
    }
    name
}

/// The requests of a queue until the operator stops.
pub fn queue_until<K: Resource + 'static>(
    requests: mpsc::UnboundedReceiver<ObjectRef<K>>,
    stop: watch::Receiver<bool>,
) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> {
    requests.map(Ok).take_until(stopping(stop))
}

/// A reconcile that cannot end the controller: a panic is caught, and the object is requeued after a minute. Each log line
/// within carries controller, object and an id of the reconcile.
pub fn guarded<K, C, F>(
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
                    tracing::error!("reconcile panicked; retrying in 1m");
                    Action::requeue(Duration::from_mins(1))
                }))
            })
            .instrument(span)
            .boxed()
    }
}

/// Reconciles return no errors: they record each failure and requeue the object.
pub fn no_error<K, C>(_: Arc<K>, error: &Infallible, _: Arc<C>) -> Action {
    match *error {}
}

/// Resolves when the operator stops.
pub async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped because the operator ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::state::ModuleState;

    #[tokio::test]
    async fn a_panic_is_caught_and_the_object_requeued() {
        let reconcile = |module: Arc<ModuleState>, _: Arc<()>| async move {
            assert!(module.name_any() != "odd", "an odd one");
            Action::await_change()
        };
        let mut guarded = guarded("module", reconcile);
        let module = |name: &str| {
            let object = serde_json::json!({"metadata": {"name": name, "namespace": "acme"}, "spec": {}});
            Arc::new(serde_json::from_value::<ModuleState>(object).unwrap())
        };
        assert_eq!(guarded(module("odd"), Arc::default()).await, Ok(Action::requeue(Duration::from_mins(1))));
        assert_eq!(guarded(module("even"), Arc::default()).await, Ok(Action::await_change()));
    }
}
