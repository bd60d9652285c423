//! The kind `Module`: one Terraform or OpenTofu module and its wanted versions.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct in a private scope")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::ModuleConfig;
use crate::domain::release::semver_pattern;

/// The wanted versions of one module, published from GitHub to S3.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "opendepot.defdev.io",
    version = "v1alpha1",
    kind = "Module",
    plural = "modules",
    singular = "module",
    shortname = "odm",
    category = "opendepot",
    namespaced,
    status = "ModuleStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A Terraform or OpenTofu module: its repository on GitHub, its location in S3, and its wanted versions.",
    printcolumn = r#"{"name": "Provider", "type": "string", "jsonPath": ".spec.moduleConfig.provider", "description": "Main provider of the module"}"#,
    printcolumn = r#"{"name": "Latest", "type": "string", "jsonPath": ".status.latestVersion", "description": "Highest stored release"}"#,
    printcolumn = r#"{"name": "Synced", "type": "string", "jsonPath": ".status.versions.summary", "description": "Stored versions / wanted versions"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "description": "Whether every wanted version is stored and every removed version is deleted"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason", "description": "Reason of the condition Ready"}"#,
    printcolumn = r#"{"name": "Source", "type": "string", "jsonPath": ".spec.moduleConfig.repoUrl", "description": "Repository on GitHub", "priority": 1}"#,
    printcolumn = r#"{"name": "Address", "type": "string", "jsonPath": ".status.address", "description": "Address in the registry", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Age of the Module"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSpec {
    /// Where the module comes from, how it is packed, and where it is stored.
    pub module_config: ModuleConfig,
    /// The wanted versions. Each becomes a Version object. Removing an entry deletes that Version and, unless deletionPolicy is Retain, its object.
    #[serde(default)]
    #[schemars(
        length(max = 5000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"])
    )]
    pub versions: Vec<ModuleVersion>,
    /// If true, every version is fetched, compared and stored again now. The operator resets the field to false when done.
    #[serde(default)]
    pub force_sync: bool,
    /// If true, all work for this Module and its Versions stops, except the deletion of the Module.
    #[serde(default)]
    pub suspend: bool,
    /// Immediate: stored versions are deleted as soon as their entries are removed. Confirm: if two or more are removed at once,
    /// nothing is deleted until that is confirmed; the message of the condition Ready contains the command.
    /// versionHistoryLimit and the deletion of the Module need no confirmation.
    #[serde(default)]
    pub removal: RemovalPolicy,
}

/// When Versions are deleted whose entries were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RemovalPolicy {
    /// At once.
    #[default]
    Immediate,
    /// After a confirmation, if two or more stored versions are removed.
    Confirm,
}

/// One wanted version.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleVersion {
    /// A semantic version, MAJOR.MINOR.PATCH with optional pre-release and build, with or without a leading v. Quote it
    /// in YAML. The tag on GitHub may have either spelling.
    #[x_kube(validation = Rule::new(concat!("self.matches('", semver_pattern!(), "')")).message("version must be a semantic version, MAJOR.MINOR.PATCH[-pre][+build] with an optional leading v, such as \"1.10.0\" or \"v1.10.0\""))]
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
    /// Why consumers should move to another version. The registry lists the version and passes the text on. At most 256
    /// characters, no control characters. If empty, the version is not deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\x00-\\\\x1f\\\\x7f-\\\\x9f]*$')").message("deprecated must be one line, without control characters"))]
    #[schemars(length(max = 256))]
    pub deprecated: Option<String>,
    /// Why the version is withdrawn. The registry no longer lists it, and rejects downloads with this text; the stored object
    /// stays. At most 256 characters, no control characters. If empty, the version is not withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[^\\\\x00-\\\\x1f\\\\x7f-\\\\x9f]*$')").message("withdrawn must be one line, without control characters"))]
    #[schemars(length(max = 256))]
    pub withdrawn: Option<String>,
    /// Accepted for compatibility and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Accepted for compatibility and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub file_name: Option<String>,
    /// Accepted for compatibility and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
}

/// The stored versions, and the failures that prevent the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// The generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, as kstatus defines them; Addressable, whether clients can install the module by its
    /// registry address, which no other condition depends on; and `OriginalVersionsFound` while Versions of the original
    /// OpenDepot exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Whether every wanted version is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
    /// The message of the condition Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<String>,
    /// The highest stored release that is not withdrawn, without a leading v. A pre-release only if there is no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<String>,
    /// Numbers of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<VersionCounts>,
    /// Token of the open request for a full sync, or `done:<generation>` of the last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_token: Option<String>,
    /// The last value of the annotation opendepot.defdev.io/requestedAt whose request was opened. The request has ended when
    /// forceToken begins with `done:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// For immutable Modules: the content digest of every version that was ever published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub published: Option<BTreeMap<String, String>>,
    /// The address in the registry, `NAMESPACE/NAME/SYSTEM`. No other Module of the namespace has it. It stays until this Module
    /// claims another address or is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The address that this Module claims, if it was refused because another Module had it. It stays refused after that Module
    /// is deleted, until the annotation opendepot.defdev.io/claim-address is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_address: Option<String>,
    /// If true, the annotation opendepot.defdev.io/claim-address is ignored until it is removed and set again, because another
    /// Module had the address when it was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_void: Option<bool>,
    /// The generation in the annotation opendepot.defdev.io/confirm-removal, if the annotation was set before that generation. The
    /// annotation is then ignored until it is removed and set again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void_confirmation: Option<i64>,
}

/// Numbers of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCounts {
    /// Wanted versions: those that are listed, counted once if listed with and without v, and not pruned.
    pub desired: i32,
    /// Wanted versions that are stored.
    pub synced: i32,
    /// Wanted versions whose last attempt failed.
    pub failed: i32,
    /// Listed versions that versionHistoryLimit excludes.
    pub pruned: i32,
    /// `synced/desired`, as kubectl shows it.
    #[serde(default)]
    pub summary: String,
}
