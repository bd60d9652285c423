//! Stores objects in S3: one client for every bucket, region and endpoint that a caller names.
//!
//! In: an [`ObjectLocation`], and for a PUT a file of known length and SHA-256. Out: what lies there, or a [`StorageError`] whose
//! [`Cause`] says who has to act. This module decides nothing: whether an object is ours, when to try again and what to
//! tell the user is the caller's. It knows neither Kubernetes nor GitHub, and reads no credential itself: those stay in
//! the AWS SDK's default chain.
//!
//! | file | holds |
//! |---|---|
//! | `rules` | what `--allow-storage` and `--s3-endpoint` permit; pure |
//! | `ownership` | whose an object is, as its S3 user metadata says |
//! | `client` | [`Storage`] and its clients: proxy, roots, time limits, retries |
//! | `object` | HEAD, PUT and DELETE of one object |
//! | `proxy` | which requests go through a proxy |
//! | `headers` | what some stores refuse of them, and what is left out then |
//! | `payload` | the SHA-256 in the signature, where a store refuses it in a header |
//! | `stated` | SHA-256 and size that an object states itself, for stores that keep no SHA-256 |
//! | `outage` | stores that do not answer, which must not hold everybody up |
//! | `refusals` | places where PUTs are refused, for which nothing need be fetched |
//! | `verdict` | the one table from S3's answers to causes; pure |
//! | `redaction` | texts without secrets; pure |
//! | `error` | [`StorageError`]: the causes, and the words for them |

mod client;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
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

pub use client::{CaError, Storage};
pub use error::{Cause, Operation, StorageError};
pub use object::{Encryption, Found, HeldBack, PutOutcome, Upload};
pub use ownership::Ownership;
pub use rules::{Refused, StorageRule, StorageRuleError, StorageRules};
