//! The answer to `/versions`: its bytes are made when a module changes, not for each request.

use std::sync::Arc;

use serde::Serialize;

use super::detail::Notice;
use super::encoded::{Encodings, encoded};
use crate::registry::index::served::ServedVersion;

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
    deprecation: Option<Notice<'a>>,
}

/// The answer for these versions, in their order, without withdrawn ones. `None` if nothing is left: the clients report an
/// empty list as a fault of the registry, and a 404 as a missing module. One that equals `before` is not made again, since
/// compression of a long one takes milliseconds.
pub(crate) fn listing(versions: &[ServedVersion], before: Option<&Arc<Encodings>>) -> Option<Arc<Encodings>> {
    let listed: Vec<&ServedVersion> = versions.iter().filter(|version| version.withdrawn.is_none()).collect();
    let first = listed.first()?;
    let entries = listed.iter().map(|version| Version {
        version: version.release.to_string(),
        deprecation: version.deprecated.as_deref().map(|reason| Notice { reason }),
    });
    let module = Module { source: first.source.as_deref(), versions: entries.collect() };
    let text = serde_json::to_vec(&Body { modules: [module] }).ok()?;
    let same = before.filter(|before| before.plain.body == text).map(Arc::clone);
    Some(same.unwrap_or_else(|| Arc::new(encoded(text))))
}
