//! The Modules and Versions as the watch caches keep them and as reconciles decide on them: one pruned model per kind.
//!
//! A state is made from the JSON of an object, in the same way from a watch event and from a GET. Parsing never fails as a
//! whole, whatever is stored: one odd object would make a typed LIST fail, and the controller would see no object. (What nothing
//! reads, or no parser can, is removed before, in `controller/json_pruner.rs`.) What a decision does not need is dropped while
//! parsing, and values that many objects share are kept once, so that 10,000 Versions fit into 20 MB. A state is never written
//! back: status functions return typed statuses, which are diffed against the object.

mod address;
mod intern;
mod listing;
mod module;
mod status;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use serde_json::Value;

use self::intern::Interner;
use super::{ADOPT, MODULE_LABEL, MODULE_REQUEST, NAMESPACE_LABEL, REQUESTED_AT, requests};
use crate::domain::text::cut;

pub use address::AddressState;
pub use listing::{ListedVersion, ModuleListing};
pub use module::{ModuleState, OwnerPolicy};
pub use status::{ConditionState, SourceState, StatusState, StoredLocation};
pub use version::{Controller, Origin, VersionState};

/// The longest name of a Kubernetes object (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;

/// Texts that many objects have in common.
static TEXTS: Interner<str> = Interner::new();

/// An object as the API server sends it. Fields that are not named here are skipped while parsing, never built in memory.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawObject {
    metadata: RawMetadata,
    spec: Value,
    status: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMetadata {
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

impl RawMetadata {
    /// Namespace and name.
    fn names(&self) -> (&str, &str) {
        (self.namespace.as_deref().unwrap_or_default(), self.name.as_deref().unwrap_or_default())
    }

    fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().flatten().any(|own| own == finalizer)
    }

    /// An annotation of ours, at its bounded length: users choose the values freely.
    fn annotation(&self, key: &str) -> Option<Box<str>> {
        let value = self.annotations.as_ref()?.get(key)?;
        match key {
            REQUESTED_AT | MODULE_REQUEST => Some(requests::shorten(value).into()),
            // A longer value names no Module.
            ADOPT => Some(value.as_str()).filter(|value| value.len() <= LONGEST_NAME).map(Into::into),
            _ => None,
        }
    }

    fn origin(&self) -> Origin {
        let label = |key| self.labels.as_ref().and_then(|labels| labels.get(key));
        match (label(MODULE_LABEL), label(NAMESPACE_LABEL)) {
            (None, _) => Origin::User,
            (Some(_), namespace) if namespace == self.namespace.as_ref() => Origin::Here,
            _ => Origin::Elsewhere,
        }
    }

    fn controller(&self) -> Option<Arc<Controller>> {
        static CONTROLLERS: Interner<Controller> = Interner::new();
        let owner = self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        // The API server limits none of these; a text that is longer than a name identifies no object of ours.
        let bounded = |text: &str| cut(text, LONGEST_NAME);
        let controller = Controller {
            api_version: bounded(&owner.api_version),
            kind: bounded(&owner.kind),
            name: bounded(&owner.name),
            uid: bounded(&owner.uid),
        };
        Some(CONTROLLERS.value(controller))
    }

    /// The fields that every state keeps.
    fn pruned(self) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            generation: self.generation,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            ..ObjectMeta::default()
        }
    }
}

/// Whether the `deletionPolicy` of a configuration is Retain, read on its own: a broken spec never blocks a deletion. A value
/// that is no policy retains the object, because its deletion was not requested.
fn retains(config: &Value) -> bool {
    config.get("deletionPolicy").is_some_and(|policy| !policy.is_null() && policy != "Delete")
}

/// The condition of a type; null if there is none.
fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let of_type = |c: &&Value| text(c, "type") == Some(type_);
    list(status, "conditions").iter().find(of_type).unwrap_or(&Value::Null)
}

fn is_true(condition: &Value) -> Option<bool> {
    Some(text(condition, "status")? == "True")
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn boxed(value: &Value, key: &str) -> Option<Box<str>> {
    text(value, key).map(Into::into)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Accessors of names and deletion in the metadata.
macro_rules! names {
    ($type:ty) => {
        impl $type {
            /// `metadata.namespace`.
            pub fn namespace(&self) -> &str {
                self.metadata.namespace.as_deref().unwrap_or_default()
            }

            /// `metadata.name`.
            pub fn name(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }

            /// `metadata.uid`.
            pub fn uid(&self) -> &str {
                self.metadata.uid.as_deref().unwrap_or_default()
            }

            /// Whether it is being deleted.
            pub fn is_terminating(&self) -> bool {
                self.metadata.deletion_timestamp.is_some()
            }
        }
    };
}
pub(crate) use names;
names!(ModuleState);
names!(ModuleListing);
names!(VersionState);
