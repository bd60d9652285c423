//! A Version as it was last read.

use kube::api::DynamicObject;

use crate::api::VersionStatus;
use crate::api::requests::shorten_recorded;
use crate::api::state::VersionState;
use crate::controller::client;

/// A Version as it was last read: what decisions use, and the full status that writes start from.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The pruned Version.
    pub version: VersionState,
    /// The whole status; empty where it cannot be read.
    pub status: VersionStatus,
}

impl Snapshot {
    /// Of an object from the API server.
    pub(crate) fn of(raw: &DynamicObject) -> Self {
        let object = serde_json::to_value(raw).unwrap_or_default();
        let mut status: VersionStatus = client::part(raw, "status").unwrap_or_default();
        let recorded = [&mut status.last_handled_request, &mut status.last_module_request];
        recorded.into_iter().flatten().for_each(shorten_recorded);
        Self { version: serde_json::from_value(object).unwrap_or_default(), status }
    }
}
