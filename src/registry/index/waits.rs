//! How many requests without an identity wait for an update: in all, and of one client.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::Mutex;

/// Maximum number of requests that wait, of those with an identity and of those without one.
pub(super) const WAITING: usize = 256;
/// Waits at once of one client.
const PER_PEER: usize = 8;

/// The waits that have begun.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// A wait, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    peer: IpAddr,
}

impl Waits {
    /// Begins a wait; `None` if there are enough.
    pub(super) fn begin(&self, peer: IpAddr) -> Option<Wait<'_>> {
        let mut counts = self.0.lock();
        let of_peer = counts.by_peer.get(&peer).copied().unwrap_or_default();
        if counts.all >= WAITING || of_peer >= PER_PEER {
            return None;
        }
        counts.all += 1;
        counts.by_peer.insert(peer, of_peer + 1);
        Some(Wait { waits: self, peer })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut counts = self.waits.0.lock();
        counts.all -= 1;
        if let Some(of_peer) = counts.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_a_limit_in_all_and_one_for_each_client() {
        let waits = Waits::default();
        let peer = |number: usize| IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()]);
        let mut held: Vec<_> = (0..PER_PEER).map(|_| waits.begin(peer(0)).unwrap()).collect();
        assert!(waits.begin(peer(0)).is_none());
        held.pop();
        assert!(waits.begin(peer(0)).is_some(), "one has ended");
        held.extend((PER_PEER - 1..WAITING).map(|number| waits.begin(peer(number / PER_PEER + 1)).unwrap()));
        assert!(waits.begin(peer(200)).is_none(), "so many wait in all");
        held.clear();
        let counts = waits.0.lock();
        assert!(counts.all == 0 && counts.by_peer.is_empty());
    }
}
