//! Forged archive links and recorded locations, through the built binary.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::api::{Patch, PatchParams};
use opendepot::api::Version;
use opendepot::domain::text::hex;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::registry::{Depot, SYSTEM, archive};
use crate::support::soon;

const MAIN: &str = "output \"greeting\" {\n  value = \"hello\"\n}\n";
const FIRST: &str = "the-first-key-of-this-test-with-32-characters";
const SECOND: &str = "the-second-key-of-this-test-with-32-characters";

/// A registry over plain HTTP for clients without a token, which may read the bucket of the test only.
fn builder(depot: &Depot) -> OperatorBuilder {
    let name = &depot.world.name;
    depot
        .world
        .bed
        .registry()
        .args(["--namespace", name, "--allow-storage", &format!("{name}={name}"), "--anonymous"])
        .args(["--audience", "registry.test"])
}

/// A replica whose link keys are these lines; without any, a random key.
async fn replica(depot: &Depot, name: &str, keys: &[&str]) -> Operator {
    let file = depot.file(name);
    std::fs::write(&file, keys.join("\n")).unwrap();
    let builder = builder(depot).args(["--download", "redirect"]);
    let builder = if keys.is_empty() { builder } else { builder.args(["--link-key-file".into(), file]) };
    builder.start_ready().await.unwrap()
}

/// Status and body of a path that is sent as it is, once the API server has reviewed the right to it.
async fn raw(registry: &Operator, path: &str) -> (u16, String) {
    soon(|| async {
        let (status, body) = sent(registry, path).await;
        anyhow::ensure!(status != 503 || !body.starts_with("the Kubernetes API"), "{body}");
        Ok((status, body))
    })
    .await
}

async fn sent(registry: &Operator, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(registry.registry_address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The path of an archive, with a link of this replica.
async fn path(depot: &Depot, registry: &Operator, version: &str) -> String {
    let base = format!("http://{}", registry.registry_address());
    let url = depot.archive_url(&base, "net", version).await.unwrap();
    url.strip_prefix(&base).unwrap().to_owned()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A link as the specification defines it.
fn link(depot: &Depot, key: &str, bytes: &[u8], expiry: u64) -> String {
    let expiry = u32::try_from(expiry).unwrap();
    let sha256 = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    let text = format!("v1\n{}\nnet\n{SYSTEM}\n1.0.0\n{sha256}\n{expiry}", depot.world.name);
    let mac = sign(&Key::new(HMAC_SHA256, key.as_bytes()), text.as_bytes());
    URL_SAFE_NO_PAD.encode([&expiry.to_be_bytes()[..], &mac.as_ref()[..16]].concat())
}

#[tokio::test]
async fn a_link_opens_one_archive_with_the_current_or_the_previous_key_until_it_expires() {
    let depot = Depot::new("reg-links").await;
    let bytes = archive(MAIN, 0);
    depot.publish("net", &[("1.0.0", bytes.clone()), ("1.1.0", archive(MAIN, 9))]).await;
    let registry = replica(&depot, "first.key", &[FIRST]).await;
    let good = path(&depot, &registry, "1.0.0").await;
    assert_eq!(raw(&registry, &good).await.0, 302);

    // The first thing, since it takes up to 30 s: the file has two lines from now on.
    std::fs::write(depot.file("first.key"), format!("{SECOND}\n{FIRST}\n")).unwrap();

    let of_other = path(&depot, &registry, "1.1.0").await;
    let link_of = |path: &str| path.split('/').nth_back(1).unwrap().to_owned();
    let (one, other) = (link_of(&good), link_of(&of_other));
    let refused = raw(&registry, &good.replace(&one, &other)).await;
    assert_eq!(refused.0, 403);
    for odd in [
        good.replace("net-1.0.0.zip", "net-1.1.0.zip"),
        good.replace("/1.0.0/", "/9.9.9/"),
        good.replace("/net/", "/unknown/"),
        good.replace(&one, ".."),
        good.replace(&one, "%2e%2e%2f"),
        good.replace(&format!("/{one}/"), "//"),
        good.replace("net-1.0.0.zip", "..%2fnet-1.0.0.zip"),
        good.replace(&one, &one[1..]),
    ] {
        assert_eq!(raw(&registry, &odd).await, refused, "{odd}");
    }
    for odd in
        [good.replace("/archive/", "//archive/"), good.replace("/v1/", "/v1/x/../"), format!("{good}/..")]
    {
        assert_eq!(raw(&registry, &odd).await.0, 404, "{odd}");
    }

    // A second before the expiry, and one after it.
    let made = |key: &str, expiry| good.replace(&one, &link(&depot, key, &bytes, expiry));
    let (expiry, brief) = soon(|| async {
        let expiry = now() + 10;
        let brief = made(FIRST, expiry);
        let status = raw(&registry, &brief).await.0;
        anyhow::ensure!(status == 302, "{status}");
        Ok((expiry, brief))
    })
    .await;
    assert_eq!(raw(&registry, &made(FIRST, now() - 1)).await, refused);
    assert_eq!(raw(&registry, &made("another-key-of-32-characters-or-more", now() + 60)).await, refused);
    while now() < expiry {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(raw(&registry, &brief).await, refused);

    // Links of replicas whose clocks are five minutes behind or ahead.
    for clock in [-300, 300] {
        soon(|| async {
            let of_replica = now().saturating_add_signed(clock);
            let made = made(FIRST, (of_replica / 300 + 2) * 300);
            let status = raw(&registry, &made).await.0;
            // Between the two, a window may end.
            anyhow::ensure!(status == 302, "{status} with a clock {clock} s away");
            Ok(())
        })
        .await;
    }

    // Replicas with other keys.
    let both = replica(&depot, "both.key", &[SECOND, FIRST]).await;
    let second = replica(&depot, "second.key", &[SECOND]).await;
    let random = replica(&depot, "none", &[]).await;
    let good = made(FIRST, now() + 600);
    for (replica, status) in [(&both, 302), (&second, 403), (&random, 403)] {
        assert_eq!(raw(replica, &good).await.0, status);
    }
    assert!(random.log().contains("archive links and sessions have a random key"), "{}", random.log());
    let new = path(&depot, &both, "1.0.0").await;
    assert_eq!((raw(&second, &new).await.0, raw(&both, &new).await.0), (302, 302));
    // The rotation: new links are of the second key, and old ones stay valid.
    soon(|| async {
        let made = path(&depot, &registry, "1.0.0").await;
        anyhow::ensure!(raw(&second, &made).await.0 == 302, "still the first key");
        Ok(())
    })
    .await;
    assert_eq!(raw(&registry, &good).await.0, 302);
}

#[tokio::test]
async fn a_forged_location_is_neither_listed_nor_asked_for() {
    let depot = Depot::new("reg-forged").await;
    let world = &depot.world;
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0", "1.6.0"];
    depot.publish("net", &versions.map(|version| (version, archive(MAIN, 0)))).await;
    let secrets = format!("{}-secrets", world.name);
    world.bed.s3.create_bucket(&secrets).await.unwrap();
    world.bed.s3.put_with_sha256(&secrets, "net/1.1.0.zip", archive(MAIN, 0)).await.unwrap();
    // Another server, which would see a signature.
    let evil = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", evil.local_addr().unwrap());
    for (version, storage) in [
        ("1.1.0", json!({"bucket": secrets})),
        ("1.2.0", json!({"endpoint": endpoint})),
        ("1.3.0", json!({"region": "evil.example/"})),
        ("1.4.0", json!({"key": "../secrets/x.zip"})),
        ("1.5.0", json!({"bucket": format!("{}/../{secrets}", world.name)})),
        ("1.6.0", json!({"endpoint": "http://169.254.169.254"})),
    ] {
        let status = json!({"status": {"storage": storage}});
        let name = format!("net-{version}");
        let patch = Patch::Merge(status);
        world.api::<Version>().patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    }
    world.bed.s3.forget_requests(&secrets);
    for mode in ["stream", "redirect"] {
        let registry = builder(&depot).args(["--download", mode]).start_ready().await.unwrap();
        let module = format!("/v1/modules/{}/net/{SYSTEM}", world.name);
        let (status, body) = raw(&registry, &format!("{module}/versions")).await;
        assert_eq!(status, 200, "{body}");
        let listed: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(listed["modules"][0]["versions"], json!([{"version": "1.0.0"}]));
        let asked = versions[1..].iter().map(|version| {
            let path = format!("{module}/{version}/download");
            let registry = &registry;
            async move { raw(registry, &path).await.0 }
        });
        assert_eq!(futures::future::join_all(asked).await, [404; 6]);
    }
    assert!(world.bed.s3.requests(&secrets).is_empty());
    let connected = tokio::time::timeout(Duration::from_millis(100), evil.accept()).await;
    assert!(connected.is_err(), "the other server was asked");
}
