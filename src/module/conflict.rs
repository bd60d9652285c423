//! Name conflicts: why a wanted Version cannot be created or used under its name, and what to do about it. Pure.

use super::legacy;
use super::select::Wanted;
use super::view::ModuleView;
use crate::api::state::VersionState;
use crate::api::{ADOPT, FINALIZER, MODULE_LABEL, ModuleConfig, RELEASE_MANAGER};

/// Why the name of a wanted version cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameConflict {
    /// The existing Version is being deleted.
    Terminating,
    /// It belongs to a deleted Module of the same name: Kubernetes is about to delete it.
    DeletedOwner,
    /// It has no owner, and its annotation `adopt` does not name this Module.
    Unowned,
    /// It has no owner, and was created for a Module with another location or repository, or in another namespace.
    OtherPlacement,
    /// It belongs to this object.
    OtherOwner(String),
    /// It belongs to this Module, but has neither our finalizer nor a file name: what it stored is unknown.
    Unmanaged,
    /// The original OpenDepot created it for this Module.
    Original,
    /// It is of this type and version, which never change.
    TypeMismatch(String),
    /// There is no such Version, and none is created: there is no room for its digest in the record.
    RecordFull,
}

/// The conflict of an existing Version with the wanted version of the same name. Without one, the Version belongs to the
/// Module or is adopted by it.
pub(super) fn conflict(
    module: &ModuleView,
    wanted: &Wanted,
    child: &VersionState,
    resolved: &ModuleConfig,
) -> Option<NameConflict> {
    if child.is_terminating() {
        return Some(NameConflict::Terminating);
    }
    if !child.is_release(&wanted.release) {
        return Some(NameConflict::TypeMismatch(format!("{} {}", child.type_, child.version)));
    }
    match child.controller() {
        None if !module.is_to_adopt(child) => Some(NameConflict::Unowned),
        None => (!child.is_adoptable(resolved)).then_some(NameConflict::OtherPlacement),
        Some(owner) if owner.uid != module.uid() => Some(match child.module() {
            Some(namesake) if namesake.name == module.name() => NameConflict::DeletedOwner,
            _ => NameConflict::OtherOwner(format!("{} {}", owner.kind, owner.name)),
        }),
        Some(_) if child.has_finalizer => None,
        Some(_) if child.is_original => Some(NameConflict::Original),
        // Another client has removed our finalizer. With a file name the object is known, and the Version can be used again.
        Some(_) => child.file_name.is_none().then_some(NameConflict::Unmanaged),
    }
}

impl NameConflict {
    /// Whether the name becomes free soon, without a user's action.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Terminating | Self::DeletedOwner)
    }

    /// What blocks the Version `name`, and what to do. The publish action searches the message for the name as a word.
    pub fn message(&self, module: &ModuleView, name: &str) -> String {
        let namespace = module.namespace();
        let kind = "versions.opendepot.defdev.io";
        match self {
            Self::Unowned => format!(
                "Version {name} exists and has no owner. To let this Module adopt it: kubectl annotate {RELEASE_MANAGER} -n \
                 {namespace} {kind}/{name} {ADOPT}={}",
                module.name()
            ),
            Self::OtherPlacement => format!(
                "Version {name} has no owner, and was created for another location, repository or namespace than this \
                 Module's. Delete it and its object, or let this Module adopt it, which moves the object: kubectl label \
                 {RELEASE_MANAGER} -n {namespace} {kind}/{name} {MODULE_LABEL}-"
            ),
            Self::OtherOwner(owner) => format!(
                "Version {name} exists and belongs to {owner}. Rename or delete one of the two; the other versions are \
                 not affected."
            ),
            Self::Original => format!(
                "Version {name} was created by the original OpenDepot and is not changed; the other versions are not \
                 affected. When it is no longer used, delete it; then a new one is created. {}",
                legacy::removal(namespace, &[name.to_owned()])
            ),
            Self::TypeMismatch(what) => format!(
                "Version {name} exists with the type and version {what}, which do not match its name. Delete it; the \
                 operator then creates the correct one."
            ),
            Self::Unmanaged => format!(
                "Version {name} has neither the finalizer {FINALIZER} nor a fileName, so its object is unknown. \
                 Delete it; the operator then creates a new one."
            ),
            Self::RecordFull => format!("Version {name} is not created: the record of digests is full."),
            Self::Terminating | Self::DeletedOwner => format!("Version {name} is still being deleted."),
        }
    }
}
