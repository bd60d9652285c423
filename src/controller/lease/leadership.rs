//! Whether this process is the leader: checked before each PUT and DELETE in S3.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::Mutex;

/// Until when this process is the leader. Clones share the state.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    /// The leadership of a process without leader election, which never ends.
    pub fn without_end() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    pub(crate) fn until(end: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(end))))
    }

    pub(super) fn end(&self) -> Option<Instant> {
        *self.0.lock()
    }

    pub(super) fn extend(&self, end: Instant) {
        *self.0.lock() = Some(end);
    }

    /// Resolves when this process is no longer the leader.
    pub(super) async fn ended(&self) {
        loop {
            match self.end() {
                None => std::future::pending().await,
                Some(end) if end <= Instant::now() => return,
                Some(end) => tokio::time::sleep_until(end).await,
            }
        }
    }

    /// Runs `work` while this process is the leader. When it no longer is, `work` is dropped and this future never resolves:
    /// the process is about to end, and any result would be wrong.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => std::future::pending().await,
            result = work => result,
        }
    }
}
