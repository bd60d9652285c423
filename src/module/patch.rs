//! The objects and merge patches of a [`super::plan::Plan`]. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::edit::{Change, Edit};
use super::file_name::FileName;
use super::plan::Create;
use super::view::ModuleView;
use crate::api::object_name::label_value;
use crate::api::version::TYPE_MODULE;
use crate::api::{
    ADOPT, FINALIZER, GROUP, MODULE_LABEL, MODULE_REQUEST, Module, ModuleConfig, NAMESPACE_LABEL, VERSION,
};
use crate::controller::client::merge_diff;
use crate::domain::Release;
use crate::domain::object_key::{derived_file_name, fresh_file_name};

/// The Version that a create makes.
pub(super) fn new_version(module: &ModuleView, create: &Create) -> Result<DynamicObject, serde_json::Error> {
    let mut version = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "Version",
        "metadata": {
            "name": create.name,
            "namespace": module.namespace(),
            "labels": labels(module),
            "finalizers": [FINALIZER],
            "ownerReferences": [owner_reference(module)],
            "annotations": {ADOPT: module.name()},
        },
        "spec": {
            "type": TYPE_MODULE,
            "version": create.version,
            "fileName": fresh_file_name(module.resolved.file_format),
            "moduleConfigRef": module.resolved,
        },
    });
    if let Some(token) = &create.request {
        version["metadata"]["annotations"][MODULE_REQUEST] = json!(token);
    }
    if let Some(digest) = &create.expected_digest {
        version["spec"]["expectedDigest"] = json!(digest);
    }
    serde_json::from_value(version)
}

/// The merge patch that makes a change, given the object as it is stored.
pub(super) fn merge_patch(module: &ModuleView, change: &Change, current: &DynamicObject) -> Value {
    // An index that is not assigned would leave a null, which deletes the field.
    let mut patch = json!({});
    for edit in &change.edits {
        match edit {
            Edit::SetConfig(file_name) => set_config(&module.resolved, file_name, current, &mut patch),
            Edit::SetPolicy { retain } => {
                // `SetConfig` comes first and includes the policy.
                if patch["spec"]["moduleConfigRef"].is_null() {
                    let policy = if *retain { "Retain" } else { "Delete" };
                    patch["spec"]["moduleConfigRef"] = json!({"deletionPolicy": policy});
                }
            }
            Edit::SetSuspended(suspended) => {
                patch["spec"]["moduleSuspended"] = json!(suspended.then_some(true));
            }
            Edit::PinDigest(digest) => patch["spec"]["expectedDigest"] = json!(digest),
            Edit::UnpinDigest => patch["spec"]["expectedDigest"] = Value::Null,
            Edit::Request(token) => patch["metadata"]["annotations"][MODULE_REQUEST] = json!(token),
            Edit::Adopt => adopt(module, current, &mut patch["metadata"]),
        }
    }
    if change.adopts() && is_copy(module, current) {
        patch["spec"]["fileName"] = json!(fresh_file_name(module.resolved.file_format));
    }
    let own = current.metadata.annotations.as_ref().and_then(|own| own.get(ADOPT));
    if own != module.metadata.name.as_ref() {
        patch["metadata"]["annotations"][ADOPT] = json!(module.name());
    }
    patch
}

fn set_config(resolved: &ModuleConfig, file_name: &FileName, current: &DynamicObject, patch: &mut Value) {
    let before = current.data.pointer("/spec/moduleConfigRef").cloned().unwrap_or(json!({}));
    let after = serde_json::to_value(resolved).unwrap_or_default();
    if let Some(diff) = merge_diff(&before, &after) {
        patch["spec"]["moduleConfigRef"] = diff;
    }
    let file_name = match file_name {
        FileName::Keep => return,
        FileName::Fresh => Some(fresh_file_name(resolved.file_format)),
        FileName::Derived => derived(resolved, current),
        FileName::Stored(name) => Some(name.clone()),
    };
    patch["spec"]["fileName"] = json!(file_name);
}

fn adopt(module: &ModuleView, current: &DynamicObject, metadata: &mut Value) {
    let mut finalizers = current.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let mut owners = current.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != module.uid());
    owners.push(owner_reference(module));
    metadata["finalizers"] = json!(finalizers);
    metadata["labels"] = labels(module);
    metadata["ownerReferences"] = json!(owners);
}

/// Whether a Version has its file name from another namespace, according to its labels: the object of that name is the
/// original's. A derived name contains the namespace.
fn is_copy(module: &ModuleView, current: &DynamicObject) -> bool {
    let namespace = current.metadata.labels.as_ref().and_then(|labels| labels.get(NAMESPACE_LABEL));
    namespace.is_some_and(|namespace| *namespace != label_value(module.namespace()))
        && current.data.pointer("/spec/fileName").is_some_and(Value::is_string)
}

fn derived(resolved: &ModuleConfig, current: &DynamicObject) -> Option<String> {
    let version = current.data.pointer("/spec/version")?.as_str()?;
    let release = Release::parse(version).ok()?;
    let (namespace, name) = (current.metadata.namespace.as_deref()?, current.metadata.name.as_deref()?);
    Some(derived_file_name(namespace, name, &release, resolved.file_format))
}

fn labels(module: &ModuleView) -> Value {
    json!({
        MODULE_LABEL: label_value(module.name()),
        NAMESPACE_LABEL: label_value(module.namespace()),
    })
}

fn owner_reference(module: &ModuleView) -> OwnerReference {
    let resource = ApiResource::erase::<Module>(&());
    OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: module.name().to_owned(),
        uid: module.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
