//! Writes files as an archive whose bytes depend on nothing but their paths, contents and execute bits.
//!
//! In: sorted files and the spool with their contents. Out: a temporary file, its size and SHA-256, and the content
//! digest. All that could differ between two runs is fixed here: order, times, owners, modes, compression level, and
//! even the pieces in which the compressor gets its input.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tempfile::{NamedTempFile, TempPath};

use super::ArchiveError;
use super::digest::{ContentDigest, ContentHasher, sha256_bytes};
use super::links::Files;
use super::spool::Spool;
use super::write_zip::{self, Narrow};
use crate::domain::ArchiveFormat;

/// zlib's own default: larger levels gain about a percent and cost twice the time.
pub(super) const LEVEL: Compression = Compression::new(6);

/// Bytes that the compressor gets at a time.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// gzip's code for an operating system that does not matter.
const UNKNOWN_OS: u8 = 255;

/// An archive that was written.
pub(super) struct Written {
    pub file: TempPath,
    pub size: u64,
    pub sha256: [u8; 32],
    pub digest: ContentDigest,
}

/// Writes `files` to a new temporary file in `dir`.
pub(super) fn write(
    files: &Files,
    spool: &Spool,
    format: ArchiveFormat,
    dir: &Path,
    narrow: &Narrow,
) -> Result<Written, ArchiveError> {
    let failed = "write the normalised archive";
    let file = NamedTempFile::new_in(dir).map_err(ArchiveError::io(failed))?;
    let mut sink = Sink::new(file.as_file());
    let written = match format {
        ArchiveFormat::Zip => write_zip::write(files, spool, &mut sink, narrow),
        ArchiveFormat::Tar => write_tar_gz(files, spool, &mut sink),
    };
    let digest = written.map_err(ArchiveError::io(failed))?;
    let (size, sha256) = sink.finish().map_err(ArchiveError::io(failed))?;
    Ok(Written { file: file.into_temp_path(), size, sha256, digest })
}

/// Permission bits of a file: git knows no others either.
pub(super) fn permissions(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn write_tar_gz(files: &Files, spool: &Spool, sink: &mut Sink<'_>) -> io::Result<ContentDigest> {
    let gzip = GzBuilder::new().mtime(0).operating_system(UNKNOWN_OS).write(sink, LEVEL);
    let mut tar = tar::Builder::new(Chunks::new(gzip));
    let mut digest = ContentHasher::new();
    for (path, file) in files.iter() {
        let mut header = tar::Header::new_ustar();
        let field = &mut header.as_old_mut().name;
        let name = whole_characters(path, field.len());
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
        let mut content = spool.open(file.content)?;
        tar.append(&header, &mut content)?;
        digest.add(path, &content.sha256());
    }
    tar.into_inner()?.finish()?;
    Ok(digest.finish())
}

/// As much of the beginning of `path`, which is UTF-8, as has at most `most` bytes and ends with a whole character.
fn whole_characters(path: &[u8], most: usize) -> &[u8] {
    let continues = |end: &usize| path.get(*end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (0..=most.min(path.len())).rev().find(|end| !continues(end));
    &path[..end.unwrap_or_default()]
}

/// The output: counts and hashes what is written.
pub(super) struct Sink<'a> {
    file: BufWriter<&'a File>,
    hash: Context,
    /// Bytes written so far.
    pub size: u64,
}

impl<'a> Sink<'a> {
    fn new(file: &'a File) -> Self {
        Self { file: BufWriter::with_capacity(CHUNK_BYTES, file), hash: Context::new(&SHA256), size: 0 }
    }

    /// The size and SHA-256 of all that was written.
    fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        self.file.flush()?;
        Ok((self.size, sha256_bytes(&self.hash.finish())))
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Hands its input on in pieces of one size. What a compressor makes of a stream may depend on the pieces that it comes
/// in, and those that tar passes on depend on the standard library's buffers.
struct Chunks<W: Write> {
    inner: W,
    chunk: Vec<u8>,
}

impl<W: Write> Chunks<W> {
    fn new(inner: W) -> Self {
        Self { inner, chunk: Vec::with_capacity(CHUNK_BYTES) }
    }
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
