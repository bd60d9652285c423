//! What stays in memory: little, whatever there is in the cluster.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use opendepot::api::{Module, ModuleConfig, Version};
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Failure, Fault, File};
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{World, large_cluster};

/// Resident with 10,000 settled Versions.
const MOST: u64 = 64 << 20;
const MODULES: usize = 100;
const EACH: usize = 100;
const ODD: &str = "settled0-1.0.0";
const MANY: usize = MODULES * EACH;
/// At the peak, while 10,000 wait for a fetch: three quarters of the shipped memory limit.
const QUEUED: u64 = 96 << 20;
/// The same with 5,000 of one Module.
const QUEUED_OF_ONE: u64 = 64 << 20;

/// The Module that owns settled Versions.
struct Owner {
    name: String,
    uid: String,
    config: ModuleConfig,
}

/// A Version as the operator leaves it: settled, so that there is nothing to do. About 4.5 KB, with its managed fields.
fn settled(world: &World, owner: Option<&Owner>, number: usize) -> Value {
    let module = owner.map_or("settled", |owner| owner.name.as_str());
    let config = world.module("settled").0["spec"]["moduleConfig"].clone();
    let config = owner.map_or(config, |owner| serde_json::to_value(&owner.config).unwrap());
    let place = json!({"bucket": world.name, "key": format!("{module}/{number}.zip"), "region": "us-west-2",
        "forcePathStyle": true});
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "Synced", "message": "Stored as s3://bucket/settled.zip.",
               "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let status = json!({
        "observedGeneration": 1, "synced": true, "syncStatus": "Stored.", "checksum": format!("{}=", "c".repeat(43)),
        "contentDigest": format!("h1:{}", "d".repeat(44)), "archiveSizeBytes": 1234,
        "conditions": [condition("Ready", "True"), condition("Reconciling", "False"), condition("Stalled", "False")],
        "source": {"url": config["repoUrl"], "ref": format!("refs/tags/v1.{number}.0"), "commit": "a".repeat(40)},
        "storage": place, "objects": [place], "lastSyncTime": "2026-01-01T00:00:00Z",
    });
    let mut object = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
        "metadata": {
            "name": format!("{module}-1.{number}.0"), "namespace": world.name,
            "finalizers": ["opendepot.defdev.io/stored-object"],
            "labels": {"opendepot.defdev.io/module": module, "opendepot.defdev.io/namespace": world.name},
            "annotations": {"example.com/padding": "x".repeat(1500)},
        },
        "spec": {"type": "Module", "version": format!("1.{number}.0"), "fileName": format!("{number}.zip"), "moduleConfigRef": config},
        "status": status,
    });
    if let Some(Owner { name, uid, .. }) = owner {
        object["metadata"]["annotations"]["opendepot.defdev.io/adopt"] = json!(name);
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
            "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
    }
    object
}

/// Creates this many settled Versions without an owner.
pub(crate) async fn create_settled(world: &World, count: usize) {
    create(world, (0..count).map(|number| settled(world, None, number)).collect()).await;
}

/// Creates Modules with this many settled Versions each, all of one repository. Returns the Versions.
pub(crate) async fn create_owned(world: &World, modules: usize, each: usize) -> Vec<Value> {
    let api: Api<DynamicObject> =
        opendepot::controller::client::objects::<Module>(&world.client, &world.name);
    let mut versions = Vec::new();
    for number in 0..modules {
        let name = format!("settled{number}");
        let mut module = world.module(&name).0;
        module["metadata"]["finalizers"] = json!(["opendepot.defdev.io/versions"]);
        module["spec"]["versions"] = (0..each).map(|n| json!({"version": format!("1.{n}.0")})).collect();
        module["spec"]["moduleConfig"]["repoUrl"] =
            json!(format!("https://github.com/{}", world.repository("settled")));
        let config: ModuleConfig = serde_json::from_value(module["spec"]["moduleConfig"].clone()).unwrap();
        let module = serde_json::from_value(module).unwrap();
        let uid = api.create(&PostParams::default(), &module).await.unwrap().metadata.uid.unwrap();
        let owner = &Owner { config: config.resolved(&name), uid, name };
        versions.extend((0..each).map(|number| settled(world, Some(owner), number)));
    }
    create(world, versions).await
}

/// Creates these Versions with what the API server adds to the first, and returns them.
async fn create(world: &World, mut versions: Vec<Value>) -> Vec<Value> {
    let api: &Api<DynamicObject> =
        &opendepot::controller::client::objects::<Version>(&world.client, &world.name);
    let first = serde_json::from_value(versions[0].clone()).unwrap();
    let name = api.create(&PostParams::default(), &first).await.unwrap().metadata.name.unwrap();
    let status = Patch::Merge(json!({"status": versions[0]["status"]}));
    let stored = api.patch_status(&name, &PatchParams::default(), &status).await.unwrap().metadata;
    for version in &mut versions {
        let metadata = &mut version["metadata"];
        metadata["uid"] = json!(Uuid::new_v4().to_string());
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!(stored.creation_timestamp);
        metadata["managedFields"] = json!(stored.managed_fields);
        // A status that is older than its object was restored, and its object is verified.
        for condition in version["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!(stored.creation_timestamp);
        }
    }
    versions[0]["metadata"]["uid"] = json!(stored.uid);
    world.bed.kubernetes.store("versions", &versions).await.unwrap();
    versions
}

#[tokio::test]
async fn ten_thousand_settled_versions_fit_and_one_odd_object_blinds_nobody() {
    let (_turn, bed) = large_cluster().await;
    let world = World::on(bed, "memory").await;
    let api: &Api<DynamicObject> =
        &opendepot::controller::client::objects::<Version>(&world.client, &world.name);
    let mut versions = create_owned(&world, MODULES, EACH).await;
    // As an older schema may have left it behind: a status that no type of ours can hold.
    let odd = json!({"status": {"conditions": Value::Null, "archiveSizeBytes": -7, "syncStatus": "?", "synced": Value::Null}});
    api.patch_status(ODD, &PatchParams::default(), &Patch::Merge(odd)).await.unwrap();

    // Without verification: of so many, some would come up for a look just now, and there are no objects to be seen.
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    let writes = world.writes_during(async {}).await;
    let others: Vec<_> = writes.iter().filter(|w| w.resource == "versions" && w.name != ODD).collect();
    assert!(others.is_empty(), "{others:#?}");
    let resident = eventually(Duration::from_mins(1), || async {
        let memory = operator.memory()?;
        ensure!(memory.resident_of_release() <= MOST, "{memory:?}");
        Ok(memory)
    });
    println!("{MANY} settled Versions: {:?}", resident.await.unwrap());

    // Forced at once, while GitHub answers nothing for them: all wait, before and after a restart.
    world.bed.github.inject(Fault::on(&world.repository("settled"), Failure::Hang));
    versions.retain(|version| version["metadata"]["name"] != ODD);
    for version in &mut versions {
        version["spec"]["forceSync"] = json!(true);
        version["metadata"]["generation"] = json!(2);
    }
    world.bed.kubernetes.store("versions", &versions).await.unwrap();
    wait_in_the_queue(&operator, MANY - 100, QUEUED, "forced").await;
    operator.kill().await.unwrap();
    operator.restart().await.unwrap();
    wait_in_the_queue(&operator, MANY - 100, QUEUED, "forced, after a restart").await;

    // The rest of the controllers sees and works: a new Version is taken up.
    let repository = world.bed.github.repository(&world.repository("new")).unwrap();
    repository.release("v1.0.0", &[File::new("main.tf", "# new\n")]).unwrap();
    world.apply(&world.module("new").versions(&["1.0.0"]));
    world.module_ready("new").await;
}

/// Waits until so many Versions wait for a fetch, and expects that the memory never exceeds its bound on the way there.
async fn wait_in_the_queue(operator: &Operator, at_least: usize, most: u64, what: &str) {
    let queued = eventually(Duration::from_mins(10), || async {
        let metrics = operator.metrics().await?;
        let depth = metrics.lines().find_map(|line| {
            line.strip_prefix("opendepot_queue_depth{controller=\"version\",lane=\"publish\"} ")
        });
        let depth: usize = depth.context("no queue depth")?.parse()?;
        ensure!(depth >= at_least, "{depth} are queued");
        Ok(depth)
    });
    let depth = queued.await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let memory = operator.memory().unwrap();
    println!("{depth} queued Versions, {what}: {memory:?}");
    assert!(memory.peak_of_release() <= most, "{what}: {memory:?} with {depth} queued Versions");
}

#[tokio::test]
async fn five_thousand_versions_of_one_module_fit_while_their_repository_hangs() {
    let (_turn, bed) = large_cluster().await;
    let world = World::on(bed, "queued").await;
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Hang));
    let versions: Vec<String> = (0..5000).map(|number| format!("1.{number}.0")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let operator = world.operator().await;
    world.apply(&world.module("mod").versions(&versions));
    wait_in_the_queue(&operator, versions.len() - 100, QUEUED_OF_ONE, "of one Module").await;
    operator.kill().await.unwrap();
    operator.restart().await.unwrap();
    wait_in_the_queue(&operator, versions.len() - 100, QUEUED_OF_ONE, "of one Module, after a restart").await;
}

#[tokio::test]
async fn versions_as_large_as_the_api_server_stores_them_fit_too() {
    let (_turn, bed) = large_cluster().await;
    let world = World::on(bed, "large-versions").await;
    let mut versions: Vec<Value> = (0..60).map(|number| settled(&world, None, number)).collect();
    for version in &mut versions {
        let text = "x".repeat(1_300_000);
        version["spec"] = json!({"type": "Provider", "version": "1.0.0", "architecture": text});
        version["metadata"]["finalizers"] = json!([]);
    }
    // As a tree, each of these maps of six bytes would take 640.
    let maps = |count| json!({"a": vec![json!({"": 0}); count]});
    versions[1]["spec"] = json!({"type": "Provider", "version": "1.0.0", "providerConfigRef": maps(185_000)});
    let mut versions = create(&world, versions).await;
    let operator = world.operator_with(&["--verify-interval", "0"]).await;
    // One that is also read and written. With more, the API server itself takes seconds for each write.
    world.released("mod");
    let mut ours = world.inline("mod");
    ours["spec"]["agentSourceRef"] = maps(60_000);
    let created = serde_json::from_value(ours.clone()).unwrap();
    world.api::<Version>().create(&PostParams::default(), &created).await.unwrap();
    world.version_ready("mod").await;
    let memory = operator.memory().unwrap();
    println!("60 large Versions: {memory:?}");
    assert!(memory.peak_of_release() <= MOST, "{memory:?}");
    // The API server would need half a minute to delete them.
    versions.push(ours);
    world.bed.kubernetes.remove("versions", &versions).await.unwrap();
}
