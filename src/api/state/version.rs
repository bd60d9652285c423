//! The pruned form of a Version, and the questions that decisions ask of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::intern::Interner;
use super::{RawObject, boxed, condition, flag, is_true, retains, shared_text, text};
use crate::api::requests::PendingForce;
use crate::api::version::VersionSpec;
use crate::api::{
    ADOPT, FINALIZER, GROUP, MODULE_REQUEST, ModuleConfig, ORIGINAL_FINALIZER, REQUESTED_AT, S3Config,
    requests,
};
use crate::domain::text::cut;
use crate::domain::{ObjectLocation, canonical_endpoint};

/// The longest part of a condition's message that is kept, in bytes: a Module repeats it, and a rate limit's end is read from
/// it after a restart.
const MESSAGE: usize = 240;
/// The longest reason that is kept, in bytes; ours are shorter, and a status is written by whoever may.
const REASON: usize = 64;

/// A Version as the watch cache keeps it, and as a reconcile decides on it.
#[derive(Clone, Debug, Default)]
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
    /// `spec.type`.
    pub type_: Arc<str>,
    /// `spec.version`, as written.
    pub version: Box<str>,
    /// `spec.fileName`.
    pub file_name: Option<Box<str>>,
    /// `spec.forceSync`.
    pub force_sync: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.moduleSuspended`.
    pub module_suspended: bool,
    /// `spec.expectedDigest`.
    pub expected_digest: Option<Box<str>>,
    /// `spec.moduleConfigRef`; `None` where it is missing or cannot be read.
    pub config: Option<Arc<ModuleConfig>>,
    /// Whether `deletionPolicy` is Retain, read on its own.
    pub retain: bool,
    /// Whether it is `immutable`, read on its own.
    pub immutable: bool,
    /// The parser's message where the spec as a whole cannot be read.
    pub spec_error: Option<Box<str>>,
    /// The status.
    pub status: StatusState,
}

/// The status of a Version.
#[derive(Clone, Debug, Default)]
pub struct StatusState {
    /// `observedGeneration`.
    pub observed_generation: Option<i64>,
    /// `synced`.
    pub synced: bool,
    /// `Ready`; `None` before the first reconcile ended.
    pub ready: Option<ConditionState>,
    /// `Reconciling`.
    pub reconciling: Option<ConditionState>,
    /// `Stalled`.
    pub stalled: Option<ConditionState>,
    /// The beginning of `Ready`'s message, where it is not True.
    pub message: Box<str>,
    /// `checksum`.
    pub checksum: Option<Box<str>>,
    /// `contentDigest`.
    pub content_digest: Option<Box<str>>,
    /// `archiveSizeBytes`.
    pub archive_size_bytes: Option<i64>,
    /// `source`.
    pub source: Option<SourceState>,
    /// `storage`.
    pub storage: Option<StoredLocation>,
    /// The entries of `objects` that differ from `storage`.
    other_objects: Box<[StoredLocation]>,
    /// Whether `objects` has an entry that equals `storage`.
    storage_is_listed: bool,
    /// `lastSyncTime`.
    pub last_sync_time: Option<Timestamp>,
    /// `lastHandledRequest`, shortened.
    pub last_handled_request: Option<Box<str>>,
    /// `lastModuleRequest`, shortened.
    pub last_module_request: Option<Box<str>>,
    /// `pendingForce`.
    pub pending_force: Option<PendingForce>,
}

/// A condition without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Whether its status is True.
    pub is_true: bool,
    /// Its reason.
    pub reason: Arc<str>,
    /// When its status last changed.
    pub since: Option<Timestamp>,
}

/// `status.source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// The repository.
    pub url: Arc<str>,
    /// The ref that was fetched.
    pub ref_: Box<str>,
    /// The commit.
    pub commit: Option<Box<str>>,
}

/// A location whose store is shared with all objects in the same store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLocation {
    /// The location without its key.
    store: Arc<ObjectLocation>,
    key: Box<str>,
}

/// The controller of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Who created a Version, according to its labels. Labels survive a restore, and are copied along with an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A user.
    #[default]
    User,
    /// A Module of its namespace.
    Here,
    /// A Module of another namespace.
    Elsewhere,
}

impl VersionState {
    /// `metadata.generation`.
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

    /// Whether it is being deleted.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether the user or the Module has suspended it.
    pub fn is_suspended(&self) -> bool {
        self.suspend || self.module_suspended
    }

    /// Whether the expected digest of its content is known.
    pub fn knows_digest(&self) -> bool {
        self.expected_digest.is_some() || self.status.content_digest.is_some()
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

    /// The repository, however the configuration spells it. Versions of one repository share fetch permits.
    pub fn repository_key(&self) -> String {
        self.config.as_ref().and_then(|config| config.canonical_repository()).unwrap_or_default()
    }

    /// Whether this configuration leads to the same bytes at the same location, the file name apart.
    pub fn has_placement_of(&self, config: &ModuleConfig) -> bool {
        self.config.as_ref().is_some_and(|own| own.placement() == config.placement())
    }

    /// A hash of the bucket and its canonical endpoint. Versions of one store share permits.
    pub fn store_key(&self) -> u64 {
        let storage = self.config.as_ref().and_then(|config| config.storage_config.as_ref());
        let s3 = storage.and_then(|storage| storage.s3.as_ref());
        let endpoint = |s3: &S3Config| canonical_endpoint(s3.endpoint.as_deref(), &s3.region);
        let mut hasher = DefaultHasher::new();
        s3.map(|s3| (&s3.bucket, endpoint(s3))).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether `status.observedGeneration` is the current generation.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation.is_some()
            && self.status.observed_generation == self.metadata.generation
    }
}

impl StatusState {
    /// Whether `Ready` is True; `None` before the first reconcile ended.
    pub fn is_ready(&self) -> Option<bool> {
        self.ready.as_ref().map(|ready| ready.is_true)
    }

    /// `Ready`'s reason; empty before the first reconcile ended.
    pub fn reason(&self) -> &str {
        self.ready.as_ref().map(|ready| &*ready.reason).unwrap_or_default()
    }

    /// Whether `Stalled` is True.
    pub fn is_stalled(&self) -> bool {
        self.stalled.as_ref().is_some_and(|stalled| stalled.is_true)
    }

    /// Whether the object is recorded with this bucket and key, however its endpoint is spelled.
    pub fn is_stored_as(&self, location: &ObjectLocation) -> bool {
        self.storage.as_ref().is_some_and(|stored| stored.location().same_object(location))
    }

    /// Whether the object is recorded at just this location, the endpoint counted, in its canonical form: another store may
    /// hold a foreign object under the same key.
    pub fn is_recorded_at(&self, location: &ObjectLocation) -> bool {
        self.storage.as_ref().is_some_and(|stored| stored.location().is_same(location))
    }

    /// The entries of `objects`: every location where an object of this Version may exist.
    pub fn objects(&self) -> impl Iterator<Item = &StoredLocation> {
        self.storage.as_ref().filter(|_| self.storage_is_listed).into_iter().chain(&self.other_objects)
    }
}

impl StoredLocation {
    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The full location.
    pub fn location(&self) -> ObjectLocation {
        ObjectLocation { key: self.key.clone().into(), ..(*self.store).clone() }
    }
}

impl From<&ObjectLocation> for StoredLocation {
    fn from(location: &ObjectLocation) -> Self {
        static STORES: Interner<ObjectLocation> = Interner::new();
        let store = ObjectLocation { key: String::new(), ..location.clone() };
        Self { key: location.key.as_str().into(), store: STORES.value(store.clone(), store) }
    }
}

impl<'de> Deserialize<'de> for VersionState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawObject { metadata, mut spec, status } = RawObject::deserialize(deserializer)?;
        let config = spec.get("moduleConfigRef").unwrap_or(&Value::Null);
        let (retain, immutable) = (retains(config), flag(config, "immutable"));
        let config = shared_config(config);
        if let (Some(spec), true) = (spec.as_object_mut(), config.is_some()) {
            // It can be read: the check below need not build it once more.
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
            type_: shared_text(text(&spec, "type").unwrap_or_default()),
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
    let parsed = ModuleConfig::deserialize(config).ok()?;
    // Fields serialise in one order, so equal configurations have equal text.
    let key = serde_json::to_string(&parsed).unwrap_or_default();
    Some(CONFIGS.value(key, parsed))
}

fn spec_error(spec: Value) -> Option<Box<str>> {
    let spec = if spec.is_null() { Value::Object(serde_json::Map::new()) } else { spec };
    let error = serde_json::from_value::<VersionSpec>(spec).err()?;
    Some(cut(&format!("spec cannot be read: {error}"), MESSAGE).into())
}

impl From<&Value> for StatusState {
    fn from(status: &Value) -> Self {
        let ready = condition_state(status, "Ready");
        let location =
            |value: &Value| ObjectLocation::deserialize(value).ok().map(|location| (&location).into());
        let storage: Option<StoredLocation> = status.get("storage").and_then(location);
        let objects = status.get("objects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let objects: Vec<StoredLocation> = objects.iter().filter_map(location).collect();
        let storage_is_listed = storage.as_ref().is_some_and(|storage| objects.contains(storage));
        let message = text(condition(status, "Ready"), "message");
        let recorded = |field| text(status, field).map(|recorded| requests::shorten(recorded).into());
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
            synced: flag(status, "synced"),
            message: message
                .filter(|_| ready.as_ref().is_some_and(|ready| !ready.is_true))
                .map(|message| cut(message, MESSAGE).into())
                .unwrap_or_default(),
            ready,
            reconciling: condition_state(status, "Reconciling"),
            stalled: condition_state(status, "Stalled"),
            checksum: boxed(status, "checksum"),
            content_digest: boxed(status, "contentDigest"),
            archive_size_bytes: status.get("archiveSizeBytes").and_then(Value::as_i64),
            source: status.get("source").and_then(source_state),
            other_objects: objects.into_iter().filter(|object| Some(object) != storage.as_ref()).collect(),
            storage,
            storage_is_listed,
            last_sync_time: text(status, "lastSyncTime").and_then(|time| time.parse().ok()),
            last_handled_request: recorded("lastHandledRequest"),
            last_module_request: recorded("lastModuleRequest"),
            pending_force: PendingForce::parse(text(status, "pendingForce")),
        }
    }
}

fn condition_state(status: &Value, type_: &str) -> Option<ConditionState> {
    let condition = condition(status, type_);
    Some(ConditionState {
        is_true: is_true(condition)?,
        reason: shared_text(&cut(text(condition, "reason").unwrap_or_default(), REASON)),
        since: text(condition, "lastTransitionTime").and_then(|time| time.parse().ok()),
    })
}

fn source_state(source: &Value) -> Option<SourceState> {
    Some(SourceState {
        url: shared_text(text(source, "url")?),
        ref_: boxed(source, "ref").unwrap_or_default(),
        commit: boxed(source, "commit"),
    })
}
