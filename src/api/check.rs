//! Checks a module configuration by the rules of the schema, for objects that were stored before the schema had them. Pure.

use super::config::{ModuleConfig, S3Config};
use crate::domain::names::is_dns_subdomain;
use crate::domain::text::{LONGEST_EXCERPT, cut};
use crate::domain::{KeyError, ObjectLocation, Repository, RepositoryError, object_key};

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    pub repository: Repository,
    /// The module's name in a registry.
    pub name: &'a str,
    pub s3: &'a S3Config,
}

impl Checked<'_> {
    pub fn location(&self, file_name: &str) -> Result<ObjectLocation, InvalidConfig> {
        Ok(ObjectLocation {
            bucket: self.s3.bucket.clone(),
            key: object_key(self.s3.key.as_deref(), self.name, file_name)?,
            region: self.s3.region.clone(),
            endpoint: self.s3.endpoint.clone(),
            force_path_style: self.s3.force_path_style,
        })
    }
}

/// Why a configuration is invalid. The message contains what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("moduleConfig.repoUrl is missing: write https://github.com/OWNER/REPO")]
    NoRepository,
    #[error("moduleConfig.repoUrl: {0}")]
    Repository(#[from] RepositoryError),
    #[error(
        "moduleConfig.repoOwner is {owner:?}, but repoUrl names {in_url:?}: change one of them, or leave repoOwner out"
    )]
    OwnerDisagrees { owner: String, in_url: String },
    #[error("moduleConfig.storageConfig.s3 is missing: write s3: {{bucket: NAME, region: REGION}}")]
    NoStorage,
    #[error(
        "moduleConfig.storageConfig.{0} is not supported: OpenDepot stores in S3 only; write storageConfig.s3 with bucket and region"
    )]
    OtherStorage(&'static str),
    #[error("moduleConfig.versionHistoryLimit is {0}: write 0 (which keeps all versions) or more")]
    NegativeLimit(i32),
    /// The name is part of a URL path, so it must not contain other characters.
    #[error(
        "moduleConfig.githubClientConfig.secretName is {0:?}: write the name of a Secret in this namespace"
    )]
    SecretName(String),
    #[error("moduleConfig: {0}")]
    Key(#[from] KeyError),
    /// Another field of a Version's spec.
    #[error("{0}")]
    Spec(String),
}

impl ModuleConfig {
    /// Checks this configuration of a Module (or Version) called `object`.
    pub fn check<'a>(&'a self, object: &'a str) -> Result<Checked<'a>, InvalidConfig> {
        let name = self.name.as_deref().unwrap_or(object);
        let repository = self.repository(name)?;
        let storage = self.storage_config.as_ref().ok_or(InvalidConfig::NoStorage)?;
        for (backend, given) in [
            ("azureStorage", &storage.azure_storage),
            ("gcs", &storage.gcs),
            ("fileSystem", &storage.file_system),
        ] {
            if given.is_some() {
                return Err(InvalidConfig::OtherStorage(backend));
            }
        }
        if let Some(limit) = self.version_history_limit.filter(|limit| *limit < 0) {
            return Err(InvalidConfig::NegativeLimit(limit));
        }
        let secret = self.secret_name();
        if !is_dns_subdomain(secret, 253) {
            return Err(InvalidConfig::SecretName(cut(secret, LONGEST_EXCERPT)));
        }
        let s3 = storage.s3.as_ref().ok_or(InvalidConfig::NoStorage)?;
        // With a valid file name, so that only the prefix and the name are checked.
        object_key(s3.key.as_deref(), name, "x")?;
        Ok(Checked { repository, name, s3 })
    }

    fn repository(&self, name: &str) -> Result<Repository, InvalidConfig> {
        let repository = self.named_repository(name).ok_or(InvalidConfig::NoRepository)??;
        match self.repo_owner.as_deref() {
            Some(owner) if !repository.is_owned_by(owner) => Err(InvalidConfig::OwnerDisagrees {
                owner: owner.to_owned(),
                in_url: repository.owner().to_owned(),
            }),
            _ => Ok(repository),
        }
    }
}
