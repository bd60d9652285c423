//! The watches of Modules and Versions, and the task that folds their events into the index.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::channel::mpsc;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Index;
use super::fold::{Change, Fold, KeptVersion, Update};
use crate::api::state::{ModuleListing, VersionState};
use crate::controller::watch::{events_of, report, warn_of};
use crate::domain::Mutex;
use crate::observe::liveness::{Liveness, Part, in_scope};
use crate::observe::watch_age::WatchAge;

/// Objects per page of a list. A Module of 5,000 versions has a megabyte, a Version some kilobytes.
const MODULES_PER_PAGE: u32 = 5;
const VERSIONS_PER_PAGE: u32 = 50;
const MODULES: &str = "Modules";
const VERSIONS: &str = "Versions";
/// Kind and scope of a list.
type List = (&'static str, Option<Box<str>>);
/// Maximum number of events that one update of the index applies.
const BATCH: usize = 512;

/// What a watch sends to the fold.
#[expect(clippy::large_enum_variant, reason = "few wait at once")]
enum Seen {
    Module(Change<ModuleListing>),
    Version(Change<KeptVersion>),
}

impl Seen {
    /// Kind and scope, if this is a list.
    fn list(&self) -> Option<List> {
        match self {
            Self::Module(Change::Listed(scope, _)) => Some((MODULES, scope.clone())),
            Self::Version(Change::Listed(scope, _)) => Some((VERSIONS, scope.clone())),
            _ => None,
        }
    }
}

/// Whether the watches run, and whether each has listed its objects once.
#[derive(Debug, Default)]
pub struct Health {
    /// How long a watch has been failing.
    pub(crate) age: WatchAge,
    /// The lists that have not been read yet.
    to_list: Mutex<BTreeSet<List>>,
    all_listed: Notify,
    /// Whether requests are to be sent here: from the first lists until the shutdown, since an old list is better than none.
    pub(crate) ready: Arc<AtomicBool>,
}

impl Health {
    /// Resolves when each watch has listed its objects once.
    pub async fn listed(&self) {
        self.all_listed.notified().await;
    }

    fn list_seen(&self, kind: &'static str, scope: Option<Box<str>>) {
        let mut to_list = self.to_list.lock();
        if to_list.remove(&(kind, scope)) && to_list.is_empty() {
            self.all_listed.notify_one();
        }
    }
}

/// Starts both watches in each namespace (without any: in the cluster), and the fold. They run until the process ends.
pub fn start(
    client: &Client,
    namespaces: &[String],
    fold: Fold,
    liveness: &Liveness,
    tasks: &mut JoinSet<&'static str>,
) -> (Arc<Index>, Arc<Health>) {
    let (index, health) = (Arc::new(Index::default()), Arc::new(Health::default()));
    let mut scopes: BTreeSet<Option<&str>> = namespaces.iter().map(|name| Some(name.as_str())).collect();
    if scopes.is_empty() {
        scopes.insert(None);
    }
    let lists = scopes.iter().flat_map(|scope| [(MODULES, *scope), (VERSIONS, *scope)]);
    health.to_list.lock().extend(lists.map(|(kind, scope)| (kind, scope.map(Box::<str>::from))));
    let (sender, seen) = mpsc::unbounded();
    for scope in scopes {
        let of_scope = |kind: &str| in_scope(scope, &format!("the watch of {kind}"));
        let watch = |kind: &str| Watch {
            scope: scope.map(Into::into),
            part: liveness.part(&of_scope(kind)),
            name: of_scope(kind),
            health: Arc::clone(&health),
            sender: sender.clone(),
        };
        tasks.spawn(watch(MODULES).run(client.clone(), MODULES_PER_PAGE, |module| module, Seen::Module));
        let rules = fold.rules.clone();
        let keep = move |version: VersionState| KeptVersion::of(&version, &rules);
        tasks.spawn(watch(VERSIONS).run(client.clone(), VERSIONS_PER_PAGE, keep, Seen::Version));
    }
    tasks.spawn(run_fold(fold, seen, Arc::clone(&index), Arc::clone(&health)));
    (index, health)
}

async fn run_fold(
    mut fold: Fold,
    seen: mpsc::UnboundedReceiver<Seen>,
    index: Arc<Index>,
    health: Arc<Health>,
) -> &'static str {
    let mut batches = seen.ready_chunks(BATCH);
    let mut reported = false;
    while let Some(batch) = batches.next().await {
        let mut lists = Vec::new();
        for seen in batch {
            lists.extend(seen.list());
            match seen {
                Seen::Module(change) => fold.module(change),
                Seen::Version(change) => fold.kept_version(change),
            }
        }
        let (updates, states) = (fold.updates(), fold.states());
        let is_ready = health.ready.load(Ordering::Acquire);
        if let Some(namespace) = states.shadowed.as_ref().filter(|_| !reported && is_ready) {
            tracing::error!(
                namespace,
                "the Modules of this namespace cannot be installed, since a --namespace-alias has its name: choose another alias, \
                 or move the Modules"
            );
        }
        reported = states.shadowed.is_some();
        warn_of_limited(&updates);
        index.apply(updates, states);
        for (kind, scope) in lists {
            health.list_seen(kind, scope);
        }
    }
    "the index"
}

/// Reports Modules that are served without a stored version: in one line, since a list may bring many.
fn warn_of_limited(updates: &[Update]) {
    let limited = updates.iter().filter(|update| update.is_newly_limited);
    let mut limited = limited.filter_map(|update| update.entry.as_ref());
    let Some(first) = limited.next() else { return };
    let others = limited.count();
    tracing::warn!(
        namespace = &*first.namespace,
        module = &*first.object,
        others,
        "versions of this Module are stored at locations that this registry may not read, and are not listed: let its \
         --allow-storage, its --s3-endpoint and its role permit what status.storage of the Versions names"
    );
}

/// One watch of a kind.
struct Watch {
    scope: Option<Box<str>>,
    part: Part,
    name: String,
    health: Arc<Health>,
    sender: mpsc::UnboundedSender<Seen>,
}

impl Watch {
    async fn run<K, C>(
        mut self,
        client: Client,
        page_size: u32,
        keep: impl Fn(K) -> C,
        seen: fn(Change<C>) -> Seen,
    ) -> &'static str
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug,
        K: DeserializeOwned + Send + 'static,
    {
        let api: Api<K> = match &self.scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let mut events = std::pin::pin!(events_of(api, page_size));
        let mut listing = Vec::new();
        let sender = self.sender;
        // An error means that the process ends.
        let send = move |change| drop(sender.unbounded_send(seen(change)));
        while let Some(event) = self.part.next_of(&mut events).await {
            report(&event, &self.health.age, &self.name);
            match event {
                Ok(Event::Apply(object)) => send(Change::Applied(keep(object))),
                Ok(Event::Delete(object)) => send(Change::Deleted(keep(object))),
                Ok(Event::Init) => listing.clear(),
                Ok(Event::InitApply(object)) => listing.push(keep(object)),
                // The list replaces what is known as a whole: no answer is shorter for a moment.
                Ok(Event::InitDone) => send(Change::Listed(self.scope.clone(), std::mem::take(&mut listing))),
                Err(error) => warn_of(&error, &K::kind(&())),
            }
        }
        "a watch"
    }
}
