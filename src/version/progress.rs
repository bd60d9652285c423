//! What a running reconcile does, for its later steps and for the check whether a change ends it.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::sync::{Mutex, MutexGuard};

use crate::domain;

/// Shared by the work of a reconcile and the watch for changes that end it. Once true, a flag stays true.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// When it began, or read a change that it did not begin with.
    pub begun: domain::Mutex<Option<Instant>>,
    /// It publishes, or waits for the permit to do so.
    pub publishes: AtomicBool,
    /// The publish has its permit, and no longer only waits.
    pub has_permit: AtomicBool,
    /// The pause after an earlier failure does not apply.
    pub tries_now: AtomicBool,
    /// The `spec.fileName`s that it writes, recorded before the write: these are not changes by other clients.
    pub file_names: domain::Mutex<Vec<Box<str>>>,
    sending: Mutex<()>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { begun: domain::Mutex::new(Some(Instant::now())), ..Self::default() }
    }

    /// Held during a PUT or DELETE, which is not dropped half-way: S3 might still carry it out after the requests of the next
    /// reconcile, and leave an object behind or delete one that is wanted again.
    pub(crate) async fn sending(&self) -> MutexGuard<'_, ()> {
        self.sending.lock().await
    }
}
