//! Watches of a kind into a store.
//!
//! `kube::runtime::Controller` is not used: each kind is watched once for both controllers, which kube 5.0 offers
//! only as the unstable feature `unstable-runtime-subscribe`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::controller::client::explain;
use crate::controller::connection::watch_config;
use crate::observe::liveness::{Liveness, in_scope};
use crate::observe::watch_age::WatchAge;

/// The longest pause after a failure, so that a watch soon runs again when the cause is gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the watches of one scope have in common.
#[derive(Clone, Copy)]
pub(crate) struct Watcher<'a> {
    /// A client without a read timeout: a watch is silent for minutes.
    pub client: &'a Client,
    /// The namespace to watch; `None` is the whole cluster.
    pub namespace: Option<&'a str>,
    /// Records that the watch is alive.
    pub liveness: &'a Liveness,
    /// Records that the watch fails.
    pub age: &'a WatchAge,
    /// Becomes true when the operator stops.
    pub stop: &'a watch::Receiver<bool>,
}

impl Watcher<'_> {
    /// Watches a kind into a cache until the operator stops. Calls `on_event` for each object that was added, changed or
    /// deleted, and `on_listed` after each list. Lists are read in pages of `page_size` objects: the text of a page is in memory
    /// as a whole, twice.
    ///
    /// `on_event` is called for the objects of a list once the cache holds all of them, because the cache is replaced as a whole.
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
        let stop = stopping(self.stop.clone());
        let watch = format!("the watch of {}s", K::kind(&()).to_lowercase());
        let name = in_scope(self.namespace, &watch);
        let (mut part, age) = (self.liveness.part(&name), self.age.clone());
        async move {
            let events = events_of(api, page_size).reflect(writer).take_until(stop);
            let mut events = std::pin::pin!(events);
            while let Some(event) = part.next_of(&mut events).await {
                if event.as_ref().is_ok_and(shows_success) {
                    age.succeeded(&name);
                }
                match event {
                    Ok(Event::Apply(object) | Event::Delete(object)) => on_event(&router, &object),
                    Ok(Event::InitDone) => {
                        cache.state().iter().for_each(|object| on_event(&router, object));
                        on_listed(&router);
                    }
                    Ok(Event::Init | Event::InitApply(_)) => {}
                    Err(error) => {
                        age.failed(&name, Instant::now(), was_answered(&error));
                        warn_of(&error, &K::kind(&()));
                    }
                }
            }
            "a watch"
        }
    }
}

/// The events of a kind, with a pause after each failure.
///
/// kube's own `default_backoff` starts anew with each list, also if all of them fail. If a watch cannot be started, kube repeats it
/// from the same resourceVersion without an end: see [`has_to_list`].
pub(crate) fn events_of<K>(
    api: Api<K>,
    page_size: u32,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let start = move || Box::pin(watcher(api.clone(), watch_config(page_size)));
    let watch = (start(), DefaultBackoff::default(), Duration::ZERO);
    stream::unfold((watch, start), |((mut events, mut backoff, pause), start)| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = events.next().await?;
        let pause = pause_after(&event, &mut backoff);
        if event.as_ref().is_err_and(|error| has_to_list(error, pause)) {
            events = start();
        }
        Some((event, ((events, backoff, pause), start)))
    })
}

/// Pauses grow until the watch shows a change, or no attempt has failed for two minutes. A complete list does not suffice: a
/// gateway may answer lists, and no watch.
fn pause_after<K>(event: &Result<Event<K>, watcher::Error>, backoff: &mut DefaultBackoff) -> Duration {
    match event {
        Ok(Event::Apply(_) | Event::Delete(_)) => backoff.reset(),
        Ok(_) => {}
        Err(_) => return backoff.next().map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE)),
    }
    Duration::ZERO
}

/// Whether a watch that cannot be started needs a new list. HTTP 410, with which some gateways reject a resourceVersion that is too
/// old, does: the API server itself sends an event instead, after which kube lists again. So does a long outage, because etcd may
/// have been restored: from a resourceVersion that is not reached yet, the API server starts a watch, and sends nothing.
fn has_to_list(error: &watcher::Error, pause: Duration) -> bool {
    match error {
        // kube returns the code 0 for JSON that is no status, such as that of a gateway.
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if (1..500).contains(&status.code) => {
            status.code == 410
        }
        watcher::Error::WatchStartFailed(_) => pause == LONGEST_PAUSE,
        _ => false,
    }
}

/// Whether a watch failed after it had been answered.
pub(crate) fn was_answered(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchFailed(_))
}

/// Whether an event shows that the list is complete, or that the watch runs. Other events prove neither: kube sends `Init` before
/// its request, and a list may fail after any of its pages.
pub(crate) fn shows_success<K>(event: &Event<K>) -> bool {
    matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_))
}

/// Logs an attempt of a watch that failed, and what to do about it.
pub(crate) fn warn_of(error: &watcher::Error, kind: &str) {
    let (message, code) = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => {
            let code = if let kube::Error::Api(status) = cause { Some(status.code) } else { None };
            (explain(cause), code)
        }
        watcher::Error::WatchError(status) => (status.message.clone(), Some(status.code)),
        watcher::Error::NoResourceVersion => (error.to_string(), None),
    };
    tracing::warn!(error = message, kind, fix = fix(code), "watch failed; retrying");
}

/// What to do about the code of an answer, if that is known.
fn fix(code: Option<u16>) -> Option<&'static str> {
    match code {
        Some(403) => {
            Some("grant list and watch of modules and versions, as the shipped rbac.yaml and the chart do")
        }
        Some(404) => Some(
            "install the CustomResourceDefinitions of this release: `opendepot crd` prints them, and crds/ contains them",
        ),
        _ => None,
    }
}

/// Resolves when the operator stops.
pub(crate) async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped because the operator ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;

    use super::*;
    use crate::api::state::VersionState;

    #[test]
    fn pauses_grow_until_the_watch_runs() {
        let mut backoff = DefaultBackoff::default();
        let mut pause = |event| pause_after::<()>(&event, &mut backoff);
        let failed = || Err(watcher::Error::NoResourceVersion);
        for _ in 0..10 {
            assert!(pause(Ok(Event::Init)).is_zero() && pause(Ok(Event::InitApply(()))).is_zero());
            assert!(!pause(failed()).is_zero());
        }
        assert!(pause(Ok(Event::InitDone)).is_zero());
        assert_eq!(
            pause(failed()),
            LONGEST_PAUSE,
            "a list that is complete does not show that the watch runs"
        );
        assert!(pause(Ok(Event::Apply(()))).is_zero());
        assert!(pause(failed()) < Duration::from_secs(2));
    }

    #[test]
    fn a_rejected_resource_version_and_a_long_outage_lead_to_a_new_list() {
        let failed = |code| {
            watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(kube::core::Status {
                code,
                ..kube::core::Status::failure("no", "")
            })))
        };
        let refused = watcher::Error::WatchStartFailed(kube::Error::Service("connection refused".into()));
        let short = Duration::from_secs(1);
        assert!(has_to_list(&failed(410), short));
        for (error, after_long) in [
            (failed(503), true),
            (failed(0), true),
            (refused, true),
            (failed(403), false),
            (failed(429), false),
        ] {
            assert!(!has_to_list(&error, short), "{error}: its events may still be known");
            assert_eq!(has_to_list(&error, LONGEST_PAUSE), after_long, "{error}");
        }
        // kube lists again by itself.
        assert!(!has_to_list(&watcher::Error::NoResourceVersion, LONGEST_PAUSE));
    }

    #[tokio::test]
    async fn a_watch_that_is_rejected_as_expired_lists_again() {
        let lists = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lists);
        let server = tower::service_fn(move |request: Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let (status, text) = if is_watch {
                (
                    410,
                    r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}"#,
                )
            } else {
                counted.fetch_add(1, Ordering::Relaxed);
                (
                    200,
                    r#"{"kind": "VersionList", "apiVersion": "opendepot.defdev.io/v1alpha1", "metadata": {"resourceVersion": "7"}, "items": []}"#,
                )
            };
            ready(Response::builder().status(status).body(Full::new(Bytes::from_static(text.as_bytes()))))
        });
        let api: Api<VersionState> = Api::all(Client::new(server, "default"));
        let events = std::pin::pin!(events_of(api, 50));
        let seen: Vec<bool> = events.take(6).map(|event| event.is_ok()).collect().await;
        // A list and a failed watch, twice.
        assert_eq!(seen, [true, true, false, true, true, false]);
        assert_eq!(lists.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn only_a_complete_list_or_a_change_shows_success() {
        assert!([Event::InitDone, Event::Apply(1), Event::Delete(1)].iter().all(shows_success));
        assert!(![Event::Init, Event::InitApply(1)].iter().any(shows_success));
    }

    #[test]
    fn missing_kinds_and_missing_permissions_have_fixes_of_their_own() {
        assert!(fix(Some(404)).is_some_and(|fix| fix.contains("opendepot crd")));
        assert!(fix(Some(403)).is_some_and(|fix| fix.contains("rbac.yaml")));
        assert_eq!((fix(Some(500)), fix(None)), (None, None));
    }
}
