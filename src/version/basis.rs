//! The part of a Version that a PUT or DELETE is decided on, read again right before the request, and whether a change of it
//! ends the work in progress. Pure.
//!
//! Minutes may pass between a decision and its request, and a request cannot be undone. Two equal bases lead to the same
//! request.

use crate::api::state::VersionState;
use crate::api::target::{Target, named_location};
use crate::domain::{ArchiveFormat, ObjectLocation};
use crate::storage::Encryption;

/// What a PUT depends on: the object, its location, what decides its bytes, and what the content has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PutBasis {
    uid: Option<String>,
    is_terminating: bool,
    is_suspended: bool,
    target: Option<PutTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PutTarget {
    location: ObjectLocation,
    repository: String,
    version: String,
    format: ArchiveFormat,
    encryption: Encryption,
    immutable: bool,
    expected_digest: Option<Box<str>>,
}

/// What a DELETE depends on. For a terminating Version only the policy counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeleteBasis {
    uid: Option<String>,
    is_terminating: bool,
    retain: bool,
    /// Whether work is suspended, and the wanted location: an object that a move left behind may be wanted again.
    kept: Option<(bool, Option<ObjectLocation>)>,
}

/// Whether the change from `before` to `now` ends the work that was started on `before`. Changes of the status or of labels, and
/// requests for a sync, do not. Nor does a change of the deletion policy while the work `publishes`, nor a change to one of the
/// `own_file_names`, which the work itself wrote.
pub(crate) fn is_superseded(
    before: &VersionState,
    now: &VersionState,
    publishes: bool,
    own_file_names: &[Box<str>],
) -> bool {
    if before.uid() != now.uid() || before.is_terminating() != now.is_terminating() {
        return true;
    }
    // Spec and deletion make a new generation.
    if before.metadata.generation == now.metadata.generation {
        return false;
    }
    let is_retained = before.retain != now.retain && !publishes;
    if is_retained || before.is_terminating() {
        return is_retained;
    }
    let is_own = now.file_name.as_ref().is_some_and(|name| own_file_names.contains(name));
    if before.file_name != now.file_name && !is_own {
        return true;
    }
    let mut named_as_before = now.clone();
    named_as_before.file_name.clone_from(&before.file_name);
    PutBasis::of(before) != PutBasis::of(&named_as_before) || before.secret() != now.secret()
}

/// How S3 is to encrypt the object of a target.
pub(super) fn encryption(target: &Target) -> Encryption {
    let s3 = target.config.storage_config.as_ref().and_then(|storage| storage.s3.as_ref());
    let algorithm = s3.and_then(|s3| s3.server_side_encryption);
    Encryption {
        server_side_encryption: algorithm.map(|algorithm| algorithm.as_str().to_owned()),
        kms_key_id: s3.and_then(|s3| s3.kms_key_id.clone()),
    }
}

impl PutBasis {
    pub(crate) fn of(version: &VersionState) -> Self {
        Self {
            uid: version.metadata.uid.clone(),
            is_terminating: version.is_terminating(),
            is_suspended: version.is_suspended(),
            target: Target::of(version).ok().map(|target| PutTarget::of(version, target)),
        }
    }
}

impl PutTarget {
    fn of(version: &VersionState, target: Target) -> Self {
        Self {
            repository: target.source_url(),
            version: target.release.to_string(),
            format: target.format(),
            encryption: encryption(&target),
            immutable: version.immutable,
            expected_digest: version.expected_digest.clone(),
            location: target.location,
        }
    }
}

impl DeleteBasis {
    pub(crate) fn of(version: &VersionState) -> Self {
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
