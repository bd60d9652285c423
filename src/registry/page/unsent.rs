//! The bound on the memory of pages that clients have not taken yet.

use std::sync::Arc;

use axum::http::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::registry::http::Body;

/// Bytes of pages that are being sent. Without a bound, slow readers on all connections could fill the memory of the container.
const MOST: usize = 32 << 20;
/// Smaller answers are not counted: there is memory for one on every connection.
const SMALL: usize = 16 << 10;

/// Counts the bytes of pages until their clients have taken them, or their connections are closed.
#[derive(Clone, Debug)]
pub struct Unsent(Arc<Semaphore>);

impl Default for Unsent {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// Bytes that are counted as long as anything refers to them, such as the buffer of a connection.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Unsent {
    /// The answer, counted. `None` if too much is being sent already.
    pub(super) async fn count(&self, answer: Response<Body>) -> Option<Response<Body>> {
        let (head, body) = answer.into_parts();
        // A page is in memory, so nothing is waited for and nothing fails.
        let bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        if bytes.len() <= SMALL {
            return Some(Response::from_parts(head, bytes.into()));
        }
        let size = u32::try_from(bytes.len()).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(size).ok()?;
        let counted = Bytes::from_owner(Held { bytes, _permit: permit });
        Some(Response::from_parts(head, counted.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_count_until_the_last_byte_is_taken() {
        let unsent = Unsent::default();
        let page = || Response::new(Body::from(vec![b'a'; MOST / 2]));
        let first = unsent.count(page()).await.unwrap();
        let second = unsent.count(page()).await.unwrap();
        assert!(unsent.count(page()).await.is_none());
        let small = unsent.count(Response::new(Body::from(vec![b'a'; SMALL]))).await;
        assert_eq!(small.unwrap().into_body().collect().await.unwrap().to_bytes().len(), SMALL);

        drop(first);
        let third = unsent.count(page()).await.unwrap();
        // The body has ended, and a connection still holds a part of it.
        let part = second.into_body().collect().await.unwrap().to_bytes().slice(..1);
        assert!(unsent.count(page()).await.is_none());
        drop(part);
        assert!(unsent.count(page()).await.is_some());
        drop(third);
    }
}
