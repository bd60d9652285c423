//! Reads files of an archive that OpenDepot has stored.

use std::io::Read as _;
use std::path::Path;

use super::contents::{Content, Contents};
use super::tree::{Layout, Node, Tree};
use super::{ArchiveError, Limits, unpack};

/// A stored archive, unpacked into an unnamed file.
pub struct StoredArchive {
    tree: Tree,
    contents: Contents,
}

/// A file of a stored archive.
#[derive(Clone, Copy, Debug)]
pub struct StoredFile<'a> {
    /// Its path, with `/` between its components.
    pub path: &'a str,
    pub len: u64,
    content: Content,
}

impl StoredArchive {
    /// Unpacks the archive at `stored` into the folder `spool_dir`. It blocks.
    ///
    /// # Errors
    /// As [`normalise`](super::normalise). An archive that was published passes, unless `limits` are lower than they were then.
    pub fn open(stored: &Path, limits: &Limits, spool_dir: &Path) -> Result<Self, ArchiveError> {
        let (unpacked, _) = unpack(stored, "open the archive", limits, spool_dir, Layout::Root)?;
        Ok(Self { tree: unpacked.tree.finish()?, contents: unpacked.contents.into_reader()? })
    }

    /// The files whose paths are UTF-8, sorted bytewise by path.
    pub fn files(&self) -> impl Iterator<Item = StoredFile<'_>> {
        self.tree.entries.iter().filter_map(|entry| {
            let Node::File(file) = entry.node else { return None };
            let path = str::from_utf8(self.tree.text(entry.path)).ok()?;
            Some(StoredFile { path, len: file.content.len, content: file.content })
        })
    }

    /// The first `most` bytes of a file's content.
    pub fn read(&self, file: StoredFile<'_>, most: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let content = self.contents.open(file.content);
        let read = content.and_then(|content| content.take(most).read_to_end(&mut bytes));
        read.map_err(ArchiveError::io("read the spool file"))?;
        Ok(bytes)
    }
}
