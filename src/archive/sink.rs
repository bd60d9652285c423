//! Output of the writers: counts and hashes what is written, and fixes what both formats share.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use aws_lc_rs::digest::{Context, SHA256};
use flate2::Compression;

use super::digest::sha256_bytes;

/// zlib's own default: larger levels gain about a percent and cost twice the time.
pub(super) const LEVEL: Compression = Compression::new(6);

/// Bytes that the compressor gets at a time.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Permission bits of a file: git records no others.
pub(super) fn permissions(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

/// The output: counts and hashes what is written.
pub(super) struct Sink<'a> {
    file: BufWriter<&'a File>,
    hash: Context,
    /// Bytes written so far.
    pub size: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file: BufWriter::with_capacity(CHUNK_BYTES, file), hash: Context::new(&SHA256), size: 0 }
    }

    /// The size and SHA-256 of all that was written.
    pub(super) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
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
