//! Index and contents of an archive, as its readers fill them.

use std::path::Path;

use super::ArchiveError;
use super::contents::ContentsWriter;
use super::limits::Budget;
use super::tree::{Layout, TreeBuilder};

/// Hexadecimal digits of a commit id.
const COMMIT_LEN: usize = 40;

/// Index and contents of an archive, filled by a reader.
pub(super) struct Unpacked {
    pub budget: Budget,
    pub tree: TreeBuilder,
    pub contents: ContentsWriter,
}

impl Unpacked {
    pub(super) fn new(dir: &Path, budget: Budget, layout: Layout) -> Result<Self, ArchiveError> {
        let (tree, contents) = (TreeBuilder::new(budget, layout), ContentsWriter::new(dir, budget)?);
        Ok(Self { budget, tree, contents })
    }
}

/// `text` as a commit id, if it is one.
pub(super) fn commit_id(text: &[u8]) -> Option<String> {
    let is_commit = text.len() == COMMIT_LEN && text.iter().all(u8::is_ascii_hexdigit);
    is_commit.then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}
