//! Index and contents of an archive.

use super::contents::ContentsWriter;
use super::limits::Budget;
use super::tree::TreeBuilder;

/// Hexadecimal digits of a commit id.
const COMMIT_LEN: usize = 40;

/// Index and contents of an archive, filled by a reader.
pub(super) struct Unpacked {
    pub budget: Budget,
    pub tree: TreeBuilder,
    pub contents: ContentsWriter,
}

/// `text` as a commit id, if it is one.
pub(super) fn commit_id(text: &[u8]) -> Option<String> {
    let is_commit = text.len() == COMMIT_LEN && text.iter().all(u8::is_ascii_hexdigit);
    is_commit.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}
