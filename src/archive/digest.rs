//! Digest of a tree of files, as Go's module tools calculate it (`h1:`, dirhash's Hash1).
//!
//! It depends on names and contents, not on modes, times or the archive's format.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a module's files are, whatever archive they came in. Displays as `h1:` and the base64 of 32 bytes, and equals
/// what Go's `dirhash.HashDir(folder, "", dirhash.Hash1)` says about the unpacked files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h1:{}", STANDARD.encode(self.0))
    }
}

/// Builds a [`ContentDigest`] file by file.
pub(super) struct ContentHasher(Context);

impl ContentHasher {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Adds the next file. Paths come in bytewise order and hold no newline.
    pub(super) fn add(&mut self, path: &[u8], sha256: &Digest) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut line = [b' '; 66];
        for (pair, byte) in line.chunks_exact_mut(2).zip(sha256.as_ref()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        self.0.update(&line);
        self.0.update(path);
        self.0.update(b"\n");
    }

    pub(super) fn finish(self) -> ContentDigest {
        ContentDigest(sha256_bytes(&self.0.finish()))
    }
}

/// A SHA-256 digest as an array.
pub(super) fn sha256_bytes(digest: &Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
