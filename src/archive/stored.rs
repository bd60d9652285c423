//! Reads files of an archive that OpenDepot has stored.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::contents::{Content, Contents};
use super::tree::{Layout, Node, Tree};
use super::unpacked::Unpacked;
use super::{ArchiveError, Limits, reader_for};

/// A stored archive whose contents lie in a file without a name.
pub struct StoredArchive {
    tree: Tree,
    contents: Contents,
}

/// A file of a stored archive.
#[derive(Clone, Copy, Debug)]
pub struct StoredFile<'a> {
    /// Its path, with `/` between its components.
    pub path: &'a str,
    /// Its length in bytes.
    pub len: u64,
    content: Content,
}

impl StoredArchive {
    /// Unpacks the archive at `stored` into the folder `spool_dir`. It blocks.
    ///
    /// # Errors
    /// As [`normalise`](super::normalise). An archive that was published passes, unless `limits` are lower than they were then.
    pub fn open(stored: &Path, limits: &Limits, spool_dir: &Path) -> Result<Self, ArchiveError> {
        let mut file = File::open(stored).map_err(ArchiveError::io("open the archive"))?;
        let bytes = file.metadata().map_err(ArchiveError::io("open the archive"))?.len();
        if bytes > limits.archive_bytes {
            return Err(ArchiveError::ArchiveTooLarge { limit: limits.archive_bytes });
        }
        let read = reader_for(&mut file)?;
        let mut unpacked = Unpacked::new(spool_dir, limits.budget(bytes), Layout::Root)?;
        read(file, &mut unpacked)?;
        Ok(Self { tree: unpacked.tree.finish()?, contents: unpacked.contents.into_reader()? })
    }

    /// The files whose paths are UTF-8, sorted bytewise by path.
    pub fn files(&self) -> impl Iterator<Item = StoredFile<'_>> {
        self.tree.entries().iter().filter_map(|entry| {
            let Node::File(file) = entry.node else { return None };
            let path = str::from_utf8(self.tree.text(entry.path)).ok()?;
            Some(StoredFile { path, len: file.content.len, content: file.content })
        })
    }

    /// The content of a file.
    pub fn read(&self, file: StoredFile<'_>) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let mut content =
            self.contents.open(file.content).map_err(ArchiveError::io("read the spool file"))?;
        content.read_to_end(&mut bytes).map_err(ArchiveError::io("read the spool file"))?;
        Ok(bytes)
    }
}
