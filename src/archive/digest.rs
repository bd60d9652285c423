//! Digest of a tree of files, as Go's module tools calculate it (`h1:`, dirhash's Hash1).
//!
//! It depends on names and contents, not on modes, times or the archive's format.

use std::fmt;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::text::hex;

/// Digest of a module's files, whatever archive they came in. Displays as `h1:` and the base64 of 32 bytes, and equals what
/// Go's `dirhash.HashDir(folder, "", dirhash.Hash1)` returns for the unpacked files.
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

    /// Adds the next file. Paths are in bytewise order and contain no newline.
    pub(super) fn add(&mut self, path: &[u8], sha256: &Digest) {
        for part in [hex(sha256.as_ref()).as_bytes(), b"  ", path, b"\n"] {
            self.0.update(part);
        }
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
