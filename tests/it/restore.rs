//! Restores as other software does them: without status, owners and finalizers, in either order, the operator running or not.

use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use crate::support::requests::main_tf;
use crate::support::{World, condition, key, ready, root};

/// A world whose Module `mod` has three versions, all stored, and then one tag gone and another moved: whatever is fetched
/// again is noticed.
async fn stored(name: &str) -> (World, Operator) {
    let world = World::new(name).await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    let operator = world.operator().await;
    world.apply(&module(&world));
    world.module_ready("mod").await;
    repository.delete_tag("v1.0.0").unwrap();
    repository.release("v1.1.0", &main_tf("# moved\n")).unwrap();
    world.count_from_now("mod");
    (world, operator)
}

fn module(world: &World) -> Value {
    world.module("mod").config("immutable", json!(true)).versions(&["v1.0.0", "v1.1.0", "v1.2.0"]).0
}

/// What Velero restores of an object.
fn restored(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let kept = |field: &str| metadata[field].clone();
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": {
            "name": kept("name"), "namespace": kept("namespace"), "labels": kept("labels"),
            "annotations": kept("annotations"),
        },
    })
}

fn create(world: &World, object: &Value) {
    world.bed.kubectl_with(&["create", "-f", "-"], &object.to_string()).unwrap().ok().unwrap();
}

/// The Module and its Versions, and then nothing of them is left in the cluster: the operator is stopped, and the finalizers
/// are taken off as the documents have it.
async fn lost(world: &World, operator: &Operator) -> (Value, Vec<Value>) {
    operator.kill().await.unwrap();
    // Other software's finalizers come before and after ours.
    let finalizers = json!({"metadata": {"finalizers": ["example.com/a", "opendepot.defdev.io/versions", "example.com/b"]}});
    world.patch("module/mod", &finalizers);
    let backup = (world.get_module("mod").await.unwrap(), world.versions().await.unwrap());
    world.shell(&the_way_to_take_finalizers_off(world));
    let module = world.get_module("mod").await.unwrap();
    assert_eq!(module["metadata"]["finalizers"], json!(["example.com/a", "example.com/b"]));
    world.patch("module/mod", &json!({"metadata": {"finalizers": null}}));
    world.kubectl(&["delete", "modules,versions", "--all", "--timeout=120s"]);
    world.versions_are(&[]).await;
    backup
}

/// The commands of the documents that take our finalizers off, for this namespace alone.
pub(crate) fn the_way_to_take_finalizers_off(world: &World) -> String {
    let commands = |page: &str| {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let begin =
            text.find("kubectl get modules.opendepot.defdev.io,versions.opendepot.defdev.io -A").unwrap();
        text[begin..begin + text[begin..].find("```").unwrap()].to_owned()
    };
    let way = commands("docs/operations.md");
    assert_eq!(commands("docs/migration.md"), way, "one way, on both pages");
    way.replace(" -A ", &format!(" -n {} ", world.name))
}

/// Nothing was fetched or stored, and each Version has the object that it had.
async fn found_again(world: &World, before: &[Value]) {
    world.module_ready("mod").await;
    for old in before {
        let new = world.version_ready(old["metadata"]["name"].as_str().unwrap()).await;
        for field in ["storage", "checksum", "contentDigest"] {
            assert_eq!(new["status"][field], old["status"][field], "{field}");
        }
        assert_eq!(new["metadata"]["ownerReferences"][0]["name"], "mod");
        assert_eq!(new["metadata"]["finalizers"], json!(["opendepot.defdev.io/stored-object"]));
    }
    assert_eq!((world.served("mod"), world.sent("")), (0, 0));
    world.objects_are(before.len()).await;
}

#[tokio::test]
async fn a_restore_without_owners_and_status_finds_every_object_again() {
    let (world, operator) = stored("velero").await;
    // Modules first, while the operator is stopped.
    let (module, versions) = lost(&world, &operator).await;
    create(&world, &restored(&module));
    for version in &versions {
        create(&world, &restored(version));
    }
    operator.restart().await.unwrap();
    found_again(&world, &versions).await;
    assert!(!world.get_module("mod").await.unwrap()["metadata"]["finalizers"].is_null());

    // Versions first, while it runs.
    let (module, versions) = lost(&world, &operator).await;
    operator.restart().await.unwrap();
    for version in &versions {
        create(&world, &restored(version));
        world.version_when(version["metadata"]["name"].as_str().unwrap(), ready).await;
    }
    create(&world, &restored(&module));
    found_again(&world, &versions).await;

    // With owners that do not exist any more Kubernetes removes the Versions, but no object.
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    let (module, versions) = lost(&world, &operator).await;
    create(&world, &restored(&module));
    create_owned(&world, &versions);
    world.version_when("mod-1.0.0", |v| v["metadata"]["deletionTimestamp"].is_string()).await;
    operator.restart().await.unwrap();
    world.version_fails("mod-1.0.0", "TagNotFound").await;
    world.version_ready("mod-1.2.0").await;
    let now = world.bed.s3.keys(&world.name).await.unwrap();
    assert!(keys.iter().all(|key| now.contains(key)), "{keys:?} {now:?}");
}

#[test]
fn the_commands_for_velero_restore_versions_then_modules_then_the_rest() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let commands: Vec<&str> = page.split("velero restore create ").skip(1).collect();
    let [versions, modules, _] = &commands[..] else { panic!("{commands:#?}") };
    assert!(
        versions.contains(",versions.opendepot.defdev.io") && !versions.contains("modules"),
        "{versions}"
    );
    assert!(modules.contains("--status-include-resources modules.opendepot.defdev.io\n"), "{modules}");
}

/// Creates these Versions with their former owners and finalizers.
fn create_owned(world: &World, versions: &[Value]) {
    for version in versions {
        let mut owned = restored(version);
        for field in ["ownerReferences", "finalizers"] {
            owned["metadata"][field] = version["metadata"][field].clone();
        }
        create(world, &owned);
    }
}

#[tokio::test]
async fn versions_of_an_owner_that_does_not_exist_take_over_no_object_that_would_be_deleted_with_them() {
    let (world, operator) = stored("former-owner").await;
    world.patch("module/mod", &json!({"spec": {"moduleConfig": {"immutable": false}}}));
    world.module_when("mod", |m| m["status"]["published"].is_null()).await;
    world.module_ready("mod").await;
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    let (_, versions) = lost(&world, &operator).await;
    // While the operator runs, which sees each Version before Kubernetes removes it.
    operator.restart().await.unwrap();
    create_owned(&world, &versions);
    world.versions_are(&[]).await;
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), keys);
}

#[tokio::test]
async fn what_another_module_of_that_name_left_is_not_taken_over() {
    let (world, _operator) = stored("not-mine").await;
    world.kubectl(&["delete", "module", "mod", "--cascade=orphan"]);
    let before = world.versions().await.unwrap();
    let keys = world.bed.s3.keys(&world.name).await.unwrap();
    let mut other = module(&world);
    world.tagged("other", &["v1.2.0", "v1.3.0"]);
    other["spec"]["moduleConfig"]["repoUrl"] =
        json!(format!("https://github.com/{}", world.repository("other")));
    other["spec"]["versions"] = json!([{"version": "v1.2.0"}, {"version": "v1.3.0"}]);
    create(&world, &other);
    let module = world.module_when("mod", |m| condition(m, "Ready")["reason"] == "NameTaken").await;
    world.version_ready("mod-1.3.0").await;
    let uid = |v: &Value| (v["metadata"]["uid"].clone(), v["spec"].clone());
    let now = world.versions().await.unwrap();
    assert!(before.iter().all(|old| now.iter().any(|new| uid(new) == uid(old))));
    let there = world.bed.s3.keys(&world.name).await.unwrap();
    assert!(keys.iter().all(|key| there.contains(key)), "{there:?}");
    // The command that the condition prints hands it over.
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    let command = message.split("kubectl ").nth(1).unwrap();
    world.bed.kubectl(&command.split_whitespace().collect::<Vec<_>>()).unwrap().ok().unwrap();
    world.module_ready("mod").await;
    assert_eq!(world.version_ready("mod-1.2.0").await["metadata"]["ownerReferences"][0]["name"], "mod");
}

#[tokio::test]
async fn a_request_of_long_ago_keeps_no_version_without_status_from_its_object() {
    let world = World::new("restore-asked").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let operator = world.operator().await;
    let module = world.module("mod").config("immutable", json!(true));
    world.apply(&module.versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    let names = ["mod-1.0.0", "mod-1.1.0"];
    for name in names {
        world.kubectl(&["annotate", "version", name, "opendepot.defdev.io/requestedAt=once"]);
        world.version_when(name, |v| v["status"]["lastHandledRequest"] == "once" && ready(v)).await;
    }
    // The object that a move stores was made in answer to nothing.
    world
        .patch("module/mod", &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"key": "moved"}}}}}));
    let mut before = Vec::new();
    for name in names {
        let is_moved = |v: &Value| {
            ready(v) && v["status"]["storage"]["key"].as_str().is_some_and(|key| key.starts_with("moved/"))
        };
        before.push(world.version_when(name, is_moved).await);
    }
    world.module_ready("mod").await;
    operator.kill().await.unwrap();
    repository.delete_tag("v1.0.0").unwrap();
    repository.release("v1.1.0", &main_tf("# moved\n")).unwrap();
    let bytes = [world.stored(&before[0]).await, world.stored(&before[1]).await];
    for object in ["version/mod-1.0.0", "version/mod-1.1.0", "module/mod"] {
        world.kubectl(&["patch", object, "--subresource=status", "--type=merge", "-p", "{\"status\":null}"]);
    }
    operator.restart().await.unwrap();
    for ((name, reason), old) in names.iter().zip(["TagNotFound", "ImmutableContentChanged"]).zip(&before) {
        let asked_again = |v: &Value| condition(v, "Ready")["reason"] == reason;
        let new = world.version_when(name, asked_again).await;
        assert_eq!(new["status"]["synced"], true, "{new:#}");
        for field in ["storage", "checksum", "contentDigest"] {
            assert_eq!(new["status"][field], old["status"][field], "{field}");
        }
    }
    world.objects_are(2).await;
    assert!(bytes == [world.stored(&before[0]).await, world.stored(&before[1]).await]);
}

#[tokio::test]
async fn a_version_that_loses_its_owner_gets_it_back_or_is_reported() {
    let world = World::new("owner-lost").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.module_ready("mod").await;
    let version = world.version_ready("mod-1.0.0").await;
    let remove = r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#;
    world.kubectl(&["patch", "version", "mod-1.0.0", "--type=json", "-p", remove]);
    let uid = &version["metadata"]["ownerReferences"][0]["uid"];
    world.version_when("mod-1.0.0", |v| &v["metadata"]["ownerReferences"][0]["uid"] == uid).await;
    // All that names the Module is gone, but for the name.
    let bare = json!({
        "apiVersion": version["apiVersion"], "kind": "Version", "spec": version["spec"],
        "metadata": {"name": "mod-1.0.0", "namespace": world.name},
    });
    world.bed.kubectl_with(&["replace", "-f", "-"], &bare.to_string()).unwrap().ok().unwrap();
    world.module_when("mod", |m| condition(m, "Ready")["reason"] == "NameTaken").await;
}

#[tokio::test]
async fn a_version_that_another_object_takes_over_is_reported_by_its_module() {
    let world = World::new("owner-other").await;
    world.tagged("mod", &["v1.0.0", "v1.1.0+build.5"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0+build.5"]));
    world.module_ready("mod").await;
    let versions = world.versions().await.unwrap();
    let hashed = versions.iter().find(|version| version["spec"]["version"] == "v1.1.0+build.5").unwrap();
    let hashed_name = hashed["metadata"]["name"].as_str().unwrap();
    assert_ne!(hashed_name, "mod-1.1.0+build.5");

    world.kubectl(&["create", "configmap", "other"]);
    let uid = world.kubectl(&["get", "configmap", "other", "-o", "jsonpath={.metadata.uid}"]);
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": uid, "controller": true});
    let replace =
        json!([{"op": "replace", "path": "/metadata/ownerReferences", "value": [owner]}]).to_string();
    world.kubectl(&["patch", "version", "mod-1.0.0", "--type=json", "-p", &replace]);
    world
        .module_when("mod", |m| condition(m, "Ready")["message"].as_str().unwrap().contains("mod-1.0.0"))
        .await;

    // The name of this one does not lead to its Module.
    let bare = json!({
        "apiVersion": hashed["apiVersion"], "kind": "Version", "spec": hashed["spec"],
        "metadata": {"name": hashed_name, "namespace": world.name},
    });
    world.bed.kubectl_with(&["replace", "-f", "-"], &bare.to_string()).unwrap().ok().unwrap();
    world
        .module_when("mod", |m| condition(m, "Ready")["message"].as_str().unwrap().contains(hashed_name))
        .await;
    // Once it is gone, the Module creates it again.
    world.kubectl(&["delete", "version", hashed_name]);
    let again = world.version_ready(hashed_name).await;
    assert_eq!(again["metadata"]["ownerReferences"][0]["name"], "mod");
}

/// Copies of a Version, as of a namespace that is restored under another name with the status of its objects.
#[tokio::test]
async fn a_copy_does_not_verify_the_object_of_the_original() {
    let world = World::new("restore-copy").await;
    world.released("mod");
    let operator = world.operator_with(&["--verify-interval", "2s"]).await;
    let mut original = world.inline_of("mod", &world.module("mod").config("name", json!("mod")));
    original["spec"]["fileName"] = json!("mod-1.0.0.zip");
    world.apply(&original);
    let mut copy = world.version_ready("mod").await;
    operator.terminate(crate::support::SOON).await.unwrap();
    copy["metadata"] = json!({"name": "copy", "namespace": world.name});
    create(&world, &copy);
    let status = json!({"status": copy["status"]}).to_string();
    world.kubectl(&["patch", "version/copy", "--subresource=status", "--type=merge", "-p", &status]);
    operator.restart().await.unwrap();
    let reason = |version: &Value| condition(version, "Ready")["reason"] == "ObjectNotOurs";
    let failed = world.version_when("copy", reason).await;
    assert_eq!(failed["status"]["synced"], false, "{:#}", failed["status"]);
    world.kubectl(&["delete", "version/copy"]);
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap().len(), 1, "the object of the original");
    assert!(ready(&world.version_ready("mod").await));
}

/// With the status of both kinds, long after one of the objects was deleted.
#[tokio::test]
async fn a_restore_with_status_verifies_each_object_once_and_fetches_what_is_lost() {
    let world = World::new("restore-status").await;
    world.tagged("mod", &["v1.0.0", "v1.1.0"]);
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    let (module, versions) = lost(&world, &operator).await;
    let [deleted, intact] = &versions[..] else { panic!("{versions:#?}") };
    world.bed.s3.delete(&world.name, &key(deleted)).await.unwrap();
    // Times have whole seconds.
    world.next_second().await;
    for (object, name) in
        [(&module, "module/mod"), (deleted, "version/mod-1.0.0"), (intact, "version/mod-1.1.0")]
    {
        create(&world, &restored(object));
        let status = json!({"status": object["status"]}).to_string();
        world.kubectl(&["patch", name, "--subresource=status", "--type=merge", "-p", &status]);
    }
    world.count_from_now("mod");
    let writes = world
        .writes_during(async {
            operator.restart().await.unwrap();
            world.events("mod-1.0.0", "Restoring").await;
            world.version_ready("mod-1.0.0").await;
            let is_verified = |v: &Value| {
                ready(v) && condition(v, "Ready")["lastTransitionTime"] == v["metadata"]["creationTimestamp"]
            };
            world.version_when("mod-1.1.0", is_verified).await;
            world.module_ready("mod").await;
        })
        .await;
    assert_eq!((world.served("mod"), world.sent("")), (1, 1));
    world.objects_are(2).await;
    for old in [deleted, intact] {
        let new = world.version_ready(old["metadata"]["name"].as_str().unwrap()).await;
        for field in ["storage", "checksum", "contentDigest"] {
            assert_eq!(new["status"][field], old["status"][field], "{field}");
        }
    }
    let of_intact =
        writes.iter().filter(|w| w.name == "mod-1.1.0" && w.subresource == "status" && w.code == 200);
    assert_eq!(of_intact.count(), 1, "{writes:#?}");

    world.bed.s3.forget_requests(&world.name);
    let restart = async {
        operator.restart().await.unwrap();
    };
    let writes = world.writes_during(restart).await;
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(world.bed.s3.requests(&world.name), [], "each was verified");
}

/// An owed sync fails, but the object that it was to replace is there again.
#[tokio::test]
async fn a_lost_object_that_is_put_back_counts_although_its_sync_fails() {
    let world = World::new("restore-back").await;
    let repository = world.released("mod");
    let _operator = world.operator_with(&["--verify-interval", "2s"]).await;
    world.apply(&world.inline("mod"));
    let version = world.version_ready("mod").await;
    repository.delete_tag("v1.0.0").unwrap();
    let object = world.bed.s3.object_file(&world.name, version["status"]["storage"]["key"].as_str().unwrap());
    let away = object.with_extension("away");
    std::fs::rename(&object, &away).unwrap();
    let is_lost = |version: &Value| {
        version["status"]["synced"] == false && condition(version, "Ready")["reason"] == "TagNotFound"
    };
    world.version_when("mod", is_lost).await;
    world.force("version/mod");
    world.version_when("mod", |version| version["status"]["pendingForce"].is_string()).await;
    std::fs::rename(&away, &object).unwrap();
    let back = world.version_when("mod", |version| version["status"]["synced"] == true).await;
    assert_eq!(condition(&back, "Ready")["reason"], "TagNotFound");
}

/// A namespace that is restored under another name, without the status of its objects.
#[tokio::test]
async fn a_version_that_is_copied_to_another_namespace_is_handed_over_with_an_object_of_its_own() {
    let (original, copy) = (World::new("copied-from").await, World::new("copied-to").await);
    original.tagged("mod", &["v1.0.0"]);
    let operator = original.operator().await;
    original.apply(&original.module("mod").versions(&["v1.0.0"]));
    let module = original.module_ready("mod").await;
    let version = original.version_ready("mod-1.0.0").await;
    operator.terminate(crate::support::SOON).await.unwrap();
    for object in [&version, &module] {
        let mut object = restored(object);
        object["metadata"]["namespace"] = json!(copy.name);
        create(&copy, &object);
    }
    let _operator = copy.operator().await;
    let taken = copy.module_when("mod", |m| condition(m, "Ready")["reason"] == "NameTaken").await;
    let message = condition(&taken, "Ready")["message"].as_str().unwrap();
    let (advice, command) = message.split_once("kubectl ").unwrap();
    assert!(advice.contains("another namespace") && advice.contains("deletionPolicy: Retain"), "{message}");
    copy.shell(&format!("kubectl {command}"));
    copy.module_ready("mod").await;
    assert_ne!(key(&copy.version_ready("mod-1.0.0").await), key(&version));
    copy.kubectl(&["delete", "module", "mod"]);
    copy.versions_are(&[]).await;
    assert_eq!(original.bed.s3.keys(&original.name).await.unwrap(), [key(&version)]);
}
