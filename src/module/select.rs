//! The versions of a Module that should have a Version object, and those that `versionHistoryLimit` prunes. Pure.

use std::collections::{BTreeSet, HashMap};

use super::view::ModuleView;
use crate::api::module::ModuleVersion;
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
    /// Whether any of its entries contains a withdrawal.
    pub is_withdrawn: bool,
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

/// The versions of the list, each once.
fn listed(entries: &[ModuleVersion], module: &str) -> Selection {
    let mut selection = Selection::default();
    let mut seen = HashMap::new();
    for entry in entries {
        let release = match Release::parse(&entry.version) {
            Ok(release) => release,
            Err(error) => {
                selection.invalid.push(error.to_string());
                continue;
            }
        };
        let index = *seen.entry(release.to_string()).or_insert_with(|| {
            selection.wanted.push(Wanted {
                name: object_name::version_object(module, &release),
                release,
                spelled: entry.version.clone(),
                is_withdrawn: false,
            });
            selection.wanted.len() - 1
        });
        let withdrawn = entry.withdrawn.as_deref().unwrap_or_default();
        selection.wanted[index].is_withdrawn |= !withdrawn.trim().is_empty();
    }
    selection
}

/// The wanted versions, each once, without those that `versionHistoryLimit` prunes.
///
/// A stored version is pruned only when at least `versionHistoryLimit` newer versions are stored: a bad new tag never removes the
/// last good release. A version that is not stored is pruned if it is not among the newest.
pub(super) fn select(module: &ModuleView, children: &[&VersionState]) -> Selection {
    let mut selection = listed(&module.spec.versions, module.name());
    let limit = usize::try_from(module.spec.module_config.version_history_limit.unwrap_or(0)).unwrap_or(0);
    if limit == 0 || selection.wanted.len() <= limit {
        return selection;
    }
    // A Version without an owner is adopted: after a restore without owner references, all are. If its status is lost too, its
    // own reconcile finds the object first, and nothing is deleted until then.
    let by_name: HashMap<&str, &Wanted> = selection.wanted.iter().map(|w| (w.name.as_str(), w)).collect();
    let is_adopted = |child: &VersionState| {
        let wanted = by_name.get(child.name()).filter(|_| module.is_to_adopt(child));
        wanted.is_some_and(|wanted| child.is_release(&wanted.release) && child.is_adoptable(&module.resolved))
    };
    let live = children.iter().filter(|c| !module.is_deleting(c) && (module.manages(c) || is_adopted(c)));
    // A version whose object is being restored is not stored now, but is still a good release.
    let published = live.filter(|c| c.status.synced || c.status.content_digest.is_some());
    let is_stored: HashMap<&str, bool> = published.map(|c| (c.name(), c.status.synced)).collect();
    let mut newest_first: Vec<&Wanted> = selection.wanted.iter().collect();
    newest_first.sort_by(|a, b| b.release.precedence(&a.release));
    let mut newer_stored = 0;
    let mut kept = BTreeSet::new();
    for (rank, wanted) in newest_first.into_iter().enumerate() {
        let is_stored = is_stored.get(wanted.name.as_str());
        if rank < limit || (is_stored.is_some() && newer_stored < limit) {
            kept.insert(wanted.name.clone());
        }
        newer_stored += usize::from(is_stored == Some(&true));
    }
    let pruned = selection.wanted.extract_if(.., |wanted| !kept.contains(&wanted.name));
    selection.pruned = pruned.map(|wanted| wanted.name).collect();
    selection
}
