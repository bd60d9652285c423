//! What S3 refuses, and what answers in S3's stead: each costs a few requests, says what to do, and holds up no other.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::ensure;
use http::Method;
use opendepot_testbed::eventually;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::support::archives::sha256;
use crate::support::failing::Then::{Retried, Stalled};
use crate::support::requests::message;
use crate::support::{SOON, World, ready, soon};

const VERSIONS: usize = 16;

/// How many attempts beyond the usual ones there may be since then: the first comes after `pause` seconds at the earliest, and
/// the pauses double.
fn more(begun: Instant, pause: u64) -> usize {
    (begun.elapsed().as_secs() / pause + 1).ilog2().try_into().unwrap()
}

#[tokio::test]
async fn a_put_that_s3_refuses_costs_few_downloads_and_ends_when_it_is_mended() {
    let world = World::new("refused").await;
    let s3 = &world.bed.s3;
    let tags: Vec<String> = (0..VERSIONS).map(|n| format!("1.0.{n}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let cases = [
        ("denied", S3Failure::Answer(403, "AccessDenied"), "StorageAccessDenied"),
        ("kms", S3Failure::Answer(400, "KMS.DisabledException"), "EncryptionKeyUnusable"),
        ("slow", S3Failure::RetryAfter(503, "SlowDown", 1), "StorageThrottled"),
        ("odd", S3Failure::Answer(400, "InvalidArgument"), "StorageRefused"),
    ];
    // As in a bucket for many teams: each has a prefix of its own.
    let module = |name: &str| world.module(name).s3("key", json!(name));
    let begun = Instant::now();
    // Nine in 45 seconds; a slow machine leaves the time for more.
    let most = || (5 + more(begun, 3)).max(9);
    let _operator = world.operator().await;
    for (name, failure, _) in &cases {
        let fault = S3Fault::new(&world.name, failure.clone()).prefix(&format!("{name}/"));
        s3.inject(fault.method(Method::PUT));
        world.tagged(name, &tags);
        world.apply(&module(name).versions(&tags));
    }
    let looks = |name: &str| {
        let requests = s3.requests(&world.name).into_iter();
        requests.filter(|r| r.method == Method::HEAD && r.key.starts_with(&format!("{name}/"))).count()
    };
    for (name, _, reason) in &cases {
        world.module_when(name, |m| m["status"]["versions"]["failed"] == VERSIONS).await;
        for version in world.versions().await.unwrap() {
            let condition = crate::support::condition(&version, "Ready");
            if version["metadata"]["name"].as_str().unwrap().starts_with(name) {
                assert_eq!(condition["reason"], *reason, "{}", message(&version));
                let stalled = crate::support::condition(&version, "Stalled")["status"] == "True";
                assert!(!stalled || *name == "odd", "{}", message(&version));
            }
        }
        if *name == "odd" {
            // One that was not tried waits first: what was refused may have been about one object.
            soon(|| async {
                for version in world.versions().await? {
                    let of_odd = version["metadata"]["name"].as_str().unwrap().starts_with(name);
                    let stalled = crate::support::condition(&version, "Stalled")["status"] == "True";
                    ensure!(!of_odd || stalled, "{}", message(&version));
                }
                Ok(())
            })
            .await;
        } else {
            world.until("each is tried again", || looks(name) >= 3 * VERSIONS).await;
        }
        let downloads = world.served(name);
        assert!((1..=most()).contains(&downloads), "{name}: {downloads} downloads for {VERSIONS} versions");
    }
    // The repository is not at fault: what is stored elsewhere is stored at once.
    let url = format!("https://github.com/{}", world.repository("odd"));
    world.apply(&module("fine").config("repoUrl", json!(url)).versions(&tags[..2]));
    world.module_ready("fine").await;

    s3.clear_faults(&world.name);
    world.force("module/odd");
    for (name, ..) in &cases {
        let stored = eventually(3 * SOON, || async {
            let module = world.get_module(name).await?;
            ensure!(ready(&module), "{name}: {}", message(&module));
            Ok(())
        });
        stored.await.unwrap();
        assert!(world.served(name) <= VERSIONS + most(), "{name}: {}", world.served(name));
    }
}

#[tokio::test]
async fn a_store_that_does_not_do_what_it_is_asked_waits_for_a_person() {
    let world = World::new("not-done").await;
    let s3 = &world.bed.s3;
    let cases = [
        ("argument", S3Failure::Answer(400, "InvalidArgument"), "StorageRefused", Stalled),
        ("method", S3Failure::Answer(405, "MethodNotAllowed"), "StorageRefused", Stalled),
        ("feature", S3Failure::Answer(501, "NotImplemented"), "StorageRefused", Stalled),
        // As wrong keys are reported. The headers may be why, so it is asked without them, and no more.
        ("signature", S3Failure::Answer(403, "SignatureDoesNotMatch"), "StorageCredentialsInvalid", Retried),
        ("page", S3Failure::Page(400), "StorageUnavailable", Retried),
    ];
    let _operator = world.operator().await;
    let begun = Instant::now();
    for (name, failure, ..) in &cases {
        s3.inject(S3Fault::new(&world.name, failure.clone()).prefix(&format!("{name}/")).method(Method::PUT));
        world.released(name);
        world.apply(&world.inline(name));
    }
    for (name, failure, reason, then) in &cases {
        let code = if let S3Failure::Answer(_, code) = failure { code } else { "HTTP 400" };
        world
            .failed(name, reason, *then, &[&format!("cannot store s3://{}/{name}/", world.name), code])
            .await;
        let puts = world.sent(&format!("{name}/"));
        let attempts = world.served(name);
        let most = if *then == Stalled { 2 } else { 2 + more(begun, 5) };
        assert!(puts <= 4 * attempts && attempts <= most, "{name}: {puts} PUTs in {attempts} attempts");
    }
    assert_eq!(s3.keys(&world.name).await.unwrap(), [""; 0]);
    s3.clear_faults(&world.name);
    for (name, ..) in &cases {
        world.request(&format!("version/{name}"), "mended");
        world.version_ready(name).await;
    }
}

#[tokio::test]
async fn only_s3_itself_may_say_that_a_missing_object_may_not_be_deleted() {
    let world = World::new("forbidden").await;
    let s3 = &world.bed.s3;
    world.released("net");
    let _operator = world.operator().await;
    world.apply(&world.inline("net"));
    let version = world.version_ready("net").await;
    // A firewall that lets no DELETE through, in front of a backend that is away.
    s3.inject(S3Fault::new(&world.name, S3Failure::Page(404)).method(Method::HEAD));
    s3.inject(S3Fault::new(&world.name, S3Failure::Page(403)).method(Method::DELETE).times(1));
    // Or S3 keeps an object that a gateway does not find.
    let retained = S3Failure::Answer(409, "ObjectLockedByBucketPolicy");
    s3.inject(S3Fault::new(&world.name, retained).method(Method::DELETE));
    world.kubectl(&["delete", "version", "net", "--wait=false"]);
    world.version_when("net", |v| message(v).contains("a GET finds the object")).await;
    assert_eq!(world.stored(&version).await, world.stored(&version).await);
    assert!(world.get_version("net").await.unwrap().is_some());

    // The object is gone, and S3 says that who has no right to delete it.
    s3.clear_faults(&world.name);
    let key = version["status"]["storage"]["key"].as_str().unwrap();
    std::fs::remove_file(s3.object_file(&world.name, key)).unwrap();
    s3.inject(S3Fault::new(&world.name, S3Failure::Answer(403, "AccessDenied")).method(Method::DELETE));
    world.versions_are(&[]).await;
}

#[tokio::test]
async fn a_head_that_contradicts_each_put_is_not_believed_and_leaves_one_object() {
    let world = World::new("lying-head").await;
    let s3 = &world.bed.s3;
    let cases = [("size", S3Failure::WrongSize), ("sum", S3Failure::WrongChecksum)];
    let _operator = world.operator().await;
    for (name, failure) in &cases {
        s3.inject(
            S3Fault::new(&world.name, failure.clone()).prefix(&format!("{name}/")).method(Method::HEAD),
        );
        world.released(name);
        let mut version = world.inline(name);
        version["spec"]["fileName"] = json!("one.zip");
        world.apply(&version);
    }
    for (name, _) in &cases {
        let place = format!("s3://{}/{name}/one.zip", world.name);
        let words = [&place, "another checksum or size", "several times in a row"];
        let version = world.failed(name, "ChecksumMismatch", Stalled, &words).await;
        assert_eq!(version["status"]["synced"], false, "what HEAD shows is not taken over");
        assert_eq!(version["status"]["objects"].as_array().unwrap().len(), 1, "{}", version["status"]);
        assert_eq!(version["spec"]["fileName"], "one.zip");
        // What the store shows cannot be distinguished from another's bytes: each attempt fetches once, and there are few.
        let (sent, served) = (world.sent(&format!("{name}/")), world.served(name));
        assert!(served.abs_diff(sent) <= 1 && sent <= 4, "{name}: {served} downloads for {sent} PUTs");
    }
    assert_eq!(s3.keys(&world.name).await.unwrap(), ["size/one.zip", "sum/one.zip"]);
    s3.clear_faults(&world.name);
    for (name, _) in &cases {
        world.request(&format!("version/{name}"), "mended");
        let version = world.version_ready(name).await;
        assert_eq!(version["status"]["checksum"], sha256(&world.stored(&version).await));
    }
    assert_eq!(s3.keys(&world.name).await.unwrap(), ["size/one.zip", "sum/one.zip"]);
}

#[tokio::test]
async fn objects_that_a_store_shows_late_are_published_one_after_the_other() {
    let world = World::new("late-objects").await;
    let s3 = &world.bed.s3;
    world.released("net");
    let _operator = world.operator().await;
    let publish = |name: &str| {
        let mut version = world.inline_of(name, &world.module("net").config("name", json!("net")));
        version["spec"]["fileName"] = json!(format!("{name}.zip"));
        world.apply(&version);
    };
    let unseen = |name: &str| {
        let fault = S3Fault::new(&world.name, S3Failure::Answer(404, "NoSuchKey")).method(Method::HEAD);
        fault.prefix(&format!("net/{name}."))
    };
    // After about a second: one attempt waits for it.
    s3.inject(unseen("soon").after(1).times(1));
    publish("soon");
    world.version_ready("soon").await;
    let counts = world.counts_below("net", "net/soon.");
    assert_eq!((counts.fetches, counts.puts, counts.heads), (1, 1, 3));
    // After several seconds: the next attempt finds it, so the store does not fail several times in a row.
    for name in ["late-0", "late-1", "late-2"] {
        s3.inject(unseen(name));
        publish(name);
        let words = ["S3 accepted the object, but then reports no object", "this is retried"];
        world.failed(name, "ChecksumMismatch", Retried, &words).await;
        s3.clear_faults(&world.name);
        world.version_ready(name).await;
        assert_eq!(world.sent(&format!("net/{name}.")), 1, "it is taken over");
    }
}

#[tokio::test]
async fn a_store_that_keeps_no_metadata_is_named_at_the_first_publish() {
    let world = World::new("no-metadata").await;
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::NoMetadata).method(Method::HEAD));
    world.released("net");
    let _operator = world.operator().await;
    world.apply(&world.inline("net"));
    world
        .failed("net", "ChecksumMismatch", Retried, &["neither a SHA-256 nor the metadata that was sent"])
        .await;
    let words = ["was not stored by OpenDepot", "the store keeps no metadata of objects"];
    let version = world.failed("net", "ObjectNotOurs", Stalled, &words).await;
    assert_eq!(version["status"]["synced"], false);
    assert_eq!((world.served("net"), world.sent("net/")), (1, 1));
}

#[tokio::test]
async fn what_was_stored_is_not_downloaded_again_because_the_look_after_it_failed() {
    let world = World::new("unseen-put").await;
    let s3 = &world.bed.s3;
    for name in ["new", "forced"] {
        world.released(name);
    }
    let _operator = world.operator().await;
    world.apply(&world.inline("forced"));
    world.version_ready("forced").await;
    world.count_from_now("forced");
    // Before the download S3 answers, and after the PUT no more.
    for (name, looks) in [("new/", 1), ("forced/", 2)] {
        let fault = S3Fault::new(&world.name, S3Failure::Page(502)).method(Method::HEAD);
        s3.inject(fault.prefix(name).after(looks));
    }
    world.apply(&world.inline("new"));
    world.request("version/forced", "again");
    let looks = |name: &str| {
        let requests = s3.requests(&world.name).into_iter();
        requests
            .filter(|r| r.method == Method::HEAD && r.status == Some(502) && r.key.starts_with(name))
            .count()
    };
    for name in ["new", "forced"] {
        world.version_fails(name, "StorageUnavailable").await;
        // The SDK itself asks three times.
        world.until("it is tried again", || looks(&format!("{name}/")) > 6).await;
    }
    s3.clear_faults(&world.name);
    // A forced sync that failed for a passing reason is repeated in full: once, when the store answers again.
    for (name, downloads) in [("new", 1), ("forced", 2)] {
        world.version_ready(name).await;
        assert_eq!((world.served(name), world.sent(&format!("{name}/"))), (downloads, downloads), "{name}");
    }
}

#[tokio::test]
async fn without_path_style_the_message_names_it() {
    let world = World::new("path-style").await;
    world.released("net");
    let endpoint = world.bed.s3.endpoint().replace("127.0.0.1", "localhost");
    let _operator = world.operator_with(&["--s3-endpoint", &endpoint]).await;
    // The bucket becomes a part of the host's name, which the DNS does not know, or the store does not look at.
    let virtual_host = || world.module("net").s3("forcePathStyle", json!(false));
    let named = virtual_host().s3("endpoint", json!(endpoint));
    world.apply(&world.inline_of("named", &named));
    let advised = |v: &serde_json::Value| message(v).contains(", or set forcePathStyle: true");
    world.version_when("named", advised).await;
    let missing = virtual_host().s3("bucket", json!("no-such-bucket"));
    world.apply(&world.inline_of("missing", &missing));
    let message = world.version_fails("missing", "BucketNotFound").await;
    assert!(
        message.contains("does not exist") && message.contains(", or set forcePathStyle: true"),
        "{message}"
    );
    let styled = world.module("net").s3("endpoint", json!(endpoint)).s3("forcePathStyle", json!(true));
    world.apply(&world.inline_of("named", &styled));
    world.version_ready("named").await;
}

#[tokio::test]
async fn link_local_credentials_are_never_asked_through_a_proxy() {
    let world = World::new("link-local").await;
    world.released("net");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::<String>::new()));
    let record = Arc::clone(&asked);
    let recording = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 512];
            let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut head)).await;
            let read = read.ok().and_then(Result::ok).unwrap_or_default();
            record.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
        }
    });
    let builder = world.builder().env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let builder = builder.env("HTTP_PROXY", &proxy);
    let uri = "http://169.254.170.23/v1/credentials";
    let _operator = builder.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri).start_ready().await.unwrap();
    world.apply(&world.inline("net"));
    world.failed("net", "StorageCredentialsInvalid", Retried, &[]).await;
    recording.abort();
    let asked = asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|request| request.contains("169.254.")), "{asked:?}");
}
