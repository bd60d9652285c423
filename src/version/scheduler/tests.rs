//! Which repositories get permits, and which have to leave them.

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

/// How many of these tasks have ended, once each of them has run as far as it can: the tests have one thread.
async fn finished<T>(tasks: &[tokio::task::JoinHandle<T>]) -> usize {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tasks.iter().filter(|task| task.is_finished()).count()
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
    assert_eq!(finished(&waiting).await, 1);
    scheduler.repository_answered("b");
    for _ in 0..4 {
        let staging = tokio::time::timeout(Duration::from_secs(5), scheduler.acquire("b", 2)).await;
        std::mem::forget(staging.expect("those of a that waited take one turn together"));
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn those_that_are_staged_when_it_fails_share_half_of_the_fetches_too() {
    let scheduler = FetchScheduler::new(4);
    scheduler.repository_answered("bad");
    let mut fetching = Vec::new();
    for _ in 0..4 {
        fetching.push(gets_a_permit(&scheduler, "bad").await.expect("it is healthy"));
    }
    let mut staged = Vec::new();
    for _ in 0..4 {
        let staging = scheduler.acquire("bad", 0).await;
        staged.push(tokio::spawn(async move { (staging.fetch().await, staging) }));
    }
    tokio::task::yield_now().await;
    scheduler.repository_failed("bad");
    drop(fetching);
    assert_eq!(finished(&staged).await, 2);
    scheduler.repository_answered("good");
    let good = [gets_a_permit(&scheduler, "good").await, gets_a_permit(&scheduler, "good").await];
    assert!(good.iter().all(Option::is_some), "the others have the rest");
    staged.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn those_that_wait_among_the_failing_use_every_permit_once_their_repository_answers() {
    let scheduler = FetchScheduler::new(4);
    scheduler.repository_failed("bad");
    let others = [gets_a_permit(&scheduler, "bad").await, gets_a_permit(&scheduler, "bad").await];
    assert!(others.iter().all(Option::is_some));
    scheduler.repository_answered("good");
    let mut staged = Vec::new();
    for _ in 0..2 {
        let staging = scheduler.acquire("good", 0).await;
        scheduler.repository_failed("good");
        staged.push(tokio::spawn(async move { (staging.fetch().await, staging) }));
        assert_eq!(finished(&staged).await, staged.len() - 1, "failing");
        scheduler.repository_answered("good");
        assert_eq!(finished(&staged).await, staged.len(), "staged");
    }
    drop((others, staged));
    scheduler.repository_failed("good");
    scheduler.repository_failed("bad");
    let others = [gets_a_permit(&scheduler, "bad").await, gets_a_permit(&scheduler, "bad").await];
    let waiting = [0; 2].map(|store| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { scheduler.acquire("good", store).await })
    });
    assert_eq!(finished(&waiting).await, 0);
    scheduler.repository_answered("another");
    assert_eq!(finished(&waiting).await, 0, "another repository");
    scheduler.repository_answered("good");
    assert_eq!(finished(&waiting).await, 2, "not staged yet");
    assert!(others.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_release_waits_for_a_few_versions_of_a_long_list() {
    let scheduler = FetchScheduler::new(1);
    scheduler.repository_answered("long");
    let order: Arc<Mutex<Vec<&str>>> = Arc::default();
    let publishes = |repository: &'static str| {
        let (scheduler, order) = (Arc::clone(&scheduler), Arc::clone(&order));
        tokio::spawn(async move {
            let _staging = scheduler.acquire(repository, 0).await;
            order.lock().push(repository);
            tokio::task::yield_now().await;
        })
    };
    let mut tasks: Vec<_> = (0..50).map(|_| publishes("long")).collect();
    tokio::task::yield_now().await;
    tasks.push(publishes("release"));
    for task in tasks {
        task.await.unwrap();
    }
    let before = order.lock().iter().position(|repository| *repository == "release");
    assert!(before.is_some_and(|before| before <= 6), "{before:?}");
}

#[tokio::test]
async fn a_fetch_yields_to_other_repositories_that_are_not_failing() {
    let scheduler = FetchScheduler::new(1);
    scheduler.repository_answered("slow");
    let held = gets_a_permit(&scheduler, "slow").await;
    assert!(held.is_some_and(|(_, permit)| !permit.is_limited) && !scheduler.others_wait("slow"));
    let held = gets_a_permit(&scheduler, "slow").await;
    let waits = |repository: &'static str| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { gets_a_permit(&scheduler, repository).await.is_some() })
    };
    scheduler.repository_failed("failing");
    let (own, failing) = (waits("slow"), waits("failing"));
    tokio::task::yield_now().await;
    assert!(!scheduler.others_wait("slow") && scheduler.others_wait("another"));
    let good = waits("good");
    tokio::task::yield_now().await;
    assert!(scheduler.others_wait("slow"));
    for waiting in [own, failing, good] {
        assert!(!waiting.await.unwrap());
    }
    assert!(scheduler.waiting.lock().is_empty());
    drop(held);
    let failing = gets_a_permit(&scheduler, "failing").await;
    assert!(failing.is_some_and(|(_, permit)| permit.is_limited), "it has its full time");
}

#[tokio::test]
async fn repositories_are_remembered_in_bounded_number_and_those_in_use_always() {
    let scheduler = FetchScheduler::new(4);
    let hung = gets_a_permit(&scheduler, "hangs").await;
    for number in 0..REMEMBERED * 3 {
        scheduler.health(&number.to_string());
    }
    assert!(scheduler.repositories.lock().len() <= REMEMBERED);
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

#[tokio::test]
async fn a_slow_repository_keeps_to_the_permits_of_failing_ones_until_it_is_fast() {
    let scheduler = FetchScheduler::new(4);
    scheduler.repository_failed("slow");
    let (_staging, permit) = gets_a_permit(&scheduler, "slow").await.expect("a permit");
    permit.was_slow.store(true, Ordering::Relaxed);
    permit.repository_answered();
    assert!(scheduler.is_failing("slow"));
    permit.was_slow.store(false, Ordering::Relaxed);
    permit.repository_answered();
    assert!(!scheduler.is_failing("slow"));
}
