//! Compares fetched content with what was published: whether it may be stored, and with which kind of PUT. Pure.

use uuid::Uuid;

use super::content::Content;
use super::existing::Existing;
use crate::api::state::VersionState;
use crate::api::target::{Target, left_behind};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;

/// What kind of PUT stores the content. An object is written once: no PUT replaces other content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutKind {
    /// The location is free and no other content was recorded there: a PUT that creates.
    Create,
    /// The location contains, or contained, the same content: it is written again, because of a request or because it was
    /// damaged or never verified.
    Overwrite,
    /// The location contains, or contained, other content: the new content needs a fresh `fileName`.
    FreshKey,
}

impl PutKind {
    /// The PUT that stores `content`, given the object that exists at `location`.
    pub(super) fn of(
        version: &VersionState,
        location: &ObjectLocation,
        existing: &Existing,
        content: &Content,
    ) -> Self {
        let recorded = version.status.checksum.as_deref().filter(|_| version.status.is_recorded_at(location));
        match (recorded, existing) {
            (Some(recorded), _) if recorded != content.checksum => Self::FreshKey,
            (_, Existing::None) => Self::Create,
            (Some(_), Existing::Ours(_)) => Self::Overwrite,
            (None, Existing::Ours(found)) if content.is_in(found) || content.was_sent_to(found) => {
                Self::Overwrite
            }
            (None, Existing::Ours(_)) => Self::FreshKey,
        }
    }
}

/// The recorded location of the same content, if it differs from `location` in the file name only. If `location` contains other
/// content, the operator had written the recorded `fileName`, and a client has changed it back since.
pub(crate) fn changed_back(
    version: &VersionState,
    location: &ObjectLocation,
    content: &Content,
) -> Option<ObjectLocation> {
    let status = &version.status;
    let stored = status.storage.as_ref().filter(|_| status.synced)?.location();
    let is_same = status.checksum.as_deref() == Some(&content.checksum);
    (is_same && is_renamed(&stored, location)).then_some(stored)
}

/// Whether two locations differ in nothing but the file name.
fn is_renamed(one: &ObjectLocation, other: &ObjectLocation) -> bool {
    let folder = |location: &ObjectLocation| {
        let key = location.key.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        ObjectLocation { key, ..location.clone() }
    };
    !one.is_same_location(other) && folder(one).is_same_location(&folder(other))
}

/// Whether each old location is the recorded one, whose object is stored. If nothing is at the new location then, it is in another
/// bucket: under another name of the same bucket, the stored object would be there.
pub(crate) fn leaves_stored(version: &VersionState, location: &ObjectLocation) -> bool {
    let status = &version.status;
    status.synced && left_behind(version, location).iter().all(|old| status.is_recorded_at(old))
}

/// The recorded `fileName`, if the current one was made for content that is rejected now: `immutable` was turned on while that
/// content was being stored.
pub(crate) fn file_name_before(version: &VersionState, target: &Target) -> Option<String> {
    let status = &version.status;
    let stored = status.storage.as_ref().filter(|_| status.synced)?.location();
    let made = version.file_name.as_deref()?.split('.').next()?;
    // The operator's names are UUIDs with a time.
    let is_ours = Uuid::parse_str(made).is_ok_and(|uuid| uuid.get_timestamp().is_some());
    let same_source =
        status.source.as_ref().is_some_and(|s| s.url.eq_ignore_ascii_case(&target.source_url()));
    let name = stored.key.rsplit('/').next().unwrap_or_default();
    let is_renamed = is_renamed(&stored, &target.location);
    let fits = is_ours && same_source && is_renamed && target.format().is_extension_of(name);
    fits.then(|| name.to_owned())
}

/// Fails if the content of an immutable version has changed. `bytes_changed`: [`other_bytes`](super::content::other_bytes)
/// with equal revisions. `lost`: the recorded object is missing or damaged.
pub(super) fn compare(
    version: &VersionState,
    target: &Target,
    content: &Content,
    bytes_changed: bool,
    existing: &Existing,
    lost: bool,
) -> Result<(), Failure> {
    let Some(expected) = &target.expected_digest else { return Ok(()) };
    let digest_changed = **expected != *content.digest;
    if !digest_changed && !bytes_changed {
        return Ok(());
    }
    let (is, was, why) = if digest_changed {
        (content.digest.clone(), expected.to_string(), "")
    } else {
        let checksum = version.status.checksum.as_deref().unwrap_or_default();
        let files = " The files are the same, but other files are executable.";
        (format!("SHA-256 {}", content.checksum), format!("SHA-256 {checksum}"), files)
    };
    // The recorded commit counts only if it is that of the expected content.
    let source =
        version.status.source.as_ref().filter(|_| version.status.content_digest.as_ref() == Some(expected));
    let before = source.and_then(|s| s.commit.as_deref());
    let now = content.commit.as_deref();
    let kept = kept(version, target, existing, lost);
    if before.is_some() && before == now {
        return Err(Failure::new(
            Reason::SameCommitOtherContent,
            format!(
                "The archive of commit {} has the content {is} now, and had {was} when it was published: export-subst or \
                 export-ignore in the repository makes its archives change, or the repository's setting for Git LFS \
                 objects in archives was changed. {kept}",
                now.unwrap_or_default()
            ),
        ));
    }
    // The commit of a version that was removed and added again is unknown.
    let what = if before.is_some() { "was moved" } else { "does not contain the published content" };
    Err(Failure::new(
        Reason::ImmutableContentChanged,
        format!(
            "The tag {what}: its content is {is}{}, and the published content is {was}.{why} {kept} Move the tag back, or \
             publish the new content as a new version.",
            now.map(|c| format!(" (commit {c})")).unwrap_or_default()
        ),
    ))
}

/// The text of the Event for content that replaces other content.
pub(crate) fn replaced(version: &VersionState, digest: &str, bytes_changed: bool) -> Option<String> {
    let before = version.status.content_digest.as_ref()?;
    if **before != *digest {
        Some(format!(
            "The tag's content changed from {before} to {digest}; the new content is stored under a new key."
        ))
    } else if bytes_changed {
        Some(format!(
            "The tag was moved: its files are the same ({digest}), but other files are executable; the new content is stored under a new key."
        ))
    } else {
        None
    }
}

/// What the bucket contains after content was rejected, as far as that is known.
fn kept(version: &VersionState, target: &Target, existing: &Existing, lost: bool) -> &'static str {
    let elsewhere = || !left_behind(version, &target.location).is_empty();
    if version.status.synced && !lost {
        "The stored object is unchanged."
    } else if matches!(existing, Existing::Ours(_)) || elsewhere() {
        "The objects in the bucket are unchanged."
    } else {
        "Nothing was stored."
    }
}
