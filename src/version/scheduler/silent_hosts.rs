//! Hosts that did not answer the last fetch.
//!
//! All repositories of a dead host hang, and each is tried with a permit of its own. Of those that are not known to fail, only one
//! at a time waits for a permit beside other hosts: so a fetch from another host waits for the next free permit, not for all of
//! them. They may still use every permit that no other host waits for.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};
use crate::domain::{Mutex, hash_of};

/// What a turn is for. Who has one waits for nothing but this, so that a store without free permits stops no other store.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Turn {
    /// To wait, as this tenant, for a permit of this limit of staging permits, with one of each narrower limit.
    Staging(usize, u64),
    /// To wait for a fetch permit, with a staging permit.
    Fetch,
}

/// The turns of each silent host. Bounded, because flags name all hosts that fetches are sent to.
#[derive(Debug, Default)]
pub(super) struct SilentHosts(Mutex<HashMap<String, Arc<Bulkhead>>>);

impl SilentHosts {
    /// Records whether the host of `repository` answered.
    pub(super) fn record(&self, repository: &str, answered: bool) {
        let mut hosts = self.0.lock();
        if answered {
            hosts.remove(host_of(repository));
        } else if !hosts.contains_key(host_of(repository)) {
            let turns = Bulkhead::new(Semaphore::MAX_PERMITS, 1);
            hosts.insert(host_of(repository).to_owned(), Arc::new(turns));
        }
    }

    pub(super) fn is_silent(&self, repository: &str) -> bool {
        self.0.lock().contains_key(host_of(repository))
    }

    /// Waits for a turn; `None` if the host of `repository` is not silent.
    pub(super) async fn turn(&self, repository: &str, turn: Turn) -> Option<BulkheadPermit> {
        let turns = Arc::clone(self.0.lock().get(host_of(repository))?);
        Some(turns.acquire(hash_of(turn)).await)
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
        let turn = hosts.turn(a, Turn::Staging(0, 1)).await;
        assert!(turn.is_some() && hosts.turn(other, Turn::Staging(0, 1)).await.is_none());
        let has_turn = async |repository, turn| {
            tokio::select! { biased; turn = hosts.turn(repository, turn) => turn.is_some(), () = async {} => false }
        };
        assert!(!has_turn(b, Turn::Staging(0, 1)).await);
        assert!(has_turn(b, Turn::Staging(0, 2)).await && has_turn(b, Turn::Fetch).await, "other turns");
        drop(turn);
        assert!(has_turn(b, Turn::Staging(0, 1)).await);
        hosts.record(b, true);
        assert!(!hosts.is_silent(a) && hosts.turn(a, Turn::Staging(0, 1)).await.is_none());
        assert!(hosts.0.lock().is_empty());
    }
}
