//! `versionHistoryLimit`: the newest stay, nothing older is fetched, and the list that people wrote is theirs alone.

use http::Method;
use opendepot_testbed::github::Hop;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::requests::{main_tf, message};
use crate::support::{ModuleFixture, World, ready, soon};

fn limited(world: &World, limit: i64, versions: &[&str]) -> ModuleFixture {
    world.module("mod").config("versionHistoryLimit", json!(limit)).versions(versions)
}

/// The versions of a Module that are stored, wanted, failed and pruned, as its status counts them.
fn counts(module: &Value) -> [i64; 4] {
    let versions = &module["status"]["versions"];
    ["synced", "desired", "failed", "pruned"].map(|field| versions[field].as_i64().unwrap_or(-1))
}

/// Waits until the status of `mod` counts so.
async fn counted(world: &World, expected: [i64; 4]) -> Value {
    world
        .module_when("mod", |m| {
            counts(m) == expected && m["status"]["observedGeneration"] == m["metadata"]["generation"]
        })
        .await
}

fn names(versions: &[&str]) -> Vec<String> {
    versions.iter().map(|v| format!("mod-{v}")).collect()
}

async fn versions_are(world: &World, versions: &[&str]) {
    let names = names(versions);
    world.versions_are(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The tags of `mod` whose archives GitHub was asked for.
fn asked_for(world: &World) -> Vec<String> {
    let requests = world.bed.github.requests(&world.repository("mod")).unwrap();
    let paths = requests.iter().filter(|r| r.hop == Hop::Site).map(|r| r.path.as_str());
    let mut tags: Vec<String> = paths
        .map(|path| path.rsplit('/').next().unwrap().trim_end_matches(".zip").replace("%2B", "+"))
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

#[tokio::test]
async fn at_first_only_the_newest_by_semver_are_made_and_the_others_never_fetched() {
    let world = World::new("history-first").await;
    // Neither the order of the list nor that of the alphabet; a pre-release is below its release, a build of it above.
    let list =
        ["v1.9.0", "v2.0.0", "v1.10.0", "v2.0.0-rc.9", "v2.0.0-rc.10", "v0.1.0", "v2.0.0+build.7", "1.9.0"];
    world.tagged("mod", &list[..7]);
    let operator = world.operator().await;
    let writes = world
        .writes_during(async {
            world.apply(&limited(&world, 3, &list));
            world.module_ready("mod").await;
        })
        .await;
    let module = world.module_ready("mod").await;
    assert_eq!(counts(&module), [3, 3, 0, 4], "two spellings are one version");
    assert_eq!(module["status"]["versions"]["summary"], "3/3");
    assert_eq!(module["status"]["latestVersion"], "2.0.0+build.7");
    let stored: Vec<Value> =
        world.versions().await.unwrap().iter().map(|v| v["spec"]["version"].clone()).collect();
    let mut spelled: Vec<&str> = stored.iter().filter_map(Value::as_str).collect();
    spelled.sort_unstable();
    assert_eq!(spelled, ["v2.0.0", "v2.0.0+build.7", "v2.0.0-rc.10"]);
    assert_eq!(asked_for(&world), spelled);
    assert_eq!(world.objects_are(3).await.len(), 3);
    let of_versions =
        |verb: &str| writes.iter().filter(|w| w.resource == "versions" && w.verb == verb).count();
    assert_eq!((of_versions("create"), of_versions("delete")), (3, 0), "no more is ever made");
    let of_spec = writes.iter().filter(|w| w.resource == "modules" && w.subresource.is_empty());
    assert_eq!(of_spec.count(), 1, "the finalizer alone: {writes:#?}");
    assert_eq!(module["spec"]["versions"].as_array().unwrap().len(), list.len());

    // The full list once more, and another limit that changes nothing, cost nothing.
    world.count_from_now("mod");
    let writes = world.writes_during(async { world.apply(&limited(&world, 3, &list)) }).await;
    assert!(writes.is_empty() && asked_for(&world).is_empty(), "{writes:#?}");
    drop(operator);
}

#[tokio::test]
async fn none_zero_and_more_than_there_are_keep_all() {
    let world = World::new("history-all").await;
    let list = ["v1.0.0", "v1.1.0", "v1.2.0"];
    world.tagged("mod", &list);
    // Without verification, which sends requests of its own.
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    world.apply(&world.module("mod").versions(&list));
    world.module_ready("mod").await;
    world.quiet().await;
    world.count_from_now("mod");
    for limit in [0, 3, 4, 1_000_000] {
        let writes = world
            .writes_during(async {
                world.apply(&limited(&world, limit, &list));
                world.module_when("mod", ready).await;
            })
            .await;
        assert_eq!(counts(&world.get_module("mod").await.unwrap()), [3, 3, 0, 0], "{limit}");
        let touched: Vec<_> = writes.iter().filter(|w| w.resource == "versions").collect();
        assert!(touched.is_empty(), "a limit touches no Version: {touched:#?}");
    }
    versions_are(&world, &["1.0.0", "1.1.0", "1.2.0"]).await;
    assert!(asked_for(&world).is_empty() && world.bed.s3.requests(&world.name).is_empty());
    let panics = "opendepot_panics_total 0";
    assert!(operator.metrics().await.unwrap().contains(panics) && !operator.log().contains("panicked"));
}

#[tokio::test]
async fn lowering_prunes_with_the_objects_and_raising_brings_back_by_a_fetch() {
    let world = World::new("history-limits").await;
    let list = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];
    world.tagged("mod", &list);
    let _operator = world.operator().await;
    world.apply(&limited(&world, 4, &list));
    world.module_ready("mod").await;
    let spec = world.get_module("mod").await.unwrap()["spec"]["versions"].clone();
    let kept: Vec<Value> = world.versions().await.unwrap().split_off(2);
    world.count_from_now("mod");

    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 2}}}));
    versions_are(&world, &["1.2.0", "1.3.0"]).await;
    let mut keys = kept.iter().map(|v| v["status"]["storage"]["key"].as_str().unwrap()).collect::<Vec<_>>();
    keys.sort_unstable();
    assert_eq!(world.objects_are(2).await, keys);
    counted(&world, [2, 2, 0, 2]).await;
    assert_eq!(world.versions().await.unwrap(), kept, "those that stay are not touched");
    assert!(asked_for(&world).is_empty());
    // A forced sync fetches what is there, not what is pruned.
    world.force("module/mod");
    world.module_reset("mod").await;
    assert_eq!(asked_for(&world), ["v1.2.0", "v1.3.0"]);
    // Re-applying the full list with the limit does not bring anything back.
    world.count_from_now("mod");
    world.apply(&limited(&world, 2, &list));
    world.quiet().await;
    versions_are(&world, &["1.2.0", "1.3.0"]).await;
    assert!(asked_for(&world).is_empty() && world.sent("") == 0);

    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 3}}}));
    versions_are(&world, &["1.1.0", "1.2.0", "1.3.0"]).await;
    counted(&world, [3, 3, 0, 1]).await;
    world.module_ready("mod").await;
    assert_eq!((asked_for(&world), world.objects_are(3).await.len()), (vec!["v1.1.0".to_owned()], 3));
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 0}}}));
    versions_are(&world, &["1.0.0", "1.1.0", "1.2.0", "1.3.0"]).await;
    let module = counted(&world, [4, 4, 0, 0]).await;
    assert_eq!(module["spec"]["versions"], spec, "the list is the user's");
}

#[tokio::test]
async fn an_appended_version_pushes_the_oldest_out_when_it_is_stored_and_not_before() {
    let world = World::new("history-append").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    world.apply(&limited(&world, 2, &["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    let append = |version: &str| {
        let patch = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
        world.kubectl(&["patch", "module", "mod", "--type=json", "-p", &patch.to_string()]);
    };

    // The tag does not exist yet: it is not fetched, however many such versions there are.
    append("v2.0.0");
    append("v2.1.0");
    let module = counted(&world, [2, 4, 2, 0]).await;
    assert!(message(&module).contains("TagNotFound"), "{}", message(&module));
    assert_eq!(module["status"]["latestVersion"], "1.1.0");
    versions_are(&world, &["1.0.0", "1.1.0", "2.0.0", "2.1.0"]).await;
    // A forced sync that fails on the bad ones does not cost the good ones either.
    world.force("module/mod");
    world.module_reset("mod").await;
    versions_are(&world, &["1.0.0", "1.1.0", "2.0.0", "2.1.0"]).await;
    assert_eq!(world.objects_are(2).await.len(), 2);

    // One of them is stored: one may go. Then the other.
    repository.release("v2.0.0", &main_tf("# v2.0.0\n")).unwrap();
    world.request("version/mod-2.0.0", "now");
    versions_are(&world, &["1.1.0", "2.0.0", "2.1.0"]).await;
    let module = counted(&world, [2, 3, 1, 1]).await;
    assert_eq!(module["status"]["latestVersion"], "2.0.0");
    world.objects_are(2).await;
    repository.release("v2.1.0", &main_tf("# v2.1.0\n")).unwrap();
    world.request("version/mod-2.1.0", "now");
    versions_are(&world, &["2.0.0", "2.1.0"]).await;
    counted(&world, [2, 2, 0, 2]).await;
    world.objects_are(2).await;
    world.module_ready("mod").await;
}

#[tokio::test]
async fn lowering_the_limit_while_the_newest_are_bad_keeps_the_good_ones() {
    let world = World::new("history-bad").await;
    world.tagged("mod", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    let _operator = world.operator().await;
    let list = ["v1.0.0", "v1.1.0", "v1.2.0", "v2.0.0"];
    world.apply(&world.module("mod").versions(&list));
    counted(&world, [3, 4, 1, 0]).await;
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 1}}}));
    versions_are(&world, &["1.2.0", "2.0.0"]).await;
    counted(&world, [1, 2, 1, 2]).await;
    world.objects_are(1).await;
    // A good release whose object is just missing is still one.
    let good = world.version_ready("mod-1.2.0").await;
    let key = good["status"]["storage"]["key"].as_str().unwrap();
    let slow = S3Failure::Answer(503, "SlowDown");
    world.bed.s3.inject(S3Fault::new(&world.name, slow).method(Method::PUT));
    world.bed.s3.delete(&world.name, key).await.unwrap();
    world.force("version/mod-1.2.0");
    let restoring = world.version_when("mod-1.2.0", |v| v["status"]["synced"] == false).await;
    world.quiet().await;
    versions_are(&world, &["1.2.0", "2.0.0"]).await;
    assert!(restoring["metadata"]["deletionTimestamp"].is_null());
    world.bed.s3.clear_faults(&world.name);
    world.version_ready("mod-1.2.0").await;
    // The bad one leaves the list: what is left is within the limit.
    world.apply(&limited(&world, 1, &list[..3]));
    versions_are(&world, &["1.2.0"]).await;
    counted(&world, [1, 1, 0, 2]).await;
    world.module_ready("mod").await;
}

#[tokio::test]
async fn an_immutable_version_that_comes_back_must_be_what_it_was() {
    let world = World::new("history-pinned").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    let module = |limit| limited(&world, limit, &["v1.0.0", "v1.1.0"]).config("immutable", json!(true));
    world.apply(&module(2));
    world.module_ready("mod").await;
    world.apply(&module(1));
    versions_are(&world, &["1.1.0"]).await;
    world.objects_are(1).await;
    repository.release("v1.0.0", &main_tf("# moved\n")).unwrap();
    world.count_from_now("mod");
    world.apply(&module(0));
    world.version_fails("mod-1.0.0", "ImmutableContentChanged").await;
    assert_eq!(world.sent(""), 0);
    repository.release("v1.0.0", &main_tf("# v1.0.0\n")).unwrap();
    world.request("version/mod-1.0.0", "now");
    soon(|| async {
        anyhow::ensure!(ready(&world.get_module("mod").await?), "not ready yet");
        Ok(())
    })
    .await;
    world.objects_are(2).await;
}
