//! The permit to reconcile a Module. Each reconcile holds the Module, its selection and its plan in memory, so their number is
//! bounded, also of those that wait for a slow webhook.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest number of concurrent reconciles of Modules whose requests are slow or were refused.
const SLOW: usize = 16;

/// Limits how many Modules are reconciled at once. Those whose requests are slow or were refused do not hold up the others.
#[derive(Clone, Debug)]
pub struct Permits {
    usual: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// The permit of one reconcile.
#[derive(Debug)]
pub struct Permit {
    held: OwnedSemaphorePermit,
    /// Where it may be exchanged.
    slow: Option<Arc<Semaphore>>,
}

impl Permits {
    pub fn new(usual: usize) -> Self {
        Self { usual: Arc::new(Semaphore::new(usual)), slow: Arc::new(Semaphore::new(SLOW)) }
    }

    /// Waits for a permit. `None` if the operator stops.
    pub async fn acquire(&self, is_slow: bool) -> Option<Permit> {
        let from = if is_slow { &self.slow } else { &self.usual };
        let held = Arc::clone(from).acquire_owned().await.ok()?;
        Some(Permit { held, slow: (!is_slow).then(|| Arc::clone(&self.slow)) })
    }
}

impl Permit {
    /// Lets another Module have the usual permit, as far as there is room for slow ones.
    pub fn give_way(&mut self) {
        let Some(slow) = self.slow.as_ref().map(Arc::clone) else { return };
        if let Ok(permit) = slow.try_acquire_owned() {
            (self.held, self.slow) = (permit, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_modules_give_way_as_long_as_there_is_room() {
        let permits = Permits::new(1);
        let mut slow = Vec::new();
        for _ in 0..SLOW {
            let mut permit = permits.acquire(false).await.unwrap();
            permit.give_way();
            permit.give_way();
            assert_eq!(permits.usual.available_permits(), 1, "another one may start");
            slow.push(permit);
        }
        let mut last = permits.acquire(false).await.unwrap();
        last.give_way();
        assert_eq!(permits.usual.available_permits(), 0, "no more than so many are in memory");
        slow.pop();
        last.give_way();
        assert_eq!((permits.usual.available_permits(), permits.slow.available_permits()), (1, 0));
        slow.pop();
        drop(permits.acquire(true).await.unwrap());
        assert_eq!((permits.usual.available_permits(), permits.slow.available_permits()), (1, 1));
    }
}
