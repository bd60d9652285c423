//! Who may fetch now: `--max-fetches` slots, shared so that a repository that hangs or fails holds up no other.
//!
//! In: the name of a repository before a fetch, and how it went after. Out: a permit to wait for. A repository that has
//! not answered yet in this process may hold one slot, and all those whose last attempt failed (or whose store did) share
//! half of them: so a new, healthy repository finds a free slot soon, while one healthy repository alone can use all of
//! them. Nothing here knows what a fetch is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shares::{Share, Shares};

/// So many repositories are remembered; beyond that only those that are in use. Specs choose repositories.
const REMEMBERED: usize = 1024;

/// How a repository has behaved.
#[derive(Clone)]
enum Standing {
    Unknown(Arc<Semaphore>),
    Proven,
    Suspect,
}

/// The slots of one operator.
pub struct Slots {
    fetches: Arc<Semaphore>,
    staging: Shares,
    suspects: Arc<Semaphore>,
    standings: Mutex<HashMap<String, Standing>>,
}

/// The right to prepare a fetch: to read the object and to look into the bucket.
pub struct Turn {
    slots: Arc<Slots>,
    _held: (Option<OwnedSemaphorePermit>, Share),
}

/// The right to fetch and store one archive.
pub struct Slot(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Slots {
    /// `max` archives at once (at least one).
    pub fn new(max: usize) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self {
            fetches: Arc::new(Semaphore::new(max)),
            // Twice the slots: while some transfer, as many others read their object and write their status. One store more
            // may hang before anybody has to wait for it.
            staging: Shares::new(max * 3, max * 2),
            suspects: Arc::new(Semaphore::new(max.div_ceil(2))),
            standings: Mutex::default(),
        })
    }

    /// Waits for the turn of a Version of `repository`, whose object is in `store`.
    pub async fn turn(self: &Arc<Self>, repository: &str, store: u64) -> Turn {
        loop {
            let lane = match self.standing(repository) {
                Standing::Unknown(own) => Some(own),
                Standing::Suspect => Some(Arc::clone(&self.suspects)),
                Standing::Proven => None,
            };
            let lane = match lane {
                // Closed: meanwhile the repository is no longer unknown, and those that wait have another lane.
                Some(lane) => match lane.acquire_owned().await {
                    Ok(permit) => Some(permit),
                    Err(_) => continue,
                },
                None => None,
            };
            let share = self.staging.turn(store).await;
            // One that failed while others of it waited here has a narrower lane now, and they with it.
            if lane.is_some() || !matches!(self.standing(repository), Standing::Suspect) {
                return Turn { slots: Arc::clone(self), _held: (lane, share) };
            }
        }
    }

    /// `repository` answered: it may use every slot.
    pub fn answered(&self, repository: &str) {
        self.set(repository, Standing::Proven);
    }

    /// `repository` did not answer, or failed, or the store of what came from it did.
    pub fn failed(&self, repository: &str) {
        self.set(repository, Standing::Suspect);
    }

    fn standing(&self, repository: &str) -> Standing {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if standings.len() >= REMEMBERED && !standings.contains_key(repository) {
            // One that is forgotten starts anew, with one slot until it answers.
            standings.retain(
                |_, standing| matches!(standing, Standing::Unknown(own) if Arc::strong_count(own) > 1),
            );
        }
        standings
            .entry(repository.to_owned())
            .or_insert_with(|| Standing::Unknown(Arc::new(Semaphore::new(1))))
            .clone()
    }

    fn set(&self, repository: &str, standing: Standing) {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Standing::Unknown(waiting)) = standings.insert(repository.to_owned(), standing) {
            waiting.close();
        }
    }
}

impl Turn {
    /// Waits for a slot. `None` only while the process ends.
    pub async fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots.fetches).acquire_owned().await.ok().map(Slot)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn gets_a_slot(slots: &Arc<Slots>, repository: &str) -> Option<(Turn, Slot)> {
        let both = async {
            let turn = slots.turn(repository, 0).await;
            let slot = turn.slot().await?;
            Some((turn, slot))
        };
        tokio::time::timeout(Duration::from_millis(50), both).await.ok().flatten()
    }

    #[tokio::test]
    async fn a_repository_that_hangs_leaves_slots_to_the_others() {
        let slots = Slots::new(4);
        let hung = [gets_a_slot(&slots, "hangs").await, gets_a_slot(&slots, "hangs too").await];
        assert!(hung.iter().all(Option::is_some));
        assert!(gets_a_slot(&slots, "hangs").await.is_none(), "one slot is all it gets");
        assert!(gets_a_slot(&slots, "healthy").await.is_some());
    }

    #[tokio::test]
    async fn all_that_failed_share_half_and_one_that_answered_may_use_all() {
        let slots = Slots::new(4);
        slots.failed("a");
        slots.failed("b");
        let held = [gets_a_slot(&slots, "a").await, gets_a_slot(&slots, "b").await];
        assert!(held.iter().all(Option::is_some));
        assert!(gets_a_slot(&slots, "b").await.is_none());
        drop(held);
        slots.answered("a");
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(gets_a_slot(&slots, "a").await.expect("a proven repository may use every slot"));
        }
        assert!(gets_a_slot(&slots, "a").await.is_none());
    }

    #[tokio::test]
    async fn those_that_wait_for_an_unknown_repository_use_every_slot_once_it_answered() {
        let slots = Slots::new(4);
        let first = gets_a_slot(&slots, "new").await;
        let others: Vec<_> = (0..3)
            .map(|_| {
                let slots = Arc::clone(&slots);
                tokio::spawn(async move {
                    let turn = slots.turn("new", 0).await;
                    (turn.slot().await, turn)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        slots.answered("new");
        for other in others {
            let held = tokio::time::timeout(Duration::from_secs(5), other).await;
            assert!(held.is_ok(), "one that was waiting is still kept to one slot");
            std::mem::forget(held);
        }
        assert!(first.is_some());
    }

    #[tokio::test]
    async fn those_that_were_let_in_before_it_failed_are_held_back_too() {
        let slots = Slots::new(2);
        slots.answered("a");
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(slots.turn("a", 1).await);
        }
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let slots = Arc::clone(&slots);
                tokio::spawn(async move { slots.turn("a", 1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        slots.failed("a");
        drop(all);
        // One thread: each of those that wait has its say.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.iter().filter(|task| task.is_finished()).count(), 1);
        slots.answered("b");
        for _ in 0..4 {
            let turn = tokio::time::timeout(Duration::from_secs(5), slots.turn("b", 2)).await;
            std::mem::forget(turn.expect("those of a that waited take one turn together"));
        }
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn repositories_are_remembered_in_bounded_number_and_those_in_use_always() {
        let slots = Slots::new(4);
        let hung = gets_a_slot(&slots, "hangs").await;
        for number in 0..REMEMBERED * 3 {
            slots.standing(&number.to_string());
        }
        assert!(slots.standings.lock().unwrap().len() <= REMEMBERED);
        assert!(hung.is_some() && gets_a_slot(&slots, "hangs").await.is_none(), "it still has one slot only");
    }

    #[tokio::test]
    async fn one_slot_still_works() {
        let slots = Slots::new(0);
        assert!(gets_a_slot(&slots, "a").await.is_some());
    }
}
