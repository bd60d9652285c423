//! How an attempt to publish ended.

use jiff::Timestamp;

use super::api_failure::api_failure;
use super::content::Content;
use crate::api::version::Source;
use crate::controller::client;
use crate::controller::failure::Failure;
use crate::domain::{Mutex, ObjectLocation};

/// The name of a Secret and its resourceVersion; `None` if it does not exist.
pub(crate) type SecretVersion = (String, Option<String>);

/// The failure of an attempt, and what else is known of it.
pub(crate) struct AttemptFailure {
    pub failure: Failure,
    /// Whether the object is stored as recorded, if that is known: otherwise it is missing, damaged, or another client's.
    pub is_stored: Option<bool>,
    /// The Secret that the attempt read.
    pub secret: Option<SecretVersion>,
    /// SHA-256 of the download, if that was corrupt.
    pub download: Option<Box<[u8; 32]>>,
    /// Whether the attempt had fetched the archive.
    pub fetched: bool,
}

impl From<Failure> for AttemptFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, is_stored: None, secret: None, download: None, fetched: false }
    }
}

/// Why an attempt published nothing.
pub(crate) enum AttemptError {
    /// The Version has changed: nothing more is sent, and it is read again.
    Outdated,
    Failed(AttemptFailure),
}

impl AttemptError {
    /// The same, with what else is known of a failure.
    pub(super) fn with(mut self, add: impl FnOnce(&mut AttemptFailure)) -> Self {
        if let Self::Failed(failed) = &mut self {
            add(failed);
        }
        self
    }
}

impl<T: Into<AttemptFailure>> From<T> for AttemptError {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<kube::Error> for AttemptError {
    fn from(error: kube::Error) -> Self {
        if client::is_outdated(&error) { Self::Outdated } else { Self::Failed(api_failure(&error).into()) }
    }
}

/// Why a PUT or DELETE is not repeated: what the check before the repetition has found.
#[derive(Default)]
pub(super) struct Unwanted(Mutex<Option<AttemptError>>);

impl Unwanted {
    /// Whether the request is still wanted, by a read of its Version.
    pub(super) async fn check(&self, still: impl Future<Output = Result<bool, kube::Error>>) -> bool {
        let end = match still.await {
            Ok(true) => return true,
            Ok(false) => AttemptError::Outdated,
            Err(error) => error.into(),
        };
        *self.0.lock() = Some(end);
        false
    }

    /// How the request ended: as the check has found, or with its own failure.
    pub(super) fn or(&self, failure: Failure) -> AttemptError {
        self.0.lock().take().unwrap_or_else(|| failure.into())
    }
}

/// Proof that an object is in S3 with this checksum: HEAD has confirmed it.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(super) location: ObjectLocation,
    pub(super) content: Content,
    pub(super) source: Option<Source>,
    /// Whether it was stored just now, not found.
    pub(super) stored_now: bool,
    /// Whether it answers the open requests.
    pub(super) answers: bool,
    /// When it was stored, by the clock of S3, if known.
    pub(super) stored_at: Option<Timestamp>,
    /// Its identity as S3 shows it, unless it is known to be in another bucket than the objects at the old locations.
    pub(super) identity: Option<u64>,
    /// The text of an Event, if the content of a version that is not immutable was replaced.
    pub(super) replaced: Option<String>,
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::controller::failure::Reason;

    #[tokio::test]
    async fn a_request_that_is_not_repeated_ends_as_the_check_has_found() {
        let outage = kube::Error::Api(Box::new(Status { code: 503, ..Status::default() }));
        for (still, expected) in [
            (Ok(true), Some(Reason::StorageUnavailable)),
            (Err(outage), Some(Reason::ApiUnavailable)),
            (Ok(false), None),
        ] {
            let (unwanted, is_wanted) = (Unwanted::default(), matches!(still, Ok(true)));
            assert_eq!(unwanted.check(std::future::ready(still)).await, is_wanted);
            let reason = match unwanted.or(Failure::retry(Reason::StorageUnavailable, "no answer")) {
                AttemptError::Failed(failed) => Some(failed.failure.reason),
                AttemptError::Outdated => None,
            };
            assert_eq!(reason, expected);
        }
    }
}
