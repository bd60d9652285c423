//! `status.published`: the content digests of an immutable Module, and how many of them fit. Pure.
//!
//! Digests are only added while `immutable` is on, and the API server limits the size of an object: beyond that no status can be
//! written.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::select::Selection;
use super::view::ModuleView;
use crate::api::ModuleStatus;
use crate::api::state::VersionState;
use crate::domain::Release;
use crate::domain::text::plural;

/// The largest number of entries.
pub(super) const MAX_ENTRIES: usize = 10_000;
/// The largest size as JSON, in bytes.
pub(super) const MAX_BYTES: usize = 512 * 1024;
/// The length of a content digest: `h1:` and 32 bytes in base64.
const DIGEST: usize = 47;

/// The digests to record: those that are recorded stay, those of published Versions are added as long as there is room.
/// `None` if the Module is not immutable.
pub(super) fn published(
    module: &ModuleView,
    children: &[&VersionState],
    is_too_large: bool,
) -> Option<BTreeMap<String, String>> {
    if !module.is_immutable() {
        return None;
    }
    let mut published = module.status.published.clone().unwrap_or_default();
    if is_too_large {
        return Some(published);
    }
    let mut room = Room::beside(&published);
    // Includes Versions whose object is missing now: they may be deleted before it is restored.
    let current = children
        .iter()
        .filter(|child| module.manages(child))
        .filter_map(|child| Some((release(child)?, child.status.content_digest.as_deref()?.to_owned())));
    // Deleted Versions come first: their digests are recorded nowhere else.
    let deleted = module.deleted_digests.iter().map(|(version, digest)| (version.clone(), digest.clone()));
    for (version, digest) in deleted.chain(current) {
        if !published.contains_key(&version) && room.take(&version, digest.len()) {
            published.insert(version, digest);
        }
    }
    Some(published)
}

/// The names of the wanted versions that have no Version yet, and whose digests do not fit.
pub(super) fn unrecorded(
    module: &ModuleView,
    (selection, children): (&Selection, &[&VersionState]),
    published: Option<&BTreeMap<String, String>>,
    is_too_large: bool,
) -> BTreeSet<String> {
    let Some(published) = published.filter(|_| module.is_immutable()) else { return BTreeSet::new() };
    let mut room = Room::beside(published);
    // Room for the Versions that exist and are not published yet.
    for version in children.iter().filter(|child| module.manages(child)).filter_map(|child| release(child)) {
        if !published.contains_key(&version) {
            room.take(&version, DIGEST);
        }
    }
    let existing: HashSet<&str> = children.iter().map(|child| child.name()).collect();
    let mut has_no_room = |release: &Release| {
        let version = release.to_string();
        !published.contains_key(&version) && (is_too_large || !room.take(&version, DIGEST))
    };
    let missing = selection.wanted.iter().filter(|wanted| !existing.contains(wanted.name.as_str()));
    missing.filter(|wanted| has_no_room(&wanted.release)).map(|wanted| wanted.name.clone()).collect()
}

/// The text of the Event when `immutable` was just turned off.
pub(super) fn unpinned(before: &ModuleStatus, after: &ModuleStatus) -> Option<String> {
    let pins = before.published.as_ref().filter(|_| after.published.is_none())?;
    Some(format!(
        "moduleConfig.immutable was turned off: the content of {} is no longer pinned. Each sync now stores the \
         content that the tag has at that time.",
        plural(pins.len(), "version")
    ))
}

/// The release of a Version, as the key of its digest.
pub(super) fn release(version: &VersionState) -> Option<String> {
    Release::parse(&version.version).ok().map(|release| release.to_string())
}

/// The room that is left for further entries.
#[derive(Clone, Copy, Debug)]
struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    fn beside(published: &BTreeMap<String, String>) -> Self {
        let bytes: usize = published.iter().map(|(version, digest)| size(version, digest.len())).sum();
        Self { entries: MAX_ENTRIES.saturating_sub(published.len()), bytes: MAX_BYTES.saturating_sub(bytes) }
    }

    /// Takes the room of an entry with a digest of this length, if there is enough.
    fn take(&mut self, version: &str, digest: usize) -> bool {
        let bytes = self.bytes.checked_sub(size(version, digest));
        let (Some(entries), Some(bytes)) = (self.entries.checked_sub(1), bytes) else { return false };
        *self = Self { entries, bytes };
        true
    }
}

/// `"version":"digest",`
fn size(version: &str, digest: usize) -> usize {
    version.len() + digest + 6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(entries: usize, length: usize, digest: usize) -> BTreeMap<String, String> {
        (0..entries).map(|n| (format!("{n:0length$}"), "h".repeat(digest))).collect()
    }

    #[test]
    fn both_limits_hold_to_the_entry() {
        let mut room = Room::beside(&record(MAX_ENTRIES - 1, 5, 30));
        assert!(room.take("1.0.0", DIGEST) && !room.take("2.0.0", DIGEST));
        assert!(!Room::beside(&record(MAX_ENTRIES + 5, 5, 30)).take("1.0.0", DIGEST));
        // 524,288 bytes are 2,896 entries of 181 and 112 bytes.
        let full = record(2_896, 128, DIGEST);
        assert!(!Room::beside(&full).take(&"1".repeat(60), DIGEST));
        assert!(Room::beside(&full).take(&"1".repeat(59), DIGEST));
        assert!(Room::beside(&full).take("1.0.0", "h1:".len()));
        let json = serde_json::to_string(&full).unwrap();
        assert!(json.len() <= MAX_BYTES && json.len() + 112 >= MAX_BYTES, "{}", json.len());
    }
}
