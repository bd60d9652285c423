//! What a reconcile does, one rule at a time.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::super::conflict::NameConflict;
use super::super::file_name::FileName;
use super::super::finalizer;
use super::super::finalizer::Need;
use super::super::patch::merge_patch;
use super::super::plan::Plan;
use super::super::rejected_requests::RejectedRequests;
use super::super::view::ModuleView;
use super::{ChildFixture, ModuleFixture, child, failed_child, merge, module, pass, stored_child};
use crate::api::state::VersionState;
use crate::api::target::satisfies_spec;
use crate::api::{
    ADOPT, MODULE_FINALIZER, MODULE_LABEL, MODULE_REQUEST, NAMESPACE_LABEL, ORIGINAL_FINALIZER,
};

fn created(plan: &Plan) -> Vec<&str> {
    plan.create.iter().map(|c| c.name.as_str()).collect()
}

fn deleted(plan: &Plan) -> Vec<&str> {
    plan.delete.iter().map(|t| t.name.as_str()).collect()
}

fn conflict(module: &ModuleFixture, child: ChildFixture) -> Option<NameConflict> {
    let name = child.name().to_owned();
    let plan = module.plan(&[child]);
    assert!(plan.create.is_empty() && plan.change.is_empty() && plan.delete.is_empty(), "{plan:?}");
    plan.conflicts.get(&name).cloned()
}

#[test]
fn each_wanted_version_is_created_once_as_it_is_spelled() {
    let plan = module().with_versions(["v1.0.0", "1.0.0", "2.0.0-RC.1"]).plan(&[]);
    assert_eq!(created(&plan)[0], "network-1.0.0");
    assert_eq!(plan.create.len(), 2);
    assert_eq!(plan.create[0].version, "v1.0.0");
    assert_eq!(Plan { create: vec![], ..plan }, Plan::default());
}

#[test]
fn what_is_there_is_not_touched_and_what_is_not_wanted_goes() {
    let children = [stored_child("1.0.0"), failed_child("v2.0.0"), stored_child("3.0.0")];
    let plan = module().with_versions(["1.0.0", "2.0.0", "4.0.0"]).plan(&children);
    assert_eq!((created(&plan), deleted(&plan)), (vec!["network-4.0.0"], vec!["network-3.0.0"]));
    assert!(plan.change.is_empty() && plan.conflicts.is_empty());
    let target = &plan.delete[0];
    assert_eq!((target.uid.as_str(), target.resource_version.as_str()), ("uid-of-3.0.0", "10"));
    assert_eq!(deleted(&module().plan(&children)).len(), 3, "an empty list removes all");
}

#[test]
fn an_entry_that_cannot_be_read_removes_nothing_and_holds_up_nothing() {
    let plan = module().with_versions(["latest", "2.0.0"]).plan(&[stored_child("1.0.0")]);
    assert_eq!((created(&plan), deleted(&plan)), (vec!["network-2.0.0"], vec![]));
}

#[test]
fn versions_of_others_are_left_alone() {
    let dashed = json!({"metadata": {"name": "network-1-0-0"}});
    let original = child("1.0.0").with(dashed).without_finalizer();
    let plan = module().plan(&[original, child("1.0.0").of_another_owner(), child("1.1.0").ownerless()]);
    assert_eq!(plan, Plan::default());

    let wants = module().with_versions(["1.0.0"]);
    let of = |owner: Value| {
        let mut child = child("1.0.0").of_another_owner();
        merge(&mut child.0["metadata"]["ownerReferences"][0], owner);
        conflict(&wants, child)
    };
    let other = json!({"name": "dns"});
    assert_eq!(of(other), Some(NameConflict::OtherOwner("Module dns".into())));
    let namesake = json!({"apiVersion": "example.com/v1"});
    assert_eq!(of(namesake), Some(NameConflict::OtherOwner("Module network".into())));
    assert_eq!(of(json!({})), Some(NameConflict::DeletedOwner), "it was deleted and made again");
    assert_eq!(conflict(&wants, child("1.0.0").ownerless()), Some(NameConflict::Unowned));
    let nameless = child("1.0.0").without_finalizer().with(json!({"spec": {"fileName": null}}));
    assert_eq!(conflict(&wants, nameless), Some(NameConflict::Unmanaged));
    let theirs = child("1.0.0").with(json!({"metadata": {"finalizers": [ORIGINAL_FINALIZER]}}));
    assert_eq!(conflict(&wants, theirs), Some(NameConflict::Original), "an older original kept the dots");
}

#[test]
fn a_name_that_is_still_terminating_is_waited_for() {
    let wants = module().with_versions(["1.0.0", "2.0.0"]);
    let plan = wants.plan(&[stored_child("1.0.0").terminating()]);
    assert_eq!(plan.conflicts.get("network-1.0.0"), Some(&NameConflict::Terminating));
    assert_eq!(created(&plan), ["network-2.0.0"], "it holds nothing up");
    assert!(module().plan(&[stored_child("1.0.0").terminating()]).delete.is_empty(), "once is enough");
}

#[test]
fn an_ownerless_version_is_adopted_by_the_module_that_it_names() {
    let wants = module().with_versions(["1.0.0"]);
    let handed = |to: &str| stored_child("1.0.0").ownerless().without_finalizer().annotated(ADOPT, to);
    assert_eq!(conflict(&wants, handed("other")), Some(NameConflict::Unowned));
    let plan = wants.plan(&[handed("network")]);
    assert!(plan.change[0].adopts() && plan.change[0].config().is_none() && plan.change.len() == 1);
    let derived = handed("network")
        .with(json!({"spec": {"fileName": null}}))
        .with_config(json!({"provider": "google"}));
    assert_eq!(
        wants.plan(&[derived]).change[0].config(),
        Some(&FileName::Derived),
        "its object may lie there"
    );
    assert!(module().plan(&[handed("network")]).delete.is_empty(), "no list wants it");
    // The annotation does not take it from another owner.
    let owned = child("1.0.0").of_another_owner().annotated(ADOPT, "network");
    assert_eq!(conflict(&wants, owned), Some(NameConflict::DeletedOwner));
}

#[test]
fn a_version_of_the_right_name_and_another_content_is_not_adopted() {
    let wants = module().with_versions(["1.0.0"]);
    for spec in [json!({"version": "9.9.9"}), json!({"version": "latest"}), json!({"type": "Provider"})] {
        let child = child("1.0.0").ownerless().annotated(ADOPT, "network").with(json!({"spec": spec}));
        assert!(matches!(conflict(&wants, child), Some(NameConflict::TypeMismatch(_))), "{spec}");
    }
}

#[test]
fn a_finalizer_that_somebody_took_off_is_put_back() {
    let plan = module().with_versions(["1.0.0"]).plan(&[stored_child("1.0.0").without_finalizer()]);
    assert!(plan.change.len() == 1 && plan.change[0].adopts());
}

#[test]
fn only_what_decides_bytes_or_place_gives_a_fresh_file_name() {
    let s3 = |s3: Value| json!({"storageConfig": {"s3": s3}});
    let table = [
        (json!({"provider": "google"}), Some(FileName::Keep)),
        (json!({"immutable": true}), Some(FileName::Keep)),
        (json!({"deletionPolicy": "Retain"}), Some(FileName::Keep)),
        (json!({"githubClientConfig": {"useAuthenticatedClient": true}}), Some(FileName::Keep)),
        (json!({"repoUrl": "https://github.com/Acme/network.git"}), Some(FileName::Keep)),
        (s3(json!({"serverSideEncryption": "AES256"})), Some(FileName::Keep)),
        (s3(json!({"forcePathStyle": false})), Some(FileName::Keep)),
        (s3(json!({"forcePathStyle": true})), Some(FileName::Keep)),
        (s3(json!({"endpoint": "https://S3.us-west-2.amazonaws.com:443/"})), Some(FileName::Keep)),
        (json!({"versionHistoryLimit": 9}), None),
        (json!({"versionConstraints": ">= 1"}), None),
        (json!({"storageConfig": {"presign": {"enabled": true}}}), None),
        (json!({"name": "net"}), Some(FileName::Fresh)),
        (json!({"fileFormat": "tar"}), Some(FileName::Fresh)),
        (json!({"repoUrl": "https://github.com/acme/net"}), Some(FileName::Fresh)),
        (s3(json!({"bucket": "other"})), Some(FileName::Fresh)),
        (s3(json!({"key": "prefix"})), Some(FileName::Fresh)),
        (s3(json!({"region": "eu-west-1"})), Some(FileName::Fresh)),
        (s3(json!({"endpoint": "https://s3.example.com"})), Some(FileName::Fresh)),
    ];
    for (change, expected) in table {
        let plan =
            module().with_versions(["1.0.0"]).with_config(change.clone()).plan(&[stored_child("1.0.0")]);
        assert_eq!(plan.change.first().and_then(|c| c.config().cloned()), expected, "{change}");
    }
}

#[test]
fn a_configuration_that_is_changed_back_before_the_move_keeps_the_key() {
    let bucket = |bucket: &str| json!({"storageConfig": {"s3": {"bucket": bucket}}});
    let wants = module().with_versions(["1.0.0"]);
    let edit = |module: &ModuleFixture, child: &ChildFixture| {
        let plan = module.plan(std::slice::from_ref(child));
        plan.change.first().and_then(|change| change.config().cloned())
    };
    // Stored as `1.0.0.zip` in `shelf`, and to be moved to `other` under a fresh name.
    let moving =
        stored_child("1.0.0").with_config(bucket("other")).with(json!({"spec": {"fileName": "fresh.zip"}}));
    assert_eq!(edit(&wants, &moving), Some(FileName::Stored("1.0.0.zip".into())));
    let back = super::model::run(&wants, &wants.plan(std::slice::from_ref(&moving)), vec![moving.clone()]);
    assert!(
        satisfies_spec(&back[0].lean()) && wants.plan(&back).change.is_empty(),
        "nothing is fetched or moved"
    );
    for (what, module, child) in [
        ("moved already", wants.clone(), moving.clone().stored_as_wanted()),
        ("to a third bucket", wants.clone().with_config(bucket("third")), moving.clone()),
        ("lost", wants.clone(), moving.clone().with(json!({"status": {"synced": false}}))),
        (
            "made from another repository",
            wants.clone(),
            moving.clone().with(json!({"status": {"source": {"url": "https://github.com/acme/other"}}})),
        ),
        (
            "without an extension: its format is unknown",
            wants.clone(),
            moving.clone().with(json!({"status": {"storage": {"key": "network/one"}}})),
        ),
    ] {
        assert_eq!(edit(&module, &child), Some(FileName::Fresh), "{what}");
    }
}

#[test]
fn immutable_pins_what_was_published_and_nothing_else() {
    let pin = |module: ModuleFixture, child: ChildFixture| {
        let plan = module.with_versions(["1.0.0"]).plan(&[child]);
        plan.change.into_iter().find_map(|c| c.expected_digest())
    };
    let given = |digest: &str| stored_child("1.0.0").with(json!({"spec": {"expectedDigest": digest}}));
    let pinned = || module().immutable(json!({"1.0.0": "h1:1.0.0"}));
    assert_eq!(pin(pinned(), child("1.0.0")), Some(Some("h1:1.0.0".into())), "its status is lost");
    assert_eq!(pin(pinned(), stored_child("1.0.0")), None, "it has the right content");
    let other = stored_child("1.0.0").with(json!({"status": {"contentDigest": "h1:other"}}));
    assert_eq!(pin(pinned(), other), Some(Some("h1:1.0.0".into())), "it was faster than its Module");
    assert_eq!(pin(pinned(), given("h1:1.0.0")), None);
    assert_eq!(pin(pinned(), given("h1:other")), Some(Some("h1:1.0.0".into())));
    assert_eq!(pin(module().immutable(json!({})), child("1.0.0")), None, "nothing was published");
    assert_eq!(pin(module(), given("h1:1.0.0")), Some(None), "switched off");
    let again = pinned().with_versions(["v1.0.0", "2.0.0"]).plan(&[]);
    let given: Vec<_> = again.create.iter().map(|c| c.expected_digest.as_deref()).collect();
    assert_eq!(given, [Some("h1:1.0.0"), None], "removed and added again");
}

#[test]
fn suspension_reaches_every_version_once_and_stops_all_else() {
    let suspended = child("2.0.0").with(json!({"spec": {"moduleSuspended": true}}));
    let module = module().with_versions(["1.0.0", "3.0.0"]).with_config(json!({"name": "net"}));
    let children = [stored_child("1.0.0"), suspended, child("1.1.0").of_another_owner()];
    let plan = module.clone().suspended().plan(&children);
    assert_eq!(plan.change.len(), 1);
    assert_eq!(
        (plan.change[0].target.name.as_str(), plan.change[0].suspended()),
        ("network-1.0.0", Some(true))
    );
    assert_eq!(Plan { change: vec![], ..plan }, Plan::default());
    let resumed = module.with_versions(["2.0.0"]).plan(&children);
    assert!(resumed.change.iter().any(|c| c.target.name == "network-2.0.0" && c.suspended() == Some(false)));
}

#[test]
fn a_deletion_policy_reaches_terminating_versions_whatever_else_is_the_case() {
    let going = stored_child("1.0.0").terminating();
    let retain = || module().with_config(json!({"deletionPolicy": "Retain", "name": "net"}));
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    for module in [retain(), retain().suspended(), retain().with(deleted)] {
        let plan = module.plan(std::slice::from_ref(&going));
        assert_eq!(
            (plan.change.len(), plan.change[0].retain(), plan.change[0].config()),
            (1, Some(true), None)
        );
    }
    assert!(module().plan(&[going]).change.is_empty());
}

#[test]
fn what_is_to_go_hears_of_the_deletion_policy_first() {
    let children = [stored_child("1.0.0"), stored_child("2.0.0")];
    let retain = module().with_config(json!({"deletionPolicy": "Retain"})).with_versions(["2.0.0"]);
    let plan = retain.plan(&children);
    assert!(plan.delete.is_empty(), "{plan:?}");
    let given: Vec<_> = plan.change.iter().map(|c| (c.target.name.as_str(), c.retain())).collect();
    assert_eq!(given, [("network-2.0.0", Some(true)), ("network-1.0.0", Some(true))]);
    let children = children.map(|child| child.with_config(json!({"deletionPolicy": "Retain"})));
    assert_eq!(deleted(&retain.plan(&children)), ["network-1.0.0"]);
    // And the other way round.
    assert!(module().plan(&children).delete.is_empty());

    // However it is deleted, and when: a suspended or terminating Module still passes its policy on.
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let children = [stored_child("1.0.0")];
    for module in [retain.clone().suspended(), retain.clone().with(gone)] {
        let plan = module.plan(&children);
        assert_eq!((plan.change.len(), plan.change[0].retain(), plan.delete.len()), (1, Some(true), 0));
    }
}

#[test]
fn a_module_that_goes_makes_and_removes_nothing() {
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let plan = module().with_versions(["1.0.0"]).with(deleted).plan(&[stored_child("2.0.0")]);
    assert_eq!(plan, Plan::default());
}

#[test]
fn an_open_request_is_handed_to_each_version_once() {
    let module = module().with_versions(["1.0.0", "2.0.0", "3.0.0"]).with_token("token");
    let children =
        [stored_child("1.0.0").asked("token"), stored_child("2.0.0").asked("earlier"), child("3.0.0")];
    let plan = module.plan(&children);
    let asked: Vec<_> = plan.change.iter().map(|c| (c.target.name.as_str(), c.request())).collect();
    assert_eq!(asked, [("network-2.0.0", Some("token")), ("network-3.0.0", Some("token"))]);
    let closed = module.with_token("done:3").plan(&children);
    assert!(closed.change.is_empty(), "{MODULE_REQUEST} stays as it is");
}

#[test]
fn a_configuration_that_cannot_be_used_still_suspends_lets_go_and_hands_requests_on() {
    let broken = module().with_versions(["1.0.0", "3.0.0"]).with_config(json!({"name": "../up"}));
    let going = stored_child("2.0.0").terminating();
    let children = [stored_child("1.0.0"), going, stored_child("9.0.0")];
    assert_eq!(broken.plan(&children), Plan::default(), "nothing is created, moved or deleted");
    let retained = broken.clone().with_config(json!({"deletionPolicy": "Retain"})).plan(&children);
    let policies: Vec<_> = retained.change.iter().map(|c| (c.target.name.as_str(), c.retain())).collect();
    assert_eq!(policies.len(), 3);
    assert!(policies.iter().all(|(_, retain)| *retain == Some(true)), "{policies:?}");
    let suspended = broken.clone().suspended().plan(&children);
    assert!(suspended.change.iter().all(|c| c.suspended() == Some(true)) && suspended.change.len() == 2);
    let asked = broken.with_token("token").plan(&children);
    assert_eq!(asked.change.len(), 1);
    assert_eq!(asked.change[0].request(), Some("token"));
    let unreadable = module().suspended().with(json!({"spec": {"versions": 7}}));
    assert_eq!(unreadable.plan(&children), Plan::default(), "of what cannot be read nothing counts");
}

#[test]
fn the_deletion_policy_is_read_on_its_own_and_a_word_that_is_none_deletes_nothing() {
    let children = [stored_child("1.0.0"), stored_child("2.0.0").terminating()];
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let broken = module().with(json!({"spec": {"versions": 7, "suspend": "perhaps"}}));
    for (policy, changed) in [("Retain", 2), ("retain", 2), ("Keep", 2), ("Delete", 0)] {
        let broken = broken.clone().with_config(json!({"deletionPolicy": policy, "fileFormat": "rar"}));
        for module in [broken.clone(), broken.with(deleted.clone())] {
            let plan = module.plan(&children);
            let given =
                plan.change.iter().filter(|c| c.retain() == Some(true) && c.config().is_none()).count();
            assert_eq!((given, plan.change.len(), plan.delete.len()), (changed, changed, 0), "{policy}");
        }
    }
}

#[test]
fn a_module_has_the_finalizer_before_its_first_version_and_never_without_any() {
    let need = |module: &ModuleFixture, children: &[ChildFixture]| {
        let plan = module.plan(children);
        let children: Vec<VersionState> = children.iter().map(ChildFixture::lean).collect();
        finalizer::need(&module.view(), &plan, &children.iter().collect::<Vec<_>>())
    };
    let wants = module().with_versions(["1.0.0"]);
    assert_eq!(need(&module(), &[]), Need::None);
    assert_eq!(need(&wants, &[]), Need::First);
    assert_eq!(need(&wants, &[stored_child("1.0.0").ownerless().annotated(ADOPT, "network")]), Need::First);
    assert_eq!(need(&wants, &[stored_child("1.0.0").ownerless()]), Need::None, "not adopted");
    assert_eq!(need(&wants, &[stored_child("1.0.0").of_another_owner()]), Need::None);
    assert_eq!(need(&wants, &[stored_child("1.0.0")]), Need::Soon, "after an upgrade");
    assert_eq!(need(&module(), &[stored_child("1.0.0").terminating()]), Need::Soon);
    let has = json!({"metadata": {"finalizers": ["example.com/other", MODULE_FINALIZER]}});
    assert_eq!(need(&wants.clone().with(has), &[]), Need::None);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(need(&wants.clone().with(deleted), &[stored_child("1.0.0")]), Need::None);
    let invalid = wants.with_config(json!({"name": "../up"}));
    assert_eq!(need(&invalid, &[]), Need::None, "nothing is made");
}

#[test]
fn modules_that_have_versions_already_get_the_finalizer_at_most_ten_a_second() {
    let (pace, now) = (finalizer::FinalizerPace::default(), std::time::Instant::now());
    let at = |ms: u64| now + std::time::Duration::from_millis(ms);
    assert_eq!(pace.turn(None, now), Ok(()));
    let due: Vec<_> = (0..3).map(|_| pace.turn(None, now).unwrap_err()).collect();
    assert_eq!(due, [at(100), at(200), at(300)]);
    assert_eq!(pace.turn(Some(due[0]), at(50)), Err(due[0]), "it comes early");
    // All three come late.
    assert_eq!(pace.turn(Some(due[0]), at(1000)), Ok(()));
    assert_eq!(pace.turn(Some(due[1]), at(1000)), Err(at(1100)));
    assert_eq!(pace.turn(Some(due[2]), at(1001)), Err(at(1200)));
    assert_eq!(pace.turn(Some(at(1100)), at(1100)), Ok(()));
    assert_eq!(pace.turn(None, at(1150)), Err(at(1300)), "one that is new waits behind the others");
    assert_eq!(pace.turn(Some(at(1200)), at(1200)), Ok(()));
    assert_eq!(pace.turn(None, at(9000)), Ok(()));
}

#[test]
fn the_operators_own_annotation_adopts_only_what_is_where_the_module_wants_it() {
    let made = |namespace: &str| {
        let labels = json!({MODULE_LABEL: "network", NAMESPACE_LABEL: namespace});
        let orphan = stored_child("1.0.0").ownerless().annotated(ADOPT, "network");
        orphan.with(json!({"metadata": {"labels": labels}}))
    };
    let decide = |child: ChildFixture| {
        let plan = module().with_versions(["1.0.0"]).plan(&[child]);
        assert!(plan.create.is_empty());
        let conflict = plan.conflicts.get("network-1.0.0").cloned();
        let adopts = plan.change.len() == 1 && plan.change[0].adopts();
        assert!(adopts == conflict.is_none() && (adopts || plan.change.is_empty()), "{plan:?}");
        conflict
    };
    let adopts = |child: ChildFixture| match decide(child) {
        None => true,
        Some(conflict) => {
            assert_eq!(conflict, NameConflict::OtherPlacement);
            false
        }
    };
    assert!(adopts(made("acme")));
    assert!(adopts(made("acme").with_config(json!({"deletionPolicy": "Retain", "immutable": true}))));
    for other in [
        json!({"storageConfig": {"s3": {"bucket": "other"}}}),
        json!({"storageConfig": {"s3": {"key": "elsewhere"}}}),
        json!({"repoUrl": "https://github.com/another/network"}),
        json!({"name": "net"}),
        json!({"fileFormat": "tar"}),
    ] {
        assert!(!adopts(made("acme").with_config(other.clone())), "{other}");
        // A user who writes it means it.
        let by_hand = stored_child("1.0.0").ownerless().annotated(ADOPT, "network");
        assert!(adopts(by_hand.with_config(other)));
    }
    assert!(!adopts(made("acme").with(json!({"spec": {"fileName": null}}))), "where it stored is unknown");
    assert_eq!(decide(made("copied-from")), Some(NameConflict::OtherNamespace));
}

#[test]
fn a_copy_from_another_namespace_is_adopted_with_a_file_name_of_its_own() {
    let file_name = |child: ChildFixture, module: &ModuleFixture| {
        let plan = module.plan(std::slice::from_ref(&child));
        let current: DynamicObject = serde_json::from_value(child.0).unwrap();
        let view = module.view();
        let patch = merge_patch(&view, &plan.change[0], &current);
        patch.pointer("/spec/fileName").and_then(Value::as_str).map(str::to_owned)
    };
    let wants = module().with_versions(["1.0.0"]);
    // As the printed command leaves it: without the label that names the Module.
    let handed = |namespace: &str| {
        let labels = json!({"metadata": {"labels": {NAMESPACE_LABEL: namespace}}});
        stored_child("1.0.0").ownerless().annotated(ADOPT, "network").with(labels)
    };
    let fresh = file_name(handed("copied-from"), &wants).unwrap();
    assert!(fresh != "1.0.0.zip", "{fresh}");
    assert_eq!(file_name(handed("acme"), &wants), None);
    assert_eq!(file_name(stored_child("1.0.0").ownerless().annotated(ADOPT, "network"), &wants), None);
    // Its object is where the Module wants it, although its configuration is not.
    let moving = handed("copied-from")
        .with_config(json!({"storageConfig": {"s3": {"bucket": "other"}}}))
        .with(json!({"spec": {"fileName": "fresh.zip"}}));
    let named = file_name(moving, &wants).unwrap();
    assert!(!["1.0.0.zip", "fresh.zip"].contains(&&*named), "{named}");
    // A derived name contains the namespace.
    let derived = handed("copied-from").with(json!({"spec": {"fileName": null}}));
    assert_eq!(file_name(derived, &wants), None);
}

#[test]
fn a_module_that_is_deleted_without_its_versions_resumes_them() {
    let orphaning =
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]}});
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let suspended = stored_child("1.0.0").with(json!({"spec": {"moduleSuspended": true}}));
    let labels = json!({"metadata": {"labels": {MODULE_LABEL: "network", NAMESPACE_LABEL: "acme"}}});
    let orphan = suspended.clone().ownerless().annotated(ADOPT, "network").with(labels);
    let resumed = |module: ModuleFixture, child: &ChildFixture| {
        let plan = module.suspended().plan(std::slice::from_ref(child));
        plan.change.iter().map(|c| (c.suspended(), c.retain())).collect::<Vec<_>>()
    };
    assert_eq!(resumed(module().with(orphaning.clone()), &suspended), [(Some(false), None)]);
    assert_eq!(resumed(module().with(deleted.clone()), &suspended), [(None, None); 0], "it is deleted too");
    assert_eq!(resumed(module().with(deleted.clone()), &orphan), [(Some(false), None)]);
    let retain = module().with(deleted.clone()).with_config(json!({"deletionPolicy": "Retain"}));
    assert_eq!(resumed(retain.clone(), &orphan), [(Some(false), Some(true))]);
    let terminating = orphan.clone().terminating();
    assert_eq!(resumed(retain, &terminating), [(None, Some(true))]);
    assert_eq!(resumed(module().with(deleted.clone()), &terminating), [(None, None); 0]);
    let kept = orphan.clone().with_config(json!({"deletionPolicy": "Retain"}));
    assert_eq!(
        resumed(module().with(deleted.clone()), &kept),
        [(Some(false), None)],
        "what it keeps it keeps"
    );
    for other in [
        suspended.clone().ownerless(),
        suspended.clone().ownerless().annotated(ADOPT, "network"),
        orphan.clone().annotated(ADOPT, "other"),
        orphan.of_nobody_here(),
    ] {
        assert_eq!(resumed(module().with(deleted.clone()), &other), [(None, None); 0]);
    }
    assert_eq!(resumed(module(), &suspended.ownerless()), [(None, None); 0], "the Module is there");
}

/// A record of so many digests, 61 bytes each.
fn record(entries: usize) -> Value {
    let all: serde_json::Map<_, _> =
        (0..entries).map(|n| (format!("0.{n:04}.0"), json!(format!("h1:{n:043}=")))).collect();
    all.into()
}

#[test]
fn with_a_full_record_nothing_new_is_made_and_all_else_goes_on() {
    let wants = module().with_versions(["1.0.0", "2.0.0", "0.7000.0"]).immutable(record(9_000));
    let wait = |plan: &Plan| -> Vec<String> {
        let unrecorded = plan.conflicts.iter().filter(|(_, holder)| **holder == NameConflict::RecordFull);
        unrecorded.map(|(name, _)| name.clone()).collect()
    };
    // 524,288 bytes are 8,594 of them.
    let children =
        [stored_child("3.0.0"), stored_child("4.0.0").with(json!({"spec": {"moduleSuspended": true}}))];
    let plan = wants.plan(&children);
    assert_eq!(created(&plan), ["network-0.7000.0"], "what is on record may come back");
    assert_eq!(wait(&plan), ["network-1.0.0", "network-2.0.0"]);
    assert_eq!(deleted(&plan), ["network-3.0.0", "network-4.0.0"]);
    let off = wants.clone().with_config(json!({"immutable": false}));
    assert_eq!(created(&off.plan(&children)).len(), 3, "without a record there is no limit");
    // Room for one more, and for none while a Version is there whose digest is still to be recorded.
    let tight = module().with_versions(["1.0.0", "2.0.0"]).immutable(record(8_593));
    assert_eq!(
        (created(&tight.plan(&[])), wait(&tight.plan(&[]))),
        (vec!["network-1.0.0"], vec!["network-2.0.0".to_owned()])
    );
    let next = tight.plan(&[child("1.0.0")]);
    assert_eq!((created(&next).len(), wait(&next)), (0, vec!["network-2.0.0".to_owned()]));
}

#[test]
fn while_the_status_is_refused_no_version_goes_whose_digest_it_lacks() {
    let view = |published: Value, immutable: bool| {
        let module = module().with_versions(["2.0.0"]).immutable(published);
        module.with_config(json!({"immutable": immutable})).view()
    };
    let children = [stored_child("1.0.0"), stored_child("1.1.0"), failed_child("1.2.0")];
    let left = |view: &ModuleView| {
        let mut plan = pass(view, &children, &RejectedRequests::default(), None).plan;
        let children: Vec<VersionState> = children.iter().map(ChildFixture::lean).collect();
        plan.without_status(view, &children.iter().collect::<Vec<_>>());
        let deleted: Vec<String> = deleted(&plan).into_iter().map(str::to_owned).collect();
        (created(&plan).len(), deleted)
    };
    let recorded = view(json!({"1.0.0": "h1:1.0.0"}), true);
    assert_eq!(left(&recorded), (0, vec!["network-1.0.0".to_owned(), "network-1.2.0".to_owned()]));
    assert_eq!(left(&view(json!({}), false)).1.len(), 3, "there is nothing to record");
}

#[test]
fn without_room_for_its_status_a_module_still_creates_what_needs_no_record() {
    let wants = module().with_versions(["1.0.0"]);
    for (module, expected) in [(wants.clone(), 1), (wants.immutable(json!({})), 0)] {
        let mut plan = module.plan(&[]);
        plan.without_ledger(&module.view());
        assert_eq!(plan.create.len(), expected);
    }
}
