//! Requests that wait until the fault that delays them is cleared.

use std::sync::{Arc, Weak};
use std::time::Duration;

/// What a fault owns: the requests that it delays wait until it is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hold(Arc<()>);

/// What a delayed request waits for.
#[derive(Debug)]
pub(crate) struct Held(Weak<()>);

impl Hold {
    pub(crate) fn held(&self) -> Held {
        Held(Arc::downgrade(&self.0))
    }
}

impl Held {
    /// Waits until the fault is cleared.
    pub(crate) async fn released(&self) {
        while self.0.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_waits_until_its_fault_is_dropped() {
        let hold = Hold::default();
        let request = hold.held();
        let waits = tokio::spawn(async move { request.released().await });
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(!waits.is_finished());
        drop(hold);
        waits.await.unwrap();
    }
}
