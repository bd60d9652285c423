//! Archives reach both clients by a redirect and by a stream, and what happens when the store does not deliver.

use std::time::Duration;

use http::Method;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault};
use opendepot_testbed::terraform::Terraform;

use crate::support::registry::{Depot, archive, metric};

const MAIN: &str = "output \"greeting\" {\n  value = \"hello\"\n}\n";
const INIT: [&str; 3] = ["init", "-no-color", "-input=false"];

fn installs(client: &Terraform) {
    client.forget().unwrap();
    client.run(&INIT).unwrap_or_else(|error| panic!("{}: {error:#}", client.name()));
    let main = std::fs::read_to_string(client.module("it").join("main.tf")).unwrap();
    assert_eq!(main, MAIN, "{}", client.name());
}

/// Whether nothing is installed, and what the client said.
fn fails(client: &Terraform) -> String {
    client.forget().unwrap();
    let said = client.run(&INIT).expect_err("the installation fails").to_string();
    assert!(!client.module("it").join("main.tf").exists(), "{}: {said}", client.name());
    said
}

/// Asks for the module once, so that its right is known: a client does not wait for an API server that is slow.
async fn known(depot: &Depot, registry: &Operator) {
    depot.archive_url(&format!("https://{}", registry.registry_address()), "net", "1.0.0").await.unwrap();
}

/// The requests for an archive that S3 saw.
fn gets(depot: &Depot, key: &str) -> usize {
    let requests = depot.world.bed.s3.requests(&depot.world.name).into_iter();
    requests.filter(|request| request.key == key && request.method == Method::GET).count()
}

#[tokio::test]
async fn both_clients_install_by_redirect_and_by_stream() {
    let depot = Depot::new("reg-modes").await;
    let s3 = &depot.world.bed.s3;
    depot.publish("net", &[("1.0.0", archive(MAIN, 0)), ("1.1.0", archive(MAIN, 300_000))]).await;
    // The same store under another name, as clients outside of a cluster reach it.
    let public = format!("{}={}", s3.endpoint(), s3.endpoint().replace("127.0.0.1", "localhost"));
    for (args, way) in [
        (&["--download", "redirect"][..], "redirect"),
        (&["--public-endpoint", &public], "redirect"),
        (&["--download", "stream"], "stream"),
        // The endpoint of the environment is one that clients mostly cannot reach.
        (&[], "stream"),
    ] {
        let registry = depot.registry(args).await;
        known(&depot, &registry).await;
        for client in depot.installers(registry.registry_address(), "net", "~> 1.0") {
            s3.forget_requests(&depot.world.name);
            installs(&client);
            let requests = s3.requests(&depot.world.name);
            assert_eq!(gets(&depot, "net/1.1.0.zip"), 1, "{way} {}: {requests:?}", client.name());
            assert_eq!(requests.len(), 1, "the registry asks for nothing else: {requests:?}");
        }
        let log = registry.log();
        assert!(log.contains(way), "{log}");
        for secret in ["X-Amz-Signature", "/archive/", &s3.root().secret_key] {
            assert!(!log.contains(secret), "{secret} in {log}");
        }
        let bytes = metric(&registry, "opendepot_registry_stream_bytes_total").await;
        assert_eq!(bytes > 600_000.0, way == "stream", "{bytes}");
    }
}

#[tokio::test]
async fn a_part_of_an_archive_can_be_asked_for() {
    let depot = Depot::new("reg-range").await;
    let bytes = archive(MAIN, 100_000);
    depot.publish("net", &[("1.0.0", bytes.clone())]).await;
    let registry = depot.registry(&[]).await;
    let base = format!("https://{}", registry.registry_address());
    let url = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    let whole = depot.get(&url, &[]).await.unwrap();
    assert!(whole.status == 200 && whole.body == bytes);
    let part = depot.get(&url, &[("range", "bytes=1000-1999")]).await.unwrap();
    assert!(part.status == 206 && part.body == bytes[1000..2000]);
    assert_eq!(part.headers["content-range"], format!("bytes 1000-1999/{}", bytes.len()).as_str());
    depot.world.bed.s3.forget_requests(&depot.world.name);
    let etag = whole.headers["etag"].to_str().unwrap();
    assert_eq!(depot.get(&url, &[("if-none-match", etag)]).await.unwrap().status, 304);
    assert_eq!(depot.get(&url, &[("range", "bytes=999999999-")]).await.unwrap().status, 416);
    let head = depot.client().head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(gets(&depot, "net/1.0.0.zip"), 0, "answered from memory");
}

#[tokio::test]
async fn a_store_that_fails_for_a_moment_fails_no_installation() {
    let depot = Depot::new("reg-moment").await;
    let s3 = &depot.world.bed.s3;
    depot.publish("net", &[("1.0.0", archive(MAIN, 300_000))]).await;
    let registry = depot.registry(&[]).await;
    known(&depot, &registry).await;
    for client in depot.installers(registry.registry_address(), "net", "1.0.0") {
        for failure in [
            S3Failure::Answer(503, "SlowDown"),
            S3Failure::Answer(500, "InternalError"),
            S3Failure::CutBefore,
        ] {
            s3.forget_requests(&depot.world.name);
            s3.inject(S3Fault::new(&depot.world.name, failure.clone()).method(Method::GET).times(1));
            installs(&client);
            assert_eq!(gets(&depot, "net/1.0.0.zip"), 2, "{failure:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_does_not_deliver_is_503_and_nothing_is_installed() {
    let depot = Depot::new("reg-faults").await;
    let s3 = &depot.world.bed.s3;
    depot.publish("net", &[("1.0.0", archive(MAIN, 300_000))]).await;
    let registry = depot.registry(&[]).await;
    let base = format!("https://{}", registry.registry_address());
    let clients = depot.installers(registry.registry_address(), "net", "1.0.0");
    for (failure, kind, sentence) in [
        (S3Failure::Answer(503, "SlowDown"), "throttled", "limits the number of requests"),
        (S3Failure::Answer(500, "InternalError"), "unavailable", "does not answer"),
        (S3Failure::Answer(403, "AccessDenied"), "denied", "cannot read the archive"),
        (S3Failure::Answer(404, "NoSuchKey"), "missing", "is being restored"),
        (S3Failure::WrongChecksum, "differs", "other content than what was published"),
        (S3Failure::CutBefore, "network", "does not answer"),
    ] {
        // A link is good for five minutes at least, which all cases together may take.
        let url = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
        s3.inject(S3Fault::new(&depot.world.name, failure.clone()).method(Method::GET));
        let series = format!("opendepot_registry_s3_errors_total{{kind=\"{kind}\"}}");
        let before = metric(&registry, &series).await;
        let answer = depot.get(&url, &[]).await.unwrap();
        assert_eq!(answer.status, 503, "{failure:?}: {}", answer.text());
        assert!(answer.text().contains(sentence), "{failure:?}: {}", answer.text());
        assert!(answer.headers.contains_key("retry-after"), "{failure:?}");
        assert!(metric(&registry, &series).await > before, "{failure:?} is counted as {kind}");
        for client in &clients {
            let said = fails(client);
            assert!(said.contains("503"), "{failure:?}: {said}");
        }
        s3.clear_faults(&depot.world.name);
    }
    s3.inject(S3Fault::new(&depot.world.name, S3Failure::CutBody).method(Method::GET));
    for client in &clients {
        fails(client);
    }
    assert!(metric(&registry, "opendepot_registry_s3_errors_total{kind=\"cut\"}").await >= 2.0);
    s3.clear_faults(&depot.world.name);
    for client in &clients {
        installs(client);
    }
    assert!(metric(&registry, "opendepot_registry_streams").await < 0.5);
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up() {
    let depot = Depot::new("reg-hang").await;
    depot.publish("net", &[("1.0.0", archive(MAIN, 0))]).await;
    let registry = depot.registry(&[]).await;
    let base = format!("https://{}", registry.registry_address());
    let url = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    depot.world.bed.s3.inject(S3Fault::new(&depot.world.name, S3Failure::Hang).method(Method::GET));
    let start = std::time::Instant::now();
    let answer = depot.get(&url, &[]).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}
