//! Credentials that are renewed early, or after a rejection.
//!
//! The SDK's own cache renews them seconds before they expire, and a signed URL expires with them. With a longer time there, it
//! would call the provider for each request while that still returns the old ones, as the metadata service of an instance does
//! until five minutes before the end. It also keeps credentials that the store rejects, such as keys that were replaced, and a
//! session that was revoked.
//!
//! The wall clock may be wrong by hours and then be corrected. It only decides how long credentials last; pauses are those of the
//! monotonic clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::Mutex;

/// Credentials are renewed when they last for less than this.
const LEFT: Duration = Duration::from_mins(10);
/// Credentials that last for less than this are not used while new ones are being loaded.
const LEAST: Duration = Duration::from_mins(1);
/// Pause after an attempt that returned no credentials with a later end, or some that the store rejects.
const PAUSE: Duration = Duration::from_secs(30);
/// Credentials without an end are loaded again after this time, as by the SDK.
const WITHOUT_END: Duration = Duration::from_mins(15);
/// How long the source may take, as in the SDK.
const LOAD_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// A provider that loads credentials from another one before they end. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct CredentialsCache {
    /// Where the credentials come from.
    pub(super) source: SharedCredentialsProvider,
    loaded: Arc<ArcSwapOption<Loaded>>,
    /// Held by the request that loads. The error of the last load, if it failed: requests that waited for it fail with it too.
    /// One load may take half the time of a request, so a second one would look like a store that does not answer.
    loading: Arc<Mutex<Option<Arc<CredentialsError>>>>,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    monotonic: Instant,
    wall: SystemTime,
}

impl Now {
    fn read() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}

#[derive(Clone, Debug)]
struct Loaded {
    credentials: Credentials,
    at: Instant,
    renew_at: Instant,
}

impl Loaded {
    fn new(credentials: Credentials, now: Now) -> Self {
        let left = |end: SystemTime| end.duration_since(now.wall).unwrap_or_default();
        let pause = credentials.expiry().map_or(WITHOUT_END, |end| left(end).saturating_sub(LEFT).max(PAUSE));
        Self { credentials, at: now.monotonic, renew_at: now.monotonic + pause }
    }

    /// Whether they need not be renewed yet. Their end is compared again: the clock may have been behind when they were loaded.
    fn is_fresh(&self, now: Now) -> bool {
        now.monotonic < self.renew_at && (now.monotonic < self.at + PAUSE || self.lasts(LEFT, now.wall))
    }

    fn lasts(&self, time: Duration, now: SystemTime) -> bool {
        self.credentials.expiry().is_none_or(|end| now + time < end)
    }
}

impl CredentialsCache {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self { source, loaded: Arc::default(), loading: Arc::default() }
    }

    /// Lets the next request load credentials again, since the store may reject these. At most twice a minute.
    pub(super) fn renew(&self, now: Instant) {
        let Some(loaded) = self.loaded.load_full() else { return };
        if loaded.at + PAUSE <= now {
            self.loaded.store(Some(Arc::new(Loaded { renew_at: now, ..(*loaded).clone() })));
        }
    }

    async fn credentials(&self, now: Now) -> Result<Credentials, CredentialsError> {
        if let Some(credentials) = self.loaded_if(|loaded| loaded.is_fresh(now)) {
            return Ok(credentials);
        }
        let old = self.loaded_if(|loaded| loaded.lasts(LEAST, now.wall));
        let (mut failure, has_waited) = match (self.loading.try_lock(), &old) {
            (Ok(failure), _) => (failure, false),
            (Err(_), Some(old)) => return Ok(old.clone()),
            (Err(_), None) => (self.loading.lock().await, true),
        };
        // Another request may have loaded them meanwhile.
        if let Some(credentials) = self.loaded_if(|loaded| loaded.is_fresh(now)) {
            return Ok(credentials);
        }
        if has_waited && let Some(error) = &*failure {
            return Err(shared(error));
        }
        // If this request is cancelled, the next one loads.
        *failure = None;
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, self.source.provide_credentials()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)));
        let loaded = loaded.or_else(|error| old.ok_or(error));
        let credentials = loaded.map_err(|error| shared(failure.insert(Arc::new(error))))?;
        self.loaded.store(Some(Arc::new(Loaded::new(credentials.clone(), now))));
        Ok(credentials)
    }

    fn loaded_if(&self, usable: impl FnOnce(&Loaded) -> bool) -> Option<Credentials> {
        let loaded = self.loaded.load();
        loaded.as_ref().filter(|loaded| usable(loaded)).map(|loaded| loaded.credentials.clone())
    }
}

/// An error of several requests. Its sources still show what it is.
fn shared(error: &Arc<CredentialsError>) -> CredentialsError {
    CredentialsError::provider_error(Arc::clone(error))
}

impl ProvideCredentials for CredentialsCache {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials(Now::read()))
    }
}

#[cfg(test)]
pub(super) mod tests;
