//! Replicas whose API server is away, or that see changes later than others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use opendepot_testbed::operator::Operator;
use opendepot_testbed::terraform::Terraform;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::registry::{Depot, SYSTEM, archive, metric};
use crate::support::wire::Wire;
use crate::support::{heavy, soon};

const INIT: [&str; 4] = ["init", "-no-color", "-input=false", "-upgrade"];

fn main_tf(text: &str) -> String {
    format!("output \"greeting\" {{\n  value = \"{text}\"\n}}\n")
}

fn installs(client: &Terraform, main: &str) {
    client.forget().unwrap();
    client.run(&INIT).unwrap_or_else(|error| panic!("{}: {error:#}", client.name()));
    let installed = std::fs::read_to_string(client.module("it").join("main.tf")).unwrap();
    assert_eq!(installed, main_tf(main), "{}", client.name());
}

/// The versions that a replica lists.
async fn listed(depot: &Depot, base: &str, module: &str) -> anyhow::Result<Vec<String>> {
    let url = format!("{base}/v1/modules/{}/{module}/{SYSTEM}/versions", depot.world.name);
    let answer = depot.get(&url, &[]).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let body: Value = serde_json::from_slice(&answer.body)?;
    let versions = body["modules"][0]["versions"].as_array().context("no versions")?;
    Ok(versions.iter().map(|version| version["version"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_its_api_server_serves_on_and_catches_up() {
    let depot = Depot::new("reg-away").await;
    for name in ["net", "old"] {
        depot.publish(name, &[("1.0.0", archive(&main_tf(name), 0))]).await;
    }
    let wire = Wire::new(&depot.world).await;
    let registry = depot.builder().env("KUBECONFIG", wire.kubeconfig()).start_ready().await.unwrap();
    let base = format!("https://{}", registry.registry_address());
    let clients = depot.installers(registry.registry_address(), "net", "~> 1.0");
    for name in ["net", "old"] {
        assert_eq!(listed(&depot, &base, name).await.unwrap(), ["1.0.0"]);
    }
    for client in &clients {
        installs(client, "net");
    }

    wire.cut().await;
    let age = "opendepot_registry_watch_age_seconds";
    soon(|| async {
        ensure!(metric(&registry, age).await > 0.5, "both watches seem to run");
        Ok(())
    })
    .await;
    // What happens meanwhile: a version, a module, and one that is gone.
    depot.append("net", "1.1.0", archive(&main_tf("later"), 0)).await;
    depot.publish("new", &[("2.0.0", archive(&main_tf("new"), 0))]).await;
    depot.world.kubectl(&["delete", "modules.opendepot.defdev.io/old", "--wait=false"]);
    for client in &clients {
        installs(client, "net");
    }
    assert_eq!(listed(&depot, &base, "old").await.unwrap(), ["1.0.0"]);
    assert_eq!(registry.http_get("/readyz").await.unwrap().0, 200, "an old list is better than none");
    let url = format!("{base}/v1/modules/{}/net/{SYSTEM}/versions", depot.world.name);
    let unknown = depot.get_once(&url, &[("authorization", "Bearer unknown")]).await.unwrap();
    assert_eq!(unknown.status, 503, "{}", unknown.text());
    assert!(unknown.headers.contains_key("retry-after"));

    wire.restore().await;
    soon(|| async {
        let versions = listed(&depot, &base, "net").await?;
        ensure!(versions == ["1.1.0", "1.0.0"], "{versions:?}");
        ensure!(listed(&depot, &base, "new").await? == ["2.0.0"], "new");
        Ok(())
    })
    .await;
    for client in &clients {
        installs(client, "later");
    }
    let fresh = depot.registry(&[]).await;
    let ask = async |registry: &Operator, path: &str| {
        let base = format!("https://{}/v1/modules/{}", registry.registry_address(), depot.world.name);
        let answer = depot.get(&format!("{base}/{path}"), &[]).await.unwrap();
        (answer.status, answer.headers.get("etag").cloned(), answer.text())
    };
    soon(|| async {
        for name in ["net", "new", "old"] {
            for path in [format!("{name}/{SYSTEM}"), format!("{name}/{SYSTEM}/versions")] {
                let (old, new) = (ask(&registry, &path).await, ask(&fresh, &path).await);
                ensure!(old == new, "{path}: {old:?} and {new:?}");
            }
        }
        ensure!(metric(&registry, age).await < 0.5, "a watch still fails");
        Ok(())
    })
    .await;
    assert_eq!(ask(&registry, &format!("old/{SYSTEM}/versions")).await.0, 404);
}

/// An ingress over plain HTTP: lists come from one replica, locations and archives from one each.
async fn ingress(lists: &Operator, locations: &Operator, archives: &Operator) -> SocketAddr {
    let replicas = [lists, locations, archives].map(|replica| replica.registry_address().to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let [lists, locations, archives] = replicas.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    ensure!(client.read_buf(&mut head).await? > 0, "no request");
                }
                // One request per connection, since the next one may be for the other replica.
                let head = String::from_utf8(head)?.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                let path = head.split(' ').nth(1).unwrap_or_default();
                let replica = if path.ends_with("/download") {
                    locations
                } else if path.contains("/archive/") {
                    archives
                } else {
                    lists
                };
                let mut replica = TcpStream::connect(replica).await?;
                replica.write_all(head.as_bytes()).await?;
                tokio::io::copy_bidirectional(&mut client, &mut replica).await?;
                Ok(())
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_lists_another_one_hands_out_a_second_later() {
    // A second counts here.
    let _turn = heavy().await;
    let depot = Depot::new("reg-skew").await;
    depot.publish("net", &[("1.0.0", archive(&main_tf("1.0.0"), 0))]).await;
    let ahead = depot.plain_builder().start_ready().await.unwrap();
    let wire = Wire::new(&depot.world).await;
    let behind = depot.plain_builder().env("KUBECONFIG", wire.kubeconfig()).start_ready().await.unwrap();
    let [first, second] = [&ahead, &behind].map(|registry| format!("http://{}", registry.registry_address()));
    // Permission is known from now on; the watch alone is late.
    assert_eq!(listed(&depot, &second, "net").await.unwrap(), ["1.0.0"]);
    wire.delay(Duration::from_millis(300));

    let appended = async |number: usize| {
        let version = format!("1.{number}.0");
        depot.append("net", &version, archive(&main_tf(&version), 0)).await;
        soon(|| async {
            let listed = listed(&depot, &first, "net").await?;
            ensure!(listed[0] == version, "{listed:?}");
            Ok(())
        })
        .await;
        version
    };
    // The replica that is behind gives the location, then the archive for a location of the other one.
    let located = async |version: &str| {
        let url = depot.archive_url(&second, "net", version).await.expect("the other replica has it");
        assert!(url.contains(version));
    };
    let streamed = async |version: &str| {
        let url = depot.archive_url(&first, "net", version).await.unwrap().replace(&first, &second);
        let answer = depot.get(&url, &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let mut numbers = 1..;
    for of_archive in [false, true] {
        let mut waited = false;
        for number in numbers.by_ref().take(10) {
            let version = appended(number).await;
            let (known, start) = (listed(&depot, &second, "net").await.unwrap(), Instant::now());
            if of_archive {
                streamed(&version).await;
            } else {
                located(&version).await;
            }
            waited = !known.contains(&version) && start.elapsed() > Duration::from_millis(100);
            if waited {
                break;
            }
        }
        assert!(waited, "the replica was never behind");
    }

    for (number, (locations, archives)) in (30..).step_by(2).zip([(&behind, &ahead), (&ahead, &behind)]) {
        let address = ingress(&ahead, locations, archives).await;
        let settings = depot.file("settings.tfrc");
        let services = format!("{{ \"modules.v1\" = \"http://{address}/v1/modules/\" }}");
        std::fs::write(&settings, format!("host \"registry.test\" {{\n  services = {services}\n}}\n"))
            .unwrap();
        for (number, client) in (number..).zip(depot.installers("registry.test", "net", "~> 1.30")) {
            let client = client.env("TF_CLI_CONFIG_FILE", &settings);
            let version = appended(number).await;
            installs(&client, &version);
        }
    }
    // What no replica has is waited for no longer than that.
    let start = Instant::now();
    assert!(depot.archive_url(&second, "net", "9.9.9").await.unwrap_err().to_string().starts_with("404"));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_hands_out_what_was_moved_and_refuses_what_was_replaced() {
    // A second counts here.
    let _turn = heavy().await;
    let depot = Depot::new("reg-moved").await;
    let bytes = archive(&main_tf("moved"), 0);
    depot.publish("net", &[("1.0.0", bytes.clone())]).await;
    let wire = Wire::new(&depot.world).await;
    let builder = depot.plain_builder().env("KUBECONFIG", wire.kubeconfig());
    let behind = builder.args(["--download", "stream"]).start_ready().await.unwrap();
    let base = format!("http://{}", behind.registry_address());
    let link = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    assert_eq!(depot.get(&link, &[]).await.unwrap().body, bytes);
    wire.delay(Duration::from_millis(300));
    depot.move_object("net-1.0.0", ("net/1.0.0.zip", "net/moved.zip"), &bytes).await;
    let moved = depot.get(&link, &[]).await.unwrap();
    assert!(moved.status == 200 && moved.body == bytes, "{} {}", moved.status, moved.text());
    let other = archive(&main_tf("replaced"), 0);
    depot.move_object("net-1.0.0", ("net/moved.zip", "net/replaced.zip"), &other).await;
    let replaced = depot.get(&link, &[]).await.unwrap();
    assert_eq!(replaced.status, 403, "{}", replaced.text());
    assert!(metric(&behind, "opendepot_registry_s3_errors_total{kind=\"missing\"}").await.abs() < 0.5);
}
