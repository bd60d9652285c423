//! The pruned form of a Module.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::api::{Module, REQUESTED_AT};
use crate::domain::hash_of;

use super::{AddressState, RawObject, condition, flag, is_true, retains, text};

/// A Module as the watch cache keeps it.
#[derive(Resource, Clone, Debug, Default)]
#[resource(inherit = "Module")]
pub struct ModuleState {
    /// Name, namespace, UID, resourceVersion, generation and timestamps only.
    pub metadata: ObjectMeta,
    /// The annotation `requestedAt`.
    pub requested_at: Option<Box<str>>,
    /// Whether `Ready` is True; `None` before the first reconcile ended.
    pub ready: Option<bool>,
    /// Whether `Stalled` is True.
    pub stalled: bool,
    /// `Ready`'s reason.
    pub reason: String,
    /// What its Versions depend on.
    pub policy: OwnerPolicy,
    /// Its address in a registry.
    pub address: AddressState,
}

/// What the Versions of a Module depend on, whether or not the rest of its spec can be read.
#[derive(Clone, Debug, Default)]
pub struct OwnerPolicy {
    /// Whether its `deletionPolicy` is Retain.
    pub retain: bool,
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

    /// The same, with these versions recorded.
    #[must_use]
    pub fn recording(self, published: impl Iterator<Item = String>) -> Self {
        let mut recorded: Vec<u64> = published.map(hash_of).collect();
        recorded.sort_unstable();
        Self { recorded: recorded.into(), ..self }
    }

    /// Whether the digest of this version is recorded.
    pub fn records(&self, version: &str) -> bool {
        self.recorded.binary_search(&hash_of(version)).is_ok()
    }
}

impl<'de> Deserialize<'de> for ModuleState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawObject { metadata, spec, status } = RawObject::deserialize(deserializer)?;
        let ready = condition(&status, "Ready");
        let config = spec.get("moduleConfig").unwrap_or(&Value::Null);
        let published = status.get("published").and_then(Value::as_object).into_iter();
        Ok(Self {
            address: AddressState::of(metadata.names(), metadata.annotations.as_ref(), config, &status),
            requested_at: metadata.annotation(REQUESTED_AT),
            metadata: metadata.pruned(),
            policy: OwnerPolicy::of(config, published.flat_map(|all| all.keys().cloned())),
            ready: is_true(ready),
            stalled: is_true(condition(&status, "Stalled")).unwrap_or(false),
            reason: text(ready, "reason").unwrap_or_default().to_owned(),
        })
    }
}
