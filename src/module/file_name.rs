//! `spec.fileName` of a Version whose configuration is written. Pure.

use crate::api::ModuleConfig;
use crate::api::state::VersionState;
use crate::api::target::satisfies_spec;

/// What happens to `spec.fileName` when the configuration is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    Keep,
    /// A new name: the object moves or its bytes change.
    Fresh,
    /// The name that is derived from namespace, name and version: none is set, and the object may already have that name.
    Derived,
    /// The name of the stored object: the configuration was changed back before the object was moved.
    Stored(String),
}

/// The file name that belongs to a configuration.
pub(super) fn file_name(child: &VersionState, resolved: &ModuleConfig) -> FileName {
    if child.file_name.is_none() {
        FileName::Derived
    } else if child.has_placement_of(resolved) {
        FileName::Keep
    } else {
        stored_file_name(child, resolved).map_or(FileName::Fresh, FileName::Stored)
    }
}

/// The file name of the stored object, if that object is just what the configuration leads to: the configuration was changed
/// and changed back before the object was moved.
fn stored_file_name(child: &VersionState, resolved: &ModuleConfig) -> Option<String> {
    let key = child.status.storage.as_ref()?.key();
    let name = key.rsplit('/').next()?;
    // Without an extension the format of the stored object is not known.
    if !resolved.file_format.is_extension_of(name) {
        return None;
    }
    let mut changed_back = child.clone();
    changed_back.config = Some(resolved.clone().into());
    changed_back.file_name = Some(name.into());
    satisfies_spec(&changed_back).then(|| name.to_owned())
}
