//! Watches of a kind.
//!
//! `kube::runtime::Controller` is not used: each kind is watched once for both controllers, which kube 5.0 offers
//! only as the unstable feature `unstable-runtime-subscribe`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher;
use kube::runtime::watcher::{DefaultBackoff, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::controller::client::explain;
use crate::controller::connection::watch_config;
use crate::observe::liveness::Liveness;
use crate::observe::watch_age::{Step, WatchAge};

/// The longest pause after a failure, so that a watch soon runs again when the cause is gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Time between two lists while a watch cannot be started, as behind a gateway that answers lists only.
const LISTED_AGAIN: Duration = Duration::from_mins(5);
/// Time after which a process that is not ready checks again whether lists are rejected.
const REJECTED_AGAIN: Duration = Duration::from_secs(1);

/// Objects per page of a list. The text of a page is in memory as a whole, twice. While the operator's queue is longest, 32 MiB of the
/// shipped memory limit are free. A Module of 5,000 versions has a megabyte, and more while it is parsed; a Version has some
/// kilobytes. Where Versions have more, the client reads fewer at once.
pub(crate) const MODULES_PER_PAGE: u32 = 5;
pub(crate) const VERSIONS_PER_PAGE: u32 = 50;

/// The scopes to watch: the cluster if no namespace is named. A namespace that is named twice is watched once.
pub(crate) fn scopes(namespaces: &[String]) -> BTreeSet<Option<&str>> {
    let cluster = namespaces.is_empty().then_some(None);
    namespaces.iter().map(|name| Some(name.as_str())).chain(cluster).collect()
}

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
}

impl Watcher<'_> {
    /// Watches a kind until `stop`, and calls `on_event` for each event. Lists are read in pages of `page_size` objects.
    pub(crate) fn run<K>(
        self,
        page_size: u32,
        stop: impl Future<Output = ()> + Send + 'static,
        mut on_event: impl FnMut(Event<K>) + Send + 'static,
    ) -> impl Future<Output = &'static str> + Send + 'static
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned + Send + 'static,
    {
        let client = self.client.clone();
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let kind = K::kind(&());
        let namespace = self.namespace.map(str::to_owned);
        let mut heartbeat = self.liveness.heartbeat_in(self.namespace, &format!("the watch of {kind}s"));
        let age = self.age.clone();
        async move {
            let mut events = std::pin::pin!(events_of(api, page_size).take_until(stop));
            while let Some(event) = heartbeat.next_of(&mut events).await {
                if report(&event, &age, &heartbeat.name) {
                    tracing::info!(kind = &*kind, namespace = namespace.as_deref(), "watch works again");
                }
                match event {
                    Ok(event) => on_event(event),
                    Err(error) => warn_of(&error, &kind, namespace.as_deref()),
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
fn events_of<K>(api: Api<K>, page_size: u32) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let start = move || Box::pin(watcher(api.clone(), watch_config(page_size)));
    let watch = (start(), DefaultBackoff::default(), Duration::ZERO, None::<Instant>);
    stream::unfold((watch, start), |((mut events, mut backoff, pause, mut listed), start)| async move {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = events.next().await?;
        let pause = pause_after(&event, &mut backoff);
        let is_long = pause == LONGEST_PAUSE && listed.is_none_or(|at| at.elapsed() >= LISTED_AGAIN);
        match &event {
            Ok(Event::Apply(_) | Event::Delete(_)) => listed = None,
            Err(error) if has_to_list(error, is_long) => {
                (events, listed) = (start(), Some(Instant::now()));
            }
            _ => {}
        }
        Some((event, ((events, backoff, pause, listed), start)))
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
fn has_to_list(error: &watcher::Error, is_long: bool) -> bool {
    match error {
        // kube returns the code 0 for JSON that is no status, such as that of a gateway.
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if (1..500).contains(&status.code) => {
            status.code == 410
        }
        watcher::Error::WatchStartFailed(_) => is_long,
        _ => false,
    }
}

/// Records what an event shows of its watch. Returns whether it works again after a failure. `Init` and `InitApply` show nothing:
/// kube sends the first before its request, and a list may fail after any of its pages.
fn report<K>(event: &Result<Event<K>, watcher::Error>, age: &WatchAge, watch: &str) -> bool {
    let step = match event {
        Ok(Event::Apply(_) | Event::Delete(_)) => return age.succeeded(watch),
        Ok(Event::InitDone) => return age.listed(watch),
        Ok(Event::Init | Event::InitApply(_)) => return false,
        Err(watcher::Error::WatchFailed(_)) => Step::Runs,
        Err(watcher::Error::WatchStartFailed(_)) => Step::Start,
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
            if [403, 404].contains(&status.code) =>
        {
            Step::Rejected
        }
        Err(_) => Step::List,
    };
    age.failed(watch, Instant::now(), step);
    false
}

/// Logs an attempt of a watch that failed, and what to do about it. Without a namespace, the watch is that of the whole cluster.
fn warn_of(error: &watcher::Error, kind: &str, namespace: Option<&str>) {
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
    tracing::warn!(error = message, kind, namespace, fix = fix(code), "watch failed; retrying");
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

/// Waits until all are true. False if one cannot become true: its watch has ended, and with it the process.
pub(crate) async fn all_true(all: &mut [watch::Receiver<bool>]) -> bool {
    for one in all {
        if one.wait_for(|is_true| *is_true).await.is_err() {
            return false;
        }
    }
    true
}

/// Waits until all lists are read, two of each scope. A namespace without permissions, such as a deleted one, does not count if
/// another one is listed: one tenant must not stop the others. False if a watch has ended, and with it the process.
pub(crate) async fn all_listed(lists: &mut [watch::Receiver<bool>], age: &WatchAge) -> bool {
    loop {
        if let Ok(are_listed) = tokio::time::timeout(REJECTED_AGAIN, all_true(lists)).await {
            return are_listed;
        }
        let missing: Vec<bool> = lists.iter().map(|list| !*list.borrow()).collect();
        if suffices(&missing, age.rejected(Instant::now())) {
            tracing::warn!("ready without the namespaces whose lists the API server rejects");
            return true;
        }
    }
}

/// Whether a scope is listed, and the API server rejects each missing list. Those of a scope are neighbours.
fn suffices(missing: &[bool], rejected: usize) -> bool {
    let count = missing.iter().filter(|is_missing| **is_missing).count();
    missing.chunks(2).any(|scope| !scope.contains(&true)) && count <= rejected
}

/// Resolves when the operator stops.
pub(crate) async fn stopping(mut stop: watch::Receiver<bool>) {
    // An error means that the sender was dropped because the operator ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
