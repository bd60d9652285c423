//! `moduleConfig` of a Module: its repository and its location in S3. Each Version has a copy in `moduleConfigRef`, so that it
//! can be published without its Module.

#![allow(unreachable_pub, reason = "KubeSchema repeats each struct in a private scope")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::ArchiveFormat;

/// Name of the Secret with GitHub credentials if the spec names none.
pub(crate) const DEFAULT_SECRET: &str = "opendepot-github-application-secret";

/// Source, archive format and location of the module.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.repoUrl) || has(self.repoOwner)").message("repoUrl is required: write https://github.com/OWNER/REPO (or repoOwner, for github.com/<repoOwner>/<name>)"),
    validation = Rule::new("!has(self.repoUrl) || self.repoUrl.matches('^https://[^/@?#\\\\s]+/[^/@?#\\\\s]+/[^/?#\\\\s]+/?$')").message("repoUrl must be https://HOST/OWNER/REPO, such as https://github.com/terraform-aws-modules/terraform-aws-eks (no http://, user, query or further path)"),
    validation = Rule::new("!has(self.repoUrl) || !has(self.repoOwner) || !self.repoUrl.matches('^https://[^/]+/[^/]+/.+') || self.repoUrl.lowerAscii().split('/')[3] == self.repoOwner.lowerAscii()").message("repoOwner must be the owner in repoUrl: change one of them, or leave repoOwner out"),
    validation = Rule::new("!has(self.repoOwner) || self.repoOwner.matches('^[A-Za-z0-9_-]*$')").message("repoOwner must be a user or an organisation on GitHub, such as terraform-aws-modules: letters, digits, - and _"),
    validation = Rule::new("!has(self.provider) || self.provider.matches('^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$')").message("provider must be a name such as aws, google or azurerm: lower-case letters, digits and dashes"),
    validation = Rule::new("has(self.storageConfig)").message("storageConfig.s3 is required: write storageConfig: {s3: {bucket: NAME, region: REGION}}")
)]
pub struct ModuleConfig {
    /// The module's name in the registry and in the object key: one plain path segment. Default: the Module's metadata.name.
    /// It may differ from the name of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$')").message("name must be one plain path segment, such as terraform-aws-eks: letters, digits, dots, - and _, with a letter or digit at both ends"))]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// The main provider of the module, such as aws, google or azurerm: a lower-case DNS label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub provider: Option<String>,
    /// The repository: `https://HOST/OWNER/REPO[.git]`. Hosts other than github.com must be allowed by the operator's
    /// --github-host. Default: `https://github.com/<repoOwner>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub repo_url: Option<String>,
    /// Owner of the repository. If repoUrl is set too, it must have the same owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub repo_owner: Option<String>,
    /// Archive format: zip, or tar for a gzip-compressed tar (`.tar.gz`).
    #[serde(default)]
    pub file_format: ArchiveFormat,
    /// If true, the content of a published version never changes: if its tag is moved, the Version stalls and the stored object
    /// stays as it is. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Number of versions to keep, the newest by semver precedence. An older Version is deleted once that many newer ones are
    /// stored. 0 or absent: all are kept. The operator does not change spec.versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub version_history_limit: Option<i32>,
    /// Whether the stored object is deleted when its Version is deleted or moves (Delete), or stays in the bucket (Retain).
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Access to GitHub. Default: without credentials, which works for public repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github_client_config: Option<GithubClientConfig>,
    /// Location of the module in S3. s3 with bucket and region is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_config: Option<StorageConfig>,
    /// Accepted for compatibility and ignored: versions are listed in spec.versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub version_constraints: Option<String>,
}

/// Whether a stored object is deleted together with its Version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The object is deleted.
    #[default]
    Delete,
    /// The object stays in the bucket.
    Retain,
}

/// Access to GitHub.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GithubClientConfig {
    /// If true, requests use the credentials of a Secret: githubAppID, githubInstallID and githubPrivateKey of a GitHub App, or
    /// a personal githubToken. Required for private repositories. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_authenticated_client: Option<bool>,
    /// Name of the Secret in the same namespace. Default: opendepot-github-application-secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("secretName must be the name of a Secret in this namespace, such as github-app: lower-case letters, digits, dots and dashes, with a letter or digit at both ends"))]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
}

/// The backend that stores modules: s3.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.s3)").message("storageConfig.s3 is required: write s3: {bucket: NAME, region: REGION}"),
    validation = Rule::new("!has(self.azureStorage)").message("storageConfig.azureStorage is not supported: OpenDepot stores in S3 only; write storageConfig.s3 with bucket and region"),
    validation = Rule::new("!has(self.gcs)").message("storageConfig.gcs is not supported: OpenDepot stores in S3 only; write storageConfig.s3 with bucket and region"),
    validation = Rule::new("!has(self.fileSystem)").message("storageConfig.fileSystem is not supported: OpenDepot stores in S3 only; write storageConfig.s3 with bucket and region")
)]
pub struct StorageConfig {
    /// A bucket of Amazon S3 or of an S3-compatible store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Config>,
    /// Accepted for compatibility and ignored: `opendepot serve --download` decides how downloads are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presign: Option<PresignConfig>,
    /// Not supported. The API server rejects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub azure_storage: Option<Value>,
    /// Not supported. The API server rejects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub gcs: Option<Value>,
    /// Not supported. The API server rejects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub file_system: Option<Value>,
}

/// A bucket, and how objects are stored in it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.key) || self.key.matches('^([^/\\\\\\\\[:cntrl:]]+(/[^/\\\\\\\\[:cntrl:]]+)*/?)?$')").message("key must be made of plain path segments, such as modules/terraform: no leading or double slash, no backslash"),
    validation = Rule::new("!has(self.key) || !self.key.split('/').exists(part, part == '.' || part == '..')").message("key must be made of plain path segments, such as modules/terraform: it must not contain . or .. as a segment")
)]
pub struct S3Config {
    /// Name of an existing bucket. The operator never creates one.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$')").message("bucket must be the name of a bucket, such as acme-modules: lower-case letters, digits, dots and dashes, with a letter or digit at both ends"))]
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Region of the bucket, such as us-west-2.
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9-]+$')").message("region must be the name of a region, such as us-west-2: letters, digits and dashes"))]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Prefix of every object key, which is `[key/]name/fileName`: plain path segments, such as modules/terraform. No leading slash, no `..`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub key: Option<String>,
    /// URL of an S3-compatible store, such as `https://minio.example.com`. The operator's --s3-endpoint must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?#\\\\s]+/?$')").message("endpoint must be https://HOST[:PORT] or http://HOST[:PORT], such as https://minio.example.com (no user, path or query)"))]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// If true, the bucket is part of the URL path, which most S3-compatible stores require. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// How S3 encrypts the object. Default: the bucket's setting. A change applies to later uploads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// The KMS key if serverSideEncryption is aws:kms or aws:kms:dsse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub kms_key_id: Option<String>,
}

/// How S3 encrypts the object (`x-amz-server-side-encryption`). Default: the bucket's setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServerSideEncryption {
    /// Keys of S3.
    #[serde(rename = "AES256")]
    Aes256,
    /// A key in KMS.
    #[serde(rename = "aws:kms")]
    Kms,
    /// A key in KMS, two layers.
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl ServerSideEncryption {
    /// The value of the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsDsse => "aws:kms:dsse",
        }
    }
}

/// Accepted for compatibility and ignored.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PresignConfig {
    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ttl: Option<String>,
    /// Ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_to_proxy: Option<bool>,
}

/// An object of any shape, for fields of other software, which are preserved.
pub(super) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

impl ModuleConfig {
    /// Whether requests to GitHub use credentials.
    pub fn authenticated(&self) -> bool {
        self.github_client_config.as_ref().and_then(|c| c.use_authenticated_client).unwrap_or(false)
    }

    /// Name of the Secret that holds the credentials.
    pub fn secret_name(&self) -> &str {
        self.github_client_config.as_ref().and_then(|c| c.secret_name.as_deref()).unwrap_or(DEFAULT_SECRET)
    }

    /// That name, if requests use credentials.
    pub fn secret(&self) -> Option<&str> {
        self.authenticated().then(|| self.secret_name())
    }

    /// The configuration of this Module's Versions: with explicit defaults, and without fields that only the Module controller
    /// reads (the history limit) or that are ignored (constraints, presigning), so that a change of those writes no Version.
    #[must_use]
    pub fn resolved(&self, module: &str) -> Self {
        let name = self.name.clone().unwrap_or_else(|| module.to_owned());
        let repo_url = self.repo_url.clone().or_else(|| {
            let owner = self.repo_owner.as_ref()?;
            Some(format!("https://github.com/{owner}/{name}"))
        });
        // Without `..`: whether Versions have a new field is decided here.
        let storage = |storage: StorageConfig| StorageConfig {
            s3: storage.s3,
            presign: None,
            azure_storage: storage.azure_storage,
            gcs: storage.gcs,
            file_system: storage.file_system,
        };
        Self {
            name: Some(name),
            provider: self.provider.clone(),
            repo_url,
            repo_owner: self.repo_owner.clone(),
            file_format: self.file_format,
            immutable: self.immutable,
            version_history_limit: None,
            deletion_policy: self.deletion_policy,
            github_client_config: self.github_client_config.clone(),
            storage_config: self.storage_config.clone().map(storage),
            version_constraints: None,
        }
    }
}
