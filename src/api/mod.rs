//! The public API: what `kubectl apply` accepts and what `kubectl get` shows (group `opendepot.defdev.io`, `v1alpha1`).
//!
//! In: nothing. Out: the types of Module and Version, from which `opendepot crd` prints the CustomResourceDefinitions.
//! The schema refuses what it can, with messages a person can act on; [`check`] repeats those rules for objects that
//! were stored before the schema knew them. Nothing here talks to a server.

pub mod check;
pub mod condition;
pub mod config;
pub mod module;
pub mod requests;
pub mod state;
pub mod version;

pub use config::{DeletionPolicy, ModuleConfig, S3Config, StorageConfig};
pub use module::{Module, ModuleSpec, ModuleStatus};
pub use version::{Version, VersionSpec, VersionStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt as _;

/// API group of every kind.
pub const GROUP: &str = "opendepot.defdev.io";
/// The one served and stored version of the group.
pub const VERSION: &str = "v1alpha1";

/// Set on every Version whose stored object is this operator's to delete.
pub const FINALIZER: &str = "opendepot.defdev.io/stored-object";
/// Set on every Module that has Versions, until they know its deletion policy.
pub const MODULE_FINALIZER: &str = "opendepot.defdev.io/versions";
/// The finalizer of the original OpenDepot: a Version that has it, and not ours, is left alone.
pub const ORIGINAL_FINALIZER: &str = "opendepot.defdev.io/finalizer";
/// Label of a Version: the Module it was made for (cut and hashed where a label cannot hold the name).
pub const MODULE_LABEL: &str = "opendepot.defdev.io/module";
/// Label of a Version: the namespace of its Module.
pub const NAMESPACE_LABEL: &str = "opendepot.defdev.io/namespace";
/// The user's annotation on a Module or Version: a new value asks for one full sync (GitOps' `forceSync`).
pub const REQUESTED_AT: &str = "opendepot.defdev.io/requestedAt";
/// The Module controller's annotation on a Version: the token of the Module's open `forceSync`.
pub const MODULE_REQUEST: &str = "opendepot.defdev.io/module-request";
/// Annotation of a Version: the Module that may adopt it when it has no owner. The operator's own (the Version has
/// [`MODULE_LABEL`]) counts only where place and repository are those that the Module wants.
pub const ADOPT: &str = "opendepot.defdev.io/adopt";

/// Names the field manager in every command that a message prints. Flux takes over what a manager wrote whose name begins
/// with `kubectl`, and removes what of that is not in Git.
pub const RELEASE_MANAGER: &str = "--field-manager=opendepot-release";

/// Both CustomResourceDefinitions, in the order in which they are printed.
pub fn definitions() -> [(&'static str, CustomResourceDefinition); 2] {
    [("modules", with_status(Module::crd())), ("versions", with_status(Version::crd()))]
}

/// Gives a new object the status `observedGeneration: -1`: without conditions and without that, kstatus (and so Argo CD,
/// Flux and `kubectl wait` by its side) takes an object that nobody has looked at yet for one that is as wanted. And lets a
/// status keep what others wrote into it: releases of the original OpenDepot keep adding fields, and installing over it
/// must cost nothing.
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
