//! The Kubernetes API of OpenDepot: the kinds Module and Version (group `opendepot.defdev.io`, `v1alpha1`).
//!
//! `opendepot crd` prints the CustomResourceDefinitions that are generated from these types. The schema rejects invalid
//! values with messages that name the remedy. [`check`] repeats its rules for objects that were stored before the schema
//! had them.

pub(crate) mod check;
pub(crate) mod claim;
pub mod condition;
pub mod config;
pub mod module;
pub mod object_name;
mod placement;
pub(crate) mod requests;
pub mod state;
pub mod target;
pub mod version;

pub use config::{DeletionPolicy, ModuleConfig, S3Config, StorageConfig};
pub use module::{Module, ModuleSpec, ModuleStatus};
pub use version::{Version, VersionSpec, VersionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt as _;

/// API group of every kind.
pub const GROUP: &str = "opendepot.defdev.io";
/// The only served version of the group, which is also the stored one.
pub const VERSION: &str = "v1alpha1";

/// Finalizer of every Version whose stored object this operator deletes.
pub const FINALIZER: &str = "opendepot.defdev.io/stored-object";
/// Finalizer of every Module that has Versions, until they have its last deletion policy.
pub const MODULE_FINALIZER: &str = "opendepot.defdev.io/versions";
/// Finalizer of the original OpenDepot. A Version that has only this one is not touched.
pub const ORIGINAL_FINALIZER: &str = "opendepot.defdev.io/finalizer";
/// Label of a Version: the Module that it was created for (truncated and hashed if the name does not fit into a label).
pub const MODULE_LABEL: &str = "opendepot.defdev.io/module";
/// Label of a Version: the namespace of its Module.
pub const NAMESPACE_LABEL: &str = "opendepot.defdev.io/namespace";
/// Annotation that users set on a Module or Version: a new value requests one full sync (`forceSync` for GitOps).
pub const REQUESTED_AT: &str = "opendepot.defdev.io/requestedAt";
/// Annotation that the Module controller sets on a Version: the token of the Module's open request.
pub const MODULE_REQUEST: &str = "opendepot.defdev.io/module-request";
/// Annotation of a Version: the Module that may adopt it while it has no owner. An annotation that the operator set (the
/// Version has [`MODULE_LABEL`]) counts only if location and repository are those that the Module wants.
pub const ADOPT: &str = "opendepot.defdev.io/adopt";

/// Annotation of a Module: its name in the registry, in place of `moduleConfig.name`. No object moves.
pub const REGISTRY_NAME: &str = "opendepot.defdev.io/registry-name";
/// Annotation of a Module: the address `NAMESPACE/NAME/SYSTEM` that it is to get once no other Module holds it.
pub const CLAIM_ADDRESS: &str = "opendepot.defdev.io/claim-address";
/// Annotation of a Module: the generation at which a removal of several stored versions is confirmed (`spec.removal: Confirm`).
pub const CONFIRM_REMOVAL: &str = "opendepot.defdev.io/confirm-removal";
/// Annotation on a Module: a sentence about it, which the registry's pages show.
pub const DESCRIPTION: &str = "opendepot.defdev.io/description";

/// The field manager in every command that a message contains. Flux takes ownership of fields whose manager's name begins
/// with `kubectl`, and removes those that are not in Git.
pub const RELEASE_MANAGER: &str = "--field-manager=opendepot-release";

/// Both CustomResourceDefinitions, in the order in which they are printed.
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 2] {
    [("modules", with_status(Module::crd())), ("versions", with_status(Version::crd()))]
}

/// Sets the default status `observedGeneration: -1` and preserves unknown fields of a status.
///
/// Without `observedGeneration: -1`, kstatus (in Argo CD and Flux) reports a new object as current before its first
/// reconcile. Unknown fields are preserved because releases of the original OpenDepot add fields, which must survive when
/// this operator is installed over it.
fn with_status(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas =
        definition.spec.versions.iter_mut().filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|s| s.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
        status.x_kubernetes_preserve_unknown_fields = Some(true);
    }
    definition
}

/// Writes both definitions as YAML documents.
pub fn print(mut out: impl std::io::Write) -> std::io::Result<()> {
    for (_, definition) in definitions() {
        writeln!(out, "---\n{}", yaml(&definition)?.trim_end())?;
    }
    Ok(())
}

/// One definition as YAML, as it is kept in `crds/`.
pub fn yaml(definition: &CustomResourceDefinition) -> std::io::Result<String> {
    serde_yaml::to_string(definition).map_err(std::io::Error::other)
}
