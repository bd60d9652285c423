//! The object that a Version's spec describes: source, location and content; and the open requests for a full sync. Pure.

use std::sync::Arc;

use super::check::InvalidConfig;
use super::requests::PendingForce;
use super::state::{StoredLocation, VersionState};
use super::{MODULE_REQUEST, ModuleConfig, REQUESTED_AT};
use crate::domain::object_key::derived_file_name;
use crate::domain::{ArchiveFormat, ObjectLocation, Release, Repository};

/// The start of the message about a `fileName` with another format's extension.
pub const MISNAMED: &str = "spec.fileName is";

/// The object that a Version's spec describes, checked.
#[derive(Clone, Debug)]
pub struct Target {
    pub config: Arc<ModuleConfig>,
    pub repository: Repository,
    /// The name of the module in the registry.
    pub module_name: String,
    pub release: Release,
    pub location: ObjectLocation,
    /// The tags to try, in order.
    pub tags: Vec<String>,
    pub requests: Requests,
    /// The digest that the content must have.
    pub expected_digest: Option<Box<str>>,
}

/// Open requests for a full sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `spec.forceSync` is true and not handled at this generation.
    pub force_sync: bool,
    /// The user's annotation, if it is new.
    pub requested_at: Option<String>,
    /// The Module's annotation, if it is new.
    pub module_request: Option<String>,
    /// An earlier request failed transiently.
    pub pending: bool,
}

impl Requests {
    /// Whether a full sync is requested.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    pub fn of(version: &VersionState) -> Self {
        let status = &version.status;
        let new = |key: &str, handled: &Option<Box<str>>| {
            version.annotation(key).filter(|at| handled.as_deref() != Some(at)).map(str::to_owned)
        };
        Self {
            force_sync: version.force_sync && !force_is_handled(version),
            requested_at: new(REQUESTED_AT, &status.last_handled_request),
            module_request: new(MODULE_REQUEST, &status.last_module_request),
            pending: matches!(status.pending_force, Some(PendingForce::Retry(_))),
        }
    }
}

/// Whether the object is stored as the spec requires, according to the status.
pub fn satisfies_spec(version: &VersionState) -> bool {
    Target::of(version).is_ok_and(|target| target.is_satisfied_by(version))
}

/// Whether `spec.forceSync` of this generation was handled, successfully or not, according to the status.
pub fn force_is_handled(version: &VersionState) -> bool {
    version.status.pending_force.is_some_and(|pending| pending.handles(version.generation()))
}

/// Identifies the open request that the force throttle counts, if there is one. A Module's request is counted by the Module.
pub fn throttled_request(version: &VersionState) -> Option<String> {
    let requests = Requests::of(version);
    if requests.module_request.is_some() {
        return None;
    }
    if requests.force_sync {
        return Some(format!("forceSync/{}", version.generation()));
    }
    requests.requested_at.map(|requested| format!("requestedAt/{requested}"))
}

impl Target {
    pub fn of(version: &VersionState) -> Result<Self, InvalidConfig> {
        let invalid = InvalidConfig::Spec;
        if let Some(error) = &version.spec_error {
            return Err(invalid(error.to_string()));
        }
        let release = Release::parse(&version.version).map_err(|e| invalid(format!("spec.version: {e}")))?;
        let config = version.config.as_ref().ok_or_else(|| {
            invalid("spec.moduleConfigRef is missing: write it as in a Module's moduleConfig".into())
        })?;
        let checked = config.check(version.name())?;
        let format = config.file_format;
        if let Some(name) = version.file_name.as_ref().filter(|name| format.conflicts_with(name)) {
            return Err(invalid(format!(
                "{MISNAMED} {name:?}, and moduleConfigRef.fileFormat is {}: Terraform unpacks an object by its \
                 extension. Set a fileName that ends in .{}, or change fileFormat.",
                format.as_str(),
                format.extension()
            )));
        }
        let location = checked.location(&file_name(version, format, &release))?;
        let pinned = version.status.content_digest.clone().filter(|_| config.immutable.unwrap_or(false));
        Ok(Self {
            tags: tags(version, &checked.repository),
            requests: Requests::of(version),
            expected_digest: version.expected_digest.clone().or(pinned),
            module_name: checked.name.to_owned(),
            repository: checked.repository,
            config: Arc::clone(config),
            release,
            location,
        })
    }

    /// The repository as the status records it.
    pub fn source_url(&self) -> String {
        self.repository.to_string()
    }

    pub fn format(&self) -> ArchiveFormat {
        self.config.file_format
    }

    /// The location with another file name.
    ///
    /// # Errors
    /// [`InvalidConfig`] if the key would be invalid.
    pub fn location_named(&self, file_name: &str) -> Result<ObjectLocation, InvalidConfig> {
        self.config.check(&self.module_name)?.location(file_name)
    }

    /// Whether the object is stored at this location, from this repository and with this content, according to the status.
    pub fn is_satisfied_by(&self, version: &VersionState) -> bool {
        let status = &version.status;
        status.synced
            && status.checksum.is_some()
            && status.is_recorded_at(&self.location)
            && self
                .expected_digest
                .as_ref()
                .is_none_or(|wanted| status.content_digest.as_ref() == Some(wanted))
            && status.source.as_ref().is_none_or(|source| source.url.eq_ignore_ascii_case(&self.source_url()))
    }
}

/// The tag that was fetched before comes first. If it is gone, the other spelling may exist.
fn tags(version: &VersionState, repository: &Repository) -> Vec<String> {
    let spellings = Release::tags(&version.version);
    let repository = repository.to_string();
    let known = version.status.source.as_ref().filter(|source| source.url.eq_ignore_ascii_case(&repository));
    let Some(tag) = known.and_then(|source| source.ref_.strip_prefix("refs/tags/")) else {
        return spellings.to_vec();
    };
    let others = spellings.into_iter().filter(|spelling| spelling != tag);
    std::iter::once(tag.to_owned()).chain(others).collect()
}

fn file_name(version: &VersionState, format: ArchiveFormat, release: &Release) -> String {
    let derived = || derived_file_name(version.namespace(), version.name(), release, format);
    version.file_name.as_deref().map_or_else(derived, str::to_owned)
}

/// The location according to the spec, also for a Version whose `fileName` conflicts with its format.
pub fn named_location(version: &VersionState) -> Option<ObjectLocation> {
    let config = version.config.as_ref().filter(|_| version.spec_error.is_none())?;
    let release = Release::parse(&version.version).ok()?;
    let checked = config.check(version.name()).ok()?;
    checked.location(&file_name(version, config.file_format, &release)).ok()
}

/// The recorded locations other than `current`. One with the same bucket and key is never among them, whatever its endpoint.
pub fn left_behind(version: &VersionState, current: &ObjectLocation) -> Vec<ObjectLocation> {
    let recorded = version.status.objects().map(StoredLocation::location);
    recorded.filter(|location| !location.is_same_object(current)).collect()
}
