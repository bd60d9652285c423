//! What the operator does while events of Versions arrive late, and when some were missed.

use std::time::{Duration, Instant};

use opendepot_testbed::control_plane::{AuditEntry, AuditMark};
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use crate::support::watch_proxy::{Watch, WatchProxy};
use crate::support::{OPERATOR, World, ready, soon};

/// How many creates of Versions succeeded since, and how many met an existing one.
fn creates(world: &World, from: AuditMark) -> (usize, usize) {
    let ours = |e: &AuditEntry| {
        e.user == OPERATOR && e.namespace == world.name && e.verb == "create" && e.resource == "versions"
    };
    let all = world.bed.kubernetes.audit().matching(from, ours).unwrap();
    let count = |code| all.iter().filter(|entry| entry.code == code).count();
    (count(201), count(409))
}

fn uid(version: Option<&Value>) -> String {
    version.map(|v| v["metadata"]["uid"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

const VERSIONS: [&str; 4] = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];

/// An operator whose watch of Versions passes a proxy, and a repository with all versions.
async fn started(name: &str) -> (World, WatchProxy, Operator) {
    let world = World::new(name).await;
    world.tagged("mod", &VERSIONS);
    let proxy = WatchProxy::of(&world).await;
    let operator = world.builder().env("KUBECONFIG", &proxy.kubeconfig).start_ready().await.unwrap();
    (world, proxy, operator)
}

/// The same with a Module whose versions are published.
async fn published(name: &str) -> (World, WatchProxy, Operator) {
    let started = started(name).await;
    started.0.apply(&started.0.module("mod").versions(&VERSIONS));
    started.0.module_ready("mod").await;
    started
}

#[tokio::test]
async fn late_events_cost_few_requests() {
    let (world, proxy, _operator) = started("watch-late").await;
    // The cache lacks what was just created.
    proxy.set(Watch::IsHeld);
    let mark = world.bed.kubernetes.audit().position().unwrap();
    let begun = Instant::now();
    world.apply(&world.module("mod").versions(&VERSIONS));
    soon(|| async {
        let (made, refused) = creates(&world, mark);
        anyhow::ensure!(refused > 0, "{made} were created, and none was tried again");
        Ok(())
    })
    .await;
    // Neither a new event of the Module nor time makes it try each second.
    for label in ["a", "b", "c", "d"] {
        world.kubectl(&["label", "--overwrite", "modules.opendepot.defdev.io/mod", &format!("x={label}")]);
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let (made, refused) = creates(&world, mark);
    // What it tries rarely adds up on a machine where all of this takes long.
    let rounds = 2 + usize::try_from(begun.elapsed().as_secs() / 10).unwrap();
    let few = refused <= rounds * VERSIONS.len();
    assert!(made == 4 && few, "{refused} refused creates for {made} Versions, in {:?}", begun.elapsed());
    proxy.set(Watch::Passes);
    world.module_ready("mod").await;
    assert_eq!(world.objects_are(4).await.len(), 4);
    assert_eq!(world.served("mod"), 4, "nothing is fetched twice");
}

#[tokio::test]
async fn missed_events_are_made_up_for() {
    let (world, proxy, _operator) = published("watch-missed").await;
    world.objects_are(4).await;
    // Events that no watch ever delivers: a Version that was deleted, one that is being deleted, and one that was changed.
    proxy.set(Watch::IsCut);
    let before =
        [world.get_version("mod-1.0.0").await.unwrap(), world.get_version("mod-1.1.0").await.unwrap()];
    world.patch("version/mod-1.0.0", &json!({"metadata": {"finalizers": null}}));
    world.kubectl(&["delete", "versions.opendepot.defdev.io", "mod-1.0.0", "mod-1.1.0", "--wait=false"]);
    world.request("version/mod-1.2.0", "missed");
    proxy.set(Watch::IsExpired);
    is_handled(&world, "missed").await;
    for (name, before) in ["mod-1.0.0", "mod-1.1.0"].into_iter().zip(before) {
        let before = uid(before.as_ref());
        world.version_when(name, |v| uid(Some(v)) != before && v["status"]["synced"] == true).await;
    }
    world.module_ready("mod").await;
    // The object of the Version without a finalizer is left; that of the other one was deleted.
    world.objects_are(5).await;

    // A status instead of an event.
    cut(&proxy).await;
    world.request("version/mod-1.2.0", "missed-too");
    proxy.set(Watch::IsGone);
    is_handled(&world, "missed-too").await;
}

/// If etcd was restored meanwhile, a watch that continues from its resourceVersion shows nothing.
#[tokio::test]
async fn events_of_a_long_outage_are_made_up_for() {
    let (world, proxy, _operator) = published("watch-outage").await;
    cut(&proxy).await;
    world.request("version/mod-1.2.0", "missed-meanwhile");
    proxy.set(Watch::IsUnavailable);
    is_handled(&world, "missed-meanwhile").await;
    // A change that the new watch shows ends the long pauses.
    world.request("version/mod-1.3.0", "shown");
    world.version_when("mod-1.3.0", |v| v["status"]["lastHandledRequest"] == "shown").await;
}

#[tokio::test]
async fn watches_that_end_at_once_are_repeated_rarely() {
    let (world, proxy, operator) = published("watch-ends").await;
    cut(&proxy).await;
    let before = proxy.answered();
    proxy.set(Watch::EndsAtOnce);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let repeated = proxy.answered() - before;
    assert!((1..=6).contains(&repeated), "{repeated} watches in 5 s");
    assert!(operator.log().contains("ended in less than a second"), "nothing says why");
    proxy.set(Watch::Passes);
    world.request("version/mod-1.2.0", "late");
    is_handled(&world, "late").await;
}

#[tokio::test]
async fn a_module_is_not_ready_while_a_version_that_it_wants_again_is_being_deleted() {
    let (world, proxy, _operator) = started("watch-delete").await;
    let both = world.module("mod").versions(&["v1.0.0", "v1.1.0"]);
    world.apply(&both);
    world.module_ready("mod").await;
    let before = uid(world.get_version("mod-1.1.0").await.unwrap().as_ref());
    world.quiet().await;

    proxy.set(Watch::IsHeld);
    let begun = Instant::now();
    world.apply(&world.module("mod").versions(&["v1.0.0"]));
    world.version_when("mod-1.1.0", |v| v["metadata"]["deletionTimestamp"].is_string()).await;
    world.apply(&both);
    let is_observed = |m: &Value| m["status"]["observedGeneration"] == m["metadata"]["generation"];
    let module = world.module_when("mod", is_observed).await;
    // A deletion is remembered for ten seconds, in which each event arrives: this machine may need longer for the steps above.
    let took = begun.elapsed();
    assert!(!ready(&module) || took > Duration::from_secs(10), "after {took:?}: {:#}", module["status"]);
    proxy.set(Watch::Passes);
    world.version_when("mod-1.1.0", |v| uid(Some(v)) != before && v["status"]["synced"] == true).await;
    world.module_ready("mod").await;
}

/// Ends the running watch. The proxy, which runs on this thread, needs a moment to do so.
async fn cut(proxy: &WatchProxy) {
    proxy.set(Watch::IsCut);
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Waits until a Version has handled a request.
async fn is_handled(world: &World, token: &str) {
    world.version_when("mod-1.2.0", |v| v["status"]["lastHandledRequest"] == token).await;
}
