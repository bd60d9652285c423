//! The clients, caches and memory of the Module controller.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::channel::mpsc;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::runtime::reflector::{ObjectRef, Store};

use super::addresses::Addresses;
use super::finalizer;
use super::ledger::Ledger;
use super::memory::Memories;
use super::permit::Permits;
use super::versions::Versions;
use super::view::ModuleView;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::events::Events;
use crate::controller::owners::{Deletions, Owners};
use crate::domain::Mutex;
use crate::observe::metrics::Metrics;

/// The clients, caches and memory of the controller. GitHub and S3 are not part of it.
pub struct Context {
    pub client: Client,
    pub versions: Versions,
    pub modules: Store<ModuleState>,
    /// The registry addresses that Modules claim and hold.
    pub addresses: Addresses,
    /// Limits how many Modules are reconciled at once.
    pub permits: Permits,
    pub memories: Memories,
    pub waiting: WaitingModules,
    /// What the Version controller reads about Modules.
    pub owners: Owners,
    /// When Modules that have Versions already get the finalizer.
    pub finalizer_pace: Arc<finalizer::FinalizerPace>,
    /// Queues Modules whose address may change.
    pub module_queue: mpsc::UnboundedSender<ObjectRef<ModuleState>>,
    /// Queues Versions that wait for their Module.
    pub version_queue: mpsc::UnboundedSender<ObjectRef<VersionState>>,
    pub events: Events,
    pub metrics: Arc<Metrics>,
}

/// The Modules that wait for a name, by namespace and name: when the Version of that name disappears, they are queued.
#[derive(Debug, Default)]
pub struct WaitingModules(Mutex<BTreeMap<(String, String), BTreeSet<String>>>);

impl WaitingModules {
    /// The Modules that want the Version of this name.
    pub fn for_name(&self, namespace: &str, name: &str) -> Vec<String> {
        let all = self.0.lock();
        all.get(&(namespace.to_owned(), name.to_owned())).into_iter().flatten().cloned().collect()
    }

    /// Sets the names that a Module waits for.
    pub fn set<'a>(&self, namespace: &str, module: &str, names: impl Iterator<Item = &'a String>) {
        let mut all = self.0.lock();
        all.retain(|(ns, _), modules| {
            if ns == namespace {
                modules.remove(module);
            }
            !modules.is_empty()
        });
        for name in names {
            all.entry((namespace.to_owned(), name.clone())).or_default().insert(module.to_owned());
        }
    }

    fn keep_only(&self, known: &HashSet<(String, String)>) {
        let mut all = self.0.lock();
        all.retain(|(namespace, _), modules| {
            modules.retain(|module| known.contains(&(namespace.clone(), module.clone())));
            !modules.is_empty()
        });
    }
}

impl Context {
    pub fn forget(&self, module: &ModuleState) {
        self.memories.forget(module.uid());
        self.waiting.set(module.namespace(), module.name(), std::iter::empty());
    }

    /// The Module with this name in the cache.
    pub fn cached(&self, namespace: &str, name: &str) -> Option<Arc<ModuleState>> {
        self.modules.get(&ObjectRef::new(name).within(namespace))
    }

    /// Forgets all Modules but these: a Module that is not in a list was deleted while the watch was interrupted. Returns
    /// namespace and name of the Modules whose address this may change.
    pub fn keep_only(&self, modules: &[Arc<ModuleState>]) -> Vec<(String, String)> {
        let uids = modules.iter().filter_map(|module| module.metadata.uid.as_deref()).collect();
        self.memories.keep_only(&uids);
        let names = modules.iter().map(|module| (module.namespace().to_owned(), module.name().to_owned()));
        self.waiting.keep_only(&names.collect());
        self.addresses.keep_only(&uids)
    }

    /// Records that the Module was read after these deletions, and their digests recorded as far as possible. Queues the
    /// Versions.
    pub fn answer(&self, module: &ModuleView, deletions: &Deletions) {
        self.owners.answer(module.uid(), deletions);
        self.queue_versions(module.namespace(), deletions.values().map(|deletion| deletion.name.as_str()));
    }

    /// Updates the owner record after the ledger was written. `metadata`: that of the written Module.
    pub fn record(&self, module: &ModuleView, ledger: &Ledger, metadata: &ObjectMeta) {
        let published = ledger.published.iter().flat_map(|all| all.keys().cloned());
        let policy = module.policy.clone().recording(published.filter(|_| module.is_immutable()));
        self.owners.update(metadata, &policy);
    }

    /// Marks the Module as reconciled. The first time, this queues its Versions without a digest, which wait for it.
    pub fn mark_reconciled(&self, module: &ModuleView) {
        if !self.owners.reconciled(module.uid()) || !module.is_immutable() {
            return;
        }
        let versions = self.versions.owned(module.namespace(), module.uid());
        let waits = |version: &&Arc<VersionState>| !version.knows_digest();
        self.queue_versions(module.namespace(), versions.iter().filter(waits).map(|version| version.name()));
    }

    pub fn queue_modules(&self, namespace: &str, names: &[String]) {
        for name in names {
            let _ = self.module_queue.unbounded_send(ObjectRef::new(name).within(namespace));
        }
    }

    pub fn queue_versions<'a>(&self, namespace: &str, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let _ = self.version_queue.unbounded_send(ObjectRef::new(name).within(namespace));
        }
    }
}
