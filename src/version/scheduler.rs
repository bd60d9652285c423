//! Permits for downloads, shared so that a repository that hangs or fails delays no other.
//!
//! A repository that has not answered yet may use two permits, one for each of two namespaces, and all failing ones share half of
//! the downloads: so a new, healthy repository soon finds a free permit, while a single healthy repository can use all. If that
//! one then hangs, its fetches end as soon as another repository waits, and it counts as failing. Of a long list of versions of
//! one repository, only some wait for permits beside the others, so that a release of another repository is not behind all of
//! them. Most of these, but not all, may be of one namespace or of one queue, such as the Versions of one Module: so a release of
//! another one is not behind them. A store that fails counts as a failure of the repository for Versions in that store.
//!
//! A namespace or a store whose requests hang, such as a namespace with a slow webhook, has only a part of the permits to prepare
//! fetches.

mod repository;
mod silent_hosts;
mod transfer;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use self::repository::{Admission, RepositoryHealth, ScheduledRepository};
use self::silent_hosts::{SilentHosts, Turn};
use self::transfer::Transfer;
pub(super) use self::transfer::{LEAST_BYTES, LOW_SPEED_TIME};
use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};
use crate::domain::{Mutex, hash_of};

/// Repositories that are remembered; above this number, only those in use. Specs choose repositories.
const REMEMBERED: usize = 1024;
/// How often the progress of a fetch is read.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A repository, and the store of the Version that waits.
type Source<'a> = (&'a str, u64);

/// Permits for `--max-fetches` downloads at once.
pub struct FetchScheduler {
    fetches: Arc<Semaphore>,
    /// From the narrowest limit to the widest: for a namespace in one store, a namespace, a store, and all.
    staging: [Bulkhead; 4],
    /// For failing repositories of a namespace, and for all: the requests of a namespace may hang.
    failing: Bulkhead,
    /// For failing repositories that already have a staging permit. A semaphore of its own, since holders of `failing` wait for
    /// staging permits.
    failing_fetches: Arc<Semaphore>,
    repositories: Mutex<HashMap<String, ScheduledRepository>>,
    /// The number of downloads at once.
    max: usize,
    /// Notified whenever a repository that was new or failing has answered.
    answered: Notify,
    silent_hosts: SilentHosts,
}

/// The permit to prepare a fetch: to read the Version and to check the bucket.
pub struct StagingPermit {
    scheduler: Arc<FetchScheduler>,
    repository: String,
    store: u64,
    /// With the repository's `Admission`, by which the repository is known to be in use.
    _held: (Arc<Admission>, Vec<BulkheadPermit>, Option<BulkheadPermit>, Vec<BulkheadPermit>),
}

/// The permit to download and store one archive.
pub struct FetchPermit {
    scheduler: Arc<FetchScheduler>,
    repository: String,
    /// One of the permits that failing repositories share, if it was failing.
    limit: Option<OwnedSemaphorePermit>,
    was_slow: AtomicBool,
    _held: Option<OwnedSemaphorePermit>,
}

impl FetchScheduler {
    /// At most `max` downloads at once; at least one.
    pub fn new(max: usize) -> Arc<Self> {
        let max = max.max(1);
        let half = max.div_ceil(2);
        Arc::new(Self {
            fetches: Arc::new(Semaphore::new(max)),
            // Twice the number of transfers for a namespace in one store: while some Versions transfer, as many others read their
            // object and write their status. If the requests of one namespace, store or repository hang, at least as many permits
            // as there are transfers remain for the others.
            staging: [2, 3, 3, 5].map(|times| Bulkhead::new(Semaphore::MAX_PERMITS, max * times)),
            failing: Bulkhead::new(2 * half, half),
            failing_fetches: Arc::new(Semaphore::new(half)),
            repositories: Mutex::default(),
            max,
            answered: Notify::new(),
            silent_hosts: SilentHosts::default(),
        })
    }

    /// Waits for a staging permit of a Version of `repository` whose object is in `store`. Versions of one `queue` are admitted in
    /// the order in which they come.
    pub async fn acquire(
        self: &Arc<Self>,
        namespace: u64,
        queue: u64,
        repository: &str,
        store: u64,
    ) -> StagingPermit {
        let tenants = &[hash_of((namespace, store)), namespace, store, 0];
        let admission = self.repository(repository, |found| Arc::clone(&found.admission));
        let admitted = admission.acquire(queue, namespace).await;
        let source = (repository, store);
        loop {
            let health = self.health(source);
            let limit = match health {
                RepositoryHealth::New => Some(&admission.first),
                RepositoryHealth::Failing => Some(&self.failing),
                RepositoryHealth::Healthy => None,
            };
            let limit = match limit {
                Some(limit) => self.unless_changed(source, health, || limit.acquire(namespace)).await,
                None => None,
            };
            if self.health(source) != health {
                // It has answered, or it or its store has failed: another limit applies.
                continue;
            }
            let (is_failing, turn) = (health == RepositoryHealth::Failing, Turn::Staging(0, tenants[0]));
            let staging = || self.staging_permit(repository, tenants, is_failing);
            if let Some(staging) =
                self.beside_others(source, turn, limit.is_some(), is_failing, staging).await
            {
                let (scheduler, repository) = (Arc::clone(self), repository.to_owned());
                let held = (admission, admitted, limit, staging);
                return StagingPermit { scheduler, repository, store, _held: held };
            }
        }
    }

    /// Waits for a permit of repositories with this health. `None` if this one has another health, or answers meanwhile.
    async fn unless_changed<T, F: Future<Output = T>>(
        &self,
        source: Source<'_>,
        health: RepositoryHealth,
        permit: impl FnOnce() -> F,
    ) -> Option<T> {
        let change = async {
            loop {
                // Before the health is read, so that no notification is missed.
                let answered = self.answered.notified();
                if self.health(source) != health {
                    return;
                }
                answered.await;
            }
        };
        tokio::select! {
            biased;
            () = change => None,
            permit = permit() => Some(permit),
        }
    }

    /// Waits for a permit of each limit. The narrow ones come first: a wait for one delays no other namespace or store.
    async fn staging_permit(
        &self,
        repository: &str,
        tenants: &[u64; 4],
        is_failing: bool,
    ) -> Vec<BulkheadPermit> {
        let mut held = Vec::with_capacity(tenants.len());
        for (limit, (permits, &tenant)) in self.staging.iter().zip(tenants).enumerate() {
            // The caller has the turn for the first one.
            let _turn = if limit == 0 || is_failing {
                None
            } else {
                self.silent_hosts.turn(repository, Turn::Staging(limit, tenant)).await
            };
            held.push(permits.acquire(tenant).await);
        }
        held
    }

    /// Waits for a permit that all repositories share. `None` if the repository or its host failed meanwhile, so that its narrower
    /// limit applies. `is_limited`: whether a narrower limit applies already; `is_failing`: whether that is the one of failing
    /// repositories, which do not count as waiting.
    async fn beside_others<T, F: Future<Output = T>>(
        &self,
        source @ (repository, _): Source<'_>,
        turn: Turn,
        is_limited: bool,
        is_failing: bool,
        // Not the future itself, which this one would hold twice.
        permit: impl FnOnce() -> F,
    ) -> Option<T> {
        let waiting = (!is_failing).then(|| self.repository(repository, |found| Arc::clone(&found.waiting)));
        let turn = if is_failing { None } else { self.silent_hosts.turn(repository, turn).await };
        let permit = permit().await;
        drop(waiting);
        let awaits_turn = !is_failing && turn.is_none() && self.silent_hosts.is_silent(repository);
        ((is_limited || !self.is_failing(source)) && !awaits_turn).then_some(permit)
    }

    /// Whether Versions of another repository wait for a permit.
    fn others_wait(&self, repository: &str) -> bool {
        let all = self.repositories.lock();
        all.iter().any(|(name, known)| name != repository && Arc::strong_count(&known.waiting) > 1)
    }

    /// Records that a repository answered: it may use every permit.
    pub fn repository_answered(&self, repository: &str) {
        if self.repository(repository, |found| found.set(RepositoryHealth::Healthy)) {
            self.answered.notify_waiters();
        }
    }

    /// Records that a repository failed or did not answer.
    pub fn repository_failed(&self, repository: &str) {
        self.repository(repository, |found| found.set(RepositoryHealth::Failing));
    }

    /// Records that a store failed or did not answer. Versions of the repository in other stores are not limited with it.
    pub fn store_failed(&self, repository: &str, store: u64) {
        self.repository(repository, |found| found.store_failed(store));
    }

    fn is_failing(&self, source: Source<'_>) -> bool {
        self.health(source) == RepositoryHealth::Failing
    }

    fn health(&self, (repository, store): Source<'_>) -> RepositoryHealth {
        self.repository(repository, |found| found.health(store))
    }

    fn repository<T>(&self, repository: &str, of: impl FnOnce(&mut ScheduledRepository) -> T) -> T {
        let mut all = self.repositories.lock();
        if all.len() >= REMEMBERED && !all.contains_key(repository) {
            // Each Version that waits, or has a staging permit, holds a copy.
            all.retain(|_, known| Arc::strong_count(&known.admission) > 1);
        }
        of(all.entry(repository.to_owned()).or_insert_with(|| ScheduledRepository::new(self.max)))
    }
}

impl StagingPermit {
    /// Waits for a download permit.
    pub async fn fetch(&self) -> FetchPermit {
        let Self { scheduler, repository, store, .. } = self;
        let source = (repository.as_str(), *store);
        loop {
            let failing = || Arc::clone(&scheduler.failing_fetches).acquire_owned();
            let limit = scheduler.unless_changed(source, RepositoryHealth::Failing, failing).await;
            let limit = limit.and_then(Result::ok);
            let fetch = || Arc::clone(&scheduler.fetches).acquire_owned();
            let (turn, is_failing) = (Turn::Fetch, limit.is_some());
            if let Some(fetch) = scheduler.beside_others(source, turn, is_failing, is_failing, fetch).await {
                let (scheduler, repository) = (Arc::clone(scheduler), repository.clone());
                // The semaphore is never closed.
                let (was_slow, held) = (AtomicBool::default(), fetch.ok());
                return FetchPermit { scheduler, repository, limit, was_slow, _held: held };
            }
        }
    }
}

impl FetchPermit {
    /// Records that the repository answered: it may use every permit. One that was too slow for others keeps to the permits for
    /// failing repositories, where it has its full time.
    pub(super) fn repository_answered(&self) {
        if self.limit.is_none() || !self.was_slow.load(Ordering::Relaxed) {
            self.scheduler.repository_answered(&self.repository);
        }
    }

    /// Records that the repository failed or did not answer.
    pub(super) fn repository_failed(&self) {
        self.scheduler.repository_failed(&self.repository);
    }

    /// Records whether the repository's host answered at all.
    pub(super) fn host_answered(&self, answered: bool) {
        self.scheduler.silent_hosts.record(&self.repository, answered);
    }

    /// Completes when the fetch hardly progresses and another repository waits. `received` returns the bytes so far. A fetch with
    /// a permit for failing repositories keeps it: others have the rest of the permits, and a slow repository its full time.
    pub(super) async fn must_yield(&self, received: impl Fn() -> u64) {
        let mut transfer = Transfer::new(received(), Instant::now());
        loop {
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            if transfer.is_slow(received(), Instant::now()) {
                self.was_slow.store(true, Ordering::Relaxed);
                if self.limit.is_none() && self.scheduler.others_wait(&self.repository) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
