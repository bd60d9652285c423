//! A concurrency limit with a smaller limit per tenant: a store, a namespace, or a Module.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Mutex;

/// Limits concurrency globally and per tenant, so that a slow one cannot use all permits.
#[derive(Debug)]
pub struct Bulkhead {
    all: Arc<Semaphore>,
    each: usize,
    /// By a hash of the tenant's name.
    tenants: Mutex<HashMap<u64, Arc<Semaphore>>>,
}

/// The permits of the tenant and of all. Dropping it releases them.
pub(crate) type BulkheadPermit = [Option<OwnedSemaphorePermit>; 2];

impl Bulkhead {
    /// `all` permits, at most `each` of them for one tenant.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, tenants: Mutex::default() }
    }

    /// Waits for a permit of `tenant`.
    pub async fn acquire(&self, tenant: u64) -> BulkheadPermit {
        // The tenant's permit first: a wait for it delays no other tenant. Neither semaphore is ever closed.
        let own = self.of(tenant).acquire_owned().await.ok();
        [own, Arc::clone(&self.all).acquire_owned().await.ok()]
    }

    /// A permit of `tenant`, if one is free.
    pub fn try_acquire(&self, tenant: u64) -> Option<BulkheadPermit> {
        let own = self.of(tenant).try_acquire_owned().ok()?;
        Some([Some(own), Some(Arc::clone(&self.all).try_acquire_owned().ok()?)])
    }

    /// The number of free permits of all tenants.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.all.available_permits()
    }

    fn of(&self, tenant: u64) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock();
        // Specs choose tenants: unused ones are removed.
        tenants.retain(|known, permits| *known == tenant || Arc::strong_count(permits) > 1);
        Arc::clone(tenants.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gets(bulkhead: &Bulkhead, tenant: u64) -> Option<BulkheadPermit> {
        tokio::time::timeout(Duration::from_millis(20), bulkhead.acquire(tenant)).await.ok()
    }

    #[tokio::test]
    async fn one_tenant_gets_its_permits_and_no_more() {
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
    async fn unused_tenants_are_removed() {
        let bulkhead = Bulkhead::new(4, 2);
        for tenant in 0..100 {
            assert!(gets(&bulkhead, tenant).await.is_some());
        }
        assert_eq!(bulkhead.tenants.lock().len(), 1);
    }
}
