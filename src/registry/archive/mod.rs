//! Answers to archive links: a redirect to S3, or a stream.

use crate::api::state::StoredLocation;

/// A stored archive, as the status of its Version records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is stored.
    pub location: StoredLocation,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}
