//! What failed stays failed until it was looked into: suspending and resuming mends nothing, nor does an outage that came
//! since, and no copy is deleted on the word of a status.

use http::Method;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::requests::main_tf;
use crate::support::{World, condition, ready};

/// Waits until the Version says this at its generation.
async fn says(world: &World, name: &str, reason: &str) -> Value {
    let said = |v: &Value| {
        let ready = condition(v, "Ready");
        ready["reason"] == reason && ready["observedGeneration"] == v["metadata"]["generation"]
    };
    world.version_when(name, said).await
}

#[tokio::test]
async fn a_refused_version_is_not_ready_after_a_suspension_or_an_outage() {
    const CHANGED: &str = "ImmutableContentChanged";
    let world = World::new("suspend-refused").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    let watched = world.watched().await;
    world.apply(&world.module("mod").config("immutable", json!(true)).versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    // The Module has written all that it has to say, so that no state of it is older than the change that follows.
    world.quiet().await;
    repository.releases([("v1.0.0", main_tf("# moved\n"))]).unwrap();
    world.force("version/mod-1.0.0");
    says(&world, "mod-1.0.0", CHANGED).await;
    world.version_reset("mod-1.0.0").await;
    // A stored version that is suspended by itself is no failure of its Module.
    for (object, of_module) in [("version/mod-1.0.0", "Synced"), ("module/mod", "Suspended")] {
        // Each change comes when the Module has reported the one before: it would report what it has read before the change.
        world.module_when("mod", |m| condition(m, "Ready")["reason"] == CHANGED).await;
        world.patch(object, &json!({"spec": {"suspend": true}}));
        let suspended = says(&world, "mod-1.0.0", "Suspended").await;
        let message = condition(&suspended, "Ready")["message"].as_str().unwrap();
        assert!(message.contains(CHANGED), "{message}");
        world.module_when("mod", |m| condition(m, "Ready")["reason"] == of_module).await;
        if object == "module/mod" {
            operator.restart().await.unwrap();
        }
        world.count_from_now("mod");
        world.patch(object, &json!({"spec": {"suspend": false}}));
        let resumed = says(&world, "mod-1.0.0", CHANGED).await;
        assert_eq!(condition(&resumed, "Stalled")["status"], "True", "{object}");
        assert_eq!((world.served("mod"), world.sent("")), (1, 0), "{object}: it was looked into");
    }
    // The next attempt meets an outage of the store, and the one after that finds the object as it was.
    world
        .bed
        .s3
        .inject(S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::HEAD));
    let touch = |value: &str| world.patch("version/mod-1.0.0", &json!({"spec": {"yanked": value == "yes"}}));
    touch("yes");
    says(&world, "mod-1.0.0", "StorageAccessDenied").await;
    world.bed.s3.clear_faults(&world.name);
    touch("no");
    says(&world, "mod-1.0.0", CHANGED).await;
    let states = watched.states(&world, "Version/mod-1.0.0").await;
    let mut since = states.iter().skip_while(|v| condition(v, "Ready")["reason"] != CHANGED);
    assert!(since.all(|v| condition(v, "Ready")["status"] != "True"), "Ready without a look");
    watched.is_by_the_book(&world).await;
}

#[tokio::test]
async fn a_version_whose_bucket_is_out_of_reach_is_not_ready_after_a_suspension() {
    let world = World::new("suspend-denied").await;
    world.tagged("mod", &["v1.0.0"]);
    world.tagged("healthy", &["v1.0.0"]);
    let operator = world.operator_with(&["--verify-interval", "1s"]).await;
    world.apply(&world.inline("mod"));
    world.apply(&world.inline("healthy"));
    let stored = world.version_ready("mod").await;
    world.version_ready("healthy").await;
    let key = stored["status"]["storage"]["key"].as_str().unwrap();
    let denied = S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).prefix(key);
    world.bed.s3.inject(denied.method(Method::HEAD));
    says(&world, "mod", "StorageAccessDenied").await;
    operator.kill().await.unwrap();
    // From here on only what is asked for is looked at.
    let _operator = world.operator_with(&["--verify-interval", "0"]).await;
    // A look of the operator that was killed may be counted a moment later.
    world.count_from_now("mod");
    let watched = world.watched().await;
    for name in ["mod", "healthy"] {
        world.patch(&format!("version/{name}"), &json!({"spec": {"suspend": true}}));
        says(&world, name, "Suspended").await;
        world.patch(&format!("version/{name}"), &json!({"spec": {"suspend": false}}));
    }
    says(&world, "mod", "StorageAccessDenied").await;
    world.version_when("healthy", ready).await;
    let of_healthy = |r: &opendepot_testbed::s3::S3Request| !r.key.is_empty() && r.key != key;
    assert!(!world.bed.s3.requests(&world.name).iter().any(of_healthy), "what was well costs no look");
    let states = watched.states(&world, "Version/mod").await;
    assert!(!states.is_empty() && states.iter().all(|v| condition(v, "Ready")["status"] != "True"));
    world.bed.s3.clear_faults(&world.name);
    world.patch("version/mod", &json!({"spec": {"yanked": true}}));
    world.version_when("mod", ready).await;
    assert_eq!((world.served("mod"), world.sent("")), (0, 0), "a look was enough");
}

#[tokio::test]
async fn an_old_copy_is_kept_as_long_as_the_new_one_cannot_be_seen() {
    let world = World::new("unseen-copy").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    let mut version = world.inline("mod");
    version["spec"]["fileName"] = json!("old.zip");
    world.apply(&version);
    world.version_ready("mod").await;
    let fault = |method, prefix: &str| {
        let failure = S3Failure::Answer(403, "AccessDenied");
        world.bed.s3.inject(S3Fault::new(&world.name, failure).prefix(prefix).method(method));
    };
    fault(Method::DELETE, "mod/old.zip");
    world.patch("version/mod", &json!({"spec": {"fileName": "new.zip"}}));
    says(&world, "mod", "OldObjectKept").await;
    world.bed.s3.clear_faults(&world.name);
    fault(Method::HEAD, "mod/new.zip");
    // Each change is another attempt.
    for n in [true, false, true] {
        world.patch("version/mod", &json!({"spec": {"yanked": n}}));
        says(&world, "mod", "StorageAccessDenied").await;
        assert_eq!(world.objects_are(2).await, ["mod/new.zip", "mod/old.zip"]);
    }
    assert_eq!(world.events("mod", "StorageAccessDenied").await.len(), 1, "reported once");
    world.bed.s3.clear_faults(&world.name);
    world.patch("version/mod", &json!({"spec": {"yanked": false}}));
    world.version_ready("mod").await;
    assert_eq!(world.objects_are(1).await, ["mod/new.zip"]);
}
