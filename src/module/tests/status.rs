//! What a Module's status says.

use serde_json::{Value, json};

use super::super::digests::unpinned;
use super::super::finalizer::undeletable;
use super::super::legacy;
use super::super::rejected_requests::RejectedRequests;
use super::super::requests::{resets_force_sync, unopened};
use super::super::view::ModuleView;
use super::{ChildFixture, ModuleFixture, at, child, failed_child, module, pass, pass_with, stored_child};
use crate::api::condition::Outcome;
use crate::api::object_name::version_object;
use crate::api::requests::ForceToken;
use crate::api::state::VersionState;
use crate::api::{ADOPT, ModuleStatus, ORIGINAL_FINALIZER, REQUESTED_AT, condition};
use crate::controller::failure::Reason;
use crate::domain::Release;

fn resets_force(module: &ModuleView) -> bool {
    !module.has_foreign_status() && resets_force_sync(module, module.status.force_token.as_deref())
}

fn conditions(status: &ModuleStatus) -> [&str; 3] {
    ["Ready", "Reconciling", "Stalled"]
        .map(|t| condition::find(&status.conditions, t).unwrap().status.as_str())
}

fn reason(status: &ModuleStatus) -> (&str, &str) {
    let ready = condition::find(&status.conditions, "Ready").unwrap();
    (&ready.reason, &ready.message)
}

fn wants_two() -> ModuleFixture {
    module().with_versions(["1.0.0", "2.0.0"])
}

const READY: [&str; 3] = ["True", "False", "False"];
const WORKING: [&str; 3] = ["False", "True", "False"];
const STALLED: [&str; 3] = ["False", "False", "True"];
const IDLE: [&str; 3] = ["False", "False", "False"];

#[test]
fn synced_only_when_every_wanted_version_is_stored_as_the_spec_wants_it() {
    let other = |change| [stored_child("1.0.0"), stored_child("2.0.0").with(change)];
    let moving = json!({"spec": {"fileName": "second.zip"}});
    let table = [
        ("none", vec![], 0),
        ("one", vec![stored_child("1.0.0")], 1),
        ("one not yet", vec![stored_child("1.0.0"), child("2.0.0")], 1),
        ("one on its way to another location", other(moving).to_vec(), 1),
        ("one at another location", other(json!({"spec": {"moduleConfigRef": {"name": "net"}}})).to_vec(), 1),
        ("one on its way out", vec![stored_child("1.0.0"), stored_child("2.0.0").terminating()], 1),
        ("all", vec![stored_child("1.0.0"), stored_child("2.0.0")], 2),
    ];
    for (what, children, stored) in table {
        let status = wants_two().status(&children, None);
        let counts = status.versions.clone().unwrap();
        assert_eq!((counts.synced, counts.desired, counts.failed), (stored, 2, 0), "{what}");
        assert_eq!(counts.summary, format!("{stored}/2"));
        assert_eq!(status.synced, Some(stored == 2), "{what}");
        let (expected, word) = if stored == 2 { (READY, "Synced") } else { (WORKING, "Progressing") };
        assert_eq!((conditions(&status), reason(&status).0), (expected, word), "{what}");
        assert_eq!(status.observed_generation, Some(3));
    }
    let empty = module().status(&[], None);
    assert_eq!((conditions(&empty), empty.synced), (READY, Some(true)));
}

#[test]
fn ready_only_when_nothing_is_left_to_change_or_to_remove() {
    let with = |child: ChildFixture| vec![stored_child("1.0.0"), stored_child("2.0.0"), child];
    let other = |change| vec![stored_child("1.0.0"), stored_child("2.0.0").with(change)];
    let table = [
        ("one to be removed", with(stored_child("3.0.0")), "2 of 2 versions stored, 1 being removed."),
        ("one on its way out", with(stored_child("3.0.0").terminating()), "1 being removed."),
        ("one to be patched", other(json!({"spec": {"moduleConfigRef": {"provider": "google"}}})), ""),
        ("one that has not seen its patch", other(json!({"metadata": {"generation": 2}})), ""),
        ("one to be resumed", other(json!({"spec": {"moduleSuspended": true}})), ""),
    ];
    for (what, children, message) in table {
        let status = wants_two().status(&children, None);
        assert_eq!((status.synced, conditions(&status)), (Some(true), WORKING), "{what}");
        assert!(reason(&status).1.contains(message), "{what}: {}", reason(&status).1);
        assert_eq!(status.latest_version.as_deref(), Some("2.0.0"), "{what}");
    }
    let refused = stored_child("3.0.0").ready("False", "StorageAccessDenied", "denied").terminating();
    let status = wants_two().status(&with(refused.clone()), None);
    let message = "2 of 2 versions stored, 1 cannot be removed; first 3.0.0: StorageAccessDenied: denied";
    assert_eq!((conditions(&status), reason(&status)), (WORKING, ("StorageAccessDenied", message)));
    assert_eq!(conditions(&wants_two().status(&with(refused.stalled()), None)), STALLED);
    let others = [with(stored_child("3.0.0").of_another_owner()), with(stored_child("3.0.0").ownerless())];
    assert!(others.iter().all(|all| conditions(&wants_two().status(all, None)) == READY));
}

#[test]
fn a_version_whose_deletion_is_not_seen_yet_is_not_stored() {
    let mut view = wants_two().view();
    view.deleting = ["network-2.0.0".to_owned()].into();
    let decided =
        pass(&view, &[stored_child("1.0.0"), stored_child("2.0.0")], &RejectedRequests::default(), None);
    assert_eq!((conditions(&decided.status), decided.status.synced), (WORKING, Some(false)));
    assert!(decided.plan.create.is_empty() && decided.plan.change.is_empty(), "{:?}", decided.plan);
}

#[test]
fn while_anything_goes_on_by_itself_no_obstacle_stalls() {
    let blocked = [child("2.0.0").ownerless(), stored_child("1.0.0")];
    assert_eq!(conditions(&wants_two().status(&blocked, None)), STALLED);
    let goes_on = [child("2.0.0").ownerless(), child("1.0.0")];
    assert_eq!(conditions(&wants_two().status(&goes_on, None)), WORKING);
    let unreadable = wants_two().with_versions(["latest", "1.0.0"]);
    assert_eq!(conditions(&unreadable.status(&[], None)), WORKING);
    assert_eq!(conditions(&unreadable.status(&[stored_child("1.0.0")], None)), STALLED);
}

#[test]
fn what_only_waits_for_a_suspended_version_rests() {
    let suspended = |c: ChildFixture| {
        c.with(json!({"spec": {"suspend": true}})).ready("False", "Suspended", "Suspended by spec.suspend.")
    };
    let status = wants_two().status(&[stored_child("1.0.0"), suspended(child("2.0.0"))], None);
    let message = "1 of 2 versions stored, 1 suspended by spec.suspend of the Version; first 2.0.0.";
    assert_eq!((conditions(&status), reason(&status)), (IDLE, ("Suspended", message)));
    let stored = wants_two().status(&[stored_child("1.0.0"), suspended(stored_child("2.0.0"))], None);
    assert_eq!(conditions(&stored), READY, "what is stored is stored");
}

#[test]
fn a_force_that_is_held_back_is_still_to_come() {
    let all = [stored_child("1.0.0"), stored_child("2.0.0")];
    assert_eq!(conditions(&wants_two().forced().status(&all, None)), WORKING);
}

#[test]
fn the_first_failure_is_named_and_counted() {
    let failed = wants_two().with_versions(["1.0.0", "2.0.0", "3.0.0"]);
    let children = [stored_child("1.0.0"), failed_child("2.0.0"), failed_child("3.0.0")];
    let status = failed.status(&children, None);
    assert_eq!(conditions(&status), WORKING);
    assert_eq!(
        reason(&status),
        ("TagNotFound", "1 of 3 versions stored, 2 failed; first 2.0.0: TagNotFound: no such tag")
    );
    let other = failed_child("3.0.0").ready("False", "ArchiveEmpty", "");
    let mixed = failed.status(&[children[0].clone(), children[1].clone(), other], None);
    assert_eq!(reason(&mixed).0, "VersionsFailed", "no one reason for all");
    assert_eq!(status.versions.as_ref().unwrap().failed, 2);
    let hopeless = children.clone().map(|c| if c.lean().status.synced { c } else { c.stalled() });
    assert_eq!(conditions(&failed.status(&hopeless, None)), STALLED);
    let one_may_pass = [hopeless[0].clone(), hopeless[1].clone(), children[2].clone()];
    assert_eq!(conditions(&failed.status(&one_may_pass, None)), WORKING);
    let refetch = stored_child("1.0.0").ready("False", "GitHubUnavailable", "away");
    let status = module().with_versions(["1.0.0"]).status(&[refetch], None);
    assert_eq!((status.synced, reason(&status).0), (Some(true), "GitHubUnavailable"), "its object is intact");
}

#[test]
fn what_keeps_a_module_from_its_goal_is_said() {
    let all = [stored_child("1.0.0"), stored_child("2.0.0")];
    let config = |change| wants_two().with_config(change);
    let table = [
        (wants_two().suspended(), IDLE, "Suspended", "spec.suspend"),
        (wants_two().with_versions(["1.0.0", "latest"]), STALLED, "InvalidSpec", "Nothing is removed"),
        (config(json!({"repoOwner": "another"})), STALLED, "InvalidSpec", "repoOwner"),
        (config(json!({"storageConfig": {"gcs": {}}})), STALLED, "InvalidSpec", "gcs"),
        (
            config(json!({"githubClientConfig": {"secretName": "../other"}})),
            STALLED,
            "InvalidSpec",
            "secretName",
        ),
        (config(json!({"provider": null})), STALLED, "ProviderMissing", "moduleConfig.provider"),
        (wants_two().with(json!({"spec": {"versions": 5}})), STALLED, "InvalidSpec", "spec cannot be read"),
    ];
    for (module, expected, word, part) in table {
        let children = all.clone().map(|c| c.of(&module));
        let status = module.status(&children, None);
        assert_eq!((conditions(&status), reason(&status).0), (expected, word));
        assert!(reason(&status).1.contains(part), "{}", reason(&status).1);
    }
    let names = ["network-1.0.0".to_owned()].into();
    let refused = RejectedRequests { names, words: "not on a Friday".into(), ..RejectedRequests::default() };
    let children = all.clone().map(|c| c.of(&wants_two().suspended()));
    let status = pass(&wants_two().suspended().view(), &children, &refused, None).status;
    assert_eq!((conditions(&status), reason(&status).0), (WORKING, "VersionRefused"));
    assert!(reason(&status).1.ends_with("stored. not on a Friday"), "{}", reason(&status).1);
    let suspended = json!({"spec": {"moduleSuspended": true}});
    let children = children.map(|c| c.with(suspended.clone()));
    let status = pass(&wants_two().suspended().view(), &children, &refused, None).status;
    assert_eq!(reason(&status).0, "Suspended", "a refusal from before");
    let ownerless = wants_two().status(&[stored_child("1.0.0"), child("2.0.0").ownerless()], None);
    assert_eq!((conditions(&ownerless), reason(&ownerless).0), (STALLED, "NameTaken"));
    let command = "kubectl annotate --field-manager=opendepot-release --overwrite -n acme \
                   versions.opendepot.defdev.io/network-2.0.0 opendepot.defdev.io/adopt=network";
    assert!(reason(&ownerless).1.ends_with(command), "{}", reason(&ownerless).1);
}

#[test]
fn versions_of_the_original_have_a_condition_of_their_own_while_they_are_there() {
    let dashed = |n: usize| {
        child("9.0.0").with(json!({"metadata": {"name": format!("network-9-{n}-0")}})).without_finalizer()
    };
    let all = vec![stored_child("1.0.0"), stored_child("2.0.0")];
    let two = [all.clone(), vec![dashed(1), dashed(0)]].concat();
    let with = wants_two().status(&two, None);
    assert_eq!(conditions(&with), READY);
    let found = |status: &ModuleStatus| condition::find(&status.conditions, "OriginalVersionsFound").cloned();
    let said = found(&with).unwrap();
    assert_eq!(said.status, "True");
    assert!(said.message.starts_with("2 Versions of the original"), "{}", said.message);
    assert!(said.message.contains("for v in network-9-0-0 network-9-1-0; do kubectl delete -n acme"));
    assert!(
        said.message
            .contains("; kubectl patch --field-manager=opendepot-release -n acme versions.opendepot.")
    );
    assert!(said.message.contains("finalizers"), "no other client would remove it: {}", said.message);
    let suspended = wants_two().suspended().with_status(&with).status(&two, None);
    assert_eq!(found(&suspended), Some(said), "they are there whatever the Module does");

    let many: Vec<_> = (0..500).map(dashed).collect();
    let said = found(&wants_two().status(&[all.clone(), many].concat(), None)).unwrap().message;
    assert!(said.contains("done (") && said.ends_with("more are listed after these are deleted.)"), "{said}");
    let names: Vec<String> = (0..500).map(|n| format!("network-9-{n}-0")).collect();
    let far = wants_two().with(json!({"metadata": {"namespace": "n".repeat(63)}})).view();
    let said = legacy::found(&far, &names, at(0)).unwrap().message;
    assert!(said.ends_with("more are listed after these are deleted.)"), "no command is cut: {said}");
    let without = wants_two().with_status(&with).status(&all, None);
    assert_eq!(found(&without), None);

    let held = |finalizer: &str| {
        let held = dashed(1).with(json!({"metadata": {"finalizers": [finalizer]}})).terminating();
        found(&wants_two().status(&[all.clone(), vec![held]].concat(), None)).is_some()
    };
    assert!(held(ORIGINAL_FINALIZER), "until the second command");
    assert!(!held("example.com/backup"), "it may be a Version of this operator");
}

#[test]
fn the_latest_is_the_highest_stored_release() {
    let latest = |stored: &[&str]| {
        let module = module().with_versions(["1.9.0", "v1.10.0", "2.0.0-rc.1", "2.0.0-rc.2"]);
        let children: Vec<ChildFixture> = stored.iter().map(|v| stored_child(v)).collect();
        module.status(&children, None).latest_version
    };
    assert_eq!(latest(&[]), None);
    assert_eq!(latest(&["1.9.0", "v1.10.0", "2.0.0-rc.1"]).as_deref(), Some("1.10.0"));
    assert_eq!(latest(&["2.0.0-rc.1", "2.0.0-rc.2"]).as_deref(), Some("2.0.0-rc.2"));
    assert_eq!(latest(&["1.9.0", "3.0.0"]).as_deref(), Some("1.9.0"), "what is not wanted does not count");
}

#[test]
fn the_latest_is_not_withdrawn() {
    let latest = |list: Value| {
        let module = module().with(json!({"spec": {"versions": list}}));
        module.status(&[stored_child("1.9.0"), stored_child("1.10.0")], None).latest_version
    };
    let first = json!({"version": "1.9.0"});
    for (notice, expected) in [("CVE", "1.9.0"), ("", "1.10.0"), (" ", "1.10.0")] {
        let list = json!([first, {"version": "1.10.0", "withdrawn": notice}]);
        assert_eq!(latest(list).as_deref(), Some(expected), "{notice:?}");
    }
    let spelled = json!([first, {"version": "1.10.0"}, {"version": "v1.10.0", "withdrawn": "CVE"}]);
    assert_eq!(latest(spelled).as_deref(), Some("1.9.0"), "two spellings are one version");
    let all = json!([{"version": "1.9.0", "withdrawn": "a"}, {"version": "1.10.0", "withdrawn": "b"}]);
    assert_eq!(latest(all), None);
}

#[test]
fn the_same_situation_twice_changes_nothing() {
    let dashed = child("9.0.0").with(json!({"metadata": {"name": "network-9-0-0"}})).without_finalizer();
    let situations = [vec![], vec![stored_child("1.0.0"), dashed], vec![failed_child("2.0.0").stalled()]];
    let modules = [
        wants_two(),
        wants_two().suspended(),
        wants_two().immutable(json!({})),
        wants_two().with_versions(["latest"]),
        wants_two().forced().with_token("token"),
    ];
    for children in situations {
        for module in &modules {
            let once = module.status(&children, None);
            let stored = module.clone().with_status(&once);
            // Long after: times of conditions do not move.
            assert_eq!(stored.status(&children, None), stored.view().status);
        }
    }
}

#[test]
fn digests_are_recorded_when_they_are_first_seen_and_kept() {
    let published =
        |module: ModuleFixture, children: &[ChildFixture]| json!(module.status(children, None).published);
    let immutable = || wants_two().immutable(json!({"0.9.0": "h1:gone", "1.0.0": "h1:first"}));
    let going = stored_child("2.0.0").terminating();
    let lost = stored_child("3.0.0").with(json!({"status": {"synced": false}}));
    let children =
        [stored_child("1.0.0"), going, lost, failed_child("4.0.0"), stored_child("5.0.0").of_another_owner()];
    assert_eq!(
        published(immutable(), &children),
        json!({"0.9.0": "h1:gone", "1.0.0": "h1:first", "2.0.0": "h1:2.0.0", "3.0.0": "h1:3.0.0"})
    );
    assert_eq!(published(wants_two(), &children), json!(null));
    let off = immutable().with_config(json!({"immutable": false}));
    assert_eq!(published(off.clone(), &children), json!(null), "switched off");
    let unreadable = off.with(json!({"spec": {"versions": 5}}));
    assert_eq!(published(unreadable, &children)["0.9.0"], "h1:gone", "a broken spec unpins nothing");
}

#[test]
fn what_went_before_its_module_looked_again_is_recorded_too() {
    let mut module = wants_two().immutable(json!({"1.0.0": "h1:first"})).view();
    module.deleted_digests =
        [("1.0.0", "h1:later"), ("2.0.0", "h1:second")].map(|(v, d)| (v.into(), d.into())).into();
    let status = pass(&module, &[], &RejectedRequests::default(), None).status;
    assert_eq!(json!(status.published), json!({"1.0.0": "h1:first", "2.0.0": "h1:second"}));
}

#[test]
fn turning_immutable_off_is_told_once() {
    let on = wants_two().immutable(json!({"1.0.0": "h1:first"}));
    let off = on.clone().with_config(json!({"immutable": false}));
    let after = off.status(&[], None);
    let note = unpinned(&off.view().status, &after).unwrap();
    assert!(note.contains("turned off: the content of 1 version is no longer pinned"), "{note}");
    assert_eq!(unpinned(&after, &off.with_status(&after).status(&[], None)), None);
    assert_eq!(unpinned(&on.view().status, &on.status(&[], None)), None);
}

#[test]
fn a_force_is_opened_handled_closed_reset_and_can_be_asked_again() {
    let asked = wants_two().forced();
    assert_eq!(unopened(&asked.view()).as_deref(), Some("forceSync/3"));
    let waiting = asked.status(&[], None);
    assert_eq!(waiting.force_token, None, "while it is held back");
    let open = asked.clone().with_status(&asked.status(&[], Some("token")));
    assert_eq!((open.view().status.force_token.as_deref(), unopened(&open.view())), (Some("token"), None));

    let (answered, other) = (stored_child("1.0.0").answered("token"), stored_child("2.0.0").asked("token"));
    for not_yet in [
        vec![answered.clone()],
        vec![answered.clone(), other.clone()],
        vec![answered.clone(), child("2.0.0")],
    ] {
        let status = open.status(&not_yet, None);
        assert_eq!((status.force_token.as_deref(), conditions(&status)), (Some("token"), WORKING));
    }
    let stale = stored_child("2.0.0").with(json!({"status": {"lastModuleRequest": "token"}}));
    assert_eq!(open.status(&[answered.clone(), stale], None).force_token.as_deref(), Some("token"));
    let suspended = stored_child("2.0.0").with(json!({"spec": {"suspend": true}}));
    let status = open.status(&[answered.clone(), suspended], None);
    assert_eq!(status.force_token.as_deref(), Some("token"), "a suspended one carries it first");
    for not_waited_for in [
        other.clone().with(json!({"spec": {"suspend": true}})),
        other.clone().terminating(),
        other.clone().with(json!({"spec": {"version": "3.0.0"}})),
        other.of_another_owner(),
        failed_child("2.0.0").answered("token"),
    ] {
        let status = open.status(&[answered.clone(), not_waited_for.clone()], None);
        assert_eq!(status.force_token.as_deref(), Some("done:3"), "{:?}", not_waited_for.0);
    }

    let children = [answered, stored_child("2.0.0").answered("token")];
    let done = open.clone().with_status(&open.status(&children, None));
    assert!(resets_force(&done.view()) && unopened(&done.view()).is_none(), "just the reset is left");
    let reset = done.clone().with(json!({"spec": {"forceSync": false}})).next_generation();
    assert!(!resets_force(&reset.view()) && unopened(&reset.view()).is_none());
    let later = reset.forced().next_generation();
    assert!(!resets_force(&later.view()));
    assert_eq!(unopened(&later.view()).as_deref(), Some("forceSync/5"), "another request");
    assert_eq!(later.status(&children, Some("second")).force_token.as_deref(), Some("second"));
}

#[test]
fn the_users_annotation_asks_once() {
    let asked = |at: &str| wants_two().with(json!({"metadata": {"annotations": {REQUESTED_AT: at}}}));
    assert_eq!(unopened(&asked("now").view()).as_deref(), Some("requestedAt/now"));
    let opened = asked("now").status(&[], Some("token"));
    assert_eq!(opened.last_handled_request.as_deref(), Some("now"));
    let closed = ModuleStatus { force_token: Some("done:3".into()), ..opened };
    assert_eq!(unopened(&asked("now").with_status(&closed).view()), None);
    assert!(unopened(&asked("later").with_status(&closed).view()).is_some());
}

#[test]
fn a_force_that_comes_while_another_request_is_open_is_not_done_with_that_one() {
    let now = json!({"metadata": {"annotations": {REQUESTED_AT: "now"}}});
    let asked = wants_two().with(now);
    let opened = asked.status(&[], Some(&ForceToken::create(asked.view().spec.force_sync)));
    let token = opened.force_token.clone().unwrap();
    let children = [stored_child("1.0.0").answered(&token), stored_child("2.0.0").answered(&token)];
    let late = asked.with_status(&opened).forced().next_generation();
    let closed = late.clone().with_status(&late.status(&children, None));
    assert!(!resets_force(&closed.view()));
    assert_eq!(unopened(&closed.view()).as_deref(), Some("forceSync/4"));
    // One that was part of the request from the beginning is done with it.
    let forced = wants_two().forced();
    let token = ForceToken::create(forced.view().spec.force_sync);
    let children = [stored_child("1.0.0").answered(&token), stored_child("2.0.0").answered(&token)];
    let open = forced.clone().with_status(&forced.status(&[], Some(&token))).next_generation();
    assert!(resets_force(&open.clone().with_status(&open.status(&children, None)).view()));
}

#[test]
fn a_force_of_a_module_that_cannot_be_worked_with_ends_with_that_outcome() {
    let broken = wants_two().with_config(json!({"name": "../up"})).forced().with_token("token");
    let children = [stored_child("1.0.0").answered("token")];
    let status = broken.status(&children, None);
    assert_eq!((status.force_token.as_deref(), conditions(&status)), (Some("done:3"), STALLED));
    let not_yet = broken.status(&[stored_child("1.0.0").asked("token")], None);
    assert_eq!(not_yet.force_token.as_deref(), Some("token"));
}

#[test]
fn while_the_spec_cannot_be_read_requests_are_neither_opened_nor_closed() {
    let unreadable = wants_two().with(json!({"spec": {"versions": "all"}}));
    let asked = unreadable.with(json!({"metadata": {"annotations": {REQUESTED_AT: "now"}}}));
    assert_eq!(unopened(&asked.view()), None);
    let open = asked.with_token("token").status(&[stored_child("1.0.0")], None);
    assert_eq!((open.force_token.as_deref(), conditions(&open)), (Some("token"), STALLED));
}

#[test]
fn a_request_waits_for_a_version_that_can_be_adopted_unless_it_is_refused() {
    let module = module().with_versions(["1.0.0"]).forced().with_token("token");
    let broken = module.clone().with_config(json!({"name": "../up"}));
    let refused =
        RejectedRequests { names: ["network-1.0.0".to_owned()].into(), ..RejectedRequests::default() };
    let adoptable = stored_child("1.0.0").ownerless().annotated(ADOPT, "network");
    let released = stored_child("1.0.0").without_finalizer();
    for (what, module, child, refused, is_open) in [
        ("not tried", &module, &adoptable, &RejectedRequests::default(), true),
        ("not tried", &module, &released, &RejectedRequests::default(), true),
        ("at work", &module, &adoptable.clone().asked("token"), &RejectedRequests::default(), true),
        ("refused", &module, &adoptable, &refused, false),
        ("stored without the finalizer", &module, &released.clone().asked("token"), &refused, false),
        ("deleted", &module, &adoptable.clone().terminating(), &RejectedRequests::default(), false),
        ("a name conflict", &module, &stored_child("1.0.0").ownerless(), &RejectedRequests::default(), false),
        ("an unusable spec", &broken, &adoptable, &RejectedRequests::default(), false),
    ] {
        let status = pass(&module.view(), std::slice::from_ref(child), refused, None).status;
        assert_eq!(
            status.force_token.as_deref() == Some("token"),
            is_open,
            "{what}: {:?}",
            status.force_token
        );
    }
}

#[test]
fn a_suspended_module_neither_opens_nor_closes_requests() {
    let asked = wants_two().forced().suspended();
    assert_eq!(unopened(&asked.view()), None);
    assert_eq!(asked.status(&[], Some("token")).force_token, None);
    let children = [stored_child("1.0.0").answered("token"), stored_child("2.0.0").answered("token")];
    assert_eq!(asked.with_token("token").status(&children, None).force_token.as_deref(), Some("token"));
}

#[test]
fn the_token_of_another_life_answers_nothing() {
    // A backup tool restores status and all: the Module starts again at generation 1.
    let restored = |observed: i64| {
        let status = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed}});
        wants_two().with_token("done:2").forced().with(status)
    };
    let crashed_before_its_reset = restored(2);
    assert!(resets_force(&crashed_before_its_reset.view()));
    let restored = restored(3);
    assert!(!resets_force(&restored.view()));
    assert!(unopened(&restored.view()).is_some(), "it is a request that was not answered");
    let first = restored.status(&[], None);
    assert_eq!((first.force_token.as_deref(), first.observed_generation), (None, Some(2)));
    assert!(!resets_force(&restored.with_status(&first).view()), "also when its generation has been seen");
}

#[test]
fn a_request_ends_though_the_api_server_refuses_a_version() {
    let open = wants_two().forced().with_token("token");
    let refused = |name: &str| RejectedRequests {
        names: [name.to_owned()].into(),
        words: format!("Version {name} cannot be made."),
        ..RejectedRequests::default()
    };
    let status = |children: &[ChildFixture], refused: &RejectedRequests| {
        pass(&open.view(), children, refused, None).status
    };
    let answered = stored_child("1.0.0").answered("token");
    let done = status(std::slice::from_ref(&answered), &refused("network-2.0.0"));
    assert_eq!(done.force_token.as_deref(), Some("done:3"), "one that cannot be made");
    assert_eq!(
        reason(&done),
        ("VersionRefused", "1 of 2 versions stored. Version network-2.0.0 cannot be made.")
    );
    let asked = [answered.clone(), stored_child("2.0.0")];
    assert_eq!(
        status(&asked, &refused("network-2.0.0")).force_token.as_deref(),
        Some("done:3"),
        "or reported"
    );
    assert_eq!(
        status(&asked, &RejectedRequests::default()).force_token.as_deref(),
        Some("token"),
        "it is waited for"
    );
    let at_work = [answered, stored_child("2.0.0").asked("token")];
    assert_eq!(status(&at_work, &refused("network-2.0.0")).force_token.as_deref(), Some("token"));
    let mut both = refused("network-1.0.0");
    both.names.insert("network-2.0.0".to_owned());
    assert!(reason(&status(&[], &both)).1.ends_with("cannot be made. The same applies to network-2.0.0."));
    let mut all = refused("network-1.0.0");
    all.creates = true;
    let status = status(&[], &all);
    assert!(reason(&status).1.ends_with("cannot be made. Further versions wait until one can be created."));
    assert_eq!(
        status.force_token.as_deref(),
        Some("done:3"),
        "what waits for a quota has no request to answer"
    );
}

#[test]
fn each_taken_name_is_told() {
    let wants = module().with_versions(["1.0.0", "2.0.0"]);
    let taken = [child("1.0.0").ownerless(), child("2.0.0").ownerless()];
    let message = reason(&wants.status(&taken, None)).1.to_owned();
    assert!(
        message.starts_with(
            "Version network-1.0.0 exists and has no owner. The same applies to network-2.0.0. To"
        )
    );
    assert!(message.ends_with("opendepot.defdev.io/adopt=network"), "the command can be copied: {message}");
    let many: Vec<String> = (0..9).map(|n| format!("1.{n}.0")).collect();
    let taken: Vec<ChildFixture> = many.iter().map(|version| child(version).ownerless()).collect();
    let status = module().with_versions(many.iter().map(String::as_str)).status(&taken, None);
    assert!(reason(&status).1.contains("network-1.5.0 and 3 more. To let"), "{}", reason(&status).1);
}

#[test]
fn the_command_of_a_taken_name_is_never_cut() {
    for (length, namespace, names_it) in
        [(100, 10, true), (150, 10, true), (253, 10, false), (253, 63, false)]
    {
        let (name, namespace) = ("m".repeat(length), "n".repeat(namespace));
        let metadata = json!({"metadata": {"name": name, "namespace": namespace}});
        let module = wants_two().with(metadata).with_config(json!({"name": "mod"}));
        let taken = ["1.0.0", "2.0.0"].map(|version| {
            let object = version_object(&name, &Release::parse(version).unwrap());
            child(version).ownerless().with(json!({"metadata": {"name": object, "namespace": namespace}}))
        });
        let status = module.status(&taken, None);
        let message = reason(&status).1;
        let command = format!("{} opendepot.defdev.io/adopt={name}", taken[0].name());
        assert!(message.len() <= condition::MAX_MESSAGE && message.ends_with(&command), "{message}");
        assert_eq!(message.contains(&format!("Version {} exists", taken[0].name())), names_it, "{message}");
    }
}

#[test]
fn a_name_that_another_version_holds_until_it_is_deleted_is_told() {
    let wants = module().with_versions(["1.0.0"]);
    let held = stored_child("1.0.0").of_another_owner().terminating();
    let status = wants.status(std::slice::from_ref(&held), None);
    assert_eq!((conditions(&status), reason(&status).0), (WORKING, "Progressing"));
    let expected = "0 of 1 version stored, 1 in progress. The name network-1.0.0 is in use by a Version that is still being deleted.";
    assert_eq!(reason(&status).1, expected);
    let refused = held.ready("False", "StorageAccessDenied", "denied");
    let status = wants.status(&[refused], None);
    assert_eq!((conditions(&status), reason(&status).0), (WORKING, "StorageAccessDenied"));
    let expected = "0 of 1 version stored. The name network-1.0.0 is in use by a Version that cannot be deleted: \
                    StorageAccessDenied: denied";
    assert_eq!(reason(&status).1, expected);
    // Its own Version counts as leaving.
    let own = stored_child("1.0.0").terminating();
    assert_eq!(reason(&wants.status(&[own], None)).1, "0 of 1 version stored, 1 in progress.");
}

#[test]
fn a_module_that_is_being_deleted_says_which_version_cannot_be() {
    let said = |children: &[ChildFixture]| {
        let children: Vec<VersionState> = children.iter().map(ChildFixture::lean).collect();
        undeletable(&wants_two().view(), &children.iter().collect::<Vec<_>>())
    };
    let denied =
        |version: &str| stored_child(version).ready("False", "StorageAccessDenied", "denied").terminating();
    let others =
        [failed_child("1.0.0"), stored_child("2.0.0").terminating(), denied("3.0.0").of_another_owner()];
    assert_eq!(said(&others), None);
    let stuck = |what: &str, outcome: Outcome| {
        let message = format!("The Module is being deleted. {what} StorageAccessDenied: denied");
        Some((outcome, Reason::StorageAccessDenied, message))
    };
    assert_eq!(
        said(&[denied("2.0.0"), denied("1.0.0").stalled()]),
        stuck("2 Versions cannot be deleted; first 1.0.0:", Outcome::Working)
    );
    assert_eq!(
        said(&[denied("1.0.0").stalled()]),
        stuck("1 Version cannot be deleted; first 1.0.0:", Outcome::Stalled)
    );
    // After the last one, the failure is over.
    for (reason, expected) in [("StorageAccessDenied", Some(Reason::Progressing)), ("Progressing", None)] {
        let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let module = wants_two().with(json!({"status": {"conditions": [ready]}})).view();
        assert_eq!(undeletable(&module, &[]).map(|(_, reason, _)| reason), expected, "{reason}");
        let leaving = stored_child("2.0.0").terminating().lean();
        assert_eq!(undeletable(&module, &[&leaving]), None, "it may end by itself");
    }
}

#[test]
fn a_module_that_was_made_again_waits_for_what_the_first_one_left() {
    let left = [stored_child("1.0.0").of_another_owner(), stored_child("2.0.0").of_another_owner()];
    let status = wants_two().status(&left, None);
    assert_eq!((conditions(&status), reason(&status).0), (WORKING, "Progressing"));
    assert!(reason(&status).1.contains("network-1.0.0 still belongs to a deleted Module with this name"));
}

#[test]
fn a_force_without_the_annotation_forgets_no_request() {
    let handled = json!({"status": {"lastHandledRequest": "before"}});
    let forced = wants_two().forced().with(handled);
    assert_eq!(forced.status(&[], Some("token")).last_handled_request.as_deref(), Some("before"));
}

#[test]
fn a_status_that_is_too_large_says_so_and_records_no_more() {
    let wants = wants_two().immutable(json!({"1.0.0": "h1:1.0.0"}));
    let children = [stored_child("1.0.0").of(&wants), stored_child("2.0.0").of(&wants)];
    let status =
        |too_large| pass_with(&wants.view(), &children, &RejectedRequests::default(), None, too_large).status;
    assert_eq!(status(false).published.unwrap().len(), 2);
    let smaller = status(true);
    assert_eq!(smaller.published.clone().unwrap().len(), 1);
    assert_eq!((conditions(&smaller), reason(&smaller).0), (STALLED, "RecordFull"));
    assert!(reason(&smaller).1.contains("larger than the API server accepts"), "{}", reason(&smaller).1);
}

#[test]
fn a_digest_is_waited_for_where_its_version_has_gone_or_goes() {
    let wants = wants_two().immutable(json!({}));
    let awaited = |children: &[ChildFixture], departed: bool| {
        let mut view = wants.view();
        if departed {
            view.deleted_digests.insert("9.0.0".into(), "h1:9".into());
        }
        pass(&view, children, &RejectedRequests::default(), None).awaits_digest
    };
    let stays = stored_child("1.0.0");
    assert!(!awaited(&[], false) && !awaited(std::slice::from_ref(&stays), false));
    assert!(awaited(&[stays.clone(), stored_child("2.0.0").terminating()], false));
    assert!(awaited(&[stays.clone(), stored_child("3.0.0")], false), "it is about to be deleted");
    assert!(awaited(&[stays], true));
}
