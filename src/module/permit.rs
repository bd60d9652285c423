//! The permit to reconcile a Module. Each reconcile holds the Module, its selection and its plan in memory, so their number is
//! bounded, also of those that wait for a slow webhook.

use std::sync::Arc;

use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};
use crate::domain::hash_of;

/// The largest number of concurrent reconciles of Modules, and of those of one namespace.
const USUAL: (usize, usize) = (12, 8);
/// The same for Modules whose requests are slow or were refused.
const SLOW: (usize, usize) = (16, 12);

/// Limits how many Modules are reconciled at once. Modules that wait for a slow answer, or whose requests were refused, do not delay
/// the others. The Modules of one namespace, which may have a webhook that hangs, leave permits to those of another.
///
/// A long list keeps its permit until its batch ends: more reconciles at once would need more memory than the operator has.
#[derive(Clone, Debug)]
pub struct Permits {
    usual: Arc<Bulkhead>,
    slow: Arc<Bulkhead>,
}

/// The permit of one reconcile.
#[derive(Debug)]
pub struct Permit {
    held: BulkheadPermit,
    namespace: u64,
    /// The permits for which it may be exchanged.
    slow: Option<Arc<Bulkhead>>,
}

impl Default for Permits {
    fn default() -> Self {
        let new = |(all, each)| Arc::new(Bulkhead::new(all, each));
        Self { usual: new(USUAL), slow: new(SLOW) }
    }
}

impl Permits {
    /// Waits for a permit of a namespace.
    pub async fn acquire(&self, namespace: &str, is_slow: bool) -> Permit {
        let from = if is_slow { &self.slow } else { &self.usual };
        let namespace = hash_of(namespace);
        let held = from.acquire(namespace).await;
        Permit { held, namespace, slow: (!is_slow).then(|| Arc::clone(&self.slow)) }
    }
}

impl Permit {
    /// Returns the usual permit in exchange for a slow one, if one is free.
    pub fn give_way(&mut self) {
        let Some(slow) = &self.slow else { return };
        if let Some(permit) = slow.try_acquire(self.namespace) {
            (self.held, self.slow) = (permit, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    async fn slow(permits: &Permits, namespace: &str) -> Permit {
        let mut permit = permits.acquire(namespace, false).await;
        permit.give_way();
        permit.give_way();
        permit
    }

    #[tokio::test]
    async fn slow_modules_give_way_as_long_as_there_is_room() {
        let permits = Permits::default();
        let mut held = Vec::new();
        for _ in 0..SLOW.1 {
            held.push(slow(&permits, "a").await);
            assert_eq!(permits.usual.free(), USUAL.0, "another one may start");
        }
        let mut last = slow(&permits, "a").await;
        assert_eq!(permits.usual.free(), USUAL.0 - 1, "no more than so many are in memory");
        held.pop();
        last.give_way();
        assert_eq!((permits.usual.free(), permits.slow.free()), (USUAL.0, SLOW.0 - SLOW.1));
        held.pop();
        drop(permits.acquire("a", true).await);
        assert_eq!((permits.usual.free(), permits.slow.free()), (USUAL.0, SLOW.0 - SLOW.1 + 1));
    }

    #[tokio::test]
    async fn one_namespace_leaves_permits_to_others() {
        let permits = Permits::default();
        let mut held = Vec::new();
        while let Some(permit) = permits.acquire("a", false).now_or_never() {
            held.push(permit);
        }
        assert_eq!(held.len(), USUAL.1);
        assert!(permits.acquire("b", false).now_or_never().is_some());
    }
}
