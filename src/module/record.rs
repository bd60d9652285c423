//! How much `status.published`, the record of an immutable Module's content digests, may hold.
//!
//! In: what is recorded. Out: whether one more fits. The record only grows while `immutable` is on, and what the API server
//! keeps of an object has a limit: beyond it no status could be written at all. Pure.

use std::collections::BTreeMap;

/// Most entries.
pub const ENTRIES: usize = 10_000;

/// Most bytes, as JSON.
pub const BYTES: usize = 512 * 1024;

/// Length of a content digest: `h1:` and 32 bytes in base64.
const DIGEST: usize = 47;

/// What is left of both.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    /// What is left beside what is recorded.
    pub fn beside(published: &BTreeMap<String, String>) -> Self {
        let bytes: usize = published.iter().map(|(version, digest)| size(version, digest.len())).sum();
        Self { entries: ENTRIES.saturating_sub(published.len()), bytes: BYTES.saturating_sub(bytes) }
    }

    /// Takes the room of an entry, if it is there.
    pub fn take(&mut self, version: &str, digest: &str) -> bool {
        self.take_bytes(size(version, digest.len()))
    }

    /// Takes the room of a version whose digest is not known yet.
    pub fn reserve(&mut self, version: &str) -> bool {
        self.take_bytes(size(version, DIGEST))
    }

    fn take_bytes(&mut self, bytes: usize) -> bool {
        let (Some(entries), Some(left)) = (self.entries.checked_sub(1), self.bytes.checked_sub(bytes)) else {
            return false;
        };
        (self.entries, self.bytes) = (entries, left);
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
        let mut room = Room::beside(&record(ENTRIES - 1, 5, 30));
        assert!(room.reserve("1.0.0") && !room.reserve("2.0.0"));
        assert!(!Room::beside(&record(ENTRIES + 5, 5, 30)).reserve("1.0.0"));
        // 524,288 bytes are 2,896 entries of 181 and 112 bytes.
        let full = record(2_896, 128, DIGEST);
        assert!(!Room::beside(&full).reserve(&"1".repeat(60)));
        assert!(Room::beside(&full).reserve(&"1".repeat(59)));
        assert!(Room::beside(&full).take("1.0.0", "h1:"));
        let json = serde_json::to_string(&full).unwrap();
        assert!(json.len() <= BYTES && json.len() + 112 >= BYTES, "{}", json.len());
    }
}
