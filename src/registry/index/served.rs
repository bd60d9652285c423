//! A served module and its versions.

use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::{Address, ArchiveFormat, Release};
use crate::registry::answers::encoded::Encodings;
use crate::registry::archive::Archive;

/// A module as the registry answers for it.
#[derive(Clone, Debug)]
pub struct ServedModule {
    /// Its address, with the namespace's own name.
    pub address: Address,
    /// `metadata.name`, the name in the access review.
    pub object: Box<str>,
    /// The versions with an archive, withdrawn ones included, in descending order of precedence.
    pub versions: Box<[ServedVersion]>,
    /// Withdrawn versions whose archive is not stored.
    pub withdrawn: Box<[(Release, Box<str>)]>,
    /// Whether all versions that its Module lists are withdrawn, stored or not.
    pub(super) is_all_withdrawn: bool,
    /// The answer to `/versions`; `None` if there is no version to list.
    pub listing: Option<Arc<Encodings>>,
}

/// A version whose archive is stored, as its Module lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// What its Version records. The fold has the same copy.
    pub(super) stored: Arc<StoredVersion>,
    pub format: ArchiveFormat,
    /// Why consumers should move on.
    pub deprecated: Option<Box<str>>,
    /// Why it is not listed.
    pub withdrawn: Option<Box<str>>,
}

/// What the registry keeps of a Version that its Module owns and whose archive is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// The version, as it is spelled in answers.
    pub release: Release,
    pub archive: Archive,
    /// The format, from its location or else from its configuration.
    pub(super) recorded_format: Option<ArchiveFormat>,
    /// The repository, without `.git`.
    pub source: Option<Arc<str>>,
    /// The tag that was fetched.
    pub tag: Option<Box<str>>,
    pub commit: Option<Box<str>>,
    /// When its Version object was created.
    pub published: Option<Timestamp>,
    /// Why its Version is not Ready although it is stored, such as a tag that was moved.
    pub problem: Option<Arc<str>>,
}

impl Deref for ServedVersion {
    type Target = StoredVersion;

    fn deref(&self) -> &StoredVersion {
        &self.stored
    }
}

impl ServedModule {
    /// A version with an archive, withdrawn or not.
    pub fn stored(&self, release: &Release) -> Option<&ServedVersion> {
        let found = self.versions.binary_search_by(|version| release.precedence(&version.release)).ok()?;
        self.versions.get(found)
    }

    /// A version of the list, or why it is withdrawn.
    pub fn version(&self, release: &Release) -> Option<Result<&ServedVersion, &str>> {
        if let Some(version) = self.stored(release) {
            return Some(version.withdrawn.as_deref().map_or(Ok(version), Err));
        }
        let (_, reason) = self.withdrawn.iter().find(|(withdrawn, _)| withdrawn == release)?;
        Some(Err(reason))
    }

    /// The versions that are listed.
    pub fn listed(&self) -> impl Iterator<Item = &ServedVersion> {
        self.versions.iter().filter(|version| version.withdrawn.is_none())
    }

    /// A version with an archive, withdrawn or not; the latest if none is named.
    pub fn stored_or_latest(&self, release: Option<&Release>) -> Option<&ServedVersion> {
        release.map_or_else(|| self.latest(), |release| self.stored(release))
    }

    /// Why no version is served, if its Module lists withdrawn ones only: the reason of the highest one with an archive.
    pub fn reason_of_withdrawal(&self) -> Option<&str> {
        let stored = self.versions.first().map(|version| version.withdrawn.as_deref());
        let reason = stored.unwrap_or_else(|| self.withdrawn.first().map(|(_, reason)| &**reason));
        reason.filter(|_| self.is_all_withdrawn)
    }

    /// The highest release that is listed; a pre-release only if there is no other.
    pub fn latest(&self) -> Option<&ServedVersion> {
        self.listed().find(|version| !version.release.is_prerelease()).or_else(|| self.listed().next())
    }
}
