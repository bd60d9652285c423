use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::api::{ADOPT, MODULE_LABEL, NAMESPACE_LABEL};

const DIGEST: &str = "h1:first";

fn at(second: u64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(second)
}

fn module(version: u32, policy: &str) -> ModuleState {
    let object = json!({
        "metadata": {"name": "net", "namespace": "acme", "uid": "module", "resourceVersion": version.to_string()},
        "spec": {"moduleConfig": {"deletionPolicy": policy, "immutable": true}, "versions": 7},
        "status": {"published": {"1.0.0": DIGEST}},
    });
    serde_json::from_value(object).unwrap()
}

fn object(number: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("net-{number}"), "namespace": "acme", "uid": number, "finalizers": [crate::api::FINALIZER],
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "net",
                "uid": "module", "controller": true}],
        },
        "spec": {"type": "Module", "version": format!("v{number}")},
        "status": {"contentDigest": DIGEST},
    })
}

fn version(number: &str) -> VersionState {
    serde_json::from_value(object(number)).unwrap()
}

/// A terminating Version whose status records an object.
fn stored(number: &str) -> VersionState {
    let mut object = object(number);
    object["status"]["storage"] = json!({"bucket": "shelf", "key": "net/a.zip", "region": "us-west-2"});
    serde_json::from_value(object).unwrap()
}

/// A Version that is not terminating and knows no digest.
fn fresh(number: &str) -> VersionState {
    let mut object = object(number);
    object["status"] = Value::Null;
    object["metadata"]["deletionTimestamp"] = Value::Null;
    serde_json::from_value(object).unwrap()
}

fn set_immutable(mut version: VersionState, immutable: bool) -> VersionState {
    version.immutable = immutable;
    version
}

/// The same without an owner.
fn inline(mut object: Value) -> VersionState {
    object["metadata"]["ownerReferences"] = Value::Null;
    serde_json::from_value(object).unwrap()
}

/// A terminating Version that the Module made, and whose owner reference `--cascade=orphan` has removed.
fn orphan() -> VersionState {
    let mut object = object("1.0.0");
    object["metadata"]["annotations"] = json!({ADOPT: "net"});
    object["metadata"]["labels"] = json!({MODULE_LABEL: "net", NAMESPACE_LABEL: "acme"});
    inline(object)
}

fn listed(owners: &Owners, uids: &[&str]) {
    owners.listed(None, &uids.iter().map(|uid| (*uid).to_owned()).collect(), at(100));
}

fn with_module(policy: &str) -> Owners {
    let owners = Owners::default();
    let module = module(5, policy);
    owners.update(&module.metadata, &module.policy);
    listed(&owners, &["module"]);
    owners
}

fn fate(owners: &Owners, version: &VersionState, own: bool) -> Fate {
    let mut version = version.clone();
    version.retain = own;
    owners.fate(&version)
}

#[test]
fn no_object_goes_before_its_module_was_read_after_the_deletion_was_seen() {
    let (owners, first) = (Owners::default(), version("1.0.0"));
    assert_eq!(fate(&owners, &first, false), Fate::Undecided, "the Modules are not listed");
    let owners = with_module("Delete");
    assert_eq!(fate(&owners, &first, false), Fate::Undecided, "the watch has not shown the deletion");
    owners.record_deletion(&first);
    assert_eq!(fate(&owners, &first, false), Fate::Undecided);
    let waiting = owners.waiting("module");
    assert_eq!(
        (waiting["1.0.0"].name.as_str(), waiting["1.0.0"].digest.as_deref()),
        ("net-1.0.0", Some(DIGEST))
    );
    let second = version("2.0.0");
    owners.record_deletion(&second);
    // Retain came before the deletion, so that reading the Module has to show it.
    let retain = module(6, "Retain");
    owners.update(&retain.metadata, &retain.policy);
    owners.answer("module", &waiting);
    assert_eq!(fate(&owners, &first, false), Fate::Keep, "the Module's policy counts, not the copy");
    assert_eq!(fate(&owners, &second, true), Fate::Undecided, "its deletion was seen later");
    assert_eq!(owners.waiting("module").len(), 1);
    owners.version_gone(&first);
    owners.record_deletion(&first);
    assert_eq!(fate(&owners, &first, false), Fate::Undecided);
}

#[test]
fn an_older_state_of_a_module_does_not_replace_a_newer_one() {
    let owners = with_module("Retain");
    let old = module(4, "Delete");
    owners.update(&old.metadata, &old.policy);
    owners.record_deletion(&version("1.0.0"));
    owners.answer("module", &owners.waiting("module"));
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Keep);
}

#[test]
fn a_module_that_was_read_after_a_restore_of_etcd_replaces_its_newer_state() {
    let (owners, restored) = (with_module("Delete"), module(2, "Retain"));
    owners.record_deletion(&version("1.0.0"));
    owners.answer("module", &owners.waiting("module"));
    for (seconds, expected) in [(9, Fate::Delete), (11, Fate::Keep)] {
        let now = Instant::now() + Duration::from_secs(seconds);
        owners.read(&restored.metadata, &restored.policy, now);
        assert_eq!(fate(&owners, &version("1.0.0"), false), expected, "after {seconds} s");
    }
    let next = module(3, "Delete");
    owners.update(&next.metadata, &next.policy);
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Delete, "the watch counts again");
}

#[test]
fn the_last_state_of_a_deleted_module_counts_until_nothing_of_it_is_left() {
    let owners = with_module("Delete");
    owners.record_deletion(&version("1.0.0"));
    assert_eq!(owners.gone(&module(6, "Retain"), at(100)), ["net-1.0.0"], "who waits is woken");
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Keep);
    let owning = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect();
    owners.sweep(None, at(500), || owning(&["module"]));
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Keep);
    owners.sweep(None, at(600), || owning(&[]));
    assert_eq!(fate(&owners, &stored("1.0.0"), false), Fate::Delete, "forgotten");
    let owners = with_module("Retain");
    owners.gone(&module(6, "Retain"), at(100));
    owners.sweep(None, at(390), || owning(&[]));
    assert_eq!(
        fate(&owners, &stored("1.0.0"), false),
        Fate::Keep,
        "its Versions may appear in their watch later"
    );

    let owners = with_module("Delete");
    owners.gone(&module(6, "Delete"), at(100));
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Delete);
    assert_eq!(fate(&owners, &version("1.0.0"), true), Fate::Keep, "the way to let one go that S3 refuses");
}

#[test]
fn a_module_that_a_list_does_not_have_any_more_is_gone() {
    let owners = with_module("Retain");
    listed(&owners, &[]);
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Keep);
    let owners = with_module("Retain");
    owners.listed(Some("other"), &HashSet::new(), at(100));
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Undecided, "a list of another namespace");
}

#[test]
fn a_module_that_a_list_lacked_and_the_watch_shows_again_is_not_gone() {
    let (owners, module) = (with_module("Delete"), module(5, "Delete"));
    owners.reconciled("module");
    listed(&owners, &[]);
    owners.update(&module.metadata, &module.policy);
    assert!(owners.awaits_module(&fresh("2.0.0")), "what a reconcile read earlier is no proof");
    assert!(owners.shown(&module.metadata, &module.policy), "its Versions are queued");
    assert!(owners.awaits_module(&set_immutable(fresh("2.0.0"), true)), "its digests may be lost");
    assert!(owners.reconciled("module"));
    assert!(
        !owners.awaits_module(&fresh("2.0.0")) && owners.awaits_module(&fresh("1.0.0")),
        "one is on record"
    );
    owners.record_deletion(&version("1.0.0"));
    assert_eq!(fate(&owners, &version("1.0.0"), false), Fate::Undecided);
    assert_eq!(owners.waiting("module").len(), 1, "the Module is read before its object is deleted");
    assert!(!owners.shown(&module.metadata, &module.policy), "nothing new");
}

#[test]
fn of_an_unknown_owner_only_what_this_life_has_stored_is_deleted() {
    let owners = Owners::default();
    listed(&owners, &[]);
    for (own, version, expected) in [
        (false, stored("1.0.0"), Fate::Delete),
        (false, version("1.0.0"), Fate::Keep),
        (true, stored("1.0.0"), Fate::Keep),
        (true, version("1.0.0"), Fate::Keep),
    ] {
        assert_eq!(fate(&owners, &version, own), expected, "{own} {:?}", version.status.storage);
    }
    let inline = inline(object("1.0.0"));
    assert_eq!(fate(&Owners::default(), &inline, false), Fate::Delete, "no owner, no question");
    let mut of_others = object("1.0.0");
    of_others["metadata"]["ownerReferences"][0]["kind"] = json!("App");
    let of_others: VersionState = serde_json::from_value(of_others).unwrap();
    assert_eq!(fate(&Owners::default(), &of_others, false), Fate::Delete);
}

/// Records the deletion of the orphan, and that the Module with this UID was read after it.
fn answer(owners: &Owners, uid: &str) {
    owners.record_deletion(&orphan());
    let waiting = owners.waiting(uid);
    assert_eq!(waiting["1.0.0"].digest, None, "the Module may be another one of that name");
    owners.answer(uid, &waiting);
}

#[test]
fn the_policy_of_a_module_holds_for_a_version_without_its_owner_reference() {
    let version = orphan();
    assert_eq!(fate(&Owners::default(), &version, false), Fate::Undecided, "the Modules are not listed");
    for (policy, own, expected) in [
        ("Retain", false, Fate::Keep),
        ("Delete", false, Fate::Delete),
        ("Delete", true, Fate::Keep),
        ("Retain", true, Fate::Keep),
    ] {
        let owners = with_module(policy);
        assert_eq!(fate(&owners, &version, own), Fate::Undecided, "the watch of Modules may be behind");
        answer(&owners, "module");
        assert_eq!(fate(&owners, &version, own), expected, "{policy}, own: {own}");
    }
    // The Module ends, and another one is created with its name.
    let owners = with_module("Delete");
    owners.record_deletion(&version);
    assert_eq!(owners.gone(&module(6, "Retain"), at(100)), ["net-1.0.0"]);
    assert_eq!(fate(&owners, &version, false), Fate::Keep);
    let mut again = module(7, "Delete");
    again.metadata.uid = Some("again".into());
    assert!(owners.shown(&again.metadata, &again.policy));
    assert_eq!(fate(&owners, &version, false), Fate::Undecided);
    answer(&owners, "again");
    assert_eq!(fate(&owners, &version, false), Fate::Keep, "the former one counts");
    owners.version_gone(&version);
    assert_eq!(fate(&owners, &version, false), Fate::Undecided);
    let owners = with_module("Retain");
    assert!(owners.gone(&module(6, "Retain"), at(100)).is_empty());
    owners.record_deletion(&version);
    assert_eq!(fate(&owners, &version, false), Fate::Delete, "the Module was gone before the deletion");
    // Its own copy counts where no Module of that name is known, and for a Version that no Module made.
    let none = Owners::default();
    listed(&none, &[]);
    assert_eq!((fate(&none, &version, false), fate(&none, &version, true)), (Fate::Delete, Fate::Keep));
    let mut by_hand = object("1.0.0");
    by_hand["metadata"]["annotations"] = json!({ADOPT: "net"});
    assert_eq!(fate(&with_module("Retain"), &inline(by_hand), false), Fate::Delete);
}

#[test]
fn what_a_module_has_on_record_is_not_published_before_it_was_handed_over() {
    let awaits_module = |owners: &Owners, number: &str, immutable| {
        owners.awaits_module(&set_immutable(fresh(number), immutable))
    };
    assert!(awaits_module(&Owners::default(), "1.0.0", false), "the Modules are not listed");
    let owners = with_module("Delete");
    assert!(
        awaits_module(&owners, "2.0.0", true) && awaits_module(&owners, "2.0.0", false),
        "not reconciled"
    );
    assert!(owners.reconciled("module") && !owners.reconciled("module"), "the first time only");
    assert!(!awaits_module(&owners, "2.0.0", true), "the Module knows nothing of it");
    assert!(
        awaits_module(&owners, "1.0.0", true) && awaits_module(&owners, "1.0.0", false),
        "it is on record"
    );
    assert!(!owners.awaits_module(&set_immutable(version("1.0.0"), true)), "it knows its digest");
    let mut mutable = module(7, "Delete");
    mutable.policy.immutable = false;
    owners.update(&mutable.metadata, &mutable.policy);
    assert!(!awaits_module(&owners, "1.0.0", false));
    owners.gone(&module(8, "Delete"), at(100));
    assert!(
        awaits_module(&owners, "2.0.0", true) && awaits_module(&owners, "2.0.0", false),
        "it would be deleted again"
    );
    assert!(owners.awaits_module(&version("2.0.0")), "with a digest too");
    assert!(!owners.awaits_module(&stored("2.0.0")), "nothing new is taken over");
    let mut ownerless = object("1.0.0");
    ownerless["status"] = Value::Null;
    assert!(!Owners::default().awaits_module(&set_immutable(inline(ownerless), true)));
}

#[test]
fn an_owner_in_another_namespace_is_none() {
    let owners = with_module("Retain");
    let elsewhere = |mut version: VersionState| {
        version.metadata.namespace = Some("other".into());
        version
    };
    let claim = elsewhere(stored("9.0.0"));
    owners.record_deletion(&claim);
    assert!(owners.waiting("module").is_empty(), "nothing of it reaches the Module");
    assert_eq!(fate(&owners, &claim, false), Fate::Delete, "its own policy counts");
    assert_eq!(fate(&owners, &elsewhere(fresh("9.0.0")), false), Fate::Delete);
    owners.reconciled("module");
    assert!(owners.awaits_module(&elsewhere(fresh("1.0.0"))));
}

#[test]
fn an_old_object_is_not_deleted_before_the_modules_were_listed() {
    let unlisted = Owners::default();
    let mut ownerless = object("1.0.0");
    ownerless["metadata"]["deletionTimestamp"] = Value::Null;
    let inline = inline(ownerless);
    assert_eq!(fate(&unlisted, &fresh("1.0.0"), false), Fate::Undecided);
    assert_eq!(fate(&unlisted, &inline, false), Fate::Delete);
    assert_eq!(fate(&unlisted, &inline, true), Fate::Keep);
    assert_eq!(fate(&with_module("Retain"), &fresh("1.0.0"), false), Fate::Keep);
    assert_eq!(fate(&with_module("Delete"), &fresh("1.0.0"), true), Fate::Delete);
}
