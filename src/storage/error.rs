//! Errors of storage: [`cause`] has the causes for callers, [`message`] the texts for users.

mod cause;
mod message;

use thiserror::Error;

pub use self::cause::{Cause, Operation};
pub use self::message::advice_on_credentials;
use self::message::{explained, is_of_aws};
use crate::domain::ObjectLocation;

/// A failed request to S3.
#[derive(Debug, Error)]
#[error("cannot {} {location}: {}", .operation.verb(), explained(*.operation, .location, .cause))]
pub struct StorageError {
    pub operation: Operation,
    /// Boxed to keep results small.
    pub location: Box<ObjectLocation>,
    pub cause: Cause,
}

impl StorageError {
    /// Whether AWS has answered that the bucket is in another region. Names are unique there, so the one in this region was
    /// deleted with all its objects.
    pub fn shows_deleted_bucket(&self) -> bool {
        let ObjectLocation { endpoint, region, .. } = &*self.location;
        let is_private = |url: &str| is_of_aws(url) && url.contains(&format!(".s3.{region}.vpce."));
        endpoint.as_deref().is_none_or(is_private)
            && matches!(self.cause, Cause::WrongRegion { right: Some(_), .. })
    }
}

#[cfg(test)]
mod tests;
