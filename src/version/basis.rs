//! The part of a Version that a PUT or DELETE is decided on, read again right before the request. Pure.
//!
//! Minutes may pass between a decision and its request, and a request cannot be undone. Two equal bases lead to the same
//! request.

use crate::api::config::ServerSideEncryption;
use crate::api::state::VersionState;
use crate::api::target::{Target, named_location};
use crate::domain::{ArchiveFormat, ObjectLocation};

/// What a PUT depends on: the object, its location, what decides its bytes, and what the content has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBasis {
    uid: Option<String>,
    is_terminating: bool,
    is_suspended: bool,
    wanted: Option<Wanted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    location: ObjectLocation,
    repository: String,
    version: String,
    format: ArchiveFormat,
    encryption: (Option<ServerSideEncryption>, Option<String>),
    immutable: bool,
    expected_digest: Option<Box<str>>,
}

/// What a DELETE depends on. For a terminating Version only the policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteBasis {
    uid: Option<String>,
    is_terminating: bool,
    retain: bool,
    /// Whether work is suspended, and the wanted location: what a move left behind may be wanted again.
    kept: Option<(bool, Option<ObjectLocation>)>,
}

impl PutBasis {
    /// Of a Version as it is now.
    pub fn of(version: &VersionState) -> Self {
        Self {
            uid: version.metadata.uid.clone(),
            is_terminating: version.is_terminating(),
            is_suspended: version.is_suspended(),
            wanted: Target::of(version).ok().map(|target| Wanted::of(version, target)),
        }
    }
}

impl Wanted {
    fn of(version: &VersionState, target: Target) -> Self {
        let s3 = target.config.storage_config.as_ref().and_then(|storage| storage.s3.as_ref());
        Self {
            repository: target.source_url(),
            version: target.release.to_string(),
            format: target.format(),
            encryption: s3.map(|s3| (s3.server_side_encryption, s3.kms_key_id.clone())).unwrap_or_default(),
            immutable: version.immutable,
            expected_digest: version.expected_digest.clone(),
            location: target.location,
        }
    }
}

impl DeleteBasis {
    /// Of a Version as it is now.
    pub fn of(version: &VersionState) -> Self {
        let is_terminating = version.is_terminating();
        let kept = || (version.is_suspended(), named_location(version));
        Self {
            uid: version.metadata.uid.clone(),
            is_terminating,
            retain: version.retain,
            kept: (!is_terminating).then(kept),
        }
    }
}
