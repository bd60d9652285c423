//! Entry point for the fuzz targets to the pure decisions on a Module. Not part of the product.
#![allow(clippy::missing_panics_doc, reason = "a target that panics has found something")]

use jiff::Timestamp;
use kube::api::DynamicObject;

use super::ledger::Ledger;
use super::rejected_requests::RejectedRequests;
use super::status::Facts;
use super::view::ModuleView;
use super::{plan, select, status};
use crate::api::ModuleStatus;
use crate::api::state::VersionState;

/// Decides twice on the same situation: the second time changes nothing.
pub fn decide(module: &mut DynamicObject, child: &VersionState) {
    module.metadata.name = Some("network".into());
    let mut view = ModuleView::take_from(module);
    let first = next(&view, child);
    view.status = first.clone();
    assert_eq!(next(&view, child), first);
}

fn next(view: &ModuleView, child: &VersionState) -> ModuleStatus {
    let (children, refused) = ([child], RejectedRequests::default());
    let selection = select::select(view, &children);
    let ledger = Ledger::next(view, (&selection, &children), &refused, false, None);
    let plan = plan::plan(view, &ledger, &selection, &children);
    assert!(plan.create.len() <= view.spec.versions.len());
    let facts =
        Facts { selection: &selection, children: &children, ledger: &ledger, plan: &plan, refused: &refused };
    status::status(view, &facts, Timestamp::UNIX_EPOCH)
}
