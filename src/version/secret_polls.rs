//! Polls of the Secrets that stall Versions, shared by all Versions of one Secret.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::Mutex;

/// How long a read is reused: about half of the time between two polls of one Version.
const FRESH: Duration = Duration::from_secs(30);

/// The resourceVersion of a Secret (`Some(None)`: it does not exist); `None` if it could not be read.
pub(crate) type SecretRead = Option<Option<String>>;

/// A read and its time.
type LastRead = Arc<tokio::sync::Mutex<Option<(Instant, SecretRead)>>>;

/// The last read of each Secret that stalls Versions, by namespace and name, shared by all Versions that it stalls. At most
/// one request per Secret is in flight, and a denial is reused like any other answer: thousands of Versions may wait for one
/// Secret.
#[derive(Debug, Default)]
pub struct SecretPolls(Mutex<HashMap<(String, String), LastRead>>);

impl SecretPolls {
    /// The result of the last read if it is fresh, else that of `request`.
    pub async fn read(
        &self,
        namespace: &str,
        name: &str,
        request: impl Future<Output = SecretRead>,
    ) -> SecretRead {
        let poll = self.of(namespace, name);
        let mut last = poll.lock().await;
        if let Some((at, outcome)) = &*last
            && at.elapsed() < FRESH
        {
            return outcome.clone();
        }
        let outcome = request.await;
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }

    /// Replaces an older read by what an attempt has read just now: the difference would count as a change after the attempt.
    pub fn record(&self, namespace: &str, name: &str, found: Option<String>) {
        let poll = self.0.lock().get(&(namespace.to_owned(), name.to_owned())).cloned();
        // A read in progress is as new.
        if let Some(poll) = poll
            && let Ok(mut last) = poll.try_lock()
        {
            *last = Some((Instant::now(), Some(found)));
        }
    }

    fn of(&self, namespace: &str, name: &str) -> LastRead {
        let mut all = self.0.lock();
        // Entries without waiting Versions are removed.
        all.retain(|_, poll| {
            let is_fresh = |(at, _): &(Instant, _)| at.elapsed() < FRESH;
            Arc::strong_count(poll) > 1
                || poll.try_lock().is_ok_and(|last| last.as_ref().is_some_and(is_fresh))
        });
        Arc::clone(all.entry((namespace.to_owned(), name.to_owned())).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_that_wait_for_one_secret_make_one_request_whatever_it_finds() {
        for found in [None, Some(None), Some(Some("7".to_owned()))] {
            let (polls, requests) = (SecretPolls::default(), AtomicUsize::new(0));
            let poll = || {
                polls.read("acme", "app", async {
                    requests.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    found.clone()
                })
            };
            let all = futures::future::join_all((0..100).map(|_| poll())).await;
            assert!(all.iter().all(|outcome| *outcome == found));
            assert_eq!(poll().await, found);
            assert_eq!(requests.load(Ordering::Relaxed), 1, "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_hangs_keeps_no_other_secret_waiting() {
        let polls = SecretPolls::default();
        let hangs = polls.read("acme", "hangs", std::future::pending());
        let others = async {
            let one = polls.read("acme", "app", std::future::ready(Some(Some("1".to_owned())))).await;
            let two = polls.read("beta", "hangs", std::future::ready(Some(None))).await;
            (one, two)
        };
        let outcome = tokio::select! {
            biased;
            _ = hangs => None,
            others = others => Some(others),
        };
        assert_eq!(outcome, Some((Some(Some("1".to_owned())), Some(None))));
        assert_eq!(polls.0.lock().len(), 3);
    }

    #[tokio::test]
    async fn the_read_of_an_attempt_replaces_an_older_one() {
        let polls = SecretPolls::default();
        let found = |version: &str| Some(Some(version.to_owned()));
        assert_eq!(polls.read("acme", "app", std::future::ready(found("1"))).await, found("1"));
        polls.record("acme", "app", Some("2".to_owned()));
        assert_eq!(polls.read("acme", "app", std::future::pending()).await, found("2"));
        polls.record("acme", "app", None);
        assert_eq!(polls.read("acme", "app", std::future::pending()).await, Some(None));
    }

    #[tokio::test]
    async fn a_look_is_given_up_with_who_asked_for_it() {
        let polls = SecretPolls::default();
        let hangs = polls.read("acme", "app", std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(10), hangs).await.is_err());
        assert_eq!(polls.read("acme", "app", std::future::ready(Some(None))).await, Some(None));
    }
}
