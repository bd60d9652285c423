//! Credentials that are renewed early, or after a rejection.
//!
//! The SDK's own cache renews them seconds before they expire, and a signed URL expires with them. With a longer time there, it
//! would call the provider for each request while that still returns the old ones, as the metadata service of an instance does
//! until five minutes before the end. It also keeps credentials that the store rejects, such as keys that were replaced, and a
//! session that was revoked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
pub(super) struct Lasting {
    /// Where the credentials come from.
    pub(super) source: SharedCredentialsProvider,
    loaded: Arc<ArcSwapOption<Loaded>>,
    /// Held by the request that loads.
    loading: Arc<Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Loaded {
    credentials: Credentials,
    at: SystemTime,
    renew_at: SystemTime,
}

impl Loaded {
    /// The credentials if they last for this long.
    fn lasting(&self, time: Duration, now: SystemTime) -> Option<Credentials> {
        let lasts = self.credentials.expiry().is_none_or(|end| now + time < end);
        lasts.then(|| self.credentials.clone())
    }
}

impl Lasting {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self { source, loaded: Arc::default(), loading: Arc::default() }
    }

    /// Lets the next request load credentials again, since the store may reject these. At most twice a minute.
    pub(super) fn renew(&self, now: SystemTime) {
        let Some(loaded) = self.loaded.load_full() else { return };
        if loaded.at + PAUSE <= now {
            self.loaded.store(Some(Arc::new(Loaded { renew_at: now, ..(*loaded).clone() })));
        }
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials, CredentialsError> {
        if let Some(credentials) = self.fresh(now) {
            return Ok(credentials);
        }
        let old = self.loaded.load().as_ref().and_then(|loaded| loaded.lasting(LEAST, now));
        let _loading = match (self.loading.try_lock(), &old) {
            (Ok(loading), _) => loading,
            (Err(_), Some(old)) => return Ok(old.clone()),
            (Err(_), None) => self.loading.lock().await,
        };
        // Another request may have loaded them meanwhile.
        if let Some(credentials) = self.fresh(now) {
            return Ok(credentials);
        }
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, self.source.provide_credentials()).await;
        let loaded = loaded.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(LOAD_TIMEOUT)));
        let credentials = loaded.or_else(|error| old.ok_or(error))?;
        let renew_at = credentials.expiry().map_or(now + WITHOUT_END, |end| (end - LEFT).max(now + PAUSE));
        let loaded = Loaded { credentials: credentials.clone(), at: now, renew_at };
        self.loaded.store(Some(Arc::new(loaded)));
        Ok(credentials)
    }

    fn fresh(&self, now: SystemTime) -> Option<Credentials> {
        let loaded = self.loaded.load();
        loaded.as_ref().filter(|loaded| now < loaded.renew_at).map(|loaded| loaded.credentials.clone())
    }
}

impl ProvideCredentials for Lasting {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

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
        let (source, start) = (Source::default(), SystemTime::now());
        source.ending(start + minutes(60));
        let lasting = Lasting::new(SharedCredentialsProvider::new(source.clone()));
        for now in [0, 20, 49] {
            lasting.credentials(start + minutes(now)).await.unwrap();
        }
        assert_eq!(source.asked(), 1);
        source.ending(start + minutes(110));
        let new = lasting.credentials(start + minutes(50)).await.unwrap();
        assert_eq!((source.asked(), new.expiry()), (2, Some(start + minutes(110))));
        lasting.credentials(start + minutes(99)).await.unwrap();
        assert_eq!(source.asked(), 2);
    }

    #[tokio::test]
    async fn a_source_that_has_no_better_ones_yet_is_asked_twice_a_minute() {
        let (source, start) = (Source::default(), SystemTime::now());
        source.ending(start + minutes(8));
        let lasting = Lasting::new(SharedCredentialsProvider::new(source.clone()));
        for second in 0..60 {
            lasting.credentials(start + Duration::from_secs(second)).await.unwrap();
        }
        assert_eq!(source.asked(), 2);
    }

    #[tokio::test]
    async fn credentials_that_the_store_rejects_are_loaded_again_twice_a_minute() {
        let (source, start) = (Source::default(), SystemTime::now());
        source.ending(start + minutes(600));
        let lasting = Lasting::new(SharedCredentialsProvider::new(source.clone()));
        lasting.renew(start);
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            lasting.credentials(now).await.unwrap();
            lasting.clone().renew(now);
        }
        assert_eq!(source.asked(), 2, "the second one after 30 s");
        // Old ones may still be accepted elsewhere.
        source.fails.store(true, Ordering::Relaxed);
        lasting.renew(start + minutes(2));
        lasting.credentials(start + minutes(2)).await.unwrap();
        assert_eq!(source.asked(), 3);
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_not_awaited_for_long() {
        #[derive(Debug)]
        struct Hanging;

        impl ProvideCredentials for Hanging {
            fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
            where
                Self: 'a,
            {
                future::ProvideCredentials::new(std::future::pending())
            }
        }

        let lasting = Lasting::new(SharedCredentialsProvider::new(Hanging));
        let error = lasting.credentials(SystemTime::now()).await.unwrap_err();
        assert!(matches!(error, CredentialsError::ProviderTimedOut(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_source_that_fails_is_no_error_while_the_old_ones_last() {
        let (source, start) = (Source::default(), SystemTime::now());
        source.ending(start + minutes(60));
        let lasting = Lasting::new(SharedCredentialsProvider::new(source.clone()));
        lasting.credentials(start).await.unwrap();
        source.fails.store(true, Ordering::Relaxed);
        lasting.credentials(start + minutes(51)).await.unwrap();
        lasting.credentials(start + minutes(51)).await.unwrap();
        assert_eq!(source.asked(), 2);
        assert!(lasting.credentials(start + minutes(59)).await.is_err());
    }
}
