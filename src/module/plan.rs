//! What a Module's reconcile does to its Versions: a pure function from the Module and its Versions to a [`Plan`].
//!
//! [`super::patch`] makes requests of it, [`super::apply`] sends them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::conflict::{NameConflict, conflict};
use super::digests;
use super::edit::{Change, Edit, VersionRef};
use super::file_name::file_name;
use super::ledger::Ledger;
use super::removal::Removal;
use super::select::{Selection, Wanted};
use super::view::ModuleView;
use crate::api::MODULE_REQUEST;
use crate::api::state::VersionState;

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<Create>,
    pub change: Vec<Change>,
    pub delete: Vec<VersionRef>,
    /// Wanted names that cannot be used now.
    pub conflicts: BTreeMap<String, NameConflict>,
    /// The stored versions that are no longer listed.
    pub(super) removal: Removal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Create {
    pub name: String,
    /// `spec.version`, as the Module spells it.
    pub version: String,
    /// `spec.expectedDigest`.
    pub expected_digest: Option<String>,
    /// The token of the open request.
    pub request: Option<String>,
}

impl Plan {
    /// What is left of the plan while the configuration is unusable: suspension, the deletion policy and requests still reach
    /// the existing Versions; nothing is created, moved, adopted or deleted.
    fn without_configuration(mut self) -> Self {
        self.create.clear();
        self.delete.clear();
        self.removal = Removal::default();
        self.retain_edits(Edit::is_independent_of_config);
        self
    }

    /// What is left of the plan if the ledger cannot be written: nothing is created, pinned or requested that depends on it.
    pub fn without_ledger(&mut self, module: &ModuleView) {
        self.create.retain(|create| !module.is_immutable() && create.request.is_none());
        self.retain_edits(|edit| !matches!(edit, Edit::PinDigest(_) | Edit::Request(_)));
    }

    /// What is left of the plan if the API server refuses the status: in addition, nothing is created, and the Versions stay
    /// whose digests are to be recorded before they are deleted.
    pub fn without_status(&mut self, module: &ModuleView, children: &[&VersionState]) {
        self.without_ledger(module);
        self.create.clear();
        let is_unrecorded = |child: &&&VersionState| {
            child.status.content_digest.is_some()
                && digests::release(child).is_some_and(|release| module.is_to_record(&release))
        };
        let unrecorded: HashSet<&str> =
            children.iter().filter(is_unrecorded).map(|child| child.name()).collect();
        self.delete.retain(|target| !unrecorded.contains(target.name.as_str()));
    }

    fn retain_edits(&mut self, is_kept: impl Fn(&Edit) -> bool) {
        self.change.retain_mut(|change| {
            change.edits.retain(&is_kept);
            !change.edits.is_empty()
        });
    }
}

/// What to do for `module`, given its selection and the Versions of its namespace.
pub(super) fn plan(
    module: &ModuleView,
    ledger: &Ledger,
    selection: &Selection,
    children: &[&VersionState],
) -> Plan {
    let mut plan = Plan { change: policies(module, children), ..Plan::default() };
    if module.is_terminating() || module.spec.suspend {
        return plan;
    }
    let by_name: HashMap<&str, &VersionState> = children.iter().map(|child| (child.name(), *child)).collect();
    for wanted in &selection.wanted {
        let name = &wanted.name;
        let child = by_name.get(name.as_str());
        let found = match child {
            Some(child) => conflict(module, wanted, child),
            None => ledger.unrecorded.contains(name).then_some(NameConflict::RecordFull),
        };
        match (found, child) {
            (Some(found), _) => {
                plan.conflicts.insert(name.clone(), found);
            }
            (None, Some(child)) => {
                plan.change.extend(change(child, edits(module, ledger, wanted, child)));
            }
            (None, None) => plan.create.push(create(ledger, wanted)),
        }
    }
    removals(module, selection, children, &mut plan);
    if module.problem.is_some() { plan.without_configuration() } else { plan }
}

/// Changes of Versions that are given only the deletion policy and suspension. A Version must have the policy of its Module
/// before it is deleted, regardless of who deletes it.
fn policies(module: &ModuleView, children: &[&VersionState]) -> Vec<Change> {
    let mut changes = Vec::new();
    for child in children.iter().filter(|child| module.manages(child)) {
        let stays = !child.is_terminating() && !module.is_terminating();
        if stays && !module.spec.suspend {
            continue;
        }
        let suspend = (stays && !child.module_suspended).then_some(Edit::SetSuspended(true));
        let resume = resume(child).filter(|_| module.orphans_versions() && !child.is_terminating());
        changes.extend(change(child, suspend.or(resume).into_iter().chain(set_policy(module, child))));
    }
    if module.is_terminating() {
        changes.extend(children.iter().filter_map(|child| release_orphan(module, child)));
    }
    changes
}

/// The deletion of Versions that are not wanted.
fn removals(module: &ModuleView, selection: &Selection, children: &[&VersionState], plan: &mut Plan) {
    // With an unreadable entry nothing is removed: it may be the one that names this Version.
    if !selection.invalid.is_empty() {
        return;
    }
    plan.removal = Removal::of(module, selection, children);
    let wanted: HashSet<&str> = selection.wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    for child in children.iter().filter(|child| module.manages(child) && !child.is_terminating()) {
        if wanted.contains(child.name()) {
            continue;
        }
        let resume = resume(child).filter(|_| plan.removal.waits);
        match change(child, resume.into_iter().chain(set_policy(module, child))) {
            // The policy is set first. The Version is deleted when the cache shows it.
            Some(change) => plan.change.push(change),
            None if plan.removal.waits => {}
            None => plan.delete.push(version_ref(child)),
        }
    }
}

fn create(ledger: &Ledger, wanted: &Wanted) -> Create {
    Create {
        name: wanted.name.clone(),
        version: wanted.spelled.clone(),
        expected_digest: ledger.expected_digest(&wanted.release).map(str::to_owned),
        request: ledger.open_request().map(str::to_owned),
    }
}

/// The edits of an existing Version that is wanted.
fn edits(module: &ModuleView, ledger: &Ledger, wanted: &Wanted, child: &VersionState) -> Vec<Edit> {
    let mut edits = Vec::new();
    if !module.manages(child) {
        edits.push(Edit::Adopt);
    }
    if child.config.as_deref() != Some(&module.resolved) {
        edits.push(Edit::SetConfig(file_name(child, &module.resolved)));
    }
    // A separate edit, since it is made even while the configuration is unusable.
    edits.extend(set_policy(module, child));
    edits.extend(resume(child));
    edits.extend(pin(module, ledger, wanted, child));
    if let Some(token) = ledger.open_request()
        && child.annotation(MODULE_REQUEST) != Some(token)
    {
        edits.push(Edit::Request(token.to_owned()));
    }
    edits
}

/// The edit of `spec.expectedDigest`. A Version that has the right content needs none. One that was created again, lost its
/// status, or published something else meanwhile is given the digest that its content must have.
fn pin(module: &ModuleView, ledger: &Ledger, wanted: &Wanted, child: &VersionState) -> Option<Edit> {
    let given = child.expected_digest.as_deref();
    if !module.is_immutable() {
        return given.map(|_| Edit::UnpinDigest);
    }
    let expected = ledger.expected_digest(&wanted.release)?;
    let is_known = given.or(child.status.content_digest.as_deref()) == Some(expected);
    (!is_known).then(|| Edit::PinDigest(expected.to_owned()))
}

/// The last change of a Version whose owner reference is gone when its Module is deleted. Nothing resumes it later, and nothing
/// else shows that its object is to be retained.
fn release_orphan(module: &ModuleView, child: &VersionState) -> Option<Change> {
    if child.former_module() != Some(module.name()) || !child.has_finalizer {
        return None;
    }
    let resume = resume(child).filter(|_| !child.is_terminating());
    let retain = set_policy(module, child).filter(|_| module.policy.retain);
    change(child, resume.into_iter().chain(retain))
}

fn resume(child: &VersionState) -> Option<Edit> {
    child.module_suspended.then_some(Edit::SetSuspended(false))
}

/// Gives a Version the deletion policy, if it has another one.
fn set_policy(module: &ModuleView, child: &VersionState) -> Option<Edit> {
    let retain = module.policy.retain;
    (child.retain != retain).then_some(Edit::SetPolicy { retain })
}

fn change(child: &VersionState, edits: impl IntoIterator<Item = Edit>) -> Option<Change> {
    let edits: Vec<Edit> = edits.into_iter().collect();
    (!edits.is_empty()).then(|| Change { target: version_ref(child), edits })
}

/// A Version as the cache has it.
pub(super) fn version_ref(child: &VersionState) -> VersionRef {
    VersionRef {
        name: child.name().to_owned(),
        uid: child.uid().to_owned(),
        resource_version: child.metadata.resource_version.clone().unwrap_or_default(),
    }
}
