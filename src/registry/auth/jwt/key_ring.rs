//! The current keys of an issuer: refreshed regularly and when a token names an unknown key, one fetch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use tokio::sync::Mutex;

use super::keys::KeySet;
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::token::Header;

/// Interval of the regular refresh.
pub(super) const REFRESH: Duration = Duration::from_mins(10);
/// Time between attempts of the regular refresh while it fails.
const RETRY: Duration = Duration::from_secs(30);
/// Least time between fetches for an unknown key, in seconds.
const ON_DEMAND: u32 = 60;
/// The same while there are no keys at all.
const WITHOUT_KEYS: u32 = 5;
/// How long keys count while no refresh succeeds.
const LIFE: Duration = Duration::from_hours(1);

pub(super) type Pending = BoxFuture<'static, Result<KeySet, String>>;

/// Where keys come from. A trait, so that tests need no server.
pub trait Source: Send + Sync {
    fn fetch(&self) -> Pending;
}

pub(super) struct KeyRing {
    issuer: String,
    source: Box<dyn Source>,
    loaded: ArcSwapOption<Loaded>,
    /// Whether the last fetch failed, so that an unknown key may be a new one.
    last_failed: AtomicBool,
    /// The number of fetches that have ended.
    fetches: AtomicUsize,
    /// The last fetch that a request caused. Locked while any fetch is in flight.
    on_demand: Mutex<Option<Instant>>,
}

/// Keys, and when they were fetched.
pub(super) struct Loaded {
    pub keys: KeySet,
    at: Instant,
}

impl KeyRing {
    pub(super) fn new(issuer: String, source: Box<dyn Source>) -> Self {
        Self {
            issuer,
            source,
            loaded: ArcSwapOption::empty(),
            last_failed: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
            on_demand: Mutex::new(None),
        }
    }

    /// Refreshes the keys without end.
    pub(super) async fn keep_current(&self, refresh: Duration) {
        loop {
            let fetching = self.on_demand.lock().await;
            let succeeded = self.fetch(Instant::now()).await;
            drop(fetching);
            tokio::time::sleep(if succeeded { refresh } else { RETRY }).await;
        }
    }

    /// A key set with a key for `header`.
    pub(super) async fn keys_for(&self, header: &Header, now: Instant) -> Result<Arc<Loaded>, Denied> {
        let seen = self.fetches.load(Ordering::Acquire);
        if let Some(loaded) = self.current(now).filter(|loaded| loaded.keys.has_key_for(header)) {
            return Ok(loaded);
        }
        self.fetch_if_due(seen, now).await;
        match self.current(now) {
            Some(loaded) if loaded.keys.has_key_for(header) => Ok(loaded),
            Some(_) if !self.last_failed.load(Ordering::Acquire) => {
                Err(Denied::Unauthenticated(denied::UNKNOWN_KEY))
            }
            _ => Err(Denied::identity_provider(self.pause(now))),
        }
    }

    /// `seen`: the number of fetches before the request had to wait.
    async fn fetch_if_due(&self, seen: usize, now: Instant) {
        let mut last = self.on_demand.lock().await;
        let pause = Duration::from_secs(self.pause(now).into());
        // A request that waited for the lock has waited for a fetch, and uses its result, even if that is a failure: another
        // fetch could take longer than clients wait.
        let waited = self.fetches.load(Ordering::Acquire) != seen;
        let recently = last.is_some_and(|last| now.saturating_duration_since(last) < pause);
        if !waited && !recently {
            *last = Some(now);
            self.fetch(now).await;
        }
    }

    async fn fetch(&self, now: Instant) -> bool {
        let fetched = self.source.fetch().await.and_then(usable);
        self.last_failed.store(fetched.is_err(), Ordering::Release);
        let succeeded = fetched.is_ok();
        match fetched {
            Ok(keys) => self.loaded.store(Some(Arc::new(Loaded { keys, at: now }))),
            Err(error) => {
                tracing::warn!(issuer = self.issuer, error, "cannot fetch the keys of an identity provider");
            }
        }
        self.fetches.fetch_add(1, Ordering::Release);
        succeeded
    }

    /// Seconds between fetches for an unknown key.
    fn pause(&self, now: Instant) -> u32 {
        if self.current(now).is_some() { ON_DEMAND } else { WITHOUT_KEYS }
    }

    fn current(&self, now: Instant) -> Option<Arc<Loaded>> {
        self.loaded.load_full().filter(|loaded| now.saturating_duration_since(loaded.at) < LIFE)
    }
}

/// The set, unless it has no usable key: it would replace the good keys.
fn usable(keys: KeySet) -> Result<KeySet, String> {
    if keys.is_empty() { Err("the key set has no key that can be used".to_owned()) } else { Ok(keys) }
}
