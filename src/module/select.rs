//! The versions of a Module that should have a Version object. Pure.

use std::collections::BTreeSet;

use super::view::ModuleView;
use crate::api::object_name;
use crate::api::state::VersionState;
use crate::domain::Release;

/// A version that should have a Version object.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub release: Release,
    /// As the Module spells it first.
    pub spelled: String,
    /// The name of its Version object.
    pub name: String,
}

/// The versions of a Module.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The wanted versions, in the order of the list.
    pub wanted: Vec<Wanted>,
    /// The names of the versions that `versionHistoryLimit` leaves out.
    pub pruned: BTreeSet<String>,
    /// The errors of the entries that are not versions.
    pub invalid: Vec<String>,
}

/// The wanted versions, each once, without those that `versionHistoryLimit` prunes.
///
/// A stored version is pruned only when that many newer versions are stored: a bad new tag never removes the last good release.
pub(super) fn select(module: &ModuleView, children: &[&VersionState]) -> Selection {
    let mut selection = Selection::default();
    let mut seen = BTreeSet::new();
    for entry in &module.spec.versions {
        match Release::parse(&entry.version) {
            Ok(release) if seen.insert(release.to_string()) => selection.wanted.push(Wanted {
                name: object_name::version_object(module.name(), &release),
                release,
                spelled: entry.version.clone(),
            }),
            Ok(_) => {}
            Err(error) => selection.invalid.push(error.to_string()),
        }
    }
    let limit = module.spec.module_config.version_history_limit.unwrap_or(0);
    let limit = usize::try_from(limit).unwrap_or(0);
    if limit == 0 || selection.wanted.len() <= limit {
        return selection;
    }
    let live = || children.iter().filter(|c| module.manages(c) && !c.is_terminating());
    let stored: BTreeSet<_> =
        live().filter(|c| c.status.synced).filter_map(|c| c.metadata.name.as_deref()).collect();
    // A version whose object is being restored is not stored now, but is still a good release.
    let published: BTreeSet<_> = live()
        .filter(|c| c.status.synced || c.status.content_digest.is_some())
        .filter_map(|c| c.metadata.name.as_deref())
        .collect();
    let mut newest_first: Vec<&Wanted> = selection.wanted.iter().collect();
    newest_first.sort_by(|a, b| b.release.precedence(&a.release));
    let mut newer_stored = 0;
    let mut kept = BTreeSet::new();
    for (rank, wanted) in newest_first.into_iter().enumerate() {
        if rank < limit || (published.contains(wanted.name.as_str()) && newer_stored < limit) {
            kept.insert(wanted.name.clone());
        }
        newer_stored += usize::from(stored.contains(wanted.name.as_str()));
    }
    let pruned = selection.wanted.extract_if(.., |wanted| !kept.contains(&wanted.name));
    selection.pruned = pruned.map(|wanted| wanted.name).collect();
    selection
}
