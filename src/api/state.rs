//! What the two watches keep of each object: strings and numbers that deciding "is there work?" needs, nothing else.
//!
//! In: the JSON of a Module or Version. Out: a lean copy that never fails to parse, whatever is stored: one odd object
//! must not blind a controller (a typed LIST fails as a whole). Full objects are read when there is work, and a lean one
//! is never written back. 10,000 Versions stay small because `managedFields`, labels and configurations go at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::config::{ModuleConfig, S3Config};
use super::{
    ADOPT, FINALIZER, GROUP, MODULE_LABEL, MODULE_REQUEST, NAMESPACE_LABEL, ORIGINAL_FINALIZER, REQUESTED_AT,
    VERSION, requests,
};
use crate::domain::canonical_endpoint;
use crate::domain::object_key::derived_file_name;
use crate::domain::text::cut;
use crate::domain::{ObjectLocation, Release};

/// Longest part of a condition's message that a Module repeats about one of its Versions.
const MESSAGE: usize = 240;
/// Longest name of a Kubernetes object.
const LONGEST_NAME: usize = 253;

/// A Module as the watch keeps it.
#[derive(Clone, Debug, Default)]
pub struct ModuleState {
    /// Trimmed metadata.
    pub metadata: ObjectMeta,
    /// Whether `Ready` is True; `None` before the first reconcile ended.
    pub ready: Option<bool>,
    /// Whether `Stalled` is True.
    pub stalled: bool,
    /// `Ready`'s reason.
    pub reason: String,
    /// What counts for its Versions.
    pub policy: OwnerPolicy,
}

/// What counts for the Versions of a Module, whether or not the rest of its spec can be read.
#[derive(Clone, Debug, Default)]
pub struct OwnerPolicy {
    /// Whether its `deletionPolicy` is Retain.
    pub retain: bool,
    /// Whether it is `immutable`.
    pub immutable: bool,
    /// Hashes of the versions whose digests are recorded, in order, while it is immutable.
    recorded: Arc<[u64]>,
}

impl OwnerPolicy {
    /// Reads it from `spec.moduleConfig` and the keys of `status.published`.
    pub fn of(config: &Value, published: impl Iterator<Item = String>) -> Self {
        let immutable = flag(config, "immutable");
        let published = published.filter(|_| immutable);
        Self { retain: retains(config), immutable, ..Self::default() }.recording(published)
    }

    /// The same with these versions on record.
    #[must_use]
    pub fn recording(self, published: impl Iterator<Item = String>) -> Self {
        let mut recorded: Vec<u64> = published.map(|version| hash(&version)).collect();
        recorded.sort_unstable();
        Self { recorded: recorded.into(), ..self }
    }

    /// Whether the digest of this version is recorded.
    pub fn records(&self, version: &str) -> bool {
        self.recorded.binary_search(&hash(version)).is_ok()
    }
}

/// A Version as the watch keeps it.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they mirror flags of the spec, each on its own")]
pub struct VersionState {
    /// Trimmed metadata.
    pub metadata: ObjectMeta,
    /// `spec.type`.
    pub type_: String,
    /// `spec.version`, as written.
    pub version: String,
    /// `spec.fileName`.
    pub file_name: Option<String>,
    /// `spec.forceSync`.
    pub force_sync: bool,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.moduleSuspended`.
    pub module_suspended: bool,
    /// `spec.expectedDigest`.
    pub expected_digest: Option<String>,
    /// Hash of the whole of `spec.moduleConfigRef`; 0 when it cannot be read.
    pub config: u64,
    /// Hash of what in it decides the object's bytes or place; 0 when it cannot be read.
    pub placement: u64,
    /// The repository as the configuration names it; Versions of one repository share a lane.
    pub repository: String,
    /// Hash of the bucket and its endpoint; 0 when they cannot be read.
    pub store: u64,
    /// Whether its `deletionPolicy` is Retain.
    pub retain: bool,
    /// Whether it is `immutable`.
    pub immutable: bool,
    /// Who made it, as its labels tell.
    pub origin: Origin,
    /// Whether the status says that the object is stored where, made from what, and of the content that the spec wants now.
    pub stored_as_wanted: bool,
    /// The part of the status that decisions need.
    pub status: LeanStatus,
}

/// A Version's status as the watch keeps it.
#[derive(Clone, Debug, Default)]
pub struct LeanStatus {
    /// `observedGeneration`.
    pub observed_generation: Option<i64>,
    /// `synced`.
    pub synced: bool,
    /// Whether `Ready` is True; `None` before the first reconcile ended.
    pub ready: Option<bool>,
    /// Whether `Stalled` is True.
    pub stalled: bool,
    /// Since when `Stalled` is what it is.
    pub stalled_since: Option<Timestamp>,
    /// `Ready`'s reason.
    pub reason: String,
    /// The beginning of `Ready`'s message.
    pub message: String,
    /// `contentDigest`.
    pub content_digest: Option<String>,
    /// `lastHandledRequest`.
    pub last_handled_request: Option<String>,
    /// `lastModuleRequest`.
    pub last_module_request: Option<String>,
    /// `pendingForce`.
    pub pending_force: Option<String>,
    /// Whether `objects` names a place other than that of `storage`: something a move left behind.
    pub extra_objects: bool,
}

/// Who made a Version, as its labels tell. They come back with a restore, and along with a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// A person.
    #[default]
    User,
    /// A Module of its namespace.
    Here,
    /// A Module of another namespace.
    Elsewhere,
}

fn hash(version: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    hasher.finish()
}

/// The two hashes of a configuration: of all of it, and of what decides an object's bytes or place.
pub fn config_hashes(config: &ModuleConfig) -> (u64, u64) {
    let mut all = DefaultHasher::new();
    // Struct fields serialise in one order, so equal configurations have equal text.
    serde_json::to_string(config).unwrap_or_default().hash(&mut all);
    let mut placement = DefaultHasher::new();
    config.placement().hash(&mut placement);
    (all.finish(), placement.finish())
}

fn store_hash(config: &ModuleConfig) -> u64 {
    let s3 = config.storage_config.as_ref().and_then(|storage| storage.s3.as_ref());
    let mut store = DefaultHasher::new();
    let endpoint = |s3: &S3Config| canonical_endpoint(s3.endpoint.as_deref(), &s3.region);
    s3.map(|s3| (&s3.bucket, endpoint(s3))).hash(&mut store);
    store.finish()
}

impl VersionState {
    /// The value of one of this operator's annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether our finalizer is on it.
    pub fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == FINALIZER))
    }

    /// Whether it is one of the original OpenDepot's.
    pub fn is_original(&self) -> bool {
        self.metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == ORIGINAL_FINALIZER))
    }

    /// Whether it is being deleted.
    pub fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it knows what its content has to be, or was.
    pub fn knows_digest(&self) -> bool {
        self.expected_digest.is_some() || self.status.content_digest.is_some()
    }

    /// Its controller, whoever that is.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.metadata.owner_references.iter().flatten().find(|o| o.controller == Some(true))
    }
}

/// The metadata that is kept. Everything that is not named here is skipped while parsing, never built in memory.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Meta {
    fn origin(&self) -> Origin {
        let label = |key| self.labels.as_ref().and_then(|labels| labels.get(key));
        match (label(MODULE_LABEL), label(NAMESPACE_LABEL)) {
            (None, _) => Origin::User,
            (Some(_), namespace) if namespace == self.namespace.as_ref() => Origin::Here,
            _ => Origin::Elsewhere,
        }
    }
}

impl From<Meta> for ObjectMeta {
    fn from(meta: Meta) -> Self {
        // What is kept has bounds, however large the object is: users choose tokens, owners and finalizers freely.
        let annotations = meta.annotations.map(|mut all| {
            all.retain(|key, value| match key.as_str() {
                REQUESTED_AT | MODULE_REQUEST => true,
                // A longer value names no Module.
                ADOPT => value.len() <= LONGEST_NAME,
                _ => false,
            });
            requests::shorten_annotations(&mut all);
            all
        });
        let finalizers = meta.finalizers.map(|mut all| {
            all.retain(|finalizer| finalizer.starts_with(GROUP));
            all
        });
        let owner_references = meta.owner_references.map(|mut all| {
            all.retain(|owner| owner.controller == Some(true));
            all
        });
        Self {
            name: meta.name,
            namespace: meta.namespace,
            uid: meta.uid,
            resource_version: meta.resource_version,
            generation: meta.generation,
            creation_timestamp: meta.creation_timestamp,
            deletion_timestamp: meta.deletion_timestamp,
            finalizers,
            owner_references,
            annotations: annotations.filter(|a| !a.is_empty()),
            ..Self::default()
        }
    }
}

#[derive(Deserialize)]
struct RawModule {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
struct RawVersion {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl<'de> Deserialize<'de> for ModuleState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawModule { metadata, spec, status } = RawModule::deserialize(deserializer)?;
        let ready = condition(&status, "Ready");
        let config = spec.get("moduleConfig").unwrap_or(&Value::Null);
        let published = status.get("published").and_then(Value::as_object).into_iter();
        Ok(Self {
            metadata: metadata.into(),
            policy: OwnerPolicy::of(config, published.flat_map(|all| all.keys().cloned())),
            ready: holds(ready),
            stalled: holds(condition(&status, "Stalled")).unwrap_or(false),
            reason: text(ready, "reason").unwrap_or_default(),
        })
    }
}

impl<'de> Deserialize<'de> for VersionState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawVersion { metadata, mut spec, status } = RawVersion::deserialize(deserializer)?;
        let config = spec.get_mut("moduleConfigRef").map(Value::take).unwrap_or_default();
        let (retain, immutable) = (retains(&config), flag(&config, "immutable"));
        let repository = text(&config, "repoUrl").or_else(|| text(&config, "repoOwner")).unwrap_or_default();
        let config = serde_json::from_value::<ModuleConfig>(config).ok();
        let file_name = text(&spec, "fileName");
        let name = metadata.name.as_deref().unwrap_or_default();
        let stored_as_wanted = config
            .as_ref()
            .and_then(|config| {
                let derived = || {
                    let release = Release::parse(&text(&spec, "version")?).ok()?;
                    let namespace = metadata.namespace.as_deref().unwrap_or_default();
                    Some(derived_file_name(namespace, name, &release, config.file_format))
                };
                stored_as_wanted(config, name, &file_name.clone().or_else(derived)?, &status)
            })
            .unwrap_or(false);
        let (expected_digest, origin) = (text(&spec, "expectedDigest"), metadata.origin());
        let other = expected_digest.is_some() && expected_digest != text(&status, "contentDigest");
        let store = config.as_ref().map_or(0, store_hash);
        let (config, placement) = config.map_or((0, 0), |config| config_hashes(&config));
        Ok(Self {
            metadata: metadata.into(),
            type_: text(&spec, "type").unwrap_or_default(),
            version: text(&spec, "version").unwrap_or_default(),
            file_name,
            force_sync: flag(&spec, "forceSync"),
            suspend: flag(&spec, "suspend"),
            module_suspended: flag(&spec, "moduleSuspended"),
            expected_digest,
            config,
            placement,
            repository,
            store,
            retain,
            immutable,
            origin,
            stored_as_wanted: stored_as_wanted && !other,
            status: lean_status(&status),
        })
    }
}

/// Whether the `deletionPolicy` of a configuration is Retain, read on its own: a broken spec never blocks a deletion. A word
/// that is no policy keeps the object: nobody has asked for its deletion.
pub fn retains(config: &Value) -> bool {
    match config.get("deletionPolicy") {
        None | Some(Value::Null) => false,
        Some(policy) => policy != "Delete",
    }
}

/// The condition of a type; null where there is none.
fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status.get("conditions").and_then(Value::as_array);
    let of_type = |c: &&Value| c.get("type").and_then(Value::as_str) == Some(type_);
    all.and_then(|all| all.iter().find(of_type)).unwrap_or(&Value::Null)
}

fn holds(condition: &Value) -> Option<bool> {
    Some(condition.get("status")?.as_str()? == "True")
}

fn recorded_token(status: &Value, field: &str) -> Option<String> {
    let recorded = status.get(field).and_then(Value::as_str)?;
    Some(requests::shorten(recorded).into_owned())
}

fn lean_status(status: &Value) -> LeanStatus {
    let (ready, stalled) = (condition(status, "Ready"), condition(status, "Stalled"));
    LeanStatus {
        observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
        synced: flag(status, "synced"),
        ready: holds(ready),
        stalled: holds(stalled).unwrap_or(false),
        stalled_since: text(stalled, "lastTransitionTime").and_then(|time| time.parse().ok()),
        reason: text(ready, "reason").unwrap_or_default(),
        message: cut(&text(ready, "message").unwrap_or_default(), MESSAGE),
        content_digest: text(status, "contentDigest"),
        last_handled_request: recorded_token(status, "lastHandledRequest"),
        last_module_request: recorded_token(status, "lastModuleRequest"),
        pending_force: text(status, "pendingForce"),
        extra_objects: extra_objects(status),
    }
}

/// As the full Version decides it; `None` where something is missing or cannot be read.
fn stored_as_wanted(config: &ModuleConfig, name: &str, file_name: &str, status: &Value) -> Option<bool> {
    let storage: ObjectLocation = serde_json::from_value(status.get("storage")?.clone()).ok()?;
    if config.file_format.conflicts_with(file_name) {
        return None;
    }
    let config = config.check(name).ok()?;
    let place = config.place(file_name).ok()?;
    let source = status.get("source").and_then(|source| text(source, "url"));
    let repository = config.repository.to_string();
    let stored = flag(status, "synced") && text(status, "checksum").is_some() && storage.is_same(&place);
    Some(stored && source.is_none_or(|url| url.eq_ignore_ascii_case(&repository)))
}

fn extra_objects(status: &Value) -> bool {
    let place = |place: &Value| Some((text(place, "bucket")?, text(place, "key")?));
    let current = status.get("storage").and_then(place);
    let objects = status.get("objects").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    objects.iter().any(|object| place(object) != current)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Both lean kinds name the same API resources as the full ones; only what is kept differs.
macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = k8s_openapi::NamespaceResourceScope;
            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                GROUP.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                VERSION.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
resource!(ModuleState, "Module", "modules");
resource!(VersionState, "Version", "versions");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_odd_object_parses_and_keeps_what_can_be_read() {
        let odd = json!({
            "metadata": {"name": "a", "managedFields": [{"manager": "kubectl"}], "annotations": {ADOPT: "m", "x": "y"}},
            "spec": {"type": 7, "version": ["1"], "forceSync": "yes", "moduleConfigRef": {"fileFormat": "rar"}},
            "status": {"synced": "true", "conditions": [{"type": "Ready"}, 5]},
        });
        let lean: VersionState = serde_json::from_value(odd).unwrap();
        assert_eq!((lean.config, lean.placement), (0, 0));
        assert_eq!(lean.annotation(ADOPT), Some("m"));
        assert_eq!(lean.annotation("x"), None);
        assert!(lean.metadata.managed_fields.is_none() && !lean.force_sync && lean.status.ready.is_none());
        serde_json::from_value::<VersionState>(json!({})).unwrap();
        serde_json::from_value::<ModuleState>(json!({"metadata": {"name": "m"}, "spec": 3})).unwrap();
    }

    #[test]
    fn placement_ignores_what_decides_neither_bytes_nor_place() {
        let config = |change: Value| {
            let mut base = json!({"name": "m", "repoUrl": "https://github.com/o/r",
                "storageConfig": {"s3": {"bucket": "bucket", "region": "us-west-2"}}});
            base.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            config_hashes(&serde_json::from_value(base).unwrap())
        };
        let (all, placement) = config(json!({}));
        for same_place in
            [json!({"immutable": true}), json!({"deletionPolicy": "Retain"}), json!({"provider": "aws"})]
        {
            let (a, p) = config(same_place.clone());
            assert!(a != all && p == placement, "{same_place}");
        }
        let s3 = |change: Value| {
            let mut s3 = json!({"bucket": "bucket", "region": "us-west-2"});
            s3.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!({"storageConfig": {"s3": s3}})
        };
        for same_place in [
            json!({"repoUrl": "https://github.com/O/r.git"}),
            json!({"repoUrl": "https://GitHub.com/o/r/"}),
            json!({"repoUrl": "https://github.com:443/o/r"}),
            json!({"repoOwner": "o"}),
            json!({"repoUrl": null, "repoOwner": "o", "name": "m"}),
            json!({"fileFormat": "zip"}),
            json!({"versionHistoryLimit": 3, "versionConstraints": "~> 1"}),
            json!({"githubClientConfig": {"useAuthenticatedClient": true, "secretName": "s"}}),
            s3(json!({"forcePathStyle": true})),
            s3(json!({"forcePathStyle": false})),
            s3(json!({"endpoint": "https://s3.us-west-2.amazonaws.com"})),
            s3(json!({"endpoint": "https://S3.us-west-2.amazonaws.com:443/", "forcePathStyle": true})),
            s3(json!({"key": ""})),
            s3(json!({"serverSideEncryption": "aws:kms", "kmsKeyId": "k"})),
        ] {
            let repository =
                if same_place["name"] == "m" { "https://github.com/o/m" } else { "https://github.com/o/r" };
            assert_eq!(
                config(same_place.clone()).1,
                config(json!({"repoUrl": repository})).1,
                "{same_place}"
            );
        }
        let minio = |change: Value| {
            let mut spelled = json!({"endpoint": "https://minio.example.com"});
            spelled.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            config(s3(spelled)).1
        };
        for same_place in
            ["https://minio.example.com/", "https://MINIO.example.com", "https://minio.example.com:443"]
        {
            assert_eq!(minio(json!({"endpoint": same_place})), minio(json!({})), "{same_place}");
        }
        for moved in [
            s3(json!({"bucket": "other"})),
            s3(json!({"region": "eu-west-1"})),
            s3(json!({"key": "team"})),
            s3(json!({"endpoint": "https://minio.example.com"})),
            s3(json!({"endpoint": "http://s3.us-west-2.amazonaws.com"})),
            s3(json!({"endpoint": "https://s3.eu-west-1.amazonaws.com"})),
        ] {
            assert_ne!(config(moved.clone()).1, placement, "{moved}");
        }
        for moved in
            [json!({"name": "n"}), json!({"fileFormat": "tar"}), json!({"repoUrl": "https://github.com/o/s"})]
        {
            assert_ne!(config(moved.clone()).1, placement, "{moved}");
        }
    }
}
