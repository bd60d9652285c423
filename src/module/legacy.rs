//! Versions that the original OpenDepot left behind, and the condition with the commands that remove them. Pure.
//!
//! The operator never changes such a Version, its status or its object.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::select::Selection;
use super::view::ModuleView;
use crate::api::condition;
use crate::api::state::VersionState;
use crate::domain::text::{first_that_fit, plural};

/// The type and reason of the condition.
pub(super) const FOUND: &str = "OriginalVersionsFound";
/// The largest size in bytes of the names, together with the namespace in both commands: the rest of the message has to fit too.
const MOST_NAMES: usize = 279;

/// The names of the Versions that belong to this Module, in order. A Version whose name is wanted is a name conflict instead.
pub(super) fn names(module: &ModuleView, selection: &Selection, children: &[&VersionState]) -> Vec<String> {
    let wanted: BTreeSet<&str> = selection.wanted.iter().map(|wanted| wanted.name.as_str()).collect();
    // This operator removes its finalizer from a Version that is being deleted, and then another finalizer may keep that.
    let is_left = |child: &VersionState| child.is_original || !child.is_terminating();
    let left = children.iter().filter(|child| module.owns(child) && !child.has_finalizer && is_left(child));
    let left = left.map(|child| child.name().to_owned());
    let mut names: Vec<String> = left.filter(|name| !wanted.contains(name.as_str())).collect();
    names.sort();
    names
}

/// The condition, if there are such Versions.
pub(super) fn found(module: &ModuleView, names: &[String], now: Timestamp) -> Option<Condition> {
    if names.is_empty() {
        return None;
    }
    let are = if names.len() == 1 { "is" } else { "are" };
    let message = format!(
        "{} of the original OpenDepot {are} not changed. When they are no longer used, delete them; their files \
         in storage are kept. {}",
        plural(names.len(), "Version"),
        removal(module.namespace(), names)
    );
    let (before, generation) = (&module.status.conditions, module.metadata.generation);
    Some(condition::condition(before, (FOUND, "True"), FOUND, &message, generation, now))
}

/// The commands that remove the first of `names`. The finalizer is removed last: it is the original's, whose controller no
/// longer runs. Until then the Version is terminating, so that it does not count as a new one.
pub(super) fn removal(namespace: &str, names: &[String]) -> String {
    let (first, more) = first_that_fit(names, " ", MOST_NAMES.saturating_sub(2 * namespace.len()));
    let rest = match more {
        0 => String::new(),
        more => format!(" ({more} more are listed after these are deleted.)"),
    };
    format!(
        "In a shell: for v in {first}; do kubectl delete -n {namespace} versions.opendepot.defdev.io/$v --wait=false; \
         kubectl patch {MANAGER} -n {namespace} versions.opendepot.defdev.io/$v --type=merge \
         -p '{{\"metadata\":{{\"finalizers\":null}}}}'; done{rest}",
        MANAGER = crate::api::RELEASE_MANAGER,
    )
}
