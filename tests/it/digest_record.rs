//! The record of an immutable Module's content digests has a limit, and the Module says what to do then.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{World, condition, ready};

#[tokio::test]
async fn a_full_record_stops_new_versions_and_nothing_else_and_says_the_way_out() {
    let world = World::new("full-record").await;
    world.tagged("mod", &["1.0.0", "1.1.0", "2.0.0"]);
    let operator = world.operator().await;
    let module = world.module("mod").config("immutable", json!(true));
    world.apply(&module.clone().versions(&["1.0.0", "1.1.0"]));
    let recorded =
        |m: &Value| ready(m) && m["status"]["published"].as_object().is_some_and(|all| all.len() == 2);
    world.module_when("mod", recorded).await;
    // What years of pre-releases leave, in one write.
    let many: BTreeMap<String, String> =
        (0..9_100).map(|n| (format!("0.{n}.0"), format!("h1:{n:043}="))).collect();
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("status.json");
    std::fs::write(&status, json!({"status": {"published": many}}).to_string()).unwrap();
    let file = format!("--patch-file={}", status.display());
    world.kubectl(&[
        "patch",
        "modules.opendepot.defdev.io/mod",
        "--subresource=status",
        "--type=merge",
        &file,
    ]);

    world.apply(&module.clone().versions(&["1.0.0", "2.0.0"]));
    let full = |m: &Value| {
        let ready = condition(m, "Ready");
        ready["reason"] == "RecordFull" && m["status"]["observedGeneration"] == m["metadata"]["generation"]
    };
    let said = world.module_when("mod", full).await;
    let message = condition(&said, "Ready")["message"].as_str().unwrap();
    assert!(
        message.contains("moduleConfig.immutable to false") && message.contains("1 of 2 versions"),
        "{message}"
    );
    // Removals go on, and nothing that is new is made.
    world.versions_are(&["mod-1.0.0"]).await;
    world.objects_are(1).await;
    operator.restart().await.unwrap();
    world.module_when("mod", |m| full(m) && condition(m, "Stalled")["status"] == "True").await;
    world.versions_are(&["mod-1.0.0"]).await;

    let off = |on: bool| json!({"spec": {"moduleConfig": {"immutable": on}}});
    world.patch("modules.opendepot.defdev.io/mod", &off(false));
    world.module_when("mod", |m| m["status"]["published"].is_null()).await;
    world.patch("modules.opendepot.defdev.io/mod", &off(true));
    world.module_when("mod", |m| ready(m) && m["status"]["versions"]["summary"] == "2/2").await;
    let again = world.module_when("mod", recorded).await;
    assert_eq!(again["status"]["published"]["1.0.0"], said["status"]["published"]["1.0.0"]);
}
