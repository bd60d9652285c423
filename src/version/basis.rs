//! What a PUT or DELETE is decided on, so that the Version can be looked at again right before the request.
//!
//! In: a Version. Out: the part of it that the decision rests on; two that are equal still lead to the same request. Pure:
//! no client and no clock. Minutes may lie between a decision and its request, and a request cannot be taken back.

use super::plan::{VersionView, Work};
use crate::api::config::ServerSideEncryption;
use crate::domain::{ArchiveFormat, ObjectLocation};

/// What a PUT rests on: the object, its place, what decides its bytes, and what the content has to be.
#[derive(Debug, PartialEq, Eq)]
pub struct PutBasis {
    uid: Option<String>,
    terminating: bool,
    suspended: bool,
    wanted: Option<Wanted>,
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    place: ObjectLocation,
    repository: String,
    version: String,
    format: ArchiveFormat,
    encryption: (Option<ServerSideEncryption>, Option<String>),
    immutable: bool,
    expected_digest: Option<String>,
}

/// What a DELETE rests on. Of a Version that goes, only the policy counts.
#[derive(Debug, PartialEq, Eq)]
pub struct DeleteBasis {
    uid: Option<String>,
    terminating: bool,
    retain: bool,
    /// Whether work is suspended, and where the object is wanted: what a move left behind may be wanted again.
    kept: Option<(bool, Option<ObjectLocation>)>,
}

impl PutBasis {
    /// Of the Version as it is in `view`.
    pub fn of(view: &VersionView) -> Self {
        Self {
            uid: view.metadata.uid.clone(),
            terminating: view.terminating(),
            suspended: view.suspended_by_spec(),
            wanted: view.work().ok().map(|work| Wanted::of(view, &work)),
        }
    }
}

impl Wanted {
    fn of(view: &VersionView, work: &Work<'_>) -> Self {
        let s3 = work.config.s3;
        Self {
            place: work.place.clone(),
            repository: work.config.repository.to_string(),
            version: work.release.to_string(),
            format: work.module.file_format,
            encryption: (s3.server_side_encryption, s3.kms_key_id.clone()),
            immutable: work.module.immutable.unwrap_or(false),
            expected_digest: view.spec.as_ref().ok().and_then(|spec| spec.expected_digest.clone()),
        }
    }
}

impl DeleteBasis {
    /// Of the Version as it is in `view`.
    pub fn of(view: &VersionView) -> Self {
        let terminating = view.terminating();
        let kept = || (view.suspended_by_spec(), view.named_place());
        Self {
            uid: view.metadata.uid.clone(),
            terminating,
            retain: view.retain,
            kept: (!terminating).then(kept),
        }
    }
}
