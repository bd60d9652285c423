//! Removals of several stored versions: which are reported, and which wait for a confirmation.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::edit::Change;
use super::super::plan::Plan;
use super::super::rejected_requests::RejectedRequests;
use super::super::removal::Removal;
use super::{
    ChildFixture, Decided, ModuleFixture, child, failed_child, merge, module, pass, stored_child, with_key,
};
use crate::api::{CONFIRM_REMOVAL, condition};

/// A Module that lists these versions, at generation 3.
fn lists(versions: &[&str]) -> ModuleFixture {
    module().with_versions(versions.iter().copied())
}

fn decide(module: &ModuleFixture, children: &[ChildFixture]) -> Decided {
    pass(&module.view(), children, &RejectedRequests::default(), None)
}

fn deleted(plan: &Plan) -> Vec<&str> {
    plan.delete.iter().map(|target| target.name.strip_prefix("network-").unwrap()).collect()
}

fn stored(versions: &[&str]) -> Vec<ChildFixture> {
    versions.iter().map(|version| stored_child(version)).collect()
}

fn ready(decided: &Decided) -> (&str, &str) {
    let ready = condition::find(&decided.status.conditions, "Ready").unwrap();
    (&ready.reason, &ready.message)
}

impl ModuleFixture {
    fn confirm(self) -> Self {
        self.with(json!({"spec": {"removal": "Confirm"}}))
    }

    /// With an annotation that was set after the operator had seen the Module.
    fn confirmed(self, generation: &str) -> Self {
        let seen = self.0.pointer("/status/observedGeneration").cloned().unwrap_or(json!(1));
        self.with(with_key(CONFIRM_REMOVAL, generation)).with(json!({"status": {"observedGeneration": seen}}))
    }

    /// With the status that these Versions cause.
    fn reconciled(self, children: &[ChildFixture]) -> Self {
        let status = decide(&self, children).status;
        self.with_status(&status)
    }
}

const THREE: [&str; 3] = ["1.0.0", "1.1.0", "1.2.0"];

/// What is removed, the list, the Versions, how many stored ones are removed, and whether they wait.
type Row = (&'static str, &'static [&'static str], Vec<ChildFixture>, usize, bool);

#[test]
fn two_stored_versions_or_more_wait_and_nothing_is_deleted_meanwhile() {
    let one = |change: ChildFixture| [stored(&["1.0.0", "1.2.0"]), vec![change]].concat();
    let lost = stored_child("1.1.0").with(json!({"status": {"synced": false}}));
    let table: [Row; 12] = [
        ("nothing", &THREE, stored(&THREE), 0, false),
        ("one", &["1.0.0", "1.1.0"], stored(&THREE), 1, false),
        ("two", &["1.2.0"], stored(&THREE), 2, true),
        ("a list of one new entry", &["1.3.0"], stored(&THREE), 3, true),
        ("all", &[], stored(&THREE), 3, true),
        ("two, one of them not stored", &["1.2.0"], one(failed_child("1.1.0")), 1, false),
        ("two, one of them not published yet", &["1.2.0"], one(child("1.1.0")), 1, false),
        ("two, the object of one being restored", &["1.2.0"], one(lost), 2, true),
        ("two, one of them being deleted", &["1.2.0"], one(stored_child("1.1.0").terminating()), 1, false),
        ("two, one of them another's", &["1.2.0"], one(stored_child("1.1.0").of_another_owner()), 1, false),
        ("all, in the other spelling", &["v1.0.0", "v1.1.0", "v1.2.0"], stored(&THREE), 0, false),
        ("two, beside an unreadable entry", &["1.2.0", "latest"], stored(&THREE), 0, false),
    ];
    for (what, list, children, several, waits) in table {
        let decided = decide(&lists(list).confirm(), &children);
        let removal = &decided.plan.removal;
        assert_eq!((removal.stored.len(), removal.waits), (several, waits), "{what}");
        assert!(!waits || decided.plan.delete.is_empty(), "{what}");
        assert_eq!(ready(&decided).0 == "RemovalUnconfirmed", waits, "{what}");
        // By default, nothing waits.
        let at_once = decide(&lists(list), &children);
        let unreadable = list.contains(&"latest");
        let gone = children.iter().map(ChildFixture::lean).filter(|c| lists(list).view().manages(c));
        let gone = gone.filter(|c| !c.is_terminating() && !list.iter().any(|v| v.ends_with(&*c.version)));
        assert_eq!(at_once.plan.delete.len(), if unreadable { 0 } else { gone.count() }, "{what}");
        assert!(!at_once.plan.removal.waits);
    }
}

#[test]
fn what_is_added_is_still_created_and_pruned_versions_do_not_count() {
    let new = lists(&["1.3.0", "1.4.0"]).confirm();
    let decided = decide(&new, &stored(&THREE));
    assert_eq!((decided.plan.create.len(), decided.plan.delete.len()), (2, 0));
    // Five listed, two kept: three are pruned at once.
    let five = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"];
    let pruned = decide(&lists(&five).with_limit(2).confirm(), &stored(&five));
    assert_eq!(deleted(&pruned.plan), THREE);
    assert!(pruned.plan.removal.stored.is_empty());
    // Two that are removed from the list wait, although one of them would be pruned if it were listed; pruning waits with them.
    let both = decide(&lists(&five[2..]).with_limit(2).confirm(), &stored(&five));
    assert!(both.plan.removal.waits && both.plan.delete.is_empty());
}

#[test]
fn exactly_the_present_generation_confirms() {
    let children = stored(&THREE);
    let edited = lists(&["1.2.0"]).confirm();
    for wrong in ["2", "4", "", "03", " 3", "true"] {
        assert!(decide(&edited.clone().confirmed(wrong), &children).plan.delete.is_empty(), "{wrong:?}");
    }
    let confirmed = edited.clone().confirmed("3");
    assert_eq!(deleted(&decide(&confirmed, &children).plan), ["1.0.0", "1.1.0"]);
    // The next edit is another one. What is left over of the confirmed one counts again.
    let next = confirmed.next_generation();
    assert!(decide(&next, &children).plan.delete.is_empty());
    // A restart changes nothing: all that counts is in the objects.
    let waiting = edited.reconciled(&children);
    assert!(decide(&waiting, &children).plan.delete.is_empty());
    assert_eq!(deleted(&decide(&waiting.confirmed("3"), &children).plan), ["1.0.0", "1.1.0"]);
}

#[test]
fn a_confirmation_that_is_older_than_its_edit_counts_only_when_it_is_set_again() {
    let children = stored(&THREE);
    let confirmation = with_key(CONFIRM_REMOVAL, "5");
    // A restore brings the annotation of a Module that had more generations, and perhaps its status.
    let restored = lists(&THREE).confirm().with(confirmation.clone());
    let foreign = json!({"observedGeneration": 5});
    for restored in [restored.clone(), restored.clone().with(json!({"status": foreign}))] {
        let later = restored.reconciled(&children).with_versions(["1.2.0"]).next_generation();
        let decided = decide(&later, &children);
        assert_eq!((ready(&decided).0, decided.status.void_confirmation), ("RemovalUnconfirmed", Some(5)));
        assert!(ready(&decided).1.ends_with("confirm-removal=4"), "{}", ready(&decided).1);
        let same = later.reconciled(&children).next_generation();
        for same in [same.clone(), same.clone().reconciled(&children)] {
            let decided = decide(&same, &children);
            assert!(decided.plan.delete.is_empty());
            let message = ready(&decided).1;
            assert!(
                message.contains("set before this edit") && message.ends_with("confirm-removal-"),
                "{message}"
            );
        }
        // Removed and set again, it counts, and a later generation has nothing to do with it.
        let removed =
            same.clone().reconciled(&children).with(with_key(CONFIRM_REMOVAL, "4")).reconciled(&children);
        assert_eq!(decide(&removed, &children).status.void_confirmation, None);
        assert_eq!(deleted(&decide(&removed.with(confirmation.clone()), &children).plan), ["1.0.0", "1.1.0"]);
        let passed = same.next_generation();
        assert_eq!(decide(&passed, &children).status.void_confirmation, None);
    }
    // A Module that the operator sees for the first time.
    let unseen = lists(&["1.2.0"]).confirm().with(with_key(CONFIRM_REMOVAL, "3"));
    assert!(decide(&unseen, &children).plan.delete.is_empty());
    assert!(decide(&unseen.reconciled(&children), &children).plan.delete.is_empty());
}

#[test]
fn a_removal_that_waits_ends_with_a_confirmation_or_with_nothing_left_to_remove() {
    let children = stored(&THREE);
    let waiting = lists(&["1.2.0"]).confirm().reconciled(&children).next_generation();
    // One of the two is put back, or is deleted by hand: the other still waits.
    let less = waiting.clone().with_versions(["1.1.0", "1.2.0"]);
    assert!(decide(&less, &children).plan.removal.waits);
    assert!(decide(&waiting, &children[1..]).plan.removal.waits);
    assert_eq!(deleted(&decide(&less.clone().confirmed("4"), &children).plan), ["1.0.0"]);
    // All are put back.
    let whole = waiting.clone().with_versions(THREE);
    let decided = decide(&whole, &children);
    assert_eq!((ready(&decided).0, decided.plan.change.len()), ("Synced", 0));
    // The default, or the deletion of the Module, waits for nothing.
    let immediate = waiting.clone().with(json!({"spec": {"removal": "Immediate"}}));
    assert_eq!(decide(&immediate, &children).plan.delete.len(), 2);
    let gone = waiting.with(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(decide(&gone, &children).plan, Plan::default());
}

#[test]
fn a_removal_that_waits_waits_after_a_suspension_and_an_unusable_spec_too() {
    let children = stored(&THREE);
    let waiting = lists(&["1.2.0"]).confirm().reconciled(&children).next_generation();
    for (undecided, reason) in [
        (json!({"suspend": true}), "Suspended"),
        (json!({"moduleConfig": {"repoUrl": "https://github.com"}}), "InvalidSpec"),
        (json!({"versions": [{"version": "1.2.0"}, {"version": "latest"}]}), "InvalidSpec"),
    ] {
        let between = waiting.clone().with(json!({"spec": undecided}));
        assert_eq!(ready(&decide(&between, &children)).0, reason);
        let status = decide(&between.reconciled(&children), &children).status;
        let again = waiting.clone().with_status(&status).with_versions(["1.1.0", "1.2.0"]).next_generation();
        assert!(decide(&again, &children).plan.removal.waits, "{reason}");
        // Once it is decided, nothing of it is left.
        let whole = again.with_versions(THREE).reconciled(&children).next_generation();
        assert_eq!(ready(&decide(&whole, &children)).0, "Synced");
        let one = whole.with_versions(["1.1.0", "1.2.0"]);
        assert_eq!(deleted(&decide(&one, &children).plan), ["1.0.0"], "{reason}");
    }
}

#[test]
fn two_edits_that_remove_one_version_each_need_no_confirmation() {
    let first = lists(&["1.1.0", "1.2.0"]).confirm();
    let children = stored(&THREE);
    assert_eq!(deleted(&decide(&first, &children).plan), ["1.0.0"]);
    let leaving = [vec![children[0].clone().terminating()], children[1..].to_vec()].concat();
    let second = first.reconciled(&leaving).with_versions(["1.2.0"]).next_generation();
    assert_eq!(deleted(&decide(&second, &leaving).plan), ["1.1.0"]);
}

#[test]
fn what_waits_still_gets_policy_and_resumption() {
    let suspended = json!({"spec": {"moduleSuspended": true}});
    let children = [stored_child("1.0.0").with(suspended), stored_child("1.1.0"), stored_child("1.2.0")];
    let module = lists(&["1.2.0"]).confirm();
    let plan = decide(&module.clone().with_config(json!({"deletionPolicy": "Retain"})), &children).plan;
    let retained = plan.change.iter().filter(|change| change.retain() == Some(true));
    assert_eq!((retained.count(), plan.delete.len()), (3, 0));
    assert_eq!(plan.change.iter().filter_map(Change::suspended).collect::<Vec<_>>(), [false]);
    // While the Module is suspended, or its configuration is unusable, nothing is removed anyway, and it says that.
    for (unusable, reason) in [
        (module.clone().suspended(), "Suspended"),
        (module.with_config(json!({"repoUrl": "https://github.com"})), "InvalidSpec"),
    ] {
        let decided = decide(&unusable, &children);
        assert_eq!((ready(&decided).0, decided.plan.delete.len()), (reason, 0));
    }
}

#[test]
fn the_message_has_the_command_and_the_versions_whatever_their_length() {
    let decided = decide(&lists(&["1.2.0"]).confirm(), &stored(&THREE));
    assert_eq!(
        ready(&decided).1,
        "1 of 1 version stored. 2 stored versions are no longer in spec.versions. To keep them, put the entries back: 1.0.0, \
         1.1.0. Nothing is deleted until you confirm: kubectl annotate --field-manager=opendepot-release --overwrite -n acme \
         modules.opendepot.defdev.io/network opendepot.defdev.io/confirm-removal=3"
    );
    assert_eq!(condition::find(&decided.status.conditions, "Stalled").unwrap().status, "True");
    let publishing = decide(&lists(&["1.3.0"]).confirm(), &stored(&THREE));
    assert_eq!(condition::find(&publishing.status.conditions, "Reconciling").unwrap().status, "True");

    let long = |n: usize| format!("1.{n}.0-{}", "r".repeat(110));
    let children: Vec<ChildFixture> = (10..99).map(|n| stored_child(&long(n))).collect();
    let mut module = lists(&[]).confirm();
    merge(&mut module.0, json!({"metadata": {"name": "n".repeat(253), "namespace": "s".repeat(63)}}));
    let decided = decide(&module, &children);
    let (_, message) = ready(&decided);
    assert!(message.len() <= condition::MAX_MESSAGE && message.ends_with("confirm-removal=3"), "{message}");
    let removal = &decided.plan.removal;
    let begin =
        "89 stored versions are no longer in spec.versions. To keep them, put the entries back: 1.10.0-r";
    let request = removal.request(&module.view());
    assert!(request.starts_with(begin), "{request}");
    let one = Removal { stored: removal.stored[..1].to_vec(), waits: true }.request(&module.view());
    assert!(one.starts_with("1 stored version is no longer in spec.versions. To keep it, put its"), "{one}");
    let note = removal.announcement(&module.clone().confirmed("3").view());
    assert_eq!(note, None, "it waits");
    let short = lists(&[]).confirm();
    let request = decide(&short, &children).plan.removal.request(&short.view());
    assert!(request.contains("r and 88 more. Nothing is deleted until you confirm"), "{request}");
    let early = module.with(with_key(CONFIRM_REMOVAL, "3"));
    let decided = decide(&early, &children);
    let (_, message) = ready(&decided);
    assert!(message.len() <= condition::MAX_MESSAGE && message.ends_with("confirm-removal-"), "{message}");
}

#[test]
fn an_immediate_removal_is_announced_once() {
    let children = stored(&THREE);
    let announced = |module: &ModuleFixture, children: &[ChildFixture]| {
        decide(module, children).plan.removal.announcement(&module.view())
    };
    let whole = lists(&THREE).reconciled(&children);
    assert_eq!(announced(&whole, &children), None);
    let edited = whole.clone().with_versions(["1.2.0"]).next_generation();
    let note = announced(&edited, &children).unwrap();
    for words in ["2 stored versions", "1.0.0, 1.1.0", "put the entries back", "bucket with versioning"] {
        assert!(note.contains(words), "{note}");
    }
    assert_eq!(announced(&edited.clone().reconciled(&children), &children), None, "once");
    let one = whole.with_versions(["1.1.0", "1.2.0"]).next_generation();
    assert_eq!(announced(&one, &children), None, "one is no surprise");
    let retained =
        announced(&edited.clone().with_config(json!({"deletionPolicy": "Retain"})), &children).unwrap();
    assert!(retained.contains("stay in S3") && !retained.contains("versioning"), "{retained}");
    // Where it waits, the condition says so first, and the Event follows the confirmation.
    let waiting = edited.confirm();
    assert_eq!(announced(&waiting, &children), None);
    let waiting = waiting.reconciled(&children);
    assert_eq!(announced(&waiting, &children), None);
    assert!(announced(&waiting.clone().confirmed("4"), &children).is_some());
    let done = waiting.confirmed("4").reconciled(&children);
    assert_eq!(announced(&done, &children), None, "once");
}

proptest! {
    #[test]
    fn without_a_confirmation_at_most_one_stored_version_goes(
        listed in prop::collection::vec(any::<bool>(), 8),
        states in prop::collection::vec(0..5_u8, 8),
        (limit, annotation, has_waited, retain) in (0..4_usize, 1..6_u8, any::<bool>(), any::<bool>()),
    ) {
        let versions: Vec<String> = (0..8).map(|n| format!("1.{n}.0")).collect();
        let children: Vec<ChildFixture> = versions.iter().zip(&states).filter_map(|(version, state)| match state {
            0 => None,
            1 => Some(failed_child(version)),
            2 => Some(stored_child(version).terminating()),
            _ => Some(stored_child(version)),
        }).collect();
        let list = versions.iter().zip(&listed).filter(|(_, listed)| **listed).map(|(version, _)| version.as_str());
        let list: Vec<&str> = list.collect();
        let mut module = lists(&list).with_limit(limit).confirm().confirmed(&annotation.to_string());
        if retain { module = module.with_config(json!({"deletionPolicy": "Retain"})); }
        if has_waited {
            let ready: Value = json!({"type": "Ready", "status": "False", "reason": "RemovalUnconfirmed", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            module = module.with(json!({"status": {"conditions": [ready]}}));
        }
        let decided = decide(&module, &children);
        let Plan { delete, create, removal, .. } = &decided.plan;
        let unlisted = |name: &str| !list.iter().any(|version| name == format!("network-{version}"));
        let live = |c: &&ChildFixture| unlisted(c.name()) && c.lean().status.synced && !c.lean().is_terminating();
        let removed = children.iter().filter(live).count();
        prop_assert_eq!(removal.stored.len(), removed);
        let waits = annotation != 3 && (removed >= 2 || (removed > 0 && has_waited));
        prop_assert_eq!(removal.waits, waits);
        prop_assert!(!waits || delete.is_empty());
        // All else is as without the field.
        let plain = decide(&module.with(json!({"spec": {"removal": null}})), &children);
        prop_assert_eq!(create, &plain.plan.create);
        prop_assert!(waits || delete == &plain.plan.delete);
        let edited = |plan: &Plan| plan.change.clone();
        prop_assert_eq!(edited(&decided.plan), edited(&plain.plan));
        prop_assert_eq!(&plain.plan.removal, &Removal { waits: false, ..removal.clone() });
        prop_assert_eq!(ready(&decided).0 == "RemovalUnconfirmed", waits);
    }
}
