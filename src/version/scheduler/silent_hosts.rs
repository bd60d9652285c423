//! Hosts that did not answer the last fetch.
//!
//! All repositories of a dead host hang, and each is tried with a permit of its own. Of those that are not known to fail, only one
//! at a time waits for a permit beside other hosts: so a fetch from another host waits for the next free permit, not for all of
//! them. They may still use every permit that no other host waits for.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::Mutex;

/// What is waited for. Each kind has turns of its own, since holders of a staging permit wait for a fetch permit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Staging,
    Fetch,
}

/// The turns of each silent host, by [`Stage`]. Bounded, because flags name all hosts that are asked.
#[derive(Debug, Default)]
pub(super) struct SilentHosts(Mutex<HashMap<String, [Arc<Semaphore>; 2]>>);

impl SilentHosts {
    /// Records whether the host of `repository` answered.
    pub(super) fn record(&self, repository: &str, answered: bool) {
        let mut hosts = self.0.lock();
        if answered {
            hosts.remove(host_of(repository));
        } else if !hosts.contains_key(host_of(repository)) {
            hosts
                .insert(host_of(repository).to_owned(), std::array::from_fn(|_| Arc::new(Semaphore::new(1))));
        }
    }

    pub(super) fn is_silent(&self, repository: &str) -> bool {
        self.0.lock().contains_key(host_of(repository))
    }

    /// Waits for the turn to wait for a permit; `None` if the host of `repository` is not silent.
    pub(super) async fn turn(&self, repository: &str, stage: Stage) -> Option<OwnedSemaphorePermit> {
        let turns = self.0.lock().get(host_of(repository)).map(|turns| Arc::clone(&turns[stage as usize]))?;
        turns.acquire_owned().await.ok()
    }
}

/// The host of a repository in canonical form, `https://host/owner/name`.
fn host_of(repository: &str) -> &str {
    repository.split('/').nth(2).unwrap_or(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_repository_of_a_silent_host_has_the_turn_until_the_host_answers() {
        let hosts = SilentHosts::default();
        let [a, b, other] =
            ["https://ghes.example/acme/a", "https://ghes.example/acme/b", "https://github.com/acme/a"];
        hosts.record(a, false);
        hosts.record(b, false);
        assert_eq!([a, b, other].map(|repository| hosts.is_silent(repository)), [true, true, false]);
        let turn = hosts.turn(a, Stage::Staging).await;
        assert!(turn.is_some() && hosts.turn(other, Stage::Staging).await.is_none());
        let has_turn = async |repository, stage| {
            tokio::select! { biased; turn = hosts.turn(repository, stage) => turn.is_some(), () = async {} => false }
        };
        assert!(!has_turn(b, Stage::Staging).await);
        assert!(has_turn(b, Stage::Fetch).await, "another stage");
        drop(turn);
        assert!(has_turn(b, Stage::Staging).await);
        hosts.record(b, true);
        assert!(!hosts.is_silent(a) && hosts.turn(a, Stage::Staging).await.is_none());
        assert!(hosts.0.lock().is_empty());
    }
}
