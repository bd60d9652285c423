//! Contents of all files of an archive, one after another, in one unnamed file on disk.
//!
//! Memory is one buffer, however large the contents are. The file has no name, so that the system removes it however the process
//! ends.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use aws_lc_rs::digest;

use super::ArchiveError;
use super::limits::Budget;

const BUFFER_BYTES: usize = 64 << 10;

/// The first lines of Git LFS pointers, the longest first. Git LFS still reads those of its early versions, and takes no file
/// of 1,024 bytes or more for a pointer.
const LFS_POINTERS: [&[u8]; 3] = [
    b"version https://git-lfs.github.com/spec/v1",
    b"version https://hawser.github.com/spec/v1",
    b"version http://git-media.io/v/2",
];
const LFS_POINTER_BYTES: u64 = 1024;

/// Position of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// In bytes from the start.
    pub offset: u64,
    pub len: u64,
}

/// A regular file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regular {
    pub content: Content,
    pub executable: bool,
    /// Whether the content is a Git LFS pointer instead of the content that it names.
    pub lfs_pointer: bool,
}

/// Contents that are being written.
pub(super) struct ContentsWriter {
    file: BufWriter<File>,
    len: u64,
    budget: Budget,
    buffer: Vec<u8>,
    /// The first bytes of the last content, as many as show whether it is a Git LFS pointer.
    start: Vec<u8>,
}

impl ContentsWriter {
    /// A new file in the folder `dir`, which takes no more bytes than `budget` allows.
    pub(super) fn new(dir: &Path, budget: Budget) -> Result<Self, ArchiveError> {
        let file = tempfile::tempfile_in(dir).map_err(ArchiveError::io("create the spool file"))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self { file, len: 0, budget, buffer: vec![0; BUFFER_BYTES], start: Vec::new() })
    }

    /// Appends the bytes of `from`. The budget counts the bytes that are read, not those that the archive announces.
    pub(super) fn append(&mut self, mut from: impl Read, executable: bool) -> Result<Regular, ArchiveError> {
        let offset = self.len;
        self.start.clear();
        loop {
            let n = match from.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ArchiveError::reading(error)),
            };
            self.len += n as u64;
            self.budget.check_bytes(self.len)?;
            let missing = LFS_POINTERS[0].len() - self.start.len();
            self.start.extend_from_slice(&self.buffer[..n.min(missing)]);
            self.file.write_all(&self.buffer[..n]).map_err(ArchiveError::io("write to the spool file"))?;
        }
        let content = Content { offset, len: self.len - offset };
        let first_line = LFS_POINTERS.iter().any(|line| self.start.starts_with(line));
        let lfs_pointer = first_line && content.len < LFS_POINTER_BYTES;
        Ok(Regular { content, executable, lfs_pointer })
    }

    pub(super) fn into_reader(self) -> Result<Contents, ArchiveError> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        Ok(Contents(file.map_err(ArchiveError::io("write to the spool file"))?))
    }
}

/// Contents for reading.
pub(super) struct Contents(File);

impl Contents {
    /// Reads one content from its start.
    pub(super) fn open(&self, content: Content) -> io::Result<ContentReader<'_>> {
        (&self.0).seek(SeekFrom::Start(content.offset))?;
        let hash = digest::Context::new(&digest::SHA256);
        Ok(ContentReader { file: &self.0, left: content.len, hash })
    }
}

/// Reads one content and hashes it. Only one can be read at a time.
///
/// Each read fills the buffer as long as there is content left, so that the pieces do not depend on the system. A file that
/// ends too early is an error, not a short content: the output has the length in front of it.
pub(super) struct ContentReader<'a> {
    file: &'a File,
    left: u64,
    hash: digest::Context,
}

impl ContentReader<'_> {
    /// SHA-256 of what was read.
    pub(super) fn sha256(self) -> digest::Digest {
        self.hash.finish()
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..len];
        self.file.read_exact(buffer)?;
        self.left -= len as u64;
        self.hash.update(buffer);
        Ok(len)
    }
}
