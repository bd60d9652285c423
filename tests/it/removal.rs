//! Several stored versions that disappear in one edit: the removal is reported, and with `spec.removal: Confirm` it waits. What the
//! bucket holds counts.

use serde_json::{Value, json};

use crate::support::requests::message;
use crate::support::{World, condition, ready};

const FOUR: [&str; 4] = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];

fn waits(module: &Value) -> bool {
    condition(module, "Ready")["reason"] == "RemovalUnconfirmed"
        && module["status"]["observedGeneration"] == module["metadata"]["generation"]
}

/// The command that the condition prints.
fn command(module: &Value) -> String {
    let (_, command) = message(module).split_once("until you confirm: ").unwrap();
    command.to_owned()
}

fn list(world: &World, module: &str, versions: &[&str]) {
    let entries: Vec<Value> = versions.iter().map(|version| json!({"version": version})).collect();
    world.patch(&format!("module/{module}"), &json!({"spec": {"versions": entries}}));
}

fn generation(module: &Value) -> i64 {
    module["metadata"]["generation"].as_i64().unwrap()
}

fn annotate(world: &World, module: &str, generation: i64) {
    let confirmation = format!("opendepot.defdev.io/confirm-removal={generation}");
    world.kubectl(&["annotate", "--overwrite", &format!("module/{module}"), &confirmation]);
}

async fn keys(world: &World, prefix: &str) -> Vec<String> {
    let mut keys = world.bed.s3.keys(&world.name).await.unwrap();
    keys.retain(|key| key.starts_with(&format!("{prefix}/")));
    keys
}

/// Waits until that many objects of a module are left.
async fn left(world: &World, prefix: &str, count: usize) {
    crate::support::soon(|| async {
        let keys = keys(world, prefix).await;
        anyhow::ensure!(keys.len() == count, "the bucket holds {keys:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_removal_of_several_versions_is_reported_and_waits_where_that_is_asked_for() {
    let world = World::new("removal").await;
    let repository = world.tagged("mod", &["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"]);
    let mut operator = world.operator().await;
    for name in ["plain", "guarded", "kept", "gone"] {
        world.apply(&world.module(name).config("repoUrl", json!(repository.url())).versions(&FOUR));
    }
    for name in ["plain", "guarded", "kept", "gone"] {
        world.module_ready(name).await;
    }
    let mut restored = world.module("restored").config("repoUrl", json!(repository.url()));
    restored.0["metadata"]["annotations"] = json!({"opendepot.defdev.io/confirm-removal": "3"});
    restored.0["spec"]["removal"] = json!("Confirm");
    world.apply(&restored.versions(&["v1.1.0", "v1.2.0"]));
    world.module_ready("restored").await;
    world.objects_are(18).await;

    // By default, versions are deleted at once, with one Event. One version that is removed is no surprise.
    list(&world, "plain", &FOUR[..3]);
    left(&world, "plain", 3).await;
    let one_entry = world.module("plain").config("repoUrl", json!(repository.url())).versions(&["v1.2.0"]);
    world.apply(&one_entry);
    left(&world, "plain", 1).await;
    world.module_ready("plain").await;
    let notes = world.events("plain", "RemovingVersions").await;
    assert!(notes.len() == 1 && notes[0].starts_with("2 stored versions removed"), "{notes:?}");
    assert!(notes[0].contains("1.0.0, 1.1.0") && notes[0].contains("bucket with versioning"), "{notes:?}");

    // The field itself changes no Version.
    let writes = world.writes_during(async {
        for name in ["guarded", "kept", "gone"] {
            world.patch(&format!("module/{name}"), &json!({"spec": {"removal": "Confirm"}}));
            world.module_when(name, ready).await;
        }
    });
    let writes = writes.await;
    assert!(writes.iter().all(|write| write.resource == "modules"), "{writes:#?}");

    // The list with the new release alone: that is published, and nothing is deleted.
    world.count_from_now("mod");
    let mut guarded =
        world.module("guarded").config("repoUrl", json!(repository.url())).versions(&["v1.4.0"]);
    guarded.0["spec"]["removal"] = json!("Confirm");
    world.apply(&guarded);
    world.version_ready("guarded-1.4.0").await;
    let waiting = world.module_when("guarded", |m| waits(m) && m["status"]["synced"] == true).await;
    assert!(message(&waiting).starts_with("1 of 1 version stored. 4 stored versions"), "{waiting:#}");
    assert!(message(&waiting).contains("back: 1.0.0, 1.1.0, 1.2.0, 1.3.0. "), "{waiting:#}");
    assert_eq!(condition(&waiting, "Stalled")["status"], "True");
    assert!(world.kubectl(&["get", "module", "guarded"]).contains("RemovalUnconfirmed"));
    let events = world.events("guarded", "RemovalUnconfirmed").await;
    assert!(events.len() == 1 && events[0].contains(&command(&waiting)), "{events:?}");
    // The confirmation of an earlier edit does not count, and a restart changes nothing.
    annotate(&world, "guarded", generation(&waiting) - 1);
    operator.kill().await.unwrap();
    operator = world.operator().await;
    world.quiet().await;
    assert!(waits(&world.get_module("guarded").await.unwrap()));
    assert_eq!(keys(&world, "guarded").await.len(), 5);
    // What the next edit leaves out waits too, and so does the rest when some entries are back.
    list(&world, "guarded", &["v1.0.0", "v1.1.0", "v1.2.0", "v1.4.0"]);
    let later = world.module_when("guarded", |m| waits(m) && generation(m) > generation(&waiting)).await;
    assert!(message(&later).contains("back: 1.3.0. "), "{later:#}");
    list(&world, "guarded", &["1.0.0", "v1.1.0", "1.2.0", "v1.3.0", "v1.4.0"]);
    world.module_ready("guarded").await;
    let counts = world.counts_below("mod", "guarded/");
    assert_eq!((counts.fetches, counts.puts, counts.deletes), (1, 1, 0), "the new release alone");
    assert_eq!(keys(&world, "guarded").await.len(), 5);

    // The command that it prints confirms.
    list(&world, "guarded", &["v1.3.0", "v1.4.0"]);
    let again = world.module_when("guarded", |m| waits(m) && generation(m) > generation(&later)).await;
    world.shell(&command(&again));
    left(&world, "guarded", 2).await;
    world.module_ready("guarded").await;
    world.events("guarded", "RemovingVersions").await;
    // The present confirmation is not one of the next edit.
    list(&world, "guarded", &[]);
    world.module_when("guarded", |m| waits(m) && generation(m) > generation(&again)).await;
    assert_eq!(keys(&world, "guarded").await.len(), 2);

    // What waits still gets the policy, which then holds for it.
    list(&world, "kept", &[]);
    world.module_when("kept", waits).await;
    world.patch("module/kept", &json!({"spec": {"moduleConfig": {"deletionPolicy": "Retain"}}}));
    world.version_when("kept-1.0.0", |v| v["spec"]["moduleConfigRef"]["deletionPolicy"] == "Retain").await;
    let kept = world.module_when("kept", waits).await;
    world.shell(&command(&kept));
    world.module_ready("kept").await;
    assert_eq!(keys(&world, "kept").await.len(), 4);

    // An annotation that was there before its generation, as a restore brings it, does not count until it is set again.
    let restored = world.get_module("restored").await.unwrap();
    assert_eq!(restored["status"]["voidConfirmation"], 3, "{restored:#}");
    world.patch("module/restored", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 9}}}));
    list(&world, "restored", &[]);
    let early = world.module_when("restored", |m| waits(m) && generation(m) == 3).await;
    assert!(message(&early).contains("set before this edit and is void"), "{early:#}");
    assert_eq!(keys(&world, "restored").await.len(), 2);
    let (_, remove) = message(&early).split_once("First remove it: ").unwrap();
    world.shell(remove);
    let asked = world.module_when("restored", |m| message(m).contains("until you confirm: ")).await;
    world.shell(&command(&asked));
    left(&world, "restored", 0).await;

    // The deletion of the Module needs no confirmation.
    list(&world, "gone", &[]);
    world.module_when("gone", waits).await;
    world.kubectl(&["delete", "module", "gone"]);
    left(&world, "gone", 0).await;
    drop(operator);
}
