//! Manifests, objects and files of the original OpenDepot: the manifests apply and work, and installing over it in place
//! changes nothing that is its own.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use opendepot_testbed::github::File;
use opendepot_testbed::markdown::blocks;
use serde_json::{Value, json};

use crate::support::{World, condition, own_testbed, root, soon};

const API: &str = "opendepot.defdev.io/v1alpha1";
const FINALIZER: &str = "opendepot.defdev.io/finalizer";

/// A Module with every field that the original has a use for.
fn module(world: &World) -> Value {
    json!({
        "apiVersion": API, "kind": "Module",
        "metadata": {"name": "net", "namespace": world.name},
        "spec": {
            "forceSync": false,
            "moduleConfig": {
                "name": "network", "provider": "aws", "fileFormat": "zip", "immutable": true,
                "repoOwner": world.name, "repoUrl": format!("https://github.com/{}", world.repository("net")),
                "githubClientConfig": {"useAuthenticatedClient": false},
                "versionConstraints": ">= 1.0.0, < 3.0.0", "versionHistoryLimit": 10,
                "storageConfig": {
                    "s3": {"bucket": world.name, "region": "us-west-2", "key": "team/modules/"},
                    "presign": {"enabled": true, "ttl": "15m", "fallbackToProxy": true},
                },
            },
            "versions": [
                {"version": "v1.2.3", "name": "network", "fileName": "of-the-original.zip", "synced": true},
                {"version": "1.3.0"},
            ],
        },
    })
}

/// A Version without a Module, as the original's users write one.
fn version(world: &World, name: &str) -> Value {
    json!({
        "apiVersion": API, "kind": "Version",
        "metadata": {"name": name, "namespace": world.name},
        "spec": {
            "type": "Module", "version": "1.2.3", "forceSync": false,
            "moduleConfigRef": {
                "repoOwner": world.name, "repoUrl": format!("https://github.com/{}", world.repository("net")),
                "githubClientConfig": {"useAuthenticatedClient": false},
                "storageConfig": {
                    "s3": {"bucket": world.name, "region": "us-west-2"}, "presign": {"enabled": false, "ttl": "1h"},
                },
            },
        },
    })
}

/// A Version of a provider, which is none of our business.
fn provider_version(world: &World) -> Value {
    json!({
        "apiVersion": API, "kind": "Version",
        "metadata": {
            "name": "aws-5-80-0-linux-amd64", "namespace": world.name, "finalizers": [FINALIZER],
            "labels": {"opendepot.defdev.io/provider": "aws", "opendepot.defdev.io/namespace": world.name},
        },
        "spec": {
            "type": "Provider", "version": "5.80.0", "fileName": "aws.zip",
            "operatingSystem": "linux", "architecture": "amd64",
            "providerConfigRef": {
                "name": "aws", "namespace": "hashicorp", "operatingSystems": ["linux"], "architectures": ["amd64"],
                "sourceRepository": "https://github.com/hashicorp/terraform-provider-aws",
                "storageConfig": {"s3": {"bucket": world.name, "region": "us-west-2"}},
            },
        },
    })
}

/// A repository with what the Module wants.
fn repository(world: &World) {
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    for tag in ["v1.2.3", "v1.3.0"] {
        repository.release(tag, &[File::new("main.tf", format!("# {tag}\n"))]).unwrap();
    }
}

#[tokio::test]
async fn a_module_with_every_field_of_the_original_is_published() {
    let world = World::new("original-module").await;
    repository(&world);
    let _operator = world.operator().await;
    world.apply(&module(&world));
    world.module_ready("net").await;
    let published = [world.version_ready("net-1.2.3").await, world.version_ready("net-1.3.0").await];
    for version in &published {
        let key = version["status"]["storage"]["key"].as_str().unwrap();
        assert!(key.starts_with("team/modules/network/") && !key.contains("of-the-original"), "{key}");
    }
    let ignored = json!({"spec": {"moduleConfig": {
        "versionConstraints": "< 1.0.0",
        "storageConfig": {"presign": {"enabled": false, "ttl": "1m", "fallbackToProxy": false}},
    }}});
    let writes = world.writes_during(async { world.patch("module/net", &ignored) }).await;
    assert!(writes.iter().all(|w| w.resource == "modules"), "{writes:?}");
    assert_eq!(world.versions().await.unwrap(), published);
}

#[tokio::test]
async fn an_original_version_without_a_module_is_published_a_providers_is_not() {
    let world = World::new("original-version").await;
    repository(&world);
    let _operator = world.operator().await;
    let mut named = version(&world, "network-1-2-3");
    named["spec"]["fileName"] = json!("01890a5d.zip");
    named["spec"]["moduleConfigRef"]["name"] = json!("network");
    world.apply(&named);
    world.apply(&version(&world, "net-1-2-3"));
    let mut provider = provider_version(&world);
    provider["metadata"]["finalizers"] = Value::Null;
    world.apply(&provider);
    let named = world.version_ready("network-1-2-3").await;
    assert_eq!(named["status"]["storage"]["key"], "network/01890a5d.zip");
    world.version_ready("net-1-2-3").await;
    let writes = world
        .writes_during(async {
            let force = json!({"spec": {"forceSync": true}});
            world.patch("version/aws-5-80-0-linux-amd64", &force);
        })
        .await;
    assert!(writes.is_empty(), "{writes:?}");
    let provider = world.get_version("aws-5-80-0-linux-amd64").await.unwrap().unwrap();
    assert!(provider["metadata"]["finalizers"].is_null(), "{provider:#}");
    assert_eq!(provider["status"], json!({"observedGeneration": -1}));
}

/// CRDs under the original's names that let everything in, as a stand-in for those of any of its releases.
pub(crate) fn original_crds() -> tempfile::TempDir {
    crds_with(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
}

/// The same with another schema of the status.
fn crds_with(status: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (plural, kind) in [("modules", "Module"), ("versions", "Version"), ("providers", "Provider")] {
        let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.opendepot.defdev.io")},
            "spec": {
                "group": "opendepot.defdev.io", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{
                    "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": status}}},
                }],
            },
        });
        std::fs::write(folder.path().join(format!("{plural}.yaml")), crd.to_string()).unwrap();
    }
    folder
}

/// A Version of the original's Module controller.
fn dashed(world: &World, name: &str, module: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": API, "kind": "Version",
        "metadata": {
            "name": name, "namespace": world.name, "finalizers": [FINALIZER],
            "labels": {"opendepot.defdev.io/module": "network", "opendepot.defdev.io/namespace": world.name},
            "ownerReferences": [{
                "apiVersion": API, "kind": "Module", "name": "net", "uid": module["metadata"]["uid"],
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
    })
}

/// Creates an object with a status, and its file in the bucket.
async fn create(world: &World, object: &Value, status: Value) {
    world.apply(object);
    let name = object["metadata"]["name"].as_str().unwrap();
    if object["kind"] == "Version" {
        let api =
            opendepot::controller::client::objects::<opendepot::api::Version>(&world.client, &world.name);
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({"status": status})))
            .await
            .unwrap();
        let file = format!("network/{name}.zip");
        world.bed.s3.put(&world.name, &file, format!("the original's {name}")).await.unwrap();
    }
}

/// Whether all of `before` is in `after`: reading through another schema may add defaults, and must not lose anything.
fn holds(after: &Value, before: &Value) -> bool {
    match (after, before) {
        (Value::Object(after), Value::Object(before)) => {
            before.iter().all(|(key, before)| after.get(key).is_some_and(|after| holds(after, before)))
        }
        (Value::Array(after), Value::Array(before)) => {
            after.len() == before.len()
                && after.iter().zip(before).all(|(after, before)| holds(after, before))
        }
        (after, before) => after == before,
    }
}

/// What the original has left: its Versions with their status, and its files with their bytes.
struct Inventory {
    versions: Vec<Value>,
    files: Vec<(String, Vec<u8>)>,
}

impl Inventory {
    async fn take(world: &World) -> Self {
        let mut files = Vec::new();
        for key in world.bed.s3.keys(&world.name).await.unwrap() {
            let bytes = world.bed.s3.get(&world.name, &key).await.unwrap();
            files.push((key, bytes));
        }
        Self { versions: world.versions().await.unwrap(), files }
    }

    /// Everything is still there, down to the resourceVersion: nothing has written to it.
    async fn is_untouched(&self, world: &World) {
        for before in &self.versions {
            let name = before["metadata"]["name"].as_str().unwrap();
            let after = world.get_version(name).await.unwrap().unwrap_or_else(|| panic!("{name} is gone"));
            assert!(holds(&after, before), "{name}: {after:#} was {before:#}");
        }
        for (key, bytes) in &self.files {
            assert!(world.bed.s3.get(&world.name, key).await.unwrap() == *bytes, "{key}");
        }
    }
}

/// Fields of the original that the status of a Module keeps.
fn module_status() -> Value {
    json!({"moduleVersionRefs": {"1.3.0": {"name": "network-1-3-0", "synced": true}}, "fileName": "b.zip"})
}

/// What the original has made for one Module: two Versions as different releases of it write them, and what is not that
/// Module's: a provider's, another kind's, one without an owner.
async fn of_the_original(world: &World) -> Inventory {
    let mut module_object = module(world);
    module_object["spec"]["versions"] = json!([{"version": "v1.2.3"}, {"version": "1.3.0"}]);
    world.apply(&module_object);
    let api = opendepot::controller::client::objects::<opendepot::api::Module>(&world.client, &world.name);
    let status = Patch::Merge(json!({"status": module_status()}));
    api.patch_status("net", &PatchParams::default(), &status).await.unwrap();
    let module_object = world.get_module("net").await.unwrap();
    let stored = |name: &str| {
        json!({
            "synced": true, "syncStatus": "Successfully synced version", "checksum": format!("sum of {name}"),
            "archiveSizeBytes": 7, "sourceScan": {"scannedAt": "2026-05-03T02:11:00Z", "findings": []},
            "binaryScan": {"findings": []},
            "readmeConfigMapRef": {"name": "readme", "key": "README.md"}, "shaSums": "sums",
        })
    };
    let bare = json!({
        "type": "Module", "version": "v1.2.3", "fileName": "a.zip", "moduleConfigRef": {"name": "network"},
    });
    let full = json!({
        "type": "Module", "version": "1.3.0", "fileName": "b.zip",
        "moduleConfigRef": module_object["spec"]["moduleConfig"],
    });
    let (mut inline, mut skill) = (version(world, "one-off-1-2-3"), version(world, "review-1-0-0"));
    inline["metadata"]["finalizers"] = json!([FINALIZER]);
    skill["metadata"]["finalizers"] = json!([FINALIZER]);
    skill["spec"] = json!({
        "type": "Skill", "version": "1.0.0", "yanked": true,
        "agentSourceRef": {"path": "skills/review", "platform": "agentskills"},
    });
    for object in [
        dashed(world, "network-1-2-3", &module_object, &bare),
        dashed(world, "network-1-3-0", &module_object, &full),
        provider_version(world),
        inline,
        skill,
    ] {
        create(world, &object, stored(object["metadata"]["name"].as_str().unwrap())).await;
    }
    Inventory::take(world).await
}

#[tokio::test]
async fn installed_over_the_original_nothing_of_its_own_is_changed_until_a_user_does() {
    let bed = own_testbed(original_crds().keep()).await;
    let world = World::on(bed, "in-place").await;
    repository(&world);
    let inventory = of_the_original(&world).await;
    let module_before = world.get_module("net").await.unwrap();
    let crds = root().join("crds");
    world.shell(&format!("kubectl apply --server-side --force-conflicts -f {}", crds.display()));
    let operator = world.operator().await;

    // The same Module, its dotted Versions beside the dashed ones.
    let module = world.module_ready("net").await;
    assert_eq!(module["metadata"]["uid"], module_before["metadata"]["uid"]);
    assert!(holds(&module["spec"], &module_before["spec"]), "{:#}", module["spec"]);
    assert!(holds(&module["status"], &module_status()), "{:#}", module["status"]);
    for name in ["net-1.2.3", "net-1.3.0"] {
        world.version_ready(name).await;
    }
    inventory.is_untouched(&world).await;
    let found = condition(&module, "OriginalVersionsFound");
    assert_eq!(found["status"], "True", "{found}");
    let message = found["message"].as_str().unwrap();
    assert!(message.contains("for v in network-1-2-3 network-1-3-0; do"), "{message}");
    let uncounted = || async {
        let metrics = operator.metrics().await?;
        let versions = || metrics.lines().filter(|line| line.starts_with("opendepot_versions{"));
        let ready = "opendepot_versions{state=\"ready\",reason=\"Synced\"} 2";
        anyhow::ensure!(versions().all(|line| line == ready || line.ends_with(" 0")), "{metrics}");
        anyhow::ensure!(versions().any(|line| line == ready), "{metrics}");
        Ok(())
    };
    soon(uncounted).await;

    // Neither does a removed entry, a forced sync, a move or a restart touch what is not ours.
    world.patch("module/net", &json!({"spec": {"versions": [{"version": "1.3.0"}], "forceSync": true}}));
    world
        .module_when("net", |m| {
            m["spec"]["forceSync"] == false && m["status"]["versions"]["summary"] == "1/1"
        })
        .await;
    world
        .patch("module/net", &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"key": "moved"}}}}}));
    world.module_ready("net").await;
    operator.restart().await.unwrap();
    world.quiet().await;
    assert!(world.get_version("net-1.2.3").await.unwrap().is_none());
    inventory.is_untouched(&world).await;

    // The commands that the condition prints, as they stand there.
    let (_, commands) = message.split_once("In a shell: ").unwrap();
    world.shell(commands);
    let module = world
        .module_when("net", |m| {
            condition(m, "OriginalVersionsFound").is_null() && condition(m, "Ready")["status"] == "True"
        })
        .await;
    assert_eq!(module["status"]["versions"]["summary"], "1/1");
    world.versions_are(&["aws-5-80-0-linux-amd64", "net-1.3.0", "one-off-1-2-3", "review-1-0-0"]).await;
    let rest = Inventory {
        versions: inventory
            .versions
            .into_iter()
            .filter(|v| v["metadata"]["ownerReferences"].is_null())
            .collect(),
        files: inventory.files,
    };
    assert_eq!(rest.versions.len(), 3);
    rest.is_untouched(&world).await;
    bed.kubernetes.end().await.unwrap();
}

#[tokio::test]
async fn an_original_version_under_a_name_of_ours_is_left_alone_until_deleted() {
    let world = World::new("dotted").await;
    repository(&world);
    world.apply(&module(&world));
    let module = world.get_module("net").await.unwrap();
    // Older releases of the original kept the dots.
    let spec = json!({
        "type": "Module", "version": "v1.2.3", "fileName": "a.zip", "moduleConfigRef": module["spec"]["moduleConfig"],
    });
    create(&world, &dashed(&world, "net-1.2.3", &module, &spec), json!({"synced": true})).await;
    let before = world.get_version("net-1.2.3").await.unwrap().unwrap();
    let _operator = world.operator().await;
    let module = world.module_when("net", |m| condition(m, "Ready")["reason"] == "NameTaken").await;
    world.version_ready("net-1.3.0").await;
    assert_eq!(world.get_version("net-1.2.3").await.unwrap().unwrap(), before);
    let message = condition(&module, "Ready")["message"].as_str().unwrap();
    let (_, commands) = message.split_once("In a shell: ").unwrap_or_else(|| panic!("{message}"));
    world.shell(commands);
    world.module_ready("net").await;
    let after = world.version_ready("net-1.2.3").await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(
        world.bed.s3.get(&world.name, "network/net-1.2.3.zip").await.unwrap(),
        b"the original's net-1.2.3"
    );
}

#[tokio::test]
async fn the_commands_of_the_page_release_the_originals_deleted_versions_and_nothing_else() {
    let world = World::new("released").await;
    world.apply(&module(&world));
    let module = world.get_module("net").await.unwrap();
    let spec = json!({
        "type": "Module", "version": "v1.2.3", "fileName": "a.zip", "moduleConfigRef": module["spec"]["moduleConfig"],
    });
    let mut shared = dashed(&world, "network-1-4-0", &module, &spec);
    shared["metadata"]["finalizers"] = json!([FINALIZER, "example.com/a"]);
    for object in [
        dashed(&world, "network-1-2-3", &module, &spec),
        dashed(&world, "network-1-3-0", &module, &spec),
        shared,
        provider_version(&world),
    ] {
        world.apply(&object);
    }
    for name in ["network-1-2-3", "network-1-4-0", "aws-5-80-0-linux-amd64"] {
        world.kubectl(&["delete", "versions.opendepot.defdev.io", name, "--wait=false"]);
    }
    let blocks = blocks(&root().join("docs/migration.md")).unwrap();
    let commands =
        blocks.iter().find(|block| block.text.contains("read -r type version finalizers")).unwrap();
    world.shell(&crate::docs::here(&commands.text, &world));
    let left = ["aws-5-80-0-linux-amd64", "network-1-3-0", "network-1-4-0"];
    world.versions_are(&left).await;
    for name in left {
        world.patch(&format!("version/{name}"), &json!({"metadata": {"finalizers": null}}));
    }
}

#[tokio::test]
async fn crds_that_drop_fields_of_the_status_are_reported_and_nothing_is_fetched() {
    let known = json!({"synced": {"type": "boolean"}, "syncStatus": {"type": "string"}, "checksum": {"type": "string"}});
    let bed = own_testbed(crds_with(&json!({"type": "object", "properties": known})).keep()).await;
    let world = World::on(bed, "dropped").await;
    world.tagged("mod", &["v1.0.0"]);
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.request("module/mod", "release-1");
    world.apply(&world.inline("one-off"));
    for name in ["mod", "one-off"] {
        let notes = world.events(name, "VersionRefused").await;
        assert!(notes.iter().all(|note| note.contains("apply the CRDs of this release")), "{notes:?}");
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.versions().await.unwrap().iter().all(|version| version["metadata"]["name"] == "one-off"));
    let counts = ["mod", "one-off"].map(|repository| world.counts(repository));
    assert!(counts.iter().all(|counts| counts.github == 0 && counts.puts == 0), "{counts:?}");
    bed.kubernetes.end().await.unwrap();
}
