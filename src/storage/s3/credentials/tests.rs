use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::text::causes;

/// A source that never answers, and how often it was asked.
#[derive(Clone, Debug, Default)]
pub(in crate::storage::s3) struct Hanging(Arc<AtomicUsize>);

impl ProvideCredentials for Hanging {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.0.fetch_add(1, Ordering::Relaxed);
        future::ProvideCredentials::new(std::future::pending())
    }
}

/// Requests credentials once a second.
async fn use_for_a_minute(cache: &CredentialsCache, start: Now) {
    for second in 0..60 {
        cache.credentials(start.after(Duration::from_secs(second))).await.unwrap();
    }
}

impl Now {
    fn after(self, time: Duration) -> Self {
        Self { monotonic: self.monotonic + time, wall: self.wall + time }
    }
}

/// Credentials that end at a time of the test's, and how often they were asked for.
#[derive(Clone, Debug, Default)]
struct Source {
    end: Arc<std::sync::Mutex<Option<SystemTime>>>,
    asked: Arc<AtomicUsize>,
    fails: Arc<std::sync::atomic::AtomicBool>,
}

impl Source {
    fn ending(&self, end: SystemTime) {
        *self.end.lock().unwrap() = Some(end);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let result = if self.fails.load(Ordering::Relaxed) {
            Err(CredentialsError::provider_error("no answer"))
        } else {
            Ok(Credentials::new("id", "secret", None, *self.end.lock().unwrap(), "test"))
        };
        future::ProvideCredentials::ready(result)
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

#[tokio::test]
async fn credentials_are_renewed_ten_minutes_before_they_end() {
    let (source, start) = (Source::default(), Now::read());
    source.ending(start.wall + minutes(60));
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    for now in [0, 20, 49] {
        cache.credentials(start.after(minutes(now))).await.unwrap();
    }
    assert_eq!(source.asked(), 1);
    source.ending(start.wall + minutes(110));
    let new = cache.credentials(start.after(minutes(50))).await.unwrap();
    assert_eq!((source.asked(), new.expiry()), (2, Some(start.wall + minutes(110))));
    cache.credentials(start.after(minutes(99))).await.unwrap();
    assert_eq!(source.asked(), 2);
}

#[tokio::test]
async fn a_source_that_has_no_better_ones_yet_is_asked_twice_a_minute() {
    let (source, start) = (Source::default(), Now::read());
    source.ending(start.wall + minutes(8));
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    use_for_a_minute(&cache, start).await;
    assert_eq!(source.asked(), 2);
}

#[tokio::test]
async fn credentials_that_the_store_rejects_are_loaded_again_twice_a_minute() {
    let (source, start) = (Source::default(), Now::read());
    source.ending(start.wall + minutes(600));
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    cache.renew(start.monotonic);
    for second in 0..60 {
        let now = start.after(Duration::from_secs(second));
        cache.credentials(now).await.unwrap();
        cache.clone().renew(now.monotonic);
    }
    assert_eq!(source.asked(), 2, "the second one after 30 s");
    // Old ones may still be accepted elsewhere.
    source.fails.store(true, Ordering::Relaxed);
    cache.renew(start.monotonic + minutes(2));
    cache.credentials(start.after(minutes(2))).await.unwrap();
    assert_eq!(source.asked(), 3);
}

#[tokio::test]
async fn a_source_that_hangs_is_awaited_once_and_not_for_long() {
    let (source, start) = (Hanging::default(), Instant::now());
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    let all = futures::future::join_all((0..5).map(|_| cache.credentials(Now::read()))).await;
    assert!(start.elapsed() < 2 * LOAD_TIMEOUT, "{:?}", start.elapsed());
    for result in all {
        let error = causes(&result.unwrap_err());
        assert!(error.contains("credentials provider timed out"), "{error}");
    }
    assert_eq!(source.0.load(Ordering::Relaxed), 1);
    // One that is cancelled leaves the load to those who wait, and a later one loads again.
    let cancelled = tokio::time::timeout(LOAD_TIMEOUT / 4, cache.credentials(Now::read()));
    let (cancelled, waiting) = tokio::join!(cancelled, cache.credentials(Now::read()));
    assert!(cancelled.is_err() && waiting.is_err());
    assert_eq!(source.0.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_clock_that_is_corrected_does_not_keep_credentials_beyond_their_end() {
    let start = Now::read();
    // The hour that the clock shows, where the right one is 9: at the load, and later.
    for (first, later) in [(18, 9), (9, 0), (0, 9), (0, 18)] {
        let shown =
            |hour: u64, now: Now| Now { wall: now.wall - minutes(9 * 60) + minutes(hour * 60), ..now };
        let source = Source::default();
        let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
        source.ending(start.wall + minutes(60));
        cache.credentials(shown(first, start)).await.unwrap();
        source.ending(start.wall + minutes(600));
        let new = cache.credentials(shown(later, start.after(minutes(50)))).await.unwrap();
        assert_eq!(new.expiry(), Some(start.wall + minutes(600)), "{first} {later}");
    }
    // While it is ahead, each new one seems to have ended.
    let source = Source::default();
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    source.ending(start.wall - minutes(60));
    use_for_a_minute(&cache, start).await;
    assert_eq!(source.asked(), 2);
}

#[tokio::test]
async fn a_source_that_fails_is_no_error_while_the_old_ones_last() {
    let (source, start) = (Source::default(), Now::read());
    source.ending(start.wall + minutes(60));
    let cache = CredentialsCache::new(SharedCredentialsProvider::new(source.clone()));
    cache.credentials(start).await.unwrap();
    source.fails.store(true, Ordering::Relaxed);
    cache.credentials(start.after(minutes(51))).await.unwrap();
    cache.credentials(start.after(minutes(51))).await.unwrap();
    assert_eq!(source.asked(), 2);
    assert!(cache.credentials(start.after(minutes(59))).await.is_err());
}
