//! How an attempt to publish ended.

use jiff::Timestamp;

use super::api_failure::api_failure;
use crate::api::version::Source;
use crate::controller::client;
use crate::controller::failure::Failure;
use crate::domain::ObjectLocation;

/// The name of a Secret and its resourceVersion; `None` if it does not exist.
pub(crate) type SecretVersion = (String, Option<String>);

/// Why nothing was published.
pub(crate) struct NotPublished {
    pub failure: Failure,
    /// Whether the recorded object is known to be missing or damaged.
    pub lost: bool,
    /// The Secret that the attempt read.
    pub secret: Option<SecretVersion>,
    /// SHA-256 of the download, where that was corrupt.
    pub download: Option<Box<[u8; 32]>>,
    /// Whether the attempt had fetched the archive.
    pub fetched: bool,
}

impl From<Failure> for NotPublished {
    fn from(failure: Failure) -> Self {
        Self { failure, lost: false, secret: None, download: None, fetched: false }
    }
}

/// How an attempt ended that published nothing.
pub(crate) enum Ended {
    /// The Version has changed: nothing more is sent, and it is read again.
    Outdated,
    Failed(NotPublished),
}

impl Ended {
    /// The same, of an attempt that had fetched the archive.
    pub(super) fn after_fetch(self) -> Self {
        match self {
            Self::Outdated => Self::Outdated,
            Self::Failed(not) => Self::Failed(NotPublished { fetched: true, ..not }),
        }
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
    pub(super) place: ObjectLocation,
    pub(super) checksum: String,
    /// `h1:…`
    pub(super) digest: String,
    pub(super) size: i64,
    pub(super) source: Option<Source>,
    /// Whether it was stored just now, not found.
    pub(super) stored_now: bool,
    /// Whether it answers the open requests.
    pub(super) answers: bool,
    /// When it was stored, by the clock of S3, as far as that says so.
    pub(super) stored_at: Option<Timestamp>,
}

/// Something worth an Event although the attempt succeeded.
pub(crate) enum Note {
    /// The content of a version that is not immutable was replaced.
    ContentReplaced(String),
    /// The repository has another name now: from where to where.
    RepositoryMoved(String, String),
}

/// How an attempt ended that succeeded.
pub(crate) struct Outcome {
    pub published: Published,
    /// What to tell besides.
    pub notes: Vec<Note>,
}
