//! HEAD, PUT and DELETE. Each function sends one request. Only a HEAD has the SDK's retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};

use super::headers::Omitted;
use super::metadata_checksum::{add_checksum, found};
use super::payload::SignedBody;
use super::sdk_error::classify_error;
use crate::domain::ObjectLocation;
use crate::domain::object_key::content_type;
use crate::domain::text::causes;
use crate::storage::redaction::presentable;
use crate::storage::{Body, Cause, Found, Operation, PutOutcome, Upload};

/// Limit of one PUT, and of an object whose SHA-256 S3 verifies.
pub(in crate::storage) const MAX_OBJECT_BYTES: u64 = 5 << 30;
/// Slower uploads are aborted, after an allowance of a minute: once the last byte is sent, the SDK waits without a limit.
const MIN_BYTES_PER_SECOND: u64 = 256 << 10;

/// The detail of an answer that S3 has not sent.
const FOREIGN: &str = "the answer is a web page, or has neither ETag nor Last-Modified: a proxy or gateway in front of the store may \
                       have sent it";

/// The status of an answer, which the SDK does not return for a success.
#[derive(Clone, Debug, Default)]
struct AnswerStatus(Arc<AtomicU16>);

impl Intercept for AnswerStatus {
    fn name(&self) -> &'static str {
        "AnswerStatus"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(context.response().status().as_u16(), Ordering::Relaxed);
        Ok(())
    }
}

/// Looks up an object. `None` if it does not exist.
pub(in crate::storage) async fn head(
    client: &Client,
    location: &ObjectLocation,
    omitted: Omitted,
) -> Result<Option<Found>, Cause> {
    let request = client.head_object().bucket(&location.bucket).key(&location.key);
    let mode = (!omitted.checksum_mode).then_some(ChecksumMode::Enabled);
    match request.set_checksum_mode(mode).send().await {
        Ok(head) => {
            let found = found(&head);
            if is_of_s3(&head, &found) { Ok(Some(found)) } else { Err(Cause::unavailable(200, FOREIGN)) }
        }
        Err(error) => classify_error(Operation::Head, location, &error).map(|()| None),
    }
}

/// Whether S3 has sent this answer: each object has an `ETag` or a `Last-Modified`. The page of a web server has both, but neither
/// metadata of ours, a SHA-256, nor the ID of a request.
fn is_of_s3(head: &HeadObjectOutput, found: &Found) -> bool {
    let is_file = head.e_tag().is_some() || head.last_modified().is_some();
    let is_html = head.content_type().is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    is_file && !(is_html && found.proves_nothing() && head.request_id().is_none())
}

/// Fails unless the bucket exists.
pub(in crate::storage) async fn head_bucket(client: &Client, location: &ObjectLocation) -> Result<(), Cause> {
    match client.head_bucket().bucket(&location.bucket).send().await {
        Ok(_) => Ok(()),
        // The answer that means "no such object" for a key means "no such bucket" here.
        Err(error) => classify_error(Operation::Head, location, &error).and(Err(Cause::BucketMissing)),
    }
}

pub(in crate::storage) async fn put(
    client: &Client,
    location: &ObjectLocation,
    upload: &Upload<'_>,
    omitted: Omitted,
) -> Result<PutOutcome, Cause> {
    let (body, length) = open(upload).await?;
    let conditional = upload.create_only && !omitted.condition;
    let mut metadata = upload.ownership.to_metadata();
    add_checksum(&mut metadata, upload.sha256, upload.size);
    let encryption = upload.encryption;
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(upload_timeout(upload.size))
        .disable_operation_timeout()
        .build();
    // Some buckets accept signed bodies only, and the SHA-256 is known.
    let request = client
        .put_object()
        .bucket(&location.bucket)
        .key(&location.key)
        .content_type(content_type(&location.key))
        .content_length(length)
        .set_checksum_sha256((!omitted.checksum).then(|| upload.sha256.to_owned()))
        .set_metadata(Some(metadata))
        .set_server_side_encryption(
            encryption.server_side_encryption.as_deref().map(ServerSideEncryption::from),
        )
        .set_ssekms_key_id(encryption.kms_key_id.clone())
        .set_if_none_match(conditional.then(|| "*".to_owned()))
        .body(body)
        .customize()
        .config_override(once().timeout_config(timeouts))
        .interceptor(SignedBody::new(upload.sha256));
    match request.send().await {
        Ok(_) => Ok(PutOutcome::Stored),
        Err(error) => classify_error(Operation::Put, location, &error).map(|()| PutOutcome::AlreadyExists),
    }
}

/// Deletes an object. Success if there is none. `false`: the answer is a success, but not S3's 204.
pub(in crate::storage) async fn delete(client: &Client, location: &ObjectLocation) -> Result<bool, Cause> {
    let status = AnswerStatus::default();
    let request = client.delete_object().bucket(&location.bucket).key(&location.key);
    let request = request.customize().config_override(once()).interceptor(status.clone());
    match request.send().await {
        Ok(_) => Ok(status.0.load(Ordering::Relaxed) == 204),
        Err(error) => classify_error(Operation::Delete, location, &error).map(|()| true),
    }
}

/// The configuration of a request without the SDK's retries: the caller decides whether to send it again.
pub(super) fn once() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled())
}

async fn open(upload: &Upload<'_>) -> Result<(ByteStream, i64), Cause> {
    let unreadable = |detail: String| Cause::File { detail: presentable(&detail) };
    let found = match upload.body {
        Body::File(path) => {
            tokio::fs::metadata(path).await.map_err(|error| unreadable(error.to_string()))?.len()
        }
        Body::Memory(bytes) => bytes.len() as u64,
    };
    if found != upload.size {
        return Err(unreadable(format!("it has {found} bytes instead of {}", upload.size)));
    }
    let length =
        i64::try_from(found).ok().filter(|_| found <= MAX_OBJECT_BYTES).ok_or(Cause::EntityTooLarge)?;
    let body = match upload.body {
        Body::File(path) => ByteStream::from_path(path).await.map_err(|error| unreadable(causes(&error)))?,
        Body::Memory(bytes) => ByteStream::from_static(bytes),
    };
    Ok((body, length))
}

fn upload_timeout(size: u64) -> Duration {
    Duration::from_secs(60 + size / MIN_BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_upload_has_hours() {
        assert_eq!(upload_timeout(0), Duration::from_mins(1));
        assert_eq!(upload_timeout(MAX_OBJECT_BYTES), Duration::from_secs(60 + 20_480));
    }
}
