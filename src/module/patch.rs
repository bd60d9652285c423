//! The objects and merge patches of a [`super::plan::Plan`]. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject, TypeMeta};
use serde_json::{Map, Value, json};

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
pub(super) fn new_version(
    module: &ModuleView,
    resolved: &ModuleConfig,
    create: &Create,
) -> Result<DynamicObject, serde_json::Error> {
    let mut annotations = Map::from_iter([(ADOPT.to_owned(), json!(module.name()))]);
    if let Some(token) = &create.request {
        annotations.insert(MODULE_REQUEST.into(), json!(token));
    }
    let metadata = json!({
        "name": create.name,
        "namespace": module.namespace(),
        "labels": labels(module),
        "finalizers": [FINALIZER],
        "ownerReferences": [owner_reference(module)],
        "annotations": annotations,
    });
    let mut spec = json!({
        "type": TYPE_MODULE,
        "version": create.version,
        "fileName": fresh_file_name(resolved.file_format),
        "moduleConfigRef": resolved,
    });
    if let Some(digest) = &create.expected_digest {
        spec["expectedDigest"] = json!(digest);
    }
    Ok(DynamicObject {
        types: Some(TypeMeta { api_version: format!("{GROUP}/{VERSION}"), kind: "Version".into() }),
        metadata: serde_json::from_value(metadata)?,
        data: json!({"spec": spec}),
    })
}

/// The merge patch that makes a change, given the object as it is stored.
pub(super) fn merge_patch(
    module: &ModuleView,
    resolved: &ModuleConfig,
    change: &Change,
    current: &DynamicObject,
) -> Value {
    let (mut spec, mut metadata, mut annotations) = (Map::new(), Map::new(), Map::new());
    for edit in &change.edits {
        match edit {
            Edit::SetConfig(file_name) => set_config(resolved, file_name, current, &mut spec),
            Edit::SetPolicy { retain } => {
                let policy = if *retain { "Retain" } else { "Delete" };
                // `SetConfig` comes first and includes the policy.
                spec.entry("moduleConfigRef").or_insert(json!({"deletionPolicy": policy}));
            }
            Edit::SetSuspended(suspended) => {
                spec.insert("moduleSuspended".into(), suspended.then_some(true).into());
            }
            Edit::PinDigest(digest) => drop(spec.insert("expectedDigest".into(), json!(digest))),
            Edit::UnpinDigest => drop(spec.insert("expectedDigest".into(), Value::Null)),
            Edit::Request(token) => drop(annotations.insert(MODULE_REQUEST.into(), json!(token))),
            Edit::Adopt => adopt(module, current, &mut metadata),
        }
    }
    if change.adopts() && is_copy(module, current) {
        spec.insert("fileName".into(), json!(fresh_file_name(resolved.file_format)));
    }
    let own = current.metadata.annotations.as_ref().and_then(|own| own.get(ADOPT));
    if own != module.metadata.name.as_ref() {
        annotations.insert(ADOPT.into(), json!(module.name()));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), annotations.into());
    }
    let parts = [("spec", spec), ("metadata", metadata)];
    let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
    parts.map(|(name, part)| (name.to_owned(), Value::from(part))).collect::<Map<_, _>>().into()
}

fn set_config(
    resolved: &ModuleConfig,
    file_name: &FileName,
    current: &DynamicObject,
    spec: &mut Map<String, Value>,
) {
    let before = current.data.pointer("/spec/moduleConfigRef").cloned().unwrap_or(json!({}));
    let after = serde_json::to_value(resolved).unwrap_or_default();
    if let Some(diff) = merge_diff(&before, &after) {
        spec.insert("moduleConfigRef".into(), diff);
    }
    let file_name = match file_name {
        FileName::Keep => return,
        FileName::Fresh => Some(fresh_file_name(resolved.file_format)),
        FileName::Derived => derived(resolved, current),
        FileName::Stored(name) => Some(name.clone()),
    };
    spec.insert("fileName".into(), json!(file_name));
}

fn adopt(module: &ModuleView, current: &DynamicObject, metadata: &mut Map<String, Value>) {
    let mut finalizers = current.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let mut owners = current.metadata.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != module.uid());
    owners.push(owner_reference(module));
    metadata.insert("finalizers".into(), json!(finalizers));
    metadata.insert("labels".into(), labels(module));
    metadata.insert("ownerReferences".into(), json!(owners));
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
