//! The index after any order of events equals that of a fresh list.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fold::KeptVersion;
use super::*;
use crate::api::FINALIZER;
use crate::api::object_name::version_object;
use crate::api::state::{ModuleListing, VersionState};
use crate::domain::Release;
use crate::registry::aliases::Aliases;
use crate::storage::StorageRules;

impl Fold {
    /// Takes in a change of a Version, as the watch does.
    pub(crate) fn version(&mut self, change: WatchChange<VersionState>) {
        let rules = self.rules.clone();
        let keep = |version: VersionState| KeptVersion::of(&version, &rules);
        self.kept_version(match change {
            WatchChange::Applied(version) => WatchChange::Applied(keep(version)),
            WatchChange::Deleted(version) => WatchChange::Deleted(keep(version)),
            WatchChange::Listed(scope, versions) => {
                WatchChange::Listed(scope, versions.into_iter().map(keep).collect())
            }
        });
    }
}

fn rules() -> StorageRules {
    StorageRules::new(vec!["platform=modules".parse().unwrap()], Vec::new(), None)
}

fn module(value: Value) -> ModuleListing {
    serde_json::from_value(value).unwrap()
}

fn version(value: Value) -> VersionState {
    serde_json::from_value(value).unwrap()
}

fn eks(versions: &Value) -> Value {
    json!({
        "metadata": {"namespace": "platform", "name": "eks", "uid": "u-eks"},
        "spec": {"moduleConfig": {"provider": "aws"}, "versions": versions},
        "status": {"address": "platform/eks/aws"},
    })
}

fn stored(text: &str) -> Value {
    let release = Release::parse(text).unwrap();
    json!({
        "metadata": {
            "namespace": "platform", "name": version_object("eks", &release), "uid": format!("v-{text}"),
            "creationTimestamp": "2026-11-27T05:00:00Z", "finalizers": [FINALIZER],
            "ownerReferences": [{
                "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "eks", "uid": "u-eks", "controller": true,
            }],
        },
        "spec": {"type": "Module", "version": text, "moduleConfigRef": {"fileFormat": "zip"}},
        "status": {
            "synced": true, "checksum": STANDARD.encode([7; 32]), "archiveSizeBytes": 1234,
            "storage": {"bucket": "modules", "key": format!("eks/{text}.zip"), "region": "eu-west-1"},
            "source": {"url": "https://github.com/acme/eks", "ref": text, "commit": "c0ffee"},
        },
    })
}

/// The value at a JSON pointer replaced.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    object
}

fn index(modules: Vec<Value>, versions: Vec<Value>) -> Index {
    let mut fold = Fold::new(rules(), Aliases::default());
    fold.module(WatchChange::Listed(None, modules.into_iter().map(module).collect()));
    fold.version(WatchChange::Listed(None, versions.into_iter().map(version).collect()));
    let index = Index::default();
    index.apply(fold.updates(), States::default());
    index
}

fn listed(index: &Index) -> Vec<String> {
    let module = index.get(&"platform/eks/aws".parse().unwrap());
    module.iter().flat_map(|module| module.listed()).map(|version| version.release.to_string()).collect()
}

fn entries(versions: &[&str]) -> Value {
    versions.iter().map(|version| json!({"version": version})).collect()
}

#[test]
fn stored_versions_are_listed_in_descending_order() {
    let all = ["1.9.0", "v1.10.0", "2.0.0-rc.1", "1.10.0+b1"];
    let index = index(vec![eks(&entries(&all))], all.map(stored).to_vec());
    assert_eq!(listed(&index), ["2.0.0-rc.1", "1.10.0+b1", "1.10.0", "1.9.0"]);
    let module = index.get(&"platform/eks/aws".parse().unwrap()).unwrap();
    assert_eq!(module.latest().unwrap().release.to_string(), "1.10.0+b1");
    let listing = module.listing.as_ref().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&listing.plain.body),
        r#"{"modules":[{"source":"https://github.com/acme/eks","versions":[{"version":"2.0.0-rc.1"},{"version":"1.10.0+b1"},{"version":"1.10.0"},{"version":"1.9.0"}]}]}"#
    );
    assert_ne!(listing.plain.etag, listing.gzip.etag);
}

#[test]
fn a_namespace_shares_with_others_if_they_have_modules() {
    let (eks, other) = (eks(&json!([])), json!({"namespace": "team-a", "name": "vpc", "uid": "u-vpc"}));
    let other = with(eks.clone(), "/metadata", other);
    for (modules, expected) in [
        (vec![], None),
        (vec![eks.clone()], None),
        (vec![other.clone()], Some("platform")),
        (vec![eks, other], Some("platform")),
    ] {
        assert_eq!(index(modules, Vec::new()).beside_others("platform"), expected);
    }
}

#[test]
fn only_what_the_module_owns_lists_and_has_stored_is_served() {
    let owner = "/metadata/ownerReferences/0";
    for (why, object) in [
        ("another owner", with(stored("1.1.0"), &format!("{owner}/uid"), json!("other"))),
        ("no controller", with(stored("1.1.0"), &format!("{owner}/controller"), json!(false))),
        ("another kind of owner", with(stored("1.1.0"), &format!("{owner}/kind"), json!("Deployment"))),
        ("another group", with(stored("1.1.0"), &format!("{owner}/apiVersion"), json!("acme.io/v1"))),
        ("no finalizer", with(stored("1.1.0"), "/metadata/finalizers", json!([]))),
        ("another name", with(stored("1.1.0"), "/metadata/name", json!("eks-forged"))),
        ("another namespace", with(stored("1.1.0"), "/metadata/namespace", json!("evil"))),
        ("not listed", stored("1.2.0")),
        ("being deleted", {
            let mut object = stored("1.1.0");
            object["metadata"]["deletionTimestamp"] = json!("2026-11-27T05:00:00Z");
            object
        }),
        ("not stored", with(stored("1.1.0"), "/status/synced", json!(false))),
        ("no checksum", with(stored("1.1.0"), "/status/checksum", json!(null))),
        ("a checksum of another length", with(stored("1.1.0"), "/status/checksum", json!("AAAA"))),
        ("no size", with(stored("1.1.0"), "/status/archiveSizeBytes", json!(-1))),
        ("no location", with(stored("1.1.0"), "/status/storage", json!(null))),
        ("another bucket", with(stored("1.1.0"), "/status/storage/bucket", json!("secrets"))),
        ("a bucket that is no name", with(stored("1.1.0"), "/status/storage/bucket", json!("modules/../x"))),
        ("another store", {
            let mut object = stored("1.1.0");
            object["status"]["storage"]["endpoint"] = json!("https://evil.example");
            object
        }),
        ("a region with dots", with(stored("1.1.0"), "/status/storage/region", json!("eu.evil.example/"))),
        ("a key that climbs", with(stored("1.1.0"), "/status/storage/key", json!("../x.zip"))),
        ("a provider", with(stored("1.1.0"), "/spec/type", json!("Provider"))),
        ("no version", with(stored("1.1.0"), "/spec/version", json!("latest"))),
    ] {
        let index = index(vec![eks(&entries(&["1.0.0", "1.1.0"]))], vec![stored("1.0.0"), object]);
        assert_eq!(listed(&index), ["1.0.0"], "{why}");
    }
    let huge = "1.0.9223372036854775808";
    assert_eq!(listed(&index(vec![eks(&entries(&[huge]))], vec![stored(huge)])), Vec::<String>::new());
}

#[test]
fn what_an_allowed_store_is_asked_for_is_checked_too() {
    let everything = |module: Value, versions: Vec<Value>| {
        let mut fold = Fold::new(StorageRules::default(), Aliases::default());
        fold.module(WatchChange::Applied(self::module(module)));
        for object in versions {
            fold.version(WatchChange::Applied(version(object)));
        }
        let index = Index::default();
        index.apply(fold.updates(), fold.states());
        listed(&index)
    };
    for (why, object) in [
        ("another namespace", with(stored("1.1.0"), "/metadata/namespace", json!("evil"))),
        ("a bucket that is no name", with(stored("1.1.0"), "/status/storage/bucket", json!("modules/../x"))),
        (
            "an access point",
            with(stored("1.1.0"), "/status/storage/bucket", json!("arn:aws:s3:eu-west-1:1:accesspoint/x")),
        ),
        ("a region with dots", with(stored("1.1.0"), "/status/storage/region", json!("eu.evil.example"))),
        ("an empty segment", with(stored("1.1.0"), "/status/storage/key", json!("a//b.zip"))),
        ("another store", {
            let mut object = stored("1.1.0");
            object["status"]["storage"]["endpoint"] = json!("https://evil.example");
            object
        }),
    ] {
        let versions = vec![stored("1.0.0"), object];
        assert_eq!(everything(eks(&entries(&["1.0.0", "1.1.0"])), versions), ["1.0.0"], "{why}");
    }
}

#[test]
fn a_namespace_that_has_the_name_of_an_alias_is_not_served() {
    for (alias, expected) in [("acme=platform", &["1.0.0"][..]), ("platform=acme", &[])] {
        let mut fold = Fold::new(rules(), Aliases::new(&[alias.parse().unwrap()], &[]).unwrap());
        fold.module(WatchChange::Applied(module(eks(&entries(&["1.0.0"])))));
        fold.version(WatchChange::Applied(version(stored("1.0.0"))));
        let index = Index::default();
        index.apply(fold.updates(), fold.states());
        assert_eq!(listed(&index), expected, "{alias}");
    }
}

#[test]
fn suspended_and_failing_versions_stay_listed() {
    let mut object = stored("1.0.0");
    object["spec"]["suspend"] = json!(true);
    object["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "TagNotFound"}, {"type": "Stalled", "status": "True"}]);
    assert_eq!(listed(&index(vec![eks(&entries(&["1.0.0"]))], vec![object])), ["1.0.0"]);
}

#[test]
fn withdrawn_versions_are_kept_but_not_listed() {
    let versions = json!([
        {"version": "1.0.0"}, {"version": "1.1.0", "withdrawn": "CVE-2026-1"}, {"version": "1.2.0", "deprecated": "use 2.x"},
        {"version": "1.3.0", "withdrawn": "never stored"},
    ]);
    let index = index(vec![eks(&versions)], ["1.0.0", "1.1.0", "1.2.0"].map(stored).to_vec());
    assert_eq!(listed(&index), ["1.2.0", "1.0.0"]);
    let module = index.get(&"platform/eks/aws".parse().unwrap()).unwrap();
    let asked = |text: &str| match module.version(&Release::parse(text).unwrap()) {
        Some(Ok(version)) => version.deprecated.as_deref().unwrap_or("served").to_owned(),
        Some(Err(reason)) => format!("withdrawn: {reason}"),
        None => "unknown".to_owned(),
    };
    assert_eq!(
        ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"].map(asked),
        ["served", "withdrawn: CVE-2026-1", "use 2.x", "withdrawn: never stored", "unknown"]
    );
    let body = String::from_utf8_lossy(&module.listing.as_ref().unwrap().plain.body).into_owned();
    assert!(body.contains(r#"{"version":"1.2.0","deprecation":{"reason":"use 2.x"}}"#), "{body}");
    assert!(!body.contains("1.1.0"));
}

#[test]
fn a_module_is_withdrawn_only_if_it_lists_nothing_else_stored_or_not() {
    let live = |version: &str| json!({"version": version});
    let withdrawn = |version: &str| json!({"version": version, "withdrawn": version});
    for (listed, all_stored, expected) in [
        (json!([withdrawn("1.0.0"), withdrawn("1.1.0")]), &["1.0.0", "1.1.0"][..], Some("1.1.0")),
        (json!([withdrawn("1.0.0"), withdrawn("1.1.0")]), &["1.0.0"], Some("1.0.0")),
        (json!([withdrawn("1.0.0")]), &[], Some("1.0.0")),
        (json!([withdrawn("1.0.0"), live("1.1.0")]), &["1.0.0"], None),
        (json!([withdrawn("1.0.0"), live("1.1.0")]), &[], None),
        (json!([withdrawn("1.1.0"), live("1.0.0")]), &["1.0.0", "1.1.0"], None),
        (json!([]), &[], None),
    ] {
        let index = index(vec![eks(&listed)], all_stored.iter().map(|text| stored(text)).collect());
        let module = index.get(&"platform/eks/aws".parse().unwrap()).unwrap();
        assert_eq!(module.reason_of_withdrawal(), expected, "{listed} {all_stored:?}");
    }
}

#[test]
fn an_event_that_changes_nothing_served_updates_no_module() {
    let mut fold = Fold::new(rules(), Aliases::default());
    let eks = |deprecated: &str, resource_version: &str| {
        let mut object = eks(&json!([{"version": "1.0.0", "deprecated": deprecated}, {"version": "1.1.0"}]));
        object["metadata"]["resourceVersion"] = json!(resource_version);
        WatchChange::Applied(module(object))
    };
    let version = |text: &str, is_stored: bool, ready: &Value| {
        let mut object = with(stored(text), "/status/synced", json!(is_stored));
        object["status"]["conditions"] = json!([ready, {"type": "Reconciling", "status": "False"}]);
        version(object)
    };
    let ready = |seconds: usize| {
        let since = format!("2026-11-27T05:00:{seconds:02}Z");
        json!({"type": "Ready", "status": "True", "lastTransitionTime": since})
    };
    let failed = |message: &str| json!({"type": "Ready", "status": "False", "reason": "TagNotFound", "message": message});
    let listing = |fold: &mut Fold| {
        let updates = fold.updates();
        assert_eq!(updates.len(), 1);
        let served = updates[0].entry.as_ref().unwrap().served.as_ref().unwrap();
        Arc::clone(served.listing.as_ref().unwrap())
    };
    fold.module(eks("", "1"));
    fold.version(WatchChange::Applied(version("1.0.0", true, &ready(1))));
    fold.version(WatchChange::Applied(version("1.1.0", false, &failed("a"))));
    let first = listing(&mut fold);
    fold.module(eks("", "2"));
    fold.version(WatchChange::Applied(version("1.0.0", true, &ready(2))));
    let all = vec![version("1.0.0", true, &ready(3)), version("1.1.0", false, &failed("a"))];
    fold.version(WatchChange::Listed(None, all));
    assert!(fold.updates().is_empty());
    // The page shows these, but the list stays the same.
    fold.version(WatchChange::Applied(version("1.1.0", false, &failed("b"))));
    assert!(Arc::ptr_eq(&first, &listing(&mut fold)));
    fold.version(WatchChange::Applied(version("1.0.0", true, &failed("b"))));
    assert!(Arc::ptr_eq(&first, &listing(&mut fold)));
    fold.module(eks("use 1.1.0", "3"));
    assert_ne!(first, listing(&mut fold));
    fold.module(eks("", "4"));
    assert_eq!(first, listing(&mut fold));
    fold.version(WatchChange::Deleted(version("1.1.0", false, &failed("b"))));
    fold.version(WatchChange::Applied(version("1.1.0", true, &ready(4))));
    assert_ne!(first, listing(&mut fold));
}

#[test]
fn an_address_that_two_modules_hold_is_served_for_neither() {
    let mut other = eks(&entries(&["1.0.0"]));
    other["metadata"]["name"] = json!("other");
    other["metadata"]["uid"] = json!("u-other");
    other["spec"]["moduleConfig"]["name"] = json!("eks");
    let index = index(vec![eks(&entries(&["1.0.0"])), other], vec![stored("1.0.0")]);
    assert!(index.get(&"platform/eks/aws".parse().unwrap()).is_none());
}

#[tokio::test]
async fn a_request_waits_for_what_another_replica_has_listed() {
    let index = Arc::new(index(vec![], vec![]));
    let address = "platform/eks/aws".parse().unwrap();
    let found = |module: &Arc<ServedModule>| Some(module.versions.len());
    let start = std::time::Instant::now();
    assert_eq!(index.find(&address, found).await, None);
    assert!(start.elapsed() >= INDEX_WAIT, "{:?}", start.elapsed());
    let waiting = {
        let (index, address) = (Arc::clone(&index), Address::clone(&address));
        tokio::spawn(async move { index.find(&address, found).await })
    };
    tokio::task::yield_now().await;
    publish(&index);
    assert_eq!(waiting.await.unwrap(), Some(1));
}

/// Has the index serve the module `eks` with one version.
fn publish(index: &Index) {
    let mut fold = Fold::new(rules(), Aliases::default());
    fold.module(WatchChange::Applied(module(eks(&entries(&["1.0.0"])))));
    fold.version(WatchChange::Applied(version(stored("1.0.0"))));
    index.apply(fold.updates(), States::default());
}

#[tokio::test]
async fn many_clients_behind_one_address_wait_together() {
    let index = Arc::new(index(vec![], vec![]));
    let address: Address = "platform/eks/aws".parse().unwrap();
    let find = || {
        let (index, address) = (Arc::clone(&index), address.clone());
        tokio::spawn(async move {
            let look = || index.get(&address);
            index.find_unidentified(Peer::of([192, 0, 2, 1].into()), look).await.is_some()
        })
    };
    let waiting: Vec<_> = (0..20).map(|_| find()).collect();
    tokio::task::yield_now().await;
    assert_eq!(index.unidentified.free(), WAITING - 20);
    publish(&index);
    for waiting in waiting {
        assert!(waiting.await.unwrap());
    }
}

#[tokio::test]
async fn at_most_256_requests_wait_and_further_ones_do_not() {
    let index = Arc::new(index(vec![], vec![]));
    let address: Address = "platform/eks/aws".parse().unwrap();
    let find = || {
        let (index, address) = (Arc::clone(&index), address.clone());
        tokio::spawn(async move {
            let start = std::time::Instant::now();
            (index.find(&address, |module| Some(module.versions.len())).await, start.elapsed())
        })
    };
    let waiting: Vec<_> = (0..256).map(|_| find()).collect();
    while index.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let (found, took) = find().await.unwrap();
    assert!(found.is_none() && took < INDEX_WAIT / 2, "{took:?}");
    for waiting in waiting {
        let (found, took) = waiting.await.unwrap();
        assert!(found.is_none() && took >= INDEX_WAIT, "{took:?}");
    }
    assert_eq!(index.waiting.available_permits(), WAITING);
}

#[test]
fn modules_are_counted_by_state() {
    let mut fold = Fold::new(rules(), Aliases::new(&["acme=platform".parse().unwrap()], &[]).unwrap());
    let of = |namespace: &str, name: &str, change: &dyn Fn(&mut Value)| {
        let mut object = eks(&entries(&["1.0.0"]));
        object["metadata"] =
            json!({"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")});
        object["spec"]["moduleConfig"]["name"] = json!(name);
        object["status"]["address"] = json!(format!("{namespace}/{name}/aws"));
        change(&mut object);
        module(object)
    };
    let all = [
        of("platform", "a", &|_| {}),
        of("platform", "b", &|object| object["spec"]["moduleConfig"]["provider"] = json!("google-beta")),
        of("platform", "c", &|object| {
            object["status"] = json!({"conditions": [{"type": "Addressable", "reason": "AddressTaken"}]});
        }),
        of("platform", "d", &|object| object["status"] = json!({})),
        of("acme", "e", &|_| {}),
        of("platform", "f", &|object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-27T05:00:00Z");
        }),
    ];
    fold.module(WatchChange::Listed(None, all.to_vec()));
    let counted = |fold: &Fold| {
        let States { counts, shadowed } = fold.states();
        let names = ["served", "not_addressable", "address_taken", "waiting", "shadowed", "deleting"];
        (names.map(|name| counts[name]), shadowed)
    };
    assert_eq!(counted(&fold), ([1, 1, 1, 1, 1, 1], Some("acme".into())));
    fold.module(WatchChange::Deleted(all[4].clone()));
    fold.module(WatchChange::Applied(of("platform", "b", &|_| {})));
    assert_eq!(counted(&fold), ([2, 0, 1, 1, 0, 1], None));
}

#[test]
fn a_module_of_which_a_stored_version_may_not_be_read_is_counted_and_reported_once() {
    let mut fold = Fold::new(rules(), Aliases::default());
    fold.module(WatchChange::Applied(module(eks(&entries(&["1.0.0", "1.1.0", "1.2.0"])))));
    let moved = |text: &str| with(stored(text), "/status/storage/bucket", json!("moved"));
    // The version that a watch brings, whether that is reported, and how many Modules are served in full and in part.
    for (object, is_newly_limited, counts) in [
        (stored("1.0.0"), false, [1, 0]),
        (moved("1.0.0"), true, [0, 1]),
        (moved("1.1.0"), false, [0, 1]),
        (stored("1.0.0"), false, [0, 1]),
        (stored("1.1.0"), false, [1, 0]),
        // Not stored at all.
        (with(moved("1.2.0"), "/status/synced", json!(false)), false, [1, 0]),
        (moved("1.2.0"), true, [0, 1]),
    ] {
        let name = object["metadata"]["name"].clone();
        fold.version(WatchChange::Applied(version(object)));
        let reported: Vec<bool> = fold.updates().iter().map(|update| update.is_newly_limited).collect();
        let states = fold.states().counts;
        assert_eq!(
            (reported, ["served", "location_not_allowed"].map(|state| states[state])),
            (vec![is_newly_limited], counts),
            "{name}"
        );
    }
    fold.module(WatchChange::Deleted(module(eks(&entries(&[])))));
    assert!(fold.updates().iter().all(|update| update.entry.is_none()));
    assert!(fold.states().counts.values().all(|count| *count == 0), "{:?}", fold.states());
}

/// One event: which object, and what becomes of it.
#[derive(Clone, Debug)]
enum Step {
    Module { name: usize, entries: Vec<(usize, usize)>, address: usize, generation: usize },
    NoModule(usize),
    Version { module: usize, version: usize, stored: bool, generation: usize },
    NoVersion { module: usize, version: usize },
    ListModules(bool),
    ListVersions(bool),
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    let (name, version) = (0..4_usize, 0..4_usize);
    prop_oneof![
        3 => (name.clone(), prop::collection::vec((version.clone(), 0..3_usize), 0..4), 0..4_usize, 0..2_usize)
            .prop_map(|(name, entries, address, generation)| Step::Module { name, entries, address, generation }),
        1 => name.clone().prop_map(Step::NoModule),
        4 => (name.clone(), version.clone(), any::<bool>(), 0..2_usize)
            .prop_map(|(module, version, stored, generation)| Step::Version { module, version, stored, generation }),
        1 => (name, version).prop_map(|(module, version)| Step::NoVersion { module, version }),
        1 => any::<bool>().prop_map(Step::ListModules),
        1 => any::<bool>().prop_map(Step::ListVersions),
        2 => Just(Step::Publish),
    ]
}

/// The last Module is in a namespace that an alias shadows.
fn namespace(name: usize) -> &'static str {
    if name == 3 { "acme" } else { "platform" }
}

/// A Module that claims its own name (address 0), the same name as all others (1), and holds none (2) or another (3).
fn module_object(name: usize, entries: &[(usize, usize)], address: usize, generation: usize) -> Value {
    let notice = ["other", "deprecated", "withdrawn"];
    let all: Vec<Value> = entries
        .iter()
        .map(|(version, kind)| json!({"version": format!("1.{version}.0"), notice[*kind]: "text"}))
        .collect();
    let namespace = namespace(name);
    let claimed = if address == 1 { "same".to_owned() } else { format!("m{name}") };
    let held = match address {
        0 | 1 => format!("{namespace}/{claimed}/aws"),
        2 => String::new(),
        _ => format!("{namespace}/other/aws"),
    };
    json!({
        "metadata": {"namespace": namespace, "name": format!("m{name}"), "uid": format!("u{name}-{generation}")},
        "spec": {"moduleConfig": {"name": claimed, "provider": "aws"}, "versions": all},
        "status": {"address": held},
    })
}

fn version_of(module: usize, number: usize, is_stored: bool, generation: usize) -> Value {
    let text = format!("1.{number}.0");
    let name = version_object(&format!("m{module}"), &Release::parse(&text).unwrap());
    let object = with(stored(&text), "/metadata/name", json!(name));
    let object = with(object, "/metadata/namespace", json!(namespace(module)));
    let object = with(object, "/metadata/ownerReferences/0/uid", json!(format!("u{module}-{generation}")));
    let object =
        with(object, "/status/checksum", json!(STANDARD.encode([b'0' + u8::from(generation > 0); 32])));
    with(object, "/status/synced", json!(is_stored))
}

fn aliased() -> Fold {
    let rules = StorageRules::new(vec!["*=modules".parse().unwrap()], Vec::new(), None);
    Fold::new(rules, Aliases::new(&["acme=platform".parse().unwrap()], &[]).unwrap())
}

/// Everything that answers are made of.
fn summary(index: &Index) -> Vec<String> {
    let mut all: Vec<String> = index.entries().iter().map(|entry| format!("{entry:?}")).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn any_order_of_events_leads_to_the_index_of_a_fresh_list(steps in prop::collection::vec(step(), 1..60)) {
        let mut fold = aliased();
        let index = Index::default();
        let (mut modules, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Module { name, entries, address, generation } => {
                    let object = module_object(name, &entries, address, generation);
                    fold.module(WatchChange::Applied(module(object.clone())));
                    modules.insert(name, object);
                }
                Step::NoModule(name) => {
                    if let Some(object) = modules.remove(&name) {
                        fold.module(WatchChange::Deleted(module(object)));
                    }
                }
                Step::Version { module, version: number, stored, generation } => {
                    let object = version_of(module, number, stored, generation);
                    fold.version(WatchChange::Applied(version(object.clone())));
                    versions.insert((module, number), object);
                }
                Step::NoVersion { module, version: number } => {
                    if let Some(object) = versions.remove(&(module, number)) {
                        fold.version(WatchChange::Deleted(version(object)));
                    }
                }
                // As after an expired watch: what happened in between is in the list alone. The other scope is not touched.
                Step::ListModules(all) => {
                    modules.remove(&0);
                    let scope = (!all).then(|| Box::from("platform"));
                    let listed = modules.iter().filter(|(name, _)| all || namespace(**name) == "platform");
                    let listed = listed.map(|(_, object)| module(object.clone())).collect();
                    fold.module(WatchChange::Listed(scope, listed));
                }
                Step::ListVersions(all) => {
                    versions.remove(&(1, 1));
                    let scope = (!all).then(|| Box::from("platform"));
                    let listed = versions.iter().filter(|((name, _), _)| all || namespace(*name) == "platform");
                    let listed = listed.map(|(_, object)| version(object.clone())).collect();
                    fold.version(WatchChange::Listed(scope, listed));
                }
                Step::Publish => index.apply(fold.updates(), fold.states()),
            }
        }
        index.apply(fold.updates(), fold.states());
        let (mut fresh, fresh_index) = (aliased(), Index::default());
        fresh.version(WatchChange::Listed(None, versions.into_values().map(version).collect()));
        fresh.module(WatchChange::Listed(None, modules.into_values().map(module).collect()));
        fresh_index.apply(fresh.updates(), fresh.states());
        prop_assert_eq!(summary(&index), summary(&fresh_index));
        prop_assert_eq!(fold.states(), fresh.states());
    }
}

#[test]
fn waits_without_an_identity_have_a_limit_in_all_and_one_for_each_client() {
    let waits = Index::default().unidentified;
    let peer = |number: usize| Peer::of([192, 0, 2, u8::try_from(number).unwrap()].into());
    let begin = |number: usize| waits.try_acquire(hash_of(peer(number)));
    let mut held: Vec<_> = (0..PER_PEER).map(|_| begin(0).unwrap()).collect();
    assert!(begin(0).is_none());
    held.pop();
    assert!(begin(0).is_some(), "one has ended");
    held.extend((PER_PEER - 1..WAITING).map(|number| begin(number / PER_PEER + 1).unwrap()));
    assert!(begin(200).is_none(), "so many wait in all");
    held.clear();
    assert_eq!(waits.free(), WAITING);
}
