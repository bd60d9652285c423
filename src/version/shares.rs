//! Turns that nobody can have all of: a bound for everything, and a smaller one for each store.
//!
//! In: the store that a piece of work is about, as a number. Out: a turn to wait for. Work whose store hangs holds its turn
//! for as long as that, so no store gets more than its share, and the others go on. Nothing here knows what a store is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns, shared out by store.
#[derive(Debug)]
pub struct Shares {
    all: Arc<Semaphore>,
    each: usize,
    stores: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

/// The right to work.
#[derive(Debug)]
pub struct Share {
    #[expect(dead_code, reason = "held, not read")]
    held: [Option<OwnedSemaphorePermit>; 2],
}

impl Shares {
    /// `all` turns at once, and `each` of them for one store.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, stores: Mutex::default() }
    }

    /// Waits for a turn of `store`.
    pub async fn turn(&self, store: u64) -> Share {
        // Its own first: who waits for that keeps nobody else waiting. Neither is ever closed.
        let own = self.of(store).acquire_owned().await.ok();
        Share { held: [own, Arc::clone(&self.all).acquire_owned().await.ok()] }
    }

    fn of(&self, store: u64) -> Arc<Semaphore> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        // Specs choose stores: those that nobody uses or waits for are forgotten.
        stores.retain(|known, turns| *known == store || Arc::strong_count(turns) > 1);
        Arc::clone(stores.entry(store).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gets(shares: &Shares, store: u64) -> Option<Share> {
        tokio::time::timeout(Duration::from_millis(20), shares.turn(store)).await.ok()
    }

    #[tokio::test]
    async fn one_store_gets_its_share_and_no_more() {
        let shares = Shares::new(3, 2);
        let (one, _two) = (gets(&shares, 1).await, gets(&shares, 1).await);
        assert!(gets(&shares, 1).await.is_none(), "its share is used up");
        let other = gets(&shares, 2).await;
        assert!(other.is_some(), "others have theirs");
        assert!(gets(&shares, 3).await.is_none(), "there are three in all");
        drop((one, other));
        assert!(gets(&shares, 1).await.is_some() && gets(&shares, 3).await.is_some());
    }

    #[tokio::test]
    async fn stores_that_nobody_uses_are_forgotten() {
        let shares = Shares::new(4, 2);
        for store in 0..100 {
            assert!(gets(&shares, store).await.is_some());
        }
        assert_eq!(shares.stores.lock().unwrap().len(), 1);
    }
}
