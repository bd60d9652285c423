//! Entry points for the fuzz targets: S3's answers and objects' metadata. They assert what is true for every input.
#![allow(clippy::missing_panics_doc, clippy::implicit_hasher, reason = "a panic is a finding")]

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;

use super::ownership::Ownership;
use super::s3::classify::{Answer, classify};
use super::{Cause, Operation};

/// An answer of S3. The first word of the body is its code, the rest its message.
pub fn answer(status: u16, headers: &HeaderMap, body: &str) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (code, message) =
        body.split_once(' ').map_or((None, Some(body)), |(code, text)| (Some(code), Some(text)));
    let answer = Answer {
        status,
        code,
        message,
        bucket_region: header("x-amz-bucket-region"),
        location: header("location"),
        retry_after: header("retry-after"),
        retry_after_ms: header("x-amz-retry-after"),
        date: header("date"),
        has_id: header("x-amz-request-id").is_some(),
    };
    for operation in [Operation::Head, Operation::Put, Operation::Delete, Operation::Get] {
        let Err(cause) = classify(operation, "us-west-2", &answer) else { continue };
        let delay = cause.retry_after();
        assert!(delay.is_none_or(|delay| delay <= Duration::from_hours(1)), "{delay:?}");
        let (Cause::AccessDenied { detail }
        | Cause::Kms { detail }
        | Cause::Retained { detail }
        | Cause::WrongRegion { detail, .. }
        | Cause::SlowDown { detail, .. }
        | Cause::Unavailable { detail, .. }
        | Cause::Other { detail, .. }) = &cause
        else {
            continue;
        };
        assert!(detail.chars().count() <= 301 && !detail.chars().any(char::is_control), "{detail:?}");
        assert!(!detail.to_ascii_lowercase().contains("x-amz-signature"), "{detail:?}");
    }
}

/// The metadata of an object.
pub fn metadata(metadata: &HashMap<String, String>) {
    let Some(ownership) = Ownership::from_metadata(metadata) else { return };
    let written = ownership.to_metadata();
    assert!(written.values().all(|value| value.bytes().all(|byte| byte.is_ascii_graphic())), "{written:?}");
    let size: usize = written.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(size < 2048, "{size} bytes");
    let Some(again) = Ownership::from_metadata(&written) else {
        assert!(ownership.namespace.is_empty() || ownership.version_name.is_empty());
        return;
    };
    assert_eq!(again.to_metadata(), written, "writing again changes nothing");
    assert!(
        ownership.names(&again.namespace, &again.version_name)
            && again.names(&ownership.namespace, &ownership.version_name)
    );
    for token in ownership.request.iter().filter(|token| !token.is_empty()) {
        assert!(ownership.has_request(token) && again.has_request(token));
    }
}
