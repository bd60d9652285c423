//! The registry addresses of all Modules of a scope, in memory.
//!
//! Modules are reconciled concurrently, and the watch lags behind their status writes. So decisions are made one at a time, from
//! the Modules as the watch has shown them, in its order, and from the addresses that this process has granted since.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::address::{self, Addressing, Claimant};
use crate::api::state::{AddressState, ModuleState};
use crate::controller::client::is_older;
use crate::domain::{Address, Mutex};

/// The Modules by namespace and UID.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<BTreeMap<String, Namespace>>);

type Namespace = BTreeMap<String, Known>;

#[derive(Clone, Debug)]
struct Known {
    claimant: Claimant,
    resource_version: Option<String>,
    /// The resourceVersion of a status with the granted address; `None` while that is being written.
    written: Option<String>,
}

/// How a write of a status ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite<'a> {
    /// The object has this resourceVersion now.
    Done(Option<&'a str>),
    /// It was not written.
    None,
    /// No answer came: it may have been written.
    Unknown,
}

impl Addresses {
    /// Records a Module as the watch shows it. `is_shown`: whether the watch shows a Module, by name and UID, at this
    /// resourceVersion. Returns the names of the Modules whose decision it may change.
    pub fn observe(
        &self,
        module: &ModuleState,
        is_shown: impl Fn(&str, &str, Option<&str>) -> bool,
    ) -> Vec<String> {
        let (namespace, uid) = (module.namespace(), module.uid());
        let mut all = self.0.lock();
        let modules = all.entry(namespace.to_owned()).or_default();
        let known = known(module, modules.get(uid));
        let before = modules.insert(uid.to_owned(), known);
        let voided = mark_void(modules, uid, |other, known| {
            is_shown(&known.claimant.name, other, known.resource_version.as_deref())
        });
        let after = modules.get(uid).map(|known| &known.claimant);
        if before.as_ref().map(|known| &known.claimant) == after && voided.is_empty() {
            return Vec::new();
        }
        let mut names = before.map_or_else(BTreeSet::new, |before| concerned(modules, uid, &before));
        names.extend(voided);
        names.into_iter().collect()
    }

    /// Forgets a deleted Module. Returns the names of the Modules whose decision that may change.
    pub fn gone(&self, module: &ModuleState) -> Vec<String> {
        let (namespace, uid) = (module.namespace(), module.uid());
        let mut all = self.0.lock();
        let Some(modules) = all.get_mut(namespace) else { return Vec::new() };
        let Some(before) = modules.remove(uid) else { return Vec::new() };
        let names = concerned(modules, uid, &before);
        if modules.is_empty() {
            all.remove(namespace);
        }
        names.into_iter().collect()
    }

    /// Forgets all Modules but these. Returns namespace and name of those whose decision that may change.
    pub fn keep_only(&self, uids: &HashSet<&str>) -> Vec<(String, String)> {
        let mut all = self.0.lock();
        let mut names = Vec::new();
        for (namespace, modules) in &mut *all {
            let gone: Vec<_> = modules.extract_if(.., |uid, _| !uids.contains(uid.as_str())).collect();
            for (uid, before) in gone {
                let concerned = concerned(modules, &uid, &before);
                names.extend(concerned.into_iter().map(|name| (namespace.clone(), name)));
            }
        }
        all.retain(|_, modules| !modules.is_empty());
        names
    }

    /// Decides on the address of a Module that was read. `is_live`: whether a Module, by name and UID, still exists. Also returns
    /// the names of the Modules whose decision this may change. `None` if the watch has not shown the Module as it was read;
    /// when it does, the Module is reconciled again.
    pub fn decide(
        &self,
        (namespace, uid): (&str, &str),
        (read, resource_version): (&AddressState, Option<&str>),
        is_live: impl Fn(&str, &str) -> bool,
    ) -> Option<(Addressing, Vec<String>)> {
        let mut all = self.0.lock();
        let modules = all.get_mut(namespace)?;
        let me = modules.get(uid)?;
        let watched = &me.claimant.address;
        if watched.claim != read.claim || watched.annotation != read.annotation {
            return None;
        }
        // The status that was read is newer. But the order of events decides whether the annotation is void.
        let address = AddressState { claim_void: watched.claim_void, ..read.clone() };
        let claimant = Claimant { address, granted: None, ..me.claimant.clone() };
        // A look-up in the cache for each Module of a large namespace would take long.
        let live = |(other, known): &(&String, &Known)| {
            other.as_str() != uid && claimant.rivals(&known.claimant) && is_live(&known.claimant.name, other)
        };
        let others: Vec<&Claimant> = modules.iter().filter(live).map(|(_, known)| &known.claimant).collect();
        let decision = address::decide(&claimant, others.iter().copied());
        let me = modules.get_mut(uid)?;
        // The watch may not have shown a status that this process wrote before.
        let granted = decision.held.clone().filter(|held| me.claimant.address.held.as_ref() != Some(held));
        me.claimant.address.claim_void |= decision.claim_void;
        let is_written = read.held == decision.held;
        me.written = resource_version.filter(|_| is_written).map(str::to_owned);
        let names = set_granted(modules, uid, granted);
        Some((decision, names))
    }

    /// Records how the write of the status with a decision ended. Returns the names of the Modules whose decision that may
    /// change.
    pub fn written(&self, (namespace, uid): (&str, &str), end: StatusWrite<'_>) -> Vec<String> {
        let mut all = self.0.lock();
        let Some(modules) = all.get_mut(namespace) else { return Vec::new() };
        let Some(me) = modules.get_mut(uid) else { return Vec::new() };
        match end {
            StatusWrite::Done(resource_version) => {
                me.written = resource_version.map(str::to_owned);
                me.forget_seen();
            }
            StatusWrite::None if me.written.is_none() => return set_granted(modules, uid, None),
            StatusWrite::None | StatusWrite::Unknown => {}
        }
        Vec::new()
    }
}

impl Known {
    /// Forgets the granted address once the watch shows the status that has it.
    fn forget_seen(&mut self) {
        let (seen, written) = (self.resource_version.as_deref(), self.written.as_deref());
        if written.is_some() && !is_older(seen, written) {
            self.claimant.granted = None;
        }
    }
}

fn known(module: &ModuleState, before: Option<&Known>) -> Known {
    let metadata = &module.metadata;
    let mut claimant = Claimant {
        name: module.name().to_owned(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        is_terminating: module.is_terminating(),
        address: module.address.clone(),
        granted: before.and_then(|before| before.claimant.granted.clone()),
    };
    // A void annotation stays void until it is changed. For the first one that is seen, the status decides.
    let before_address = before.map(|before| &before.claimant.address);
    let was_void = before_address.map_or(module.address.claim_void, |before| {
        before.claim_void && before.annotation == module.address.annotation
    });
    claimant.address.claim_void = was_void && claimant.address.annotation.is_some();
    let mut known = Known {
        claimant,
        resource_version: metadata.resource_version.clone(),
        written: before.and_then(|before| before.written.clone()),
    };
    known.forget_seen();
    known
}

/// Marks annotations as void that are set while another Module holds the address, after the Module `changed` was changed. Returns
/// the names of the other Modules whose annotation this marks.
///
/// After an interruption of the watch, the Modules of a list are observed one after the other. A holder that is not shown as it
/// is known here may have been deleted or changed before the annotation was set. If it is still there, it is observed next.
fn mark_void(modules: &mut Namespace, changed: &str, is_shown: impl Fn(&str, &Known) -> bool) -> Vec<String> {
    let Some(known) = modules.get(changed) else { return Vec::new() };
    let AddressState { claim, held, annotation, .. } = &known.claimant.address;
    let affected: BTreeSet<Address> =
        claim.as_ref().ok().into_iter().chain(held).chain(annotation).cloned().collect();
    let mut voided = Vec::new();
    for address in affected {
        let is_set = |known: &Known| known.claimant.address.annotation.as_ref() == Some(&address);
        // Few Modules have an annotation.
        if !modules.values().any(is_set) {
            continue;
        }
        let keeps = |(uid, known): &(&String, &Known)| known.claimant.keeps(&address) && is_shown(uid, known);
        let holders = modules.iter().filter(keeps);
        let holders: Vec<String> = holders.map(|(uid, _)| uid.clone()).collect();
        for (uid, known) in modules.iter_mut().filter(|(_, known)| is_set(known)) {
            let Claimant { name, address: state, .. } = &known.claimant;
            let is_held = holders.iter().any(|holder| holder != uid) && !known.claimant.has(&address);
            if is_held && !state.claim_void {
                voided.extend((uid != changed).then(|| name.clone()));
                known.claimant.address.claim_void = true;
            }
        }
    }
    voided
}

/// Sets the address that is being written. Returns the names of the Modules that claim the one before it.
fn set_granted(modules: &mut Namespace, uid: &str, granted: Option<Address>) -> Vec<String> {
    let Some(me) = modules.get_mut(uid) else { return Vec::new() };
    let before = me.clone();
    me.claimant.granted = granted;
    if before.claimant.granted.is_none() || before.claimant.granted == me.claimant.granted {
        return Vec::new();
    }
    concerned(modules, uid, &before).into_iter().collect()
}

/// The names of the Modules that claim what this one claimed or had before.
fn concerned(modules: &Namespace, uid: &str, before: &Known) -> BTreeSet<String> {
    let Claimant { address, granted, .. } = &before.claimant;
    let affected: Vec<&Address> =
        address.claim.as_ref().ok().into_iter().chain(&address.held).chain(granted).collect();
    let claims =
        |known: &Known| known.claimant.address.claim.as_ref().is_ok_and(|claim| affected.contains(&claim));
    let others = modules.iter().filter(|(other, known)| other.as_str() != uid && claims(known));
    others.map(|(_, known)| known.claimant.name.clone()).collect()
}
