//! The AWS identity of the process, and what it may do in a bucket.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::report::{CheckResult, Line};
use crate::domain::ObjectLocation;
use crate::storage::{
    Body, Cause, Encryption, Found, Ownership, PutOutcome, Storage, StorageError, Upload,
    advice_on_credentials, always,
};

const AWS: &str = "aws";
const BUCKET: &str = "bucket";
const CONTENT: &[u8] = b"opendepot check writes this object and deletes it\n";
const CREDENTIALS_FIX: &str = "give the ServiceAccount a role (IRSA or EKS Pod Identity), or set AWS_ACCESS_KEY_ID and \
                               AWS_SECRET_ACCESS_KEY: docs/operations.md";
const NOT_S3_FIX: &str = "correct the endpoint: a server other than the store answers there, such as a proxy, gateway or web server";

/// Where credentials come from and, at AWS itself, whose they are. An S3 endpoint means another store, whose
/// keys are not keys of AWS.
pub(crate) async fn identity(storage: &Storage, at_aws: bool) -> Line {
    let source = match storage.credentials_source().await {
        Ok(source) => source,
        Err(Cause::CredentialsUnavailable { detail }) => {
            let message = format!("credentials could not be loaded: {detail}");
            return Line::failed(AWS, message, advice_on_credentials(&detail));
        }
        Err(_) => return Line::failed(AWS, "no credentials found", CREDENTIALS_FIX),
    };
    if !at_aws {
        return Line::ok(
            AWS,
            format!("credentials from {source}; no request to STS, because an S3 endpoint is set"),
        );
    }
    match storage.caller().await {
        Ok(arn) => Line::ok(AWS, format!("{arn}, credentials from {source}")),
        Err(Cause::CredentialsInvalid { code }) => {
            let message = format!("STS rejects the credentials from {source}: {code}");
            let fix = "check the keys, their expiry and the clock. If the keys are of another store than AWS, name a Module \
                       whose storageConfig has its endpoint: opendepot check MODULE";
            Line::failed(AWS, message, fix)
        }
        // The operator itself sends no request to STS with these credentials.
        Err(Cause::Network { detail } | Cause::Other { detail, .. }) => {
            Line::skipped(AWS, format!("credentials from {source}; STS returned no identity: {detail}"))
        }
        Err(_) => Line::skipped(AWS, format!("credentials from {source}; STS returned no identity")),
    }
}

/// A HEAD of a missing object, then PUT, HEAD, another PUT and DELETE of a probe. The first failure ends the probe, except that
/// an object that may have been stored is deleted.
pub(crate) async fn probe(storage: &Storage, prefix: &ObjectLocation, encryption: &Encryption) -> Vec<Line> {
    let separator = if prefix.key.is_empty() { "" } else { "/" };
    let key = format!("{}{separator}opendepot-check-{}", prefix.key, Uuid::new_v4());
    let location = ObjectLocation { key, ..prefix.clone() };
    let looked_up = match storage.bucket_exists(&location).await {
        Ok(()) => storage.head(&location).await,
        Err(error) => Err(error),
    };
    let mut lines = vec![match looked_up {
        Ok(Some(_)) => Line::failed(
            BUCKET,
            format!("HEAD {location} reports an object, although the key is new"),
            NOT_S3_FIX,
        ),
        looked_up => reported(looked_up.map(|_| {
            format!(
                "HEAD s3://{}: the bucket exists, and a missing object is reported as missing",
                location.bucket
            )
        })),
    }];
    if is_failed(&lines) {
        return lines;
    }
    // The key is unique: an object that exists already is that of an attempt whose answer was lost.
    let stored = put(storage, &location, encryption).await;
    lines.push(reported(stored.map(|_| format!("PUT {location}"))));
    if !is_failed(&lines) {
        let found = storage.verify(&location, encryption, &checksum(), CONTENT.len() as u64).await;
        lines.push(reported(found.map(|found| verified(&found))));
    }
    if !is_failed(&lines) {
        lines.push(reported(condition(storage, &location, encryption).await));
    }
    let failed_before = is_failed(&lines);
    let deleted = storage.delete(&location, &always).await;
    if !failed_before || deleted.is_err() {
        lines.push(reported(deleted.map(|()| "DELETE of the object")));
    }
    lines
}

/// What the store returned for an object that is as it was sent.
fn verified(found: &Found) -> &'static str {
    match (found.sha256_returned, found.sent_sha256.is_some()) {
        (true, true) => "HEAD of the object: SHA-256, size and metadata are as sent",
        (true, false) => "HEAD of the object: SHA-256 and size are as sent; the store returns no metadata",
        (false, _) => {
            "HEAD of the object: size and metadata are as sent; the store returns no SHA-256 (docs/stores.md: what is lost)"
        }
    }
}

/// What becomes of the condition of a PUT. A second PUT to the key shows it, unless the store has rejected that of the first.
async fn condition(
    storage: &Storage,
    location: &ObjectLocation,
    encryption: &Encryption,
) -> Result<&'static str, StorageError> {
    if storage.rejects_conditions(location) {
        return Ok(
            "the store rejects If-None-Match; PUTs are sent without it (docs/stores.md: what is lost)",
        );
    }
    Ok(match put(storage, location, encryption).await? {
        PutOutcome::AlreadyExists => "PUT with If-None-Match: rejected, because the object exists",
        PutOutcome::Stored => {
            "the store ignores If-None-Match and overwrites objects (docs/stores.md: what is lost)"
        }
    })
}

fn is_failed(lines: &[Line]) -> bool {
    lines.last().is_some_and(|line| line.result == CheckResult::Failed)
}

fn checksum() -> String {
    STANDARD.encode(digest(&SHA256, CONTENT))
}

async fn put(
    storage: &Storage,
    location: &ObjectLocation,
    encryption: &Encryption,
) -> Result<PutOutcome, StorageError> {
    let upload = Upload {
        // A pod may have no folder that is writable.
        body: Body::Memory(CONTENT),
        size: CONTENT.len() as u64,
        sha256: &checksum(),
        ownership: &Ownership { version_name: "opendepot-check".to_owned(), ..Ownership::default() },
        encryption,
        create_only: true,
    };
    storage.put(location, &upload, &always).await
}

fn reported(result: Result<impl Into<String>, StorageError>) -> Line {
    match result {
        Ok(message) => Line::ok(BUCKET, message),
        Err(error) => Line::failed(BUCKET, error.to_string(), fix(&error)),
    }
}

fn fix(error: &StorageError) -> String {
    let fix = match &error.cause {
        Cause::AccessDenied { .. } | Cause::Kms { .. } => {
            "grant the operator's role the policy examples/aws/s3-policy.json, and check the policies of bucket and key"
        }
        Cause::BucketMissing | Cause::InvalidBucket => "create the bucket, or correct its name",
        Cause::WrongRegion { .. } | Cause::InvalidAddress(_) => "correct region and endpoint",
        Cause::CredentialsMissing => CREDENTIALS_FIX,
        Cause::CredentialsUnavailable { detail } => advice_on_credentials(detail),
        Cause::CredentialsInvalid { .. } => {
            "correct the keys, or renew them; check the clock of this machine"
        }
        Cause::Network { .. } => {
            "check the endpoint, the proxy, --ca-file, and the egress that a NetworkPolicy allows"
        }
        _ => "correct what the message names, and check again",
    };
    let other_store = "; docs/stores.md lists what stores other than AWS need";
    format!("{fix}{}", if error.location.endpoint.is_some() { other_store } else { "" })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_finds_every_object_is_no_store() {
        const FOUND: &[u8] = b"HTTP/1.1 200 OK\r\netag: \"1\"\r\nconnection: close\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prefix = ObjectLocation {
            bucket: "modules".into(),
            region: "us-west-2".into(),
            endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
            force_path_style: Some(true),
            ..ObjectLocation::default()
        };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                stream.write_all(FOUND).await.unwrap();
            }
        });
        let lines = probe(&Storage::with_test_keys(), &prefix, &Encryption::default()).await;
        assert_eq!(lines.len(), 1, "nothing is stored there: {lines:?}");
        assert!(is_failed(&lines) && lines[0].message.contains("reports an object, although the key is new"));
    }
}
