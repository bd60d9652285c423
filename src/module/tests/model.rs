//! Plans are run against a model of the API server: one reconcile does all there is to do, and the next does nothing.

use proptest::prelude::*;
use serde_json::json;

use super::super::edit::{Change, Edit};
use super::super::file_name::FileName;
use super::super::plan::Plan;
use super::{ChildFixture, ModuleFixture, child, failed_child, module, stored_child};
use crate::api::{ADOPT, FINALIZER, MODULE_REQUEST};

/// What the API server has after `plan` was run.
pub(super) fn run(module: &ModuleFixture, plan: &Plan, children: Vec<ChildFixture>) -> Vec<ChildFixture> {
    let config = json!(module.view().resolved);
    let mut after: Vec<ChildFixture> = children
        .into_iter()
        .map(|child| match plan.change.iter().find(|c| c.target.name == child.name()) {
            Some(change) => changed(child, change, &config),
            None => child,
        })
        .map(|child| {
            let is_deleted = plan.delete.iter().any(|target| target.name == child.name());
            if is_deleted { child.terminating() } else { child }
        })
        .collect();
    after.extend(plan.create.iter().map(|create| {
        let mut made =
            child(&create.version).with(json!({"spec": {"expectedDigest": create.expected_digest}}));
        made.0["spec"]["moduleConfigRef"] = config.clone();
        match &create.request {
            Some(token) => made.asked(token),
            None => made,
        }
    }));
    after
}

fn changed(child: ChildFixture, change: &Change, config: &serde_json::Value) -> ChildFixture {
    change.edits.iter().fold(child, |mut child, edit| match edit {
        Edit::SetConfig(file_name) => {
            child.0["spec"]["moduleConfigRef"] = config.clone();
            match file_name {
                FileName::Keep => child,
                FileName::Stored(name) => child.with(json!({"spec": {"fileName": name}})),
                FileName::Fresh | FileName::Derived => child.with(json!({"spec": {"fileName": "fresh.zip"}})),
            }
        }
        Edit::SetPolicy { retain } => {
            child.with_config(json!({"deletionPolicy": if *retain { "Retain" } else { "Delete" }}))
        }
        Edit::SetSuspended(suspended) => {
            child.with(json!({"spec": {"moduleSuspended": suspended.then_some(true)}}))
        }
        Edit::PinDigest(digest) => child.with(json!({"spec": {"expectedDigest": digest}})),
        Edit::UnpinDigest => child.with(json!({"spec": {"expectedDigest": null}})),
        Edit::Request(token) => child.annotated(MODULE_REQUEST, token),
        Edit::Adopt => {
            let owner = super::child("1.0.0").0["metadata"]["ownerReferences"].clone();
            child.with(json!({"metadata": {"finalizers": [FINALIZER], "ownerReferences": owner}}))
        }
    })
}

fn some_child(version: &str, state: u8) -> Option<ChildFixture> {
    match state {
        0 => None,
        1 => Some(child(version)),
        2 => Some(failed_child(version)),
        3 => Some(stored_child(version).terminating()),
        4 => Some(stored_child(version).without_finalizer()),
        5 => Some(stored_child(version).of_another_owner()),
        6 => Some(stored_child(version).ownerless()),
        7 => Some(stored_child(version).ownerless().annotated(ADOPT, "network")),
        8 => Some(stored_child(version).with(json!({"spec": {"moduleSuspended": true}}))),
        9 => Some(stored_child(version).with(json!({"spec": {"expectedDigest": "h1:given"}}))),
        10 => Some(stored_child(version).asked("earlier")),
        11 => Some(stored_child(version).with_config(json!({"storageConfig": {"s3": {"bucket": "old"}}}))),
        _ => Some(stored_child(version)),
    }
}

prop_compose! {
    fn some_module()(
        listed in prop::collection::vec(prop_oneof![9 => 0..16_u8, 1 => Just(99_u8)], 0..10),
        limit in 0..5_usize,
        flags in any::<[bool; 5]>(),
    ) -> ModuleFixture {
        let [suspended, immutable, open, retain, moved] = flags;
        let spelled: Vec<String> = listed.iter().map(|n| match n {
            99 => "latest".to_owned(),
            n if n % 2 == 0 => format!("1.{}.0", n / 2),
            n => format!("v1.{}.0", n / 2),
        }).collect();
        let mut module = module().with_versions(spelled.iter().map(String::as_str)).with_limit(limit);
        if suspended { module = module.suspended(); }
        if immutable { module = module.immutable(json!({"1.0.0": "h1:1.0.0", "1.3.0": "h1:other"})); }
        if open { module = module.with_token("token"); }
        if retain { module = module.with_config(json!({"deletionPolicy": "Retain"})); }
        if moved { module = module.with_config(json!({"name": "net"})); }
        module
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn one_reconcile_does_all_and_the_next_does_nothing(
        module in some_module(),
        states in prop::collection::vec(0..14_u8, 8),
    ) {
        let versions: Vec<String> = (0..states.len()).map(|n| format!("1.{n}.0")).collect();
        let children: Vec<ChildFixture> =
            versions.iter().zip(&states).filter_map(|(version, state)| some_child(version, *state)).collect();
        let plan = module.plan(&children);

        // Nothing that is another's is changed or deleted, and nothing is done twice.
        for target in plan.delete.iter().chain(plan.change.iter().filter(|c| !c.adopts()).map(|c| &c.target)) {
            let child = children.iter().find(|c| c.name() == target.name).unwrap().lean();
            prop_assert!(module.view().manages(&child));
        }
        let mut touched: Vec<&str> = plan.create.iter().map(|c| c.name.as_str()).collect();
        touched.extend(plan.change.iter().map(|c| c.target.name.as_str()));
        touched.extend(plan.delete.iter().map(|t| t.name.as_str()));
        let all = touched.len();
        touched.sort_unstable();
        touched.dedup();
        prop_assert_eq!(touched.len(), all);

        let mut children = run(&module, &plan, children);
        let next = module.plan(&children);
        // What is to go hears of the deletion policy before; an adopted Version may let an older one go.
        let is_given = |name: &str| plan.change.iter().any(|c| c.target.name == name && c.retain().is_some());
        let rest = next.change.len() + next.create.len() + next.delete.iter().filter(|t| !is_given(&t.name)).count();
        prop_assert!(rest == 0 || plan.change.iter().any(Change::adopts), "{next:?}");
        // Whatever is deleted knows what becomes of its object.
        let retain = module.view().policy.retain;
        for child in children.iter().map(ChildFixture::lean) {
            let is_deleted = child.is_terminating() || next.delete.iter().any(|t| Some(&t.name) == child.metadata.name.as_ref());
            let ours = module.view().manages(&child);
            prop_assert!(!is_deleted || !ours || child.retain == retain, "{child:?}");
        }

        // What waited for a name is made once that is free, and then there is nothing left to do.
        for _ in 0..3 {
            let plan = module.plan(&children);
            children = run(&module, &plan, children);
            children.retain(|c| !c.lean().is_terminating());
        }
        let rest = module.plan(&children);
        prop_assert!(rest.create.is_empty() && rest.change.is_empty() && rest.delete.is_empty(), "{rest:?}");
    }
}
