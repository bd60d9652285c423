//! The runtime that the testbed's own servers live on, and small things that all of its parts share.
//!
//! Each `#[tokio::test]` brings a runtime that ends with the test. The servers outlast it, so they have one of their own.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();

/// The runtime of the testbed's servers, started at the first call.
pub(crate) fn runtime() -> Result<&'static Handle> {
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread().worker_threads(2).thread_name("testbed").enable_all().build()
        })
        .as_ref()
        .map(Runtime::handle)
        .map_err(|error| anyhow!("cannot start the testbed's runtime: {error}"))
}

/// A task on the testbed's runtime that ends when this is dropped.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Starts `future` on the testbed's runtime.
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Result<Self> {
        Ok(Self(runtime()?.spawn(future)))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a future to its end on the testbed's runtime, so that what it starts outlives the caller's.
pub(crate) async fn on_runtime<T: Send + 'static>(
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    runtime()?.spawn(future).await.context("the testbed's task died")?
}

/// Locks, also after a test panicked while it held the lock: what the testbed guards stays usable.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `observe` until it succeeds, and returns what it found. What takes long is looked at less often: most looks are requests
/// to the API server that all tests share.
///
/// # Errors
/// When `deadline` has passed: the last thing that `observe` complained about.
pub async fn eventually<T, F, Fut>(deadline: Duration, mut observe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let end = tokio::time::Instant::now() + deadline;
    let mut last = anyhow!("not observed once");
    let (mut pause, longest) = (Duration::from_millis(25), Duration::from_millis(150));
    loop {
        match tokio::time::timeout_at(end, observe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last.context(format!("not so within {deadline:?}; last observed"))),
        }
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + pause)).await;
        pause = longest.min(pause * 5 / 4);
        if tokio::time::Instant::now() >= end {
            return Err(last.context(format!("not so within {deadline:?}; last observed")));
        }
    }
}

/// Undoes the percent-encoding of a path. What is no valid encoding stays as it is.
pub(crate) fn percent_decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
