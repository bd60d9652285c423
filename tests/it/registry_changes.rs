//! What consumers see while publishers append, move, replace, withdraw and remove versions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::Method;
use opendepot::domain::text::hex;
use opendepot_testbed::terraform::Terraform;
use serde_json::json;

use crate::support::registry::metric;
use crate::support::requests::main_tf;
use crate::support::token_registry::{Registry, installed};
use crate::support::{World, condition, soon};

const INIT: [&str; 4] = ["init", "-no-color", "-input=false", "-upgrade"];
const MODULE: &str = "modules.opendepot.defdev.io/net";

/// Both clients of a registry that serves the Module `net`.
struct Consumer {
    world: World,
    registry: Arc<Registry>,
    token: String,
    address: String,
    clients: Vec<Terraform>,
}

impl Consumer {
    /// Publishes the Module, and starts a registry with these arguments.
    async fn new(world: World, versions: &[&str], args: &[&str]) -> Self {
        world.apply(&world.module("net").versions(versions));
        let registry = Arc::new(world.registry_with(args).await);
        let token = world.consumer(&registry, "ci");
        let address = world.address("net").await;
        world.module_ready("net").await;
        registry.lists(&address, &token, versions.len()).await;
        let clients = registry.clients(&token);
        Self { world, registry, token, address, clients }
    }

    /// Runs `init` afresh with each client. Nothing may be left in between.
    fn init(&self, constraint: &str) -> Vec<(&Terraform, anyhow::Result<String>)> {
        let run = |client: &Terraform| {
            client.forget().unwrap();
            client.configure(&self.registry.module("net", &self.address, constraint)).unwrap();
            client.run(&INIT)
        };
        self.clients.iter().map(|client| (client, run(client))).collect()
    }

    /// Both install this version with this `main.tf`.
    fn installs(&self, constraint: &str, version: &str, main: &str) {
        for (client, result) in self.init(constraint) {
            result.unwrap_or_else(|error| panic!("{} {constraint}: {error:#}", client.name()));
            assert_eq!(installed(client, "net"), version, "{}", client.name());
            let text = std::fs::read_to_string(client.module("net").join("main.tf")).unwrap();
            assert_eq!(text, main, "{}", client.name());
        }
    }

    /// Both find no version, and ask for no archive.
    async fn finds_none(&self, constraint: &str) {
        let before = self.downloads().await;
        for (client, result) in self.init(constraint) {
            let said = result.expect_err("no version meets the constraint").to_string();
            assert!(!client.module("net").exists(), "{} {constraint}: {said}", client.name());
        }
        assert_eq!(self.downloads().await, before, "{constraint}");
    }

    async fn downloads(&self) -> Vec<String> {
        let metrics = self.registry.process.metrics().await.unwrap();
        let counts =
            ["opendepot_registry_downloads_total", "opendepot_registry_requests_total{endpoint=\"archive\""];
        metrics
            .lines()
            .filter(|line| counts.iter().any(|start| line.starts_with(start)))
            .map(Into::into)
            .collect()
    }

    async fn lists(&self, expected: &[&str]) {
        soon(|| async {
            let listed = self.registry.versions(&self.address, &self.token).await?;
            anyhow::ensure!(listed == expected, "{listed:?}");
            Ok(())
        })
        .await;
    }

    /// The URL of an archive, and the SHA-256 that the clients compare.
    async fn located(&self, version: &str) -> (String, String) {
        let path = format!("/v1/modules/{}/{version}/download", self.address);
        let answer = self.registry.get(&path, Some(&self.token)).await;
        assert_eq!(answer.status(), 204, "{path}");
        let location = answer.headers()["x-terraform-get"].to_str().unwrap();
        let (url, query) = location.split_once('?').unwrap();
        (url.to_owned(), query.split("checksum=sha256:").nth(1).unwrap().to_owned())
    }

    /// The status of an archive's URL.
    async fn status(&self, url: &str) -> u16 {
        self.registry.client.get(url).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_versions_are_appended_no_init_fails_and_none_is_listed_before_its_object() {
    let world = World::new("changes-append").await;
    let _operator = world.operator().await;
    let versions: Vec<String> = (0..=8).map(|number| format!("1.{number}.0")).collect();
    let tags: Vec<String> = versions.iter().map(|version| format!("v{version}")).collect();
    world.tagged("net", &tags.iter().map(String::as_str).collect::<Vec<_>>());
    let mut consumer = Consumer::new(world, &["1.0.0"], &[]).await;
    let clients = std::mem::take(&mut consumer.clients);
    let (consumer, done) = (Arc::new(consumer), Arc::new(AtomicBool::new(false)));
    let watched = tokio::spawn({
        let (consumer, done) = (Arc::clone(&consumer), Arc::clone(&done));
        async move {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::SeqCst) {
                let listed = consumer.registry.versions(&consumer.address, &consumer.token).await.unwrap();
                let listed: BTreeSet<String> = listed.into_iter().collect();
                assert!(listed.is_superset(&seen), "{listed:?} after {seen:?}");
                for version in listed.difference(&seen) {
                    let (url, sha256) = consumer.located(version).await;
                    let answer = consumer.registry.client.get(&url).send().await.unwrap();
                    assert_eq!(answer.status(), 200, "{version} is listed");
                    let bytes = answer.bytes().await.unwrap();
                    assert_eq!(hex(digest(&SHA256, &bytes).as_ref()), sha256, "{version}");
                }
                seen = listed;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            seen.len()
        }
    });
    let installing: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (consumer, done) = (Arc::clone(&consumer), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                let mut all = Vec::new();
                client.configure(&consumer.registry.module("net", &consumer.address, "~> 1.0")).unwrap();
                // Once more after the last version is there.
                for last in [false, true] {
                    while last || !done.load(Ordering::SeqCst) {
                        client.run(&INIT).unwrap_or_else(|error| panic!("{}: {error:#}", client.name()));
                        all.push(installed(&client, "net"));
                        if last {
                            break;
                        }
                    }
                }
                all
            })
        })
        .collect();
    for version in &versions[1..] {
        let entry = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
        consumer.world.kubectl(&["patch", MODULE, "--type=json", "-p", &entry.to_string()]);
        consumer.world.version_ready(&format!("net-{version}")).await;
    }
    let newest_first: Vec<&str> = versions.iter().rev().map(String::as_str).collect();
    consumer.lists(&newest_first).await;
    done.store(true, Ordering::SeqCst);
    watched.await.unwrap();
    for installed in installing {
        let all = installed.await.unwrap();
        assert!(all.is_sorted() && all.len() > 2, "{all:?}");
        assert_eq!(all.last(), versions.last(), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_where_the_registry_may_not_read_is_reported() {
    let world = World::new("changes-moved").await;
    let _operator = world.operator().await;
    world.tagged("net", &["v1.0.0"]);
    let other = format!("{}-other", world.name);
    world.bed.s3.create_bucket(&other).await.unwrap();
    let consumer = Consumer::new(world, &["1.0.0"], &[]).await;
    let (world, process) = (&consumer.world, &consumer.registry.process);
    let in_part = "opendepot_registry_modules{state=\"location_not_allowed\"}";
    let warning = "stored at locations that this registry may not read";
    assert!(metric(process, in_part).await < 0.5 && !process.log().contains(warning));
    let at =
        |bucket: &str| world.apply(&world.module("net").versions(&["1.0.0"]).s3("bucket", json!(bucket)));
    let counted = async |expected: bool| {
        soon(|| async {
            let count = metric(process, in_part).await;
            anyhow::ensure!((count > 0.5) == expected, "{count} Modules");
            Ok(())
        })
        .await;
    };
    at(&other);
    counted(true).await;
    assert_eq!(process.log().matches(warning).count(), 1, "{}", process.log());
    consumer.finds_none("1.0.0").await;
    at(&world.name);
    counted(false).await;
    consumer.lists(&["1.0.0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_consumers_see_of_each_change() {
    let world = World::new("changes-all").await;
    let _operator = world.operator().await;
    let repository = world.tagged("net", &["v1.0.0", "v1.1.0", "v1.2.0"]);
    let other = format!("{}-other", world.name);
    world.bed.s3.create_bucket(&other).await.unwrap();
    let rule = format!("{}={other}", world.name);
    let all = ["1.2.0", "1.1.0", "1.0.0"];
    let consumer = Consumer::new(world, &["1.0.0", "1.1.0", "1.2.0"], &["--allow-storage", &rule]).await;
    let world = &consumer.world;
    let module = || world.module("net").versions(&["1.0.0", "1.1.0", "1.2.0"]);
    consumer.lists(&all).await;
    consumer.installs("~> 1.0", "1.2.0", "# v1.2.0\n");

    // Suspended: the bytes are there.
    world.patch(MODULE, &json!({"spec": {"suspend": true}}));
    world.version_when("net-1.2.0", |v| condition(v, "Ready")["reason"] == "Suspended").await;
    consumer.lists(&all).await;
    consumer.installs("1.2.0", "1.2.0", "# v1.2.0\n");
    world.patch(MODULE, &json!({"spec": {"suspend": false}}));

    // Deprecated and withdrawn.
    let mut noticed = module();
    noticed.0["spec"]["versions"] = json!([
        {"version": "1.0.0"}, {"version": "1.1.0", "withdrawn": "CVE-2026-1"}, {"version": "1.2.0", "deprecated": "use 2.x"},
    ]);
    world.apply(&noticed);
    consumer.lists(&["1.2.0", "1.0.0"]).await;
    consumer.installs("~> 1.0", "1.2.0", "# v1.2.0\n");
    consumer.finds_none("1.1.0").await;
    world.apply(&module());
    consumer.lists(&all).await;

    // From here on, the list stays as it is, whatever happens to the objects.
    let done = Arc::new(AtomicBool::new(false));
    let watched = tokio::spawn({
        let (registry, done) = (Arc::clone(&consumer.registry), Arc::clone(&done));
        let (address, token) = (consumer.address.clone(), consumer.token.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(registry.versions(&address, &token).await.unwrap(), all);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    // Another bucket: the content is the same, so a link stays valid and leads there.
    let (link, _) = consumer.located("1.2.0").await;
    let moved = || module().s3("bucket", json!(other));
    world.apply(&moved());
    world.module_ready("net").await;
    let gets =
        || world.bed.s3.requests(&other).iter().filter(|request| request.method == Method::GET).count();
    soon(|| async {
        let status = consumer.status(&link).await;
        anyhow::ensure!(gets() > 0, "{status} from the old bucket");
        Ok(())
    })
    .await;
    world.bed.s3.forget_requests(&other);
    consumer.installs("~> 1.0", "1.2.0", "# v1.2.0\n");
    assert_eq!(consumer.status(&link).await, 200);
    assert_eq!(gets(), consumer.clients.len() + 1, "one for each client and the link");

    // Another format: the link is of other bytes.
    world.apply(&moved().config("fileFormat", json!("tar")));
    world.module_ready("net").await;
    soon(|| async {
        let status = consumer.status(&link).await;
        anyhow::ensure!(status == 403, "{status}");
        Ok(())
    })
    .await;
    assert!(consumer.located("1.2.0").await.0.ends_with("/net-1.2.0.tar.gz"));
    consumer.installs("~> 1.0", "1.2.0", "# v1.2.0\n");

    // A tag that was moved, and a sync that replaces the content.
    let (link, sha256) = consumer.located("1.1.0").await;
    repository.release("v1.1.0", &main_tf("# moved\n")).unwrap();
    world.force("version/net-1.1.0");
    world.version_reset("net-1.1.0").await;
    soon(|| async {
        let now = consumer.located("1.1.0").await;
        anyhow::ensure!(now.1 != sha256, "the old content is located");
        Ok(())
    })
    .await;
    assert_eq!(consumer.status(&link).await, 403);
    consumer.installs("1.1.0", "1.1.0", "# moved\n");

    // Immutable: what was published first stays.
    let tar = || moved().config("fileFormat", json!("tar"));
    world.apply(&tar().config("immutable", json!(true)));
    world.module_ready("net").await;
    repository.release("v1.0.0", &main_tf("# moved\n")).unwrap();
    world.force("version/net-1.0.0");
    world.version_fails("net-1.0.0", "ImmutableContentChanged").await;
    consumer.installs("1.0.0", "1.0.0", "# v1.0.0\n");
    done.store(true, Ordering::SeqCst);
    watched.await.unwrap();

    // Pruned, removed, and all gone.
    world.apply(&tar().config("versionHistoryLimit", json!(2)));
    consumer.lists(&["1.2.0", "1.1.0"]).await;
    consumer.finds_none("1.0.0").await;
    world.apply(&tar().versions(&["1.1.0"]));
    consumer.lists(&["1.1.0"]).await;
    consumer.finds_none("1.2.0").await;
    consumer.installs(">= 1.0.0", "1.1.0", "# moved\n");
    world.kubectl(&["delete", MODULE]);
    let versions = format!("/v1/modules/{}/versions", consumer.address);
    soon(|| async {
        let status = consumer.registry.get(&versions, Some(&consumer.token)).await.status();
        anyhow::ensure!(status == 404, "{status}");
        Ok(())
    })
    .await;
    consumer.finds_none(">= 1.0.0").await;
}
