//! What `--allow-storage` and `--s3-endpoint` permit.
//!
//! All namespaces use the operator's AWS identity, so only these rules keep a namespace out of another one's bucket.

use std::str::FromStr;

use thiserror::Error;

use crate::domain::names::{is_bucket_name, is_dns_label};
use crate::domain::object_key::checked_path;
use crate::domain::{Endpoint, EndpointError, ObjectLocation};

/// All rules of the flags.
#[derive(Clone, Debug, Default)]
pub struct StorageRules {
    allow: Vec<StorageRule>,
    endpoints: Vec<Endpoint>,
}

/// One `--allow-storage NAMESPACE=BUCKET[/PREFIX]`; `*` means any namespace, or any bucket and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRule {
    namespace: Option<String>,
    bucket: Option<String>,
    /// Only with a bucket.
    prefix: Option<String>,
}

/// What is wrong with an `--allow-storage` value, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{rule:?} {problem}; write NAMESPACE=BUCKET[/PREFIX], such as team-a=modules/team-a, or * for either side"
)]
pub struct StorageRuleError {
    rule: String,
    problem: &'static str,
}

/// Why a namespace may not use a location.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LocationNotAllowed {
    /// No `--allow-storage` covers bucket and key.
    #[error(
        "namespace {namespace} is not allowed to store in {location}: no --allow-storage rule permits it; use a bucket and prefix \
         that are \
             permitted, or run the operator with --allow-storage {namespace}={bucket}"
    )]
    Storage { namespace: String, location: String, bucket: String },
    #[error(
        "the S3 endpoint {0} is not permitted; leave it out to use the default store, or run the operator with --s3-endpoint {0}"
    )]
    Endpoint(Endpoint),
    #[error(transparent)]
    BadEndpoint(#[from] EndpointError),
}

impl StorageRules {
    /// The rules of the flags. `default_endpoint` is that of the AWS configuration, if one is set: requests without an endpoint
    /// are sent there, so a spec may also name it.
    pub fn new(
        allow: Vec<StorageRule>,
        mut endpoints: Vec<Endpoint>,
        default_endpoint: Option<Endpoint>,
    ) -> Self {
        endpoints.extend(default_endpoint);
        Self { allow, endpoints }
    }

    /// Whether any namespace may store anywhere. Logged as a warning at start.
    pub fn allows_anything(&self) -> bool {
        self.allow.is_empty()
    }

    /// Checks bucket, key and endpoint of a location.
    ///
    /// # Errors
    /// [`LocationNotAllowed`], which names the flag that would permit it.
    pub fn check(&self, namespace: &str, location: &ObjectLocation) -> Result<(), LocationNotAllowed> {
        if !self.allows(namespace, &location.bucket, &location.key) {
            let (namespace, bucket) = (namespace.to_owned(), location.bucket.clone());
            return Err(LocationNotAllowed::Storage { namespace, location: location.to_string(), bucket });
        }
        let Some(endpoint) = &location.endpoint else { return Ok(()) };
        let endpoint: Endpoint = endpoint.parse()?;
        if endpoint.is_aws(&location.region) || self.endpoints.contains(&endpoint) {
            Ok(())
        } else {
            Err(LocationNotAllowed::Endpoint(endpoint))
        }
    }

    /// Whether the namespace may use this key. Prefixes match whole segments: `team` permits `team/x`, not `team-b/x`.
    pub fn allows(&self, namespace: &str, bucket: &str, key: &str) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|rule| rule.allows(namespace, bucket, key))
    }
}

impl StorageRule {
    fn allows(&self, namespace: &str, bucket: &str, key: &str) -> bool {
        let below = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        self.namespace.as_deref().is_none_or(|only| only == namespace)
            && self.bucket.as_deref().is_none_or(|only| only == bucket)
            && self.prefix.as_deref().is_none_or(below)
    }
}

impl FromStr for StorageRule {
    type Err = StorageRuleError;

    fn from_str(rule: &str) -> Result<Self, StorageRuleError> {
        let wrong = |problem| StorageRuleError { rule: rule.to_owned(), problem };
        let (namespace, target) = rule.split_once('=').ok_or_else(|| wrong("has no `=`"))?;
        let namespace = match namespace {
            "*" => None,
            name if is_dns_label(name) => Some(name.to_owned()),
            _ => return Err(wrong("does not start with a namespace's full name")),
        };
        if target == "*" {
            return Ok(Self { namespace, bucket: None, prefix: None });
        }
        let (bucket, prefix) = match target.split_once('/') {
            Some((bucket, prefix)) => (bucket, Some(prefix.strip_suffix('/').unwrap_or(prefix))),
            None => (target, None),
        };
        if !is_bucket_name(bucket) {
            return Err(wrong(
                "does not name a bucket (3 to 63 lower-case letters, digits, dots and hyphens)",
            ));
        }
        let prefix = prefix.filter(|prefix| !prefix.is_empty());
        if prefix.is_some_and(|prefix| prefix.contains('*') || checked_path("key prefix", prefix).is_err()) {
            return Err(wrong(
                "has a prefix that does not consist of plain path segments (no `*`, `.`, `..` or empty ones)",
            ));
        }
        Ok(Self { namespace, bucket: Some(bucket.to_owned()), prefix: prefix.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests;
