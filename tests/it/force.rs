//! `forceSync` and `requestedAt`: one fetch and one store per version and request, now, whatever the state, and never lost.

use std::time::{Duration, Instant};

use http::Method;
use kube::api::{Patch, PatchParams};
use opendepot::api::{Module, Version};
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Failure, Fault, Format, Hop};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::{SOON, World, condition, key, ready};

/// How a sync is asked for: a Module named so, the object that is asked, and whether by the field.
pub(super) const WAYS: [(&str, &str, bool); 4] = [
    ("version-field", "version/version-field-1.0.0", true),
    ("version-token", "version/version-token-1.0.0", false),
    ("module-field", "module/module-field", true),
    ("module-token", "module/module-token", false),
];

fn kind_and_name(object: &str) -> (&str, &str) {
    object.split_once('/').unwrap()
}

pub(super) fn child(name: &str) -> String {
    format!("{name}-1.0.0")
}

pub(super) fn ask(world: &World, (_, object, by_field): (&str, &str, bool), token: &str) {
    if by_field {
        world.force(object);
    } else {
        world.request(object, token);
    }
}

/// Waits until what was asked for is said to be over, and gives the object that was asked.
pub(super) async fn answered(
    world: &World,
    (name, object, by_field): (&str, &str, bool),
    token: &str,
) -> Value {
    let (kind, asked) = kind_and_name(object);
    match (kind, by_field) {
        ("version", true) => world.version_reset(asked).await,
        ("module", true) => world.module_reset(asked).await,
        ("version", _) => world.version_when(asked, |v| v["status"]["lastHandledRequest"] == token).await,
        _ => {
            let child = child(name);
            let module = world.module_when(asked, |m| {
                m["status"]["lastHandledRequest"] == token
                    && m["status"]["forceToken"].as_str().is_some_and(|token| token.starts_with("done:"))
            });
            let module = module.await;
            let token = world.get_version(&child).await.unwrap().unwrap();
            assert!(token["status"]["lastModuleRequest"].is_string(), "{}", token["status"]);
            module
        }
    }
}

#[tokio::test]
async fn each_request_is_one_fetch_and_one_store_and_restores_what_is_lost_or_damaged() {
    let world = World::new("force-once").await;
    let operator = world.operator().await;
    for (name, ..) in WAYS {
        world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
    }
    for way in WAYS {
        let (name, object, by_field) = way;
        world.module_ready(name).await;
        let before = world.version_ready(&child(name)).await;
        let (key, bytes) = (key(&before), world.stored(&before).await);
        // Three within a minute are not held back.
        for state in ["healthy", "lost", "damaged"] {
            match state {
                "lost" => world.bed.s3.delete(&world.name, &key).await.unwrap(),
                "damaged" => world.bed.s3.put(&world.name, &key, "damaged").await.unwrap(),
                _ => {}
            }
            let generation = |asked: Value| asked["metadata"]["generation"].as_i64().unwrap();
            let get = async || match kind_and_name(object) {
                ("module", name) => world.get_module(name).await.unwrap(),
                (_, name) => world.get_version(name).await.unwrap().unwrap(),
            };
            let generation_before = generation(get().await);
            world.count_from_now(name);
            ask(&world, way, state);
            let after = answered(&world, way, state).await;
            let what = format!("{object}, {state}");
            assert_eq!((world.served(name), world.sent(&key)), (1, 1), "{what}");
            assert!(world.bed.s3.get(&world.name, &key).await.unwrap() == bytes, "{what}: other bytes");
            let version = world.version_ready(&child(name)).await;
            for field in ["checksum", "contentDigest", "storage", "objects"] {
                assert_eq!(version["status"][field], before["status"][field], "{what}: {field}");
            }
            assert!(version["status"]["pendingForce"].is_null(), "{what}: {}", version["status"]);
            // The field costs two generations, the annotation none.
            assert_eq!(generation(after) - generation_before, if by_field { 2 } else { 0 }, "{what}");
            world.module_ready(name).await;
        }
    }
    // And then nothing more comes of it, also after a restart.
    world.quiet().await;
    for (name, ..) in WAYS {
        assert_eq!(world.served(name), 1, "{name}");
        world.bed.github.forget_requests(&world.repository(name)).unwrap();
    }
    let writes = world
        .writes_during(async {
            operator.restart().await.unwrap();
        })
        .await;
    assert!(writes.is_empty() && WAYS.iter().all(|(name, ..)| world.served(name) == 0), "{writes:#?}");
}

#[tokio::test]
async fn a_module_s_force_is_one_attempt_of_each_version_healthy_waiting_or_stalled() {
    let world = World::new("force-states").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    let _operator = world.operator().await;
    repository.replace_archive("v1.1.0", Format::Zip, "not an archive").unwrap();
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.version_ready("mod-1.0.0").await;
    world.version_fails("mod-1.1.0", "NotAnArchive").await;
    // S3 asks it to wait for ten minutes.
    let slow = || S3Failure::RetryAfter(503, "SlowDown", 600);
    world.bed.s3.inject(S3Fault::new(&world.name, slow()).method(Method::PUT));
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0", "v1.2.0"]));
    world.version_fails("mod-1.2.0", "StorageThrottled").await;
    let waiting = world.get_version("mod-1.2.0").await.unwrap().unwrap();
    let waiting = waiting["status"]["objects"][0]["key"].as_str().unwrap();
    world.bed.s3.clear_faults(&world.name);
    world.bed.s3.inject(S3Fault::new(&world.name, slow()).method(Method::PUT).prefix(waiting));
    world.quiet().await;

    // Good, bad and waiting: each outcome ends the request.
    world.count_from_now("mod");
    world.force("module/mod");
    let module = world.module_reset("mod").await;
    assert_eq!(world.served("mod"), 3, "one attempt each");
    assert_eq!(condition(&module, "Ready")["reason"], "VersionsFailed");
    let versions = world.versions().await.unwrap();
    let sent = |version: &Value| version["status"]["storage"]["key"].as_str().map(|key| world.sent(key));
    assert_eq!((sent(&versions[0]), sent(&versions[1])), (Some(1), None));
    let token = |v: &Value| v["status"]["lastModuleRequest"].as_str().map(str::to_owned);
    assert!(token(&versions[0]).is_some() && versions.iter().all(|v| token(v) == token(&versions[0])));
    let reasons = versions.iter().map(|v| condition(v, "Ready")["reason"].as_str().unwrap());
    assert_eq!(reasons.collect::<Vec<_>>(), ["Synced", "NotAnArchive", "StorageThrottled"]);
    let owed = versions.iter().map(|v| v["status"]["pendingForce"].is_string());
    assert_eq!(owed.collect::<Vec<_>>(), [false, false, true], "what only waits is still owed");

    // The same command works again; stalls and waits end with it.
    repository.restore_archives();
    world.bed.s3.clear_faults(&world.name);
    world.count_from_now("mod");
    world.force("module/mod");
    world.module_reset("mod").await;
    world.module_ready("mod").await;
    assert_eq!((world.served("mod"), world.sent("")), (3, 3));
    world.quiet().await;
    assert_eq!((world.served("mod"), world.sent("")), (3, 3));
}

#[tokio::test]
async fn a_version_s_force_skips_a_wait() {
    let world = World::new("force-wait").await;
    let _operator = world.operator().await;
    let slow = S3Failure::RetryAfter(503, "SlowDown", 600);
    world.bed.s3.inject(S3Fault::new(&world.name, slow).method(Method::PUT));
    for name in ["field", "token"] {
        world.released(name);
        world.apply(&world.inline(name));
    }
    for name in ["field", "token"] {
        world.version_fails(name, "StorageThrottled").await;
    }
    world.bed.s3.clear_faults(&world.name);
    world.force("version/field");
    world.request("version/token", "now");
    for name in ["field", "token"] {
        world.version_ready(name).await;
    }
    world.version_reset("field").await;
}

#[tokio::test]
async fn true_at_a_later_generation_is_another_request_and_true_while_true_is_not() {
    let world = World::new("force-again").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_ready("mod-1.0.0").await;
    for (again, expected) in [(false, 1), (true, 2)] {
        world.count_from_now("mod");
        world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Hold).at(Hop::Codeload));
        world.force("version/mod-1.0.0");
        let asked = || world.bed.github.requests(&world.repository("mod")).unwrap();
        world.until("a fetch", || asked().iter().any(|r| r.hop == Hop::Codeload)).await;
        if again {
            world.patch("version/mod-1.0.0", &json!({"spec": {"forceSync": false}}));
        }
        world.force("version/mod-1.0.0");
        world.bed.github.clear_faults(&world.repository("mod")).unwrap();
        world.version_reset("mod-1.0.0").await;
        world.quiet().await;
        assert_eq!((world.served("mod"), world.sent("")), (expected, expected), "again: {again}");
    }
}

/// Asks without end, as a GitOps tool does that finds `false` where its manifest has `true`, and gives when each of
/// `count` requests was over.
async fn insist(world: &World, object: &str, count: usize) -> Vec<Instant> {
    let (kind, name) = kind_and_name(object);
    let api = if kind == "module" { world.api::<Module>() } else { world.api::<Version>() };
    // Not with kubectl, which may take seconds: a minute after the first request, the fourth is free.
    let force = Patch::Merge(json!({"spec": {"forceSync": true}}));
    let mut over = Vec::new();
    while over.len() < count {
        api.patch(name, &PatchParams::default(), &force).await.unwrap();
        let wait = eventually(2 * SOON, || async {
            let now = api.get(name).await?;
            anyhow::ensure!(now.data["spec"]["forceSync"] == false, "{object} is still to be synced");
            Ok(())
        });
        wait.await.unwrap();
        over.push(Instant::now());
    }
    over
}

#[tokio::test]
async fn a_loop_that_applies_true_for_ever_makes_no_storm_and_loses_no_request() {
    let world = World::new("force-loop").await;
    for name in ["loop", "mod"] {
        world.tagged(name, &["v1.0.0"]);
    }
    let _operator = world.operator().await;
    world.apply(&world.inline("loop"));
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_ready("loop").await;
    world.module_ready("mod").await;
    world.bed.github.forget_requests(&world.repository("loop")).unwrap();
    world.count_from_now("mod");
    let (version, module) = tokio::join!(insist(&world, "version/loop", 5), insist(&world, "module/mod", 5));
    for (what, over) in [("a Version", version), ("a Module", module)] {
        let pauses: Vec<Duration> = over.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Three are free; then ten seconds, then twenty. Each was done in the end.
        assert!(pauses[2] >= Duration::from_secs(9), "{what}: {pauses:?}");
        assert!(pauses[3] >= Duration::from_secs(19), "{what}: {pauses:?}");
        let waits = [10, 20, 40].map(Duration::from_secs);
        let third_waits = pauses[1..].iter().zip(waits).all(|(pause, wait)| *pause >= wait);
        assert!(!third_waits, "{what}: the third is not free: {pauses:?}");
    }
    world.version_reset("loop").await;
    world.module_reset("mod").await;
    assert_eq!((world.served("loop"), world.sent("loop/")), (5, 5), "one of each per request");
    assert_eq!((world.served("mod"), world.sent("mod/")), (5, 5), "one of each per request");
}

#[tokio::test]
async fn suspended_and_terminating_versions_are_not_waited_for() {
    let world = World::new("force-suspended").await;
    let list = ["v1.0.0", "v1.1.0", "v1.2.0"];
    world.tagged("mod", &list);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&list));
    world.module_ready("mod").await;
    let before = world.versions().await.unwrap();
    let suspend = |version: &str, suspend| {
        world.patch(&format!("version/{version}"), &json!({"spec": {"suspend": suspend}}));
    };
    suspend("mod-1.1.0", true);
    world.version_when("mod-1.1.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    // One that S3 does not let go.
    let refused = S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE);
    world.bed.s3.inject(refused);
    world.kubectl(&["delete", "version", "mod-1.2.0", "--wait=false"]);
    world.version_fails("mod-1.2.0", "StorageAccessDenied").await;
    world.count_from_now("mod");
    world.force("module/mod");
    world.module_reset("mod").await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1), "just the one that lives and works");
    // It follows also when the operator died in between.
    operator.kill().await.unwrap();
    operator.restart().await.unwrap();
    suspend("mod-1.1.0", false);
    let followed = |v: &Value| ready(v) && v["status"]["lastModuleRequest"].is_string();
    let resumed = world.version_when("mod-1.1.0", followed).await;
    assert_eq!(world.sent(&key(&resumed)), 1);
    assert_eq!(resumed["status"]["checksum"], before[1]["status"]["checksum"]);

    // Where all are suspended, none is waited for, and all follow.
    world.bed.s3.clear_faults(&world.name);
    world
        .version_when("mod-1.2.0", |v| ready(v) && v["metadata"]["uid"] != before[2]["metadata"]["uid"])
        .await;
    for name in ["mod-1.0.0", "mod-1.1.0", "mod-1.2.0"] {
        suspend(name, true);
    }
    world.quiet().await;
    world.count_from_now("mod");
    world.force("module/mod");
    world.module_reset("mod").await;
    assert_eq!(world.served("mod"), 0);
    for name in ["mod-1.0.0", "mod-1.1.0", "mod-1.2.0"] {
        suspend(name, false);
    }
    world.until("all follow", || world.served("mod") == 3 && world.sent("") == 3).await;
    world.module_ready("mod").await;
}

#[tokio::test]
async fn a_suspended_module_keeps_the_request_until_it_is_resumed() {
    let world = World::new("force-paused").await;
    world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    world.count_from_now("mod");
    world.patch("module/mod", &json!({"spec": {"suspend": true, "forceSync": true}}));
    world.module_when("mod", |m| condition(m, "Ready")["reason"] == "Suspended").await;
    world.quiet().await;
    assert_eq!(
        (world.served("mod"), &world.get_module("mod").await.unwrap()["spec"]["forceSync"]),
        (0, &json!(true))
    );
    world.patch("module/mod", &json!({"spec": {"suspend": false}}));
    world.module_reset("mod").await;
    world.module_ready("mod").await;
    assert_eq!((world.served("mod"), world.sent("")), (2, 2));
}

#[tokio::test]
async fn a_suspended_version_keeps_its_own_request_until_it_is_resumed() {
    let world = World::new("force-own").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_ready("mod-1.0.0").await;
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    world.quiet().await;
    let waits = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!((&waits["spec"]["forceSync"], world.served("mod")), (&json!(true), 0));
    world.patch("version/mod-1.0.0", &json!({"spec": {"suspend": false}}));
    world.version_reset("mod-1.0.0").await;
    world.version_ready("mod-1.0.0").await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
}

#[tokio::test]
async fn a_version_made_while_a_request_is_open_carries_it_and_is_fetched_once() {
    let world = World::new("force-made").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    // Open for as long as GitHub does not answer.
    world.count_from_now("mod");
    world.bed.github.inject(Fault::on(&repository.name(), Failure::Hang).at(Hop::Codeload));
    world.force("module/mod");
    let is_open =
        |m: &Value| m["status"]["forceToken"].as_str().is_some_and(|token| !token.starts_with("done"));
    let open = world.module_when("mod", is_open).await;
    let append = r#"[{"op":"add","path":"/spec/versions/-","value":{"version":"v1.2.0"}}]"#;
    world.kubectl(&["patch", "module", "mod", "--type=json", "-p", append]);
    let made = world.version_when("mod-1.2.0", |v| v["metadata"]["name"] == "mod-1.2.0").await;
    let carried = &made["metadata"]["annotations"]["opendepot.defdev.io/module-request"];
    assert_eq!(*carried, open["status"]["forceToken"]);
    assert_eq!(world.get_module("mod").await.unwrap()["spec"]["forceSync"], true, "it waits for all three");
    operator.kill().await.unwrap();
    world.bed.github.clear_faults(&repository.name()).unwrap();
    operator.restart().await.unwrap();
    world.module_reset("mod").await;
    world.module_ready("mod").await;
    world.quiet().await;
    assert_eq!((world.served("mod"), world.sent("")), (3, 3), "one fetch each");
    let versions = world.versions().await.unwrap();
    assert!(versions.iter().all(|v| v["status"]["lastModuleRequest"] == open["status"]["forceToken"]));
}

#[tokio::test]
async fn a_first_publish_is_the_answer_to_the_request_that_it_comes_with() {
    let world = World::new("force-first").await;
    let _operator = world.operator().await;
    // As a manifest under GitOps has it, of either kind.
    let asked = |mut object: Value, by_field: bool| {
        if by_field {
            object["spec"]["forceSync"] = json!(true);
        } else {
            object["metadata"]["annotations"] = json!({"opendepot.defdev.io/requestedAt": "first"});
        }
        object
    };
    for way in WAYS {
        let (name, object, by_field) = way;
        world.tagged(name, &["v1.0.0"]);
        let of_version = object.starts_with("version");
        let manifest =
            if of_version { world.inline(&child(name)) } else { world.module(name).versions(&["v1.0.0"]).0 };
        let text = asked(manifest, by_field).to_string();
        world.apply(&text.replace(&world.repository(&child(name)), &world.repository(name)));
    }
    for way in WAYS {
        answered(&world, way, "first").await;
        world.version_ready(&child(way.0)).await;
    }
    world.quiet().await;
    for (name, ..) in WAYS {
        assert_eq!(world.served(name), 1, "{name}");
    }
    assert_eq!(world.sent(""), 4);
}

#[tokio::test]
async fn a_request_that_comes_during_an_attempt_that_fails_is_not_made_to_wait() {
    let world = World::new("force-during").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let fault = |failure| Fault::on(&repository.name(), failure);
    world.bed.github.inject(fault(Failure::Hold));
    // The attempt that succeeds waits here, so that the failure before it is seen.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hold).method(Method::PUT));
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Publishing").await;
    world.kubectl(&["annotate", "version", "mod-1.0.0", "opendepot.defdev.io/requestedAt=now"]);
    world.bed.github.inject(fault(Failure::Html).times(1));
    world.bed.github.release_held(&repository.name()).unwrap();
    // It fails for a reason that only a user can resolve, and would be tried again in an hour.
    world.version_fails("mod-1.0.0", "NotAnArchive").await;
    world.bed.s3.clear_faults(&world.name);
    let version = world.version_ready("mod-1.0.0").await;
    assert_eq!(version["status"]["lastHandledRequest"], "now");
}
