//! Versions that wait for a fetch while their repository hangs: what reaches them meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use http::Method;
use opendepot::api::Version;
use opendepot_testbed::control_plane::{AuditEntry, AuditMark};
use opendepot_testbed::eventually;
use opendepot_testbed::github::{Failure, Fault, File, Hop};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};

use crate::support::{ModuleFixture, OPERATOR, World, condition, soon};
use crate::write_once::{delete_versions, patch};

/// How soon a change has reached all Versions of a test, whatever they wait for: well before the repository, which hangs for 30
/// seconds, lets one go.
const HEARD: Duration = Duration::from_secs(20);

/// How soon a change has reached most Versions of a test where the machine has time for it.
const MOST_HEARD: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

pub(crate) fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("1.{number}.0")).collect()
}

/// A Module whose repository hangs, with this many Versions that all wait but one, which is fetching. Of many,
/// the first may have failed where it takes long to make them.
async fn hanging(name: &str, count: usize) -> (World, Operator) {
    let world = World::new(name).await;
    let operator = world.operator().await;
    hang(&world, &operator, count).await;
    (world, operator)
}

async fn hang(world: &World, operator: &Operator, count: usize) {
    world.bed.github.inject(Fault::on(&world.repository("mod"), Failure::Hang));
    let versions = numbered(count);
    world.apply(&world.module("mod").versions(&versions.iter().map(String::as_str).collect::<Vec<_>>()));
    until_queued(operator, count - 1 - count / 8).await;
}

/// Waits until at least so many Versions wait for a fetch.
async fn until_queued(operator: &Operator, count: usize) {
    soon(|| async {
        let depth = queued(operator).await?;
        ensure!(depth >= count, "{depth} of {count} are queued");
        Ok(())
    })
    .await;
}

/// The same beside a Module whose Versions are all stored: what concerns both reaches those at the speed of the machine.
async fn hanging_beside_settled(name: &str, count: usize) -> (World, Operator) {
    let world = World::new(name).await;
    let operator = world.operator().await;
    publish_module(
        &world,
        world.module("settled").config("deletionPolicy", json!("Retain")),
        "settled",
        count,
    )
    .await;
    hang(&world, &operator, count).await;
    (world, operator)
}

/// How many Versions wait for a fetch.
pub(crate) async fn queued(operator: &Operator) -> anyhow::Result<usize> {
    depth(operator, "publish").await
}

/// How many Versions wait for a permit of this lane.
async fn depth(operator: &Operator, lane: &str) -> anyhow::Result<usize> {
    let metrics = operator.metrics().await?;
    let prefix = format!("opendepot_queue_depth{{controller=\"version\",lane=\"{lane}\"}} ");
    let depth = metrics.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("0");
    Ok(depth.parse()?)
}

/// Whether this call is the operator's own.
fn is_operators(entry: &AuditEntry) -> bool {
    entry.user == OPERATOR
}

/// Asserts, by the API server's own log, that the operator wrote to most waiting Versions soon after the call
/// that concerned them, in two seconds, and to the last one in [`HEARD`]; or, on a machine that is busy, in not
/// much more time than it needs for those that are settled.
async fn most_heard(
    world: &World,
    since: AuditMark,
    concerns: impl Fn(&AuditEntry) -> bool,
    hears: impl Fn(&AuditEntry) -> bool,
) {
    let audit = world.bed.kubernetes.audit().since(since, &world.client).await.unwrap();
    let ours = |entry: &&AuditEntry| {
        entry.namespace == world.name && entry.resource == "versions" && entry.code == 200
    };
    let [mut waiting, mut settled] = [const { Vec::new() }; 2];
    let mut concerned: BTreeMap<&str, jiff::Timestamp> = BTreeMap::new();
    for entry in audit.iter().filter(ours) {
        let at: jiff::Timestamp = entry.at.parse().unwrap();
        if concerns(entry) {
            concerned.entry(&entry.name).or_insert(at);
        } else if hears(entry)
            && let Some(then) = concerned.remove(entry.name.as_str())
        {
            let delays = if entry.name.starts_with("mod-") { &mut waiting } else { &mut settled };
            delays.push(at.duration_since(then));
        }
    }
    let delays = [waiting, settled].map(|mut delays: Vec<jiff::SignedDuration>| {
        delays.sort();
        assert!(delays.len() >= 30, "{} Versions heard of it", delays.len());
        (delays[delays.len() / 2], delays[delays.len() - 1])
    });
    let [(waiting, slowest), (settled, slowest_settled)] = delays;
    println!("at the median, waiting Versions heard after {waiting:?}, settled ones after {settled:?}");
    assert!(waiting <= MOST_HEARD.max(settled * 3), "{waiting:?}, and settled ones {settled:?}");
    let most = jiff::SignedDuration::try_from(HEARD).unwrap().max(slowest_settled * 3);
    assert!(slowest <= most, "the last one after {slowest:?}, and of settled ones after {slowest_settled:?}");
}

/// Changes the Modules `mod` and `settled` at the same time.
fn patch_both(world: &World, change: &Value) {
    let change = change.to_string();
    world.kubectl(&["patch", "modules.opendepot.defdev.io", "mod", "settled", "--type=merge", "-p", &change]);
}

/// Succeeds once these Versions no longer exist.
async fn removed(world: &World, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        ensure!(world.get_version(name).await?.is_none(), "{name} is still there");
    }
    Ok(())
}

#[tokio::test]
async fn removed_versions_are_deleted_at_once_while_they_wait_or_fetch() {
    let (world, _operator) = hanging_beside_settled("removed-waiting", 40).await;
    let before: Vec<_> = world.versions().await.unwrap();
    let mark = world.bed.kubernetes.audit().mark(&world.client).await.unwrap();
    world.kubectl(&["delete", "versions.opendepot.defdev.io", "mod-1.0.0", "mod-1.20.0", "--wait=false"]);
    // The Module makes them again: the removal shows in their UIDs.
    soon(|| async {
        for name in ["mod-1.0.0", "mod-1.20.0"] {
            let now = world.get_version(name).await?.unwrap_or_default();
            let uid = &now["metadata"]["uid"];
            ensure!(before.iter().all(|old| old["metadata"]["uid"] != *uid), "{name} is still there");
        }
        Ok(())
    })
    .await;
    patch_both(&world, &json!({"spec": {"versions": [{"version": "1.39.0"}]}}));
    world.versions_are(&["mod-1.39.0", "settled-1.39.0"]).await;
    let released =
        |entry: &AuditEntry| is_operators(entry) && entry.verb == "patch" && entry.subresource.is_empty();
    most_heard(&world, mark, |entry| entry.verb == "delete", released).await;
}

#[tokio::test]
async fn suspended_versions_say_so_at_once_while_they_wait_or_fetch() {
    let (world, _operator) = hanging_beside_settled("suspended-waiting", 40).await;
    let mark = world.bed.kubernetes.audit().mark(&world.client).await.unwrap();
    patch_both(&world, &json!({"spec": {"suspend": true}}));
    soon(|| async {
        for version in world.versions().await? {
            let reason = &condition(&version, "Ready")["reason"];
            ensure!(reason == "Suspended", "{} says {reason}", version["metadata"]["name"]);
        }
        Ok(())
    })
    .await;
    let patched = |of: &'static str| {
        move |entry: &AuditEntry| is_operators(entry) && entry.verb == "patch" && entry.subresource == of
    };
    most_heard(&world, mark, patched(""), patched("status")).await;
}

#[tokio::test]
async fn a_corrected_repository_is_fetched_at_once_by_versions_that_wait_or_fetch() {
    let (world, _operator) = hanging("corrected-waiting", 5).await;
    let good = world.bed.github.repository(&world.repository("good")).unwrap();
    let releases: Vec<(String, Vec<File>)> = numbered(5)
        .into_iter()
        .map(|tag| (tag.clone(), vec![File::new("main.tf", format!("# {tag}\n"))]))
        .collect();
    good.releases(releases).unwrap();
    let url = format!("https://github.com/{}", world.repository("good"));
    world.patch("modules.opendepot.defdev.io/mod", &json!({"spec": {"moduleConfig": {"repoUrl": url}}}));
    soon(|| async {
        for version in world.versions().await? {
            let given = &version["spec"]["moduleConfigRef"]["repoUrl"];
            ensure!(given == url.as_str(), "{} has {given}", version["metadata"]["name"]);
        }
        Ok(())
    })
    .await;
    let fetched = eventually(HEARD, || async {
        let asked = world.bed.github.requests(&world.repository("good"))?;
        ensure!(asked.iter().any(|request| request.hop == Hop::Codeload), "no archive was asked for");
        Ok(())
    });
    fetched.await.unwrap_or_else(|error| panic!("{error:#}"));
    soon(|| async {
        let module = world.get_module("mod").await?;
        ensure!(module["status"]["synced"] == true, "{}", module["status"]["syncStatus"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_hangs_delays_neither_suspension_nor_retain() {
    let world = World::new("hung-store").await;
    world.released("mod");
    let names: Vec<String> =
        (0..20).map(|number| format!("going-{number}")).chain(["stays".to_owned()]).collect();
    for name in &names {
        world.apply(&world.inline_of(name, &world.module("mod")));
    }
    let operator = world.operator().await;
    for name in &names {
        world.version_ready(name).await;
    }
    // More deletions than there are permits for one store. They fail after 20 s.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hang));
    delete_versions(&world, &names[..20]).await;
    soon(|| async {
        let depth = depth(&operator, "light").await?;
        ensure!(depth >= 10, "{depth} wait");
        Ok(())
    })
    .await;
    patch::<Version>(&world, "stays", &json!({"spec": {"suspend": true}})).await;
    for name in ["going-0", "going-19"] {
        let retain = json!({"spec": {"moduleConfigRef": {"deletionPolicy": "Retain"}}});
        patch::<Version>(&world, name, &retain).await;
    }
    let heard = eventually(HEARD, || async {
        removed(&world, &["going-0", "going-19"]).await?;
        let stays = world.get_version("stays").await?.unwrap_or_default();
        let reason = &condition(&stays, "Ready")["reason"];
        ensure!(reason == "Suspended", "it says {reason}");
        Ok(())
    });
    heard.await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(depth(&operator, "light").await.unwrap() >= 6, "the store does not hang any more");
    world.bed.s3.clear_faults(&world.name);
}

#[tokio::test]
async fn a_release_is_not_behind_all_versions_of_another_module_of_its_repository() {
    let world = World::new("one-repository").await;
    let operator = world.operator_with(&["--max-fetches", "1"]).await;
    let (github, repository, versions) = (&world.bed.github, world.repository("mod"), numbered(12));
    let release = |tag: &String| (tag.clone(), vec![File::new("main.tf", format!("# {tag}\n"))]);
    github.repository(&repository).unwrap().releases(versions.iter().map(release)).unwrap();
    github.inject(Fault::on(&repository, Failure::Hold).at(Hop::Codeload));
    world.apply(&world.module("mod").versions(&versions.iter().map(String::as_str).collect::<Vec<_>>()));
    until_queued(&operator, versions.len() - 1).await;
    let url = json!(format!("https://github.com/{repository}"));
    world.apply(&world.module("small").config("repoUrl", url).versions(&["1.0.0"]));
    until_queued(&operator, versions.len()).await;
    github.clear_faults(&repository).unwrap();
    world.version_ready("small-1.0.0").await;
    let puts = world.bed.s3.requests(&world.name).into_iter().filter(|request| request.method == Method::PUT);
    let keys = puts.map(|put| put.key).take_while(|key| !key.starts_with("small/"));
    let before = keys.filter(|key| key.starts_with("mod/")).count();
    assert!(before <= 4, "{before} were stored before it");
}

/// Publishes the versions of a new Module.
pub(crate) async fn publish_module(world: &World, module: ModuleFixture, name: &str, count: usize) {
    let repository = world.bed.github.repository(&world.repository(name)).unwrap();
    let versions = numbered(count);
    let release = |tag: &String| (tag.clone(), vec![File::new("main.tf", format!("# {tag}\n"))]);
    repository.releases(versions.iter().map(release)).unwrap();
    world.apply(&module.versions(&versions.iter().map(String::as_str).collect::<Vec<_>>()));
    let stored = eventually(Duration::from_mins(3), || async {
        let module = world.get_module(name).await?;
        ensure!(module["status"]["synced"] == true, "{}", module["status"]["syncStatus"]);
        Ok(())
    });
    stored.await.unwrap();
}
