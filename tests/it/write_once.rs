//! An object is written once: no PUT replaces other content, and what changes while an archive is fetched or S3 is slow
//! stops the PUT or DELETE that it makes wrong. Each test looks into the bucket.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use kube::api::{DeleteParams, PostParams};
use opendepot::api::{Module, Version};
use opendepot_testbed::github::{Failure, Fault, File, Hop, Repository};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::archives::{sha256, tree};
use crate::support::failing::Then::Stalled;
use crate::support::requests::{digest_of, main_tf, message};
use crate::support::{World, condition, key, ready, soon};

const FIRST: &str = "# v1.0.0\n";
const MOVED: &str = "# moved\n";

/// From now on, no archive of a repository comes before [`let_archives_come`].
fn hold_archives(world: &World, name: &str) {
    world.bed.github.inject(Fault::on(&world.repository(name), Failure::Hold).at(Hop::Codeload));
}

fn let_archives_come(world: &World, name: &str) {
    world.bed.github.clear_faults(&world.repository(name)).unwrap();
}

/// Holds PUTs until the bucket's faults are cleared.
fn hold_puts(world: &World) {
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hold).method(Method::PUT));
}

/// A merge patch that does not wait for a kubectl to start.
pub(crate) async fn patch<K: kube::Resource<DynamicType = ()>>(world: &World, name: &str, change: &Value) {
    let params = kube::api::PatchParams::default();
    world.api::<K>().patch(name, &params, &kube::api::Patch::Merge(change)).await.unwrap();
}

/// Deletes Versions, all at once, and does not wait for a kubectl to start.
pub(crate) async fn delete_versions(world: &World, names: &[String]) {
    let (api, params) = (world.api::<Version>(), DeleteParams::default());
    for deleted in join_all(names.iter().map(|name| api.delete(name, &params))).await {
        deleted.unwrap();
    }
}

/// Waits until the operator has heard of all changes of Versions so far: the watch keeps their order.
async fn all_heard(world: &World) {
    let mut last = world.inline("last");
    last["spec"]["suspend"] = json!(true);
    let last = serde_json::from_value(last).unwrap();
    world.api::<Version>().create(&PostParams::default(), &last).await.unwrap();
    world.version_when("last", |v| condition(v, "Ready")["reason"] == "Suspended").await;
}

/// Waits until an archive is asked for.
async fn fetching(world: &World, name: &str) {
    let asked = || world.bed.github.requests(&world.repository(name)).unwrap();
    world.until("a fetch", || asked().iter().any(|r| r.hop == Hop::Codeload)).await;
}

/// The keys in the bucket that begin so.
async fn keys(world: &World, prefix: &str) -> Vec<String> {
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    keys.into_iter().filter(|key| key.starts_with(prefix)).collect()
}

/// Waits until the bucket has just this Version's object below its name, with the checksum that the status gives.
async fn alone(world: &World, version: &Value, prefix: &str) {
    let one = || async {
        let there = keys(world, prefix).await;
        anyhow::ensure!(there == [key(version)], "the bucket holds {there:?}");
        Ok(())
    };
    soon(one).await;
    assert_eq!(version["status"]["checksum"], sha256(&world.stored(version).await));
}

/// Waits until a Version does not exist.
pub(crate) async fn gone(world: &World, name: &str) {
    let gone = || async {
        anyhow::ensure!(world.get_version(name).await?.is_none(), "{name} is still there");
        Ok(())
    };
    soon(gone).await;
}

/// Puts an object as this Version of this namespace would label it.
async fn put_as(world: &World, version: &str, key: &str, bytes: &[u8]) {
    let put = world.bed.s3.client().put_object().bucket(&world.name).key(key);
    let put = put.metadata("opendepot-namespace", &world.name).metadata("opendepot-version-name", version);
    put.checksum_sha256(sha256(bytes)).body(bytes.to_vec().into()).send().await.unwrap();
}

#[tokio::test]
async fn immutable_off_force_and_on_in_a_row_lose_nothing_while_the_download_is_slow() {
    let world = World::new("once-pinned").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    let forced = json!({"spec": {"forceSync": true}});
    let immutable = |on: bool| json!({"spec": {"moduleConfig": {"immutable": on}}});
    world.apply(&world.module("mod").config("immutable", json!(true)).versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    let before = world.version_ready("mod-1.0.0").await;
    let bytes = world.stored(&before).await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    hold_archives(&world, "mod");
    world.count_from_now("mod");

    let heard = |on: bool| move |v: &Value| v["spec"]["moduleConfigRef"]["immutable"] == on;
    patch::<Module>(&world, "mod", &immutable(false)).await;
    world.version_when("mod-1.0.0", heard(false)).await;
    patch::<Version>(&world, "mod-1.0.0", &forced).await;
    fetching(&world, "mod").await;
    patch::<Module>(&world, "mod", &immutable(true)).await;
    world.version_when("mod-1.0.0", heard(true)).await;
    let_archives_come(&world, "mod");

    let changed = |v: &Value| condition(v, "Ready")["reason"] == "ImmutableContentChanged";
    let refused = world.version_when("mod-1.0.0", changed).await;
    assert!(message(&refused).contains("The stored object is unchanged"), "{}", message(&refused));
    world.version_reset("mod-1.0.0").await;
    let after = world.version_when("mod-1.0.0", changed).await;
    for field in ["synced", "checksum", "contentDigest", "storage", "objects"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    assert!(world.stored(&after).await == bytes, "other bytes");
    alone(&world, &after, "mod/").await;
    assert_eq!(world.sent(""), 0, "nothing was sent");
}

#[tokio::test]
async fn what_changes_while_an_archive_is_fetched_stops_the_put_that_it_makes_wrong() {
    let world = World::new("once-during").await;
    let _operator = world.operator_with(&["--max-fetches", "8"]).await;
    let names = ["paused", "halted", "elsewhere", "deleted", "packed"];
    let mut before = Vec::new();
    for name in names {
        let repository = world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
        before.push((name, repository));
    }
    let mut first = Vec::new();
    for (name, repository) in &before {
        world.module_ready(name).await;
        first.push(world.version_ready(&format!("{name}-1.0.0")).await);
        repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
        hold_archives(&world, name);
        world.bed.github.forget_requests(&repository.name()).unwrap();
    }
    world.bed.s3.forget_requests(&world.name);
    for name in names {
        patch::<Version>(&world, &format!("{name}-1.0.0"), &json!({"spec": {"forceSync": true}})).await;
    }
    for name in names {
        fetching(&world, name).await;
    }
    patch::<Module>(&world, "paused", &json!({"spec": {"suspend": true}})).await;
    patch::<Version>(&world, "halted-1.0.0", &json!({"spec": {"suspend": true}})).await;
    let place = json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"key": "there"}}}}});
    patch::<Module>(&world, "elsewhere", &place).await;
    let tar = json!({"spec": {"moduleConfig": {"fileFormat": "tar"}}});
    patch::<Module>(&world, "packed", &tar).await;
    world.api::<Module>().delete("deleted", &DeleteParams::default()).await.unwrap();
    // The archives come when the Versions have what their Modules were given.
    world.version_when("paused-1.0.0", |v| v["spec"]["moduleSuspended"] == true).await;
    let config = |v: &Value| v["spec"]["moduleConfigRef"].clone();
    world.version_when("elsewhere-1.0.0", |v| config(v)["storageConfig"]["s3"]["key"] == "there").await;
    world.version_when("packed-1.0.0", |v| config(v)["fileFormat"] == "tar").await;
    let going = || async {
        let deleted = world.get_version("deleted-1.0.0").await?;
        let hears = deleted.is_none_or(|v| v["metadata"]["deletionTimestamp"].is_string());
        anyhow::ensure!(hears, "its Module's deletion has not reached it");
        Ok(())
    };
    soon(going).await;
    for name in names {
        let_archives_come(&world, name);
    }

    // Suspended: the object stays, and the status is true of it.
    for (at, name) in [(0, "paused"), (1, "halted")] {
        let suspended = |v: &Value| condition(v, "Ready")["reason"] == "Suspended";
        let version = world.version_when(&format!("{name}-1.0.0"), suspended).await;
        for field in ["synced", "checksum", "contentDigest", "storage", "objects"] {
            assert_eq!(version["status"][field], first[at]["status"][field], "{name}: {field}");
        }
        alone(&world, &version, &format!("{name}/")).await;
        assert_eq!(world.sent(&format!("{name}/")), 0, "{name}: nothing was sent");
    }
    gone(&world, "deleted-1.0.0").await;
    assert_eq!((world.sent("deleted/"), keys(&world, "deleted/").await.len()), (0, 0));
    // Another place or format: just the new object, stored once.
    for (name, prefix) in [("elsewhere", "there/elsewhere/"), ("packed", "packed/")] {
        let there = |v: &Value| ready(v) && v["status"]["contentDigest"] == digest_of(MOVED);
        let version = world.version_when(&format!("{name}-1.0.0"), there).await;
        alone(&world, &version, prefix).await;
        let (all, here) = (world.sent(&format!("{name}/")), world.sent(prefix));
        assert_eq!((all.max(here), here), (1, 1), "{name}");
    }
    assert!(keys(&world, "elsewhere/").await.is_empty());
    // And the suspended ones follow when they are resumed.
    world.patch("module/paused", &json!({"spec": {"suspend": false}}));
    world.patch("version/halted-1.0.0", &json!({"spec": {"suspend": false}}));
    for name in ["paused", "halted"] {
        let there = |v: &Value| ready(v) && v["status"]["contentDigest"] == digest_of(MOVED);
        alone(&world, &world.version_when(&format!("{name}-1.0.0"), there).await, &format!("{name}/")).await;
    }
}

#[tokio::test]
async fn new_content_gets_its_own_key_with_two_writes_more_old_object_last() {
    let world = World::new("once-replaced").await;
    let _operator = world.operator().await;
    let readable = |policy: &str| {
        let config = world.module("net").config("deletionPolicy", json!(policy));
        let mut version = world.inline_of(&format!("net-{}", policy.to_lowercase()), &config);
        version["spec"]["fileName"] = json!("net-1.0.0.zip");
        version["spec"]["moduleConfigRef"]["name"] = json!(policy.to_lowercase());
        version
    };
    let repositories = [world.tagged("mod", &["v1.0.0"]), world.tagged("net", &["v1.0.0"])];
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    for policy in ["Delete", "Retain"] {
        world.apply(&readable(policy));
    }
    world.module_ready("mod").await;
    let cases = [("mod-1.0.0", "mod/"), ("net-delete", "delete/"), ("net-retain", "retain/")];
    for (name, _) in cases {
        world.version_ready(name).await;
    }
    for (name, prefix) in cases {
        let before = world.version_ready(name).await;
        for repository in &repositories {
            repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
        }
        world.bed.s3.forget_requests(&world.name);
        let mut after = Value::Null;
        let writes = world
            .writes_during(async {
                world.force(&format!("version/{name}"));
                world.version_reset(name).await;
                after = world.version_ready(name).await;
            })
            .await;
        let writes: Vec<_> = writes.iter().filter(|w| w.resource == "versions" && w.name == name).collect();
        assert_eq!(writes.len(), 5, "a forced sync is three: {writes:#?}");
        assert_eq!(after["status"]["contentDigest"], digest_of(MOVED), "{name}");
        assert_ne!(key(&after), key(&before), "{name}: a key of its own");
        assert!(key(&after).ends_with(after["spec"]["fileName"].as_str().unwrap()), "{name}");
        assert_eq!(after["status"]["objects"], json!([after["status"]["storage"]]), "{name}");
        let log = world.bed.s3.requests(&world.name);
        let steps: Vec<_> = log.iter().filter(|r| r.key.starts_with(prefix)).collect();
        let stored = steps.iter().position(|r| r.method == Method::PUT).unwrap();
        assert_eq!(steps[stored].key, key(&after), "{name}");
        assert_eq!((steps[stored + 1].method.clone(), &steps[stored + 1].key), (Method::HEAD, &key(&after)));
        let deleted: Vec<_> = steps.iter().skip(stored + 2).filter(|r| r.method == Method::DELETE).collect();
        assert_eq!(world.sent(prefix), 1, "{name}");
        let notes = world.events(name, "ContentReplaced").await;
        assert!(notes[0].contains(&digest_of(FIRST)) && notes[0].contains(&digest_of(MOVED)), "{notes:?}");
        if name == "net-retain" {
            assert!(deleted.is_empty(), "{deleted:#?}");
            let mut both = vec![key(&before), key(&after)];
            both.sort();
            assert_eq!(keys(&world, prefix).await, both);
            let old = world.bed.s3.get(&world.name, &key(&before)).await.unwrap();
            assert_eq!(before["status"]["checksum"], sha256(&old), "the old object is as it was");
            assert_eq!(after["status"]["checksum"], sha256(&world.stored(&after).await));
        } else {
            assert_eq!(deleted.iter().map(|r| &r.key).collect::<Vec<_>>(), [&key(&before)], "{name}");
            alone(&world, &after, prefix).await;
        }
        for repository in &repositories {
            repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
        }
    }
    // The Module does not mind the new file name, and takes nothing back.
    world.module_ready("mod").await;
    let writes = world.writes_during(async { world.apply(&world.module("mod").versions(&["v1.0.0"])) }).await;
    assert!(writes.is_empty(), "{writes:#?}");
}

/// A point of a replacement at which the operator can be stopped.
#[derive(Clone, Copy, Debug)]
enum Point {
    Fetch,
    Put,
    PutDone,
    Verify,
    LookBack,
    DeleteDone,
}

#[tokio::test]
async fn a_crash_at_any_point_of_a_replacement_leaves_one_object_and_no_lie() {
    let world = World::new("once-crash").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    let s3 = &world.bed.s3;
    for point in [Point::Fetch, Point::Put, Point::PutDone, Point::Verify, Point::LookBack, Point::DeleteDone]
    {
        let before = world.version_ready("mod-1.0.0").await;
        let text = format!("# {point:?}\n");
        repository.release("v1.0.0", &main_tf(&text)).unwrap();
        world.count_from_now("mod");
        let fault = |failure, method: Method| S3Fault::new(&world.name, failure).method(method);
        match point {
            Point::Fetch => {
                world.bed.github.inject(Fault::on(&repository.name(), Failure::Hang).at(Hop::Codeload));
            }
            Point::Put => s3.inject(fault(S3Failure::Hang, Method::PUT)),
            Point::PutDone => s3.inject(fault(S3Failure::HangAfter, Method::PUT)),
            // The first look is at the old place.
            Point::Verify => s3.inject(fault(S3Failure::Hang, Method::HEAD).after(1)),
            Point::LookBack => s3.inject(fault(S3Failure::Hang, Method::HEAD).after(2)),
            Point::DeleteDone => s3.inject(fault(S3Failure::HangAfter, Method::DELETE)),
        }
        world.force("version/mod-1.0.0");
        match point {
            Point::Fetch => fetching(&world, "mod").await,
            Point::Put => world.until("a PUT", || world.sent("") > 0).await,
            Point::PutDone => drop(world.objects_are(2).await),
            Point::Verify => world.until("a look", || world.counts("mod").heads > 1).await,
            Point::LookBack => world.until("a look back", || world.counts("mod").heads > 2).await,
            Point::DeleteDone => world.until("a DELETE", || world.counts("mod").deletes > 0).await,
        }
        operator.kill().await.unwrap();
        // Whatever the status says at this moment is so.
        let between = world.get_version("mod-1.0.0").await.unwrap().unwrap();
        if between["status"]["synced"] == true {
            assert_eq!(between["status"]["checksum"], sha256(&world.stored(&between).await), "{point:?}");
        }
        let old = s3.get(&world.name, &key(&before)).await;
        let old = old.ok().map(|bytes| json!(sha256(&bytes)));
        assert!(old.is_none_or(|sum| sum == before["status"]["checksum"]), "{point:?}: it was replaced");
        world.bed.github.clear_faults(&repository.name()).unwrap();
        s3.clear_faults(&world.name);
        operator.restart().await.unwrap();
        world.version_reset("mod-1.0.0").await;
        let there = |v: &Value| ready(v) && v["status"]["contentDigest"] == digest_of(&text);
        let after = world.version_when("mod-1.0.0", there).await;
        alone(&world, &after, "mod/").await;
        assert_eq!(after["status"]["objects"], json!([after["status"]["storage"]]), "{point:?}");
        let repeated = usize::from(matches!(point, Point::Put));
        assert_eq!(world.served("mod"), 1 + repeated, "{point:?}");
    }
}

#[tokio::test]
async fn retain_that_is_set_while_s3_is_slow_still_keeps_the_object() {
    let world = World::new("once-retain").await;
    let _operator = world.operator().await;
    let late = |name: &str| {
        let head = S3Fault::new(&world.name, S3Failure::Hold).method(Method::HEAD);
        world.bed.s3.inject(head.prefix(&format!("{name}/")));
    };
    for name in ["going", "moving"] {
        world.tagged(name, &["v1.0.0"]);
        world.apply(&world.inline(name));
    }
    world.tagged("owned", &["v1.0.0"]);
    world.apply(&world.module("owned").versions(&["v1.0.0"]));
    world.module_ready("owned").await;
    let [going, moving] = [world.version_ready("going").await, world.version_ready("moving").await];
    let owned = world.version_ready("owned-1.0.0").await;
    let retain = json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}});
    world.bed.s3.forget_requests(&world.name);
    late("going");
    late("moving");
    late("owned");
    world.kubectl(&["delete", "version", "going", "owned-1.0.0", "--wait=false"]);
    let place = json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"key": "there"}}}}});
    patch::<Version>(&world, "moving", &place).await;
    for name in ["going", "moving"] {
        // The look before the DELETE; the new place is another prefix.
        world.until("a look", || world.counts_below("mod", &format!("{name}/")).heads > 0).await;
        patch::<Version>(&world, name, &retain).await;
    }
    world.until("a look", || world.counts_below("mod", "owned/").heads > 0).await;
    patch::<Module>(&world, "owned", &json!({"spec": {"moduleConfig": {"deletionPolicy": "Retain"}}})).await;
    // S3 answers once the operator knows the Module's policy.
    world.module_when("owned", |m| m["status"]["observedGeneration"] == m["metadata"]["generation"]).await;
    world.bed.s3.clear_faults(&world.name);
    gone(&world, "going").await;
    // Its Module makes it again, under another key.
    world.version_when("owned-1.0.0", |v| v["metadata"]["uid"] != owned["metadata"]["uid"]).await;
    let moved = world.version_ready("moving").await;
    assert_eq!(moved["status"]["objects"], json!([moved["status"]["storage"]]));
    assert_eq!(world.counts("mod").deletes, 0);
    for version in [going, moving, owned] {
        let bytes = world.bed.s3.get(&world.name, &key(&version)).await.unwrap();
        assert_eq!(version["status"]["checksum"], sha256(&bytes));
    }
}

#[tokio::test]
async fn a_delete_that_s3_does_not_answer_is_not_repeated_once_retain_is_set() {
    let world = World::new("once-hung").await;
    let _operator = world.operator().await;
    world.tagged("mod", &["v1.0.0"]);
    world.apply(&world.inline("mod"));
    let stored = world.version_ready("mod").await;
    let delete = S3Fault::new(&world.name, S3Failure::Hang).method(Method::DELETE);
    world.bed.s3.inject(delete.times(1));
    world.kubectl(&["delete", "version", "mod", "--wait=false"]);
    world.until("a DELETE", || world.counts("mod").deletes > 0).await;
    // S3 would carry out the next one.
    let retain = json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}});
    patch::<Version>(&world, "mod", &retain).await;
    gone(&world, "mod").await;
    assert_eq!(world.counts("mod").deletes, 1);
    let bytes = world.bed.s3.get(&world.name, &key(&stored)).await.unwrap();
    assert_eq!(stored["status"]["checksum"], sha256(&bytes));
}

#[tokio::test]
async fn an_object_that_appears_before_the_put_is_taken_avoided_or_left_alone() {
    let world = World::new("once-412").await;
    let _operator = world.operator().await;
    // The same tag gives the same bytes.
    world.tagged("mod", &["v1.0.0"]);
    let of_mod = |name: &str| {
        let url = format!("https://github.com/{}", world.repository("mod"));
        world.inline_of(name, &world.module(name).config("repoUrl", json!(url)))
    };
    world.apply(&of_mod("donor"));
    let donor = world.version_ready("donor").await;
    let bytes = world.stored(&donor).await;
    hold_archives(&world, "mod");
    let names = ["same", "other", "foreign"];
    let mut keys_of = Vec::new();
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": names.map(of_mod)}));
    for name in names {
        let recorded = |v: &Value| v["status"]["objects"][0]["key"].is_string();
        let version = world.version_when(name, recorded).await;
        keys_of.push(version["status"]["objects"][0]["key"].as_str().unwrap().to_owned());
    }
    put_as(&world, "same", &keys_of[0], &bytes).await;
    put_as(&world, "other", &keys_of[1], b"what an earlier attempt stored").await;
    world.bed.s3.put(&world.name, &keys_of[2], "a user's only copy").await.unwrap();
    let_archives_come(&world, "mod");

    let same = world.version_ready("same").await;
    assert_eq!((key(&same), &same["status"]["checksum"]), (keys_of[0].clone(), &donor["status"]["checksum"]));
    alone(&world, &same, "same/").await;
    let other = world.version_ready("other").await;
    assert_ne!(key(&other), keys_of[1], "a key of its own");
    assert_eq!(other["status"]["checksum"], donor["status"]["checksum"]);
    alone(&world, &other, "other/").await;
    let at = format!("s3://{}/{}", world.name, keys_of[2]);
    world.failed("foreign", "ObjectNotOurs", Stalled, &[&at, "was not stored by OpenDepot"]).await;
    assert_eq!(world.bed.s3.get(&world.name, &keys_of[2]).await.unwrap(), b"a user's only copy");
    let puts = world.bed.s3.requests(&world.name).into_iter().filter(|r| r.method == Method::PUT);
    let refused =
        puts.filter(|r| r.status == Some(412)).map(|r| r.key).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(refused, keys_of.iter().cloned().collect(), "each was refused at its first place");
}

#[tokio::test]
async fn what_s3_shows_after_a_put_decides_and_a_status_never_claims_what_is_not_there() {
    let world = World::new("once-verify").await;
    let _operator = world.operator().await;
    let s3 = &world.bed.s3;
    for name in ["new", "forced", "copied"] {
        world.tagged(name, &["v1.0.0"]);
    }
    world.apply(&world.inline("forced"));
    world.apply(&world.inline("copied"));
    let [forced, copied] = [world.version_ready("forced").await, world.version_ready("copied").await];

    // Overwritten between the PUT and the look that follows.
    s3.forget_requests(&world.name);
    for (name, spared, looks) in [("new", 1, 2), ("forced", 2, 3)] {
        let prefix = format!("{name}/");
        let head = S3Fault::new(&world.name, S3Failure::Hold).method(Method::HEAD).prefix(&prefix);
        s3.inject(head.after(spared));
        if name == "new" {
            world.apply(&world.inline(name));
        } else {
            world.force("version/forced");
        }
        // A look that is held for long is repeated.
        world.until("the last look", || world.counts_below("mod", &prefix).heads >= looks).await;
        let key = keys(&world, &prefix).await.remove(0);
        put_as(&world, name, &key, b"cut").await;
        s3.clear_faults(&world.name);
        let mismatch = |v: &Value| condition(v, "Ready")["reason"] == "ChecksumMismatch";
        let failed = world.version_when(name, mismatch).await;
        assert_eq!(failed["status"]["synced"], false, "{name}: {:#}", failed["status"]);
    }
    for name in ["new", "forced"] {
        alone(&world, &world.version_ready(name).await, &format!("{name}/")).await;
    }
    assert_eq!(key(&world.version_ready("forced").await), key(&forced), "restored in its place");

    // Another's object at the recorded key: it stays, and is not taken for this Version's.
    put_as(&world, "another", &key(&copied), b"another's").await;
    world.force("version/copied");
    let failed = |v: &Value| condition(v, "Ready")["reason"] == "ObjectNotOurs";
    let failed = world.version_when("copied", failed).await;
    assert_eq!(failed["status"]["synced"], false, "{:#}", failed["status"]);
    assert_eq!(s3.get(&world.name, &key(&copied)).await.unwrap(), b"another's");
}

#[tokio::test]
async fn an_object_without_label_in_another_store_is_not_ours() {
    let world = World::new("once-store").await;
    let there = world.bed.s3.another("us-west-2").await.unwrap();
    there.create_bucket(&world.name).await.unwrap();
    let _operator = world.operator_with(&["--s3-endpoint", &there.endpoint()]).await;
    world.tagged("net", &["v1.0.0"]);
    let mut version = world.inline("net");
    version["spec"]["fileName"] = json!("net-1.0.0.zip");
    world.apply(&version);
    let here = world.version_ready("net").await;
    there.put(&world.name, &key(&here), "a user's only copy").await.unwrap();
    let endpoint = json!({"storageConfig": {"s3": {"endpoint": there.endpoint()}}});
    world.patch("version/net", &json!({"spec": {"moduleConfigRef": endpoint}}));
    world.version_when("net", |v| condition(v, "Ready")["reason"] == "ObjectNotOurs").await;
    world.kubectl(&["delete", "version", "net"]);
    gone(&world, "net").await;
    assert_eq!(there.get(&world.name, &key(&here)).await.unwrap(), b"a user's only copy");
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), [""; 0]);
}

/// Moves the tag to a commit that differs in who may execute `run.sh`, and in nothing else.
fn with_mode(repository: &Repository, executable: bool) {
    let text = "#!/bin/sh\n";
    let script = if executable { File::executable("run.sh", text) } else { File::new("run.sh", text) };
    repository.release("v1.0.0", &[File::new("main.tf", FIRST), script]).unwrap();
}

#[tokio::test]
async fn a_moved_tag_that_changes_only_an_execute_bit_is_other_content() {
    let world = World::new("once-mode").await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    with_mode(&repository, false);
    let _operator = world.operator().await;
    let of = |name: &str| world.module(name).config("repoUrl", json!(repository.url())).versions(&["v1.0.0"]);
    world.apply(&of("pinned").config("immutable", json!(true)));
    world.apply(&of("free"));
    world.module_ready("pinned").await;
    let (pinned, free) = (world.version_ready("pinned-1.0.0").await, world.version_ready("free-1.0.0").await);
    let bytes = world.stored(&pinned).await;
    with_mode(&repository, true);
    world.count_from_now("mod");
    let changed = |v: &Value| {
        let ready = condition(v, "Ready");
        let stalled = condition(v, "Stalled")["status"] == "True";
        stalled && ready["reason"] == "ImmutableContentChanged" && v["spec"]["forceSync"] != true
    };
    world.force("version/pinned-1.0.0");
    let refused = world.version_when("pinned-1.0.0", changed).await;
    for word in
        ["executable", "The stored object is unchanged", pinned["status"]["checksum"].as_str().unwrap()]
    {
        assert!(message(&refused).contains(word), "{word:?} is not in: {}", message(&refused));
    }
    assert_eq!(refused["status"]["synced"], true);
    alone(&world, &refused, "pinned/").await;
    assert!(world.stored(&refused).await == bytes, "other bytes");

    // Nor by another place in the same format, nor by a restore.
    world.apply(&of("pinned").config("immutable", json!(true)).s3("key", json!("there")));
    world
        .version_when("pinned-1.0.0", |v| {
            changed(v) && v["spec"]["moduleConfigRef"]["storageConfig"]["s3"]["key"] == "there"
        })
        .await;
    world.apply(&of("pinned").config("immutable", json!(true)).s3("key", Value::Null));
    world.bed.s3.delete(&world.name, &key(&pinned)).await.unwrap();
    world.request("version/pinned-1.0.0", "lost");
    let lost = world
        .version_when("pinned-1.0.0", |v| changed(v) && v["status"]["lastHandledRequest"] == "lost")
        .await;
    assert!(keys(&world, "pinned/").await.is_empty() && keys(&world, "there/").await.is_empty());
    drop(lost);

    // Without `immutable` it is new content.
    world.force("version/free-1.0.0");
    world.version_reset("free-1.0.0").await;
    let after = world.version_ready("free-1.0.0").await;
    assert_ne!(key(&after), key(&free));
    assert_eq!(after["status"]["contentDigest"], free["status"]["contentDigest"]);
    alone(&world, &after, "free/").await;
    assert!(tree(&world.stored(&after).await)["run.sh"].0, "it is executable now");
    let notes = world.events("free-1.0.0", "ContentReplaced").await;
    assert!(notes[0].contains("execut"), "{notes:?}");
}

#[tokio::test]
async fn a_deletion_that_is_refused_at_one_of_two_places_strikes_the_other() {
    let world = World::new("once-struck").await;
    let other = format!("{}-other", world.name);
    world.bed.s3.create_bucket(&other).await.unwrap();
    let _operator = world.operator().await;
    world.tagged("net", &["v1.0.0"]);
    world.apply(&world.inline("net"));
    let before = world.version_ready("net").await;
    let denied = S3Failure::Answer(403, "AccessDenied");
    world.bed.s3.inject(S3Fault::new(&world.name, denied).method(Method::DELETE));
    world.apply(&world.inline_of("net", &world.module("net").s3("bucket", json!(other))));
    world.version_fails("net", "OldObjectKept").await;
    world.kubectl(&["delete", "version", "net", "--wait=false"]);
    let message = world.version_fails("net", "StorageAccessDenied").await;
    assert!(message.contains("leave the object in the bucket, set deletionPolicy: Retain. "), "{message}");
    let stuck = world.get_version("net").await.unwrap().unwrap();
    assert_eq!(stuck["status"]["objects"], json!([before["status"]["storage"]]), "what is left to delete");
    assert_eq!(world.bed.s3.keys(&other).await.unwrap(), [""; 0]);
    world.bed.s3.clear_faults(&world.name);
    gone(&world, "net").await;
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn immutable_that_is_turned_on_during_the_put_keeps_what_was_published() {
    let world = World::new("once-put").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    let before = world.version_ready("mod-1.0.0").await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    hold_puts(&world);
    world.count_from_now("mod");
    patch::<Version>(&world, "mod-1.0.0", &json!({"spec": {"forceSync": true}})).await;
    world.until("a PUT", || world.sent("") > 0).await;
    patch::<Module>(&world, "mod", &json!({"spec": {"moduleConfig": {"immutable": true}}})).await;
    world.version_when("mod-1.0.0", |v| v["spec"]["moduleConfigRef"]["immutable"] == true).await;
    all_heard(&world).await;
    world.bed.s3.clear_faults(&world.name);

    // What was stored for the older spec is not said of the newer one, and takes nothing along.
    let changed = |v: &Value| condition(v, "Ready")["reason"] == "ImmutableContentChanged";
    let refused = world.version_when("mod-1.0.0", changed).await;
    for field in ["synced", "checksum", "contentDigest", "storage"] {
        assert_eq!(refused["status"][field], before["status"][field], "{field}");
    }
    assert_eq!(refused["status"]["checksum"], sha256(&world.stored(&refused).await));
    // The tag moved back ends it, and what was begun is deleted.
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.version_reset("mod-1.0.0").await;
    world.request("version/mod-1.0.0", "moved-back");
    let back = |v: &Value| ready(v) && v["status"]["lastHandledRequest"] == "moved-back";
    let after = world.version_when("mod-1.0.0", back).await;
    assert_eq!(after["status"]["checksum"], before["status"]["checksum"]);
    alone(&world, &after, "mod/").await;
}

#[tokio::test]
async fn gitops_that_writes_the_file_name_back_makes_no_object_each_round() {
    let world = World::new("once-back").await;
    let repository = world.released("net");
    let _operator = world.operator().await;
    let in_git = |file_name: &str| {
        let mut manifest =
            world.inline_of("net", &world.module("net").config("deletionPolicy", json!("Retain")));
        manifest["spec"]["fileName"] = json!(file_name);
        manifest
    };
    world.apply(&in_git("net-1.0.0.zip"));
    let first = world.version_ready("net").await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.request("version/net", "moved");
    let second = world.version_when("net", |v| ready(v) && key(v) != key(&first)).await;
    assert_eq!(keys(&world, "net/").await.len(), 2, "the older content is retained");

    // Git knows the first name only.
    world.count_from_now("net");
    for _ in 0..3 {
        world.apply(&in_git("net-1.0.0.zip"));
        let file_name = key(&second).split_once('/').unwrap().1.to_owned();
        let said = world.version_fails("net", "KeyRetained").await;
        for words in [key(&first), format!("Set spec.fileName to \"{file_name}\"")] {
            assert!(said.contains(&words), "{words} in {said}");
        }
        let version = world.get_version("net").await.unwrap().unwrap();
        assert_eq!(condition(&version, "Stalled")["status"], "True");
        assert_eq!(version["status"]["synced"], true);
        assert_eq!(version["status"]["storage"], second["status"]["storage"]);
    }
    assert_eq!(world.served("net"), 1, "one download finds out");
    assert_eq!(keys(&world, "net/").await.len(), 2);

    // Both ways out that the message gives.
    world.apply(&in_git(key(&second).split_once('/').unwrap().1));
    let named = world.version_ready("net").await;
    assert_eq!(key(&named), key(&second));
    assert_eq!(keys(&world, "net/").await.len(), 2);
    world.bed.s3.delete(&world.name, &key(&first)).await.unwrap();
    world.apply(&in_git("net-1.0.0.zip"));
    let back = world.version_when("net", |v| ready(v) && key(v) == key(&first)).await;
    assert_eq!(back["status"]["checksum"], second["status"]["checksum"]);
    assert_eq!(keys(&world, "net/").await.len(), 2);
}

#[tokio::test]
async fn immutable_during_a_put_of_new_content_gives_the_file_name_back() {
    let world = World::new("once-named").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    let mut version = world.inline("mod");
    version["spec"]["fileName"] = json!("first.zip");
    world.apply(&version);
    let before = world.version_ready("mod").await;
    let bytes = world.stored(&before).await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    hold_puts(&world);
    world.count_from_now("mod");
    patch::<Version>(&world, "mod", &json!({"spec": {"forceSync": true}})).await;
    world.until("a PUT", || world.sent("") == 1).await;
    patch::<Version>(&world, "mod", &json!({"spec": {"moduleConfigRef": {"immutable": true}}})).await;
    all_heard(&world).await;
    world.bed.s3.clear_faults(&world.name);

    let changed = |v: &Value| condition(v, "Ready")["reason"] == "ImmutableContentChanged";
    let refused = world.version_when("mod", changed).await;
    assert!(message(&refused).contains("The stored object is unchanged"), "{}", message(&refused));
    assert_eq!(refused["spec"]["fileName"], "first.zip");
    assert_eq!(refused["status"]["storage"], before["status"]["storage"]);
    assert!(world.stored(&refused).await == bytes, "other bytes");
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.request("version/mod", "moved-back");
    let after = world.version_ready("mod").await;
    alone(&world, &after, "mod/").await;
    assert_eq!(after["status"]["storage"], before["status"]["storage"]);
}

#[tokio::test]
async fn a_deletion_policy_that_changes_during_a_forced_sync_costs_no_second_fetch() {
    let world = World::new("once-policy").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.inline("mod"));
    world.version_ready("mod").await;
    hold_puts(&world);
    world.count_from_now("mod");
    patch::<Version>(&world, "mod", &json!({"spec": {"forceSync": true}})).await;
    world.until("a PUT", || world.sent("") == 1).await;
    let retain = json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}});
    patch::<Version>(&world, "mod", &retain).await;
    all_heard(&world).await;
    world.bed.s3.clear_faults(&world.name);
    let version = world.version_reset("mod").await;
    assert!(ready(&version), "{}", version["status"]);
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
}

#[tokio::test]
async fn a_put_in_flight_ends_before_its_version_is_deleted() {
    let world = World::new("once-flight").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    hold_puts(&world);
    world.apply(&world.inline("mod"));
    world.until("a PUT", || world.sent("") == 1).await;
    delete_versions(&world, &["mod".to_owned()]).await;
    all_heard(&world).await;
    world.bed.s3.clear_faults(&world.name);
    gone(&world, "mod").await;
    // S3 might carry out a PUT that was dropped half-way after the DELETE.
    let requests = world.bed.s3.requests(&world.name).into_iter();
    let changes = requests.filter(|r| r.method != Method::HEAD && !r.key.is_empty());
    let changes: Vec<_> = changes.map(|r| (r.method, r.status)).collect();
    assert_eq!(changes, [(Method::PUT, Some(200)), (Method::DELETE, Some(204))]);
    assert_eq!(keys(&world, "").await, [""; 0]);
}

/// A client that changes what is to be stored again and again, each time while the archive is fetched.
#[tokio::test]
async fn a_version_that_changes_during_each_fetch_is_fetched_less_and_less_often() {
    let world = World::new("once-fought").await;
    world.tagged("mod", &["v1.0.0"]);
    hold_archives(&world, "mod");
    let _operator = world.operator().await;
    world.apply(&world.inline("mod"));
    fetching(&world, "mod").await;
    // The first request of each: the tag may have another spelling, which is asked for once the first is answered.
    let fetches = || {
        let mut asked = world.bed.github.requests(&world.repository("mod")).unwrap();
        asked.retain(|request| request.hop == Hop::Codeload);
        let first = asked[0].path.clone();
        asked.iter().filter(|request| request.path == first).map(|request| request.at).collect::<Vec<_>>()
    };
    for change in 1..=3 {
        let key =
            json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"key": format!("at-{change}")}}}}});
        patch::<Version>(&world, "mod", &key).await;
        world.until("the next fetch", || fetches().len() > change).await;
    }
    for change in 4..=16 {
        let key =
            json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"key": format!("at-{change}")}}}}});
        patch::<Version>(&world, "mod", &key).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let_archives_come(&world, "mod");
    let after = world.version_ready("mod").await;
    assert_eq!(key(&after).split('/').next(), Some("at-16"));
    // The fourth change in a row waits for 5 s, and each of the next twice as long.
    let fetches = fetches();
    assert!(fetches.len() > 4, "the last change is fetched after the first pause: {fetches:?}");
    for (pair, pause) in fetches[3..].windows(2).zip([5, 10, 20]) {
        let gap = pair[1].duration_since(pair[0]).unwrap();
        // A fetch that is dropped at once may be logged a moment after that.
        assert!(gap > Duration::from_secs(pause - 1), "{gap:?} instead of {pause} s: {fetches:?}");
    }
}
