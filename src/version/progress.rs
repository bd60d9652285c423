//! What a running reconcile does, for its later steps and for the check whether a change ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, MutexGuard};

use crate::domain;

/// Shared by the work of a reconcile and the watch for changes that end it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// It publishes, or waits for the permit to do so.
    pub publishes: Flag,
    /// The publish has its permit, and no longer only waits.
    pub has_permit: Flag,
    /// The pause after an earlier failure does not apply.
    pub tries_now: Flag,
    /// The `spec.fileName`s that it writes, recorded before the write: these are not changes by other clients.
    pub file_names: domain::Mutex<Vec<Box<str>>>,
    sending: Mutex<()>,
}

/// Once set, it stays set until the reconcile ends.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Progress {
    /// Held during a PUT or DELETE, which is not dropped half-way: S3 might still carry it out after the requests of the next
    /// reconcile, and leave an object behind or delete one that is wanted again.
    pub(crate) async fn sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().await
    }
}
