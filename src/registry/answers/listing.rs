//! The answer to `/versions`: its bytes are made when a module changes, not for each request.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use crate::domain::text::hex;
use crate::registry::index::ServedVersion;

/// The body in both encodings, each with its entity tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
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

#[derive(Serialize)]
struct Body<'a> {
    modules: [Module<'a>; 1],
}

#[derive(Serialize)]
struct Module<'a> {
    /// The repository, from which Renovate reads release notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    versions: Vec<Version<'a>>,
}

#[derive(Serialize)]
struct Version<'a> {
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<Deprecation<'a>>,
}

#[derive(Serialize)]
struct Deprecation<'a> {
    reason: &'a str,
}

/// The answer for these versions, in their order, without withdrawn ones. `None` if nothing is left: the clients report an
/// empty list as a fault of the registry, and a 404 as a missing module.
pub fn listing(versions: &[ServedVersion]) -> Option<Listing> {
    let listed: Vec<&ServedVersion> = versions.iter().filter(|version| version.withdrawn.is_none()).collect();
    let first = listed.first()?;
    let entries = listed.iter().map(|version| Version {
        version: version.release.to_string(),
        deprecation: version.deprecated.as_deref().map(|reason| Deprecation { reason }),
    });
    let module = Module { source: first.source.as_deref(), versions: entries.collect() };
    let text = serde_json::to_vec(&Body { modules: [module] }).ok()?;
    Some(encoded(text))
}

/// A body in both encodings.
pub fn encoded(text: Vec<u8>) -> Listing {
    let hash = hex(&digest(&SHA256, &text).as_ref()[..16]);
    let mut compressed = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory cannot fail.
    let gzip = compressed.write_all(&text).and_then(|()| compressed.finish()).unwrap_or_default();
    Listing {
        plain: Encoded { body: text.into(), etag: format!("\"{hash}\"") },
        gzip: Encoded { body: gzip.into(), etag: format!("\"{hash}-gzip\"") },
    }
}
