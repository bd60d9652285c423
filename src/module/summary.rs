//! Counts the Versions of a Module by their state. Pure.

use std::collections::{HashMap, HashSet};

use super::plan::Plan;
use super::select::{Selection, Wanted};
use super::view::ModuleView;
use crate::api::state::VersionState;
use crate::api::target::satisfies_spec;
use crate::controller::failure::Reason;

/// The Versions of a Module by their state.
#[derive(Default)]
pub(super) struct Summary<'a> {
    /// The number that is stored at the location, and made from the source, that the Module wants now.
    pub stored: usize,
    /// Stored anywhere: a version that is being moved is still a release.
    pub published: Vec<&'a Wanted>,
    pub failed: Vec<(&'a Wanted, &'a VersionState)>,
    /// Wanted and not done, without a name conflict.
    pub pending: usize,
    /// Not stored, and suspended by their own `spec.suspend`.
    pub suspended: Vec<&'a Wanted>,
    /// Not wanted, and not deleted yet.
    pub leaving: Vec<&'a VersionState>,
    /// Not of this Module, with a wanted name, and being deleted: the name is waited for.
    pub awaited: Vec<&'a VersionState>,
}

impl<'a> Summary<'a> {
    pub(super) fn new(
        module: &ModuleView,
        selection: &'a Selection,
        children: &[&'a VersionState],
        plan: &Plan,
    ) -> Self {
        let managed = children.iter().filter(|child| module.manages(child));
        let mut managed: HashMap<&str, &VersionState> = managed.map(|child| (child.name(), *child)).collect();
        // A change that only passes a request on does not make a Version pending: the open request has its own message.
        let changing = plan.change.iter().filter(|change| !change.only_requests());
        let changing: HashSet<&str> = changing.map(|change| change.target.name.as_str()).collect();
        let mut summary = Self::default();
        for wanted in &selection.wanted {
            let name = wanted.name.as_str();
            // A conflict is reported on its own. A terminating Version of this Module counts as leaving.
            if plan.conflicts.get(name).is_some_and(|conflict| !conflict.is_transient()) {
                continue;
            }
            let is_taken = plan.conflicts.contains_key(name);
            if is_taken || managed.get(name).is_none_or(|child| child.is_terminating()) {
                summary.pending += 1;
            } else if let Some(child) = managed.remove(name) {
                let is_stored = satisfies_spec(child) && child.has_placement_of(&module.resolved);
                let is_current = child.is_observed() && !changing.contains(name);
                summary.add(wanted, child, is_stored, is_current);
            }
        }
        // A Version that is changed although it is not wanted is given the deletion policy before it is deleted.
        let deleted = plan.delete.iter().map(|target| target.name.as_str());
        let going: HashSet<&str> = deleted.chain(changing).collect();
        let is_leaving = |child: &&VersionState| child.is_terminating() || going.contains(child.name());
        summary.leaving = managed.into_values().filter(is_leaving).collect();
        summary.leaving.sort_by_key(|child| child.name());
        let is_awaited = |child: &&VersionState| {
            child.is_terminating() && !module.manages(child) && plan.conflicts.contains_key(child.name())
        };
        summary.awaited = children.iter().copied().filter(is_awaited).collect();
        summary.awaited.sort_by_key(|child| child.name());
        summary
    }

    fn add(&mut self, wanted: &'a Wanted, child: &'a VersionState, is_stored: bool, is_current: bool) {
        self.stored += usize::from(is_stored);
        self.published.extend(child.status.synced.then_some(wanted));
        if is_current && has_failed(child) {
            self.failed.push((wanted, child));
        } else if is_current && child.suspend {
            self.suspended.extend((!is_stored).then_some(wanted));
        } else if !(is_current && is_stored && child.status.is_ready() == Some(true)) {
            self.pending += 1;
        }
    }

    /// The leaving Versions that could not be removed.
    pub(super) fn stuck(&self) -> Vec<&'a VersionState> {
        self.leaving.iter().copied().filter(|child| has_failed(child)).collect()
    }

    /// Whether any work is in progress or retried without a user's action.
    pub(super) fn has_work(&self) -> bool {
        let has_work = |child: &VersionState| !(has_failed(child) && child.status.is_stalled());
        self.pending > 0
            || self.failed.iter().any(|(_, child)| has_work(child))
            || self.leaving.iter().any(|child| has_work(child))
    }

    /// The highest published version that is not withdrawn, a release before a pre-release.
    pub(super) fn latest(&self) -> Option<String> {
        let highest = |prerelease: bool| {
            let served = self.published.iter().filter(|w| !w.is_withdrawn);
            let candidates = served.filter(|w| w.release.is_prerelease() == prerelease);
            candidates.max_by(|a, b| a.release.precedence(&b.release)).map(|w| w.release.to_string())
        };
        highest(false).or_else(|| highest(true))
    }
}

/// Whether the last reconcile of a Version failed.
pub(super) fn has_failed(child: &VersionState) -> bool {
    let status = &child.status;
    child.is_observed() && status.is_ready() == Some(false) && !Reason::is_progress(status.reason())
}
