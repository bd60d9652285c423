//! What is known of a repository that archives are fetched from.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};

pub(super) struct ScheduledRepository {
    health: RepositoryHealth,
    /// The stores of its Versions that failed since it last answered.
    failing_stores: HashSet<u64>,
    pub(super) admission: Arc<Admission>,
    /// Each of its Versions that waits for a permit while it is not failing holds a copy.
    pub(super) waiting: Arc<()>,
}

/// The permits of a repository's Versions to have a staging permit, or to wait for one beside other repositories. From the
/// narrowest limit to the widest: for a queue, a namespace, and all.
pub(super) struct Admission([Bulkhead; 3]);

impl Admission {
    /// Waits for a permit of each limit. The narrow ones come first: a wait for one delays no other queue or namespace.
    pub(super) async fn acquire(&self, queue: u64, namespace: u64) -> Vec<BulkheadPermit> {
        let mut held = Vec::new();
        for (permits, tenant) in self.0.iter().zip([queue, namespace, 0]) {
            held.push(permits.acquire(tenant).await);
        }
        held
    }
}

#[derive(Clone)]
pub(super) enum RepositoryHealth {
    /// It has not answered yet in this process: it may use one permit.
    New(Arc<Semaphore>),
    Healthy,
    /// Its last fetch failed, or the store of the result did. All of these share half of the permits.
    Failing,
}

impl ScheduledRepository {
    pub(super) fn new(max: usize) -> Self {
        let health = RepositoryHealth::New(Arc::new(Semaphore::new(1)));
        // As for staging permits: one queue has no use for more than a namespace may have in one store.
        let limits = [2, 3, 4].map(|times| Bulkhead::new(Semaphore::MAX_PERMITS, max * times));
        let admission = Arc::new(Admission(limits));
        Self { health, failing_stores: HashSet::new(), admission, waiting: Arc::default() }
    }

    /// Its health for a Version in this store.
    pub(super) fn health(&self, store: u64) -> RepositoryHealth {
        if self.failing_stores.contains(&store) { RepositoryHealth::Failing } else { self.health.clone() }
    }

    /// Changes its health, whatever the store. Returns whether it was failing for a Version in any store.
    pub(super) fn set(&mut self, health: RepositoryHealth) -> bool {
        let stores = mem::take(&mut self.failing_stores);
        let before = mem::replace(&mut self.health, health);
        if let RepositoryHealth::New(waiting) = &before {
            waiting.close();
        }
        !stores.is_empty() || matches!(before, RepositoryHealth::Failing)
    }

    /// Changes its health for Versions in a store that failed.
    pub(super) fn store_failed(&mut self, store: u64) {
        self.failing_stores.insert(store);
    }
}
