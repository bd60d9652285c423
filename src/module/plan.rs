//! What a Module's reconcile should do: a pure function from the Module and its Versions to a [`Plan`].
//!
//! In: the Module as it is stored, the Versions of its namespace as the watch keeps them. Out: Versions to create, to
//! change and to delete, and the names that others hold. No client, no clock, no randomness: [`super::apply`] runs it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::ResourceExt as _;

use super::record::Room;
use super::select::{ModuleView, Selection, Wanted, ours};
use crate::api::ModuleConfig;
use crate::api::state::{Origin, VersionState};
use crate::api::version::TYPE_MODULE;
use crate::api::{ADOPT, GROUP, MODULE_REQUEST};
use crate::domain::Release;

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Versions to create.
    pub create: Vec<Create>,
    /// Versions to change.
    pub change: Vec<Change>,
    /// Versions to delete, last.
    pub delete: Vec<Target>,
    /// Wanted names that wait for somebody: still terminating, or held by another.
    pub waiting: BTreeMap<String, Holder>,
}

/// Who holds a wanted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Our own, on its way out.
    Terminating,
    /// Nobody: an inline Version that could be adopted.
    Ownerless,
    /// Nobody: one that was made for a Module of this name, with another place or repository.
    Elsewhere,
    /// A Module of this very name that was deleted: Kubernetes is about to remove it.
    Former,
    /// Another controller's object.
    Other(String),
    /// This Module's, but with neither our finalizer nor a file name: nobody knows what it stored.
    Bare,
    /// The original OpenDepot, which made it for this very Module.
    Original,
    /// One that is nobody else's, but of this type and version, which never change.
    Unlike(String),
    /// None: it is not made, since the Module's record of digests has no room for another.
    Unrecorded,
}

/// A Version to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Name of the object.
    pub name: String,
    /// `spec.version`, as the Module spells it.
    pub version: String,
    /// `spec.expectedDigest`.
    pub expected_digest: Option<String>,
}

/// An existing object and the state in which it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Name of the object.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion, which every write tests.
    pub resource_version: String,
}

/// A change of an existing Version. Fields that are `None` stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// Which.
    pub target: Target,
    /// Write the resolved configuration, with a fresh file name where the place or the bytes change.
    pub config: Option<FileName>,
    /// Write `spec.moduleSuspended`.
    pub suspended: Option<bool>,
    /// Write `spec.expectedDigest` (or remove it).
    pub expected_digest: Option<Option<String>>,
    /// Write the annotation that carries the Module's open request.
    pub request: Option<String>,
    /// Take over: owner reference, labels and finalizer.
    pub adopt: bool,
    /// Write `moduleConfigRef.deletionPolicy`, where `config` does not. It is the one thing that still matters of a
    /// Version that is on its way out.
    pub retain: Option<bool>,
}

/// What happens to `spec.fileName` when the configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    /// It stays.
    Keep,
    /// The object moves or its bytes change: a new key.
    Fresh,
    /// It is missing: the one derived from namespace, name and version, where the object may already lie.
    Derived,
}

impl Holder {
    /// Whether the name is free soon, without a person.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Terminating | Self::Former)
    }
}

impl Plan {
    /// What is left of the plan while the configuration cannot be worked with: suspension, the deletion policy and
    /// requests still reach the Versions that are there; nothing is created, moved, taken over or deleted.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.create.clear();
        self.delete.clear();
        for change in &mut self.change {
            (change.config, change.expected_digest, change.adopt) = (None, None, false);
        }
        self.change.retain(|c| c.retain.is_some() || c.suspended.is_some() || c.request.is_some());
        self
    }
}

/// What to do for `module`, given its selection and the Versions of its namespace.
pub fn plan(module: &ModuleView, selection: &Selection, children: &[&VersionState]) -> Plan {
    let mut plan = Plan::default();
    // What is to become of the object has to be known to a Version before it goes, whoever deletes it.
    let hears_only_the_policy =
        |c: &&&VersionState| c.is_terminating() || module.terminating() || module.spec.suspend;
    for child in children.iter().filter(|c| ours(module, c)).filter(hears_only_the_policy) {
        let goes = child.is_terminating() || module.terminating();
        let suspend = module.spec.suspend && !child.module_suspended && !goes;
        let resume = module.orphans() && child.module_suspended && !child.is_terminating();
        let suspended = suspend.then_some(true).or(resume.then_some(false));
        let wish = Change { retain: policy(module, child), suspended, ..change(child) };
        plan.change.extend((wish != change(child)).then_some(wish));
    }
    if module.terminating() {
        plan.change.extend(children.iter().filter_map(|child| orphan(module, child)));
    }
    if module.terminating() || module.spec.suspend {
        return plan;
    }
    let by_name: HashMap<&str, &VersionState> =
        children.iter().filter_map(|c| Some((c.metadata.name.as_deref()?, *c))).collect();
    let resolved = module.resolved();
    let names: BTreeSet<&str> = selection.wanted.iter().map(|w| w.name.as_str()).collect();
    let mut room = module.immutable().then(|| room(module, children));
    for wanted in &selection.wanted {
        match by_name.get(wanted.name.as_str()) {
            None => {
                let expected_digest = module.expected_digest(&wanted.release);
                if expected_digest.is_none()
                    && let Some(room) = &mut room
                    && !room.reserve(&wanted.release.to_string())
                {
                    plan.waiting.insert(wanted.name.clone(), Holder::Unrecorded);
                    continue;
                }
                let (name, version) = (wanted.name.clone(), wanted.spelled.clone());
                plan.create.push(Create { name, version, expected_digest });
            }
            Some(child) => plan_existing(module, wanted, child, &resolved, &mut plan),
        }
    }
    for child in children.iter().filter(|c| ours(module, c)) {
        let name = child.metadata.name.as_deref().unwrap_or_default();
        // With an entry that cannot be read nothing is removed: it may be the one that names this Version.
        if names.contains(name) || child.is_terminating() || !selection.invalid.is_empty() {
            continue;
        }
        match policy(module, child) {
            // It is told first, and goes when that has come back.
            Some(retain) => plan.change.push(Change { retain: Some(retain), ..change(child) }),
            None => plan.delete.push(target(child)),
        }
    }
    plan
}

/// The room that the record of digests has for versions that are new, beside those that are about to be recorded.
fn room(module: &ModuleView, children: &[&VersionState]) -> Room {
    let empty = BTreeMap::new();
    let published = module.status.published.as_ref().unwrap_or(&empty);
    let mut room = Room::beside(published);
    for child in children.iter().filter(|c| ours(module, c)) {
        if let Ok(release) = Release::parse(&child.version).map(|release| release.to_string())
            && !published.contains_key(&release)
        {
            room.reserve(&release);
        }
    }
    room
}

fn plan_existing(
    module: &ModuleView,
    wanted: &Wanted,
    child: &VersionState,
    resolved: &ModuleConfig,
    plan: &mut Plan,
) {
    if child.is_terminating() {
        plan.waiting.insert(wanted.name.clone(), Holder::Terminating);
        return;
    }
    let alike = Release::parse(&child.version).is_ok_and(|release| release == wanted.release);
    if !alike || *child.type_ != *TYPE_MODULE {
        let what = format!("{} {}", child.type_, child.version);
        plan.waiting.insert(wanted.name.clone(), Holder::Unlike(what));
        return;
    }
    let adopt = match child.controller() {
        None if child.annotation(ADOPT) == module.metadata.name.as_deref() => {
            // The operator's own annotation says only whose it was: a Module of that name may be another one since.
            let fits =
                child.origin == Origin::Here && child.file_name.is_some() && child.has_placement_of(resolved);
            if child.origin != Origin::User && !fits {
                plan.waiting.insert(wanted.name.clone(), Holder::Elsewhere);
                return;
            }
            true
        }
        None => {
            plan.waiting.insert(wanted.name.clone(), Holder::Ownerless);
            return;
        }
        // Not one of ours that lost its finalizer, but one that never had it.
        Some(owner) if owner.uid == module.uid() && !child.has_finalizer && child.is_original => {
            plan.waiting.insert(wanted.name.clone(), Holder::Original);
            return;
        }
        // Somebody took our finalizer off: with a file name the object is known, so the Version can be ours again.
        Some(owner) if owner.uid == module.uid() => {
            if !child.has_finalizer && child.file_name.is_none() {
                plan.waiting.insert(wanted.name.clone(), Holder::Bare);
                return;
            }
            !child.has_finalizer
        }
        Some(owner) => {
            let of_this_name = owner.kind == "Module"
                && owner.api_version.starts_with(&format!("{GROUP}/"))
                && Some(&owner.name) == module.metadata.name.as_ref();
            let other = || Holder::Other(format!("{} {}", owner.kind, owner.name));
            let holder = if of_this_name { Holder::Former } else { other() };
            plan.waiting.insert(wanted.name.clone(), holder);
            return;
        }
    };
    let wish = Change {
        adopt,
        config: (child.config.as_deref() != Some(resolved)).then(|| file_name(child, resolved)),
        suspended: child.module_suspended.then_some(false),
        expected_digest: pin(module, wanted, child),
        request: module
            .open_request()
            .filter(|token| child.annotation(MODULE_REQUEST) != Some(token))
            .map(str::to_owned),
        retain: policy(module, child),
        ..change(child)
    };
    if wish != change(child) {
        plan.change.push(wish);
    }
}

/// What is to become of `spec.expectedDigest`. A Version that has the right content needs none; one that was made anew,
/// whose status is lost, or that published something else meanwhile is told what this version's content has to be.
#[expect(clippy::option_option, reason = "the outer one: whether to write; the inner one: what")]
fn pin(module: &ModuleView, wanted: &Wanted, child: &VersionState) -> Option<Option<String>> {
    let told = child.expected_digest.as_deref();
    if !module.immutable() {
        return told.map(|_| None);
    }
    let expected = module.expected_digest(&wanted.release)?;
    let knows = told.or(child.status.content_digest.as_deref()) == Some(&*expected);
    (!knows).then_some(Some(expected))
}

fn file_name(child: &VersionState, resolved: &ModuleConfig) -> FileName {
    if child.file_name.is_none() {
        FileName::Derived
    } else if child.has_placement_of(resolved) {
        FileName::Keep
    } else {
        FileName::Fresh
    }
}

/// What is still to be done for a Version that Kubernetes has taken from a Module that is deleted without its Versions:
/// nobody else would ever resume it.
fn orphan(module: &ModuleView, child: &VersionState) -> Option<Change> {
    let of_module =
        child.controller().is_none() && child.annotation(ADOPT) == module.metadata.name.as_deref();
    if !of_module || child.origin != Origin::Here || !child.has_finalizer || child.is_terminating() {
        return None;
    }
    let retain = (module.policy.retain && !child.retain).then_some(true);
    let wish = Change { suspended: child.module_suspended.then_some(false), retain, ..change(child) };
    (wish != change(child)).then_some(wish)
}

/// Whether the object is to be kept when the Version goes, where the Version does not know it yet.
fn policy(module: &ModuleView, child: &VersionState) -> Option<bool> {
    (child.retain != module.policy.retain).then_some(module.policy.retain)
}

fn change(child: &VersionState) -> Change {
    Change {
        target: target(child),
        config: None,
        suspended: None,
        expected_digest: None,
        request: None,
        adopt: false,
        retain: None,
    }
}

fn target(child: &VersionState) -> Target {
    Target {
        name: child.name_any(),
        uid: child.uid().to_owned(),
        resource_version: child.resource_version().unwrap_or_default(),
    }
}
