//! Opens an object, once more if that fails, and checks that it is the recorded one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;

use super::Archive;
use crate::domain::ObjectLocation;
use crate::registry::metrics::RegistryMetrics;
use crate::storage::{Cause, Object, ObjectBody, Storage, StorageError};

/// Pause before the second attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the first bytes may take after the store has answered.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// An object whose first bytes have arrived.
#[derive(Debug)]
pub struct Opened {
    pub first: Bytes,
    pub rest: ObjectBody,
    /// The first and last byte, unless it is the whole object.
    pub range: Option<(u64, u64)>,
}

/// Why an archive cannot be read.
#[derive(Debug)]
pub enum Failed {
    /// The object does not exist.
    Missing,
    /// The object has another checksum or size than recorded.
    Differs,
    /// The object's bytes ended or stopped too early.
    NoBytes,
    Storage(StorageError),
}

/// What a failure means for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The object does not exist.
    Missing,
    /// The object is another one than recorded.
    Differs,
    /// The store limits the number of requests.
    Busy,
    /// The store rejects such requests until permissions, keys or settings are changed.
    Refused,
    /// The store does not answer.
    Silent,
}

impl Fault {
    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::BucketMissing => Self::Missing,
            Cause::SlowDown { .. } => Self::Busy,
            Cause::AccessDenied { .. }
            | Cause::Kms { .. }
            | Cause::CredentialsMissing
            | Cause::CredentialsUnavailable { .. }
            | Cause::CredentialsInvalid { .. }
            | Cause::WrongRegion { .. }
            | Cause::InvalidBucket
            | Cause::Other { status: Some(_), .. } => Self::Refused,
            _ => Self::Silent,
        }
    }
}

impl Failed {
    pub fn fault(&self) -> Fault {
        match self {
            Self::Missing => Fault::Missing,
            Self::Differs => Fault::Differs,
            Self::NoBytes => Fault::Silent,
            Self::Storage(error) => Fault::of(&error.cause),
        }
    }

    /// The label of the metric.
    fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::NoBytes => "cut",
            Self::Storage(error) => kind(&error.cause),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Missing | Self::Differs => false,
            Self::NoBytes => true,
            Self::Storage(error) => matches!(
                error.cause,
                Cause::Network { .. } | Cause::Unavailable { .. } | Cause::SlowDown { .. } | Cause::Conflict
            ),
        }
    }
}

/// The label of a cause in the metric.
pub(super) fn kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::BucketMissing => "missing",
        Cause::AccessDenied { .. } | Cause::Kms { .. } => "denied",
        Cause::CredentialsMissing
        | Cause::CredentialsUnavailable { .. }
        | Cause::CredentialsInvalid { .. } => "credentials",
        Cause::SlowDown { .. } => "throttled",
        Cause::Unavailable { .. } => "unavailable",
        Cause::Network { .. } => "network",
        _ => "other",
    }
}

/// Opens an archive, or the bytes of `range`. A second attempt is made before the first byte is sent, since clients never make
/// one. Its failure is the caller's to [`report`]; the one before it is counted here.
pub async fn open(
    storage: &Storage,
    archive: &Archive,
    range: Option<(u64, u64)>,
    metrics: &RegistryMetrics,
) -> Result<Opened, Failed> {
    let location = archive.location.location();
    match attempt(storage, &location, archive, range).await {
        Err(failed) if failed.is_transient() => {
            report(&failed, &location, metrics);
            tokio::time::sleep(PAUSE).await;
            attempt(storage, &location, archive, range).await
        }
        result => result,
    }
}

/// Counts and logs a failure.
pub fn report(failed: &Failed, location: &ObjectLocation, metrics: &RegistryMetrics) {
    metrics.s3_error(failed.kind());
    match failed {
        Failed::Storage(error) => tracing::warn!(%error, "an archive could not be read"),
        failed => {
            tracing::warn!(object = %location, reason = failed.kind(), "an archive could not be read as recorded");
        }
    }
}

async fn attempt(
    storage: &Storage,
    location: &ObjectLocation,
    archive: &Archive,
    range: Option<(u64, u64)>,
) -> Result<Opened, Failed> {
    let failed = |error: StorageError| match error.cause {
        // The recorded object has these bytes.
        Cause::Other { status: Some(416), .. } if range.is_some() => Failed::Differs,
        // A store may send no document with it.
        Cause::Other { status: Some(404), .. } => Failed::Missing,
        _ => Failed::Storage(error),
    };
    let object = storage.get(location, range).await.map_err(failed)?.ok_or(Failed::Missing)?;
    if !is_recorded(&object, archive, range) {
        return Err(Failed::Differs);
    }
    let Object { range, mut body, .. } = object;
    match tokio::time::timeout(FIRST_BYTES, body.next()).await {
        Ok(Some(Ok(first))) => Ok(Opened { first, rest: body, range }),
        Ok(Some(Err(error))) => Err(Failed::Storage(error)),
        Ok(None) | Err(_) => Err(Failed::NoBytes),
    }
}

/// Whether the object is the recorded one, as far as its headers show that. A store may send everything instead of a range.
fn is_recorded(object: &Object, archive: &Archive, range: Option<(u64, u64)>) -> bool {
    let checksum = || STANDARD.encode(archive.sha256);
    object.size.is_none_or(|size| size == archive.size)
        && object.sha256.as_ref().is_none_or(|sha256| *sha256 == checksum())
        && (object.range.is_none() || object.range == range)
}
