//! `versionHistoryLimit`: which versions are wanted.

use proptest::prelude::*;

use super::super::rejected_requests::RejectedRequests;
use super::super::select::Selection;
use super::{ChildFixture, ModuleFixture, child, failed_child, module, pass, stored_child};
use crate::api::ADOPT;
use crate::domain::Release;

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
    assert_eq!(limited(2).decide(&[]).0.pruned.len(), 3);
    let spelled_twice = module().with_versions(["v1.0.0", "1.0.0", "2.0.0"]).with_limit(2);
    assert_eq!(
        (select(&spelled_twice, &[]), spelled_twice.decide(&[]).0.pruned.len()),
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

/// Its object stays, for a notice that is removed again.
#[test]
fn a_withdrawn_version_counts_like_any_other() {
    let of_all = ["1.0.0", "1.1.0", "2.0.0"].map(stored_child);
    for newest in [
        serde_json::json!({"version": "2.0.0"}),
        serde_json::json!({"version": "2.0.0", "withdrawn": "CVE-2026-1"}),
    ] {
        let list = serde_json::json!([{"version": "1.0.0"}, {"version": "1.1.0"}, newest]);
        let module = module().with(serde_json::json!({"spec": {"versions": list}})).with_limit(2);
        assert_eq!(select(&module, &[]), ["1.1.0", "2.0.0"], "{newest}");
        assert_eq!(select(&module, &of_all), ["1.1.0", "2.0.0"], "{newest}");
    }
}

#[test]
fn a_version_whose_deletion_is_not_seen_yet_costs_no_older_one() {
    let mut view = module().with_versions(["1.0.0", "2.0.0"]).with_limit(1).view();
    let children = [stored_child("1.0.0"), stored_child("2.0.0")];
    assert_eq!(wanted(&pass(&view, &children, &RejectedRequests::default(), None).selection), ["2.0.0"]);
    view.deleting = ["network-2.0.0".to_owned()].into();
    assert_eq!(
        wanted(&pass(&view, &children, &RejectedRequests::default(), None).selection),
        ["1.0.0", "2.0.0"]
    );
}

#[test]
fn a_restore_without_owner_references_costs_no_good_release() {
    let module = module().with_versions(["1.0.0", "1.1.0", "2.0.0"]).with_limit(1);
    let restored = |child: ChildFixture| child.ownerless().annotated(ADOPT, "network");
    let bad = restored(failed_child("2.0.0"));
    let children = [restored(stored_child("1.1.0")), bad.clone()];
    assert_eq!(select(&module, &children), ["1.1.0", "2.0.0"]);
    // Without its status, it is left alone until that is known.
    let blank = [restored(child("1.0.0")), restored(child("1.1.0")), bad.clone()];
    assert_eq!(select(&module, &blank), ["2.0.0"]);
    assert!(module.plan(&blank).delete.is_empty());
    let other = [stored_child("1.1.0").ownerless().annotated(ADOPT, "another"), bad];
    assert_eq!(select(&module, &other), ["2.0.0"], "another Module's");
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
        prop_assert_eq!(selection.wanted.len() + selection.pruned.len(), versions.len());
    }
}

/// What there is of one listed version.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Absent,
    New,
    Failed,
    Stored,
    /// Published, and its object is missing just now.
    Lost,
    /// Stored, by what a status without a digest says.
    StoredUnread,
    Terminating,
    Foreign,
}

fn some_versions() -> impl Strategy<Value = Vec<(String, State)>> {
    use State::{Absent, Failed, Foreign, Lost, New, Stored, StoredUnread, Terminating};
    let state = prop::sample::select(vec![
        Absent,
        New,
        Failed,
        Stored,
        Stored,
        Stored,
        Lost,
        StoredUnread,
        Terminating,
        Foreign,
    ]);
    let version = "v?[01]\\.[0-2]\\.0(-(rc|[12])(\\.[12])?)?(\\+b[12])?";
    prop::collection::btree_map(version, state, 1..14).prop_map(|versions| {
        // The same version in its other spelling is one entry more, but no other version.
        let mut seen = std::collections::BTreeSet::new();
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.retain(|(version, _)| seen.insert(version.trim_start_matches('v').to_owned()));
        versions
    })
}

fn children(versions: &[(String, State)]) -> Vec<ChildFixture> {
    let one = |(version, state): &(String, State)| match state {
        State::Absent => None,
        State::New => Some(child(version)),
        State::Failed => Some(failed_child(version)),
        State::Stored => Some(stored_child(version)),
        State::Lost => Some(stored_child(version).with(serde_json::json!({"status": {"synced": false}}))),
        State::StoredUnread => {
            Some(stored_child(version).with(serde_json::json!({"status": {"contentDigest": null}})))
        }
        State::Terminating => Some(stored_child(version).terminating()),
        State::Foreign => Some(stored_child(version).of_another_owner()),
    };
    versions.iter().filter_map(one).collect()
}

fn listing(versions: &[(String, State)], limit: usize) -> ModuleFixture {
    module().with_versions(versions.iter().map(|(version, _)| version.as_str())).with_limit(limit)
}

/// The listed versions, the newest first.
fn newest_first(versions: &[(String, State)]) -> Vec<(Release, State)> {
    let parse = |(version, state): &(String, State)| (Release::parse(version).unwrap(), *state);
    let mut releases: Vec<_> = versions.iter().map(parse).collect();
    releases.sort_by(|(a, _), (b, _)| b.precedence(a));
    releases
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn at_first_the_newest_are_made_and_no_more(versions in some_versions(), limit in 0..6_usize) {
        let (selection, plan) = listing(&versions, limit).decide(&[]);
        let keep = if limit == 0 { versions.len() } else { limit.min(versions.len()) };
        let newest = newest_first(&versions).into_iter().take(keep).map(|(release, _)| release.to_string());
        prop_assert_eq!(sorted(wanted(&selection)), sorted(newest.collect()));
        prop_assert_eq!((plan.create.len(), selection.pruned.len()), (keep, versions.len() - keep));
    }

    #[test]
    fn the_newest_are_kept_and_what_is_stored_goes_only_for_as_many_newer_ones(
        versions in some_versions(),
        limit in 1..6_usize,
    ) {
        let selection = listing(&versions, limit).decide(&children(&versions)).0;
        let kept = wanted(&selection);
        let mut newer_stored = 0;
        for (rank, (release, state)) in newest_first(&versions).into_iter().enumerate() {
            let is_kept = kept.contains(&release.to_string());
            let is_stored = matches!(state, State::Stored | State::StoredUnread);
            let counts = is_stored || state == State::Lost;
            prop_assert_eq!(is_kept, rank < limit || (counts && newer_stored < limit), "{}", release);
            newer_stored += usize::from(is_stored);
        }
        prop_assert_eq!(kept.len() + selection.pruned.len(), versions.len());
    }

    #[test]
    fn neither_the_order_of_the_list_nor_of_the_versions_matters(
        (versions, shuffled) in some_versions().prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        limit in 0..6_usize,
    ) {
        let one = listing(&versions, limit).decide(&children(&versions));
        let other = listing(&shuffled, limit).decide(&children(&shuffled));
        prop_assert_eq!(sorted(wanted(&one.0)), sorted(wanted(&other.0)));
        let names = |plan: &super::super::plan::Plan| {
            let created = plan.create.iter().map(|c| c.name.clone());
            sorted(created.chain(plan.delete.iter().map(|t| format!("less {}", t.name))).collect())
        };
        prop_assert_eq!(names(&one.1), names(&other.1));
    }

    #[test]
    fn a_higher_limit_never_keeps_less(versions in some_versions()) {
        let children = children(&versions);
        let kept: Vec<Vec<String>> =
            [1, 2, 3, 4, 5, 14, 0].iter().map(|limit| select(&listing(&versions, *limit), &children)).collect();
        for pair in kept.windows(2) {
            prop_assert!(pair[0].iter().all(|version| pair[1].contains(version)), "{:?}", pair);
        }
        prop_assert_eq!(kept[6].len(), versions.len(), "0 keeps all");
    }

    #[test]
    fn pruning_again_changes_nothing(versions in some_versions(), limit in 1..6_usize) {
        let module = listing(&versions, limit);
        let mut children = children(&versions);
        let (selection, plan) = module.decide(&children);
        children.retain(|c| !plan.delete.iter().any(|target| target.name == c.name()));
        children.extend(plan.create.iter().map(|create| child(&create.version)));
        prop_assert_eq!(select(&module, &children), wanted(&selection));
    }
}
