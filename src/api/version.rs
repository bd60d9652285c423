//! The kind `Version`: one published (or to be published) version of a module.
#![allow(clippy::duplicated_attributes, reason = "each printer column is an attribute of its own")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{ModuleConfig, any_object};
use crate::domain::ObjectLocation;
use crate::domain::release::semver_pattern;

/// `spec.type` of the Versions that this operator works on.
pub const TYPE_MODULE: &str = "Module";

/// One version of a module and where it is to be stored.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "opendepot.defdev.io",
    version = "v1alpha1",
    kind = "Version",
    plural = "versions",
    singular = "version",
    shortname = "odv",
    category = "opendepot",
    namespaced,
    status = "VersionStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "One version of a module: the tag it comes from and the object in S3 that it is stored as.",
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".spec.version",
        description = "Semantic version"
    ),
    printcolumn(
        name = "Synced",
        type_ = "boolean",
        json_path = ".status.synced",
        description = "Whether the object is stored as recorded"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the last reconcile succeeded"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is, or is not, ready"
    ),
    printcolumn(
        name = "Size",
        type_ = "integer",
        json_path = ".status.archiveSizeBytes",
        description = "Bytes of the stored object"
    ),
    printcolumn(
        name = "Checksum",
        type_ = "string",
        json_path = ".status.checksum",
        description = "SHA-256 of the stored object, base64",
        priority = 1
    ),
    printcolumn(
        name = "Commit",
        type_ = "string",
        json_path = ".status.source.commit",
        description = "Commit that the object was made from",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Age of the Version"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type").message("type cannot be changed: delete this Version and create another"),
    validation = Rule::new("self.version == oldSelf.version").message("version cannot be changed: create another Version, and delete this one when it is not needed"),
    validation = Rule::new("self.type != 'Module' || has(self.moduleConfigRef)").message("moduleConfigRef is required: write repoUrl, provider and storageConfig.s3 there, as in a Module's moduleConfig"),
    validation = Rule::new(concat!("self.type != 'Module' || self.version.matches('", semver_pattern!(), "')")).message("version must be a semantic version, MAJOR.MINOR.PATCH[-pre][+build] with an optional leading v, such as \"1.10.0\" or \"v1.10.0\"")
)]
pub struct VersionSpec {
    /// Module, or Provider for objects of the original OpenDepot, which are left alone.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["Module", "Provider"]))]
    pub type_: String,
    /// The semantic version, with or without a leading v. Never changes.
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
    /// Last part of the object's key. The operator sets a fresh one when the object moves or its content is replaced, also
    /// where you wrote one; without it, derived from namespace, name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub file_name: Option<String>,
    /// true: fetch, compare and store again now. Goes back to false when that is done.
    #[serde(default)]
    pub force_sync: bool,
    /// true: stop all work for this Version, except its deletion. Yours; the operator never writes it.
    #[serde(default)]
    pub suspend: bool,
    /// true while the Module is suspended. The Module controller's; do not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_suspended: Option<bool>,
    /// The content digest (`h1:…`) that this version must have: what the Module recorded when it was first published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub expected_digest: Option<String>,
    /// The module configuration of this Version: the Module's, with its defaults made explicit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_config_ref: Option<ModuleConfig>,
    /// Of the original OpenDepot's Provider objects: accepted and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub provider_config_ref: Option<Value>,
    /// Of the original OpenDepot's Provider objects: accepted and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Of the original OpenDepot's Provider objects: accepted and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<String>,
    /// Of the original OpenDepot's Skill and Agent objects: kept and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub agent_source_ref: Option<Value>,
    /// Of the original OpenDepot: kept and left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<bool>,
}

/// What is stored, where it came from, and how the last reconcile ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The generation of the spec that this status speaks of; -1 before the operator has looked at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, as kstatus defines them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Whether the object is stored as recorded here. (Ready speaks of the last reconcile.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
    /// The message of the condition Ready: one plain sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<String>,
    /// SHA-256 of the stored object, base64: equal to S3's own x-amz-checksum-sha256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Digest of the module's files (Go's dirhash, `h1:…`): the same for zip and tar, and for any compressor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<String>,
    /// Bytes of the stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_size_bytes: Option<i64>,
    /// What the object was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Where the object is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ObjectLocation>,
    /// Every place where an object of this Version may exist: written before a store, struck after a confirmed delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub objects: Vec<ObjectLocation>,
    /// When an object was last really stored or repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// The last value of the annotation opendepot.defdev.io/requestedAt that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// The last request of the Module's forceSync that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_module_request: Option<String>,
    /// A forced sync that is not finished: `retry:<generation>` while one that failed for a passing reason is tried again,
    /// `done:<generation>` until spec.forceSync is seen back at false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_force: Option<String>,
    /// Of the original OpenDepot: kept as it is, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub binary_scan: Option<Value>,
    /// Of the original OpenDepot: kept as it is, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub source_scan: Option<Value>,
}

/// What an object was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The repository, `https://HOST/OWNER/REPO`.
    pub url: String,
    /// The ref that was fetched, `refs/tags/TAG`.
    #[serde(rename = "ref")]
    pub ref_: String,
    /// The commit, as the archive itself names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}
