//! A request for a sync is handled by a fetch that came after it: whatever the token, whatever else is asked for, and
//! wherever a crash comes.

use std::time::SystemTime;

use http::Method;
use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::github::Format;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::requests::{digest_of, main_tf};
use crate::support::watch_proxy::{Watch, WatchProxy};
use crate::support::{ModuleFixture, OPERATOR, World, condition, key, ready, soon};

#[tokio::test]
async fn a_token_that_was_used_before_is_a_new_request() {
    let world = World::new("token-again").await;
    let _operator = world.operator().await;
    for (name, object) in [("version", "version/version-1.0.0"), ("module", "module/module")] {
        let repository = world.tagged(name, &["v1.0.0"]);
        world.apply(&world.module(name).versions(&["v1.0.0"]));
        let child = format!("{name}-1.0.0");
        let handled = async |token: &str| {
            if object.starts_with("version") {
                world.version_when(&child, |v| v["status"]["lastHandledRequest"] == token).await;
            } else {
                let done = |m: &Value| {
                    let force = m["status"]["forceToken"].as_str().unwrap_or_default();
                    m["status"]["lastHandledRequest"] == token && force.starts_with("done:")
                };
                world.module_when(name, done).await;
            }
        };
        world.module_ready(name).await;
        world.request(object, "1");
        handled("1").await;
        world.version_ready(&child).await;
        repository.replace_archive("v1.0.0", Format::Zip, "not an archive").unwrap();
        world.request(object, "2");
        handled("2").await;
        world.version_fails(&child, "NotAnArchive").await;
        repository.restore_archives();
        repository.releases([("v1.0.0", main_tf("# moved\n"))]).unwrap();
        world.count_from_now(name);
        world.request(object, "1");
        handled("1").await;
        let version = world.version_ready(&child).await;
        assert_eq!(
            version["status"]["contentDigest"],
            digest_of("# moved\n"),
            "{object}: nothing was fetched"
        );
        assert_eq!(world.served(name), 1, "{object}");
    }
}

#[tokio::test]
async fn a_request_after_a_store_is_not_answered_by_it_despite_a_crash() {
    let world = World::new("token-crash").await;
    let operator = world.operator().await;
    let names = ["same", "later", "again"];
    let repositories = names.map(|name| world.tagged(name, &["v1.0.0"]));
    for name in names {
        world.apply(&world.inline(name));
    }
    for name in names {
        world.version_ready(name).await;
        world.count_from_now(name);
    }
    // S3 stores what is sent, and the answer is lost.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::HangAfter).method(Method::PUT));
    let mut keys = Vec::new();
    for name in names {
        keys.push(key(&world.get_version(name).await.unwrap().unwrap()));
    }
    // What was sent is stored a moment later, and the operator is not to be killed before that.
    let stored = |key: &String| -> Option<SystemTime> {
        std::fs::metadata(world.bed.s3.object_file(&world.name, key)).and_then(|file| file.modified()).ok()
    };
    let before: Vec<_> = keys.iter().map(stored).collect();
    world.next_second().await;
    for name in names {
        world.patch(&format!("version/{name}"), &json!({
            "metadata": {"annotations": {"opendepot.defdev.io/requestedAt": "first"}}, "spec": {"forceSync": name != "again"},
        }));
    }
    let again = || keys.iter().zip(&before).all(|(key, before)| stored(key) > *before);
    world.until("all are stored again", again).await;
    operator.kill().await.unwrap();
    world.bed.s3.clear_faults(&world.name);
    assert_eq!(names.map(|name| world.served(name)), [1; 3]);
    for (name, repository) in names.iter().zip(&repositories).skip(1) {
        repository.releases([("v1.0.0", main_tf("# moved\n"))]).unwrap();
        world.request(&format!("version/{name}"), "second");
    }
    operator.restart().await.unwrap();
    for (name, token, served) in [("same", "first", 1), ("later", "second", 2), ("again", "second", 2)] {
        world.version_reset(name).await;
        let handled = |v: &Value| ready(v) && v["status"]["lastHandledRequest"] == token;
        let version = world.version_when(name, handled).await;
        let content = if served == 1 { "# v1.0.0\n" } else { "# moved\n" };
        assert_eq!(version["status"]["contentDigest"], digest_of(content), "{name}");
        assert_eq!(world.served(name), served, "{name}: one fetch for each time that was asked");
    }
}

#[tokio::test]
async fn a_field_and_an_annotation_that_come_together_are_answered_by_one_fetch() {
    let world = World::new("token-both").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.inline("mod"));
    world.version_ready("mod").await;
    world.count_from_now("mod");
    world.patch("version/mod", &json!({
        "metadata": {"annotations": {"opendepot.defdev.io/requestedAt": "now"}}, "spec": {"forceSync": true},
    }));
    let version = world.version_reset("mod").await;
    assert_eq!(version["status"]["lastHandledRequest"], "now");
    let version = world.version_ready("mod").await;
    assert_eq!(condition(&version, "Ready")["reason"], "Synced");
    world.quiet().await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
}

/// A Module that is not applied yet, with a Version that is stored and that it is going to adopt.
async fn with_a_version_to_adopt(world: &World) -> ModuleFixture {
    let module = world.module("mod").versions(&["v1.0.0"]);
    let mut version = world.inline_of("mod-1.0.0", &module);
    version["metadata"]["annotations"] = json!({"opendepot.defdev.io/adopt": "mod"});
    world.apply(&version);
    world.version_ready("mod-1.0.0").await;
    world.quiet().await;
    module
}

/// The operator sees a Version as it was, so that its attempts to adopt it meet a conflict.
#[tokio::test]
async fn a_request_waits_for_a_version_that_cannot_be_adopted_yet() {
    let world = World::new("token-adopt").await;
    world.tagged("mod", &["v1.0.0"]);
    let proxy = WatchProxy::of(&world).await;
    let _operator = world.builder().env("KUBECONFIG", &proxy.kubeconfig).start_ready().await.unwrap();
    let mut module = with_a_version_to_adopt(&world).await;

    proxy.set(Watch::IsHeld);
    world.kubectl(&["label", "versions.opendepot.defdev.io/mod-1.0.0", "unseen=yes"]);
    let mark = world.bed.kubernetes.audit().position().unwrap();
    module.0["spec"]["forceSync"] = json!(true);
    world.apply(&module);
    soon(|| async {
        let conflict = |e: &AuditEntry| {
            e.user == OPERATOR
                && e.namespace == world.name
                && (&*e.verb, &*e.resource, e.code) == ("patch", "versions", 409)
        };
        let conflicts = world.bed.kubernetes.audit().matching(mark, conflict)?.len();
        anyhow::ensure!(conflicts >= 2, "{conflicts} attempts");
        Ok(())
    })
    .await;
    let waiting = world.get_module("mod").await.unwrap();
    assert_eq!(waiting["spec"]["forceSync"], true, "{:#}", waiting["status"]);

    proxy.set(Watch::Passes);
    world.module_when("mod", |m| ready(m) && m["spec"]["forceSync"] == false).await;
    let version = world.version_ready("mod-1.0.0").await;
    assert!(version["status"]["lastModuleRequest"].is_string(), "{:#}", version["status"]);
}

#[tokio::test]
async fn a_request_ends_although_a_version_cannot_be_adopted() {
    let world = World::new("token-refused").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    let mut module = with_a_version_to_adopt(&world).await;
    world.apply(&world.refusal("UPDATE", "versions", "!has(object.metadata.ownerReferences)", "no owners"));
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "probe", "uid": "probe"}]}})
    .to_string();
    soon(|| async {
        let object = "versions.opendepot.defdev.io/mod-1.0.0";
        let args = ["-n", &world.name, "patch", object, "--dry-run=server", "--type=merge", "-p", &owner];
        let probed = world.bed.kubectl(&args)?;
        anyhow::ensure!(probed.stderr.contains("no owners"), "the rule is not known yet: {probed:?}");
        Ok(())
    })
    .await;
    module.0["spec"]["forceSync"] = json!(true);
    world.apply(&module);
    let refused =
        |m: &Value| m["spec"]["forceSync"] == false && condition(m, "Ready")["reason"] == "VersionRefused";
    world.module_when("mod", refused).await;
    world.lift_refusal();
    world.module_ready("mod").await;
}
