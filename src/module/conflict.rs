//! Name conflicts: why a wanted Version cannot be created or used under its name, and what to do about it. Pure.

use super::legacy;
use super::removal::and_others;
use super::select::Wanted;
use super::view::ModuleView;
use crate::api::condition::MAX_MESSAGE;
use crate::api::state::{Origin, VersionState};
use crate::api::{ADOPT, FINALIZER, MODULE_LABEL, RELEASE_MANAGER};

/// Why the name of a wanted version cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameConflict {
    /// The existing Version is being deleted.
    Terminating,
    /// It belongs to a deleted Module of the same name: Kubernetes is about to delete it.
    DeletedOwner,
    /// It has no owner, and its annotation `adopt` does not name this Module.
    Unowned,
    /// It has no owner, and was created for a Module with another location or repository.
    OtherPlacement,
    /// It has no owner, and was created in another namespace, whose Version may have the same object.
    OtherNamespace,
    /// It belongs to another owner, of this kind and name.
    OtherOwner(String),
    /// It belongs to this Module, but has neither our finalizer nor a file name: what it stored is unknown.
    Unmanaged,
    /// The original OpenDepot created it for this Module.
    Original,
    /// It has this type and version instead of the wanted ones. Neither can be changed.
    TypeMismatch(String),
    /// There is no such Version, and none is created: there is no room for its digest in the record.
    RecordFull,
}

/// The conflict of an existing Version with the wanted version of the same name. Without one, the Version belongs to the
/// Module or is adopted by it.
pub(super) fn conflict(module: &ModuleView, wanted: &Wanted, child: &VersionState) -> Option<NameConflict> {
    if module.is_deleting(child) {
        return Some(NameConflict::Terminating);
    }
    if !child.is_release(&wanted.release) {
        return Some(NameConflict::TypeMismatch(format!("{} {}", child.type_, child.version)));
    }
    match child.controller() {
        None if !module.is_to_adopt(child) => Some(NameConflict::Unowned),
        None if child.is_adoptable(&module.resolved) => None,
        None if child.origin == Origin::Elsewhere => Some(NameConflict::OtherNamespace),
        None => Some(NameConflict::OtherPlacement),
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

    /// What blocks the Version `name`, the `others` whose names are taken too, and what to do. A command is at the end, so that
    /// it can be copied, and is never cut. The publish action searches the message for each name as a word.
    pub fn message(&self, module: &ModuleView, name: &str, others: &[&str]) -> String {
        let (problem, remedy) = (self.problem(name), self.remedy(module, name));
        let Some(room) = MAX_MESSAGE.checked_sub(problem.len() + remedy.len() + 1) else {
            // The command contains the name too.
            return remedy;
        };
        format!("{problem}{} {remedy}", and_others(others, room)).trim_end().to_owned()
    }

    fn problem(&self, name: &str) -> String {
        match self {
            Self::Unowned => format!("Version {name} exists and has no owner."),
            Self::OtherPlacement => format!(
                "Version {name} has no owner, and was created for another location or repository than this Module's."
            ),
            Self::OtherNamespace => format!(
                "Version {name} has no owner, and is a copy from another namespace, where a Version may use the same object."
            ),
            Self::OtherOwner(owner) => format!("Version {name} exists and belongs to {owner}."),
            Self::Original => format!(
                "Version {name} was created by the original OpenDepot and is not changed; the other versions are not \
                 affected."
            ),
            Self::TypeMismatch(what) => format!(
                "Version {name} exists with the type and version {what}, which do not match its name."
            ),
            Self::Unmanaged => format!(
                "Version {name} has neither the finalizer {FINALIZER} nor a fileName, so its object is unknown."
            ),
            Self::RecordFull => format!("Version {name} is not created: the record of digests is full."),
            Self::Terminating | Self::DeletedOwner => format!("Version {name} is still being deleted."),
        }
    }

    fn remedy(&self, module: &ModuleView, name: &str) -> String {
        let namespace = module.namespace();
        let version = format!("-n {namespace} versions.opendepot.defdev.io/{name}");
        let label = format!("kubectl label {RELEASE_MANAGER} {version} {MODULE_LABEL}-");
        match self {
            Self::Unowned => format!(
                "To let this Module adopt it: kubectl annotate {RELEASE_MANAGER} --overwrite {version} {ADOPT}={}",
                module.name()
            ),
            Self::OtherPlacement => format!(
                "Delete it if it is not needed. Or let this Module adopt it, which moves the object: {label}"
            ),
            Self::OtherNamespace => format!(
                "Set deletionPolicy: Retain in its moduleConfigRef and delete it. Or let this Module adopt it and store an object \
                 of its own: {label}"
            ),
            Self::OtherOwner(_) => {
                "Remove this version from spec.versions, or publish one of the two modules under another name; the other versions \
                 are not affected.".to_owned()
            }
            Self::Original => format!(
                "When it is no longer used, delete it; then a new one is created. {}",
                legacy::removal(namespace, &[name.to_owned()])
            ),
            Self::TypeMismatch(_) => "Delete it; the operator then creates the correct one.".to_owned(),
            Self::Unmanaged => "Delete it; the operator then creates a new one.".to_owned(),
            Self::RecordFull | Self::Terminating | Self::DeletedOwner => String::new(),
        }
    }
}
