//! What this process knows of the Modules that own Versions: their deletion policy and the digests that they have recorded.
//!
//! The Module watch fills it, the last state in a delete event included, and so does the Module controller with what it
//! has just read. The Version controller asks it instead of the API server: what becomes of the object of a Version that is
//! deleted, and whether an immutable Version may publish without a digest. In memory only: after a restart nothing is
//! decided before the Modules are listed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::GROUP;
use crate::api::state::{ModuleState, OwnerPolicy, VersionState};
use crate::controller::client;
use crate::domain::Release;

/// How long the policy of a deleted Module is kept at least: its Versions may appear in their own watch later.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// The records of all Modules. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Owners(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is watched, as far as its Modules were listed: a namespace, or `None` for all.
    listed: HashSet<Option<String>>,
    by_uid: HashMap<String, Record>,
    swept: Timestamp,
}

#[derive(Debug, Default)]
struct Record {
    namespace: String,
    resource_version: Option<String>,
    policy: OwnerPolicy,
    /// Whether this process has reconciled the Module once.
    reconciled: bool,
    /// When the Module was seen to be gone.
    gone: Option<Timestamp>,
    /// Its Versions that are being deleted, by UID.
    deletions: Deletions,
}

/// Versions that are being deleted, by UID.
pub type Deletions = BTreeMap<String, Deletion>;

/// A Version that is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Name of the Version.
    pub name: String,
    /// Its version.
    pub release: String,
    /// What it holds.
    pub digest: Option<String>,
    /// Whether the Module was read, and its status written, since the deletion was seen.
    answered: bool,
}

/// What becomes of the objects of a Version that is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its Module has not been read since.
    Undecided,
    /// They stay.
    Keep,
    /// They are deleted.
    Delete,
}

/// The Module that controls an object, if one does.
pub fn owner(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let controller = metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true))?;
    let of_us = controller.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP);
    (of_us && controller.kind == "Module").then_some(controller)
}

impl Owners {
    /// Takes up a Module as it was just read or watched. Whether it is new here.
    pub fn update(&self, metadata: &ObjectMeta, policy: &OwnerPolicy) -> bool {
        let Some(uid) = metadata.uid.clone() else { return false };
        self.with(|state| {
            let new = !state.by_uid.contains_key(&uid);
            state.by_uid.entry(uid).or_default().take(metadata, policy);
            new
        })
    }

    /// A Module is gone, and this is its last state. Gives the names of its Versions whose fate is decided by that.
    pub fn gone(&self, module: &ModuleState, now: Timestamp) -> Vec<String> {
        let Some(uid) = module.metadata.uid.clone() else { return Vec::new() };
        self.with(|state| {
            let record = state.by_uid.entry(uid).or_default();
            record.take(&module.metadata, &module.policy);
            record.end(now)
        })
    }

    /// All Modules of a namespace (or of all) were listed: others that were known are gone.
    pub fn listed(&self, scope: Option<&str>, uids: &HashSet<String>, now: Timestamp) {
        self.with(|state| {
            state.listed.insert(scope.map(str::to_owned));
            for (uid, record) in &mut state.by_uid {
                if record.gone.is_none() && record.within(scope) && !uids.contains(uid) {
                    record.end(now);
                }
            }
        });
    }

    /// Forgets Modules that have been gone for a while and own nothing any more. `owning` gives the UIDs of those that do.
    pub fn sweep(&self, scope: Option<&str>, now: Timestamp, owning: impl FnOnce() -> HashSet<String>) {
        self.with(|state| {
            if now.duration_since(state.swept) < SignedDuration::from_mins(1) {
                return;
            }
            state.swept = now;
            let owning = owning();
            state.by_uid.retain(|uid, record| {
                let old = record.gone.is_some_and(|at| now.duration_since(at) > KEPT);
                !old || !record.within(scope) || owning.contains(uid)
            });
        });
    }

    /// A Version is being deleted: its Module has to be read once more before anything is decided.
    pub fn note(&self, version: &VersionState) {
        let metadata = &version.metadata;
        let Some(uid) = &metadata.uid else { return };
        if !version.terminating() || !version.has_finalizer() {
            return;
        }
        self.with(|state| {
            let Some(record) = state.owner_of(metadata).filter(|record| record.gone.is_none()) else {
                return;
            };
            record.deletions.entry(uid.clone()).or_insert_with(|| Deletion {
                name: metadata.name.clone().unwrap_or_default(),
                release: release(&version.version),
                digest: version.status.content_digest.clone(),
                answered: false,
            });
        });
    }

    /// A Version is gone.
    pub fn version_gone(&self, version: &VersionState) {
        let Some(uid) = &version.metadata.uid else { return };
        self.with(|state| state.owner_of(&version.metadata).and_then(|record| record.deletions.remove(uid)));
    }

    /// The deletions that wait for their Module to be read.
    pub fn waiting(&self, uid: &str) -> Deletions {
        let waits = |(_, deletion): &(&String, &Deletion)| !deletion.answered;
        self.with(|state| {
            let all = state.by_uid.get(uid).map(|record| &record.deletions);
            all.into_iter().flatten().filter(waits).map(|(uid, d)| (uid.clone(), d.clone())).collect()
        })
    }

    /// The Module was read after these deletions, and what they held is on record as far as it can be.
    pub fn answer(&self, uid: &str, deletions: &Deletions) {
        self.with(|state| {
            let Some(record) = state.by_uid.get_mut(uid) else { return };
            for (uid, deletion) in &mut record.deletions {
                deletion.answered |= deletions.contains_key(uid);
            }
        });
    }

    /// The Module was reconciled: each of its Versions has the digest that it must have. Whether that is the first time.
    pub fn reconciled(&self, uid: &str) -> bool {
        self.with(|state| {
            let record = state.by_uid.get_mut(uid);
            record.is_some_and(|record| !std::mem::replace(&mut record.reconciled, true))
        })
    }

    /// What becomes of the objects of a Version that is being deleted. `retain` is its own copy of the policy, `stored`
    /// whether its status knows of any object.
    pub fn fate(&self, metadata: &ObjectMeta, retain: bool, stored: bool) -> Fate {
        let decided = |keep: bool| if keep { Fate::Keep } else { Fate::Delete };
        if owner(metadata).is_none() {
            return decided(retain);
        }
        self.with(|state| {
            if !state.has_listed(metadata) {
                return Fate::Undecided;
            }
            match state.owner_of(metadata) {
                // An owner that does not exist: a backup was restored with the UIDs of another cluster, and Kubernetes
                // removes the Version. Each PUT is preceded by an entry in the status, so without one the object that is
                // there was stored in an earlier life, and nobody asked for its deletion.
                None => decided(retain || !stored),
                // A copy that was set to Retain once the Module was gone counts as well.
                Some(record) if record.gone.is_some() => decided(record.policy.retain || retain),
                Some(record) => {
                    let uid = metadata.uid.as_deref().unwrap_or_default();
                    match record.deletions.get(uid) {
                        Some(deletion) if deletion.answered => decided(record.policy.retain),
                        _ => Fate::Undecided,
                    }
                }
            }
        })
    }

    /// What becomes of a Version's old object after a move. `retain` is the Version's own copy of the policy, which counts
    /// where no owner is known; undecided before the Modules were listed.
    pub fn fate_after_move(&self, metadata: &ObjectMeta, retain: bool) -> Fate {
        let owned = owner(metadata).is_some();
        self.with(|state| {
            if owned && !state.has_listed(metadata) {
                return Fate::Undecided;
            }
            let keep = state.owner_of(metadata).map_or(retain, |record| record.policy.retain);
            if keep { Fate::Keep } else { Fate::Delete }
        })
    }

    /// Whether a Version that knows no digest has to wait for its Module before it publishes: the Module may have recorded
    /// what this version's content must be, and hands that over. `immutable` is the Version's own copy.
    pub fn withholds(&self, metadata: &ObjectMeta, version: &str, immutable: bool) -> bool {
        if owner(metadata).is_none() {
            return false;
        }
        self.with(|state| {
            if !state.has_listed(metadata) {
                return true;
            }
            match state.owner_of(metadata).filter(|record| record.gone.is_none()) {
                // Kubernetes is about to remove it.
                None => immutable,
                Some(record) => {
                    let waits = !record.reconciled || record.policy.records(&release(version));
                    (immutable || record.policy.immutable) && waits
                }
            }
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// The record of an object's owner. Owners are of the same namespace: one that names a Module elsewhere has none.
    fn owner_of(&mut self, metadata: &ObjectMeta) -> Option<&mut Record> {
        let record = self.by_uid.get_mut(&owner(metadata)?.uid)?;
        (metadata.namespace.as_deref() == Some(record.namespace.as_str())).then_some(record)
    }

    fn has_listed(&self, metadata: &ObjectMeta) -> bool {
        self.listed.contains(&None) || self.listed.contains(&metadata.namespace)
    }
}

impl Record {
    /// Of two states the newer one counts: the watch may be behind what the Module controller has read.
    fn take(&mut self, metadata: &ObjectMeta, policy: &OwnerPolicy) {
        if client::is_older(metadata.resource_version.as_deref(), self.resource_version.as_deref()) {
            return;
        }
        self.namespace = metadata.namespace.clone().unwrap_or_default();
        self.resource_version.clone_from(&metadata.resource_version);
        self.policy = policy.clone();
    }

    fn end(&mut self, now: Timestamp) -> Vec<String> {
        self.gone.get_or_insert(now);
        self.policy = std::mem::take(&mut self.policy).recording(std::iter::empty());
        std::mem::take(&mut self.deletions).into_values().map(|deletion| deletion.name).collect()
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
