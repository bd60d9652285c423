//! What the API server refuses costs a bounded number of requests, and holds up no other Module.

use anyhow::ensure;
use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::eventually;
use serde_json::{Value, json};

use crate::support::{SOON, World, condition, soon};

/// How many Versions the operator asked for in this namespace since a mark, and how many it was given.
pub(crate) fn creates(world: &World, from: opendepot_testbed::control_plane::AuditMark) -> (usize, usize) {
    let audit = world.bed.kubernetes.audit();
    let ours = |e: &AuditEntry| e.namespace == world.name && e.resource == "versions" && e.verb == "create";
    let all = audit.matching(from, ours).unwrap();
    (all.len(), all.iter().filter(|e| e.code == 201).count())
}

/// Versions with a minor number of 10 or more are refused here, for every client.
fn refuse(world: &World) -> Value {
    let message = format!("exceeded quota {}", "x".repeat(200));
    world.refusal("CREATE", "versions", "int(object.spec.version.split('.')[1]) < 10", &message)
}

#[tokio::test]
async fn three_hundred_entries_behind_a_quota_cost_tens_of_requests() {
    let world = World::new("quota").await;
    let some: Vec<String> = (0..10).map(|n| format!("1.{n}.0")).collect();
    world.tagged("mod", &some.iter().map(String::as_str).collect::<Vec<_>>());
    let operator = world.operator().await;
    world.apply(&refuse(&world));
    let probe = |version: &str| {
        let mut probe = world.inline("probe");
        probe["spec"]["version"] = json!(version);
        world.bed.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &probe.to_string()).unwrap()
    };
    soon(|| async {
        ensure!(!probe("1.10.0").success(), "the rule is not known yet");
        Ok(())
    })
    .await;

    let all: Vec<String> = (0..300).map(|n| format!("1.{n}.0")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mark = world.bed.kubernetes.audit().position().unwrap();
    world.apply(&world.module("mod").versions(&all));
    // Each Version that is published wakes the Module.
    let so_far = |m: &Value| {
        condition(m, "Ready")["reason"] == "VersionRefused" && m["status"]["versions"]["synced"] == 10
    };
    let module = world.module_when("mod", so_far).await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(message.contains("exceeded quota") && message.contains("Further versions wait"), "{message}");
    world.kubectl(&["patch", "module", "mod", "--type=merge", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#]);
    let (asked, given) = creates(&world, mark);
    assert!(given == 10 && asked <= 60, "{asked} requests for {given} Versions");
    let longest = operator.log().lines().map(str::len).max().unwrap();
    assert!(longest < 4_096, "a line of {longest} bytes");

    world.lift_refusal();
    let made = eventually(3 * SOON, || async {
        let given = creates(&world, mark).1;
        ensure!(given == 300, "{given} were made");
        Ok(())
    });
    made.await.unwrap();
    let (asked, _) = creates(&world, mark);
    assert!(asked <= 420, "{asked} requests for 300 Versions");
}

/// A webhook's 413 says nothing about the size of a status, and what needs no status is done without one.
#[tokio::test]
async fn a_module_whose_status_is_refused_still_removes_and_passes_its_policy_on() {
    let world = World::new("refused-module").await;
    world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["1.0.0", "1.1.0"]));
    world.module_ready("mod").await;
    world.quiet().await;
    let mut policy = world.refusal("UPDATE", "modules/status", "false", "not on a Friday");
    policy["items"][0]["spec"]["validations"][0]["reason"] = json!("RequestEntityTooLarge");
    world.apply(&policy);
    let probe = json!({"status": {"syncStatus": "a probe"}}).to_string();
    let probed = || {
        let object = "modules.opendepot.defdev.io/mod";
        let args = ["-n", &world.name, "patch", object, "--subresource=status", "--dry-run=server"];
        world.bed.kubectl(&[&args[..], &["--type=merge", "-p", &probe]].concat())
    };
    soon(|| async {
        let refused = probed()?;
        ensure!(refused.stderr.contains("not on a Friday"), "the rule is not known yet: {refused:?}");
        Ok(())
    })
    .await;

    world.apply(&world.module("mod").versions(&["1.1.0"]).config("deletionPolicy", json!("Retain")));
    let retains = |v: &Value| v["spec"]["moduleConfigRef"]["deletionPolicy"] == "Retain";
    world.version_when("mod-1.1.0", retains).await;
    world.versions_are(&["mod-1.1.0"]).await;
    let notes = world.events("mod", "VersionRefused").await;
    assert!(notes.len() == 1 && notes[0].contains("not on a Friday"), "{notes:?}");
    assert!(!operator.log().contains("status is too large"), "{}", operator.log());
    let module = world.get_module("mod").await.unwrap();
    assert_eq!(module["status"]["observedGeneration"], 1, "nothing was written");
    world.lift_refusal();
    soon(|| async {
        let accepted = probed()?;
        ensure!(accepted.success(), "the rule still holds: {accepted:?}");
        Ok(())
    })
    .await;
    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    world.patch("module/mod", &json!({"spec": {"suspend": false}}));
    world.module_ready("mod").await;
}

/// A Module that cannot lose its finalizer says so, and is gone once it can.
#[tokio::test]
async fn a_module_whose_deletion_is_refused_says_why() {
    let world = World::new("refused-deletion").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["1.0.0"]));
    world.module_ready("mod").await;
    let stays = "!has(object.metadata.deletionTimestamp)";
    world.apply(&world.refusal("UPDATE", "modules", stays, "finalizers are kept on Fridays"));
    let probe = json!({"metadata": {"finalizers": null}}).to_string();
    let mut probed = world.module("probe").versions(&[]);
    probed.0["metadata"]["finalizers"] = json!(["example.com/probe"]);
    world.apply(&probed);
    world.kubectl(&["delete", "module", "probe", "--wait=false"]);
    let patch =
        ["-n", &world.name, "patch", "module", "probe", "--type=merge", "--dry-run=server", "-p", &probe];
    soon(|| async {
        let refused = world.bed.kubectl(&patch)?;
        ensure!(refused.stderr.contains("on Fridays"), "the rule is not known yet: {refused:?}");
        Ok(())
    })
    .await;

    world.kubectl(&["delete", "module", "mod", "--wait=false"]);
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "VersionRefused").await;
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    assert!(
        message.contains("until its finalizer is removed") && message.contains("on Fridays"),
        "{message}"
    );
    world.events("mod", "VersionRefused").await;
    world.lift_refusal();
    for name in ["mod", "probe"] {
        soon(|| async {
            world.bed.kubectl(&[
                "-n",
                &world.name,
                "patch",
                "module",
                "probe",
                "--type=merge",
                "-p",
                &probe,
            ])?;
            ensure!(world.get_module(name).await.is_err(), "{name} is still there");
            Ok(())
        })
        .await;
    }
}
