//! The kind `Module`: one module of a platform team and the versions of it that are wanted.
#![allow(clippy::duplicated_attributes, reason = "each printer column is an attribute of its own")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{ModuleConfig, any_object};
use crate::domain::release::semver_pattern;

/// What is wanted: versions of one module, published from GitHub to S3.
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
    doc = "A Terraform or OpenTofu module: its repository on GitHub, its place in S3, and the versions that are published.",
    printcolumn(
        name = "Provider",
        type_ = "string",
        json_path = ".spec.moduleConfig.provider",
        description = "Main provider of the module"
    ),
    printcolumn(
        name = "Latest",
        type_ = "string",
        json_path = ".status.latestVersion",
        description = "Highest stored release"
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.versions.summary",
        description = "Stored versions / wanted versions"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether everything wanted is stored and nothing failed"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is, or is not, ready"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".spec.moduleConfig.repoUrl",
        description = "Repository on GitHub",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the Module"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ModuleSpec {
    /// Where the module comes from, how it is packed, and where it is stored.
    pub module_config: ModuleConfig,
    /// The versions that are wanted. Each becomes a Version object; removing an entry removes it and what it stored.
    #[serde(default)]
    #[schemars(
        length(max = 5000),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["version"])
    )]
    pub versions: Vec<ModuleVersion>,
    /// true: fetch, compare and store every version again now. Goes back to false when that is done.
    #[serde(default)]
    pub force_sync: bool,
    /// true: stop all work for this Module and its Versions, except deletion of the Module.
    #[serde(default)]
    pub suspend: bool,
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

/// What is stored, and what keeps the rest from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, as kstatus defines them, and `OriginalVersionsFound` while Versions of the original
    /// OpenDepot are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Whether every wanted version is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
    /// The message of the condition Ready: one plain sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<String>,
    /// The highest stored release, without a leading v; a pre-release only when nothing else is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<String>,
    /// Counts of versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<VersionCounts>,
    /// The open request of forceSync, or `done:<generation>` of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_token: Option<String>,
    /// The last value of the annotation opendepot.defdev.io/requestedAt that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// For immutable modules: the content digest of each version that was ever published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub published: Option<BTreeMap<String, String>>,
    /// Of the original OpenDepot: kept as it is, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub module_version_refs: Option<Value>,
    /// Of the original OpenDepot: kept as it is, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
}

/// How many versions there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionCounts {
    /// Wanted: listed, each spelling once, less what versionHistoryLimit prunes.
    pub desired: i32,
    /// Wanted and stored now.
    pub synced: i32,
    /// Wanted and failed in their last attempt.
    pub failed: i32,
    /// Listed, and left out because of versionHistoryLimit.
    pub pruned: i32,
    /// `synced/desired`, as kubectl shows it.
    #[serde(default)]
    pub summary: String,
}
