use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::registry::auth::limits::{Limit, LimitKey, ReviewPermits};
use crate::registry::http::TrustedProxies;

const KEY: LimitKey = LimitKey::Identity([1; 32]);

#[test]
fn so_many_at_once_and_then_as_they_come_back() {
    for count in [30, 60, 600] {
        let (limit, start) = (Limit::per_minute(count), Instant::now());
        for number in 0..count {
            assert_eq!(limit.take(KEY, start), Ok(()), "{number} of {count}");
        }
        assert_eq!(limit.take(KEY, start).map_err(|wait| wait <= 2), Err(true));
        assert_eq!(limit.check(&KEY, start).map_err(drop), Err(()));
        assert_eq!(limit.take(LimitKey::Identity([2; 32]), start), Ok(()));
        let one_back = start + Duration::from_mins(1) / count;
        assert_eq!(limit.take(KEY, one_back), Ok(()));
        assert!(limit.take(KEY, one_back).is_err());
        let mut later = 0;
        while limit.take(KEY, start + Duration::from_mins(3)).is_ok() {
            later += 1;
        }
        assert_eq!(later, count);
    }
}

#[test]
fn the_stated_wait_suffices() {
    let (limit, start) = (Limit::per_minute(30), Instant::now());
    for _ in 0..100 {
        limit.record(KEY, start);
    }
    let wait = limit.check(&KEY, start).unwrap_err();
    assert!(wait <= 2, "{wait} s: what is over the limit is forgotten");
    assert_eq!(limit.check(&KEY, start + Duration::from_secs(wait.into())), Ok(()));
}

#[test]
fn what_is_taken_back_does_not_count() {
    let (limit, start) = (Limit::per_minute(30), Instant::now());
    limit.take_back(KEY, start);
    for number in 0..100 {
        assert_eq!(limit.take(KEY, start), Ok(()), "{number}");
        limit.take_back(KEY, start);
    }
    for _ in 0..30 {
        limit.take(KEY, start).unwrap();
    }
    limit.take_back(KEY, start);
    assert_eq!((limit.take(KEY, start), limit.take(KEY, start).is_err()), (Ok(()), true));
}

#[test]
fn a_peer_is_an_address_or_a_64() {
    let proxies = TrustedProxies::default();
    let peer = |text: &str| proxies.peer(text.parse().unwrap(), &HeaderMap::new());
    assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:1"));
    assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
}

#[tokio::test]
async fn thirty_two_run_and_256_wait() {
    let permits = Arc::new(ReviewPermits::default());
    let mut running = Vec::new();
    for _ in 0..32 {
        running.push(permits.take().await.unwrap());
    }
    let waiting: Vec<_> = (0..256)
        .map(|_| {
            let permits = Arc::clone(&permits);
            tokio::spawn(async move { permits.take().await.is_some() })
        })
        .collect();
    // The runtime polls some tasks at a time.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(permits.take().await.is_none(), "the 257th does not wait");
    drop(running);
    for waiting in waiting {
        assert!(waiting.await.unwrap());
    }
}
