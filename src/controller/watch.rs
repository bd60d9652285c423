//! Watches of a kind into a store.
//!
//! `kube::runtime::Controller` is not used: each kind is watched once for both controllers, which kube 5.0 offers
//! only as the unstable feature `unstable-runtime-subscribe`.

use std::sync::Arc;

use futures::StreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::observe::liveness::Liveness;

/// What the watches of one scope have in common.
#[derive(Clone, Copy)]
pub(crate) struct Watcher<'a> {
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
    /// `on_event` is called for the objects of a list once the cache holds all of them, because the cache is replaced as a whole.
    /// (Only the controller may await the cache itself: kube wakes only the last of several waiters.)
    pub(crate) fn run<K, R>(
        self,
        (cache, writer): (Store<K>, reflector::store::Writer<K>),
        page_size: u32,
        router: Arc<R>,
        on_event: fn(&R, &K),
        on_listed: fn(&R),
    ) -> impl Future<Output = &'static str> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned + Send + Sync + 'static,
        R: Send + Sync + 'static,
    {
        let client = self.client.clone();
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let config = watcher::Config::default().page_size(page_size);
        let stop = stopping(self.stop.clone());
        let watch = format!("the watch of {}s", K::kind(&()).to_lowercase());
        let mut part = self.liveness.part_in(self.namespace, &watch);
        async move {
            let events = watcher(api, config).default_backoff().reflect(writer).take_until(stop);
            let mut events = std::pin::pin!(events);
            while let Some(event) = part.next_of(&mut events).await {
                match event {
                    Ok(Event::Apply(object) | Event::Delete(object)) => on_event(&router, &object),
                    Ok(Event::InitDone) => {
                        cache.state().iter().for_each(|object| on_event(&router, object));
                        on_listed(&router);
                    }
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watch failed; retrying"),
                }
            }
            "a watch"
        }
    }
}

/// Resolves when the operator stops.
pub(crate) async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped because the operator ended.
    let _ = stop.wait_for(|stop| *stop).await;
}
