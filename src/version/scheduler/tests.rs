//! Which repositories get permits, and which have to leave them.

use super::*;

async fn gets_a_permit(
    scheduler: &Arc<FetchScheduler>,
    repository: &str,
) -> Option<(StagingPermit, FetchPermit)> {
    let both = async {
        let staging = scheduler.acquire(0, 0, repository, 0).await;
        let fetch = staging.fetch().await;
        (staging, fetch)
    };
    tokio::time::timeout(Duration::from_millis(50), both).await.ok()
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
async fn a_store_that_fails_limits_no_version_of_its_repository_in_another_store() {
    let scheduler = FetchScheduler::new(4);
    scheduler.repository_answered("a");
    scheduler.store_failed("a", 0);
    let mut held = vec![gets_a_permit(&scheduler, "a").await, gets_a_permit(&scheduler, "a").await];
    assert!(held.iter().all(Option::is_some));
    assert!(gets_a_permit(&scheduler, "a").await.is_none(), "as one of a failing repository");
    let elsewhere = scheduler.acquire(0, 0, "a", 1).await;
    drop(elsewhere.fetch().await);
    drop(held.pop());
    scheduler.repository_answered("a");
    for _ in 0..3 {
        held.push(gets_a_permit(&scheduler, "a").await);
    }
    assert!(held.iter().all(Option::is_some), "it is tried again with every permit");
}

/// The hung Versions are of so many namespaces and stores.
#[tokio::test]
async fn a_namespace_or_a_store_whose_requests_hang_leaves_permits_to_the_others() {
    for (namespaces, stores, staged, others) in
        [(1, 1, 4, [(1, 0), (0, 1)]), (1, 3, 6, [(1, 0), (1, 9)]), (3, 1, 6, [(0, 1), (9, 1)])]
    {
        let scheduler = FetchScheduler::new(2);
        let stage = |namespace: u64, store: u64, repository: String| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { scheduler.acquire(namespace, 0, &repository, store).await })
        };
        let hung: Vec<_> = (0..12).map(|n| stage(n % namespaces, n % stores, format!("hung-{n}"))).collect();
        assert_eq!(finished(&hung).await, staged, "{namespaces} namespaces, {stores} stores");
        for (namespace, store) in others {
            let other = [0, 1].map(|n| stage(namespace, store, format!("other-{n}")));
            assert_eq!(finished(&other).await, 2, "namespace {namespace}, store {store}");
        }
        hung.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn a_namespace_whose_requests_hang_leaves_permits_for_its_repositories_to_the_others() {
    let scheduler = FetchScheduler::new(2);
    scheduler.repository_answered("shared");
    let stage = |namespace: u64, queue: u64, store: u64| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { scheduler.acquire(namespace, queue, "shared", store).await })
    };
    let mut hung: Vec<_> = (0..12).map(|_| stage(1, 1, 1)).collect();
    assert_eq!(finished(&hung).await, 4);
    hung.extend([stage(1, 2, 2), stage(1, 2, 2)]);
    assert_eq!(finished(&hung).await, 6, "another queue, in another store");
    let others = [2, 3].map(|namespace| stage(namespace, namespace + 1, 2));
    assert_eq!(finished(&others).await, 2, "other namespaces");
    hung.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_namespace_whose_requests_hang_leaves_a_permit_for_a_new_or_failing_repository_to_another_one() {
    for is_failing in [false, true] {
        let scheduler = FetchScheduler::new(2);
        if is_failing {
            scheduler.repository_failed("shared");
        }
        let stage = |namespace: u64| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { scheduler.acquire(namespace, namespace, "shared", 0).await })
        };
        let hung = [1, 1, 1].map(stage);
        assert_eq!(finished(&hung).await, 1, "failing: {is_failing}");
        assert_eq!(finished(&[stage(2)]).await, 1, "of another namespace, failing: {is_failing}");
        hung.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn those_that_wait_for_an_unknown_repository_and_a_store_that_failed_leave_its_slot_to_others() {
    let scheduler = FetchScheduler::new(4);
    let first = scheduler.acquire(0, 0, "new", 0).await;
    let waiting = [0, 0, 1].map(|store| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { scheduler.acquire(0, 0, "new", store).await })
    });
    assert_eq!(finished(&waiting).await, 0);
    scheduler.store_failed("new", 0);
    drop(first);
    assert_eq!(finished(&waiting).await, 3, "two as of a failing repository, and the one in another store");
}

#[tokio::test]
async fn those_that_wait_for_an_unknown_repository_use_every_slot_once_it_answered() {
    let scheduler = FetchScheduler::new(4);
    let first = gets_a_permit(&scheduler, "new").await;
    let others: Vec<_> = (0..3)
        .map(|_| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move {
                let staging = scheduler.acquire(0, 0, "new", 0).await;
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
        all.push(scheduler.acquire(0, 0, "a", 1).await);
    }
    let waiting: Vec<_> = (1..=4)
        .map(|queue| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { scheduler.acquire(0, queue, "a", 1).await })
        })
        .collect();
    tokio::task::yield_now().await;
    scheduler.repository_failed("a");
    drop(all);
    assert_eq!(finished(&waiting).await, 1);
    scheduler.repository_answered("b");
    for _ in 0..4 {
        let staging = tokio::time::timeout(Duration::from_secs(5), scheduler.acquire(0, 0, "b", 2)).await;
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
        let staging = scheduler.acquire(0, 0, "bad", 0).await;
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
        let staging = scheduler.acquire(0, 0, "good", 0).await;
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
        tokio::spawn(async move { scheduler.acquire(0, 0, "good", store).await })
    });
    assert_eq!(finished(&waiting).await, 0);
    scheduler.repository_answered("another");
    assert_eq!(finished(&waiting).await, 0, "another repository");
    scheduler.repository_answered("good");
    assert_eq!(finished(&waiting).await, 2, "not staged yet");
    assert!(others.iter().all(Option::is_some));
}

/// How many Versions are admitted before the newcomer, which comes while a hundred others wait. All are given as queue and
/// repository.
async fn admitted_before(
    newcomer: (u64, &'static str),
    others: impl Fn(u64) -> (u64, &'static str),
) -> usize {
    let scheduler = FetchScheduler::new(1);
    for repository in ["held", "long", "other"] {
        scheduler.repository_answered(repository);
    }
    let order: Arc<Mutex<Vec<bool>>> = Arc::default();
    let publishes = |is_newcomer: bool, (queue, repository): (u64, &'static str)| {
        let (scheduler, order) = (Arc::clone(&scheduler), Arc::clone(&order));
        tokio::spawn(async move {
            let _staging = scheduler.acquire(0, queue, repository, 0).await;
            order.lock().push(is_newcomer);
            tokio::task::yield_now().await;
        })
    };
    let held = [scheduler.acquire(0, 0, "held", 0).await, scheduler.acquire(0, 0, "held", 0).await];
    let mut tasks: Vec<_> = (0..100).map(|number| publishes(false, others(number))).collect();
    assert_eq!(finished(&tasks).await, 0);
    tasks.push(publishes(true, newcomer));
    assert_eq!(finished(&tasks).await, 0);
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    let before = order.lock().iter().position(|is_newcomer| *is_newcomer);
    before.expect("the newcomer is admitted too")
}

#[tokio::test]
async fn a_release_waits_for_a_few_versions_of_a_long_list() {
    let before = admitted_before((1, "other"), |_| (1, "long")).await;
    assert!(before <= 4, "of another repository: {before}");
    let before = admitted_before((1, "other"), |number| (number % 20, "long")).await;
    assert!(before <= 4, "of another repository than twenty queues: {before}");
    let before = admitted_before((2, "long"), |_| (1, "long")).await;
    assert!(before <= 4, "of another queue: {before}");
    let before = admitted_before((9, "long"), |number| (number % 5, "long")).await;
    assert!(before <= 5 * 3, "of another queue than five, of which two each are before it: {before}");
    assert_eq!(admitted_before((1, "long"), |_| (1, "long")).await, 100, "each queue is in order");
}

#[tokio::test]
async fn one_that_no_longer_waits_leaves_its_turn_to_the_next_of_its_queue() {
    let scheduler = FetchScheduler::new(1);
    scheduler.repository_answered("a");
    let mut held = vec![
        scheduler.acquire(0, 1, "a", 0).await,
        scheduler.acquire(0, 1, "a", 0).await,
        scheduler.acquire(0, 2, "a", 1).await,
    ];
    let mut waiting: Vec<_> = (0..6)
        .map(|_| {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { scheduler.acquire(0, 3, "a", 1).await })
        })
        .collect();
    assert_eq!(finished(&waiting).await, 0);
    // One that waits for a permit of the repository, and one that waits in its queue.
    for index in [3, 0] {
        waiting.remove(index).abort();
    }
    held.pop();
    assert_eq!(finished(&waiting).await, 1);
    held.clear();
    assert_eq!(finished(&waiting).await, 2, "one queue has two");
    drop(waiting.remove(0));
    assert_eq!(finished(&waiting).await, 2, "the next one");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_fetch_yields_to_other_repositories_that_are_not_failing() {
    let scheduler = FetchScheduler::new(1);
    scheduler.repository_answered("slow");
    let held = gets_a_permit(&scheduler, "slow").await;
    assert!(held.is_some_and(|(_, permit)| permit.limit.is_none()) && !scheduler.others_wait("slow"));
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
    assert!(!scheduler.others_wait(""), "none waits any longer");
    drop(held);
    let failing = gets_a_permit(&scheduler, "failing").await;
    assert!(failing.is_some_and(|(_, permit)| permit.limit.is_some()), "it has its full time");
}

#[tokio::test]
async fn repositories_are_remembered_in_bounded_number_and_those_in_use_always() {
    let scheduler = FetchScheduler::new(4);
    let hung = gets_a_permit(&scheduler, "hangs").await;
    scheduler.repository_answered("healthy");
    let _staging = scheduler.acquire(0, 0, "healthy", 0).await;
    for number in 0..REMEMBERED * 3 {
        scheduler.health((number.to_string().as_str(), 0));
    }
    assert!(scheduler.repositories.lock().len() <= REMEMBERED);
    assert!(
        hung.is_some() && gets_a_permit(&scheduler, "hangs").await.is_none(),
        "it still has one slot only"
    );
    assert!(matches!(scheduler.health(("healthy", 0)), RepositoryHealth::Healthy));
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
    assert!(scheduler.is_failing(("slow", 0)));
    permit.was_slow.store(false, Ordering::Relaxed);
    permit.repository_answered();
    assert!(!scheduler.is_failing(("slow", 0)));
}

#[tokio::test]
async fn a_dead_host_with_many_repositories_delays_others_by_two_rounds_of_permits() {
    for stores in [1, 100] {
        let scheduler = FetchScheduler::new(4);
        let fetch = |host: &str, number: usize| {
            let (scheduler, repository) = (Arc::clone(&scheduler), format!("https://{host}/acme/{number}"));
            tokio::spawn(async move {
                let staging = scheduler.acquire(0, 0, &repository, hash_of(number % stores)).await;
                (staging.fetch().await, staging)
            })
        };
        let mut dead: Vec<_> = (0..100).map(|number| fetch("dead", number)).collect();
        let healthy = [fetch("healthy", 0)];
        let fail = async |dead: &mut Vec<_>| {
            let mut fetching = Vec::new();
            finished(dead).await;
            while let Some(at) = dead.iter().position(tokio::task::JoinHandle::is_finished) {
                let (permit, staging): (FetchPermit, StagingPermit) = dead.remove(at).await.unwrap();
                permit.repository_failed();
                permit.host_answered(false);
                fetching.push((permit, staging));
            }
            fetching.len()
        };
        assert_eq!(
            (fail(&mut dead).await, finished(&healthy).await),
            (4, 0),
            "{stores} stores: 4 staged ones are next"
        );
        assert_eq!(
            (fail(&mut dead).await, finished(&healthy).await),
            (4, 1),
            "{stores} stores: not behind the others"
        );
        assert_eq!(fail(&mut dead).await, 3, "they use the permits that no other host waits for");
        for task in dead {
            task.abort();
        }
    }
}

#[tokio::test]
async fn a_store_without_free_permits_stops_no_other_store_of_a_silent_host() {
    let scheduler = FetchScheduler::new(2);
    let [healthy, dead] = ["https://healthy/acme/a", "https://dead/acme/a"];
    scheduler.repository_answered(healthy);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(scheduler.acquire(0, 0, healthy, 1).await);
    }
    scheduler.silent_hosts.record(dead, false);
    scheduler.repository_answered(dead);
    let waiting = [1, 1, 2].map(|store| {
        let scheduler = Arc::clone(&scheduler);
        tokio::spawn(async move { scheduler.acquire(0, 1, dead, store).await })
    });
    assert_eq!(finished(&waiting).await, 1);
    held.pop();
    assert_eq!(finished(&waiting).await, 2);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
