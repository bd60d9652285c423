//! What the API server answers to the writes of a Version: a newer object is read again, and a refusal is made known
//! where the status cannot say it.

use http::Method;
use opendepot_testbed::github::{Failure, Fault, File};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::{OPERATOR, World, ready, soon};

impl World {
    /// Waits until the API server refuses to write this status to the Version `mod`.
    async fn refuses_status(&self, status: &Value) {
        soon(|| async {
            let status = json!({"status": status}).to_string();
            let patch =
                ["patch", "version", "mod", "--subresource=status", "--type=merge", "--dry-run=server", "-p"];
            let args = [&["-n", self.name.as_str()], &patch[..], &[status.as_str()]].concat();
            anyhow::ensure!(!self.bed.kubectl(&args)?.success(), "the rule is not known yet");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_write_that_meets_a_newer_object_is_no_failure_and_costs_no_pause() {
    let world = World::new("outdated").await;
    world.released("mod");
    let operator = world.operator().await;
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hold).method(Method::PUT).times(1));
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    world.apply(&world.inline("mod"));
    world.until("a PUT", || world.sent("") == 1).await;
    world.patch("version/mod", &json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}}));
    world.bed.s3.clear_faults(&world.name);
    world.version_when("mod", ready).await;
    let mut calls = audit.since(mark, &world.client).await.unwrap();
    calls.retain(|call| call.namespace == world.name && call.user == OPERATOR && call.resource == "versions");
    let conflict = calls.iter().rposition(|call| call.code == 409);
    let conflict = conflict.expect("the change came too early or too late");
    assert!(calls[conflict..].iter().any(|call| call.code == 200), "it is written after all");
    // Only an attempt that failed is followed by a pause.
    let metrics = operator.metrics().await.unwrap();
    let failed = metrics.lines().filter(|l| l.starts_with("opendepot_failures_total{controller=\"version\""));
    let failed: Vec<&str> = failed.filter(|line| !line.ends_with(" 0")).collect();
    assert_eq!(failed, [""; 0]);
    assert_eq!((world.served("mod"), world.sent("")), (1, 1), "nothing is done twice");
}

#[tokio::test]
async fn a_refused_write_is_in_the_log_and_in_an_event_once() {
    let world = World::new("refused-write").await;
    world.apply(&world.refusal("UPDATE", "versions/status", "false", "not on a Friday"));
    let mut version = world.inline("mod");
    version["spec"]["suspend"] = json!(true);
    world.apply(&version);
    world.refuses_status(&json!({"synced": false})).await;
    let audit = world.bed.kubernetes.audit();
    let mark = audit.position().unwrap();
    let operator = world.operator().await;
    let refused = || {
        let of_status = |c: &_| {
            let c: &opendepot_testbed::control_plane::AuditEntry = c;
            c.namespace == world.name && c.user == OPERATOR && c.subresource == "status" && c.code >= 400
        };
        audit.matching(mark, of_status).unwrap().len()
    };
    world.until("two attempts", || refused() >= 2).await;
    let log = operator.log();
    let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("not on a Friday"));
    assert_eq!(warned.count(), 1, "{log}");
    let notes = world.events("mod", "VersionRefused").await;
    assert!(notes.len() == 1 && notes[0].contains("not on a Friday"), "{notes:?}");
    world.lift_refusal();
    world.version_when("mod", |v| v["status"]["observedGeneration"] == v["metadata"]["generation"]).await;
}

#[tokio::test]
async fn a_force_sync_that_fails_and_cannot_be_reset_is_reported() {
    let world = World::new("refused-reset").await;
    world.released("mod");
    let _operator = world.operator().await;
    world.apply(&world.inline("mod"));
    world.version_ready("mod").await;
    // A suspended Version keeps its request.
    let mut probe = world.inline("probe");
    probe["spec"]["suspend"] = json!(true);
    probe["spec"]["forceSync"] = json!(true);
    world.apply(&probe);
    let kept = "!has(oldObject.spec.forceSync) || !oldObject.spec.forceSync || object.spec.forceSync";
    world.apply(&world.refusal("UPDATE", "versions", kept, "not on a Friday"));
    let reset = json!({"spec": {"forceSync": false}}).to_string();
    let args =
        ["-n", &world.name, "patch", "version", "probe", "--type=merge", "--dry-run=server", "-p", &reset];
    soon(|| async {
        let refused = world.bed.kubectl(&args)?;
        anyhow::ensure!(refused.stderr.contains("not on a Friday"), "the rule is not known yet: {refused:?}");
        Ok(())
    })
    .await;
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Status(503)));
    world.force("version/mod");
    let notes = world.events("mod", "VersionRefused").await;
    let says = |words: &str| notes.iter().any(|note| note.contains(words));
    assert!(says("spec.forceSync could not be reset") && says("not on a Friday"), "{notes:?}");
    world.lift_refusal();
    world.bed.github.clear_faults(&world.repository("mod")).unwrap();
    world.version_reset("mod").await;
    world.version_ready("mod").await;
}

#[tokio::test]
async fn what_is_odd_about_an_archive_is_reported_though_its_status_is_refused() {
    let world = World::new("refused-report").await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    repository.release("v1.0.0", &[File::new("main.tf", "# one\n"), File::new("lambda.zip", lfs)]).unwrap();
    let not_synced = "!has(object.status.synced) || !object.status.synced";
    world.apply(&world.refusal("UPDATE", "versions/status", not_synced, "not on a Friday"));
    let mut version = world.inline("mod");
    version["spec"]["suspend"] = json!(true);
    world.apply(&version);
    world.refuses_status(&json!({"synced": true})).await;
    let _operator = world.operator().await;
    world.patch("version/mod", &json!({"spec": {"suspend": false}}));
    let notes = world.events("mod", "LfsPointers").await;
    assert!(notes.len() == 1 && notes[0].contains("lambda.zip"), "{notes:?}");
    world.lift_refusal();
    world.version_ready("mod").await;
    assert_eq!(world.served("mod"), 1);
    assert_eq!(world.events("mod", "LfsPointers").await.len(), 1, "it is reported once");
}

#[tokio::test]
async fn a_deleted_version_that_another_finalizer_keeps_no_longer_says_that_it_is_stored() {
    let world = World::new("held").await;
    world.released("mod");
    let _operator = world.operator().await;
    let mut version = world.inline("mod");
    version["metadata"]["finalizers"] = json!(["example.com/other"]);
    world.apply(&version);
    world.version_ready("mod").await;
    world.kubectl(&["delete", "version", "mod", "--wait=false"]);
    let left = |v: &Value| v["metadata"]["finalizers"] == json!(["example.com/other"]);
    let held = world.version_when("mod", left).await;
    let status = &held["status"];
    assert_eq!((&status["synced"], ready(&held)), (&json!(false), false), "{status:#}");
    assert!(status["objects"].as_array().is_none_or(Vec::is_empty), "{status:#}");
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), [""; 0]);
    world.patch("version/mod", &json!({"metadata": {"finalizers": null}}));
    world.versions_are(&[]).await;
}
