//! How many archives are streamed at once: in all, by one link, and to one client.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::Mutex;
use crate::registry::http::{Peer, count_down};

/// Streams at once by one link.
const PER_LINK: usize = 8;
/// Streams at once to one client.
const PER_PEER: usize = 16;
/// Requests that wait for a permit. Each of them keeps a connection that others could use.
const WAITING: usize = 256;

/// The permits for streams.
#[derive(Debug)]
pub(super) struct StreamPermits {
    most: usize,
    /// How long a request waits for a permit.
    wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    by_link: HashMap<Box<str>, usize>,
    by_peer: HashMap<Peer, usize>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    link: Box<str>,
    peer: Peer,
    grant: oneshot::Sender<StreamPermit>,
}

/// A permit for a stream, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct StreamPermit {
    permits: Arc<StreamPermits>,
    link: Box<str>,
    peer: Peer,
}

impl StreamPermits {
    pub(super) fn new(most: usize, wait: Duration) -> Self {
        Self { most, wait, state: Mutex::default() }
    }

    /// Waits for a permit, in turn with others that could use it. `None` if there was none in time, or too many wait already.
    pub(super) async fn take(self: &Arc<Self>, link: &str, peer: Peer) -> Option<StreamPermit> {
        let (grant, granted) = oneshot::channel();
        let may_wait = self.state.lock().enqueue(Waiting { link: link.into(), peer, grant }, self.most);
        if !may_wait {
            return None;
        }
        self.hand_out();
        tokio::time::timeout(self.wait, granted).await.ok()?.ok()
    }

    /// Gives free permits to waiting requests, the first ones first.
    fn hand_out(self: &Arc<Self>) {
        let granted = {
            let mut state = self.state.lock();
            // Requests that have given up do not count.
            state.waiting.retain(|waiting| !waiting.grant.is_closed());
            let mut granted = Vec::new();
            let mut at = 0;
            while let Some(waiting) = state.waiting.get(at).filter(|_| state.used < self.most) {
                if state.has_room_for(waiting) {
                    granted.extend(state.waiting.remove(at).inspect(|waiting| state.count(waiting)));
                } else {
                    at += 1;
                }
            }
            granted
        };
        // The lock is free again: a permit whose receiver is gone is dropped here, which takes the lock.
        for Waiting { link, peer, grant } in granted {
            let _ = grant.send(StreamPermit { permits: Arc::clone(self), link, peer });
        }
    }
}

impl State {
    /// Adds a request to those that wait, unless too many do and there is no permit for this one. Returns whether it was added.
    fn enqueue(&mut self, request: Waiting, most: usize) -> bool {
        self.waiting.retain(|waiting| !waiting.grant.is_closed());
        let may_wait = self.waiting.len() < WAITING || (self.used < most && self.has_room_for(&request));
        if may_wait {
            self.waiting.push_back(request);
        }
        may_wait
    }

    fn has_room_for(&self, waiting: &Waiting) -> bool {
        self.by_link.get(&waiting.link).is_none_or(|count| *count < PER_LINK)
            && self.by_peer.get(&waiting.peer).is_none_or(|count| *count < PER_PEER)
    }

    fn count(&mut self, waiting: &Waiting) {
        self.used += 1;
        *self.by_link.entry(waiting.link.clone()).or_default() += 1;
        *self.by_peer.entry(waiting.peer).or_default() += 1;
    }

    fn release(&mut self, permit: &StreamPermit) {
        self.used -= 1;
        count_down(&mut self.by_link, &permit.link, 1);
        count_down(&mut self.by_peer, &permit.peer, 1);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.permits.state.lock().release(self);
        self.permits.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    fn permits(most: usize, wait: Duration) -> Arc<StreamPermits> {
        Arc::new(StreamPermits::new(most, wait))
    }

    #[tokio::test]
    async fn one_link_and_one_client_have_limits_of_their_own() {
        let permits = permits(100, Duration::from_millis(5));
        let mut held = Vec::new();
        for _ in 0..PER_LINK {
            held.push(permits.take("a", peer(1)).await.unwrap());
        }
        assert!(permits.take("a", peer(2)).await.is_none(), "the link is in use often enough");
        for _ in PER_LINK..PER_PEER {
            held.push(permits.take("b", peer(1)).await.unwrap());
        }
        assert!(permits.take("c", peer(1)).await.is_none(), "the client has enough streams");
        assert!(permits.take("c", peer(2)).await.is_some());
        held.clear();
        let state = permits.state.lock();
        assert!(state.used == 0 && state.by_link.is_empty() && state.by_peer.is_empty());
    }

    #[tokio::test]
    async fn the_addresses_of_an_ipv6_network_are_one_client() {
        let permits = permits(100, Duration::from_millis(5));
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        let mut held = Vec::new();
        for number in 0..PER_PEER {
            let link = number.to_string();
            held.push(permits.take(&link, peer(&format!("2001:db8::{number:x}"))).await.unwrap());
        }
        assert!(permits.take("c", peer("2001:db8::ffff")).await.is_none());
        assert!(permits.take("c", peer("2001:db8:0:1::1")).await.is_some());
    }

    #[tokio::test]
    async fn the_first_that_can_use_a_place_gets_it() {
        let permits = permits(1, Duration::from_mins(1));
        let held = permits.take("a", peer(1)).await.unwrap();
        let waiting: Vec<_> = (0..3_u8)
            .map(|number| {
                let permits = Arc::clone(&permits);
                Box::pin(async move { permits.take("b", peer(number)).await })
            })
            .collect();
        let mut waiting = waiting.into_iter();
        let (mut first, mut second, mut third) =
            (waiting.next().unwrap(), waiting.next().unwrap(), waiting.next().unwrap());
        for future in [&mut first, &mut second, &mut third] {
            assert!(futures::poll!(future).is_pending());
        }
        drop(first);
        drop(held);
        let second = second.await.unwrap();
        assert!(futures::poll!(&mut third).is_pending());
        drop(second);
        assert!(third.await.is_some(), "a permit whose user is gone is free again");
    }

    #[tokio::test]
    async fn a_limited_number_waits_and_others_are_refused_at_once() {
        let permits = permits(100, Duration::from_mins(1));
        let mut held = Vec::new();
        for number in 0..PER_LINK {
            held.push(permits.take("a", peer(u8::try_from(number).unwrap())).await.unwrap());
        }
        let wait = || {
            let permits = Arc::clone(&permits);
            Box::pin(async move { permits.take("a", peer(100)).await })
        };
        let mut waiting: Vec<_> = (0..WAITING).map(|_| wait()).collect();
        for request in &mut waiting {
            assert!(futures::poll!(request).is_pending());
        }
        assert!(matches!(futures::poll!(wait()), Poll::Ready(None)));
        assert!(matches!(futures::poll!(Box::pin(permits.take("b", peer(101)))), Poll::Ready(Some(_))));
        drop(waiting.pop());
        assert!(futures::poll!(wait()).is_pending(), "a request that has given up does not count");
    }

    #[tokio::test]
    async fn a_place_that_is_not_fetched_is_free_again() {
        let permits = permits(1, Duration::from_mins(1));
        let held = permits.take("a", peer(1)).await.unwrap();
        let mut waiting = Box::pin(permits.take("b", peer(2)));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        // It was granted, and is dropped before it is polled.
        drop(waiting);
        assert!(permits.take("c", peer(3)).await.is_some());
    }
}
