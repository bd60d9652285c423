//! How an attempt to publish ended.

use jiff::Timestamp;

use super::api_failure::api_failure;
use super::content::Content;
use crate::api::version::Source;
use crate::controller::client;
use crate::controller::failure::Failure;
use crate::domain::ObjectLocation;

/// The name of a Secret and its resourceVersion; `None` if it does not exist.
pub(crate) type SecretVersion = (String, Option<String>);

/// The failure of an attempt to publish.
pub(crate) struct NotPublished {
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

impl From<Failure> for NotPublished {
    fn from(failure: Failure) -> Self {
        Self { failure, is_stored: None, secret: None, download: None, fetched: false }
    }
}

/// Why an attempt published nothing.
pub(crate) enum Ended {
    /// The Version has changed: nothing more is sent, and it is read again.
    Outdated,
    Failed(NotPublished),
}

impl Ended {
    /// The same, with what else is known of a failure.
    pub(super) fn with(mut self, add: impl FnOnce(&mut NotPublished)) -> Self {
        if let Self::Failed(not) = &mut self {
            add(not);
        }
        self
    }
}

impl<T: Into<NotPublished>> From<T> for Ended {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<kube::Error> for Ended {
    fn from(error: kube::Error) -> Self {
        if client::is_outdated(&error) { Self::Outdated } else { Self::Failed(api_failure(&error).into()) }
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
}

/// The old and the new address of a repository that has moved.
pub(crate) struct Moved {
    pub from: String,
    pub to: String,
}

/// The result of an attempt that succeeded.
pub(crate) struct Outcome {
    pub published: Published,
    /// The text of an Event, if the content of a version that is not immutable was replaced.
    pub replaced: Option<String>,
    pub moved: Option<Moved>,
}
