//! What is known of a repository that archives are fetched from.

use std::collections::HashSet;
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

/// The permits of a repository's Versions to have a staging permit, or to wait for one beside other repositories.
pub(super) struct Admission {
    /// From the narrowest limit to the widest: for a queue, a namespace, and all.
    limits: [Bulkhead; 3],
    /// The limit while the repository has not answered. By namespace: the requests of one may hang.
    pub(super) first: Bulkhead,
}

impl Admission {
    /// Waits for a permit of each limit. The narrow ones come first: a wait for one delays no other queue or namespace.
    pub(super) async fn acquire(&self, queue: u64, namespace: u64) -> Vec<BulkheadPermit> {
        let mut held = Vec::new();
        for (permits, tenant) in self.limits.iter().zip([queue, namespace, 0]) {
            held.push(permits.acquire(tenant).await);
        }
        held
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RepositoryHealth {
    /// It has not answered yet in this process: it may use two permits, one for each of two namespaces.
    New,
    Healthy,
    /// Its last fetch failed, or the store of the result did. All of these share half of the permits.
    Failing,
}

impl ScheduledRepository {
    pub(super) fn new(max: usize) -> Self {
        // As for staging permits: one queue has no use for more than a namespace may have in one store.
        let limits = [2, 3, 4].map(|times| Bulkhead::new(Semaphore::MAX_PERMITS, max * times));
        let admission = Arc::new(Admission { limits, first: Bulkhead::new(2, 1) });
        let (health, failing_stores) = (RepositoryHealth::New, HashSet::new());
        Self { health, failing_stores, admission, waiting: Arc::default() }
    }

    /// Its health for a Version in this store.
    pub(super) fn health(&self, store: u64) -> RepositoryHealth {
        if self.failing_stores.contains(&store) { RepositoryHealth::Failing } else { self.health }
    }

    /// Changes its health, whatever the store. Returns whether it was another one for a Version in any store.
    pub(super) fn set(&mut self, health: RepositoryHealth) -> bool {
        let is_other = self.health != health || !self.failing_stores.is_empty();
        self.health = health;
        self.failing_stores.clear();
        is_other
    }

    /// Changes its health for Versions in a store that failed.
    pub(super) fn store_failed(&mut self, store: u64) {
        self.failing_stores.insert(store);
    }
}
