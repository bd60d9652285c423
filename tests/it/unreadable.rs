//! Objects whose spec cannot be read: they still keep or delete what is stored, as `deletionPolicy` says, and hide no others.

use serde_json::json;

use crate::compatibility::original_crds;
use crate::support::registry::Depot;
use crate::support::{World, condition, own_testbed, soon};

#[tokio::test]
async fn a_spec_that_cannot_be_read_blocks_no_deletion_and_loses_no_policy() {
    // Whatever the schema refuses today may be stored since before.
    let crds = original_crds();
    let world = World::on(own_testbed(crds.path().to_owned()).await, "unreadable").await;
    let versions = ["v1.0.0", "v1.1.0"];
    let repository = world.tagged("mod", &versions);
    let _operator = world.operator().await;
    for name in ["keep", "drop"] {
        let module = world.module(name).config("repoUrl", json!(repository.url()));
        world.apply(&module.versions(&versions));
    }
    world.apply(&world.inline("mod"));
    for name in ["keep", "drop"] {
        world.module_ready(name).await;
    }
    world.version_ready("mod").await;
    world.objects_are(5).await;

    // One edit, and the deletion right after it.
    for (name, policy) in [("keep", "Retain"), ("drop", "Delete")] {
        let spec = json!({"spec": {"versions": "all", "moduleConfig": {"deletionPolicy": policy}}});
        world.patch(&format!("modules.opendepot.defdev.io/{name}"), &spec);
        world.kubectl(&["delete", "modules.opendepot.defdev.io", name, "--wait=false"]);
    }
    let unreadable = json!({"spec": {"moduleConfigRef": {"immutable": "yes"}}});
    world.patch("versions.opendepot.defdev.io/mod", &unreadable);
    world.version_when("mod", |v| condition(v, "Ready")["reason"] == "InvalidSpec").await;
    world.kubectl(&["delete", "versions.opendepot.defdev.io", "mod", "--wait=false"]);
    soon(|| async {
        let modules = world.kubectl(&["get", "modules.opendepot.defdev.io", "-o", "name"]);
        anyhow::ensure!(modules.is_empty(), "there is still {modules}");
        Ok(())
    })
    .await;
    world.versions_are(&[]).await;
    let keys = world.objects_are(2).await;
    assert!(keys.iter().all(|key| key.starts_with("keep/")), "{keys:?}");
    world.bed.kubernetes.end().await.unwrap();
}

#[tokio::test]
async fn objects_that_are_nested_deeply_hide_no_others_and_can_be_deleted() {
    let (world, depot) = (World::new("deep").await, Depot::new("deep-beside").await);
    world.tagged("mod", &["v1.0.0"]);
    // These fields of the original accept any JSON, and serde_json reads 127 levels.
    let deep = (0..200).fold(json!(1), |inner, _| json!({"a": inner}));
    let mut ours = world.inline("mod");
    ours["spec"]["agentSourceRef"] = deep.clone();
    let mut provider = world.inline("provider");
    provider["spec"] = json!({"type": "Provider", "version": "1.0.0", "providerConfigRef": deep});
    world.apply(&ours);
    world.apply(&provider);

    let other = &depot.world;
    let _operator = world.builder().args(["--namespace", &other.name]).start_ready().await.unwrap();
    let _registry = depot.registry(&["--namespace", &world.name]).await;
    other.tagged("mod", &["v1.0.0"]);
    other.apply(&other.module("mod").versions(&["1.0.0"]));
    other.module_ready("mod").await;
    // With kubectl, since the client of the tests cannot read it.
    soon(|| async {
        let synced =
            world.kubectl(&["get", "versions.opendepot.defdev.io", "mod", "-o", "jsonpath={.status.synced}"]);
        anyhow::ensure!(synced == "true", "synced is {synced:?}");
        Ok(())
    })
    .await;
    world.objects_are(1).await;
    world.kubectl(&["delete", "versions.opendepot.defdev.io", "mod", "--timeout=60s"]);
    world.objects_are(0).await;
    world.bed.kubectl(&["delete", "namespace", &world.name, "--timeout=120s"]).unwrap().ok().unwrap();
}
