use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::registry::auth::bounded::Bounded;
use crate::registry::auth::denied::Denied;
use crate::registry::auth::review_cache::{ReviewCache, ReviewKeys, ReviewResult, TIMES};

type Cache = ReviewCache<&'static str, &'static str>;

const FAILED: ReviewResult<&str, &str> = ReviewResult::Failed(Denied::API_SERVER);

/// Longer ones would let a right count that was taken away, and others would have to wait for one that was given.
#[test]
fn a_yes_counts_for_a_minute_a_no_for_ten_seconds_and_a_yes_of_before_an_outage_for_ten_minutes() {
    let times = [TIMES.yes, TIMES.no, TIMES.stale].map(|time| time.as_secs());
    assert_eq!(times, [60, 10, 600]);
}

fn keys(yes: u8, no: u8) -> ReviewKeys {
    ReviewKeys { yes: [yes; 32], no: [no; 32] }
}

fn yes(life: Option<u64>) -> ReviewResult<&'static str, &'static str> {
    ReviewResult::Yes { value: "ann", life: life.map(Duration::from_secs) }
}

#[test]
fn answers_count_for_their_time_and_not_longer() {
    let (cache, start, keys) = (Cache::new(9, TIMES), Instant::now(), keys(1, 1));
    let after = |millis| start + Duration::from_millis(millis);
    assert_eq!(cache.known(&keys, start), None);
    let _ = cache.store(&keys, yes(None), start);
    assert_eq!(cache.known(&keys, after(59_999)), Some(Ok(Ok("ann"))));
    assert_eq!(cache.known(&keys, after(60_000)), None);
    let _ = cache.store(&keys, ReviewResult::No("not accepted"), start);
    assert_eq!(cache.known(&keys, after(9_999)), Some(Ok(Err("not accepted"))));
    assert_eq!(cache.known(&keys, after(10_000)), None, "a no replaces the yes before it");
    let _ = cache.store(&keys, yes(Some(20)), start);
    assert_eq!(cache.known(&keys, after(19_999)), Some(Ok(Ok("ann"))));
    assert_eq!(cache.known(&keys, after(20_000)), None, "nothing outlives the token");
    let _ = cache.store(&keys, yes(Some(0)), start);
    assert_eq!(cache.known(&keys, start), None);
}

#[test]
fn while_reviews_fail_a_yes_counts_for_ten_minutes_from_its_review() {
    let (cache, start, known) = (Cache::new(9, TIMES), Instant::now(), keys(1, 1));
    let after = |seconds| start + Duration::from_secs(seconds);
    let _ = cache.store(&known, yes(None), start);
    for at in [61, 300, 599] {
        assert_eq!(cache.store(&known, FAILED, after(at)), Ok(Ok("ann")), "{at}");
        // The failure is remembered for 5 seconds.
        assert_eq!(cache.known(&known, after(at)), Some(Ok(Ok("ann"))));
        assert_eq!(cache.known(&known, after(at + 5)), None);
    }
    assert_eq!(cache.store(&known, FAILED, after(600)), Err(Denied::API_SERVER));
    let unknown = keys(2, 2);
    assert_eq!(cache.store(&unknown, FAILED, start), Err(Denied::API_SERVER));
    assert_eq!(cache.known(&unknown, after(4)), Some(Err(Denied::API_SERVER)));
    assert_eq!(cache.known(&unknown, after(5)), None);
}

#[test]
fn a_client_that_waits_as_requested_finds_no_remembered_failure() {
    let (cache, start, keys) = (Cache::new(9, TIMES), Instant::now(), keys(1, 1));
    let failed = cache.store(&keys, FAILED, start);
    let seconds = failed.unwrap_err().retry_after().unwrap();
    assert_eq!(cache.known(&keys, start + Duration::from_secs(seconds.into())), None);
    assert!(cache.known(&keys, start + Duration::from_secs(2)).is_some());
}

#[test]
fn what_is_public_outlives_failing_reviews_but_not_those_that_are_too_many() {
    let (cache, start, public) = (Cache::new(9, TIMES), Instant::now(), keys(1, 1));
    let _ = cache.store(&public, yes(None), start);
    let limited = Denied::TooMany { phrase: "wait", retry_after: 1 };
    let at =
        |denied, seconds| cache.yes_despite(denied, &public, start + Duration::from_secs(seconds)).is_some();
    for many in [limited, Denied::BUSY] {
        assert_eq!([at(many, 59), at(many, 60), at(many, 599)], [true, false, false], "{many:?}");
    }
    let failed = Denied::API_SERVER;
    assert_eq!([at(failed, 59), at(failed, 60), at(failed, 599), at(failed, 600)], [true, true, true, false]);
}

#[test]
fn only_an_api_server_that_is_away_prolongs_a_permission() {
    let (cache, start, keys) = (Cache::new(9, TIMES), Instant::now(), keys(1, 1));
    let _ = cache.store(&keys, yes(None), start);
    let later = start + Duration::from_secs(61);
    for denied in [Denied::identity_provider(5), Denied::BUSY] {
        assert_eq!(cache.store(&keys, ReviewResult::Failed(denied), later), Err(denied));
        assert_eq!(cache.known(&keys, later), None);
    }
}

#[test]
fn a_yes_is_shared_by_object_and_a_no_is_not() {
    let (cache, start) = (Cache::new(9, TIMES), Instant::now());
    let _ = cache.store(&keys(1, 2), yes(None), start);
    assert_eq!(cache.known(&keys(1, 3), start), Some(Ok(Ok("ann"))));
    let _ = cache.store(&keys(4, 5), ReviewResult::No("no"), start);
    assert_eq!(cache.known(&keys(4, 6), start), None);
    assert_eq!(cache.known(&keys(7, 5), start), Some(Ok(Err("no"))));
}

#[test]
fn a_flood_of_refusals_evicts_no_permission() {
    let (cache, start) = (Cache::new(4, TIMES), Instant::now());
    let _ = cache.store(&keys(1, 1), yes(None), start);
    for number in 2..200 {
        let _ = cache.store(&keys(number, number), ReviewResult::No("no"), start);
    }
    assert_eq!(cache.known(&keys(1, 1), start), Some(Ok(Ok("ann"))));
    assert_eq!(cache.known(&keys(2, 2), start), None);
    assert_eq!(cache.known(&keys(199, 199), start), Some(Ok(Err("no"))));
}

/// Identities with all their groups would fill the memory.
#[test]
fn answers_that_count_no_more_are_not_kept() {
    let (cache, start) = (ReviewCache::<Arc<()>, ()>::new(9, TIMES), Instant::now());
    let identity = Arc::new(());
    let store = |key, life, seconds| {
        let value = Arc::clone(&identity);
        let answer = ReviewResult::Yes { value, life: Some(Duration::from_secs(life)) };
        let _ = cache.store(&keys(key, key), answer, start + Duration::from_secs(seconds));
        Arc::strong_count(&identity) - 1
    };
    assert_eq!([store(1, 9000, 0), store(2, 20, 0), store(3, 9000, 0)], [1, 2, 3]);
    // The second one is over, but not the oldest.
    assert_eq!([store(4, 9000, 599), store(4, 9000, 599)], [4, 4]);
    assert_eq!([store(5, 9000, 600), store(6, 0, 1200)], [2, 0]);
}

#[test]
fn the_order_of_a_few_entries_stays_short() {
    let mut map = Bounded::new(1000);
    for number in 0..10_000 {
        map.insert(number % 3, number, |_| false);
    }
    let (entries, order) = map.len();
    assert!(entries == 3 && order <= 70, "{order}");
}

#[tokio::test]
async fn a_review_goes_on_when_its_caller_gives_up() {
    let (cache, keys) = (Arc::new(Cache::new(9, TIMES)), keys(1, 1));
    let (open, opened) = tokio::sync::oneshot::channel::<()>();
    let review = || async move {
        opened.await.unwrap();
        yes(None)
    };
    let first = cache.ask(keys, Instant::now(), || Ok(()), review);
    assert!(tokio::time::timeout(Duration::from_millis(1), first).await.is_err());
    let second =
        cache.ask(keys, Instant::now(), || panic!("not admitted again"), || async { panic!("asked again") });
    open.send(()).unwrap();
    assert_eq!(second.await, (Ok(Ok("ann")), false));
}

#[tokio::test]
async fn a_review_of_another_object_is_not_shared() {
    let cache = Arc::new(Cache::new(9, TIMES));
    let first = cache.ask(keys(1, 3), Instant::now(), || Ok(()), std::future::pending);
    assert!(tokio::time::timeout(Duration::from_millis(1), first).await.is_err());
    let other = cache.ask(keys(2, 3), Instant::now(), || Ok(()), || async { yes(None) });
    let other = tokio::time::timeout(Duration::from_secs(10), other).await;
    assert_eq!(other.expect("a review of its own"), (Ok(Ok("ann")), true));
}

#[tokio::test]
async fn a_review_that_panics_blocks_no_other() {
    let (cache, keys) = (Arc::new(Cache::new(9, TIMES)), keys(1, 1));
    let broken = cache.ask(keys, Instant::now(), || Ok(()), || async { panic!("a broken review") }).await;
    assert_eq!(broken, (Err(Denied::API_SERVER), true));
    let next = cache.ask(keys, Instant::now(), || Ok(()), || async { yes(None) }).await;
    assert_eq!(next, (Ok(Ok("ann")), true));
}

#[tokio::test]
async fn who_is_not_admitted_starts_no_review() {
    let cache = Arc::new(Cache::new(9, TIMES));
    let started = AtomicUsize::new(0);
    let limited = Denied::TooMany { phrase: "wait", retry_after: 1 };
    let review = || {
        started.fetch_add(1, Ordering::SeqCst);
        async { yes(None) }
    };
    let outcome = cache.ask(keys(1, 1), Instant::now(), || Err(limited), review).await;
    assert_eq!((outcome, started.load(Ordering::SeqCst)), ((Err(limited), false), 0));
}

proptest! {
    #[test]
    fn a_bounded_map_keeps_the_newest(keys in prop::collection::vec(0..20u8, 0..200), capacity in 1..8usize) {
        let mut map = Bounded::new(capacity);
        let mut newest: Vec<u8> = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            if number % 7 == 3 {
                map.remove(key);
                newest.retain(|other| other != key);
                continue;
            }
            map.insert(*key, number, |_| false);
            newest.retain(|other| other != key);
            newest.push(*key);
            if newest.len() > capacity {
                newest.remove(0);
            }
            let (entries, order) = map.len();
            prop_assert!(entries == newest.len() && order <= 2 * entries + 64);
            prop_assert!(newest.iter().all(|key| map.get(key).is_some()));
        }
    }
}
