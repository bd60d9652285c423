//! The status of a Module. Pure.
//!
//! A Module is `synced` only if every wanted Version is stored as this Module's spec wants it, and Ready only if nothing is
//! left to be created, changed, synced or removed.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::conflict::NameConflict;
use super::digests::{self, MAX_BYTES, MAX_ENTRIES};
use super::ledger::Ledger;
use super::plan::Plan;
use super::rejected_requests::RejectedRequests;
use super::removal::and_others;
use super::select::Selection;
use super::summary::{Summary, has_failed};
use super::view::ModuleView;
use super::{addressable, legacy, removal, requests};
use crate::api::condition::{MAX_MESSAGE, Outcome};
use crate::api::module::VersionCounts;
use crate::api::state::VersionState;
use crate::api::{ModuleStatus, condition};
use crate::controller::failure::Reason;
use crate::domain::text::{counted, cut, plural};

/// What the status is made from, besides the Module.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub selection: &'a Selection,
    /// The Versions of the namespace.
    pub children: &'a [&'a VersionState],
    pub ledger: &'a Ledger,
    pub plan: &'a Plan,
    pub refused: &'a RejectedRequests,
}

pub(super) fn status(module: &ModuleView, facts: &Facts<'_>, now: Timestamp) -> ModuleStatus {
    let Facts { selection, children, ledger, plan, .. } = *facts;
    let generation = module.metadata.generation;
    let summary = Summary::new(module, selection, children, plan);
    let (stored, desired) = (summary.stored, selection.wanted.len());
    let before = &module.status.conditions;
    let (outcome, reason, message) = outcome(module, facts, &summary);
    let mut conditions = condition::set(before, &outcome, reason.as_str(), &message, generation, now);
    removal::keep_waiting(module, selection, &mut conditions);
    // These Versions have a condition of their own, because the Module can be Ready in spite of them.
    let legacy = legacy::names(module, selection, children);
    conditions.retain(|condition| condition.type_ != legacy::FOUND);
    conditions.extend(legacy::found(module, &legacy, now));
    let mut status = ModuleStatus {
        observed_generation: generation,
        conditions,
        synced: Some(stored == desired && module.problem.is_none() && selection.invalid.is_empty()),
        sync_status: Some(cut(&message, MAX_MESSAGE)),
        latest_version: summary.latest(),
        versions: Some(VersionCounts {
            desired: count(desired),
            synced: count(stored),
            failed: count(summary.failed.len()),
            pruned: count(selection.pruned.len()),
            summary: format!("{stored}/{desired}"),
        }),
        published: ledger.published.clone(),
        force_token: ledger.force_token.clone(),
        last_handled_request: ledger.last_handled_request.clone(),
        address: module.status.address.clone(),
        refused_address: module.status.refused_address.clone(),
        claim_void: module.status.claim_void,
        void_confirmation: removal::void_confirmation(module),
    };
    if let Some(addressing) = &module.addressing {
        status.conditions.retain(|condition| condition.type_ != addressable::ADDRESSABLE);
        status.conditions.push(addressable::condition(module, addressing, selection, now));
        status.address = addressing.held.as_ref().map(ToString::to_string);
        status.refused_address = addressing.refused.as_ref().map(ToString::to_string);
        status.claim_void = addressing.claim_void.then_some(true);
    }
    status
}

/// Whether work waits for a digest that the ledger records and the status does not: its Version was deleted, or is about to be
/// deleted or pinned.
pub(super) fn awaits_digest(module: &ModuleView, facts: &Facts<'_>) -> bool {
    let Facts { children, ledger, plan, .. } = *facts;
    let published = ledger.published.iter().flat_map(BTreeMap::keys);
    let mut new = published.filter(|version| module.is_to_record(version)).peekable();
    if new.peek().is_none() {
        return false;
    }
    let pinned = plan.change.iter().filter(|change| change.pins_digest()).map(|change| &change.target);
    let affected: HashSet<&str> = plan.delete.iter().chain(pinned).map(|t| t.name.as_str()).collect();
    let is_unaffected = |child: &&&VersionState| {
        module.manages(child) && !child.is_terminating() && !affected.contains(child.name())
    };
    let unaffected = children.iter().filter(is_unaffected);
    let unaffected: HashSet<String> = unaffected.filter_map(|child| digests::release(child)).collect();
    new.any(|version| !unaffected.contains(version))
}

/// The outcome, its reason and message.
fn outcome(module: &ModuleView, facts: &Facts<'_>, summary: &Summary<'_>) -> (Outcome, Reason, String) {
    let Facts { selection, ledger, .. } = *facts;
    let of = format!("{} of {}", summary.stored, plural(selection.wanted.len(), "version"));
    // Includes a request that is throttled, and so has no token yet.
    let request_is_open = ledger.open_request().is_some() || requests::unopened(module).is_some();
    if module.spec.suspend {
        // Versions that cannot be suspended are still worked on.
        let is_refused =
            facts.plan.change.iter().any(|change| facts.refused.names.contains(&change.target.name));
        if let Some(message) = refused_versions(facts.refused, &of).filter(|_| is_refused) {
            return (Outcome::Working, Reason::VersionRefused, message);
        }
        return (Outcome::Idle, Reason::Suspended, format!("Suspended by spec.suspend; {of} stored."));
    }
    if let Some(problem) = &module.problem {
        return (Outcome::Stalled, Reason::InvalidSpec, problem.clone());
    }
    if let Some((reason, message)) = obstacle(module, facts, summary, &of) {
        // Stalled, not Reconciling, if no remaining work can change the result, so that `kubectl wait` fails early.
        let outcome = if summary.has_work() || request_is_open { Outcome::Working } else { Outcome::Stalled };
        return (outcome, reason, message);
    }
    if let Some(message) = progress(facts, summary, request_is_open, &of) {
        return (Outcome::Working, Reason::Progressing, message);
    }
    if module.spec.module_config.provider.as_deref().unwrap_or_default().is_empty() {
        let message = format!(
            "moduleConfig.provider is missing: set it to the module's main provider, such as aws. {of} stored anyway."
        );
        return (Outcome::Stalled, Reason::ProviderMissing, message);
    }
    if let Some(first) = summary.suspended.first() {
        let count = summary.suspended.len();
        let message = format!(
            "{of} stored, {count} suspended by spec.suspend of the Version; first {}.",
            first.release
        );
        return (Outcome::Idle, Reason::Suspended, message);
    }
    let message = if selection.wanted.is_empty() {
        "spec.versions is empty.".to_owned()
    } else {
        format!("{of} stored.")
    };
    (Outcome::Ready, Reason::Synced, message)
}

/// What is still in progress.
fn progress(facts: &Facts<'_>, summary: &Summary<'_>, request_is_open: bool, of: &str) -> Option<String> {
    let mut conflicts = facts.plan.conflicts.iter();
    if let Some((name, _)) = conflicts.find(|(_, conflict)| **conflict == NameConflict::DeletedOwner) {
        return Some(format!(
            "{of} stored. Version {name} still belongs to a deleted Module with this name. Kubernetes deletes that Version; then a new one is created."
        ));
    }
    if summary.pending > 0 {
        let awaited = summary.awaited.first().map_or_else(String::new, |version| {
            format!(" The name {} is in use by a Version that is still being deleted.", version.name())
        });
        return Some(format!("{of} stored, {} in progress.{awaited}", summary.pending));
    }
    if request_is_open {
        let versions = plural(facts.selection.wanted.len(), "version");
        return Some(format!("Syncing {versions} again, as requested."));
    }
    (!summary.leaving.is_empty()).then(|| format!("{of} stored, {} being removed.", summary.leaving.len()))
}

/// What prevents the Module from becoming Ready, the most basic first.
fn obstacle(
    module: &ModuleView,
    facts: &Facts<'_>,
    summary: &Summary<'_>,
    of: &str,
) -> Option<(Reason, String)> {
    let Facts { selection, plan, refused, .. } = *facts;
    if let Some(invalid) = selection.invalid.first() {
        let message =
            format!("spec.versions: {invalid}. Nothing is removed until this is corrected; {of} stored.");
        return Some((Reason::InvalidSpec, message));
    }
    if plan.removal.waits {
        return Some((Reason::RemovalUnconfirmed, format!("{of} stored. {}", plan.removal.request(module))));
    }
    if let Some(message) = record_is_full(module, facts) {
        return Some((Reason::RecordFull, format!("{of} stored. {message}")));
    }
    let mut conflicts = plan.conflicts.iter().filter(|(_, conflict)| !conflict.is_transient());
    if let Some((name, conflict)) = conflicts.next() {
        let others: Vec<&str> = conflicts.map(|(name, _)| name.as_str()).collect();
        return Some((Reason::NameTaken, conflict.message(module, name, &others)));
    }
    if let Some(words) = &refused.module {
        return Some((Reason::VersionRefused, format!("{of} stored. {words}")));
    }
    if let Some(message) = refused_versions(refused, of) {
        return Some((Reason::VersionRefused, message));
    }
    if let Some((first, child)) = summary.failed.first() {
        let count = summary.failed.len();
        let message = format!("{of} stored, {count} failed; first {}: {}", first.release, why(child));
        return Some((shared_reason(summary.failed.iter().map(|(_, child)| *child)), message));
    }
    undeletable(summary, of)
}

/// What cannot be deleted: Versions of this Module that are not wanted, or another one whose name is waited for.
fn undeletable(summary: &Summary<'_>, of: &str) -> Option<(Reason, String)> {
    let stuck = summary.stuck();
    if let Some(first) = stuck.first() {
        let (count, first) = (stuck.len(), format!("{}: {}", first.version, why(first)));
        let message = format!("{of} stored, {count} cannot be removed; first {first}");
        return Some((shared_reason(stuck.into_iter()), message));
    }
    let awaited = *summary.awaited.iter().find(|child| has_failed(child))?;
    let message = format!(
        "{of} stored. The name {} is in use by a Version that cannot be deleted: {}",
        awaited.name(),
        why(awaited)
    );
    Some((shared_reason(std::iter::once(awaited)), message))
}

/// The message if the API server refuses to create, change or delete Versions.
fn refused_versions(refused: &RejectedRequests, of: &str) -> Option<String> {
    if refused.names.is_empty() {
        return None;
    }
    let words = format!("{of} stored. {}", refused.words);
    let wait = if refused.creates { " Further versions wait until one can be created." } else { "" };
    let others: Vec<&str> = refused.names.iter().skip(1).map(String::as_str).collect();
    let others = and_others(&others, MAX_MESSAGE.saturating_sub(words.len() + wait.len()));
    Some(format!("{words}{others}{wait}"))
}

/// The message if the digests of further versions cannot be recorded.
fn record_is_full(module: &ModuleView, facts: &Facts<'_>) -> Option<String> {
    let ledger = facts.ledger;
    let is_full = facts.plan.conflicts.values().any(|conflict| *conflict == NameConflict::RecordFull);
    if !is_full && !ledger.is_too_large {
        return None;
    }
    let recorded = module.status.published.as_ref().map_or(0, BTreeMap::len);
    let why = if ledger.is_too_large {
        "with another entry, the Module would be larger than the API server accepts".to_owned()
    } else {
        format!("it contains at most {MAX_ENTRIES} entries and {} KiB", MAX_BYTES / 1024)
    };
    Some(format!(
        "status.published, the record of content digests, is full with {}: {why}. No new version is published; \
         removals continue. Set moduleConfig.immutable to false, wait until status.published is removed, and set it to true \
         again: the digests of stored versions are then kept, and those of removed versions are discarded.",
        counted(recorded, "entry", "entries")
    ))
}

/// The reason and message of a Version that failed.
pub(super) fn why(child: &VersionState) -> String {
    format!("{}: {}", child.status.reason(), child.status.message)
}

/// The reason that all failed Versions have in common, so that a list of Modules shows it.
pub(super) fn shared_reason<'a>(mut failed: impl Iterator<Item = &'a VersionState>) -> Reason {
    let first: Option<Reason> = failed.next().and_then(|child| child.status.reason().parse().ok());
    first
        .filter(|first| failed.all(|child| child.status.reason() == first.as_str()))
        .unwrap_or(Reason::VersionsFailed)
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
