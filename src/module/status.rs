//! What a Module's status says: a pure function from the Module, its selection and its Versions.
//!
//! In: what [`super::plan`] saw and decided. Out: the whole status to write, and whether `forceSync` is to be reset. A
//! Module is `synced` only when every wanted Version is stored as this Module's spec wants it.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use super::Problem;
use super::attempts::Refused;
use super::leftovers;
use super::plan::{Holder, Plan};
use super::record::Room;
use super::select::{ModuleView, Selection, Wanted, ours};
use super::verdict::{plural, tally, verdict};
use crate::api::module::VersionCounts;
use crate::api::requests::ForceToken;
use crate::api::state::VersionState;
use crate::api::{MODULE_REQUEST, ModuleStatus, REQUESTED_AT, condition};
use crate::domain::Release;
use crate::domain::text::cut;

/// What the status is made from, besides the Module.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The versions that are wanted.
    pub selection: &'a Selection,
    /// The Versions of the namespace.
    pub children: &'a [&'a VersionState],
    /// What is to be done.
    pub plan: &'a Plan,
    /// What makes the spec unusable.
    pub problem: Option<&'a Problem>,
    /// What the API server refuses.
    pub refused: &'a Refused,
    /// Whether a status that records more digests would be too large to be kept.
    pub too_large: bool,
}

/// The status of `module`. `token` is a new token ([`ForceToken::create`]) for a request that is to be opened.
pub fn status(module: &ModuleView, facts: &Facts<'_>, token: Option<&str>, now: Timestamp) -> ModuleStatus {
    let Facts { selection, children, plan, problem, .. } = *facts;
    let generation = module.metadata.generation;
    let tally = tally(module, selection, children, plan);
    let before = &module.status;
    let mut after = before.clone();
    after.observed_generation = generation;
    if of_another_life(module) && module.open_request().is_none() {
        after.force_token = None;
    }
    // A spec that cannot be worked with may not even be readable: nothing is unpinned until it is mended.
    if problem.is_none() || module.immutable() {
        after.published = published(module, children, facts.too_large);
    }
    force(module, facts, token, &mut after);

    let stored = tally.stored.len();
    let desired = selection.wanted.len();
    after.synced = Some(stored == desired && problem.is_none() && selection.invalid.is_empty());
    after.latest_version = latest(&tally.published);
    after.versions = Some(VersionCounts {
        desired: count(desired),
        synced: count(stored),
        failed: count(tally.failed.len()),
        pruned: count(selection.pruned),
        summary: format!("{stored}/{desired}"),
    });
    let token = after.force_token.as_deref().and_then(ForceToken::parse);
    let open = matches!(token, Some(ForceToken::Open(_)));
    // One that is held back, since too many were asked for, is still to come.
    let open = open || wants_request(module).is_some();
    let (verdict, reason, message) = verdict(module, facts, &tally, open);
    after.conditions =
        condition::set(&before.conditions, &verdict, reason.as_str(), &message, generation, now);
    // A condition of its own, since these objects keep nothing from being ready.
    let left = leftovers::names(module, selection, children);
    after.conditions.retain(|c| c.type_ != leftovers::FOUND);
    after.conditions.extend(leftovers::found(module, &left, &before.conditions, now));
    after.sync_status = Some(cut(&message, condition::MAX_MESSAGE));
    after
}

/// Whether `spec.forceSync` is to be set back: its request is done, at this very generation.
pub fn resets_force(module: &ModuleView) -> bool {
    module.spec.force_sync && is_done(module)
}

/// Whether the status says that the request of this very generation is done. A restore brings back the status of a
/// Module that had come further, and whose generations are not this one's: it speaks of none of them.
fn is_done(module: &ModuleView) -> bool {
    let token = module.status.force_token.as_deref().and_then(ForceToken::parse);
    !of_another_life(module) && token == Some(done(module))
}

fn of_another_life(module: &ModuleView) -> bool {
    module.status.observed_generation > module.metadata.generation
}

/// What names the request that stands and that no token was opened for yet: the same one is counted once.
pub fn wants_request(module: &ModuleView) -> Option<String> {
    if module.open_request().is_some() || module.spec.suspend {
        return None;
    }
    if module.spec.force_sync && !is_done(module) {
        return Some(format!("forceSync/{}", module.metadata.generation.unwrap_or_default()));
    }
    let at = requested_at(module)?;
    (module.status.last_handled_request.as_deref() != Some(at)).then(|| format!("requestedAt/{at}"))
}

fn requested_at(module: &ModuleView) -> Option<&str> {
    module.metadata.annotations.as_ref()?.get(REQUESTED_AT).map(String::as_str)
}

fn done(module: &ModuleView) -> ForceToken<'static> {
    ForceToken::Done(module.metadata.generation.unwrap_or_default())
}

/// The token that replaces an open one when its request is done. A `spec.forceSync` that was set while another request
/// was open is not part of that request.
fn closed(module: &ModuleView, open: &str) -> String {
    let unanswered = module.spec.force_sync && !ForceToken::Open(open).includes_force_sync();
    if unanswered { ForceToken::Done(0) } else { done(module) }.to_string()
}

/// Opens a request, or closes the open one when every live child has handled it.
fn force(module: &ModuleView, facts: &Facts<'_>, token: Option<&str>, after: &mut ModuleStatus) {
    let Facts { selection, children, plan, problem, refused, .. } = *facts;
    if let Some(open) = module.open_request() {
        let by_name: BTreeMap<&str, &VersionState> =
            children.iter().filter_map(|c| Some((c.metadata.name.as_deref()?, *c))).collect();
        let handled = selection.wanted.iter().all(|wanted| match by_name.get(wanted.name.as_str()) {
            Some(c) if !ours(module, c) || c.is_terminating() => true,
            // A suspended one carries it at least, so that it follows when it is resumed.
            Some(c) => {
                let carries = c.annotation(MODULE_REQUEST) == Some(open);
                carries && (c.suspend || c.status.last_module_request.as_deref() == Some(open))
                    || !carries && refused.names.contains(&wanted.name)
            }
            // What cannot be made has no outcome but the Module's own, which the same write tells.
            None => {
                let unrecorded = plan.waiting.get(&wanted.name) == Some(&Holder::Unrecorded);
                problem.is_some() || unrecorded || refused.creates || refused.names.contains(&wanted.name)
            }
        });
        if handled && !module.spec.suspend {
            after.force_token = Some(closed(module, open));
        }
    } else if let Some(token) = token.filter(|_| wants_request(module).is_some()) {
        after.force_token = Some(token.to_owned());
        // Recorded when it is taken up, so that one that comes later is another request.
        if let Some(at) = requested_at(module) {
            after.last_handled_request = Some(at.to_owned());
        }
    }
}

/// The digests that pin an immutable module's contents: what was recorded once stays, what is stored and new is added as
/// long as there is room.
fn published(
    module: &ModuleView,
    children: &[&VersionState],
    full: bool,
) -> Option<BTreeMap<String, String>> {
    if !module.immutable() {
        return None;
    }
    let mut published = module.status.published.clone().unwrap_or_default();
    if full {
        return Some(published);
    }
    let mut room = Room::beside(&published);
    // Also of one whose object is missing just now: it may be deleted before it is restored.
    let held = children.iter().filter(|c| ours(module, c)).filter_map(|child| {
        let release = Release::parse(&child.version).ok()?;
        Some((release.to_string(), child.status.content_digest.as_deref()?.to_owned()))
    });
    // What has gone is known nowhere else.
    let departed = module.departed.iter().map(|(version, digest)| (version.clone(), digest.clone()));
    for (version, digest) in departed.chain(held) {
        if !published.contains_key(&version) && room.take(&version, &digest) {
            published.insert(version, digest);
        }
    }
    Some(published)
}

/// Whether something waits for a digest that `after` records and the status does not: its Version has gone, or is about to.
pub fn awaits_digest(module: &ModuleView, after: &ModuleStatus, facts: &Facts<'_>) -> bool {
    let recorded = module.status.published.as_ref();
    let mut new = after.published.iter().flatten().map(|(version, _)| version);
    let mut new = new.by_ref().filter(|v| recorded.is_none_or(|r| !r.contains_key(*v))).peekable();
    if new.peek().is_none() {
        return false;
    }
    let goes: HashSet<&str> = facts.plan.delete.iter().map(|target| target.name.as_str()).collect();
    let stays = |c: &&&VersionState| {
        ours(module, c)
            && !c.is_terminating()
            && !goes.contains(c.metadata.name.as_deref().unwrap_or_default())
    };
    let stays: HashSet<String> = facts
        .children
        .iter()
        .filter(stays)
        .filter_map(|c| Some(Release::parse(&c.version).ok()?.to_string()))
        .collect();
    new.any(|version| !stays.contains(version))
}

/// What is to be told when `immutable` was turned off just now.
pub fn unpinned(before: &ModuleStatus, after: &ModuleStatus) -> Option<String> {
    let pins = before.published.as_ref().filter(|_| after.published.is_none())?;
    Some(format!(
        "moduleConfig.immutable was turned off: the content of {} is no longer pinned. From now on a sync stores what \
         the tag holds then.",
        plural(pins.len(), "version")
    ))
}

fn latest(stored: &[&Wanted]) -> Option<String> {
    let highest = |prerelease: bool| {
        stored
            .iter()
            .filter(|w| w.release.is_prerelease() == prerelease)
            .max_by(|a, b| a.release.precedence(&b.release))
            .map(|w| w.release.to_string())
    };
    highest(false).or_else(|| highest(true))
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
