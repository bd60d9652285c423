//! The content of an archive, as it was fetched or as an object states it.

use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::storage::Found;

/// What was fetched and normalised.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// SHA-256 of the archive's bytes, base64.
    pub checksum: String,
    /// Length in bytes.
    pub size: u64,
    /// Digest of the files, `h1:…`.
    pub digest: String,
    /// The commit that they came from.
    pub commit: Option<String>,
}

impl Content {
    /// The content of an object according to HEAD and our metadata on it.
    pub(crate) fn found(found: &Found) -> Self {
        let owner = found.ownership.as_ref();
        Self {
            checksum: found.sha256.clone().unwrap_or_default(),
            size: found.size.unwrap_or_default(),
            digest: owner.map(|owner| owner.digest.clone()).unwrap_or_default(),
            commit: owner.map(|owner| owner.commit.clone()),
        }
    }

    /// Whether a PUT of this content made the object, which may be damaged: it was never verified.
    pub(crate) fn was_sent_to(&self, found: &Found) -> bool {
        found.sent_sha256.as_ref() == Some(&self.checksum)
    }

    /// Whether an object has this content, as far as HEAD shows. If the store keeps no SHA-256, size and our own
    /// metadata are compared instead.
    pub(crate) fn is_in(&self, found: &Found) -> bool {
        let same = match (&found.sha256, &found.ownership) {
            (Some(sha256), _) => *sha256 == self.checksum,
            (None, Some(owner)) => owner.digest == self.digest,
            (None, None) => false,
        };
        same && found.may_have_size(self.size)
    }
}

/// Whether the recorded files equal those of the content while the archives' bytes differ, unless the recorded key shows another
/// format. With equal revisions of the normaliser this means that file modes changed.
pub(crate) fn other_bytes(version: &VersionState, target: &Target, content: &Content) -> bool {
    let status = &version.status;
    let stored = status.storage.as_ref();
    let may_be_same_format = stored.is_some_and(|stored| !target.format().conflicts_with(stored.key()));
    may_be_same_format
        && status.content_digest.as_deref() == Some(&content.digest)
        && status.checksum.as_deref().is_some_and(|checksum| checksum != content.checksum)
}
