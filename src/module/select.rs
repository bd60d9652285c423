//! Which versions of a Module are wanted, and which Version objects are its own: pure functions.
//!
//! In: the Module as it is stored, the Versions of its namespace as the watch keeps them. Out: the versions that shall
//! have a Version object. No client and no clock.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names;
use crate::api::requests::ForceToken;
use crate::api::state::{OwnerPolicy, VersionState};
use crate::api::{ModuleConfig, ModuleSpec, ModuleStatus};
use crate::domain::Release;

/// A Module as planning sees it.
#[derive(Clone, Debug)]
pub struct ModuleView {
    /// `metadata`.
    pub metadata: ObjectMeta,
    /// `spec`.
    pub spec: ModuleSpec,
    /// `status`, empty before the first reconcile.
    pub status: ModuleStatus,
    /// What counts for its Versions, read on its own: a broken spec never blocks a deletion.
    pub policy: OwnerPolicy,
    /// The content digests of Versions that are being deleted, by version.
    pub departed: BTreeMap<String, String>,
}

/// A version that shall have a Version object.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The version.
    pub release: Release,
    /// As the Module spells it (the first of two spellings).
    pub spelled: String,
    /// Name of its Version object.
    pub name: String,
}

/// The versions of a Module, sorted out.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those that shall have a Version object, in the order of the list.
    pub wanted: Vec<Wanted>,
    /// How many `versionHistoryLimit` leaves out.
    pub pruned: usize,
    /// What is wrong with the entries that are no versions.
    pub invalid: Vec<String>,
}

impl ModuleView {
    /// The configuration that each Version carries.
    pub fn resolved(&self) -> ModuleConfig {
        self.spec.module_config.resolved(&self.metadata.name.clone().unwrap_or_default())
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it is deleted without its Versions.
    pub(super) fn orphans(&self) -> bool {
        self.terminating() && self.metadata.finalizers.iter().flatten().any(|f| f == "orphan")
    }

    /// The request that is open now: the token that children are to handle.
    pub fn open_request(&self) -> Option<&str> {
        match ForceToken::parse(self.status.force_token.as_deref()?)? {
            ForceToken::Open(token) => Some(token),
            ForceToken::Done(_) => None,
        }
    }

    /// Whether contents are pinned.
    pub fn immutable(&self) -> bool {
        self.policy.immutable
    }

    /// The digest that a version must have.
    pub fn expected_digest(&self, release: &Release) -> Option<String> {
        if !self.immutable() {
            return None;
        }
        self.status.published.as_ref()?.get(&release.to_string()).cloned()
    }
}

/// Whether a Version is this Module's: owned by its UID and carrying our finalizer. Never by label or name.
pub fn ours(module: &ModuleView, child: &VersionState) -> bool {
    owned(module, child) && child.has_finalizer
}

pub(super) fn owned(module: &ModuleView, child: &VersionState) -> bool {
    child.controller().is_some_and(|owner| owner.uid == module.uid())
}

/// The versions that are wanted, each spelling once, less those that `versionHistoryLimit` prunes.
///
/// A stored version is pruned only when as many newer ones are stored: a bad new tag never costs the last good release.
pub fn select(module: &ModuleView, children: &[&VersionState]) -> Selection {
    let mut selection = Selection::default();
    let module_name = module.metadata.name.as_deref().unwrap_or_default();
    let mut seen = BTreeSet::new();
    for entry in &module.spec.versions {
        match Release::parse(&entry.version) {
            Ok(release) if seen.insert(release.to_string()) => selection.wanted.push(Wanted {
                name: names::version_object(module_name, &release),
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
    let live = || children.iter().filter(|c| ours(module, c) && !c.is_terminating());
    let stored: BTreeSet<_> =
        live().filter(|c| c.status.synced).filter_map(|c| c.metadata.name.as_deref()).collect();
    // One that is just being restored is not stored, but it is still a good release.
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
    let listed = selection.wanted.len();
    selection.wanted.retain(|wanted| kept.contains(&wanted.name));
    selection.pruned = listed - selection.wanted.len();
    selection
}
