//! Forced syncs through crashes and outages: no request is lost, and none is stored twice.

use std::time::{Duration, SystemTime};

use http::Method;
use opendepot::api::{Module, Version};
use opendepot_testbed::github::{Failure, Fault, Hop};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::force::{WAYS, answered, ask, child};
use crate::support::{World, condition, key, ready, soon};

/// Waits until S3 has just these bytes there.
async fn holds(world: &World, key: &str, bytes: &[u8]) {
    soon(|| async {
        anyhow::ensure!(world.bed.s3.get(&world.name, key).await? == bytes, "{key}: other bytes");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_request_that_failed_is_fulfilled_later_by_another_process() {
    let world = World::new("force-later").await;
    let operator = world.operator().await;
    let fault = |name: &str, failure| world.bed.github.inject(Fault::on(&world.repository(name), failure));
    let mut stored = Vec::new();
    for (name, ..) in WAYS {
        world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
        let version = world.version_ready(&child(name)).await;
        world.module_ready(name).await;
        // Damaged, so that only a store can put it right.
        stored.push((key(&version), world.stored(&version).await));
        world.bed.s3.put(&world.name, &key(&version), "damaged").await.unwrap();
        fault(name, Failure::Status(503));
    }
    for way in WAYS {
        ask(&world, way, "once");
    }
    for way in WAYS {
        // The request is over, and said to have failed; what was asked for is not forgotten.
        answered(&world, way, "once").await;
        let version = world
            .version_when(&child(way.0), |v| condition(v, "Ready")["reason"] == "GitHubUnavailable")
            .await;
        let pending = version["status"]["pendingForce"].as_str().unwrap_or_default();
        assert!(pending.starts_with("retry:"), "{}: {pending:?}", way.0);
        assert!(!version["spec"]["forceSync"].as_bool().unwrap_or(false), "{}", way.0);
        assert_eq!(
            version["status"]["synced"], false,
            "{}: a damaged object is not stored as recorded",
            way.0
        );
    }
    operator.kill().await.unwrap();
    for (name, ..) in WAYS {
        world.bed.github.clear_faults(&world.repository(name)).unwrap();
        world.bed.github.forget_requests(&world.repository(name)).unwrap();
    }
    world.bed.s3.forget_requests(&world.name);
    operator.restart().await.unwrap();
    for ((name, ..), (key, bytes)) in WAYS.iter().zip(&stored) {
        let version = world.version_ready(&child(name)).await;
        assert!(version["status"]["pendingForce"].is_null(), "{name}: {}", version["status"]);
        holds(&world, key, bytes).await;
        assert_eq!((world.served(name), world.sent(key)), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_full_sync_is_owed_until_it_was_done_even_where_the_object_is_intact() {
    let world = World::new("force-owed").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_ready("mod-1.0.0").await;
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Status(502)));
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    let waits = world.version_reset("mod-1.0.0").await;
    assert_eq!((&waits["status"]["synced"], ready(&waits)), (&json!(true), false), "an intact object");
    world.bed.github.clear_faults(&world.repository("mod")).unwrap();
    // By itself, within the back-off.
    world.version_ready("mod-1.0.0").await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
}

#[tokio::test]
async fn a_crash_between_fetch_store_and_status_repeats_no_store_and_loses_no_request() {
    let world = World::new("force-crash").await;
    let operator = world.operator().await;
    for (name, ..) in WAYS {
        world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
    }
    let mut keys = Vec::new();
    for (name, ..) in WAYS {
        world.module_ready(name).await;
        keys.push(key(&world.version_ready(&child(name)).await));
        world.bed.github.inject(Fault::on(&world.repository(name), Failure::Hang).at(Hop::Codeload));
        world.bed.github.forget_requests(&world.repository(name)).unwrap();
    }
    world.bed.s3.forget_requests(&world.name);
    world.next_second().await;

    // While they fetch.
    for way in WAYS {
        ask(&world, way, "crash");
    }
    let asked = |name: &str| !world.bed.github.requests(&world.repository(name)).unwrap().is_empty();
    world.until("all fetch", || WAYS.iter().all(|(name, ..)| asked(name))).await;
    operator.kill().await.unwrap();
    assert_eq!(world.sent(""), 0);
    for (name, ..) in WAYS {
        world.bed.github.clear_faults(&world.repository(name)).unwrap();
    }
    // After the store, whose answer never came. A PUT that has only begun is lost with the process.
    let stored = || {
        let modified = |key: &String| {
            world.bed.s3.object_file(&world.name, key).metadata().and_then(|file| file.modified()).ok()
        };
        keys.iter().map(modified).collect::<Vec<_>>()
    };
    let before = stored();
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::HangAfter).method(Method::PUT));
    operator.restart().await.unwrap();
    world.until("all store", || stored().iter().zip(&before).all(|(now, before)| now > before)).await;
    operator.kill().await.unwrap();
    let served = || WAYS.map(|(name, ..)| world.served(name));
    assert_eq!(served(), [1; 4]);
    world.bed.s3.clear_faults(&world.name);
    let restarted = SystemTime::now();
    operator.restart().await.unwrap();
    for way in WAYS {
        answered(&world, way, "crash").await;
        world.version_ready(&child(way.0)).await;
        world.module_ready(way.0).await;
    }
    // The process that was killed may have sent its PUTs again, at the last moment.
    let requests = world.bed.s3.requests(&world.name);
    let puts = requests.iter().filter(|r| r.method == Method::PUT && r.at > restarted);
    assert_eq!((served(), puts.count()), ([1; 4], 0), "taken over");
}

/// Leaves an object as a crash at a certain moment does.
async fn leave<K: kube::Resource<DynamicType = ()>>(
    world: &World,
    name: &str,
    force_sync: bool,
    status: &Value,
) {
    let api = opendepot::controller::client::objects::<K>(&world.client, &world.name);
    let params = kube::api::PatchParams::default();
    let spec = kube::api::Patch::Merge(json!({"spec": {"forceSync": force_sync}}));
    let generation = api.patch(name, &params, &spec).await.unwrap().metadata.generation.unwrap();
    let text = status.to_string().replace("GENERATION", &generation.to_string());
    let text = text.replace("BEFORE", &(generation - 1).to_string());
    let status: Value = serde_json::from_str(&text).unwrap();
    api.patch_status(name, &params, &kube::api::Patch::Merge(json!({"status": status}))).await.unwrap();
}

#[tokio::test]
async fn whatever_moment_a_crash_comes_at_the_request_is_handled_once() {
    let world = World::new("force-moments").await;
    let operator = world.operator().await;
    // What a crash leaves: the Version's forceSync and status, the Module's; and the fetches that are still owed.
    let untouched = || json!({});
    let moments = [
        ("asked", true, untouched(), false, untouched(), 1),
        ("done-not-reset", true, json!({"pendingForce": "done:GENERATION"}), false, untouched(), 0),
        ("reset-not-said", false, json!({"pendingForce": "done:BEFORE"}), false, untouched(), 0),
        ("done-and-asked-again", true, json!({"pendingForce": "done:BEFORE"}), false, untouched(), 1),
        ("owed-not-reset", true, json!({"pendingForce": "retry:GENERATION"}), false, untouched(), 1),
        ("owed", false, json!({"pendingForce": "retry:BEFORE"}), false, untouched(), 1),
        ("module-asked", false, untouched(), true, untouched(), 1),
        ("module-opened", false, untouched(), true, json!({"forceToken": "open"}), 1),
        ("module-done", false, untouched(), true, json!({"forceToken": "done:GENERATION"}), 0),
        ("module-asked-again", false, untouched(), true, json!({"forceToken": "done:BEFORE"}), 1),
        ("module-reset", false, untouched(), false, json!({"forceToken": "done:BEFORE"}), 0),
    ];
    for (name, ..) in &moments {
        world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
    }
    for (name, ..) in &moments {
        world.module_ready(name).await;
    }
    world.quiet().await;
    operator.kill().await.unwrap();
    for (name, force, status, module_force, module_status, _) in &moments {
        world.bed.github.forget_requests(&world.repository(name)).unwrap();
        leave::<Version>(&world, &child(name), *force, status).await;
        leave::<Module>(&world, name, *module_force, module_status).await;
    }
    world.bed.s3.forget_requests(&world.name);
    operator.restart().await.unwrap();
    for (name, _, _, module_force, _, owed) in &moments {
        world.version_reset(&child(name)).await;
        if *module_force {
            world.module_reset(name).await;
        }
        world.module_when(name, |m| ready(m) && m["spec"]["forceSync"] == false).await;
        let version = world.version_ready(&child(name)).await;
        assert!(version["status"]["pendingForce"].is_null(), "{name}: {}", version["status"]);
        assert_eq!((world.served(name), world.sent(&key(&version))), (*owed, *owed), "{name}");
    }
    world.quiet().await;
    for (name, .., owed) in &moments {
        assert_eq!(world.served(name), *owed, "{name}, later");
    }
}

#[tokio::test]
async fn a_module_s_force_survives_one_kill_after_another_and_stores_each_version_once() {
    let world = World::new("force-kills").await;
    let versions: Vec<String> = (0..12).map(|n| format!("v1.{n}.0")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    world.tagged("mod", &versions);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&versions));
    world.module_ready("mod").await;
    let before = world.versions().await.unwrap();
    world.count_from_now("mod");
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Delay(Duration::from_millis(60))));
    world.next_second().await;
    world.force("module/mod");
    for fetched in [1, 3, 6, 9] {
        world.until("the next kill", || world.served("mod") >= fetched).await;
        operator.kill().await.unwrap();
        operator.restart().await.unwrap();
    }
    world.module_reset("mod").await;
    world.module_ready("mod").await;
    let token = world.versions().await.unwrap()[0]["status"]["lastModuleRequest"].clone();
    assert!(token.is_string());
    for (before, after) in before.iter().zip(world.versions().await.unwrap()) {
        let key = key(&after);
        assert_eq!(after["status"]["lastModuleRequest"], token, "{key}");
        assert_eq!(after["status"]["checksum"], before["status"]["checksum"], "{key}");
        let puts = world.bed.s3.requests(&world.name).into_iter();
        let stored =
            puts.filter(|r| r.method == Method::PUT && r.key == key && r.status == Some(200)).count();
        // None where the kill cut off the answer to the one that counted.
        assert!(stored <= 1 && world.sent(&key) >= 1, "{key}: stored {stored} times");
    }
    // Each kill may cut off what is being fetched: four at most.
    let served = world.served("mod");
    assert!((12..=12 + 4 * 4).contains(&served), "{served} fetches");
}

#[tokio::test]
async fn a_crash_before_a_request_is_handed_on_loses_no_sync() {
    let world = World::new("force-handed").await;
    world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_ready("mod-1.0.0").await;
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    world.quiet().await;
    operator.kill().await.unwrap();
    leave::<Module>(&world, "mod", true, &json!({"forceToken": "open"})).await;
    world.count_from_now("mod");
    operator.restart().await.unwrap();
    world.module_reset("mod").await;
    assert_eq!(world.served("mod"), 0, "it is not waited for");
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": false}}));
    world.version_when("mod-1.0.0", |v| ready(v) && v["status"]["lastModuleRequest"] == "open").await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
}
