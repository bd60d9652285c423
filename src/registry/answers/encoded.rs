//! Bodies in both encodings that clients accept.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::domain::text::hex;

/// The body in both encodings, each with its entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encodings {
    /// The JSON text.
    pub plain: Encoded,
    /// The same, compressed.
    pub gzip: Encoded,
}

/// A body and its strong entity tag. Each encoding has its own (RFC 9110, 8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bytes.
    pub body: Bytes,
    /// The entity tag, with quotes.
    pub etag: String,
}

/// A body in both encodings.
pub(crate) fn encoded(text: Vec<u8>) -> Encodings {
    let hash = hex(&digest(&SHA256, &text).as_ref()[..16]);
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let gzip = compressed.write_all(&text).and_then(|()| compressed.finish()).unwrap_or_default();
    Encodings {
        plain: Encoded { body: text.into(), etag: format!("\"{hash}\"") },
        gzip: Encoded { body: gzip.into(), etag: format!("\"{hash}-gzip\"") },
    }
}
