//! Requests of the administrator, for callers that are not asynchronous.

use anyhow::Result;
use kube::Client;

use super::ControlPlane;
use crate::background::runtime;

impl ControlPlane {
    /// Sends requests of the administrator. The caller's thread waits for their end, as it does for that of kubectl.
    pub fn as_admin<T: Send>(&self, requests: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
        let runtime = runtime()?;
        // A thread of one runtime cannot wait for another one.
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                runtime.block_on(async {
                    let client = self.client.get_or_try_init(|| self.admin()).await?.clone();
                    requests(client).await
                })
            });
            thread.join()
        });
        match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
