//! The location of an object in S3.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::canonical_endpoint;

/// Where an object is stored, and how the store is addressed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLocation {
    /// Name of the bucket.
    pub bucket: String,
    /// Key of the object.
    pub key: String,
    /// Region of the bucket.
    pub region: String,
    /// URL of an S3-compatible store; absent for AWS, or for the operator's `AWS_ENDPOINT_URL_S3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether the bucket is part of the URL path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
}

impl ObjectLocation {
    /// Whether both name the same bucket and key in the same store. A default that is spelled out, a trailing slash or upper
    /// case in the endpoint, and the addressing style make no difference.
    pub fn is_same_location(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }

    fn canonical(&self) -> (&str, &str, &str, Option<String>) {
        let Self {
            bucket,
            key,
            region,
            endpoint,
            // How requests are addressed, not to which store.
            force_path_style: _,
        } = self;
        (bucket, key, region, canonical_endpoint(endpoint.as_deref(), region))
    }

    /// Whether both have the same bucket and key. The endpoint does not count: one store can be reached by a service name and
    /// by an address, and taking these for two stores would delete the only copy after a move.
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.key == other.key
    }

    /// Whether the bucket is addressed as the first segment of the path, as most S3-compatible stores require.
    pub fn path_style(&self) -> bool {
        self.force_path_style.unwrap_or(false)
    }
}

impl fmt::Display for ObjectLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::ObjectLocation;

    #[test]
    fn one_object_is_recognised_under_any_endpoint() {
        let here = ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            ..ObjectLocation::default()
        };
        let spelled = ObjectLocation {
            endpoint: Some("http://minio:9000/".into()),
            force_path_style: Some(true),
            ..here.clone()
        };
        let other = ObjectLocation { key: "vpc/b.zip".into(), ..here.clone() };
        assert!(here.is_same_object(&spelled));
        assert!(!here.is_same_object(&other));
        assert_eq!(here.to_string(), "s3://modules/vpc/a.zip");
    }
}
