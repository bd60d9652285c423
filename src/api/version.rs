//! The kind `Version`: one version of a module.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct in a private scope")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{ModuleConfig, any_object};
use crate::domain::ObjectLocation;
use crate::domain::release::semver_pattern;

/// `spec.type` of the Versions that this operator publishes.
pub(crate) const TYPE_MODULE: &str = "Module";

/// One version of a module and its location.
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
    doc = "One version of a module: the tag on GitHub and the object in S3.",
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".spec.version", "description": "Semantic version"}"#,
    printcolumn = r#"{"name": "Synced", "type": "boolean", "jsonPath": ".status.synced", "description": "Whether the object is stored as recorded"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "description": "Whether the last reconcile succeeded"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason", "description": "Reason of the condition Ready"}"#,
    printcolumn = r#"{"name": "Size", "type": "integer", "jsonPath": ".status.archiveSizeBytes", "description": "Size of the stored object in bytes"}"#,
    printcolumn = r#"{"name": "Checksum", "type": "string", "jsonPath": ".status.checksum", "description": "SHA-256 of the stored object, base64", "priority": 1}"#,
    printcolumn = r#"{"name": "Commit", "type": "string", "jsonPath": ".status.source.commit", "description": "Commit of the stored content", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Age of the Version"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type").message("type cannot be changed: delete this Version and create another"),
    validation = Rule::new("self.version == oldSelf.version").message("version cannot be changed: create another Version, and delete this one when it is not needed"),
    validation = Rule::new("self.type != 'Module' || has(self.moduleConfigRef)").message("moduleConfigRef is required: write repoUrl, provider and storageConfig.s3 there, as in a Module's moduleConfig"),
    validation = Rule::new(concat!("self.type != 'Module' || self.version.matches('", semver_pattern!(), "')")).message("version must be a semantic version, MAJOR.MINOR.PATCH[-pre][+build] with an optional leading v, such as \"1.10.0\" or \"v1.10.0\"")
)]
pub struct VersionSpec {
    /// Module, or Provider for objects of the original OpenDepot, which the operator ignores.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["Module", "Provider"]))]
    pub type_: String,
    /// The semantic version, with or without a leading v. It cannot be changed.
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
    /// Last part of the object's key. The operator replaces it, even if you set it, when the object moves or its content is
    /// replaced. Default: derived from namespace, name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')").message("fileName must be the last part of a key, such as net-1.2.0.zip: letters, digits, dots, - and _, with a letter or digit at both ends"))]
    #[schemars(length(min = 1, max = 253))]
    pub file_name: Option<String>,
    /// If true, the version is fetched, compared and stored again now. The operator resets the field to false when done.
    #[serde(default)]
    pub force_sync: bool,
    /// If true, all work for this Version stops, except its deletion. Only users set it.
    #[serde(default)]
    pub suspend: bool,
    /// Whether the Module is suspended. Written by the Module controller; do not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_suspended: Option<bool>,
    /// The content digest (`h1:…`) that this version must have. An immutable Module records it at the first publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub expected_digest: Option<String>,
    /// The configuration of this Version: the Module's, with explicit defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_config_ref: Option<ModuleConfig>,
    /// A field of the original OpenDepot's Provider objects. It is accepted and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub provider_config_ref: Option<Value>,
    /// A field of the original OpenDepot's Provider objects. It is accepted and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// A field of the original OpenDepot's Provider objects. It is accepted and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<String>,
    /// A field of the original OpenDepot's Skill and Agent objects. It is preserved and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub agent_source_ref: Option<Value>,
    /// A field of the original OpenDepot. It is preserved and ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<bool>,
}

/// The stored object, its source, and the result of the last reconcile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The generation of the spec that this status describes; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, as kstatus defines them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Whether the object is stored as recorded here, independent of the last reconcile, which Ready reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<bool>,
    /// The message of the condition Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<String>,
    /// SHA-256 of the stored object, in base64, equal to the x-amz-checksum-sha256 that S3 returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Digest of the module's files (dirhash of Go, `h1:…`). It does not depend on format and compression of the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<String>,
    /// Size of the stored object in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_size_bytes: Option<i64>,
    /// Source of the stored content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Location of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ObjectLocation>,
    /// Every location where an object of this Version may exist. Added before an upload, removed after a confirmed deletion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub objects: Vec<ObjectLocation>,
    /// When the object was last uploaded or restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// The last value of the annotation opendepot.defdev.io/requestedAt that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,
    /// Token of the Module's last request for a full sync that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_module_request: Option<String>,
    /// A forced sync that is not finished: `retry:<generation>` while it is retried after a transient failure,
    /// `done:<generation>` until spec.forceSync is reset to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_force: Option<String>,
}

/// Source of the stored content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The repository, `https://HOST/OWNER/REPO`.
    pub url: String,
    /// The ref that was fetched: `refs/tags/TAG`.
    #[serde(rename = "ref")]
    pub ref_: String,
    /// The commit that the archive contains in its metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}
