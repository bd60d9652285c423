//! Removals: the stored versions that are no longer listed, and whether their deletion waits for a confirmation. Pure.
//!
//! `kubectl apply` with one entry replaces the whole list, and so removes every other version. Therefore a removal of several
//! stored versions is reported, and with `spec.removal: Confirm` it waits.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::select::Selection;
use super::view::ModuleView;
use crate::api::module::RemovalPolicy;
use crate::api::state::VersionState;
use crate::api::{CONFIRM_REMOVAL, condition};
use crate::controller::failure::Reason;
use crate::domain::Release;
use crate::domain::text::{and_more, counted, cut, plural};

/// The number of stored versions whose removal is probably a mistake.
const SEVERAL: usize = 2;
/// The largest number of further names in a message.
const MAX_NAMES: usize = 5;
/// The conditions whose reason means nothing while they are not True.
const QUIET: [&str; 2] = ["Stalled", "Reconciling"];
/// The largest size in bytes of the versions in a message: the command has to fit too.
const MAX_NAMES_SIZE: usize = 120;
/// The room for `N of M versions stored. ` before the request for a confirmation.
const MAX_PREFIX: usize = 48;

/// The versions that a Module no longer lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Removal {
    /// Those that are stored and not being deleted yet, in ascending order.
    pub(super) stored: Vec<Release>,
    /// Whether nothing is deleted until it is confirmed.
    pub(super) waits: bool,
}

/// The generation in the annotation `confirm-removal`, if the annotation is void: it was set before the edit of that generation.
/// A restored Module may have such an annotation, because its generations begin at 1 again.
pub(super) fn void_confirmation(module: &ModuleView) -> Option<i64> {
    let text = confirmation(module)?;
    let confirmed = text.parse::<i64>().ok().filter(|number| number.to_string() == *text)?;
    let generation = module.metadata.generation.unwrap_or_default();
    let is_new = module.status.observed_generation.is_none_or(|observed| observed < 1);
    let was_void = module.status.void_confirmation == Some(confirmed);
    let is_early = confirmed > generation || is_new || module.has_foreign_status() || was_void;
    (is_early && confirmed >= generation).then_some(confirmed)
}

impl Removal {
    /// A version that `versionHistoryLimit` prunes is still listed, so it does not count.
    pub(super) fn of(module: &ModuleView, selection: &Selection, children: &[&VersionState]) -> Self {
        let listed = selection.wanted.iter().map(|wanted| &wanted.name);
        let listed: HashSet<&str> = listed.chain(&selection.pruned).map(String::as_str).collect();
        let removed = children.iter().filter(|child| {
            module.manages(child) && !module.is_deleting(child) && !listed.contains(child.name())
        });
        let stored = removed.filter(|child| was_stored(child));
        let mut stored: Vec<_> = stored.filter_map(|child| Release::parse(&child.version).ok()).collect();
        stored.sort_by(Release::precedence);
        let waits = waits(module, stored.len());
        Self { stored, waits }
    }

    /// The request for a confirmation, for the status.
    pub(super) fn request(&self, module: &ModuleView) -> String {
        let generation = module.metadata.generation.unwrap_or_default();
        let (earlier, change) = if void_confirmation(module) == Some(generation) {
            (
                "Nothing is deleted. The annotation confirm-removal was set before this edit and is void. First remove it",
                format!("{CONFIRM_REMOVAL}-"),
            )
        } else {
            ("Nothing is deleted until you confirm", format!("{CONFIRM_REMOVAL}={generation}"))
        };
        let problem = format!(
            "{}: {}.",
            counted(
                self.stored.len(),
                "stored version is no longer in spec.versions. To keep it, put its entry back",
                "stored versions are no longer in spec.versions. To keep them, put the entries back"
            ),
            self.names()
        );
        // The end of the message is the command, so that it can be copied. It is never cut.
        let rest = format!(" {earlier}: {}", module.annotate(&change));
        let room = condition::MAX_MESSAGE.saturating_sub(MAX_PREFIX + rest.len());
        format!("{}{rest}", cut(&problem, room))
    }

    /// The text of the Event when several stored versions begin to be deleted: once for each generation, and when a removal no
    /// longer waits.
    pub(super) fn announcement(&self, module: &ModuleView) -> Option<String> {
        let is_new = module.status.observed_generation != module.metadata.generation;
        let is_several = is_new && self.stored.len() >= SEVERAL;
        if self.waits || self.stored.is_empty() || !(is_several || has_waited(module)) {
            return None;
        }
        let (objects, undo) = if module.policy.retain {
            ("their objects stay in S3 (deletionPolicy: Retain)", "")
        } else {
            (
                "their objects in S3 are deleted",
                " A deleted object can be restored only in a bucket with versioning.",
            )
        };
        Some(format!(
            "{} removed from spec.versions: {}. Their Versions are being deleted, and {objects}. To undo this, put the entries \
             back: each version is then fetched from its tag again and stored under a new key.{undo} With spec.removal: \
             Confirm, such a removal waits for a confirmation.",
            plural(self.stored.len(), "stored version"),
            self.names()
        ))
    }

    /// The first versions, as many as fit into a message.
    fn names(&self) -> String {
        let versions: Vec<String> = self.stored.iter().map(ToString::to_string).collect();
        and_more(&versions, MAX_NAMES_SIZE, versions.len())
    }
}

/// Further names with the same problem, as a sentence that needs at most `room` bytes, with the space before it.
pub(super) fn and_others(names: &[&str], room: usize) -> String {
    let sentence = |shown: usize| match (shown, names.len() - shown) {
        (0, 0) => String::new(),
        (0, more) => format!(" The same applies to {more} more."),
        (_, 0) => format!(" The same applies to {}.", names.join(", ")),
        (_, more) => format!(" The same applies to {} and {more} more.", names[..shown].join(", ")),
    };
    let shown = (0..=names.len().min(MAX_NAMES)).rev();
    shown.map(sentence).find(|sentence| sentence.len() <= room).unwrap_or_default()
}

/// Keeps the reason of a waiting removal in one condition while no removal is decided: the Module is suspended, or its spec is
/// unusable. Otherwise the wait would end without a confirmation.
pub(super) fn keep_waiting(module: &ModuleView, selection: &Selection, conditions: &mut [Condition]) {
    let is_decided = !module.spec.suspend && module.problem.is_none() && selection.invalid.is_empty();
    let mut quiet = conditions.iter_mut().filter(|c| QUIET.contains(&&*c.type_) && c.status == "False");
    let Some(quiet) = quiet.next().filter(|_| !is_decided && has_waited(module)) else { return };
    Reason::RemovalUnconfirmed.as_str().clone_into(&mut quiet.reason);
    "The removal of stored versions waits for a confirmation.".clone_into(&mut quiet.message);
}

/// Whether the removal of so many stored versions waits. It then waits until it is confirmed or no stored version is left to
/// remove. If another client deletes one of them, the removal of the others is not confirmed.
fn waits(module: &ModuleView, stored: usize) -> bool {
    let is_suspicious = stored >= SEVERAL || (stored > 0 && has_waited(module));
    module.spec.removal == RemovalPolicy::Confirm && is_suspicious && !is_confirmed(module)
}

/// Whether the last status has the reason of a waiting removal, in any condition.
fn has_waited(module: &ModuleView) -> bool {
    let conditions = &module.status.conditions;
    let says = |c: &Condition| c.reason == Reason::RemovalUnconfirmed.as_str();
    condition::OURS.iter().any(|type_| condition::find(conditions, type_).is_some_and(says))
}

/// Whether the removal by exactly this generation of the spec is confirmed: a later edit may remove more.
fn is_confirmed(module: &ModuleView) -> bool {
    let generation = module.metadata.generation.unwrap_or_default();
    confirmation(module).is_some_and(|confirmed| *confirmed == generation.to_string())
        && void_confirmation(module).is_none()
}

fn confirmation(module: &ModuleView) -> Option<&String> {
    module.metadata.annotations.as_ref()?.get(CONFIRM_REMOVAL)
}

/// Whether an object of this Version exists or is being restored.
fn was_stored(child: &VersionState) -> bool {
    let status = &child.status;
    status.synced || status.content_digest.is_some() || status.storage.is_some()
}
