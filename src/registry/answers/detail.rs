//! The JSON of a module or of one of its versions, in the form of the public registry's API. Dependabot reads `source`, of
//! a module without a version.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::registry::index::served::{ServedModule, ServedVersion};

#[derive(Serialize)]
struct Detail<'a> {
    id: String,
    namespace: &'a str,
    name: &'a str,
    provider: &'a str,
    version: String,
    /// Null if it is not known: clients may fail where the key is missing.
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    /// SHA-256 of the archive, in base64 as in `status.checksum`.
    checksum: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<Notice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawal: Option<Notice<'a>>,
    /// The listed versions, in descending order.
    versions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withdrawn: Vec<Withdrawn<'a>>,
}

/// Why a version is deprecated or withdrawn.
#[derive(Serialize)]
pub(super) struct Notice<'a> {
    pub reason: &'a str,
}

#[derive(Serialize)]
struct Withdrawn<'a> {
    version: String,
    reason: &'a str,
}

/// The JSON of a version of a module.
pub(crate) fn detail(module: &ServedModule, version: &ServedVersion) -> Vec<u8> {
    let address = &module.address;
    let stored =
        module.versions.iter().filter_map(|version| Some((&version.release, version.withdrawn.as_deref()?)));
    let missing = module.withdrawn.iter().map(|(release, reason)| (release, &**reason));
    let detail = Detail {
        id: format!("{address}/{}", version.release),
        namespace: &address.namespace,
        name: &address.name,
        provider: &address.system,
        version: version.release.to_string(),
        source: version.source.as_deref(),
        tag: version.tag.as_deref(),
        commit: version.commit.as_deref(),
        published_at: version.published.map(|time| time.to_string()),
        checksum: STANDARD.encode(version.archive.sha256),
        size: version.archive.size,
        deprecation: version
            .deprecated
            .as_deref()
            .filter(|_| version.withdrawn.is_none())
            .map(|reason| Notice { reason }),
        withdrawal: version.withdrawn.as_deref().map(|reason| Notice { reason }),
        versions: module.listed().map(|version| version.release.to_string()).collect(),
        withdrawn: stored
            .chain(missing)
            .map(|(release, reason)| Withdrawn { version: release.to_string(), reason })
            .collect(),
    };
    serde_json::to_vec(&detail).unwrap_or_default()
}
