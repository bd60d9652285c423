//! A served module and its versions, made from a Module and the Versions that it owns. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::api::object_name::version_object;
use crate::api::state::{ModuleListing, VersionState};
use crate::api::version::TYPE_MODULE;
use crate::domain::names::{is_bucket_name, is_region};
use crate::domain::object_key::plain;
use crate::domain::{Address, ArchiveFormat, ObjectLocation, Release};
use crate::registry::answers::listing::{Listing, listing};
use crate::registry::archive::Archive;
use crate::storage::StorageRules;

/// A module as the registry answers for it.
#[derive(Clone, Debug)]
pub struct ServedModule {
    /// Its address, with the namespace's own name.
    pub address: Address,
    /// `metadata.name`, the name in the access review.
    pub object: Box<str>,
    /// The versions with an archive, withdrawn ones included, in descending order of precedence.
    pub versions: Box<[ServedVersion]>,
    /// Withdrawn versions whose archive is not stored.
    pub withdrawn: Box<[(Release, Box<str>)]>,
    /// The answer to `/versions`; `None` if there is no version to list.
    pub listing: Option<Listing>,
}

/// A version whose archive is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// The version, as it is spelled in answers.
    pub release: Release,
    /// The archive.
    pub archive: Archive,
    /// The format of the archive.
    pub format: ArchiveFormat,
    /// Why consumers should move on.
    pub deprecated: Option<Box<str>>,
    /// Why it is not listed.
    pub withdrawn: Option<Box<str>>,
    /// The repository, without `.git`.
    pub source: Option<std::sync::Arc<str>>,
    /// The tag that was fetched.
    pub tag: Option<Box<str>>,
    /// The commit.
    pub commit: Option<Box<str>>,
    /// When its Version object was created.
    pub published: Option<Timestamp>,
}

/// What the registry keeps of a Version that its Module owns.
#[derive(Clone, Debug)]
pub struct StoredVersion {
    /// UID of its controlling Module.
    pub owner: Box<str>,
    release: Release,
    archive: Archive,
    format: Option<ArchiveFormat>,
    source: Option<std::sync::Arc<str>>,
    tag: Option<Box<str>>,
    commit: Option<Box<str>>,
    published: Option<Timestamp>,
}

impl StoredVersion {
    /// What can be served of a Version: it is controlled by a Module, has our finalizer and a stored archive at a permitted
    /// location. Its name must be the one that the Module controller gives, which [`serve`] checks.
    pub fn of(version: &VersionState, rules: &StorageRules) -> Option<Self> {
        let status = &version.status;
        let usable = version.type_.as_ref() == TYPE_MODULE
            && version.has_finalizer
            && !version.is_terminating()
            && status.synced;
        let owner = version.module().filter(|_| usable)?.uid.as_str().into();
        let release = Release::parse(&version.version).ok().filter(Release::fits_clients)?;
        let location = status.storage.clone()?;
        let place = location.location();
        if !is_permitted(rules, version.namespace(), &place) {
            return None;
        }
        let sha256 = STANDARD.decode(status.checksum.as_deref()?).ok()?.try_into().ok()?;
        let size = u64::try_from(status.archive_size_bytes?).ok()?;
        let source = status.source.as_ref();
        Some(Self {
            owner,
            release,
            format: format_of(&place.key)
                .or_else(|| version.config.as_ref().map(|config| config.file_format)),
            archive: Archive { location, sha256, size },
            source: source.map(|source| source.url.clone()),
            tag: source.map(|source| source.ref_.clone()).filter(|tag| !tag.is_empty()),
            commit: source.and_then(|source| source.commit.clone()),
            published: version.metadata.creation_timestamp.as_ref().map(|time| time.0),
        })
    }
}

/// Whether the registry may read there. A status is written by whoever may, and the registry signs what it names.
fn is_permitted(rules: &StorageRules, namespace: &str, place: &ObjectLocation) -> bool {
    is_bucket_name(&place.bucket)
        && is_region(&place.region)
        && plain("key", &place.key).is_ok()
        && rules.check(namespace, place).is_ok()
}

/// The format that a key's extension says.
fn format_of(key: &str) -> Option<ArchiveFormat> {
    let (stem, extension) = key.rsplit_once('.')?;
    match extension.to_ascii_lowercase().as_str() {
        "zip" => Some(ArchiveFormat::Zip),
        "tgz" => Some(ArchiveFormat::Tar),
        "gz" if stem.to_ascii_lowercase().ends_with(".tar") => Some(ArchiveFormat::Tar),
        _ => None,
    }
}

/// The served form of a Module; `None` unless it holds the address that it claims.
pub fn serve<'a>(
    module: &ModuleListing,
    versions: impl Iterator<Item = (&'a str, &'a StoredVersion)>,
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
        listing: listing(&served),
        versions: served.into(),
        object: module.name().into(),
        address: address.clone(),
    })
}

fn served_version(module: &ModuleListing, name: &str, version: &StoredVersion) -> Option<ServedVersion> {
    let listed = module.listed(&version.release)?;
    // A forged Version of another name could otherwise serve its own archive under a listed version.
    if name != version_object(module.name(), &version.release) {
        return None;
    }
    Some(ServedVersion {
        release: version.release.clone(),
        archive: version.archive.clone(),
        format: version.format.unwrap_or(module.format),
        deprecated: listed.deprecated.clone(),
        withdrawn: listed.withdrawn.clone(),
        source: version.source.clone(),
        tag: version.tag.clone(),
        commit: version.commit.clone(),
        published: version.published,
    })
}

/// A version that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// It is served.
    Served(&'a ServedVersion),
    /// It is withdrawn, for this reason.
    Withdrawn(&'a str),
}

impl ServedModule {
    /// A version with an archive, withdrawn or not.
    pub fn stored(&self, release: &Release) -> Option<&ServedVersion> {
        let found = self.versions.binary_search_by(|version| release.precedence(&version.release)).ok()?;
        self.versions.get(found)
    }

    /// A version of the list, or why it is withdrawn.
    pub fn version(&self, release: &Release) -> Option<Asked<'_>> {
        match self.stored(release) {
            Some(ServedVersion { withdrawn: Some(reason), .. }) => Some(Asked::Withdrawn(reason)),
            Some(version) => Some(Asked::Served(version)),
            None => {
                let found = self.withdrawn.iter().find(|(withdrawn, _)| withdrawn == release)?;
                Some(Asked::Withdrawn(&found.1))
            }
        }
    }

    /// The versions that are listed.
    pub fn listed(&self) -> impl Iterator<Item = &ServedVersion> {
        self.versions.iter().filter(|version| version.withdrawn.is_none())
    }

    /// The highest release that is listed; a pre-release only if there is no other.
    pub fn latest(&self) -> Option<&ServedVersion> {
        self.listed().find(|version| !version.release.is_prerelease()).or_else(|| self.listed().next())
    }
}
