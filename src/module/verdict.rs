//! How far a Module has come: pure functions from its selection, its plan and its Versions to the three conditions.
//!
//! In: what [`super::plan`] saw and decided. Out: a [`Tally`], and of it a verdict with its reason and one sentence. Ready
//! is never said while something is still to be made, changed, synced or removed.

use std::collections::{BTreeMap, BTreeSet};

use super::leftovers;
use super::plan::{Holder, Plan};
use super::record::{BYTES, ENTRIES};
use super::select::{ModuleView, Selection, Wanted, ours};
use super::status::Facts;
use crate::api::condition::Outcome;
use crate::api::state::VersionState;
use crate::api::target::is_stored;
use crate::controller::failure::Reason;

/// How many further names a message tells.
const NAMED: usize = 5;

/// What the Versions say, summed up.
#[derive(Default)]
pub(super) struct Tally<'a> {
    /// Stored where, and made from what, the Module wants now.
    pub stored: Vec<&'a Wanted>,
    /// Stored somewhere: a release that is just being moved is still a release.
    pub published: Vec<&'a Wanted>,
    pub failed: Vec<(&'a Wanted, &'a VersionState)>,
    /// Not done, and not waiting for anybody.
    pending: usize,
    /// Not stored, and suspended by their own `spec.suspend`.
    suspended: Vec<&'a Wanted>,
    /// Not wanted, and not gone yet.
    leaving: Vec<&'a VersionState>,
}

impl Tally<'_> {
    /// Whether something goes on that ends without a person.
    fn moves(&self) -> bool {
        let passes = |c: &VersionState| !(failed(c) && c.status.is_stalled());
        self.pending > 0
            || self.failed.iter().any(|(_, c)| passes(c))
            || self.leaving.iter().any(|c| passes(c))
    }
}

/// Sums up the Versions of `module`.
pub(super) fn tally<'a>(
    module: &ModuleView,
    selection: &'a Selection,
    children: &[&'a VersionState],
    plan: &Plan,
) -> Tally<'a> {
    let resolved = module.resolved();
    let named = |c: &&'a VersionState| Some((c.metadata.name.as_deref()?, *c));
    let mut ours: BTreeMap<&str, &VersionState> =
        children.iter().filter(|c| ours(module, c)).filter_map(named).collect();
    let changing: BTreeSet<&str> = plan.change.iter().map(|c| c.target.name.as_str()).collect();
    let mut tally = Tally::default();
    for wanted in &selection.wanted {
        let name = wanted.name.as_str();
        // A name that another holds is waited for by nobody; one of our own on its way out stays among those that leave.
        if plan.waiting.get(name).is_some_and(|holder| !holder.passes()) {
            continue;
        }
        let Some(child) = ours.get(name).filter(|c| !c.is_terminating()) else {
            tally.pending += 1;
            continue;
        };
        let child = *child;
        ours.remove(name);
        let stored = is_stored(child) && child.has_placement_of(&resolved);
        let current = observed(child) && !changing.contains(name);
        if stored {
            tally.stored.push(wanted);
        }
        if child.status.synced {
            tally.published.push(wanted);
        }
        if current && failed(child) {
            tally.failed.push((wanted, child));
        } else if current && child.suspend {
            tally.suspended.extend((!stored).then_some(wanted));
        } else if !(current && stored && child.status.is_ready() == Some(true)) {
            tally.pending += 1;
        }
    }
    // One that is changed although nobody wants it is told of the deletion policy first.
    let going: BTreeSet<&str> = plan.delete.iter().map(|t| t.name.as_str()).chain(changing).collect();
    tally.leaving =
        ours.into_iter().filter(|(n, c)| c.is_terminating() || going.contains(n)).map(|(_, c)| c).collect();
    tally
}

fn observed(child: &VersionState) -> bool {
    child.status.observed_generation.is_some_and(|seen| Some(seen) == child.metadata.generation)
}

fn failed(child: &VersionState) -> bool {
    observed(child) && child.status.is_ready() == Some(false) && !Reason::is_progress(child.status.reason())
}

/// The conditions, their reason and one sentence.
pub(super) fn verdict(
    module: &ModuleView,
    facts: &Facts<'_>,
    tally: &Tally<'_>,
    force_open: bool,
) -> (Outcome, Reason, String) {
    let Facts { selection, problem, .. } = *facts;
    let of = format!("{} of {}", tally.stored.len(), plural(selection.wanted.len(), "version"));
    if module.spec.suspend {
        return (Outcome::Idle, Reason::Suspended, format!("Suspended by spec.suspend; {of} stored."));
    }
    if let Some(problem) = problem {
        return (Outcome::Stalled, Reason::InvalidSpec, problem.message.clone());
    }
    if let Some((reason, message)) = obstacle(module, facts, tally, &of) {
        // Whoever waits for the end is told that it cannot be a good one when nothing else is to come.
        let verdict = if tally.moves() || force_open { Outcome::Working } else { Outcome::Stalled };
        return (verdict, reason, message);
    }
    let working = |message| (Outcome::Working, Reason::Progressing, message);
    if let Some((name, _)) = facts.plan.waiting.iter().find(|(_, holder)| **holder == Holder::Former) {
        return working(format!(
            "{of} stored. Version {name} belongs to the deleted Module of this name: Kubernetes is about to remove it."
        ));
    }
    if tally.pending > 0 {
        return working(format!("{of} stored, {} in progress.", tally.pending));
    }
    if force_open {
        return working(format!("Syncing {} again, as asked.", plural(selection.wanted.len(), "version")));
    }
    if !tally.leaving.is_empty() {
        return working(format!("{of} stored, {} being removed.", tally.leaving.len()));
    }
    if module.spec.module_config.provider.as_deref().unwrap_or_default().is_empty() {
        let message = format!(
            "moduleConfig.provider is missing: write the module's main provider, such as aws. {of} stored all the same."
        );
        return (Outcome::Stalled, Reason::ProviderMissing, message);
    }
    if let Some(first) = tally.suspended.first() {
        let message = format!(
            "{of} stored, {} suspended by spec.suspend of the Version; first {}.",
            tally.suspended.len(),
            first.release
        );
        return (Outcome::Idle, Reason::Suspended, message);
    }
    let message = if selection.wanted.is_empty() {
        "No versions are wanted.".to_owned()
    } else {
        format!("{of} stored.")
    };
    (Outcome::Ready, Reason::Synced, message)
}

/// What keeps the Module from its goal, the most basic first.
fn obstacle(module: &ModuleView, facts: &Facts<'_>, tally: &Tally<'_>, of: &str) -> Option<(Reason, String)> {
    let Facts { selection, plan, refused, .. } = *facts;
    if let Some(invalid) = selection.invalid.first() {
        let message =
            format!("spec.versions: {invalid}. Nothing is removed until this is mended; {of} stored.");
        return Some((Reason::InvalidSpec, message));
    }
    if let Some(message) = record_is_full(module, facts) {
        return Some((Reason::RecordFull, format!("{of} stored. {message}")));
    }
    let mut taken = plan.waiting.iter().filter(|(_, holder)| !holder.passes());
    if let Some((name, holder)) = taken.next() {
        let others = and_others(taken.map(|(name, _)| name.as_str()));
        return Some((Reason::NameTaken, held(module, name, holder) + &others));
    }
    if let Some(words) = &refused.module {
        return Some((Reason::VersionRefused, format!("{of} stored. {words}")));
    }
    if !refused.is_empty() {
        let others = and_others(refused.names.iter().skip(1).map(String::as_str));
        let wait = if refused.creates { " Further versions wait until one can be created." } else { "" };
        return Some((Reason::VersionRefused, format!("{of} stored. {}{others}{wait}", refused.words)));
    }
    let why = |child: &VersionState| format!("{}: {}", child.status.reason(), child.status.message);
    if let Some((first, child)) = tally.failed.first() {
        let message =
            format!("{of} stored, {} failed; first {}: {}", tally.failed.len(), first.release, why(child));
        return Some((shared_reason(tally.failed.iter().map(|(_, child)| *child)), message));
    }
    let stuck: Vec<_> = tally.leaving.iter().copied().filter(|c| failed(c)).collect();
    let first = stuck.first()?;
    let message =
        format!("{of} stored, {} cannot be removed; first {}: {}", stuck.len(), first.version, why(first));
    Some((shared_reason(stuck.into_iter()), message))
}

/// What is said where the digests of further versions cannot be recorded.
fn record_is_full(module: &ModuleView, facts: &Facts<'_>) -> Option<String> {
    let new = facts.plan.waiting.values().filter(|holder| **holder == Holder::Unrecorded).count();
    if new == 0 && !facts.too_large {
        return None;
    }
    let recorded = module.status.published.as_ref().map_or(0, BTreeMap::len);
    let why = if facts.too_large {
        "the Module with another entry would be larger than the API server can keep".to_owned()
    } else {
        format!("it holds {ENTRIES} entries and {} KiB at most", BYTES / 1024)
    };
    Some(format!(
        "status.published, the record of content digests, is full with {}: {why}. No version that is new is published; \
         removals go on. Set moduleConfig.immutable to false, wait for that to be observed, and set it to true again: the \
         digests of stored versions are kept then, those of removed ones are forgotten.",
        if recorded == 1 { "1 entry".to_owned() } else { format!("{recorded} entries") }
    ))
}

/// The reason that all failed Versions have in common: who lists Modules sees at once what is wrong.
fn shared_reason<'a>(mut failed: impl Iterator<Item = &'a VersionState>) -> Reason {
    let first = failed.next().and_then(|child| child.status.reason().parse::<Reason>().ok());
    first
        .filter(|first| failed.all(|child| child.status.reason() == first.as_str()))
        .unwrap_or(Reason::VersionsFailed)
}

/// More of what a message tells of one, by name as far as that is short.
fn and_others<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        n if n <= NAMED => format!(" The same of {shown}."),
        n => format!(" The same of {shown} and {} more.", n - NAMED),
    }
}

fn held(module: &ModuleView, name: &str, holder: &Holder) -> String {
    let namespace = module.metadata.namespace.as_deref().unwrap_or_default();
    let own = module.metadata.name.as_deref().unwrap_or_default();
    match holder {
        Holder::Ownerless => format!(
            "Version {name} exists and belongs to no Module. To hand it over: kubectl annotate {MANAGER} -n {namespace} \
             versions.opendepot.defdev.io/{name} {}={own}",
            crate::api::ADOPT,
            MANAGER = crate::api::RELEASE_MANAGER,
        ),
        Holder::Elsewhere => format!(
            "Version {name} has no owner, and was made for another place, repository or namespace than this Module's. \
             Delete it and what it stored, or hand it over, which moves that: kubectl label {MANAGER} -n {namespace} \
             versions.opendepot.defdev.io/{name} {}-",
            crate::api::MODULE_LABEL,
            MANAGER = crate::api::RELEASE_MANAGER,
        ),
        Holder::Other(owner) => format!(
            "Version {name} exists and belongs to {owner}. Rename or delete one of the two; the other versions are \
             not held up."
        ),
        Holder::Original => format!(
            "Version {name} is the original OpenDepot's: it is left alone, and the other versions are not held up. When \
             nothing uses it any more, delete it, and a new one is made. {}",
            leftovers::removal(namespace, &[name.to_owned()])
        ),
        Holder::Unlike(what) => format!(
            "Version {name} exists and is of {what}, whatever its name says. Delete it, and the right one is made."
        ),
        Holder::Bare => format!(
            "Version {name} has neither the finalizer {} nor a fileName: nobody knows what it stored. Delete it, and a \
             new one is made.",
            crate::api::FINALIZER
        ),
        Holder::Unrecorded => format!("Version {name} is not made: the record of digests is full."),
        Holder::Terminating | Holder::Former => format!("Version {name} is still being deleted."),
    }
}

/// `n` of something.
pub(super) fn plural(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
