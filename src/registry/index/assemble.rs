//! From Modules and Versions to what is served. Pure.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::served::{ServedModule, ServedVersion, StoredVersion};
use crate::api::object_name::version_object;
use crate::api::state::{ModuleListing, VersionState};
use crate::api::version::TYPE_MODULE;
use crate::domain::names::{is_bucket_name, is_region};
use crate::domain::object_key::checked_path;
use crate::domain::{ArchiveFormat, ObjectLocation, Release};
use crate::registry::answers::encoded::Encodings;
use crate::registry::answers::listing::listing;
use crate::registry::archive::Archive;
use crate::storage::StorageRules;

impl StoredVersion {
    /// What can be served of a Version: it has our finalizer and a stored archive at a permitted location. Its controller must
    /// be a Module, and its name the one that the Module controller gives: [`serve`] and the fold check that.
    pub(super) fn of(version: &VersionState, rules: &StorageRules) -> Option<Self> {
        let status = &version.status;
        let usable = version.type_.as_ref() == TYPE_MODULE
            && version.has_finalizer
            && !version.is_terminating()
            && status.synced;
        let release = Release::parse(&version.version).ok();
        let release = release.filter(|release| usable && release.fits_clients())?;
        let stored = status.storage.clone()?;
        let location = stored.location();
        if !is_permitted(rules, version.namespace(), &location) {
            return None;
        }
        let sha256 = STANDARD.decode(status.checksum.as_deref()?).ok()?.try_into().ok()?;
        let size = u64::try_from(status.archive_size_bytes?).ok()?;
        let source = status.source.as_ref();
        let not_ready = status.ready.as_ref().filter(|ready| !ready.is_true);
        Some(Self {
            release,
            recorded_format: ArchiveFormat::of_file_name(&location.key)
                .or_else(|| version.config.as_ref().map(|config| config.file_format)),
            archive: Archive { location: stored, sha256, size },
            source: source.map(|source| source.url.clone()),
            tag: source.map(|source| source.ref_.clone()).filter(|tag| !tag.is_empty()),
            commit: source.and_then(|source| source.commit.clone()),
            published: version.metadata.creation_timestamp.as_ref().map(|time| time.0),
            problem: not_ready.map(|ready| Arc::clone(&ready.reason)),
        })
    }
}

/// Whether the registry may read there. Any client with the right writes statuses, and the registry signs what it names.
fn is_permitted(rules: &StorageRules, namespace: &str, location: &ObjectLocation) -> bool {
    is_bucket_name(&location.bucket)
        && is_region(&location.region)
        && checked_path("key", &location.key).is_ok()
        && rules.check(namespace, location).is_ok()
}

/// The served form of a Module, whose answer to `/versions` was `before`; `None` unless it holds the address that it claims.
pub(super) fn serve<'a>(
    module: &ModuleListing,
    versions: impl Iterator<Item = (&'a str, &'a Arc<StoredVersion>)>,
    before: Option<&Arc<Encodings>>,
) -> Option<ServedModule> {
    let address = module.address()?;
    let mut served: Vec<ServedVersion> =
        versions.filter_map(|(name, version)| served_version(module, name, version)).collect();
    served.sort_by(|a, b| b.release.precedence(&a.release));
    let is_stored =
        |release: &Release| served.binary_search_by(|version| release.precedence(&version.release)).is_ok();
    let withdrawn = module.versions.iter().rev().filter(|listed| !is_stored(&listed.release));
    Some(ServedModule {
        withdrawn: withdrawn
            .filter_map(|listed| Some((listed.release.clone(), listed.withdrawn.clone()?)))
            .collect(),
        is_all_withdrawn: module.versions.iter().all(|listed| listed.withdrawn.is_some()),
        listing: listing(&served, before),
        versions: served.into(),
        object: module.name().into(),
        address: address.clone(),
    })
}

fn served_version(module: &ModuleListing, name: &str, version: &Arc<StoredVersion>) -> Option<ServedVersion> {
    let listed = module.listed(&version.release)?;
    // A forged Version of another name could otherwise serve its own archive under a listed version.
    if name != version_object(module.name(), &version.release) {
        return None;
    }
    Some(ServedVersion {
        format: version.recorded_format.unwrap_or(module.format),
        deprecated: listed.deprecated.clone(),
        withdrawn: listed.withdrawn.clone(),
        stored: Arc::clone(version),
    })
}
