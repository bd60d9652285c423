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
mod tests;
