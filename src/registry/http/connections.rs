//! The open connections, and which one makes room for a new one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::activity::Activity;
use super::limits::Limits;
use super::peer::Peer;
use crate::domain::Mutex;

/// The open connections by number.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Open>,
    /// Connections by client, without those of trusted proxies.
    by_peer: HashMap<Peer, usize>,
}

#[derive(Debug)]
struct Open {
    activity: Arc<Activity>,
    /// `None` for a trusted proxy.
    counted: Option<Peer>,
}

/// The permit of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    number: u64,
    pub activity: Arc<Activity>,
}

impl Connections {
    /// A permit for a connection from this client (`None`: a trusted proxy). If there is none, the connection that has waited longest
    /// for its client is closed: one of the same client if that has too many. `None` if all are busy.
    pub(super) fn admit(
        self: &Arc<Self>,
        counted: Option<Peer>,
        limits: &Limits,
    ) -> Option<ConnectionPermit> {
        let mut table = self.0.lock();
        let of_peer = counted.and_then(|peer| table.by_peer.get(&peer)).copied().unwrap_or(0);
        if of_peer >= limits.per_peer {
            table.evict(|open| open.counted == counted)?;
        } else if table.open.len() >= limits.connections {
            table.evict(|_| true)?;
        }
        let number = table.next;
        table.next += 1;
        let activity = Arc::new(Activity::new());
        table.open.insert(number, Open { activity: Arc::clone(&activity), counted });
        if let Some(peer) = counted {
            *table.by_peer.entry(peer).or_default() += 1;
        }
        Some(ConnectionPermit { connections: Arc::clone(self), number, activity })
    }

    /// Closes the connection that has waited longest for its client, if there is one.
    pub(super) fn close_longest_idle(&self) {
        self.0.lock().evict(|_| true);
    }

    /// Ends every connection after its running request.
    pub(super) fn close(&self) {
        self.0.lock().open.values().for_each(|open| open.activity.close());
    }
}

impl Table {
    /// Closes the connection that has waited longest for its client.
    fn evict(&mut self, of: impl Fn(&Open) -> bool) -> Option<()> {
        let waiting = self.open.iter().filter(|(_, open)| of(open));
        let waiting = waiting.filter_map(|(number, open)| Some((open.activity.waiting_since()?, *number)));
        let (_, number) = waiting.min()?;
        self.remove(number)?.activity.evict();
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        if let Some(peer) = open.counted {
            count_down(&mut self.by_peer, &peer, 1);
        }
        Some(open)
    }
}

/// Subtracts from a count, and removes it at zero.
pub(in crate::registry) fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K, amount: usize) {
    if let Some(count) = counts.get_mut(key) {
        *count -= amount;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connections.0.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header_bytes: 0,
        headers: std::time::Duration::ZERO,
        idle: std::time::Duration::ZERO,
        stall: std::time::Duration::ZERO,
        connections: 4,
        per_peer: 2,
        finish: std::time::Duration::ZERO,
    };

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    #[test]
    fn the_longest_idle_connection_makes_room_and_first_one_of_the_same_address() {
        let connections = Arc::new(Connections::default());
        let mut permits = Vec::new();
        for last in [1, 2, 1, 3] {
            permits.push(connections.admit(Some(peer(last)), &LIMITS).unwrap());
        }
        let evicted = |permits: &[ConnectionPermit]| {
            permits.iter().map(|permit| permit.activity.is_evicted()).collect::<Vec<_>>()
        };
        let third = connections.admit(Some(peer(1)), &LIMITS).unwrap();
        assert_eq!(evicted(&permits), [true, false, false, false], "its own oldest");
        permits[1].activity.begun();
        let _other = connections.admit(Some(peer(4)), &LIMITS).unwrap();
        assert_eq!(evicted(&permits), [true, false, true, false], "the second is busy");
        permits[3].activity.begun();
        third.activity.begun();
        drop(permits.remove(0));
        assert_eq!(connections.0.lock().open.len(), 4);
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_count_as_one() {
        let connections = Arc::new(Connections::default());
        let admit = |text: &str| connections.admit(Some(Peer::of(text.parse().unwrap())), &LIMITS);
        let _held: Vec<_> = ["2001:db8::1", "2001:db8::2"]
            .into_iter()
            .filter_map(admit)
            .inspect(|permit| permit.activity.begun())
            .collect();
        assert!(admit("2001:db8::3").is_none());
        assert!(admit("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn busy_connections_are_not_closed_for_others() {
        let connections = Arc::new(Connections::default());
        let one = connections.admit(Some(peer(1)), &LIMITS).unwrap();
        let two = connections.admit(Some(peer(1)), &LIMITS).unwrap();
        one.activity.begun();
        two.activity.begun();
        assert!(connections.admit(Some(peer(1)), &LIMITS).is_none());
        let proxies: Vec<_> = (0..2).map(|_| connections.admit(None, &LIMITS).unwrap()).collect();
        for permit in &proxies {
            permit.activity.begun();
        }
        assert!(
            connections.admit(Some(peer(2)), &LIMITS).is_none() && connections.admit(None, &LIMITS).is_none()
        );
        drop(one);
        assert!(connections.admit(Some(peer(1)), &LIMITS).is_some());
        drop((two, proxies));
        assert!(connections.0.lock().open.is_empty() && connections.0.lock().by_peer.is_empty());
    }
}
