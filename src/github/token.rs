//! Installation tokens of GitHub Apps. In goes an account and a way to mint; out comes a token that is good for a while,
//! minted once however many ask at the same time. It must not know how a token is minted, nor log one.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::{credential::Account, error::FetchError};

/// A token is replaced this long before it expires: longer than any single request takes to arrive.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// Above this many accounts, those without a live token are forgotten.
const MANY: usize = 1024;

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// A token as GitHub gave it.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: SecretString,
    pub(super) expires_at: Timestamp,
}

/// The live tokens of all accounts.
pub(super) struct TokenCache {
    clock: Clock,
    slots: Mutex<HashMap<Account, Arc<Slot>>>,
}

/// One account's place. Its lock is held while minting, so that the others wait for that token and not mint their own.
#[derive(Debug, Default)]
struct Slot {
    /// Attempts that have ended.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<SecretString>,
    renew_at: Timestamp,
    /// The last attempt, if it failed: its number and outcome.
    failure: Option<(u64, FetchError)>,
}

impl TokenCache {
    pub(super) fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), slots: Mutex::default() }
    }

    /// The account's token, by `mint` when there is none or it expires soon. Whoever waited for an attempt that failed
    /// gets that failure and does not repeat it.
    pub(super) async fn get<F>(
        &self,
        account: &Account,
        mint: impl FnOnce() -> F + Send,
    ) -> Result<SecretString, FetchError>
    where
        F: Future<Output = Result<Minted, FetchError>> + Send,
    {
        let slot = self.slot(account);
        let arrived = slot.attempts.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        if let Some(token) = state.live((self.clock)()) {
            return Ok(token.clone());
        }
        if let Some((attempt, failure)) = &state.failure
            && *attempt > arrived
        {
            return Err(failure.clone());
        }
        let outcome = mint().await;
        let attempt = slot.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        match outcome {
            Ok(Minted { token, expires_at }) => {
                // A short life is still used for most of its length.
                let lifetime = expires_at.duration_since((self.clock)());
                let margin = MARGIN.min(lifetime / 4).max(SignedDuration::ZERO);
                let renew_at = expires_at.saturating_sub(margin).unwrap_or(expires_at);
                *state = State { token: Some(token.clone()), renew_at, failure: None };
                Ok(token)
            }
            Err(failure) => {
                *state = State { failure: Some((attempt, failure.clone())), ..State::default() };
                Err(failure)
            }
        }
    }

    /// Forgets `refused`, unless it has been replaced meanwhile.
    pub(super) async fn discard(&self, account: &Account, refused: &SecretString) {
        let slot = self.slot(account);
        let mut state = slot.state.lock().await;
        state.token.take_if(|held| held.expose_secret() == refused.expose_secret());
    }

    fn slot(&self, account: &Account) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MANY {
            let now = (self.clock)();
            let live = |slot: &Slot| slot.state.try_lock().is_ok_and(|state| state.live(now).is_some());
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || live(slot));
        }
        Arc::clone(slots.entry(account.clone()).or_default())
    }
}

impl State {
    fn live(&self, now: Timestamp) -> Option<&SecretString> {
        self.token.as_ref().filter(|_| now < self.renew_at)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::{super::credential::Identity, *};

    const HOUR: i64 = 3600;

    /// A cache whose clock is moved by hand, and a mint that counts.
    struct Bench {
        cache: TokenCache,
        clock: Arc<AtomicI64>,
        mints: AtomicU64,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(AtomicI64::new(0));
            let read = Arc::clone(&clock);
            let cache = TokenCache::new(move || Timestamp::from_second(read.load(Ordering::SeqCst)).unwrap());
            Self { cache, clock, mints: AtomicU64::new(0) }
        }

        async fn get(&self, account: &Account, lifetime: i64) -> Result<String, FetchError> {
            let mint = || async {
                let serial = self.mints.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                let expires_at =
                    Timestamp::from_second(self.clock.load(Ordering::SeqCst) + lifetime).unwrap();
                Ok(Minted { token: format!("t{serial}").into(), expires_at })
            };
            self.cache.get(account, mint).await.map(|t| t.expose_secret().to_owned())
        }

        async fn fail(&self, account: &Account) -> Result<SecretString, FetchError> {
            let mint = || async {
                self.mints.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Err(FetchError::CredentialRefused { status: 401, what: "test".into() })
            };
            self.cache.get(account, mint).await
        }

        fn mints(&self) -> u64 {
            self.mints.load(Ordering::SeqCst)
        }
    }

    fn account(key: u8) -> Account {
        let identity = Identity::App { app_id: 1, installation_id: 2, fingerprint: [key; 32] };
        Account { host: "api.github.com".into(), identity }
    }

    #[tokio::test]
    async fn many_at_once_mint_one() {
        let bench = Bench::new();
        let account = account(1);
        let tokens = join_all((0..50).map(|_| bench.get(&account, HOUR))).await;
        assert!(tokens.iter().all(|t| t.as_deref().is_ok_and(|t| t == "t0")));
        assert_eq!(bench.mints(), 1);
    }

    #[tokio::test]
    async fn a_token_is_renewed_shortly_before_it_expires() {
        let bench = Bench::new();
        for (now, token) in [(0, "t0"), (HOUR - 301, "t0"), (HOUR - 300, "t1"), (HOUR, "t1")] {
            bench.clock.store(now, Ordering::SeqCst);
            assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), token, "at {now}");
        }
    }

    #[tokio::test]
    async fn a_short_lived_token_is_still_shared() {
        let bench = Bench::new();
        for (now, token) in [(0, "t0"), (74, "t0"), (75, "t1")] {
            bench.clock.store(now, Ordering::SeqCst);
            assert_eq!(bench.get(&account(1), 100).await.unwrap(), token, "at {now}");
        }
    }

    #[tokio::test]
    async fn another_key_gets_another_token_and_does_not_wait() {
        let bench = Bench::new();
        let stuck = Notify::new();
        let first = account(1);
        let hang = bench.cache.get(&first, || async {
            stuck.notified().await;
            Err(FetchError::TooLarge { limit: 0 })
        });
        tokio::pin!(hang);
        assert!(futures::poll!(&mut hang).is_pending());
        assert_eq!(bench.get(&account(2), HOUR).await.unwrap(), "t0");
        stuck.notify_one();
        assert!(hang.await.is_err());
        assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), "t1");
    }

    #[tokio::test]
    async fn those_who_waited_share_a_failure_and_the_next_one_tries_again() {
        let bench = Bench::new();
        let account = account(1);
        let failures = join_all((0..50).map(|_| bench.fail(&account))).await;
        assert!(failures.iter().all(Result::is_err));
        assert_eq!(bench.mints(), 1);
        assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t1");
    }

    #[tokio::test]
    async fn an_abandoned_attempt_leaves_the_place_to_the_next() {
        let bench = Bench::new();
        let first = account(1);
        {
            let abandoned = bench.get(&first, HOUR);
            tokio::pin!(abandoned);
            assert!(futures::poll!(&mut abandoned).is_pending());
        }
        assert_eq!(bench.get(&first, HOUR).await.unwrap(), "t1");
    }

    #[tokio::test]
    async fn only_the_refused_token_is_discarded() {
        let bench = Bench::new();
        bench.get(&account(1), HOUR).await.unwrap();
        bench.cache.discard(&account(1), &"t0".into()).await;
        assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), "t1");
        bench.cache.discard(&account(1), &"t0".into()).await;
        assert_eq!(bench.get(&account(1), HOUR).await.unwrap(), "t1");
    }
}
