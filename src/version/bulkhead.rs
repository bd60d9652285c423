//! A concurrency limit with a smaller limit per store.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Mutex;

/// Limits concurrency globally and per store, so that one slow store cannot use all permits.
#[derive(Debug)]
pub struct Bulkhead {
    all: Arc<Semaphore>,
    each: usize,
    stores: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

#[derive(Debug)]
pub struct BulkheadPermit {
    #[expect(dead_code, reason = "held, not read")]
    held: [Option<OwnedSemaphorePermit>; 2],
}

impl Bulkhead {
    /// `all` permits, at most `each` of them for one store.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, stores: Mutex::default() }
    }

    /// Waits for a permit of `store`.
    pub async fn acquire(&self, store: u64) -> BulkheadPermit {
        // The store's own first, which delays no other store. Neither semaphore is ever closed.
        let own = self.of(store).acquire_owned().await.ok();
        BulkheadPermit { held: [own, Arc::clone(&self.all).acquire_owned().await.ok()] }
    }

    fn of(&self, store: u64) -> Arc<Semaphore> {
        let mut stores = self.stores.lock();
        // Specs choose stores: unused ones are removed.
        stores.retain(|known, permits| *known == store || Arc::strong_count(permits) > 1);
        Arc::clone(stores.entry(store).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gets(bulkhead: &Bulkhead, store: u64) -> Option<BulkheadPermit> {
        tokio::time::timeout(Duration::from_millis(20), bulkhead.acquire(store)).await.ok()
    }

    #[tokio::test]
    async fn one_store_gets_its_permits_and_no_more() {
        let bulkhead = Bulkhead::new(3, 2);
        let (one, _two) = (gets(&bulkhead, 1).await, gets(&bulkhead, 1).await);
        assert!(gets(&bulkhead, 1).await.is_none(), "its share is used up");
        let other = gets(&bulkhead, 2).await;
        assert!(other.is_some(), "others have theirs");
        assert!(gets(&bulkhead, 3).await.is_none(), "there are three in all");
        drop((one, other));
        assert!(gets(&bulkhead, 1).await.is_some() && gets(&bulkhead, 3).await.is_some());
    }

    #[tokio::test]
    async fn unused_stores_are_removed() {
        let bulkhead = Bulkhead::new(4, 2);
        for store in 0..100 {
            assert!(gets(&bulkhead, store).await.is_some());
        }
        assert_eq!(bulkhead.stores.lock().len(), 1);
    }
}
