//! `deletionPolicy: Retain`, for each way of deletion, and whether the operator runs: what the bucket holds afterwards counts.

use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use crate::restore::the_way_to_take_finalizers_off;
use crate::support::{SOON, World, condition, soon};

const FINALIZER: &str = "opendepot.defdev.io/versions";

/// A world with an operator and these Modules, so many versions each, all stored.
async fn stored(name: &str, modules: &[(&str, usize)]) -> (World, Operator) {
    let world = World::new(name).await;
    let most = modules.iter().map(|(_, count)| *count).max().unwrap();
    let tags: Vec<String> = (0..most).map(|n| format!("v1.{n}.0")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let repository = world.tagged("mod", &tags);
    let operator = world.operator().await;
    for (module, count) in modules {
        let fixture = world.module(module).config("repoUrl", json!(repository.url()));
        world.apply(&fixture.versions(&tags[..*count]));
    }
    for (module, count) in modules {
        for n in 0..*count {
            world.version_ready(&format!("{module}-1.{n}.0")).await;
        }
        world.module_ready(module).await;
    }
    world.objects_are(modules.iter().map(|(_, count)| count).sum()).await;
    (world, operator)
}

fn retain(world: &World, module: &str) {
    world
        .patch(&format!("module/{module}"), &json!({"spec": {"moduleConfig": {"deletionPolicy": "Retain"}}}));
}

fn delete(world: &World, module: &str, cascade: &str) {
    world.kubectl(&["delete", "module", module, &format!("--cascade={cascade}"), "--wait=false"]);
}

/// Waits until no Module is left, and no Version but these.
async fn left(world: &World, versions: usize) {
    soon(|| async {
        let modules = world.kubectl(&["get", "modules", "-o", "name"]);
        anyhow::ensure!(modules.is_empty(), "there is still {modules}");
        let there = world.versions().await?;
        anyhow::ensure!(there.len() == versions, "there are {} Versions", there.len());
        Ok(())
    })
    .await;
}

fn finalizers(object: &Value) -> Vec<&str> {
    let all = object["metadata"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn retain_and_then_the_deletion_of_the_module_keeps_every_object() {
    let modules = [("big", 60), ("fore", 6), ("orphan", 6), ("bare", 6), ("held", 6)];
    let (world, _operator) = stored("retain-all", &modules).await;
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    assert_eq!(finalizers(&world.get_module("big").await.unwrap()), [FINALIZER]);
    // The finalizers of others stay, and hold the Module, wherever ours is among them.
    world.patch(
        "module/held",
        &json!({"metadata": {"finalizers": ["example.com/a", FINALIZER, "example.com/b"]}}),
    );
    world.patch("module/orphan", &json!({"spec": {"suspend": true}}));
    world.version_when("orphan-1.5.0", |v| v["spec"]["moduleSuspended"] == true).await;

    retain(&world, "big");
    delete(&world, "big", "background");
    retain(&world, "fore");
    delete(&world, "fore", "foreground");
    retain(&world, "orphan");
    delete(&world, "orphan", "orphan");
    // kubectl replace takes off what the manifest does not name.
    let mut bare = world.get_module("bare").await.unwrap();
    bare["metadata"] = json!({"name": "bare", "namespace": world.name});
    bare["spec"]["moduleConfig"]["deletionPolicy"] = json!("Retain");
    bare.as_object_mut().unwrap().remove("status");
    world.bed.kubectl_with(&["replace", "-f", "-"], &bare.to_string()).unwrap().ok().unwrap();
    delete(&world, "bare", "background");
    retain(&world, "held");
    delete(&world, "held", "background");

    let others = world.module_when("held", |m| !finalizers(m).contains(&FINALIZER)).await;
    assert_eq!(finalizers(&others), ["example.com/a", "example.com/b"]);
    world.patch("module/held", &json!({"metadata": {"finalizers": null}}));
    left(&world, 6).await;
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), keys);
    // What was left without a Module works on by itself.
    for n in 0..6 {
        let orphan = world.version_ready(&format!("orphan-1.{n}.0")).await;
        assert!(
            orphan["spec"]["moduleSuspended"].is_null() && orphan["metadata"]["ownerReferences"].is_null()
        );
        assert_eq!(orphan["spec"]["moduleConfigRef"]["deletionPolicy"], "Retain");
    }
}

#[tokio::test]
async fn nor_does_an_object_go_when_the_operator_was_away_meanwhile() {
    let modules = [("back", 20), ("fore", 6), ("orphan", 6), ("gone", 6), ("cut", 2)];
    let (world, operator) = stored("retain-away", &modules).await;
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    world.patch("module/orphan", &json!({"spec": {"suspend": true}}));
    world.version_when("orphan-1.5.0", |v| v["spec"]["moduleSuspended"] == true).await;
    operator.kill().await.unwrap();
    for (module, cascade) in [("back", "background"), ("fore", "foreground"), ("orphan", "orphan")] {
        retain(&world, module);
        delete(&world, module, cascade);
    }
    delete(&world, "gone", "background");
    // Kubernetes takes the owner references of these too, which are to be deleted.
    retain(&world, "cut");
    world.kubectl(&["delete", "versions", "cut-1.0.0", "cut-1.1.0", "--wait=false"]);
    delete(&world, "cut", "orphan");
    world.version_when("cut-1.0.0", |v| v["metadata"]["ownerReferences"].is_null()).await;
    world.version_when("cut-1.1.0", |v| v["metadata"]["ownerReferences"].is_null()).await;
    // Kubernetes has marked the Versions before they could be given the policy.
    world.version_when("fore-1.0.0", |v| v["metadata"]["deletionTimestamp"].is_string()).await;
    world.version_when("orphan-1.0.0", |v| v["metadata"]["ownerReferences"].is_null()).await;
    operator.restart().await.unwrap();
    left(&world, 6).await;
    let kept: Vec<_> = keys.into_iter().filter(|key| !key.starts_with("gone/")).collect();
    assert_eq!(world.objects_are(34).await, kept);
    let orphan = world.version_ready("orphan-1.0.0").await;
    assert!(orphan["spec"]["moduleSuspended"].is_null(), "{orphan:#}");
}

#[tokio::test]
async fn a_deleted_namespace_keeps_what_is_to_be_retained() {
    let (world, _operator) = stored("retain-ns", &[("mod", 12), ("other", 3)]).await;
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    retain(&world, "mod");
    world.bed.kubectl(&["delete", "namespace", &world.name, "--timeout=120s"]).unwrap().ok().unwrap();
    let kept: Vec<_> = keys.into_iter().filter(|key| key.starts_with("mod/")).collect();
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), kept);
}

#[tokio::test]
async fn a_namespace_whose_operator_went_with_it_has_a_documented_way_out() {
    let (world, operator) = stored("retain-inside", &[("mod", 3)]).await;
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    operator.kill().await.unwrap();
    world.bed.kubectl(&["delete", "namespace", &world.name, "--wait=false"]).unwrap().ok().unwrap();
    world.version_when("mod-1.0.0", |v| v["metadata"]["deletionTimestamp"].is_string()).await;
    world.module_when("mod", |m| m["metadata"]["deletionTimestamp"].is_string()).await;
    world.shell(&the_way_to_take_finalizers_off(&world));
    world
        .bed
        .kubectl(&["wait", "namespace", &world.name, "--for=delete", "--timeout=120s"])
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), keys);
}

/// The API server refuses to let Versions 1.1.0 of this world be given another policy.
fn refuse(world: &World) -> Value {
    let expression = "!object.metadata.name.endsWith('-1.1.0') || \
        object.spec.moduleConfigRef.deletionPolicy == oldObject.spec.moduleConfigRef.deletionPolicy";
    world.refusal("UPDATE", "versions", expression, "not on a Friday")
}

#[tokio::test]
async fn a_version_that_cannot_be_given_the_policy_holds_the_module_and_is_named() {
    let (world, _operator) = stored("retain-refused", &[("mod", 3), ("del", 2)]).await;
    retain(&world, "del");
    world.version_when("del-1.1.0", |v| v["spec"]["moduleConfigRef"]["deletionPolicy"] == "Retain").await;
    world.apply(&refuse(&world));
    let policy = |policy: &str| json!({"spec": {"moduleConfigRef": {"deletionPolicy": policy}}}).to_string();
    soon(|| async {
        let args =
            ["-n", &world.name, "patch", "version", "mod-1.1.0", "--type=merge", "--dry-run=server", "-p"];
        let output = world.bed.kubectl(&[&args[..], &[&policy("Retain")]].concat())?;
        anyhow::ensure!(!output.success(), "the rule is not known yet");
        Ok(())
    })
    .await;
    // Where nothing is to be kept, it holds nothing up.
    world.patch("module/del", &json!({"spec": {"moduleConfig": {"deletionPolicy": "Delete"}}}));
    world.kubectl(&["delete", "module", "del", "--timeout=120s"]);
    retain(&world, "mod");
    delete(&world, "mod", "background");
    let held = |m: &Value| {
        condition(m, "Ready")["reason"] == "VersionRefused" && m["metadata"]["deletionTimestamp"].is_string()
    };
    let module = world.module_when("mod", held).await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("mod-1.1.0") && message.contains("not on a Friday"), "{message}");
    assert_eq!(finalizers(&module), [FINALIZER]);
    world.lift_refusal();
    left(&world, 0).await;
    let keys = world.objects_are(4).await;
    assert_eq!(keys.iter().filter(|key| key.starts_with("mod/")).count(), 3, "{keys:?}");
}

#[tokio::test]
async fn an_upgrade_gives_the_finalizer_to_ten_modules_a_second_at_most() {
    let names: Vec<String> = (0..25).map(|n| format!("m{n}")).collect();
    let modules: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let (world, operator) = stored("retain-upgrade", &modules).await;
    operator.terminate(SOON).await.unwrap();
    let none = r#"{"metadata":{"finalizers":null}}"#;
    for name in &names {
        world.kubectl(&["patch", "module", name, "--type=merge", "-p", none]);
    }
    let writes = world.writes_during(async { operator.restart().await.map(drop).unwrap() }).await;
    assert_eq!(writes.len(), names.len(), "{writes:#?}");
    let at = |write: &AuditEntry| write.received.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let mut times: Vec<i64> = writes.iter().map(at).collect();
    times.sort_unstable();
    // 24 pauses; the first of these writes may itself arrive late.
    assert!(times[24] - times[0] >= 1_500, "{times:?}");
}

#[tokio::test]
async fn a_module_without_versions_has_no_finalizer_and_waits_for_no_bucket() {
    let (world, _operator) = stored("retain-none", &[("mod", 2)]).await;
    world.apply(&world.module("empty"));
    world.module_ready("empty").await;
    assert!(finalizers(&world.get_module("empty").await.unwrap()).is_empty());
    let refused = opendepot_testbed::s3::S3Failure::Answer(403, "AccessDenied");
    world
        .bed
        .s3
        .inject(opendepot_testbed::s3::S3Fault::new(&world.name, refused).method(http::Method::DELETE));
    world.kubectl(&["delete", "module", "mod", "--timeout=120s"]);
    world.version_fails("mod-1.0.0", "StorageAccessDenied").await;
    // A Version whose Module is gone is let go by its own policy.
    let change = json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}});
    world.patch("version/mod-1.0.0", &change);
    world.versions_are(&["mod-1.1.0"]).await;
    world.bed.s3.clear_faults(&world.name);
    world.versions_are(&[]).await;
    world.objects_are(1).await;
}
