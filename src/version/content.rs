//! Fetched content against what was published: whether it may be stored, and whether it needs a place of its own.
//!
//! In: the Version, what is at its place, and the content that was fetched. Out: a failure where an immutable version
//! would change, else what kind of PUT stores the content. Pure: no client and no clock.

use super::plan::{VersionView, Work};
use super::publish::{Lying, recorded_at};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::storage::Found;

/// What was fetched and normalised.
#[derive(Clone, Debug)]
pub struct Content {
    /// SHA-256 of the archive's bytes, base64.
    pub checksum: String,
    /// Their number.
    pub size: u64,
    /// Digest of the files, `h1:…`.
    pub digest: String,
    /// The commit that they came from.
    pub commit: Option<String>,
}

/// What kind of PUT stores the content. An object is written once: no PUT replaces other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing is at the place, and nothing else was ever recorded there: a PUT that creates.
    Create,
    /// The same content is, or was, at the place: it is written again, as asked for or because it was damaged.
    Overwrite,
    /// Other content is, or was, at the place: the new content needs a fresh `fileName`.
    Fresh,
}

impl Target {
    /// Where `content` may be stored, given what is at `place`.
    pub(super) fn of(view: &VersionView, place: &ObjectLocation, lying: &Lying, content: &Content) -> Self {
        let recorded = view.status.checksum.as_ref().filter(|_| recorded_at(view, place));
        match (recorded, lying) {
            (Some(recorded), _) if *recorded != content.checksum => Self::Fresh,
            (_, Lying::Nothing) => Self::Create,
            (Some(_), Lying::Ours(_)) => Self::Overwrite,
            (None, Lying::Ours(found)) if content.is_in(found) => Self::Overwrite,
            (None, Lying::Ours(_)) => Self::Fresh,
        }
    }
}

impl Content {
    /// What an object holds, as HEAD and our metadata on it say.
    pub fn found(found: &Found) -> Self {
        let owner = found.ownership.as_ref();
        Self {
            checksum: found.sha256.clone().unwrap_or_default(),
            size: found.size,
            digest: owner.map(|owner| owner.digest.clone()).unwrap_or_default(),
            commit: owner.map(|owner| owner.commit.clone()),
        }
    }

    /// Whether an object holds just this, as far as HEAD shows. Where the store keeps no SHA-256, size and our own
    /// metadata have to do.
    pub fn is_in(&self, found: &Found) -> bool {
        let same = match (&found.sha256, &found.ownership) {
            (Some(sha256), _) => *sha256 == self.checksum,
            (None, Some(owner)) => owner.digest == self.digest,
            (None, None) => false,
        };
        same && found.size == self.size
    }
}

/// Where the status has this very content on record, in the folder of `place`. When other content is at `place`, the
/// operator chose that `fileName`, and it was changed back since.
pub fn changed_back<'a>(
    view: &'a VersionView,
    place: &ObjectLocation,
    content: &Content,
) -> Option<&'a ObjectLocation> {
    fn in_folder(place: &ObjectLocation) -> ObjectLocation {
        let key = place.key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        ObjectLocation { key, ..place.clone() }
    }
    let status = &view.status;
    let stored = status.storage.as_ref().filter(|_| status.synced == Some(true))?;
    let same = status.checksum.as_ref() == Some(&content.checksum) && !stored.is_same(place);
    (same && in_folder(stored).is_same(&in_folder(place))).then_some(stored)
}

/// Whether the files on record are those of the content while the archive's bytes differ, in the same format. That means a
/// change where the normaliser's revision is the same too.
pub fn other_bytes(view: &VersionView, work: &Work<'_>, content: &Content) -> bool {
    let status = &view.status;
    let same_format = status
        .storage
        .as_ref()
        .is_some_and(|place| place.key.ends_with(&format!(".{}", work.module.file_format.extension())));
    same_format
        && status.content_digest.as_ref() == Some(&content.digest)
        && status.checksum.as_ref().is_some_and(|checksum| *checksum != content.checksum)
}

/// Whether the content may take the place of what was published before. `bytes_changed`: what [`other_bytes`] says, the
/// revisions being equal. `lost`: the recorded object is known to be missing or damaged.
pub(super) fn compare(
    view: &VersionView,
    work: &Work<'_>,
    content: &Content,
    bytes_changed: bool,
    lying: &Lying,
    lost: bool,
) -> Result<(), Failure> {
    let Some(expected) = &work.expected_digest else { return Ok(()) };
    let digest_changed = *expected != content.digest;
    if !digest_changed && !bytes_changed {
        return Ok(());
    }
    let (is, was, why) = if digest_changed {
        (content.digest.clone(), expected.clone(), "")
    } else {
        let checksum = view.status.checksum.as_deref().unwrap_or_default();
        let files = " The files are the same, but other files are executable.";
        (format!("SHA-256 {}", content.checksum), format!("SHA-256 {checksum}"), files)
    };
    // The commit on record counts only where it is that of the expected content.
    let source =
        view.status.source.as_ref().filter(|_| view.status.content_digest.as_ref() == Some(expected));
    let before = source.and_then(|s| s.commit.as_deref());
    let now = content.commit.as_deref();
    let kept = kept(view, work, lying, lost);
    if before.is_some() && before == now {
        return Err(Failure::stalled(
            Reason::SameCommitOtherContent,
            format!(
                "Commit {} gave {is} now and {was} when it was published: the repository's export-subst or \
                 export-ignore makes archives that change, or its setting for Git LFS objects in archives was switched. \
                 {kept}",
                now.unwrap_or_default()
            ),
        ));
    }
    // The commit of one that was removed and added again is not known any more.
    let what = if before.is_some() { "was moved" } else { "does not hold what was published" };
    Err(Failure::stalled(
        Reason::ImmutableContentChanged,
        format!(
            "The tag {what}: its content is {is}{}, published was {was}.{why} {kept} Move the tag back, or publish the \
             new content as a new version.",
            now.map(|c| format!(" (commit {c})")).unwrap_or_default()
        ),
    ))
}

/// What there is to tell where this content takes the place of other content.
pub fn replaced(view: &VersionView, digest: &str, bytes_changed: bool) -> Option<String> {
    let before = view.status.content_digest.as_ref()?;
    if *before != digest {
        Some(format!("The tag's content changed from {before} to {digest}; the object was replaced."))
    } else if bytes_changed {
        Some(format!(
            "The tag was moved: its files are the same ({digest}), but other files are executable; the object was replaced."
        ))
    } else {
        None
    }
}

/// What is in the bucket after content was refused, said only as far as it is known.
fn kept(view: &VersionView, work: &Work<'_>, lying: &Lying, lost: bool) -> &'static str {
    let elsewhere = || !view.left_behind(&work.place).is_empty();
    if view.status.synced == Some(true) && !lost {
        "The stored object is untouched."
    } else if matches!(lying, Lying::Ours(_)) || elsewhere() {
        "What the bucket holds is untouched."
    } else {
        "Nothing was stored."
    }
}
