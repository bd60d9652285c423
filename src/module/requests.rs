//! Requests of a Module for a full sync of all its Versions: `spec.forceSync` and the annotation `requestedAt`. Pure.
//!
//! A request is open while `status.forceToken` holds a token. Each Version receives the token as an annotation, and the
//! request closes when every Version has handled it.

use std::collections::{BTreeSet, HashMap};

use super::conflict::conflict;
use super::rejected_requests::RejectedRequests;
use super::select::Selection;
use super::view::ModuleView;
use crate::api::MODULE_REQUEST;
use crate::api::requests::ForceToken;
use crate::api::state::VersionState;

/// Identifies the request that is made now and has no token yet. The same request always has the same identity.
pub(super) fn unopened(module: &ModuleView) -> Option<String> {
    if open_token(module).is_some() || module.spec.suspend || !module.is_readable {
        return None;
    }
    let recorded = module.status.force_token.as_deref().filter(|_| !module.has_foreign_status());
    if module.spec.force_sync && !resets_force_sync(module, recorded) {
        return Some(format!("forceSync/{}", module.metadata.generation.unwrap_or_default()));
    }
    let at = module.requested_at()?;
    (module.status.last_handled_request.as_deref() != Some(at)).then(|| format!("requestedAt/{at}"))
}

/// The token of the open request in the status.
pub(super) fn open_token(module: &ModuleView) -> Option<&str> {
    open(module.status.force_token.as_deref())
}

/// The token, if it is that of an open request.
pub(super) fn open(token: Option<&str>) -> Option<&str> {
    token.filter(|token| matches!(ForceToken::parse(token), Some(ForceToken::Open(_))))
}

/// Whether `spec.forceSync` is to be reset, given the token that is recorded: its request is done at this generation.
pub(super) fn resets_force_sync(module: &ModuleView, token: Option<&str>) -> bool {
    module.spec.force_sync && token.and_then(ForceToken::parse) == Some(done(module))
}

/// The token after an open request closes. A request that did not include `spec.forceSync` does not answer it.
pub(super) fn closed(module: &ModuleView, open: &str) -> String {
    let answers = ForceToken::Open(open).includes_force_sync() || !module.spec.force_sync;
    if answers { done(module) } else { ForceToken::Done(0) }.to_string()
}

/// Whether every Version has handled the open request, or cannot.
pub(super) fn is_handled(
    module: &ModuleView,
    open: &str,
    (selection, children): (&Selection, &[&VersionState]),
    unrecorded: &BTreeSet<String>,
    refused: &RejectedRequests,
) -> bool {
    let by_name: HashMap<&str, &VersionState> = children.iter().map(|child| (child.name(), *child)).collect();
    let is_refused = |name: &String| refused.names.contains(name);
    selection.wanted.iter().all(|wanted| match by_name.get(wanted.name.as_str()) {
        // One that is being deleted, or is reported and not changed.
        Some(child) if conflict(module, wanted, child).is_some() => true,
        // Its adoption is refused, or waits until the configuration is usable.
        Some(child) if !module.manages(child) && (module.problem.is_some() || is_refused(&wanted.name)) => {
            true
        }
        Some(child) if child.annotation(MODULE_REQUEST) == Some(open) => {
            // A suspended Version only has to carry the request: it handles it when it is resumed.
            child.suspend || child.status.last_module_request.as_deref() == Some(open)
        }
        // The same status write reports why a Version cannot be created.
        None if module.problem.is_some() || refused.creates || unrecorded.contains(&wanted.name) => true,
        _ => is_refused(&wanted.name),
    })
}

fn done(module: &ModuleView) -> ForceToken<'static> {
    ForceToken::Done(module.metadata.generation.unwrap_or_default())
}
