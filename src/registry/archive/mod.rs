//! Answers to archive links: a redirect to S3, or a stream.
//!
//! | file | content |
//! |---|---|
//! | `downloads` | [`Downloads`]: the answer to a request with a valid link |
//! | `delivery` | whether a client is redirected, and where to |
//! | `range` | the range of bytes that a client requests |
//! | `open` | opens an object, once more if that fails, and checks that it is the recorded one |
//! | `stream` | the body of an answer, as the object's bytes arrive |
//! | `stream_permits` | how many archives are streamed at once |

mod delivery;
mod downloads;
mod open;
mod range;
mod stream;
mod stream_permits;
#[cfg(test)]
mod tests;

pub use delivery::{DownloadMode, PublicEndpoint, PublicEndpointError};
pub use downloads::{Download, Downloads, Permitted};
pub use open::{Fault, Opened, ReadFailure, open, report};
pub use stream::DownloadOutcome;

use crate::api::state::StoredLocation;

/// A stored archive, as the status of its Version records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    pub location: StoredLocation,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}
