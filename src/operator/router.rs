//! Routes watch events of a scope: updates the owner records and in-memory state, and queues the objects that an event
//! concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;

use crate::api::ADOPT;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::owners::Owners;
use crate::domain::Release;
use crate::module;
use crate::version;

/// The caches and contexts of one scope.
pub(super) struct Router {
    /// The namespace of the scope; `None` is the whole cluster.
    pub scope: Option<String>,
    /// Becomes true when the cache has held every Module once.
    pub modules_listed: watch::Sender<bool>,
    /// Becomes true when the cache has held every Version once.
    pub versions_listed: watch::Sender<bool>,
    /// The Module controller's context, with the cache of Modules and the queues of both controllers.
    pub module: Arc<module::Context>,
    /// The Version controller's context.
    pub version: Arc<version::Context>,
}

impl Router {
    /// Handles a Module that was added, changed or deleted.
    pub(super) fn on_module(&self, module: &ModuleState) {
        let reference = ObjectRef::from_obj(module);
        let namespace = module.namespace();
        // The cache no longer holds a deleted object.
        if self.module.modules.get(&reference).is_some_and(|cached| cached.uid() == module.uid()) {
            let is_shown = |name: &str, uid: &str, version: Option<&str>| {
                self.module.cached(namespace, name).is_some_and(|cached| {
                    cached.uid() == uid && cached.metadata.resource_version.as_deref() == version
                })
            };
            self.module.queue_modules(namespace, &self.module.addresses.observe(module, is_shown));
            let is_new = self.owners().shown(&module.metadata, &module.policy);
            // Its Versions may have been cached before it was.
            if is_new && *self.modules_listed.borrow() {
                let own = self.module.versions.of_module(namespace, module.name(), module.uid());
                self.queue_waiting_versions(&own);
            }
        } else {
            self.module.forget(module);
            self.module.queue_modules(namespace, &self.module.addresses.gone(module));
            self.on_module_deleted(module);
        }
        let _ = self.module.module_queue.unbounded_send(reference);
    }

    /// Handles the end of a list of Modules.
    pub(super) fn on_modules_listed(&self) {
        let modules = self.module.modules.state();
        let uids: HashSet<_> = modules.iter().filter_map(|module| module.metadata.uid.clone()).collect();
        self.owners().listed(self.scope.as_deref(), &uids, Instant::now());
        self.queue_waiting_versions(&self.versions());
        self.queue_owners_of_terminating_versions();
        self.modules_listed.send_replace(true);
        for (namespace, name) in self.module.keep_only(&modules) {
            self.module.queue_modules(&namespace, &[name]);
        }
    }

    /// Handles a Version that was added, changed or deleted.
    pub(super) fn on_version(&self, version: &VersionState) {
        let reference = ObjectRef::from_obj(version);
        // The owner record is updated before the Module is queued, whose reconcile reads it.
        let mut concerned = self.concerned_modules(version);
        if self.module.versions.cache.get(&reference).is_some_and(|cached| cached.uid() == version.uid()) {
            self.owners().record_deletion(version);
            concerned.extend(self.module.versions.record(version).map(String::from));
        } else {
            self.owners().version_gone(version);
            self.module.versions.forget(version);
            // Another client may have removed our finalizer, so that no reconcile saw the end of this Version.
            self.version.memories.forget(version.uid());
        }
        let _ = self.module.version_queue.unbounded_send(reference);
        self.module.queue_modules(version.namespace(), &concerned);
    }

    /// Handles the end of a list of Versions. Versions may have been deleted while the watch was interrupted, so every
    /// Module is queued.
    pub(super) fn on_versions_listed(&self) {
        self.module.versions.forget_missing();
        if !*self.versions_listed.borrow() {
            // GitHub's limits from before this process became leader. No Version is reconciled without them.
            self.version.rate_limits.recall(&self.versions());
        }
        self.versions_listed.send_replace(true);
        for module in self.module.modules.state() {
            let _ = self.module.module_queue.unbounded_send(ObjectRef::from_obj(module.as_ref()));
        }
    }

    fn owners(&self) -> &Owners {
        &self.version.owners
    }

    fn versions(&self) -> Vec<Arc<VersionState>> {
        self.module.versions.cache.state()
    }

    /// The names of the Modules that a change of this Version concerns: its owner, and those that wait for its name. If it has no
    /// owner, the Module that it names instead: another client may just have removed the owner reference.
    fn concerned_modules(&self, version: &VersionState) -> Vec<String> {
        let mut names = self.module.waiting.for_name(version.namespace(), version.name());
        match version.controller() {
            Some(_) => names.extend(version.module().map(|owner| owner.name.clone())),
            None => names.extend(named_module(version).map(str::to_owned)),
        }
        names
    }

    /// Queues those of these Versions that may be waiting for the owner record of their Module.
    fn queue_waiting_versions(&self, versions: &[Arc<VersionState>]) {
        for version in versions {
            self.owners().record_deletion(version);
            if version.is_terminating() || !version.knows_digest() || !version.records_object() {
                let _ = self.module.version_queue.unbounded_send(ObjectRef::from_obj(version.as_ref()));
            }
        }
    }

    /// Queues the Modules of terminating Versions: a Module that was reconciled before the deletions were recorded has not
    /// answered them.
    fn queue_owners_of_terminating_versions(&self) {
        let owner = |version: &Arc<VersionState>| {
            let owner = version.module().map(|owner| owner.name.as_str()).or_else(|| version.former_module());
            let owner = owner.filter(|_| version.is_terminating())?;
            Some(ObjectRef::new(owner).within(version.namespace()))
        };
        let owners: HashSet<_> = self.versions().iter().filter_map(owner).collect();
        for module in owners {
            let _ = self.module.module_queue.unbounded_send(module);
        }
    }

    fn on_module_deleted(&self, module: &ModuleState) {
        let (now, namespace) = (Instant::now(), module.namespace());
        let waiting = self.owners().gone(module, now);
        self.module.queue_versions(namespace, waiting.iter().map(String::as_str));
        self.owners().sweep(self.scope.as_deref(), now, || {
            let owner = |version: &Arc<VersionState>| version.module().map(|owner| owner.uid.clone());
            self.versions().iter().filter_map(owner).collect()
        });
    }
}

/// The Module that a Version without an owner names: in the annotation `adopt`, or else in its own name.
fn named_module(version: &VersionState) -> Option<&str> {
    let release = Release::parse(&version.version).ok();
    let by_name = || version.name().strip_suffix(&release?.to_string())?.strip_suffix('-');
    version.annotation(ADOPT).or_else(by_name)
}
