//! The loop of a controller: reconciles the objects of a queue, many at once, and each at most once at a time.
//!
//! `kube::runtime::applier` is not used: it polls every reconcile at each wake-up, so that thousands of waiting reconciles use up
//! a processor, and a reconcile gets no change of its object before it has ended.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::watch::{all_true, stopping};
use super::work_queue::{Action, WorkQueue};
use crate::observe::liveness::Heartbeat;

/// The changes of an object while it is being reconciled. Behind one pointer, because thousands of reconciles wait.
pub struct Latest<K: kube::Resource<DynamicType = ()> + 'static>(Arc<Watched<K>>);

struct Watched<K: kube::Resource<DynamicType = ()> + 'static> {
    object: Key<K>,
    cache: Store<K>,
    changed: Notify,
}

impl<K: kube::Resource<DynamicType = ()> + Clone + 'static> Latest<K> {
    /// Waits for the next change. Returns the state in the cache, or `None` if the object no longer exists. That state may be
    /// newer than the change, so the next call may return the same one again.
    pub async fn next(&self) -> Option<Arc<K>> {
        self.0.changed.notified().await;
        self.0.cache.get(&self.0.object)
    }
}

/// What a controller works with.
pub(crate) struct Controller<K, C>
where
    K: kube::Resource<DynamicType = ()> + 'static,
{
    pub name: &'static str,
    pub context: Arc<C>,
    pub cache: Store<K>,
    /// Become true when the caches that reconciles read have held every object once, and what they need to know of all of them is
    /// recorded.
    pub listed: Vec<watch::Receiver<bool>>,
    /// The objects to reconcile.
    pub requests: mpsc::UnboundedReceiver<ObjectRef<K>>,
    /// Becomes true when the operator stops.
    pub stop: watch::Receiver<bool>,
}

/// A reference of which two copies are one: timers and running reconciles share it.
type Key<K> = Arc<ObjectRef<K>>;
type Running<K> = FuturesUnordered<BoxFuture<'static, (Key<K>, Action)>>;

impl<K, C> Controller<K, C>
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    /// Reconciles until the operator stops and the work in flight is done. Waits first until all objects are listed. Permits, not
    /// this loop, limit the number of concurrent reconciles: so a waiting object delays no other, and waiting objects are
    /// counted.
    pub(crate) async fn run<F>(
        mut self,
        mut heartbeat: Heartbeat,
        reconcile: impl Fn(Arc<K>, Latest<K>, Arc<C>) -> F + Send,
    ) -> &'static str
    where
        F: Future<Output = Action> + Send + 'static,
    {
        let mut stopped = Box::pin(stopping(self.stop.clone()));
        let ready = async {
            tokio::select! {
                listed = all_true(&mut self.listed) => listed,
                () = &mut stopped => false,
            }
        };
        if !heartbeat.during(ready).await {
            return self.name;
        }
        let (queue, running, latest) = (WorkQueue::default(), Running::new(), HashMap::new());
        let mut work = Work { queue, running, latest, stops: false };
        while !(work.stops && work.running.is_empty()) {
            let object = heartbeat.during(work.next(&mut self.requests, &mut stopped)).await;
            let Some(object) = object.filter(|_| !work.stops) else { continue };
            match self.cache.get(&object) {
                Some(cached) => {
                    let latest = work.started(&object, &self.cache);
                    let context = Arc::clone(&self.context);
                    work.running.push(guarded(self.name, object, cached, |cached| {
                        reconcile(cached, latest, context)
                    }));
                }
                // It was deleted while it was queued.
                None => drop(work.finished(object, Action::await_change())),
            }
        }
        self.name
    }
}

struct Work<K: kube::Resource<DynamicType = ()> + 'static> {
    queue: WorkQueue<Key<K>>,
    /// Polls only the reconciles that were woken.
    running: Running<K>,
    /// Announces changes to the running reconciles.
    latest: HashMap<Key<K>, Latest<K>>,
    /// Whether no further reconcile starts.
    stops: bool,
}

impl<K: kube::Resource<DynamicType = ()> + Clone + 'static> Work<K> {
    /// Waits for the next event. Returns the object whose reconcile starts now, if there is one.
    async fn next(
        &mut self,
        requests: &mut mpsc::UnboundedReceiver<ObjectRef<K>>,
        stopped: &mut (impl Future<Output = ()> + Unpin),
    ) -> Option<Key<K>> {
        let (due, runs) = (self.queue.next_due(), !self.stops);
        tokio::select! {
            // Reconciles that end at once do so before the next one begins: a list of thousands is not in memory twice.
            biased;
            () = &mut *stopped, if runs => self.stops = true,
            Some((object, next)) = self.running.next(), if !self.running.is_empty() => {
                return self.finished(object, next);
            }
            Some(object) = requests.next(), if runs => return self.requested(object),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && runs => {
                return self.queue.take_due(Instant::now());
            }
            else => self.stops = true,
        }
        None
    }

    /// Returns the object if its reconcile starts now.
    fn requested(&mut self, mut object: ObjectRef<K>) -> Option<Key<K>> {
        // Not part of the identity, and kept as long as the object is scheduled.
        object.extra.resource_version = None;
        object.extra.uid = None;
        let object = Arc::new(object);
        if self.queue.request(&object) {
            return Some(object);
        }
        if let Some(latest) = self.latest.get(&object) {
            latest.0.changed.notify_one();
        }
        None
    }

    fn started(&mut self, object: &Key<K>, cache: &Store<K>) -> Latest<K> {
        let watched = Watched { object: Arc::clone(object), cache: cache.clone(), changed: Notify::new() };
        let latest = Latest(Arc::new(watched));
        self.latest.insert(Arc::clone(object), Latest(Arc::clone(&latest.0)));
        latest
    }

    /// Returns the object if its next reconcile starts now.
    fn finished(&mut self, object: Key<K>, next: Action) -> Option<Key<K>> {
        self.latest.remove(&object);
        self.queue.finish(&object, next, Instant::now()).then_some(object)
    }
}

/// A reconcile that cannot end the controller: a panic is caught, and the object is requeued after a minute. Each log line
/// within carries controller, object and an id of the reconcile.
fn guarded<K, F>(
    controller: &'static str,
    object: Key<K>,
    cached: Arc<K>,
    reconcile: impl FnOnce(Arc<K>) -> F,
) -> BoxFuture<'static, (Key<K>, Action)>
where
    K: kube::Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Future<Output = Action> + Send + 'static,
{
    static RECONCILES: AtomicU64 = AtomicU64::new(0);
    let id = RECONCILES.fetch_add(1, Ordering::Relaxed);
    let (namespace, object_name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    // Lines of every level name their object, whatever the level of the log.
    let span =
        tracing::error_span!(parent: None, "reconcile", controller, namespace, object = object_name, id);
    // Combinators, not an async block: a block that captures a future and awaits it holds that future twice.
    AssertUnwindSafe(reconcile(cached))
        .catch_unwind()
        .map(|outcome| {
            let next = outcome.unwrap_or_else(|_| {
                // The panic hook has counted and logged the panic itself.
                tracing::error!("reconcile panicked; retrying in 1m");
                Action::requeue(Duration::from_mins(1))
            });
            (object, next)
        })
        .instrument(span)
        .boxed()
}

#[cfg(test)]
mod tests;
