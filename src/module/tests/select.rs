//! `versionHistoryLimit`: which versions are wanted.

use proptest::prelude::*;

use super::super::select::Selection;
use super::{ChildFixture, ModuleFixture, failed_child, module, stored_child};
use crate::crd::Release;

fn wanted(selection: &Selection) -> Vec<String> {
    selection.wanted.iter().map(|w| w.release.to_string()).collect()
}

fn select(module: &ModuleFixture, children: &[ChildFixture]) -> Vec<String> {
    wanted(&module.decide(children).0)
}

const LIST: [&str; 5] = ["1.9.0", "1.10.0", "2.0.0-rc.1", "v2.0.0", "0.1.0"];

#[test]
fn the_newest_are_those_of_semver_in_the_order_of_the_list() {
    let limited = |n| module().with_versions(LIST).with_limit(n);
    assert_eq!(select(&limited(2), &[]), ["2.0.0-rc.1", "2.0.0"]);
    assert_eq!(select(&limited(3), &[]), ["1.10.0", "2.0.0-rc.1", "2.0.0"]);
    for all in [0, 5, 6, 5000] {
        assert_eq!(select(&limited(all), &[]).len(), 5, "{all}");
    }
    assert_eq!(select(&module().with_versions(LIST), &[]).len(), 5);
    assert_eq!(limited(2).decide(&[]).0.pruned, 3);
    let spelled_twice = module().with_versions(["v1.0.0", "1.0.0", "2.0.0"]).with_limit(2);
    assert_eq!(
        (select(&spelled_twice, &[]), spelled_twice.decide(&[]).0.pruned),
        (vec!["1.0.0".into(), "2.0.0".into()], 0)
    );
}

#[test]
fn a_bad_new_tag_never_costs_the_last_good_release() {
    let module = module().with_versions(["1.0.0", "1.1.0", "2.0.0"]).with_limit(1);
    let good = || vec![stored_child("1.0.0"), stored_child("1.1.0")];
    let bad = [good(), vec![failed_child("2.0.0")]].concat();
    assert_eq!(select(&module, &bad), ["1.1.0", "2.0.0"]);
    let mended = [good(), vec![stored_child("2.0.0")]].concat();
    assert_eq!(select(&module, &mended), ["2.0.0"]);
    assert_eq!(
        select(&module, &good().into_iter().map(ChildFixture::of_another_owner).collect::<Vec<_>>()),
        ["2.0.0"]
    );
    assert_eq!(
        select(&module, &good().into_iter().map(ChildFixture::terminating).collect::<Vec<_>>()),
        ["2.0.0"]
    );
}

#[test]
fn raising_the_limit_brings_back_what_was_pruned() {
    let module = |n| module().with_versions(["1.0.0", "2.0.0", "3.0.0"]).with_limit(n);
    let children = [stored_child("3.0.0")];
    assert_eq!(select(&module(1), &children), ["3.0.0"]);
    assert!(module(1).plan(&children).create.is_empty(), "the full list does not download what is pruned");
    let plan = module(2).plan(&children);
    assert_eq!(plan.create.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["network-2.0.0"]);
}

proptest! {
    #[test]
    fn pruning_keeps_as_many_stored_versions_as_it_may(
        states in prop::collection::vec(0..3_u8, 1..12),
        limit in 0..6_usize,
    ) {
        let versions: Vec<String> = (0..states.len()).map(|n| format!("1.{n}.0")).collect();
        let children: Vec<ChildFixture> = versions.iter().zip(&states).filter_map(|(version, state)| match state {
            0 => None,
            1 => Some(failed_child(version)),
            _ => Some(stored_child(version)),
        }).collect();
        let module = module().with_versions(versions.iter().map(String::as_str)).with_limit(limit);
        let (selection, plan) = module.decide(&children);
        let stored: Vec<&ChildFixture> = children.iter().filter(|c| c.lean().status.synced).collect();
        let gone = |c: &ChildFixture| plan.delete.iter().any(|t| t.name == c.name());
        let left = stored.iter().filter(|c| !gone(c)).count();
        let keep = if limit == 0 { stored.len() } else { limit.min(stored.len()) };
        prop_assert!(left >= keep, "{left} of {} left, limit {limit}", stored.len());
        for pruned in stored.iter().filter(|c| gone(c)) {
            let release = |c: &ChildFixture| Release::parse(&c.lean().version).unwrap();
            let newer = stored.iter().filter(|c| release(c).precedence(&release(pruned)).is_gt() && !gone(c)).count();
            prop_assert!(newer >= limit);
        }
        prop_assert_eq!(selection.wanted.len() + selection.pruned, versions.len());
    }
}
