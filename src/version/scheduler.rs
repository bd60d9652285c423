//! Permits for downloads, shared so that a repository that hangs or fails delays no other.
//!
//! A repository that has not answered yet may use one permit, and all failing ones share half of them: so a new, healthy
//! repository soon finds a free permit, while a single healthy repository can use all.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::OptionFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::controller::bulkhead::{Bulkhead, BulkheadPermit};
use crate::domain::Mutex;

/// Repositories that are remembered; above this number, only those in use. Specs choose repositories.
const REMEMBERED: usize = 1024;

#[derive(Clone)]
enum RepositoryHealth {
    /// It has not answered yet in this process: it may use one permit.
    New(Arc<Semaphore>),
    Healthy,
    /// Its last fetch failed, or the store of the result did. All of these share half of the permits.
    Failing,
}

/// Permits for `--max-fetches` downloads at once.
pub struct FetchScheduler {
    fetches: Arc<Semaphore>,
    staging: Bulkhead,
    failing: Arc<Semaphore>,
    health: Mutex<HashMap<String, RepositoryHealth>>,
}

/// The permit to prepare a fetch: to read the Version and to check the bucket.
pub struct StagingPermit {
    scheduler: Arc<FetchScheduler>,
    _held: (Option<OwnedSemaphorePermit>, BulkheadPermit),
}

/// The permit to download and store one archive.
pub struct FetchPermit(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl FetchScheduler {
    /// At most `max` downloads at once; at least one.
    pub fn new(max: usize) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self {
            fetches: Arc::new(Semaphore::new(max)),
            // While some Versions transfer, as many others read their object and write their status. One more store may hang
            // before others have to wait.
            staging: Bulkhead::new(max * 3, max * 2),
            failing: Arc::new(Semaphore::new(max.div_ceil(2))),
            health: Mutex::default(),
        })
    }

    /// Waits for a staging permit of a Version of `repository` whose object is in `store`.
    pub async fn acquire(self: &Arc<Self>, repository: &str, store: u64) -> StagingPermit {
        loop {
            let limit = match self.health(repository) {
                RepositoryHealth::New(own) => Some(own),
                RepositoryHealth::Failing => Some(Arc::clone(&self.failing)),
                RepositoryHealth::Healthy => None,
            };
            let permit = OptionFuture::from(limit.map(Semaphore::acquire_owned)).await;
            // A closed semaphore means that the repository is no longer new.
            let Ok(limit) = permit.transpose() else { continue };
            let staging = self.staging.acquire(store).await;
            // If the repository failed meanwhile, its narrower limit applies.
            if limit.is_some() || !matches!(self.health(repository), RepositoryHealth::Failing) {
                return StagingPermit { scheduler: Arc::clone(self), _held: (limit, staging) };
            }
        }
    }

    /// Records that a repository answered: it may use every permit.
    pub fn repository_answered(&self, repository: &str) {
        self.set(repository, RepositoryHealth::Healthy);
    }

    /// Records that a repository, or the store of its Versions, failed or did not answer.
    pub fn repository_failed(&self, repository: &str) {
        self.set(repository, RepositoryHealth::Failing);
    }

    fn health(&self, repository: &str) -> RepositoryHealth {
        let mut all = self.health.lock();
        if all.len() >= REMEMBERED && !all.contains_key(repository) {
            all.retain(
                |_, health| matches!(health, RepositoryHealth::New(own) if Arc::strong_count(own) > 1),
            );
        }
        all.entry(repository.to_owned())
            .or_insert_with(|| RepositoryHealth::New(Arc::new(Semaphore::new(1))))
            .clone()
    }

    fn set(&self, repository: &str, health: RepositoryHealth) {
        let mut all = self.health.lock();
        if let Some(RepositoryHealth::New(waiting)) = all.insert(repository.to_owned(), health) {
            waiting.close();
        }
    }
}

impl StagingPermit {
    /// Waits for a download permit. `None` only during shutdown.
    pub async fn fetch(&self) -> Option<FetchPermit> {
        Arc::clone(&self.scheduler.fetches).acquire_owned().await.ok().map(FetchPermit)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gets_a_permit(
        scheduler: &Arc<FetchScheduler>,
        repository: &str,
    ) -> Option<(StagingPermit, FetchPermit)> {
        let both = async {
            let staging = scheduler.acquire(repository, 0).await;
            let fetch = staging.fetch().await?;
            Some((staging, fetch))
        };
        tokio::time::timeout(Duration::from_millis(50), both).await.ok().flatten()
    }

    #[tokio::test]
    async fn a_repository_that_hangs_leaves_slots_to_the_others() {
        let scheduler = FetchScheduler::new(4);
        let hung = [gets_a_permit(&scheduler, "hangs").await, gets_a_permit(&scheduler, "hangs too").await];
        assert!(hung.iter().all(Option::is_some));
        assert!(gets_a_permit(&scheduler, "hangs").await.is_none(), "one slot is all it gets");
        assert!(gets_a_permit(&scheduler, "healthy").await.is_some());
    }

    #[tokio::test]
    async fn all_that_failed_share_half_and_one_that_answered_may_use_all() {
        let scheduler = FetchScheduler::new(4);
        scheduler.repository_failed("a");
        scheduler.repository_failed("b");
        let held = [gets_a_permit(&scheduler, "a").await, gets_a_permit(&scheduler, "b").await];
        assert!(held.iter().all(Option::is_some));
        assert!(gets_a_permit(&scheduler, "b").await.is_none());
        drop(held);
        scheduler.repository_answered("a");
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(gets_a_permit(&scheduler, "a").await.expect("a proven repository may use every slot"));
        }
        assert!(gets_a_permit(&scheduler, "a").await.is_none());
    }

    #[tokio::test]
    async fn those_that_wait_for_an_unknown_repository_use_every_slot_once_it_answered() {
        let scheduler = FetchScheduler::new(4);
        let first = gets_a_permit(&scheduler, "new").await;
        let others: Vec<_> = (0..3)
            .map(|_| {
                let scheduler = Arc::clone(&scheduler);
                tokio::spawn(async move {
                    let staging = scheduler.acquire("new", 0).await;
                    (staging.fetch().await, staging)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        scheduler.repository_answered("new");
        for other in others {
            let held = tokio::time::timeout(Duration::from_secs(5), other).await;
            assert!(held.is_ok(), "one that was waiting is still kept to one slot");
            std::mem::forget(held);
        }
        assert!(first.is_some());
    }

    #[tokio::test]
    async fn those_that_were_let_in_before_it_failed_are_held_back_too() {
        let scheduler = FetchScheduler::new(2);
        scheduler.repository_answered("a");
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(scheduler.acquire("a", 1).await);
        }
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let scheduler = Arc::clone(&scheduler);
                tokio::spawn(async move { scheduler.acquire("a", 1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        scheduler.repository_failed("a");
        drop(all);
        // One thread: each of those that wait has its say.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.iter().filter(|task| task.is_finished()).count(), 1);
        scheduler.repository_answered("b");
        for _ in 0..4 {
            let staging = tokio::time::timeout(Duration::from_secs(5), scheduler.acquire("b", 2)).await;
            std::mem::forget(staging.expect("those of a that waited take one turn together"));
        }
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn repositories_are_remembered_in_bounded_number_and_those_in_use_always() {
        let scheduler = FetchScheduler::new(4);
        let hung = gets_a_permit(&scheduler, "hangs").await;
        for number in 0..REMEMBERED * 3 {
            scheduler.health(&number.to_string());
        }
        assert!(scheduler.health.lock().len() <= REMEMBERED);
        assert!(
            hung.is_some() && gets_a_permit(&scheduler, "hangs").await.is_none(),
            "it still has one slot only"
        );
    }

    #[tokio::test]
    async fn one_slot_still_works() {
        let scheduler = FetchScheduler::new(0);
        assert!(gets_a_permit(&scheduler, "a").await.is_some());
    }
}
