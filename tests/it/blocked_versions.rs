//! What blocks one version of a Module, and that the others are published.

use std::time::Duration;

use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::github::File;
use serde_json::{Value, json};

use crate::support::requests::message;
use crate::support::{OPERATOR, World, condition, soon};

async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    for version in ["v1.0.0", "v1.1.0", "v1.2.0"] {
        repository.release(version, &[File::new("main.tf", format!("# {version}\n"))]).unwrap();
    }
    world
}

/// The API server refuses to create Versions of 1.1.0 in this world: a rule as a platform team would write it.
fn refuse(world: &World) -> Value {
    world.refusal("CREATE", "versions", "!object.spec.version.endsWith('1.1.0')", "not on a Friday")
}

#[tokio::test]
async fn a_version_that_the_api_server_refuses_is_named_and_holds_up_no_other() {
    let world = world("refused").await;
    let _operator = world.operator().await;
    let rule = refuse(&world);
    world.apply(&rule);
    // The API server takes a moment to know the rule.
    let probe = |version: &str| {
        let mut probe = world.inline("probe");
        probe["spec"]["version"] = json!(version);
        world.bed.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &probe.to_string()).unwrap()
    };
    soon(|| async {
        anyhow::ensure!(!probe("1.1.0").success(), "the rule is not known yet");
        Ok(())
    })
    .await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0", "v1.2.0"]));
    let refused = |m: &Value| {
        condition(m, "Ready")["reason"] == "VersionRefused" && m["status"]["versions"]["synced"] == 2
    };
    let module = world.module_when("mod", refused).await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("mod-1.1.0") && message.contains("not on a Friday"), "{message}");
    assert_eq!(condition(&module, "Reconciling")["status"], "True", "it is tried again");
    world.version_ready("mod-1.2.0").await;
    world.lift_refusal();
    world.module_ready("mod").await;
}

#[tokio::test]
async fn an_invalid_configuration_stops_work_and_still_retains_objects() {
    let world = world("invalid").await;
    let _operator = world.operator().await;
    let module = world.module("mod").versions(&["v1.0.0", "v1.1.0"]);
    world.apply(&module);
    world.module_ready("mod").await;
    // What only the controller can tell: the schema counts characters, S3 bytes.
    let long = "ü".repeat(512);
    world.apply(&module.clone().s3("key", json!(long)));
    world.module_when("mod", |m| condition(m, "Ready")["reason"] == "InvalidSpec").await;
    let before = world.get_version("mod-1.0.0").await.unwrap().unwrap();
    let kept = &before["spec"]["moduleConfigRef"]["storageConfig"]["s3"];
    assert_eq!(kept["key"], Value::Null, "the Versions keep what worked");

    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    world.patch("module/mod", &json!({"spec": {"suspend": false}}));
    world.version_ready("mod-1.0.0").await;

    world.patch("module/mod", &json!({"spec": {"forceSync": true}}));
    let forced = |v: &Value| v["status"]["lastModuleRequest"].is_string();
    world.version_when("mod-1.0.0", forced).await;
    world.module_when("mod", |m| m["spec"]["forceSync"] == false).await;
}

#[tokio::test]
async fn a_force_that_overtakes_another_request_is_done_too() {
    let world = world("overtakes").await;
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    let fetched = || {
        let requests = world.bed.github.requests(&world.repository("mod")).unwrap();
        requests.iter().filter(|r| r.host == "codeload.github.com" && r.status == Some(200)).count()
    };
    let before = fetched();
    // While the first request is open, the second one comes.
    let slow = opendepot_testbed::github::Failure::Delay(Duration::from_secs(2));
    world.bed.github.inject(opendepot_testbed::github::Fault::on(&world.repository("mod"), slow));
    world.kubectl(&["annotate", "module", "mod", "opendepot.defdev.io/requestedAt=1"]);
    world.module_when("mod", |m| m["status"]["lastHandledRequest"] == "1").await;
    world.patch("module/mod", &json!({"spec": {"forceSync": true}}));
    world.bed.github.clear_faults(&world.repository("mod")).unwrap();
    let reset = |m: &Value| {
        m["spec"]["forceSync"] == false
            && m["status"]["forceToken"].as_str().is_some_and(|token| token.starts_with("done:"))
    };
    world.module_when("mod", reset).await;
    assert_eq!(fetched() - before, 4, "two versions, two requests");
}

/// A policy of the cluster that sets the bucket of each Version, with its binding.
fn mutation(world: &World, bucket: &str) -> Value {
    let object = |path: &str, inner: &str| format!("Object.spec{path}{{{inner}}}");
    let s3 = object(".moduleConfigRef.storageConfig.s3", &format!("bucket: '{bucket}'"));
    let storage = object(".moduleConfigRef.storageConfig", &format!("s3: {s3}"));
    let config = object(".moduleConfigRef", &format!("storageConfig: {storage}"));
    let spec = object("", &format!("moduleConfigRef: {config}"));
    let change = json!({"expression": format!("Object{{spec: {spec}}}")});
    let rules = json!([{"apiGroups": ["opendepot.defdev.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
        "resources": ["versions"]}]);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": world.name},
        "spec": {
            "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": rules},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": change}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": world.name},
        "spec": {"policyName": world.name, "matchResources": {"namespaceSelector":
            {"matchLabels": {"kubernetes.io/metadata.name": world.name}}}},
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
}

#[tokio::test]
async fn a_version_that_a_policy_of_the_cluster_changes_is_named_and_seldom_written_again() {
    let world = world("mutated").await;
    let other = format!("{}-other", world.name);
    world.bed.s3.create_bucket(&other).await.unwrap();
    let _operator = world.operator().await;
    // The API server takes a moment to know the policy, and its end.
    let stored_in = async |bucket: &str| {
        soon(|| async {
            let path = "jsonpath={.spec.moduleConfigRef.storageConfig.s3.bucket}";
            let args = ["create", "--dry-run=server", "-o", path, "-f", "-"];
            let made = world.bed.kubectl_with(&args, &world.inline("probe").to_string())?.ok()?;
            anyhow::ensure!(made == bucket, "it is stored in {made}");
            Ok(())
        })
        .await;
    };
    world.apply(&mutation(&world, &other));
    stored_in(&other).await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0", "v1.2.0"]));
    let refused = |m: &Value| condition(m, "Ready")["reason"] == "VersionRefused";
    let module = world.module_when("mod", refused).await;
    let field = "stored another spec.moduleConfigRef.storageConfig.s3.bucket than";
    assert!(message(&module).contains("Version mod-1.") && message(&module).contains(field), "{module:#}");

    // After the pauses of 2, 4 and 8 seconds, each with at most three requests.
    let audit = world.bed.kubernetes.audit();
    let mark = audit.position().unwrap();
    tokio::time::sleep(Duration::from_secs(12)).await;
    let ours = |e: &AuditEntry| {
        e.user == OPERATOR && e.namespace == world.name && e.resource == "versions" && e.is_write()
    };
    let patches = audit.matching(mark, |e: &AuditEntry| ours(e) && e.subresource.is_empty()).unwrap();
    assert!(patches.len() <= 12, "{} patches", patches.len());

    world.kubectl(&["delete", "mutatingadmissionpolicybinding", &world.name]);
    stored_in(&world.name).await;
    // A change by the user ends the pauses.
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 9}}}));
    world.module_ready("mod").await;
    world.objects_are(3).await;
}
