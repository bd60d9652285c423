//! What a reconcile does at the moment, for its later steps and for the change that may end it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// Shared by the work of a reconcile and by what watches for changes meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    publishes: AtomicBool,
    has_permit: AtomicBool,
    tries_now: AtomicBool,
    sending: Mutex<()>,
}

impl Progress {
    pub(crate) fn begin_publish(&self) {
        self.publishes.store(true, Ordering::Relaxed);
    }

    /// The publish has its permit, and no longer only waits.
    pub(crate) fn start_publish(&self) {
        self.has_permit.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_started_publish(&self) -> bool {
        self.has_permit.load(Ordering::Relaxed)
    }

    /// The pause after a take-over does not apply.
    pub(crate) fn try_now(&self) {
        self.tries_now.store(true, Ordering::Relaxed);
    }

    pub(crate) fn tries_now(&self) -> bool {
        self.tries_now.load(Ordering::Relaxed)
    }

    pub(crate) fn publishes(&self) -> bool {
        self.publishes.load(Ordering::Relaxed)
    }

    /// Held during a PUT or DELETE, which is not dropped half-way: S3 might still carry it out after the requests of the next
    /// reconcile, and leave an object behind or delete one that is wanted again.
    pub(crate) async fn sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().await
    }
}
