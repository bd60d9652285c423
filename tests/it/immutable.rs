//! Immutable: once published, a version's content never changes, whatever is done to the tag, the Module or the operator.

use std::process::Command;

use flate2::Compression;
use http::Method;
use opendepot_testbed::github::{Failure, Fault, File, Format, Repository};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::requests::{digest_of, main_tf, message};
use crate::support::{ModuleFixture, SOON, World, condition, ready, soon};

const FIRST: &str = "# v1.0.0\n";
const MOVED: &str = "# moved\n";
const CHANGED: &str = "ImmutableContentChanged";

/// A world whose Module `mod` is immutable and has published `v1.0.0`, which holds [`FIRST`].
async fn published(name: &str) -> (World, Repository, Operator) {
    published_with(name, &[]).await
}

/// The same with more arguments of the operator.
async fn published_with(name: &str, args: &[&str]) -> (World, Repository, Operator) {
    let world = World::new(name).await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator_with(args).await;
    world.apply(&module(&world));
    world.module_ready("mod").await;
    (world, repository, operator)
}

fn module(world: &World) -> ModuleFixture {
    world.module("mod").config("immutable", json!(true)).versions(&["v1.0.0"])
}

/// Waits until a Version refuses the moved tag, at its generation, and checks what that says.
async fn refuses(world: &World, name: &str) -> Value {
    let version = world
        .version_when(name, |v| {
            let ready = condition(v, "Ready");
            ready["reason"] == CHANGED && ready["observedGeneration"] == v["metadata"]["generation"]
        })
        .await;
    assert_eq!(condition(&version, "Ready")["status"], "False");
    assert_eq!(condition(&version, "Stalled")["status"], "True");
    for digest in [digest_of(FIRST), digest_of(MOVED)] {
        assert!(message(&version).contains(&digest), "{digest} is not in: {}", message(&version));
    }
    version
}

/// What a Version stored, and everything that its status says of that, is as it was, and nothing was sent to S3.
async fn untouched(world: &World, before: &Value, bytes: &[u8]) {
    let name = before["metadata"]["name"].as_str().unwrap();
    let now = world.get_version(name).await.unwrap().unwrap();
    for field in ["synced", "checksum", "contentDigest", "source", "storage", "lastSyncTime"] {
        assert_eq!(now["status"][field], before["status"][field], "{field}");
    }
    assert_eq!(now["status"]["synced"], true);
    assert!(world.stored(&now).await == bytes, "other bytes");
    assert_eq!(world.sent(""), 0, "something was stored");
}

fn expected_digest(version: &Value) -> &Value {
    &version["spec"]["expectedDigest"]
}

async fn gone(world: &World) {
    world.versions_are(&[]).await;
    world.objects_are(0).await;
}

#[tokio::test]
async fn no_force_replaces_what_was_published() {
    let (world, repository, _operator) = published("pin-force").await;
    let before = world.version_ready("mod-1.0.0").await;
    let bytes = world.stored(&before).await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");

    world.force("version/mod-1.0.0");
    world.version_reset("mod-1.0.0").await;
    let refused = refuses(&world, "mod-1.0.0").await;
    assert!(message(&refused).contains("The stored object is unchanged"), "{}", message(&refused));
    untouched(&world, &before, &bytes).await;
    world.force("module/mod");
    let module = world.module_reset("mod").await;
    assert_eq!(condition(&module, "Ready")["reason"], "ImmutableContentChanged");
    assert!(message(&module).contains(CHANGED), "{}", message(&module));
    assert_eq!(
        (&module["status"]["synced"], &condition(&module, "Stalled")["status"]),
        (&json!(true), &json!("True"))
    );
    world.request("module/mod", "again");
    // One attempt may answer both requests where they come together.
    world.until("a fetch for the Module", || world.served("mod") == 3).await;
    world.request("version/mod-1.0.0", "again");
    world.version_when("mod-1.0.0", |v| v["status"]["lastHandledRequest"] == "again").await;
    world.until("four fetches", || world.served("mod") == 4).await;
    world.quiet().await;
    refuses(&world, "mod-1.0.0").await;
    untouched(&world, &before, &bytes).await;
    world.warned_once("mod-1.0.0", CHANGED).await;

    // The tag moved back ends it.
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.request("version/mod-1.0.0", "moved-back");
    world.version_when("mod-1.0.0", |v| ready(v) && v["status"]["lastHandledRequest"] == "moved-back").await;
    world.module_ready("mod").await;
}

#[tokio::test]
async fn another_place_keeps_the_content_and_a_moved_tag_the_old_object() {
    let (world, repository, _operator) = published("pin-move").await;
    let other_bucket = format!("{}-other", world.name);
    world.bed.s3.create_bucket(&other_bucket).await.unwrap();
    let module = module(&world);
    let at = |version: &Value, begins: &str, ends: &str| {
        let key = version["status"]["storage"]["key"].as_str().unwrap_or_default().to_owned();
        ready(version) && key.starts_with(begins) && key.ends_with(ends)
    };
    let tar = module.clone().config("fileFormat", json!("tar"));
    world.apply(&tar);
    let moved = world.version_when("mod-1.0.0", |v| at(v, "mod/", ".tar.gz")).await;
    assert_eq!(moved["status"]["contentDigest"], digest_of(FIRST));
    world.apply(&tar.clone().s3("key", json!("first")));
    let before = world.version_when("mod-1.0.0", |v| at(v, "first/mod/", ".tar.gz")).await;
    assert_eq!(before["status"]["contentDigest"], digest_of(FIRST));
    let bytes = world.stored(&before).await;

    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");
    let mut config = before["spec"]["moduleConfigRef"].clone();
    for other in [
        tar.clone().s3("key", json!("second")),
        tar.clone().config("fileFormat", json!("zip")).s3("key", json!("second")),
        tar.clone().config("name", json!("renamed")),
        tar.clone().s3("bucket", json!(other_bucket)),
    ] {
        world.apply(&other);
        let changed = world.version_when("mod-1.0.0", |v| v["spec"]["moduleConfigRef"] != config).await;
        config = changed["spec"]["moduleConfigRef"].clone();
        refuses(&world, "mod-1.0.0").await;
        untouched(&world, &before, &bytes).await;
        assert_eq!(world.bed.s3.keys(&other_bucket).await.unwrap(), [""; 0]);
    }
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.request("module/mod", "moved-back");
    let there = |v: &Value| ready(v) && v["status"]["storage"]["bucket"] == other_bucket;
    let after = world.version_when("mod-1.0.0", there).await;
    assert_eq!(after["status"]["contentDigest"], digest_of(FIRST));
    world.objects_are(0).await;
}

#[tokio::test]
async fn a_version_removed_and_added_again_must_have_the_same_content() {
    let (world, repository, _operator) = published("pin-again").await;
    let bytes = world.stored(&world.version_ready("mod-1.0.0").await).await;
    world.apply(&module(&world).versions(&[]));
    gone(&world).await;
    let kept = world.module_ready("mod").await;
    assert_eq!(kept["status"]["published"], json!({"1.0.0": digest_of(FIRST)}));
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");

    // However it is spelled.
    world.apply(&module(&world).versions(&["1.0.0"]));
    let again = refuses(&world, "mod-1.0.0").await;
    assert_eq!(*expected_digest(&again), digest_of(FIRST));
    assert_eq!(again["status"]["synced"], false);
    assert!(message(&again).contains("Nothing was stored"), "{}", message(&again));
    assert_eq!((world.sent(""), world.bed.s3.keys(&world.name).await.unwrap().len()), (0, 0));

    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.force("module/mod");
    world.module_reset("mod").await;
    let back = world.version_ready("mod-1.0.0").await;
    assert!(world.stored(&back).await == bytes, "the same content gives the same bytes");
}

#[tokio::test]
async fn it_holds_when_the_old_version_still_terminates_and_the_operator_is_killed() {
    let (world, repository, operator) = published("pin-going").await;
    let old = world.version_ready("mod-1.0.0").await;
    let refused = S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE);
    world.bed.s3.inject(refused);
    world.apply(&module(&world).versions(&[]));
    world.version_fails("mod-1.0.0", "StorageAccessDenied").await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.apply(&module(&world));
    world.module_when("mod", |m| m["status"]["versions"]["summary"] == "0/1").await;
    operator.kill().await.unwrap();
    world.bed.s3.clear_faults(&world.name);
    world.count_from_now("mod");
    operator.restart().await.unwrap();
    let new = refuses(&world, "mod-1.0.0").await;
    assert_ne!(new["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!((world.sent(""), world.objects_are(0).await.len()), (0, 0));

    // Removed and added again while no operator runs: it is the same Version, and it still refuses.
    operator.kill().await.unwrap();
    world.apply(&module(&world).versions(&[]));
    world.kubectl(&["delete", "version", "mod-1.0.0", "--wait=false"]);
    operator.restart().await.unwrap();
    gone(&world).await;
    operator.kill().await.unwrap();
    world.apply(&module(&world));
    operator.restart().await.unwrap();
    let newest = refuses(&world, "mod-1.0.0").await;
    assert_ne!(newest["metadata"]["uid"], new["metadata"]["uid"]);
    assert_eq!(world.sent(""), 0);
}

#[tokio::test]
async fn it_holds_for_a_version_deleted_right_after_its_first_publish() {
    let world = World::new("pin-at-once").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    let api = opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
    let fault = || world.bed.github.inject(Fault::on(&repository.name(), Failure::Status(503)));
    // The second time while no operator runs.
    for killed in [false, true] {
        world.apply(&module(&world));
        let first = world.version_ready("mod-1.0.0").await;
        if killed {
            operator.kill().await.unwrap();
        }
        // So that the next one is not fetched before the tag is moved.
        fault();
        api.delete("mod-1.0.0", &kube::api::DeleteParams::default()).await.unwrap();
        if killed {
            operator.restart().await.unwrap();
        }
        repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
        let next =
            world.version_when("mod-1.0.0", |v| v["metadata"]["uid"] != first["metadata"]["uid"]).await;
        assert_eq!(*expected_digest(&next), digest_of(FIRST), "killed: {killed}");
        world.bed.github.clear_faults(&repository.name()).unwrap();
        refuses(&world, "mod-1.0.0").await;
        assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), [""; 0]);
        world.kubectl(&["delete", "module", "mod"]);
        gone(&world).await;
        repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    }
}

#[tokio::test]
async fn it_holds_for_a_version_whose_status_and_object_are_lost() {
    let (world, repository, operator) = published("pin-lost").await;
    let before = world.version_ready("mod-1.0.0").await;
    operator.terminate(SOON).await.unwrap();
    world.count_from_now("mod");
    let api = opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
    let lost = kube::api::Patch::Merge(json!({"status": null}));
    api.patch_status("mod-1.0.0", &kube::api::PatchParams::default(), &lost).await.unwrap();
    let key = before["status"]["storage"]["key"].as_str().unwrap();
    world.bed.s3.delete(&world.name, key).await.unwrap();
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    operator.restart().await.unwrap();
    // Whichever controller is first: the Module knows what it was.
    let version = refuses(&world, "mod-1.0.0").await;
    assert_eq!(*expected_digest(&version), digest_of(FIRST));
    assert_eq!(world.sent(""), 0, "the moved content was stored");
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), [""; 0]);
    // And while it runs: another object of the same name, without status, takes the place of the one that was there.
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.force("version/mod-1.0.0");
    let mut again = world.version_ready("mod-1.0.0").await;
    let key = again["status"]["storage"]["key"].as_str().unwrap().to_owned();
    again["metadata"] = json!({
        "name": "mod-1.0.0", "namespace": world.name, "finalizers": again["metadata"]["finalizers"],
        "ownerReferences": again["metadata"]["ownerReferences"],
    });
    let spec = again["spec"].as_object_mut().unwrap();
    spec.remove("expectedDigest");
    spec.remove("forceSync");
    world.patch("module/mod", &json!({"spec": {"suspend": true}}));
    world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    api.delete("mod-1.0.0", &kube::api::DeleteParams::default()).await.unwrap();
    gone(&world).await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");
    world.apply(&again);
    world.patch("module/mod", &json!({"spec": {"suspend": false}}));
    refuses(&world, "mod-1.0.0").await;
    assert_eq!((world.sent(""), world.bed.s3.keys(&world.name).await.unwrap()), (0, Vec::new()), "{key}");
}

#[tokio::test]
async fn a_lost_object_is_not_replaced_by_other_content_and_no_longer_called_stored() {
    let (world, repository, _operator) = published("pin-gap").await;
    let before = world.version_ready("mod-1.0.0").await;
    let bytes = world.stored(&before).await;
    let key = before["status"]["storage"]["key"].as_str().unwrap();
    world.bed.s3.delete(&world.name, key).await.unwrap();
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    world.version_reset("mod-1.0.0").await;
    let refused = refuses(&world, "mod-1.0.0").await;
    assert_eq!((&refused["status"]["synced"], world.sent("")), (&json!(false), 0));
    assert!(message(&refused).contains("Nothing was stored"), "{}", message(&refused));
    assert_eq!(refused["status"]["contentDigest"], digest_of(FIRST));

    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.force("version/mod-1.0.0");
    let restored = world.version_ready("mod-1.0.0").await;
    assert!(world.stored(&restored).await == bytes, "the same content gives the same bytes");
}

/// What git makes of a tag, packed in another way than GitHub does.
fn packed_otherwise(repository: &Repository, format: Format) -> Vec<u8> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "-C"]).arg(repository.folder()).arg("archive").args(args);
        let output = command.args(["--prefix=other/", "v1.0.0"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    match format {
        Format::Zip => git(&["--format=zip", "-0"]),
        Format::TarGz => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::none());
            std::io::Write::write_all(&mut gzip, &git(&["--format=tar"])).unwrap();
            gzip.finish().unwrap()
        }
    }
}

#[tokio::test]
async fn other_compression_by_github_is_no_other_content() {
    let world = World::new("pin-recompressed").await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let text = "# the same line many times\n".repeat(500);
    repository
        .release("v1.0.0", &[File::new("main.tf", text), File::executable("run.sh", "#!/bin/sh\n")])
        .unwrap();
    let _operator = world.operator().await;
    for (name, format, served) in [("zip", "zip", Format::Zip), ("tar", "tar", Format::TarGz)] {
        let module = world.module(name).config("repoUrl", json!(repository.url()));
        let module = module.config("immutable", json!(true)).config("fileFormat", json!(format));
        world.apply(&module.versions(&["v1.0.0"]));
        let version = format!("{name}-1.0.0");
        let before = world.version_ready(&version).await;
        let bytes = world.stored(&before).await;
        let other = packed_otherwise(&repository, served);
        assert!(other.len() > 10_000, "not compressed");
        repository.replace_archive("v1.0.0", served, other).unwrap();
        world.count_from_now("mod");
        world.force(&format!("version/{version}"));
        world.version_reset(&version).await;
        let after = world.version_ready(&version).await;
        assert_eq!((world.served("mod"), world.sent(name)), (1, 1));
        for field in ["checksum", "contentDigest", "source", "storage"] {
            assert_eq!(after["status"][field], before["status"][field], "{format}: {field}");
        }
        assert!(world.stored(&after).await == bytes, "{format}: other bytes");
    }
}

#[tokio::test]
async fn the_same_commit_with_other_content_has_a_reason_of_its_own() {
    let world = World::new("pin-subst").await;
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let files =
        [File::new(".gitattributes", "main.tf export-subst\n"), File::new("main.tf", "# $Format:%D$\n")];
    let commit = repository.release("v1.0.0", &files).unwrap();
    let _operator = world.operator().await;
    world.apply(&module(&world));
    let before = world.version_ready("mod-1.0.0").await;
    let bytes = world.stored(&before).await;
    // The names of a commit are part of its archive now, so another name is other content.
    repository.tag("v1.0.0-again", &commit).unwrap();
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    world.version_reset("mod-1.0.0").await;
    let reason = "SameCommitOtherContent";
    let refused = world.version_when("mod-1.0.0", |v| condition(v, "Ready")["reason"] == reason).await;
    let message = message(&refused);
    assert!(message.contains(&commit) && message.contains("export-subst"), "{message}");
    assert!(message.contains(before["status"]["contentDigest"].as_str().unwrap()), "{message}");
    assert_eq!(message.matches("h1:").count(), 2, "{message}");
    assert_eq!(condition(&refused, "Stalled")["status"], "True");
    untouched(&world, &before, &bytes).await;
    world.warned_once("mod-1.0.0", reason).await;
}

#[tokio::test]
async fn without_immutable_new_content_replaces_the_object_and_an_event_says_so() {
    let world = World::new("replaced").await;
    let repository = world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    let before = world.version_ready("mod-1.0.0").await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    world.version_reset("mod-1.0.0").await;
    let after = world.version_ready("mod-1.0.0").await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
    assert_eq!(after["status"]["contentDigest"], digest_of(MOVED));
    assert_ne!(after["status"]["storage"], before["status"]["storage"], "under a key of its own");
    assert_eq!(world.objects_are(1).await, [after["status"]["storage"]["key"].as_str().unwrap()]);
    assert_ne!(after["status"]["checksum"], before["status"]["checksum"]);
    let notes = world.events("mod-1.0.0", "ContentReplaced").await;
    assert!(notes[0].contains(&digest_of(FIRST)) && notes[0].contains(&digest_of(MOVED)), "{notes:?}");

    // Each content has an Event of its own.
    repository.release("v1.0.0", &main_tf("# moved between\n")).unwrap();
    world.force("version/mod-1.0.0");
    world.version_reset("mod-1.0.0").await;
    soon(|| async {
        let notes = world.events("mod-1.0.0", "ContentReplaced").await;
        anyhow::ensure!(notes.iter().any(|n| n.contains(&digest_of("# moved between\n"))), "{notes:?}");
        Ok(())
    })
    .await;

    // Also when the operator dies between the store and the status. S3 deletes nothing, so the store is seen.
    world.objects_are(1).await;
    let fault = |method, failure| world.bed.s3.inject(S3Fault::new(&world.name, failure).method(method));
    fault(Method::PUT, S3Failure::HangAfter);
    fault(Method::DELETE, S3Failure::Answer(403, "AccessDenied"));
    repository.release("v1.0.0", &main_tf("# moved again\n")).unwrap();
    world.count_from_now("mod");
    world.force("version/mod-1.0.0");
    world.objects_are(2).await;
    operator.kill().await.unwrap();
    world.bed.s3.clear_faults(&world.name);
    operator.restart().await.unwrap();
    world.version_when("mod-1.0.0", |v| v["status"]["contentDigest"] == digest_of("# moved again\n")).await;
    assert_eq!(world.served("mod"), 1);
    soon(|| async {
        let notes = world.events("mod-1.0.0", "ContentReplaced").await;
        anyhow::ensure!(notes.iter().any(|n| n.contains(&digest_of("# moved again\n"))), "{notes:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn turning_it_off_clears_the_pins_and_on_starts_from_what_is_stored() {
    // Without verification, which sends requests of its own.
    let (world, repository, _operator) = published_with("pin-off", &["--verify-interval", "0"]).await;
    repository.release("v2.0.0", &main_tf("# v2.0.0\n")).unwrap();
    let both = || module(&world).versions(&["v1.0.0", "v2.0.0"]);
    world.apply(&both());
    world.module_ready("mod").await;
    // One that was added again carries its pin, and one is refused.
    world.apply(&module(&world).versions(&["v2.0.0"]));
    world.versions_are(&["mod-2.0.0"]).await;
    repository.release("v1.0.0", &main_tf(MOVED)).unwrap();
    world.apply(&both());
    refuses(&world, "mod-1.0.0").await;
    let settled = world.version_ready("mod-2.0.0").await;
    world.quiet().await;
    world.count_from_now("mod");

    let off = both().config("immutable", json!(false));
    world.apply(&off);
    let module_off = world.module_ready("mod").await;
    assert!(module_off["status"]["published"].is_null(), "{}", module_off["status"]);
    let notes = world.events("mod", "ImmutableTurnedOff").await;
    assert!(notes.len() == 1 && notes[0].contains("2 versions"), "{notes:?}");
    let taken = world.version_ready("mod-1.0.0").await;
    assert!(expected_digest(&taken).is_null());
    assert_eq!(taken["status"]["contentDigest"], digest_of(MOVED));
    assert_eq!((world.served("mod"), world.sent("")), (1, 1), "the settled one costs no request");

    world.count_from_now("mod");
    world.apply(&both());
    let on = world.module_when("mod", |m| ready(m) && m["status"]["published"].is_object()).await;
    assert_eq!(on["status"]["published"]["1.0.0"], digest_of(MOVED), "what is stored");
    assert_eq!(on["status"]["published"]["2.0.0"], settled["status"]["contentDigest"]);
    world.quiet().await;
    assert!(world.bed.s3.requests(&world.name).is_empty() && world.served("mod") == 0);
    assert_eq!(world.events("mod", "ImmutableTurnedOff").await.len(), 1, "reported once");
    repository.release("v1.0.0", &main_tf(FIRST)).unwrap();
    world.force("version/mod-1.0.0");
    refuses(&world, "mod-1.0.0").await;
}

#[tokio::test]
async fn a_version_goes_only_when_its_module_has_on_record_what_it_held() {
    let world = World::new("pin-first").await;
    world.tagged("mod", &["v1.0.0"]);
    let operator = world.operator().await;
    let api = opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
    for round in 0..3 {
        world.apply(&module(&world));
        let first = world.version_when("mod-1.0.0", |v| v["status"]["contentDigest"].is_string()).await;
        api.delete("mod-1.0.0", &kube::api::DeleteParams::default()).await.unwrap();
        soon(|| async {
            let now = world.get_version("mod-1.0.0").await?;
            let same = now.is_some_and(|now| now["metadata"]["uid"] == first["metadata"]["uid"]);
            anyhow::ensure!(!same, "it is still there");
            Ok(())
        })
        .await;
        // A kill now loses what was only in the memory of the process.
        operator.kill().await.unwrap();
        let module = world.get_module("mod").await.unwrap();
        assert_eq!(module["status"]["published"]["1.0.0"], first["status"]["contentDigest"], "round {round}");
        operator.restart().await.unwrap();
        world.kubectl(&["delete", "module", "mod"]);
        gone(&world).await;
    }
}
