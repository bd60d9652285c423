//! Writes the gzip-compressed tar format.

use std::io::{self, Write};

use flate2::GzBuilder;
use flate2::write::GzEncoder;

use super::contents::Contents;
use super::digest::{ContentDigest, ContentHasher};
use super::links::Files;
use super::sink::{CHUNK_BYTES, LEVEL, Sink, permissions};

/// gzip's code for an operating system that does not matter.
const UNKNOWN_OS: u8 = 255;

pub(super) fn write(files: &Files, contents: &Contents, sink: &mut Sink<'_>) -> io::Result<ContentDigest> {
    let gzip = GzBuilder::new().mtime(0).operating_system(UNKNOWN_OS).write(sink, LEVEL);
    let mut tar = tar::Builder::new(Chunks { inner: gzip, chunk: Vec::with_capacity(CHUNK_BYTES) });
    let mut digest = ContentHasher::new();
    for (path, file) in files.iter() {
        let mut header = tar::Header::new_ustar();
        let field = &mut header.as_old_mut().name;
        // All paths are UTF-8.
        let whole = str::from_utf8(path).unwrap_or_default().floor_char_boundary(field.len());
        let name = &path[..whole];
        field[..name.len()].copy_from_slice(name);
        if name != path || !path.is_ascii() {
            tar.append_pax_extensions([("path", path)])?;
        }
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(file.content.len);
        header.set_mode(permissions(file.executable));
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        let mut content = contents.open(file.content)?;
        tar.append(&header, &mut content)?;
        digest.add(path, &content.sha256());
    }
    tar.into_inner()?.finish()?;
    Ok(digest.finish())
}

/// Passes its input on in pieces of one size. A compressor's output may depend on the pieces of its input, and those that tar
/// passes on depend on the standard library's buffers.
struct Chunks<W: Write> {
    inner: W,
    chunk: Vec<u8>,
}

impl<W: Write> Chunks<GzEncoder<W>> {
    fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&self.chunk)?;
        self.inner.finish()
    }
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..n]);
        if self.chunk.len() == CHUNK_BYTES {
            self.inner.write_all(&self.chunk)?;
            self.chunk.clear();
        }
        Ok(n)
    }

    /// Does nothing: an early flush would change the pieces.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
