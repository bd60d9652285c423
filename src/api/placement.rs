//! Which fields of a configuration decide an object's bytes or location. A Version whose placement changed moves.
//!
//! Every field is named here, so that the code does not compile until this is decided for a new field.

use super::config::{ModuleConfig, S3Config, StorageConfig};
use crate::domain::{Repository, RepositoryError, canonical_endpoint};

impl ModuleConfig {
    /// The fields that determine an object's bytes or location, in canonical form.
    pub fn placement(&self) -> impl PartialEq + std::hash::Hash + std::fmt::Debug + use<'_> {
        let Self {
            name,
            repo_url: _, // The repository, below, is read from these two.
            repo_owner: _,
            file_format,
            storage_config,
            provider: _,              // Only part of the address in a registry.
            immutable: _,             // Decides whether content may change, not the content.
            version_history_limit: _, // Decides which Versions exist.
            deletion_policy: _,       // Decides what happens at deletion.
            github_client_config: _,  // Decides how to fetch, not what.
            version_constraints: _,   // Ignored.
        } = self;
        let s3 = storage_config.as_ref().and_then(|storage| {
            let StorageConfig {
                s3,
                presign: _, // Ignored.
                // Rejected: nothing is stored there.
                azure_storage: _,
                gcs: _,
                file_system: _,
            } = storage;
            s3.as_ref()
        });
        (name.as_deref(), self.canonical_repository(), file_format.extension(), s3.map(S3Config::placement))
    }

    /// The repository's address in lower case, because names on GitHub are case-insensitive.
    pub fn canonical_repository(&self) -> Option<String> {
        let named = self.named_repository(self.name.as_deref().unwrap_or_default())?;
        let written = || self.repo_url.as_ref().or(self.repo_owner.as_ref()).cloned();
        let text = named.ok().map(|repository| repository.to_string()).or_else(written);
        text.map(|text| text.to_lowercase())
    }

    /// The repository at `repoUrl`, or the one called `name` of `repoOwner`; `None` if both are missing.
    pub(super) fn named_repository(&self, name: &str) -> Option<Result<Repository, RepositoryError>> {
        match &self.repo_url {
            Some(url) => Some(Repository::parse(url)),
            None => Some(Repository::from_parts(self.repo_owner.as_deref()?, name)),
        }
    }
}

impl S3Config {
    /// The prefix of object keys, without the slash that may end it.
    pub(crate) fn prefix(&self) -> &str {
        self.key.as_deref().unwrap_or_default().trim_end_matches('/')
    }

    fn placement(&self) -> impl PartialEq + std::hash::Hash + std::fmt::Debug + use<'_> {
        let Self {
            bucket,
            region,
            key: _, // As the prefix.
            endpoint,
            force_path_style: _,       // How requests are addressed, not to which store.
            server_side_encryption: _, // A change applies to later uploads.
            kms_key_id: _,             // The same.
        } = self;
        (bucket.as_str(), self.prefix(), region.as_str(), canonical_endpoint(endpoint.as_deref(), region))
    }
}
