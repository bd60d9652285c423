//! The watches of Modules and Versions, and the task that folds their events into the index.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::channel::mpsc;
use kube::Client;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Index;
use super::fold::{Fold, KeptVersion, Update, WatchChange};
use crate::api::state::{ModuleListing, VersionState};
use crate::controller::watch::{MODULES_PER_PAGE, VERSIONS_PER_PAGE, Watcher, all_listed, scopes};
use crate::observe::liveness::Liveness;
use crate::observe::watch_age::WatchAge;

const MODULES: &str = "Modules";
const VERSIONS: &str = "Versions";
/// Kind and scope of a list.
type List = (&'static str, Option<Box<str>>);
/// Maximum number of events that one update of the index applies.
const BATCH: usize = 512;

/// What a watch sends to the fold.
#[expect(clippy::large_enum_variant, reason = "few wait at once")]
enum Seen {
    Module(WatchChange<ModuleListing>),
    Version(WatchChange<KeptVersion>),
}

impl Seen {
    /// Kind and scope, if this is a list.
    fn list(&self) -> Option<List> {
        match self {
            Self::Module(WatchChange::Listed(scope, _)) => Some((MODULES, scope.clone())),
            Self::Version(WatchChange::Listed(scope, _)) => Some((VERSIONS, scope.clone())),
            _ => None,
        }
    }
}

/// Whether the watches run, and whether each has listed its objects once.
#[derive(Debug)]
pub struct Health {
    /// How long a watch has been failing.
    pub(crate) age: WatchAge,
    /// Whether each list has been applied to the index once.
    lists: Vec<watch::Receiver<bool>>,
    /// Whether requests are to be sent here: from the first lists until the shutdown, since an old list is better than none.
    pub(crate) ready: Arc<AtomicBool>,
}

impl Health {
    /// Resolves when each watch has listed its objects once, or need not. False if one has ended.
    pub async fn listed(&self) -> bool {
        all_listed(&mut self.lists.clone(), &self.age).await
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
    let (index, age) = (Arc::new(Index::default()), WatchAge::default());
    let (sender, seen) = mpsc::unbounded();
    let (mut to_list, mut lists) = (BTreeMap::new(), Vec::new());
    for namespace in scopes(namespaces) {
        let scope = || namespace.map(Box::<str>::from);
        for kind in [MODULES, VERSIONS] {
            let (listed, is_listed) = watch::channel(false);
            to_list.insert((kind, scope()), listed);
            lists.push(is_listed);
        }
        let watcher = Watcher { client, namespace, liveness, age: &age };
        let on_event = changes(scope(), |module: ModuleListing| module, sender.clone(), Seen::Module);
        tasks.spawn(watcher.run(MODULES_PER_PAGE, pending(), on_event));
        let rules = fold.rules.clone();
        let keep = move |version: VersionState| KeptVersion::of(&version, &rules);
        let on_event = changes(scope(), keep, sender.clone(), Seen::Version);
        tasks.spawn(watcher.run(VERSIONS_PER_PAGE, pending(), on_event));
    }
    let health = Arc::new(Health { age, lists, ready: Arc::default() });
    tasks.spawn(run_fold(fold, seen, to_list, Arc::clone(&index), Arc::clone(&health)));
    (index, health)
}

async fn run_fold(
    mut fold: Fold,
    seen: mpsc::UnboundedReceiver<Seen>,
    // The lists that have not been read yet.
    mut to_list: BTreeMap<List, watch::Sender<bool>>,
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
        for listed in lists.iter().filter_map(|list| to_list.remove(list)) {
            listed.send_replace(true);
        }
    }
    "the index"
}

/// Reports Modules that are served without a stored version: in one line, since a list may bring many.
fn warn_of_limited(updates: &[Update]) {
    let limited = updates.iter().filter(|update| update.is_newly_limited);
    let mut limited = limited.filter_map(|update| update.entry.as_ref());
    let Some(first) = limited.next() else { return };
    let other_modules = limited.count();
    tracing::warn!(
        namespace = &*first.namespace,
        module = &*first.object,
        other_modules,
        "versions of this Module are stored at locations that this registry may not read, and are not listed: allow the \
         location in status.storage of these Versions with --allow-storage or --s3-endpoint"
    );
}

/// Sends the changes of a kind in a scope to the fold.
fn changes<K, C>(
    scope: Option<Box<str>>,
    keep: impl Fn(K) -> C,
    sender: mpsc::UnboundedSender<Seen>,
    seen: fn(WatchChange<C>) -> Seen,
) -> impl FnMut(Event<K>) {
    let mut listing = Vec::new();
    // An error means that the process ends.
    let send = move |change| drop(sender.unbounded_send(seen(change)));
    move |event| match event {
        Event::Apply(object) => send(WatchChange::Applied(keep(object))),
        Event::Delete(object) => send(WatchChange::Deleted(keep(object))),
        Event::Init => listing.clear(),
        Event::InitApply(object) => listing.push(keep(object)),
        // The list replaces what is known as a whole: no answer is shorter for a moment.
        Event::InitDone => send(WatchChange::Listed(scope.clone(), std::mem::take(&mut listing))),
    }
}
