//! The owner records: deletion policy and recorded digests of the Modules that own Versions. [`Owners::fate`] decides whether the
//! object of a deleted Version is deleted.
//!
//! The Module watch updates them, from the last state in a delete event too, and so does the Module controller with a Module
//! that it has read. The Version controller reads them instead of the API server, to decide whether the object of a deleted
//! Version is deleted, and whether an immutable Version may publish without a digest. The records are in memory only: after
//! a restart nothing is decided before the Modules are listed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::state::{ModuleState, OwnerPolicy, VersionState};
use crate::controller::client;
use crate::domain::{Mutex, Release};

/// Minimum time to keep the policy of a deleted Module: its Versions may appear in their watch later.
const KEPT: Duration = Duration::from_mins(5);
/// How often records are removed.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The records of all Modules. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Owners(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The scopes whose Modules were listed: a namespace, or `None` for all.
    listed: HashSet<Option<String>>,
    by_uid: HashMap<String, Record>,
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Record {
    namespace: String,
    name: String,
    resource_version: Option<String>,
    /// When this resourceVersion was recorded.
    taken: Option<Instant>,
    policy: OwnerPolicy,
    /// Whether this process has reconciled the Module.
    reconciled: bool,
    /// When the deletion of the Module was observed.
    gone: Option<Instant>,
    deletions: Deletions,
}

/// Versions that are being deleted, by UID.
pub(crate) type Deletions = BTreeMap<String, Deletion>;

/// A Version that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub name: String,
    pub release: String,
    /// Content digest of the stored object.
    pub digest: Option<String>,
    /// Whether the Module was read, and its status written, since the deletion was observed.
    answered: bool,
}

/// Whether the objects of a terminating Version are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its Module has not been read since the deletion.
    Undecided,
    Keep,
    Delete,
}

impl Owners {
    /// Records a Module that was read. It counts also if it is older than one that was recorded a while before the read began: etcd
    /// was restored.
    pub fn read(&self, metadata: &ObjectMeta, policy: &OwnerPolicy, began: Instant) {
        let uid = metadata.uid.as_deref().unwrap_or_default();
        if let Some(record) = self.0.lock().by_uid.get_mut(uid) {
            let lag = record.taken.map(|at| began.saturating_duration_since(at));
            record.resource_version.take_if(|_| lag > Some(client::WATCH_LAG.unsigned_abs()));
        }
        self.update(metadata, policy);
    }

    /// Records a Module that the watch shows: it exists, although an earlier list may have lacked it. Returns whether it is new, or
    /// counted as deleted.
    pub fn shown(&self, metadata: &ObjectMeta, policy: &OwnerPolicy) -> bool {
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let returns = self.0.lock().by_uid.get_mut(uid).is_some_and(Record::begin_again);
        self.update(metadata, policy) || returns
    }

    /// Records a Module that was read, written or watched. Returns whether it is new.
    pub fn update(&self, metadata: &ObjectMeta, policy: &OwnerPolicy) -> bool {
        let Some(uid) = metadata.uid.clone() else { return false };
        let mut state = self.0.lock();
        let new = !state.by_uid.contains_key(&uid);
        state.by_uid.entry(uid).or_default().take(metadata, policy);
        new
    }

    /// Records the last state of a deleted Module. Returns the names of the Versions whose fate this decides.
    pub fn gone(&self, module: &ModuleState, now: Instant) -> Vec<String> {
        let Some(uid) = module.metadata.uid.clone() else { return Vec::new() };
        let mut state = self.0.lock();
        let record = state.by_uid.entry(uid).or_default();
        record.take(&module.metadata, &module.policy);
        record.end(now)
    }

    /// Handles a complete list of a scope: recorded Modules that are not in it were deleted.
    pub fn listed(&self, scope: Option<&str>, uids: &HashSet<String>, now: Instant) {
        let mut state = self.0.lock();
        state.listed.insert(scope.map(str::to_owned));
        for (uid, record) in &mut state.by_uid {
            if record.gone.is_none() && record.within(scope) && !uids.contains(uid) {
                record.end(now);
            }
        }
    }

    /// Removes records of Modules that were deleted a while ago and own no Version. `owning` returns the UIDs of the others.
    pub fn sweep(&self, scope: Option<&str>, now: Instant, owning: impl FnOnce() -> HashSet<String>) {
        let mut state = self.0.lock();
        if state.swept.is_some_and(|at| now.duration_since(at) < SWEEP_INTERVAL) {
            return;
        }
        state.swept = Some(now);
        let owning = owning();
        state.by_uid.retain(|uid, record| {
            let old = record.gone.is_some_and(|at| now.duration_since(at) > KEPT);
            !old || !record.within(scope) || owning.contains(uid)
        });
    }

    /// Records a terminating Version: its Module has to be read again before its fate is decided.
    pub fn record_deletion(&self, version: &VersionState) {
        let Some(uid) = &version.metadata.uid else { return };
        if !version.is_terminating() || !version.has_finalizer {
            return;
        }
        // The digest of a Version without an owner may be that of another Module with that name.
        let digest = version.module().and(version.status.content_digest.as_deref());
        let mut state = self.0.lock();
        for record in state.modules_of(version).into_iter().filter(|record| record.gone.is_none()) {
            record.deletions.entry(uid.clone()).or_insert_with(|| Deletion {
                name: version.name().to_owned(),
                release: release(&version.version),
                digest: digest.map(str::to_owned),
                answered: false,
            });
        }
    }

    /// Removes a deleted Version.
    pub fn version_gone(&self, version: &VersionState) {
        for record in self.0.lock().modules_of(version) {
            record.deletions.remove(version.uid());
        }
    }

    /// The deletions that are not answered yet.
    pub fn waiting(&self, uid: &str) -> Deletions {
        let state = self.0.lock();
        let all = state.by_uid.get(uid).map(|record| &record.deletions);
        let waiting = all.into_iter().flatten().filter(|(_, deletion)| !deletion.answered);
        waiting.map(|(uid, deletion)| (uid.clone(), deletion.clone())).collect()
    }

    /// Marks deletions as answered: the Module was read after them, and their digests are recorded if there is room.
    pub fn answer(&self, uid: &str, deletions: &Deletions) {
        let mut state = self.0.lock();
        let Some(record) = state.by_uid.get_mut(uid) else { return };
        for (uid, deletion) in &mut record.deletions {
            deletion.answered |= deletions.contains_key(uid);
        }
    }

    /// Records that the Module was reconciled, so each of its Versions has its digest. Returns whether it is the first time.
    pub fn reconciled(&self, uid: &str) -> bool {
        let mut state = self.0.lock();
        state.by_uid.get_mut(uid).is_some_and(|record| !std::mem::replace(&mut record.reconciled, true))
    }

    /// What becomes of the objects of a Version: of all of them if it is being deleted, else of those that a move left behind.
    /// The Version's own copy of the policy counts if no Module of it is known: a Module with our finalizer ends only after its
    /// Versions have its policy, those without an owner reference too.
    pub fn fate(&self, version: &VersionState) -> Fate {
        let decided = |keep: bool| if keep { Fate::Keep } else { Fate::Delete };
        let (retain, is_owned) = (version.retain, version.module().is_some());
        let mut state = self.0.lock();
        if (is_owned || version.former_module().is_some()) && !state.has_listed(version) {
            return Fate::Undecided;
        }
        if !version.is_terminating() {
            return decided(state.owner_of(version).map_or(retain, |record| record.policy.retain));
        }
        let modules = state.modules_of(version);
        if modules.iter().any(|record| record.has_to_answer(version.uid())) {
            return Fate::Undecided;
        }
        let own = match modules.first() {
            // An owner that does not exist: a backup was restored with the UIDs of another cluster, and Kubernetes removes the
            // Version. Each PUT is preceded by an entry in the status, so an object without an entry was stored in another
            // cluster, where its deletion was not requested.
            None => retain || (is_owned && !version.records_object()),
            // A copy that was set to Retain after the deletion of the Module counts too.
            Some(record) => retain && (!is_owned || record.gone.is_some()),
        };
        decided(own || modules.iter().any(|record| record.policy.retain))
    }

    /// Whether a Version has to wait for its Module before it publishes: it has no digest, and the Module may have recorded
    /// the digest that its content must have. A Version whose Module does not exist publishes nothing.
    pub fn awaits_module(&self, version: &VersionState) -> bool {
        if version.module().is_none() || (version.knows_digest() && version.records_object()) {
            return false;
        }
        let mut state = self.0.lock();
        if !state.has_listed(version) {
            return true;
        }
        match state.owner_of(version).filter(|record| record.gone.is_none()) {
            // Kubernetes is about to remove it, and an object that it adopted until then would be deleted with it.
            None => version.immutable || !version.records_object(),
            Some(_) if version.knows_digest() => false,
            Some(record) => {
                let waits = !record.reconciled || record.policy.records(&release(&version.version));
                (version.immutable || record.policy.immutable) && waits
            }
        }
    }
}

impl State {
    /// The record of an object's owner. Owners are of the same namespace: one that names a Module elsewhere has none.
    fn owner_of(&mut self, version: &VersionState) -> Option<&mut Record> {
        let record = self.by_uid.get_mut(&version.module()?.uid)?;
        (version.namespace() == record.namespace).then_some(record)
    }

    /// The records of the Modules whose deletion policy a Version has: that of its owner or, if it has lost its owner reference,
    /// those of each Module with the name of the one that made it, unless it was gone before the Version's deletion was observed.
    fn modules_of(&mut self, version: &VersionState) -> Vec<&mut Record> {
        let Some(name) = version.former_module() else {
            return self.owner_of(version).into_iter().collect();
        };
        let is_named = |record: &&mut Record| record.name == name && record.namespace == version.namespace();
        let known = |r: &&mut Record| r.gone.is_none() || r.deletions.contains_key(version.uid());
        self.by_uid.values_mut().filter(is_named).filter(known).collect()
    }

    fn has_listed(&self, version: &VersionState) -> bool {
        self.listed.contains(&None) || self.listed.contains(&version.metadata.namespace)
    }
}

impl Record {
    /// Takes the newer of two states: the watch may lag behind the Module controller.
    fn take(&mut self, metadata: &ObjectMeta, policy: &OwnerPolicy) {
        if client::is_older(metadata.resource_version.as_deref(), self.resource_version.as_deref()) {
            return;
        }
        self.namespace = metadata.namespace.clone().unwrap_or_default();
        self.name = metadata.name.clone().unwrap_or_default();
        self.resource_version.clone_from(&metadata.resource_version);
        self.taken = Some(Instant::now());
        self.policy = policy.clone();
    }

    fn end(&mut self, now: Instant) -> Vec<String> {
        self.gone.get_or_insert(now);
        self.policy = std::mem::take(&mut self.policy).recording(std::iter::empty());
        self.deletions.values().map(|deletion| deletion.name.clone()).collect()
    }

    /// Undoes [`end`](Self::end), until the Module is reconciled again. Returns whether there was anything to undo.
    fn begin_again(&mut self) -> bool {
        self.reconciled &= self.gone.is_none();
        self.deletions.retain(|_, _| self.gone.is_none());
        self.gone.take().is_some()
    }

    /// Whether the Module exists, and was not read since the deletion of this Version was observed.
    fn has_to_answer(&self, version: &str) -> bool {
        self.gone.is_none() && self.deletions.get(version).is_none_or(|deletion| !deletion.answered)
    }

    fn within(&self, scope: Option<&str>) -> bool {
        scope.is_none_or(|scope| scope == self.namespace)
    }
}

fn release(version: &str) -> String {
    Release::parse(version).map_or_else(|_| version.to_owned(), |release| release.to_string())
}

#[cfg(test)]
mod tests;
