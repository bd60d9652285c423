//! The life of a Version and its object: published, taken over, deleted, and through crashes.

use std::time::{Duration, SystemTime};

use http::Method;
use opendepot_testbed::github::File;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::{SOON, World, condition, key, user_modules};

/// A world whose repository `NAME/mod` has `v1.0.0`, and an operator.
async fn world_with_a_module(name: &str) -> (World, Operator) {
    let world = World::new(name).await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    repository.release("v1.0.0", &[File::new("main.tf", "# one\n")]).unwrap();
    repository.release("v1.1.0", &[File::new("main.tf", "# two\n")]).unwrap();
    let operator = world.operator().await;
    (world, operator)
}

#[tokio::test]
async fn a_release_workflow_publishes_a_module_not_named_as_its_repository() {
    let world = World::new("workflow").await;
    let repository = world.bed.github.repository(&world.repository("terraform-aws-my-module")).unwrap();
    repository.release("v1.2.3", &[File::new("main.tf", "# mine\n")]).unwrap();
    let _operator = world.operator().await;
    let manifest = user_modules()[1]
        .replace("${{ github.event.release.tag_name }}", "v1.2.3")
        .replace("my-org", &world.name)
        .replace("opendepot-system", &world.name)
        .replace("opendepot-modules", &world.name);
    world.apply(&manifest);
    world.module_ready("my-module").await;
    let version = world.version_ready("my-module-1.2.3").await;
    assert!(key(&version).starts_with("my-module/"), "{}", key(&version));
    assert_eq!(version["status"]["source"]["ref"], "refs/tags/v1.2.3");
}

#[tokio::test]
async fn a_crash_between_store_and_status_repeats_nothing_and_orphans_nothing() {
    let (world, operator) = world_with_a_module("crash").await;
    // S3 stores the object, and the operator never hears of it.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::HangAfter).method(Method::PUT));
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    let stored = world.objects_are(1).await;
    operator.kill().await.unwrap();
    world.bed.s3.clear_faults(&world.name);
    let half = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    assert_eq!(half["status"]["objects"][0]["key"], stored[0], "the place is on record before the object");
    let (before, restarted) = (world.counts("mod"), SystemTime::now());

    operator.restart().await.unwrap();
    let version = world.version_ready("mod-1.0.0").await;
    assert_eq!(key(&version), stored[0]);
    let since = world.counts("mod") - before;
    // The process that was killed may have sent its PUT again, at the last moment.
    let requests = world.bed.s3.requests(&world.name);
    let puts = requests.iter().filter(|r| r.method == Method::PUT && r.at > restarted);
    assert_eq!((since.fetches, puts.count()), (0, 0), "what was stored is taken over");
    assert_eq!(
        version["status"]["checksum"],
        crate::support::archives::sha256(&world.stored(&version).await)
    );
    assert!(version["status"]["source"]["commit"].is_string());
}

#[tokio::test]
async fn a_version_deleted_while_the_operator_is_dead_leaves_no_object() {
    let (world, operator) = world_with_a_module("dead").await;
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::HangAfter).method(Method::PUT));
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.objects_are(1).await;
    operator.kill().await.unwrap();
    world.bed.s3.clear_faults(&world.name);
    world.kubectl(&["delete", "module", "mod", "--wait=false"]);
    operator.restart().await.unwrap();
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}

#[tokio::test]
async fn a_lost_status_is_found_again_in_the_bucket() {
    let (world, operator) = world_with_a_module("lost").await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    let before = world.version_ready("mod-1.0.0").await;
    operator.terminate(SOON).await.unwrap();
    // What a restore from a backup leaves of it.
    let api = opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
    let gone = kube::api::Patch::Merge(json!({"status": null}));
    api.patch_status("mod-1.0.0", &kube::api::PatchParams::default(), &gone).await.unwrap();
    let cost = world.counts("mod");
    operator.restart().await.unwrap();
    let after = world.version_ready("mod-1.0.0").await;
    for field in ["checksum", "contentDigest", "archiveSizeBytes", "source", "storage", "objects"] {
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    let since = world.counts("mod") - cost;
    assert_eq!((since.fetches, since.puts), (0, 0), "what was stored is taken over");
}

#[tokio::test]
async fn retain_keeps_the_object_and_a_refused_delete_says_so_until_retain_lets_go() {
    let (world, _operator) = world_with_a_module("retain").await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    // S3 refuses to delete: the Version stays and says why, and is deleted when that is over.
    world
        .bed
        .s3
        .inject(S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE));
    world.patch("module/mod", &json!({"spec": {"versions": [{"version": "v1.1.0"}]}}));
    let message = world.version_fails("mod-1.0.0", "StorageAccessDenied").await;
    assert!(message.contains("deletionPolicy: Retain"), "{message}");
    // Retain reaches the Version that is already going.
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"deletionPolicy": "Retain"}}}));
    world.versions_are(&["mod-1.1.0"]).await;
    world.objects_are(2).await;
    world.bed.s3.clear_faults(&world.name);
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;
    world.objects_are(2).await;
}

#[tokio::test]
async fn names_of_others_are_left_alone_and_handed_over_by_annotation() {
    let (world, _operator) = world_with_a_module("taken").await;
    let config = world.module("mod").0["spec"]["moduleConfig"].clone();
    world.apply(&json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
        "metadata": {"name": "mod-1.0.0", "namespace": world.name},
        "spec": {"type": "Module", "version": "v1.0.0", "moduleConfigRef": config},
    }));
    let inline = world.version_ready("mod-1.0.0").await;
    world.apply(&world.module("mod").versions(&["1.0.0", "1.1.0"]));
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "NameTaken").await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(
        message.contains("kubectl annotate") && message.contains("opendepot.defdev.io/adopt=mod"),
        "{message}"
    );
    world.version_ready("mod-1.1.0").await;
    // The command that the condition prints.
    let command = message.split("kubectl ").nth(1).unwrap();
    let args: Vec<&str> = command.split_whitespace().collect();
    world.bed.kubectl(&args).unwrap().ok().unwrap();
    world.module_ready("mod").await;
    let adopted = world.version_ready("mod-1.0.0").await;
    assert_eq!(adopted["metadata"]["uid"], inline["metadata"]["uid"]);
    assert_eq!(adopted["metadata"]["ownerReferences"][0]["kind"], "Module");
    world.objects_are(2).await;
}

#[tokio::test]
async fn a_module_without_provider_is_published_and_says_what_is_missing() {
    let (world, _operator) = world_with_a_module("provider").await;
    let mut module = world.module("mod").versions(&["v1.0.0", "1.0.0"]);
    module.0["spec"]["moduleConfig"].as_object_mut().unwrap().remove("provider");
    world.apply(&module);
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "ProviderMissing").await;
    assert_eq!(module["status"]["versions"]["summary"], "1/1", "two spellings are one version");
    assert_eq!(condition(&module, "Stalled")["status"], "True");
}

#[tokio::test]
async fn sigterm_ends_the_operator_while_a_put_hangs() {
    let (world, operator) = world_with_a_module("sigterm").await;
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hang).method(Method::PUT));
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.until("a PUT", || world.sent("mod/") > 0).await;
    // The PUT itself would end after a minute.
    let code = operator.terminate(Duration::from_secs(30)).await.unwrap();
    assert_eq!(code, 0, "{}", operator.log());
    assert!(operator.log().contains("aborted work in flight"), "{}", operator.log());
}

#[tokio::test]
async fn a_retain_is_heard_before_anything_goes_whatever_else_the_same_edit_says() {
    let (world, _operator) = world_with_a_module("retain-at-once").await;
    let retain = world.module("mod").config("deletionPolicy", json!("Retain"));
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    world.apply(&retain.versions(&["v1.1.0"]));
    world.versions_are(&["mod-1.1.0"]).await;
    world.module_ready("mod").await;
    world.objects_are(2).await;

    // While everything else stands still, that much is still reported.
    let policy =
        |policy: &'static str| move |v: &Value| v["spec"]["moduleConfigRef"]["deletionPolicy"] == policy;
    let edit = |policy: &str| json!({"spec": {"suspend": true, "moduleConfig": {"deletionPolicy": policy}}});
    world.patch("module/mod", &edit("Delete"));
    world.version_when("mod-1.1.0", policy("Delete")).await;
    world.patch("module/mod", &edit("Retain"));
    world.version_when("mod-1.1.0", policy("Retain")).await;
    world.kubectl(&["delete", "module", "mod"]);
    world.versions_are(&[]).await;
    world.objects_are(2).await;
}

#[tokio::test]
async fn a_module_that_is_deleted_and_made_again_reports_what_holds_its_name() {
    let (world, _operator) = world_with_a_module("made-again").await;
    // The first one's Version stays for a while: S3 does not let its object go.
    let refused = || S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE);
    world.bed.s3.inject(refused());
    let module = world.module("mod").versions(&["v1.0.0"]);
    world.apply(&module);
    let first = world.version_ready("mod-1.0.0").await;
    world.kubectl(&["delete", "module", "mod"]);
    world.apply(&module);
    world.version_fails("mod-1.0.0", "StorageAccessDenied").await;
    let denied = |m: &Value| condition(m, "Ready")["reason"] == "StorageAccessDenied";
    let waits = world.module_when("mod", denied).await;
    assert_eq!(condition(&waits, "Stalled")["status"], "False", "{}", condition(&waits, "Ready"));
    let message = condition(&waits, "Ready")["message"].as_str().unwrap();
    assert!(
        message.contains("The name mod-1.0.0 is in use by a Version that cannot be deleted"),
        "{message}"
    );
    world.bed.s3.clear_faults(&world.name);
    let uid = |v: &Value| v["metadata"]["uid"].clone();
    world.version_when("mod-1.0.0", |v| uid(v) != uid(&first)).await;
    world.module_ready("mod").await;
    world.objects_are(1).await;

    // In the foreground, Kubernetes keeps the Module until its Versions are gone.
    world.bed.s3.inject(refused());
    world.kubectl(&["delete", "module", "mod", "--cascade=foreground", "--wait=false"]);
    let kept = world.module_when("mod", denied).await;
    let message = condition(&kept, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("is being deleted. 1 Version cannot be deleted; first v1.0.0:"), "{message}");
    assert!(message.contains("set deletionPolicy: Retain on its Module"), "{message}");
    world.bed.s3.clear_faults(&world.name);
    world.versions_are(&[]).await;
}
