//! The bound on the memory of answers that clients have not taken yet.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Collected};

use crate::domain::Mutex;
use crate::registry::http::{Body, MinimumRate, Peer, count_down};

/// Bytes of answers that are being sent. Without a bound, slow readers on all connections could fill the memory of the container.
const MAX_BYTES: usize = 32 << 20;
/// The same for one client, so that it cannot take the room of all others.
const PER_PEER: usize = MAX_BYTES / 4;
/// Smaller answers are not counted: there is memory for one on every connection.
const SMALL: usize = 16 << 10;

/// Counts the bytes of answers until their clients have taken them, or their connections are closed.
#[derive(Clone, Debug, Default)]
pub struct SendBudget(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_peer: HashMap<Peer, usize>,
}

/// Bytes that are counted as long as anything refers to them, such as the buffer of a connection.
struct Held {
    bytes: Bytes,
    peer: Peer,
    send_budget: SendBudget,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.send_budget.0.lock().subtract(self.peer, self.bytes.len());
    }
}

impl SendBudget {
    /// The answer, counted, and cut if its client reads it too slowly. `None` if too much is being sent already, to all or to
    /// this client.
    pub async fn count(&self, answer: Response<Body>, peer: Peer) -> Option<Response<Body>> {
        let (mut head, body) = answer.into_parts();
        // The answer is in memory, so nothing is waited for and nothing fails.
        let bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        if bytes.len() <= SMALL {
            return Some(Response::from_parts(head, bytes.into()));
        }
        if !self.0.lock().add(peer, bytes.len()) {
            return None;
        }
        head.extensions.insert(MinimumRate::LOWEST);
        let counted = Bytes::from_owner(Held { bytes, peer, send_budget: self.clone() });
        Some(Response::from_parts(head, counted.into()))
    }
}

impl Counts {
    /// Counts an answer, if there is room for it. A client can have one answer of any size.
    fn add(&mut self, peer: Peer, size: usize) -> bool {
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or(0);
        let fits = self.all + size <= MAX_BYTES && (of_peer == 0 || of_peer + size <= PER_PEER);
        if fits {
            self.all += size;
            self.by_peer.insert(peer, of_peer + size);
        }
        fits
    }

    fn subtract(&mut self, peer: Peer, size: usize) {
        self.all -= size;
        count_down(&mut self.by_peer, &peer, size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(send_budget: &SendBudget, size: usize, peer: u8) -> Option<Response<Body>> {
        let answer = Response::new(Body::from(vec![b'a'; size]));
        send_budget.count(answer, Peer::of([192, 0, 2, peer].into())).await
    }

    #[tokio::test]
    async fn answers_count_until_the_last_byte_is_taken() {
        let send_budget = SendBudget::default();
        let first = count(&send_budget, MAX_BYTES / 2, 1).await.unwrap();
        assert!(first.extensions().get::<MinimumRate>().is_some(), "its client has to read it");
        let second = count(&send_budget, MAX_BYTES / 2, 2).await.unwrap();
        assert!(count(&send_budget, MAX_BYTES / 2, 3).await.is_none());
        let small = count(&send_budget, SMALL, 3).await.unwrap();
        assert!(small.extensions().get::<MinimumRate>().is_none());
        assert_eq!(small.into_body().collect().await.unwrap().to_bytes().len(), SMALL);

        drop(first);
        let third = count(&send_budget, MAX_BYTES / 2, 3).await.unwrap();
        // The body has ended, and a connection still holds a part of it.
        let part = second.into_body().collect().await.unwrap().to_bytes().slice(..1);
        assert!(count(&send_budget, MAX_BYTES / 2, 4).await.is_none());
        drop(part);
        assert!(count(&send_budget, MAX_BYTES / 2, 4).await.is_some());
        drop(third);
        let counts = send_budget.0.lock();
        assert!(counts.all == 0 && counts.by_peer.is_empty(), "{counts:?}");
    }

    #[tokio::test]
    async fn one_client_has_a_share() {
        let send_budget = SendBudget::default();
        let size = PER_PEER / 4;
        let mut held = Vec::new();
        while let Some(answer) = count(&send_budget, size, 1).await {
            held.push(answer);
        }
        assert_eq!(held.len(), 4);
        assert!(count(&send_budget, size, 2).await.is_some(), "there is room for others");
        held.pop();
        assert!(count(&send_budget, size, 1).await.is_some());
    }
}
