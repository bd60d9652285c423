//! The pruned form of a Version.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::intern::Interner;
use super::status::{MESSAGE, StatusState, StoredLocation};
use super::{RawObject, TEXTS, boxed, flag, retains, text};
use crate::api::version::{TYPE_MODULE, VersionSpec};
use crate::api::{
    ADOPT, FINALIZER, GROUP, MODULE_REQUEST, ModuleConfig, ORIGINAL_FINALIZER, REQUESTED_AT, S3Config,
    Version,
};
use crate::domain::text::cut;
use crate::domain::{ObjectLocation, Release, canonical_endpoint, hash_of};

/// A Version as the watch cache keeps it, and as a reconcile decides on it.
#[derive(Resource, Clone, Debug, Default)]
#[resource(inherit = "Version")]
#[expect(clippy::struct_excessive_bools, reason = "they mirror flags of the object")]
pub struct VersionState {
    /// Name, namespace, UID, resourceVersion, generation and timestamps only.
    pub metadata: ObjectMeta,
    /// Whether our finalizer is set.
    pub has_finalizer: bool,
    /// Whether the finalizer of the original OpenDepot is set.
    pub is_original: bool,
    /// The owner reference with `controller: true`, of whatever kind.
    controller: Option<Arc<Controller>>,
    adopt: Option<Box<str>>,
    requested_at: Option<Box<str>>,
    module_request: Option<Box<str>>,
    /// Who created it, according to its labels.
    pub origin: Origin,
    pub type_: Arc<str>,
    /// `spec.version`, as written.
    pub version: Box<str>,
    /// `spec.fileName`.
    pub file_name: Option<Box<str>>,
    pub force_sync: bool,
    pub suspend: bool,
    pub module_suspended: bool,
    pub expected_digest: Option<Box<str>>,
    /// `spec.moduleConfigRef`; `None` if it is missing or cannot be read.
    pub config: Option<Arc<ModuleConfig>>,
    /// Whether `deletionPolicy` is Retain, read on its own.
    pub retain: bool,
    /// Whether it is `immutable`, read on its own.
    pub immutable: bool,
    /// The parser's message if the spec as a whole cannot be read.
    pub spec_error: Option<Box<str>>,
    pub status: StatusState,
}

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Controller {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Who created a Version, according to its labels. Labels survive a restore, and are copied along with an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    User,
    /// A Module of its namespace.
    Here,
    /// A Module of another namespace.
    Elsewhere,
}

impl VersionState {
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// One of the three annotations that are kept: `adopt`, `requestedAt` and `module-request`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        match key {
            ADOPT => self.adopt.as_deref(),
            REQUESTED_AT => self.requested_at.as_deref(),
            MODULE_REQUEST => self.module_request.as_deref(),
            _ => None,
        }
    }

    /// Whether the user or the Module has suspended it.
    pub fn is_suspended(&self) -> bool {
        self.suspend || self.module_suspended
    }

    /// Whether the expected digest of its content is known.
    pub fn knows_digest(&self) -> bool {
        self.expected_digest.is_some() || self.status.content_digest.is_some()
    }

    /// Whether its status records an object, stored or about to be.
    pub fn records_object(&self) -> bool {
        self.status.storage.is_some() || self.status.objects().next().is_some()
    }

    /// Its controller, of whatever kind.
    pub fn controller(&self) -> Option<&Controller> {
        self.controller.as_deref()
    }

    /// The Module that controls it, if one does.
    pub fn module(&self) -> Option<&Controller> {
        let of_us = |c: &&Controller| c.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP);
        self.controller().filter(of_us).filter(|controller| controller.kind == "Module")
    }

    /// The name of the Module that made it and no longer controls it, if one did: `--cascade=orphan` removes the owner reference.
    pub fn former_module(&self) -> Option<&str> {
        let is_left = self.controller.is_none() && self.origin == Origin::Here;
        self.annotation(ADOPT).filter(|_| is_left)
    }

    /// The Secret that fetches use, if there is one.
    pub fn secret(&self) -> Option<&str> {
        self.config.as_deref()?.secret()
    }

    /// The repository, however the configuration spells it. Versions of one repository share fetch permits.
    pub fn repository_key(&self) -> String {
        self.config.as_ref().and_then(|config| config.canonical_repository()).unwrap_or_default()
    }

    /// Whether this configuration leads to the same bytes at the same location, the file name apart.
    pub fn has_placement_of(&self, config: &ModuleConfig) -> bool {
        self.config.as_ref().is_some_and(|own| own.placement() == config.placement())
    }

    /// Whether this is a Version of a module, and of this release.
    pub fn is_release(&self, release: &Release) -> bool {
        *self.type_ == *TYPE_MODULE && Release::parse(&self.version).is_ok_and(|own| own == *release)
    }

    /// Whether a Module with this configuration may adopt it. The operator writes the annotation `adopt` too, and it survives the
    /// Module: a new Module of that name may be another one.
    pub fn is_adoptable(&self, config: &ModuleConfig) -> bool {
        let fits = self.origin == Origin::Here && self.file_name.is_some() && self.has_placement_of(config);
        self.origin == Origin::User || fits
    }

    /// A hash of the bucket and its canonical endpoint. Versions of one store share permits.
    pub fn store_key(&self) -> u64 {
        let storage = self.config.as_ref().and_then(|config| config.storage_config.as_ref());
        let s3 = storage.and_then(|storage| storage.s3.as_ref());
        let endpoint = |s3: &S3Config| canonical_endpoint(s3.endpoint.as_deref(), &s3.region);
        hash_of(s3.map(|s3| (&s3.bucket, endpoint(s3))))
    }

    /// The same of the store in which its object is recorded.
    pub fn recorded_store_key(&self) -> u64 {
        let stored = self.status.storage.as_ref().map(StoredLocation::location);
        let endpoint = |at: &ObjectLocation| canonical_endpoint(at.endpoint.as_deref(), &at.region);
        hash_of(stored.as_ref().map(|stored| (&stored.bucket, endpoint(stored))))
    }

    /// Whether `status.observedGeneration` is the current generation.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation.is_some()
            && self.status.observed_generation == self.metadata.generation
    }
}

impl<'de> Deserialize<'de> for VersionState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawObject { metadata, mut spec, status } = RawObject::deserialize(deserializer)?;
        let config = spec.get("moduleConfigRef").unwrap_or(&Value::Null);
        let (retain, immutable) = (retains(config), flag(config, "immutable"));
        let config = shared_config(config);
        if let (Some(spec), true) = (spec.as_object_mut(), config.is_some()) {
            // It was parsed above, so the check below need not parse it again.
            spec.remove("moduleConfigRef");
        }
        Ok(Self {
            has_finalizer: metadata.has_finalizer(FINALIZER),
            is_original: metadata.has_finalizer(ORIGINAL_FINALIZER),
            controller: metadata.controller(),
            adopt: metadata.annotation(ADOPT),
            requested_at: metadata.annotation(REQUESTED_AT),
            module_request: metadata.annotation(MODULE_REQUEST),
            origin: metadata.origin(),
            type_: TEXTS.text(text(&spec, "type").unwrap_or_default()),
            version: boxed(&spec, "version").unwrap_or_default(),
            file_name: boxed(&spec, "fileName"),
            force_sync: flag(&spec, "forceSync"),
            suspend: flag(&spec, "suspend"),
            module_suspended: flag(&spec, "moduleSuspended"),
            expected_digest: boxed(&spec, "expectedDigest"),
            config,
            retain,
            immutable,
            spec_error: spec_error(spec),
            status: StatusState::from(&status),
            metadata: metadata.pruned(),
        })
    }
}

fn shared_config(config: &Value) -> Option<Arc<ModuleConfig>> {
    static CONFIGS: Interner<ModuleConfig> = Interner::new();
    ModuleConfig::deserialize(config).ok().map(|parsed| CONFIGS.value(parsed))
}

fn spec_error(spec: Value) -> Option<Box<str>> {
    let spec = if spec.is_null() { Value::Object(serde_json::Map::new()) } else { spec };
    let error = serde_json::from_value::<VersionSpec>(spec).err()?;
    Some(cut(&format!("spec cannot be read: {error}"), MESSAGE).into())
}
