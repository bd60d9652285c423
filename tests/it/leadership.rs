//! Several operators, one Lease: one works, and another takes over when it dies, leaves, freezes or is cut off.

use std::time::{Duration, SystemTime};

use http::Method;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use opendepot_testbed::eventually;
use opendepot_testbed::github::File;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::rendered::kustomize;
use crate::support::{SOON, World, soon};

/// How long a take-over may take after a SIGTERM. Without a release, it takes 13 seconds or more.
const LEFT: Duration = Duration::from_secs(12);

/// A replica as it is shipped: in its own namespace, with the shipped Lease.
fn replica(world: &World) -> OperatorBuilder {
    // The shipped rights name one Lease; here each world has one of its own, in its own namespace.
    world.builder().env("OPENDEPOT_LEADER_ELECT", "true").args(["--lease-namespace", &world.name])
}

/// The shipped rights on the Lease, in this world's namespace.
fn allow_lease(world: &World) {
    let mut shipped = kustomize(world.bed, "deploy/base");
    shipped.retain(|object| object["metadata"]["name"] == "opendepot-lease");
    assert_eq!(shipped.len(), 2, "a Role and its binding");
    for object in &mut shipped {
        object["metadata"]["namespace"] = json!(world.name);
    }
    world.apply(&json!({"apiVersion": "v1", "kind": "List", "items": shipped}));
}

async fn world(name: &str, versions: usize) -> (World, Vec<String>) {
    let world = World::new(name).await;
    allow_lease(&world);
    let repository = world.bed.github.repository(&world.repository("mod")).unwrap();
    let tags: Vec<String> = (0..versions).map(|n| format!("v1.{n}.0")).collect();
    let release = |tag: &String| (tag.clone(), vec![File::new("main.tf", format!("# {tag}\n"))]);
    repository.releases(tags.iter().map(release)).unwrap();
    (world, tags)
}

async fn lease(world: &World) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.name);
    leases.get("opendepot").await.unwrap().spec.unwrap()
}

async fn leader(operator: &Operator) -> bool {
    operator.metrics().await.is_ok_and(|text| text.lines().any(|line| line == "opendepot_leader 1"))
}

/// Waits until this operator leads.
async fn leads(operator: &Operator, within: Duration) {
    let wait = eventually(within, || async {
        anyhow::ensure!(leader(operator).await, "it does not lead");
        Ok(())
    });
    wait.await.unwrap_or_else(|error| panic!("{error:#}\n{}", operator.log()));
}

/// Two replicas, the first of which leads.
async fn two(world: &World) -> (Operator, Operator) {
    let first = replica(world).start_ready().await.unwrap();
    leads(&first, SOON).await;
    assert_eq!(lease(world).await.lease_duration_seconds, Some(15), "what bounds a take-over");
    let second = replica(world).start_ready().await.unwrap();
    assert!(!leader(&second).await, "who waits is ready, and does not lead");
    (first, second)
}

fn versions(tags: &[String]) -> Vec<&str> {
    tags.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn after_a_kill_another_takes_over_and_repeats_only_what_was_in_flight() {
    let (world, tags) = world("killed", 30).await;
    let (first, second) = two(&world).await;
    let slow = S3Failure::Delay(Duration::from_millis(300));
    world.bed.s3.inject(S3Fault::new(&world.name, slow).method(Method::PUT));
    world.apply(&world.module("mod").versions(&versions(&tags)));
    soon(|| async {
        anyhow::ensure!(world.bed.s3.keys(&world.name).await?.len() >= 8, "not under way");
        Ok(())
    })
    .await;
    assert!(!second.log().contains("Normal Event"), "who waits does nothing");
    first.kill().await.unwrap();
    leads(&second, SOON).await;
    world.bed.s3.clear_faults(&world.name);
    world.module_ready("mod").await;
    assert_eq!(world.objects_are(tags.len()).await.len(), tags.len());
    assert!(world.counts("mod").fetches <= tags.len() + 4, "{} fetches", world.counts("mod").fetches);
    let mut stored = std::collections::BTreeMap::new();
    for put in world.bed.s3.requests(&world.name).iter().filter(|r| r.method == Method::PUT) {
        let sum = stored.entry(put.key.clone()).or_insert_with(|| put.sha256.clone());
        assert_eq!(*sum, put.sha256, "{} was stored twice with different bytes", put.key);
    }
    // The first one comes back, and waits.
    first.restart().await.unwrap();
    assert!(!leader(&first).await && leader(&second).await);
}

#[tokio::test]
async fn another_takes_over_at_once_when_the_leader_is_told_to_go() {
    let (world, tags) = world("left", 2).await;
    let (first, second) = two(&world).await;
    // Something is in flight that would take long.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Hang).method(Method::PUT).times(1));
    world.apply(&world.module("mod").versions(&versions(&tags[..1])));
    soon(|| async {
        anyhow::ensure!(world.counts("mod").puts > 0, "no PUT yet");
        Ok(())
    })
    .await;
    first.signal("TERM").unwrap();
    leads(&second, LEFT).await;
    assert_eq!(first.exited(SOON).await.unwrap(), 0, "{}", first.log());
    assert!(first.log().contains("released leader lease"), "{}", first.log());
    world.module_ready("mod").await;
    world.objects_are(1).await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_stores_nothing_when_it_wakes() {
    let (world, tags) = world("frozen", 1).await;
    let (first, second) = two(&world).await;
    world.bed.github.inject(opendepot_testbed::github::Fault::on(
        &world.repository("mod"),
        opendepot_testbed::github::Failure::Delay(Duration::from_secs(1)),
    ));
    world.apply(&world.module("mod").versions(&versions(&tags)));
    world.version_when("mod-1.0.0", |v| v["status"]["objects"].is_array()).await;
    first.signal("STOP").unwrap();
    leads(&second, SOON).await;
    world.module_ready("mod").await;
    let before = world.counts("mod").puts;
    first.signal("CONT").unwrap();
    assert_ne!(first.exited(SOON).await.unwrap(), 0, "it ends, to start anew");
    assert!(first.log().contains("lease"), "{}", first.log());
    assert_eq!(world.counts("mod").puts, before);
    world.version_ready("mod-1.0.0").await;
}

/// A way to the API server on which packets can be held back. Nothing is closed meanwhile.
struct Cable {
    kubeconfig: std::path::PathBuf,
    held: watch::Sender<bool>,
    _folder: opendepot_testbed::process::Folder,
}

impl Cable {
    /// To the API server that this kubeconfig of the operator names.
    async fn of(world: &World) -> Self {
        let kubeconfig = std::fs::read_to_string(world.bed.operator_kubeconfig()).unwrap();
        let server = kubeconfig.split("https://").nth(1).unwrap().split(['"', '\n']).next().unwrap();
        let server = server.trim().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let folder = opendepot_testbed::process::Folder::new("cable").unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.replace(&server, &address)).unwrap();
        let (held, is_held) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&server).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, is_held.clone()));
                tokio::spawn(pass(far_in, near_out, is_held.clone()));
            }
        });
        Self { kubeconfig: path, held, _folder: folder }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|held| !*held).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_its_lease_can_be_taken() {
    let (world, _) = world("cut-off", 1).await;
    let cable = Cable::of(&world).await;
    let first = replica(&world).env("KUBECONFIG", &cable.kubeconfig).start_ready().await.unwrap();
    leads(&first, SOON).await;
    let second = replica(&world).start_ready().await.unwrap();
    cable.held.send(true).unwrap();
    assert_ne!(first.exited(SOON).await.unwrap(), 0);
    leads(&second, SOON).await;
    // By their own clocks: the test may look too late.
    assert!(first.log().contains("lost the leader lease"), "{}", first.log());
    let stopped = first.home().join("operator.log").metadata().unwrap().modified().unwrap();
    let taken = SystemTime::from(lease(&world).await.acquire_time.unwrap().0);
    assert!(stopped < taken, "taken {:?} before its holder stopped", stopped.duration_since(taken));
}

async fn renewed(world: &World) -> (String, jiff::Timestamp) {
    let spec = lease(world).await;
    (spec.holder_identity.unwrap(), spec.renew_time.unwrap().0)
}

#[tokio::test]
async fn an_api_server_that_hangs_for_a_few_seconds_costs_no_leader() {
    let (world, _) = world("hung", 1).await;
    let cable = Cable::of(&world).await;
    let first = replica(&world).env("KUBECONFIG", &cable.kubeconfig).start_ready().await.unwrap();
    leads(&first, SOON).await;
    let second = replica(&world).start_ready().await.unwrap();
    let (holder, before) = renewed(&world).await;
    // From a renewal on, after which the whole term is left.
    soon(|| async {
        let (_, at) = renewed(&world).await;
        anyhow::ensure!(at > before, "not renewed");
        Ok(())
    })
    .await;
    let late = || first.log().matches("cannot renew the leader lease; retrying").count();
    let late_before = late();
    cable.held.send(true).unwrap();
    // Until one request was given up, and while the next one hangs.
    world.until("a renewal that hangs", || late() > late_before).await;
    cable.held.send(false).unwrap();
    let released = jiff::Timestamp::now();
    soon(|| async {
        let (now, at) = renewed(&world).await;
        anyhow::ensure!(now == holder, "{now} has taken the Lease of {holder}\n{}", first.log());
        anyhow::ensure!(at > released, "not renewed since");
        Ok(())
    })
    .await;
    assert!(leader(&first).await && !leader(&second).await, "{}", first.log());
}

#[tokio::test]
async fn a_standby_that_takes_over_verifies_at_its_usual_pace() {
    let (world, tags) = world("standby", 30).await;
    let interval = Duration::from_secs(15);
    let verify = ["--verify-interval", "15s"];
    let first = replica(&world).args(verify).start_ready().await.unwrap();
    leads(&first, SOON).await;
    let second = replica(&world).args(verify).start_ready().await.unwrap();
    let started = std::time::Instant::now();
    world.apply(&world.module("mod").versions(&versions(&tags)));
    world.module_ready("mod").await;
    // The standby has been running for longer than the interval: to a process that counts from its start all is due.
    tokio::time::sleep((interval + Duration::from_secs(1)).saturating_sub(started.elapsed())).await;
    first.signal("TERM").unwrap();
    assert_eq!(first.exited(SOON).await.unwrap(), 0, "{}", first.log());
    leads(&second, LEFT).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let taken = SystemTime::from(lease(&world).await.acquire_time.unwrap().0);
    let soon_after = taken..taken + Duration::from_secs(3);
    let requests = world.bed.s3.requests(&world.name);
    let heads = requests.iter().filter(|r| r.method == Method::HEAD && soon_after.contains(&r.at)).count();
    // Six are due on average.
    assert!(heads <= 20, "{heads} of 30 Versions were verified within 3 s of the take-over");
}

#[tokio::test]
async fn without_leader_election_there_is_no_lease() {
    let (world, tags) = world("alone", 1).await;
    let _operator = world.operator().await;
    world.apply(&world.module("mod").versions(&versions(&tags)));
    world.module_ready("mod").await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.name);
    assert!(leases.list(&kube::api::ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn an_operator_that_may_not_have_its_lease_says_what_to_do() {
    let (world, tags) = world("forbidden", 1).await;
    let operator = replica(&world).args(["--lease-name", "another"]).start().unwrap();
    soon(|| async {
        let log = operator.log();
        anyhow::ensure!(log.contains("allow get, create and update of leases"), "it does not say so: {log}");
        Ok(())
    })
    .await;
    assert_eq!(operator.http_get("/readyz").await.unwrap().0, 503);
    world.apply(&world.module("mod").versions(&versions(&tags)));
    assert!(world.versions().await.unwrap().is_empty(), "it does not work");
}

/// A kubeconfig of an account that may have the Lease of this world, and nothing else.
fn only_the_lease(world: &World, folder: &std::path::Path) -> std::path::PathBuf {
    world.kubectl(&["create", "serviceaccount", "waiting"]);
    world.kubectl(&["create", "role", "lease", "--verb=get,create,update", "--resource=leases"]);
    let account = format!("--serviceaccount={}:waiting", world.name);
    world.kubectl(&["create", "rolebinding", "lease", "--role=lease", &account]);
    let token = world.kubectl(&["create", "token", "waiting"]);
    let text = std::fs::read_to_string(world.bed.operator_kubeconfig()).unwrap();
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn a_replica_that_takes_over_and_cannot_list_is_not_ready_and_says_what_to_do() {
    let world = World::new("unlisted").await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = only_the_lease(&world, folder.path());
    // Another process held the Lease, and died.
    let now = jiff::Timestamp::now();
    world.apply(&json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "opendepot", "namespace": world.name},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 3, "renewTime": format!("{now:.6}")},
    }));
    let operator = replica(&world).env("KUBECONFIG", kubeconfig).start_ready().await.unwrap();
    leads(&operator, SOON).await;
    soon(|| async {
        let text = operator.metrics().await?;
        let age = text.lines().find_map(|line| line.strip_prefix("opendepot_watch_age_seconds "));
        anyhow::ensure!(age.is_some_and(|age| age != "0"), "both watches seem to run: {age:?}");
        Ok(())
    })
    .await;
    let (status, text) = operator.http_get("/readyz").await.unwrap();
    assert_eq!(status, 503, "{text}\n{}", operator.log());
    assert_eq!(operator.http_get("/livez").await.unwrap().0, 200, "a restart would not help");
    let log = operator.log();
    assert!(log.contains("forbidden") && log.contains("as the shipped rbac.yaml"), "{log}");
}
