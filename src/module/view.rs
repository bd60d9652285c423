//! A Module as a reconcile reads it, with what makes its spec unusable.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::address::Addressing;
use crate::api::requests;
use crate::api::state::{AddressState, OwnerPolicy, VersionState, names};
use crate::api::{
    ADOPT, MODULE_FINALIZER, ModuleConfig, ModuleSpec, ModuleStatus, RELEASE_MANAGER, REQUESTED_AT,
};
use crate::controller::client;

/// A Module as decisions depend on it.
#[derive(Clone, Debug)]
pub struct ModuleView {
    pub metadata: ObjectMeta,
    /// The spec; the default where it cannot be read.
    pub spec: ModuleSpec,
    /// Whether the spec can be read. If not, it is unknown which versions are wanted.
    pub is_readable: bool,
    /// The configuration that each Version carries.
    pub resolved: ModuleConfig,
    /// The status, empty before the first reconcile.
    pub status: ModuleStatus,
    /// What its Versions depend on, read on its own: a broken spec never blocks a deletion.
    pub policy: OwnerPolicy,
    /// What makes the spec unusable, for the status.
    pub problem: Option<String>,
    /// The fields that decide its registry address.
    pub address: AddressState,
    /// The decision on its address. If there is none, the status keeps its address.
    pub addressing: Option<Addressing>,
    /// The content digests of Versions that are being deleted, by version.
    pub deleted_digests: BTreeMap<String, String>,
    /// The names of the Versions that it has deleted, and that the cache does not show as deleted yet.
    pub deleting: BTreeSet<String>,
}

names!(ModuleView);

impl ModuleView {
    /// Whether a Version has no owner, and its annotation `adopt` names this Module.
    pub fn is_to_adopt(&self, version: &VersionState) -> bool {
        version.controller().is_none() && version.annotation(ADOPT) == Some(self.name())
    }

    /// Whether the Module is immutable, and its status does not contain the digest of this release.
    pub fn is_to_record(&self, release: &str) -> bool {
        let is_recorded = self.status.published.as_ref().is_some_and(|all| all.contains_key(release));
        self.is_immutable() && !is_recorded
    }

    /// Parses the parts of a Module and takes them out of `object`: of a long list there is no second copy.
    pub fn take_from(object: &mut DynamicObject) -> Self {
        let status = object.data.get_mut("status").map(Value::take).unwrap_or_default();
        let config = object.data.pointer("/spec/moduleConfig").unwrap_or(&Value::Null);
        let mut metadata = object.metadata.clone();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let address = AddressState::of((namespace, name), metadata.annotations.as_ref(), config, &status);
        metadata.annotations.iter_mut().for_each(requests::shorten_annotations);
        let mut status = readable_status(status);
        status.last_handled_request.iter_mut().for_each(requests::shorten_recorded);
        let policy = OwnerPolicy::of(config, status.published.iter().flat_map(|all| all.keys().cloned()));
        let spec = client::take_part::<ModuleSpec>(object, "spec");
        let problem = match &spec {
            Err(unreadable) => Some(unreadable.clone()),
            Ok(spec) => spec.module_config.check(name).err().map(|invalid| invalid.to_string()),
        };
        let is_readable = spec.is_ok();
        let spec = spec.unwrap_or_default();
        let resolved = spec.module_config.resolved(name);
        Self {
            metadata,
            spec,
            is_readable,
            resolved,
            status,
            policy,
            problem,
            address,
            addressing: None,
            deleted_digests: BTreeMap::new(),
            deleting: BTreeSet::new(),
        }
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &String> {
        self.metadata.finalizers.iter().flatten()
    }

    /// Whether it is being deleted with `--cascade=orphan`: its Versions stay.
    pub fn orphans_versions(&self) -> bool {
        self.is_terminating() && self.finalizers().any(|finalizer| finalizer == "orphan")
    }

    pub fn has_finalizer(&self) -> bool {
        self.finalizers().any(|finalizer| finalizer == MODULE_FINALIZER)
    }

    /// The user's annotation that requests a full sync.
    pub fn requested_at(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(REQUESTED_AT).map(String::as_str)
    }

    /// Whether the status describes a generation that this Module has not reached: a restore brings the status of a Module with
    /// more generations.
    pub fn has_foreign_status(&self) -> bool {
        self.status.observed_generation > self.metadata.generation
    }

    /// Whether the contents of its versions are fixed.
    pub fn is_immutable(&self) -> bool {
        self.policy.immutable
    }

    /// Whether a Version belongs to this Module: its UID is the controller's, and it has our finalizer. Labels and names do
    /// not count.
    pub fn manages(&self, version: &VersionState) -> bool {
        self.owns(version) && version.has_finalizer
    }

    /// Whether a Version is being deleted, although the cache may not show it yet.
    pub fn is_deleting(&self, version: &VersionState) -> bool {
        version.is_terminating() || self.deleting.contains(version.name())
    }

    /// The command that changes an annotation: `KEY=VALUE` sets it, `KEY-` removes it.
    pub fn annotate(&self, change: &str) -> String {
        format!(
            "kubectl annotate {RELEASE_MANAGER} --overwrite -n {} modules.opendepot.defdev.io/{} {change}",
            self.namespace(),
            self.name()
        )
    }

    /// Whether this Module is the controller of a Version.
    pub fn owns(&self, version: &VersionState) -> bool {
        version.controller().is_some_and(|owner| owner.uid == self.uid())
    }
}

/// Parses a status. A field that cannot be parsed counts as absent, as an older schema may have left it; the recorded digests
/// beside it still count.
fn readable_status(mut status: Value) -> ModuleStatus {
    ModuleStatus::deserialize(&status).unwrap_or_else(|_| {
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|name, field| ModuleStatus::deserialize(&json!({ name: field })).is_ok());
        }
        serde_json::from_value(status).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_cannot_be_parsed_hides_no_other() {
        let status = readable_status(json!({
            "synced": "yes", "conditions": null, "versions": 3, "observedGeneration": 4, "published": {"1.0.0": "h1:a"},
        }));
        let published = BTreeMap::from([("1.0.0".to_owned(), "h1:a".to_owned())]);
        let expected = ModuleStatus {
            observed_generation: Some(4),
            published: Some(published),
            ..ModuleStatus::default()
        };
        assert_eq!(status, expected);
        for odd in [json!(null), json!("?"), json!(5)] {
            assert_eq!(readable_status(odd), ModuleStatus::default());
        }
    }
}
