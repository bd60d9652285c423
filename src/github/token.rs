//! Installation tokens of GitHub Apps. In goes an account and a way to mint; out comes a token that is good for a while,
//! minted once however many ask at the same time, and what a refusal of it means. It must not know how a token is minted,
//! nor log one.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::{credential::Account, error::FetchError};

/// A token is replaced this long before it expires: longer than any single request takes to arrive.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// So long GitHub may take until all of it knows a new token; what is refused before then says nothing.
const NEW: SignedDuration = SignedDuration::from_mins(1);
/// One that has worked and is then refused for so long has ended before its time, however new it is.
const ENDED: SignedDuration = SignedDuration::from_secs(10);
/// A refused token is replaced at most this often. One that never worked is not replaced before this age either: a new
/// one would fare no better.
const REPLACED: SignedDuration = SignedDuration::from_mins(10);
/// Above this many accounts, those without a live token are forgotten.
const MANY: usize = 1024;

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// A token as GitHub gave it.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: SecretString,
    pub(super) expires_at: Timestamp,
}

/// A token in use, shared by all who ask for it.
pub(super) struct Grant {
    pub(super) token: SecretString,
    minted_at: Timestamp,
    seen: Mutex<Seen>,
}

/// What became of a token so far.
#[derive(Default)]
struct Seen {
    /// The repositories that it worked for.
    works_for: HashSet<String>,
    /// Since when it is answered 401, and nothing else.
    refused_since: Option<Timestamp>,
}

/// What it means that GitHub refuses an installation token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nothing yet: the token is too new. The same one is tried again.
    TooNew,
    /// The token has ended before its time: another may work.
    Replace,
    /// What it says.
    Counts,
}

/// A token that was refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    status: u16,
    age: SignedDuration,
    /// Whether it was ever accepted.
    worked: bool,
    /// For how long it has been answered 401 alone.
    failing_for: SignedDuration,
    /// How long ago the account's last refused token was replaced.
    replaced: Option<SignedDuration>,
}

impl Refused {
    fn means(self) -> Refusal {
        let ended = self.worked && (!is_new(self.age) || self.failing_for >= ENDED);
        let may_replace = self.replaced.is_none_or(|ago| ago >= REPLACED);
        if self.status == 401 && may_replace && (ended || self.age >= REPLACED) {
            return Refusal::Replace;
        }
        if is_new(self.age) { Refusal::TooNew } else { Refusal::Counts }
    }
}

/// A clock that was put back makes no token new again.
fn is_new(age: SignedDuration) -> bool {
    !age.is_negative() && age < NEW
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
    grant: Option<Arc<Grant>>,
    renew_at: Timestamp,
    /// When a refused token was last replaced.
    replaced_at: Option<Timestamp>,
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
    ) -> Result<Arc<Grant>, FetchError>
    where
        F: Future<Output = Result<Minted, FetchError>> + Send,
    {
        let slot = self.slot(account);
        let arrived = slot.attempts.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        if let Some(grant) = state.live((self.clock)()) {
            return Ok(Arc::clone(grant));
        }
        if let Some((attempt, failure)) = &state.failure
            && *attempt > arrived
        {
            return Err(failure.clone());
        }
        let outcome = mint().await;
        let attempt = slot.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        let replaced_at = state.replaced_at;
        match outcome {
            Ok(Minted { token, expires_at }) => {
                // A short life is still used for most of its length.
                let now = (self.clock)();
                let margin = MARGIN.min(expires_at.duration_since(now) / 4).max(SignedDuration::ZERO);
                let renew_at = expires_at.saturating_sub(margin).unwrap_or(expires_at);
                let grant = Arc::new(Grant { token, minted_at: now, seen: Mutex::default() });
                *state = State { grant: Some(Arc::clone(&grant)), renew_at, replaced_at, failure: None };
                Ok(grant)
            }
            Err(failure) => {
                let failed = Some((attempt, failure.clone()));
                *state = State { failure: failed, replaced_at, ..State::default() };
                Err(failure)
            }
        }
    }

    /// Whether a refusal of this token says nothing yet.
    pub(super) fn is_new(&self, grant: &Grant) -> bool {
        is_new(grant.age((self.clock)()))
    }

    /// What it means that GitHub answered 401 or 403 to `refused`. One that is to be replaced is forgotten, unless that
    /// has happened meanwhile.
    pub(super) async fn refused(&self, account: &Account, refused: &Grant, status: u16) -> Refusal {
        let slot = self.slot(account);
        let mut state = slot.state.lock().await;
        let now = (self.clock)();
        let held = state.grant.as_ref().is_some_and(|held| held.is(refused));
        if !held && status == 401 {
            // It has been replaced already.
            return Refusal::Replace;
        }
        let (worked, failing_for) = refused.was_refused(status, now);
        let replaced = state.replaced_at.map(|at| now.duration_since(at));
        let meaning = Refused { status, age: refused.age(now), worked, failing_for, replaced }.means();
        if meaning == Refusal::Replace && held {
            state.grant = None;
            state.replaced_at = Some(now);
        }
        meaning
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
    fn live(&self, now: Timestamp) -> Option<&Arc<Grant>> {
        self.grant.as_ref().filter(|_| now < self.renew_at)
    }
}

impl Grant {
    /// Notes that GitHub accepted it for a repository.
    pub(super) fn worked_for(&self, repository: &str) {
        let mut seen = self.seen();
        seen.refused_since = None;
        if !seen.works_for.contains(repository) {
            seen.works_for.insert(repository.to_owned());
        }
    }

    /// Whether GitHub has accepted it for a repository.
    pub(super) fn works_for(&self, repository: &str) -> bool {
        self.seen().works_for.contains(repository)
    }

    /// Notes a refusal, and gives whether it ever worked, and for how long it has been answered 401.
    fn was_refused(&self, status: u16, now: Timestamp) -> (bool, SignedDuration) {
        let mut seen = self.seen();
        let worked = !seen.works_for.is_empty();
        if status != 401 {
            return (worked, SignedDuration::ZERO);
        }
        let since = *seen.refused_since.get_or_insert(now);
        (worked, now.duration_since(since))
    }

    fn age(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.minted_at)
    }

    fn is(&self, other: &Self) -> bool {
        self.token.expose_secret() == other.token.expose_secret()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("minted_at", &self.minted_at).finish_non_exhaustive()
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
            self.cache.get(account, mint).await.map(|grant| grant.token.expose_secret().to_owned())
        }

        /// The token in use, which is there.
        async fn held(&self, account: &Account) -> Arc<Grant> {
            let none = || async { Err(FetchError::TooLarge { limit: 0 }) };
            self.cache.get(account, none).await.unwrap()
        }

        async fn fail(&self, account: &Account) -> Result<Arc<Grant>, FetchError> {
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

    #[test]
    fn what_a_refusal_means() {
        use Refusal::{Counts, Replace, TooNew};
        for (what, status, age, worked, failing_for, replaced, meaning) in [
            ("just minted", 401, 0, false, 0, None, TooNew),
            ("just minted, forbidden", 403, 1, false, 0, None, TooNew),
            ("just minted, not found", 404, 5, false, 0, None, TooNew),
            ("it worked elsewhere", 401, 30, true, 9, None, TooNew),
            ("it worked elsewhere, forbidden", 403, 59, true, 0, None, TooNew),
            ("a replacement is as new", 401, 59, true, 59, Some(59), TooNew),
            ("refused for long and never accepted", 401, 59, false, 59, None, TooNew),
            ("the minute is over", 401, 60, false, 60, None, Counts),
            ("the minute is over, forbidden", 403, 60, true, 0, None, Counts),
            ("the minute is over, not found", 404, 60, true, 0, None, Counts),
            ("revoked within the minute", 401, 20, true, 10, None, Replace),
            ("revoked later", 401, 60, true, 0, None, Replace),
            ("revoked again at once", 401, 60, true, 30, Some(60), Counts),
            ("revoked again later", 401, 600, true, 0, Some(600), Replace),
            ("never worked", 401, 599, false, 599, None, Counts),
            ("never worked, and is old", 401, 600, false, 600, None, Replace),
            ("old and forbidden", 403, 3000, true, 0, None, Counts),
            ("minted in the future", 401, -1, false, 0, None, Counts),
        ] {
            let seconds = SignedDuration::from_secs;
            let (age, failing_for) = (seconds(age), seconds(failing_for));
            let replaced = replaced.map(seconds);
            assert_eq!(Refused { status, age, worked, failing_for, replaced }.means(), meaning, "{what}");
        }
    }

    #[tokio::test]
    async fn a_token_that_some_know_and_some_do_not_is_kept() {
        let bench = Bench::new();
        let account = account(1);
        bench.get(&account, HOUR).await.unwrap();
        let grant = bench.held(&account).await;
        for now in (0..60).step_by(8) {
            bench.clock.store(now, Ordering::SeqCst);
            assert_eq!(bench.cache.refused(&account, &grant, 401).await, Refusal::TooNew, "at {now}");
            grant.worked_for("acme/net");
        }
        assert_eq!(bench.mints(), 1);
    }

    #[tokio::test]
    async fn a_new_token_that_is_refused_is_kept_by_all_who_share_it() {
        let bench = Bench::new();
        let account = account(1);
        bench.get(&account, HOUR).await.unwrap();
        let grant = bench.held(&account).await;
        for (now, status, meaning) in
            [(0, 401, Refusal::TooNew), (59, 403, Refusal::TooNew), (60, 401, Refusal::Counts)]
        {
            bench.clock.store(now, Ordering::SeqCst);
            assert_eq!(bench.cache.is_new(&grant), now < 60);
            for _ in 0..20 {
                assert_eq!(bench.cache.refused(&account, &grant, status).await, meaning, "at {now}");
                assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t0");
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_worked_is_replaced_once_for_all_who_are_refused() {
        let bench = Bench::new();
        let account = account(1);
        bench.get(&account, HOUR).await.unwrap();
        let first = bench.held(&account).await;
        first.worked_for("acme/net");
        assert!(first.works_for("acme/net") && !first.works_for("acme/other"));
        bench.clock.store(100, Ordering::SeqCst);
        for _ in 0..20 {
            assert_eq!(bench.cache.refused(&account, &first, 401).await, Refusal::Replace);
            assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t1", "only the refused one is forgotten");
        }
        // The next is not replaced as soon as it counts: for one repository it works, for the other it never will.
        let second = bench.held(&account).await;
        second.worked_for("acme/net");
        bench.clock.store(200, Ordering::SeqCst);
        assert_eq!(bench.cache.refused(&account, &second, 401).await, Refusal::Counts);
        assert_eq!(bench.mints(), 2);
        bench.clock.store(700, Ordering::SeqCst);
        assert_eq!(bench.cache.refused(&account, &second, 401).await, Refusal::Replace);
        assert_eq!(bench.get(&account, HOUR).await.unwrap(), "t2");
    }
}
