//! GET, signed URLs for it, and the reason of a rejected HEAD.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::Stream;
use secrecy::SecretString;

use super::headers::Omitted;
use super::metadata_checksum::of_whole_object;
use super::requests::once;
use super::sdk_error::classify_error;
use crate::domain::ObjectLocation;
use crate::domain::text::causes;
use crate::storage::redaction::presentable;
use crate::storage::{Cause, Operation, StorageError};

/// A signed URL is valid from this long before it is signed: the store's clock may be behind.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

/// An object that is being read.
#[derive(Debug)]
pub struct Object {
    /// Length of the whole object, if the store shows it.
    pub size: Option<u64>,
    /// SHA-256 of the whole object in base64, if the store returns it.
    pub sha256: Option<String>,
    /// The first and last byte of `body`, unless it is the whole object.
    pub range: Option<(u64, u64)>,
    pub body: ObjectBody,
}

/// The bytes of an object, as they arrive.
#[derive(Debug)]
pub struct ObjectBody {
    bytes: ByteStream,
    location: ObjectLocation,
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.bytes).poll_next(cx);
        next.map_err(|error| StorageError {
            operation: Operation::Get,
            location: Box::new(self.location.clone()),
            cause: Cause::Network { detail: presentable(&causes(&error)) },
        })
    }
}

/// Opens an object, or a part of it. `None` if it does not exist. The caller retries, and limits the time of the body.
pub(in crate::storage) async fn get(
    client: &Client,
    location: &ObjectLocation,
    range: Option<(u64, u64)>,
    omitted: Omitted,
) -> Result<Option<Object>, Cause> {
    let config = once().stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let checksum = range.is_none() && !omitted.checksum_mode;
    let request = client
        .get_object()
        .bucket(&location.bucket)
        .key(&location.key)
        .set_range(range.map(|(first, last)| format!("bytes={first}-{last}")))
        .customize()
        .config_override(config)
        .mutate_request(move |request| {
            // With its own parameter, the SDK would verify the body too, which the receiver does.
            if checksum {
                request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
            }
        });
    match request.send().await {
        Ok(output) => Ok(Some(object(output, location))),
        Err(error) => classify_error(Operation::Get, location, &error).map(|()| None),
    }
}

/// The reason why a HEAD was rejected, if one GET of the object shows it: the answer to a HEAD has no body, so it does not
/// distinguish wrong keys, a wrong region and a missing permission.
pub(in crate::storage) async fn reason(client: &Client, location: &ObjectLocation) -> Option<Cause> {
    let answer = get(client, location, Some((0, 0)), Omitted::default()).await;
    answer.err().filter(Cause::names_reason)
}

fn object(output: GetObjectOutput, location: &ObjectLocation) -> Object {
    let range = output.content_range().and_then(content_range);
    let length = output.content_length().and_then(|length| u64::try_from(length).ok());
    Object {
        size: range.map_or(length, |(_, size)| size),
        sha256: output.checksum_sha256().and_then(of_whole_object).map(str::to_owned),
        range: range.map(|(range, _)| range),
        body: ObjectBody { bytes: output.body, location: location.clone() },
    }
}

/// First and last byte, and the length of the whole object, of a `Content-Range` header.
fn content_range(text: &str) -> Option<((u64, u64), Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(((first.parse().ok()?, last.parse().ok()?), size.parse().ok()))
}

/// Signs a URL that is valid for this long from now on. It is a secret: the signature is part of it.
pub(in crate::storage) async fn sign(
    client: &Client,
    location: &ObjectLocation,
    valid: Duration,
) -> Result<SecretString, Cause> {
    let failed = |detail: &str| Cause::Other { status: None, code: None, detail: presentable(detail) };
    let config = PresigningConfig::builder()
        .start_time(SystemTime::now() - CLOCK_SKEW)
        .expires_in(valid + CLOCK_SKEW)
        .build()
        .map_err(|error| failed(&error.to_string()))?;
    match client.get_object().bucket(&location.bucket).key(&location.key).presigned(config).await {
        Ok(signed) => Ok(signed.uri().into()),
        Err(error) => classify_error(Operation::Get, location, &error).and(Err(failed("signing failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 0-4/10"), Some(((0, 4), Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some(((5, 9), None)));
        for odd in ["", "bytes", "bytes */10", "bytes 0-/10", "0-4/10", "bytes -1-4/10"] {
            assert_eq!(content_range(odd), None, "{odd}");
        }
    }
}
