//! Stores objects in S3: one client for every bucket, region and endpoint that a caller names.
//!
//! In: a [`Place`], and for a PUT a file of known length and SHA-256. Out: what lies there, or a [`StorageError`] whose
//! [`Cause`] says who has to act. This module decides nothing: whether an object is ours, when to try again and what to
//! tell the user is the caller's. It knows neither Kubernetes nor GitHub, and reads no credential itself: those stay in
//! the AWS SDK's default chain.
//!
//! | file | holds |
//! |---|---|
//! | `key` | [`object_key`]: the only way a key is made |
//! | `rules` | what `--allow-storage` and `--s3-endpoint` permit; pure |
//! | `canonical` | one spelling for each store |
//! | `ownership` | whose an object is, as its S3 user metadata says |
//! | `client` | [`Storage`] and its clients: proxy, roots, time limits, retries |
//! | `object` | HEAD, PUT and DELETE of one object |
//! | `aws` | whether an endpoint is AWS itself; pure |
//! | `proxy` | which requests go through a proxy |
//! | `headers` | what some stores refuse of them, and what is left out then |
//! | `payload` | the SHA-256 in the signature, where a store refuses it in a header |
//! | `stated` | SHA-256 and size that an object states itself, for stores that keep no SHA-256 |
//! | `outage` | stores that do not answer, which must not hold everybody up |
//! | `refusals` | places where PUTs are refused, for which nothing need be fetched |
//! | `verdict` | the one table from S3's answers to causes; pure |
//! | `redaction` | texts without secrets; pure |
//! | `error` | [`StorageError`]: the causes, and the words for them |

mod aws;
mod canonical;
mod client;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod key;
mod object;
mod outage;
mod ownership;
mod payload;
mod proxy;
mod redaction;
mod refusals;
mod rules;
mod stated;
mod verdict;

use std::fmt;

pub use canonical::{canonical_endpoint, use_default_endpoint};
pub use client::{CaError, Storage};
pub use error::{Cause, Operation, StorageError};
pub use key::{KeyError, content_type, object_key};
pub use object::{Encryption, Found, HeldBack, PutOutcome, Upload};
pub use ownership::Ownership;
pub use rules::{Endpoint, EndpointError, Refused, StorageRule, StorageRuleError, StorageRules};

/// Where an object lies, and how to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Bucket name.
    pub bucket: String,
    /// Object key, as [`object_key`] makes it.
    pub key: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Base URL of an S3-compatible store; `None` is AWS, or `AWS_ENDPOINT_URL_S3` where that is set.
    pub endpoint: Option<String>,
    /// Address the bucket as the first segment of the path, as most S3-compatible stores need it.
    pub force_path_style: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}
