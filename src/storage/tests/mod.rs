//! Requests as a local server receives them, and what its answers mean.

mod answers;

use std::io::Write;
use std::path::Path;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::s3::client::tests::{clients_with_a_source_that_hangs, clients_with_keys, clients_without_keys};
use super::s3::requests::MAX_OBJECT_BYTES;
use super::*;

impl Storage {
    /// For tests of callers.
    pub(crate) fn with_test_keys() -> Self {
        Self::with_clients(clients_with_keys())
    }
}

fn storage_with_keys() -> Storage {
    Storage::with_test_keys()
}

fn location(endpoint: String) -> ObjectLocation {
    ObjectLocation {
        bucket: "modules".into(),
        key: "vpc/a.zip".into(),
        region: "us-west-2".into(),
        endpoint: Some(endpoint),
        force_path_style: Some(true),
    }
}

/// A server that reads one request and gives this answer; the task ends with what it read.
async fn answering(answer: &'static str) -> (ObjectLocation, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            stream.read_buf(&mut request).await.expect("a request");
        }
        stream.write_all(answer.as_bytes()).await.expect("an answer");
        stream.read_to_end(&mut request).await.ok();
        String::from_utf8_lossy(&request).to_ascii_lowercase()
    });
    (location(format!("http://{address}")), served)
}

#[tokio::test]
async fn a_head_shows_size_checksum_and_owner() {
    let (location, served) = answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nx-amz-checksum-sha256: c2hh\r\nlast-modified: Thu, 01 Jan 1970 00:01:00 GMT\r\n\
         x-amz-meta-opendepot-namespace: team%20a\r\nx-amz-meta-opendepot-version-name: vpc-1.0.0\r\n\
         connection: close\r\n\r\n",
    )
    .await;
    let found = storage_with_keys().head(&location).await.expect("an answer").expect("an object");
    let stored_at = found.stored_at.map(Timestamp::as_second);
    assert_eq!((found.size, found.sha256.as_deref(), stored_at), (Some(7), Some("c2hh"), Some(60)));
    assert!(found.ownership.expect("an owner").names("team a", "vpc-1.0.0"));
    let request = served.await.expect("served");
    assert!(request.starts_with("head /modules/vpc/a.zip http/1.1"), "{request}");
    assert!(request.contains("x-amz-checksum-mode: enabled"), "{request}");
}

#[tokio::test]
async fn a_head_without_checksum_needs_no_encryption_key() {
    let (location, served) =
        answering("HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 7\r\nconnection: close\r\n\r\n").await;
    let found = storage_with_keys().head_without_checksum(&location).await.expect("an answer");
    assert_eq!(found.expect("an object").size, Some(7));
    let request = served.await.expect("served");
    assert!(request.starts_with("head /modules/vpc/a.zip http/1.1"), "{request}");
    assert!(!request.contains("x-amz-checksum-mode"), "{request}");
}

#[tokio::test]
async fn a_put_announces_length_checksum_owner_and_condition() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"archive").expect("written");
    let ownership =
        Ownership { namespace: "team-a".into(), version_name: "vpc-1.0.0".into(), ..Ownership::default() };
    let encryption =
        Encryption { server_side_encryption: Some("aws:kms".into()), kms_key_id: Some("key-1".into()) };
    let upload = Upload {
        body: Body::File(file.path()),
        size: 7,
        sha256: "c2hh",
        ownership: &ownership,
        encryption: &encryption,
        create_only: true,
    };
    let (location, served) =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let outcome = storage_with_keys().put(&location, &upload, &always).await.expect("stored");
    assert_eq!(outcome, PutOutcome::Stored);
    let request = served.await.expect("served");
    for line in [
        "put /modules/vpc/a.zip?x-id=putobject http/1.1",
        "content-length: 7",
        "content-type: application/zip",
        "if-none-match: *",
        "x-amz-checksum-sha256: c2hh",
        "x-amz-meta-opendepot-namespace: team-a",
        "x-amz-meta-opendepot-sha256: c2hh",
        "x-amz-meta-opendepot-size: 7",
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id: key-1",
    ] {
        assert!(request.contains(&format!("{line}\r\n")), "{line} in {request}");
    }
    assert!(!request.contains("aws-chunked") && !request.contains("crc"), "{request}");
    assert!(request.ends_with("\r\n\r\narchive"), "{request}");
}

#[tokio::test]
async fn the_file_must_be_what_was_announced() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (ownership, encryption) = (Ownership::default(), Encryption::default());
    let upload = Upload {
        body: Body::File(file.path()),
        size: 7,
        sha256: "c2hh",
        ownership: &ownership,
        encryption: &encryption,
        create_only: false,
    };
    let nowhere = location("http://127.0.0.1:1".into());
    let error = storage_with_keys().put(&nowhere, &upload, &always).await.expect_err("refused");
    assert!(matches!(error.cause, Cause::File { .. }), "{error}");
    let gone = Upload { body: Body::File(Path::new("/no/such/file")), ..upload.clone() };
    let error = storage_with_keys().put(&nowhere, &gone, &always).await.expect_err("refused");
    assert!(matches!(error.cause, Cause::File { .. }), "{error}");
    file.as_file().set_len(MAX_OBJECT_BYTES + 1).expect("a sparse file");
    let huge = Upload { size: MAX_OBJECT_BYTES + 1, ..upload };
    let error = storage_with_keys().put(&nowhere, &huge, &always).await.expect_err("refused");
    assert_eq!(error.cause, Cause::EntityTooLarge);
}

#[tokio::test]
async fn headers_and_bodies_of_refusals_are_read() {
    let (location, _served) =
        answering("HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nconnection: close\r\n\r\n").await;
    let error = storage_with_keys().head(&location).await.expect_err("refused");
    assert!(matches!(&error.cause, Cause::WrongRegion { right: Some(right), .. } if right == "eu-west-1"));
    let (location, _served) = answering(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/xml\r\ncontent-length: 73\r\nconnection: close\r\n\r\n\
         <Error><Code>NoSuchBucket</Code><Message>There is none</Message> </Error>",
    )
    .await;
    storage_with_keys().delete(&location, &always).await.expect("gone with its bucket");
    let (location, _served) = answering(
        "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 13\r\nconnection: close\r\n\r\n\
         <html></html>",
    )
    .await;
    storage_with_keys().delete(&location, &always).await.expect_err("not S3");
}

#[test]
fn only_the_endpoint_of_a_region_shows_that_its_bucket_is_elsewhere() {
    for (endpoint, expected) in [
        ("https://s3.us-west-2.amazonaws.com", true),
        ("https://s3.eu-west-1.amazonaws.com", false),
        ("http://minio:9000", false),
    ] {
        let cause = Cause::WrongRegion { right: Some("eu-west-1".into()), detail: String::new() };
        let error = storage_with_keys().error(Operation::Head, &location(endpoint.into()), cause);
        assert_eq!(error.shows_deleted_bucket(), expected, "{endpoint}");
    }
}

#[tokio::test]
async fn missing_credentials_are_told_from_a_missing_connection() {
    let nowhere = location("http://127.0.0.1:1".into());
    let error =
        Storage::with_clients(clients_without_keys()).head(&nowhere).await.expect_err("no credentials");
    assert_eq!(error.cause, Cause::CredentialsMissing, "{error}");
    let error = storage_with_keys().delete(&nowhere, &always).await.expect_err("no server");
    assert!(matches!(error.cause, Cause::Network { .. }), "{error}");
}

#[tokio::test]
async fn each_of_many_requests_reports_a_source_of_credentials_that_hangs() {
    let (nowhere, start) = (location("http://127.0.0.1:1".into()), Instant::now());
    let storage = Storage::with_clients(clients_with_a_source_that_hangs());
    // More than could load one after the other within the time of a request.
    for result in futures::future::join_all((0..12).map(|_| storage.head(&nowhere))).await {
        let error = result.expect_err("no credentials");
        assert!(matches!(error.cause, Cause::CredentialsUnavailable { .. }), "{error}");
        assert!(error.to_string().contains("credentials provider timed out"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_refusal_because_of_an_object_that_is_not_there_defers_others() {
    let (storage, encryption) = (storage_with_keys(), Encryption::default());
    let location = location("http://127.0.0.1:1".into());
    let error = storage.refused_without_object(&location, &encryption);
    assert!(
        error.to_string().contains("HTTP 412, a PUT reports an existing object that a HEAD does not find"),
        "{error}"
    );
    let other = ObjectLocation { key: "vpc/b.zip".into(), ..location };
    let held = storage.may_store(&other, &encryption, false).expect_err("the same folder");
    assert_eq!(held.error.cause, error.cause);
}

#[tokio::test]
async fn an_upload_that_s3_shows_differently_is_reported() {
    let storage = storage_with_keys();
    let encryption = Encryption::default();
    let shorter = "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 6\r\nx-amz-checksum-sha256: c2hh\r\nconnection: close\r\n\r\n";
    let other = "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 7\r\nx-amz-checksum-sha256: b3RoZXI=\r\nconnection: close\r\n\r\n";
    let bare = "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 7\r\nconnection: close\r\n\r\n";
    for (answer, what) in [
        (shorter, "another checksum or size"),
        (other, "another checksum or size"),
        (bare, "neither a SHA-256 nor the metadata that was sent"),
    ] {
        let (location, _served) = answering(answer).await;
        let error = storage.verify(&location, &encryption, "c2hh", 7).await.expect_err(what);
        assert!(matches!(error.cause, Cause::StoredDifferently { repeated: false, .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("S3 accepted the object, but then reports {what}")),
            "{error}"
        );
    }
    let without_length =
        "HTTP/1.1 200 OK\r\netag: x\r\nx-amz-checksum-sha256: c2hh\r\nconnection: close\r\n\r\n";
    let exact = "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 7\r\nx-amz-checksum-sha256: c2hh\r\nconnection: close\r\n\r\n";
    let without_checksum = "HTTP/1.1 200 OK\r\netag: x\r\ncontent-length: 7\r\nx-amz-meta-opendepot-sha256: c2hh\r\n\
         x-amz-meta-opendepot-size: 7\r\nconnection: close\r\n\r\n";
    for answer in [without_length, exact, without_checksum] {
        let (location, _served) = answering(answer).await;
        storage.verify(&location, &encryption, "c2hh", 7).await.expect(answer);
    }
}
