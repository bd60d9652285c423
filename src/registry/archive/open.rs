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
pub enum ReadFailure {
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
    /// The sentence for users.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Missing => {
                "The archive is missing in the store and is being restored: when the operator next verifies it, or at once with a forced sync."
            }
            Self::Differs => {
                "The store has other content than what was published, so the registry does not send it: report this to the publisher."
            }
            Self::Busy => "The store limits the number of requests; try again in a minute.",
            Self::Refused => "The registry cannot read the archive in the store; its log has the details.",
            Self::Silent => "The store does not answer; try again in a minute.",
        }
    }
}

impl ReadFailure {
    pub fn fault(&self) -> Fault {
        self.kind_and_fault().1
    }

    fn kind_and_fault(&self) -> (&'static str, Fault) {
        match self {
            Self::Missing => ("missing", Fault::Missing),
            Self::Differs => ("differs", Fault::Differs),
            Self::NoBytes => ("cut", Fault::Silent),
            Self::Storage(error) => kind_and_fault(&error.cause),
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

/// The label of a cause in the metric, and what it means for the client.
pub(super) fn kind_and_fault(cause: &Cause) -> (&'static str, Fault) {
    match cause {
        Cause::BucketMissing => ("missing", Fault::Missing),
        Cause::SlowDown { .. } => ("throttled", Fault::Busy),
        Cause::AccessDenied { .. } | Cause::Kms { .. } => ("denied", Fault::Refused),
        Cause::CredentialsMissing
        | Cause::CredentialsUnavailable { .. }
        | Cause::CredentialsInvalid { .. } => ("credentials", Fault::Refused),
        Cause::WrongRegion { .. } | Cause::InvalidBucket | Cause::Other { status: Some(_), .. } => {
            ("other", Fault::Refused)
        }
        Cause::Unavailable { .. } => ("unavailable", Fault::Silent),
        Cause::Network { .. } => ("network", Fault::Silent),
        _ => ("other", Fault::Silent),
    }
}

/// Opens an archive, or the bytes of `range`. A second attempt is made before the first byte is sent, since clients never make
/// one. Its failure is the caller's to [`report`]; the one before it is counted here.
pub async fn open(
    storage: &Storage,
    archive: &Archive,
    range: Option<(u64, u64)>,
    metrics: &RegistryMetrics,
) -> Result<Opened, ReadFailure> {
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
pub fn report(failed: &ReadFailure, location: &ObjectLocation, metrics: &RegistryMetrics) {
    let (kind, _) = failed.kind_and_fault();
    metrics.s3_error(kind);
    if let ReadFailure::Storage(error) = failed {
        tracing::warn!(%error, "an archive could not be read");
    } else {
        tracing::warn!(object = %location, reason = kind, "an archive could not be read as recorded");
    }
}

async fn attempt(
    storage: &Storage,
    location: &ObjectLocation,
    archive: &Archive,
    range: Option<(u64, u64)>,
) -> Result<Opened, ReadFailure> {
    let failed = |error: StorageError| match error.cause {
        // The recorded object has these bytes.
        Cause::Other { status: Some(416), .. } if range.is_some() => ReadFailure::Differs,
        // A store may send no document with it.
        Cause::Other { status: Some(404), .. } => ReadFailure::Missing,
        _ => ReadFailure::Storage(error),
    };
    let object = storage.get(location, range).await.map_err(failed)?.ok_or(ReadFailure::Missing)?;
    if !is_recorded(&object, archive, range) {
        return Err(ReadFailure::Differs);
    }
    let Object { range, mut body, .. } = object;
    match tokio::time::timeout(FIRST_BYTES, body.next()).await {
        Ok(Some(Ok(first))) => Ok(Opened { first, rest: body, range }),
        Ok(Some(Err(error))) => Err(ReadFailure::Storage(error)),
        Ok(None) | Err(_) => Err(ReadFailure::NoBytes),
    }
}

/// Whether the object is the recorded one, as far as its headers show. A store may send the whole object instead of a range.
fn is_recorded(object: &Object, archive: &Archive, range: Option<(u64, u64)>) -> bool {
    let checksum = || STANDARD.encode(archive.sha256);
    object.size.is_none_or(|size| size == archive.size)
        && object.sha256.as_ref().is_none_or(|sha256| *sha256 == checksum())
        && (object.range.is_none() || object.range == range)
}
