//! Cache of installation tokens of GitHub Apps, and the meaning of a rejected token.
//!
//! Fetches that need a token at the same time share one request for it. Times are those of the monotonic clock.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

use super::{credential::Account, error::FetchError};
use crate::domain::Mutex;

/// A token is renewed this long before it expires: longer than any request takes to arrive.
const MARGIN: Duration = Duration::from_mins(5);
/// GitHub's replicas may need this long to accept a new token; earlier rejections do not count.
const NEW: Duration = Duration::from_mins(1);
/// A token that has worked and is then rejected for this long has been revoked, however new it is.
const ENDED: Duration = Duration::from_secs(10);
/// Shortest time between two replacements of rejected tokens. A token that never worked is not replaced before this age
/// either: a new one would be rejected too.
const REPLACED: Duration = Duration::from_mins(10);
/// Shortest time between two requests that check whether an App has received the permission to read contents.
const ASKED: Duration = Duration::from_secs(10);
/// Above this number of accounts, those without a live token are forgotten.
const MANY: usize = 1024;

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// A token that GitHub has just created.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: SecretString,
    pub(super) lifetime: Duration,
    /// Whether the App is known to have no permission to read contents. Public repositories need none.
    pub(super) lacks_contents: bool,
}

/// A token in use, shared by all fetches of its account.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: SecretString,
    lacks_contents: bool,
    minted_at: Instant,
    renew_at: Instant,
    seen: Mutex<Seen>,
}

/// GitHub's answers to a token so far.
#[derive(Debug, Default)]
struct Seen {
    /// The repositories that it worked for.
    works_for: HashSet<String>,
    /// Start of an uninterrupted series of 401s.
    refused_since: Option<Instant>,
    /// Whether a 403 has counted.
    was_forbidden: bool,
}

/// Meaning of a rejected installation token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenRejection {
    /// The token is too new for its rejection to count: retry with the same one.
    TooNew,
    /// The token was revoked: a new one may work.
    Replace,
    /// The rejection counts.
    Counts,
}

#[derive(Debug, Clone, Copy)]
struct RejectedToken {
    status: u16,
    age: Duration,
    /// Whether it was ever accepted.
    worked: bool,
    /// How long the series of 401s has lasted.
    failing_for: Duration,
    /// How long ago the account's last refused token was replaced.
    replaced: Option<Duration>,
}

impl RejectedToken {
    fn means(self) -> TokenRejection {
        let ended = self.worked && (!is_new(self.age) || self.failing_for >= ENDED);
        let may_replace = self.replaced.is_none_or(|ago| ago >= REPLACED);
        if self.status == 401 && may_replace && (ended || self.age >= REPLACED) {
            return TokenRejection::Replace;
        }
        if is_new(self.age) { TokenRejection::TooNew } else { TokenRejection::Counts }
    }
}

fn is_new(age: Duration) -> bool {
    age < NEW
}

pub(super) struct TokenCache {
    clock: Clock,
    tokens: Mutex<HashMap<Account, Arc<AccountToken>>>,
}

/// One account's token. The lock is held during the request for a token, so that other fetches wait for its outcome.
#[derive(Debug, Default)]
struct AccountToken {
    /// Number of attempts that have ended.
    attempts: AtomicU64,
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    grant: Option<Arc<Grant>>,
    /// When a rejected token was last replaced.
    replaced_at: Option<Instant>,
    /// When this process last checked whether the App has received the permission to read contents.
    asked_at: Option<Instant>,
    /// The last attempt, if it failed: its number and error.
    failure: Option<(u64, FetchError)>,
}

impl TokenCache {
    pub(super) fn new(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), tokens: Mutex::default() }
    }

    /// Returns the account's token, from `mint` if there is none or it expires soon. A caller that waited for an attempt
    /// that failed gets the same error and does not repeat the attempt.
    ///
    /// If the App lacks the permission to read contents and GitHub has denied access, the token is replaced as soon as the App
    /// has that permission.
    pub(super) async fn get<F>(
        &self,
        account: &Account,
        mint: impl FnOnce() -> F + Send,
    ) -> Result<Arc<Grant>, FetchError>
    where
        F: Future<Output = Result<Minted, FetchError>> + Send,
    {
        let token = self.account_token(account);
        let arrived = token.attempts.load(Ordering::Acquire);
        let mut state = token.state.lock().await;
        let now = (self.clock)();
        if let Some(grant) = state.live(now).cloned() {
            if !state.may_ask_again(&grant, now) {
                return Ok(grant);
            }
            state.asked_at = Some(now);
            // If nothing has changed, the old token is kept: a rejection of a new one would not count at first.
            let better = mint().await.ok().filter(|minted| !minted.lacks_contents);
            let grant = better.map_or(grant, |minted| Arc::new(Grant::new(minted, (self.clock)())));
            state.grant = Some(Arc::clone(&grant));
            return Ok(grant);
        }
        if let Some((attempt, failure)) = &state.failure
            && *attempt > arrived
        {
            return Err(failure.clone());
        }
        let outcome = mint().await.map(|minted| Arc::new(Grant::new(minted, (self.clock)())));
        let attempt = token.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        state.grant = outcome.as_ref().ok().cloned();
        state.failure = outcome.as_ref().err().map(|failure| (attempt, failure.clone()));
        outcome
    }

    pub(super) fn is_new(&self, grant: &Grant) -> bool {
        is_new(grant.age((self.clock)()))
    }

    /// Returns the meaning of a 401 or 403 for `refused`, and forgets a token that is to be replaced.
    pub(super) async fn refused(&self, account: &Account, refused: &Grant, status: u16) -> TokenRejection {
        let token = self.account_token(account);
        let mut state = token.state.lock().await;
        let now = (self.clock)();
        let held = state.grant.as_ref().is_some_and(|held| held.is(refused));
        if !held && status == 401 {
            // Another fetch has replaced it.
            return TokenRejection::Replace;
        }
        let (worked, failing_for) = refused.was_refused(status, now);
        let replaced = state.replaced_at.map(|at| now.saturating_duration_since(at));
        let meaning = RejectedToken { status, age: refused.age(now), worked, failing_for, replaced }.means();
        if meaning == TokenRejection::Replace && held {
            state.grant = None;
            state.replaced_at = Some(now);
        }
        if meaning == TokenRejection::Counts && status == 403 {
            refused.seen.lock().was_forbidden = true;
        }
        meaning
    }

    fn account_token(&self, account: &Account) -> Arc<AccountToken> {
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MANY {
            let now = (self.clock)();
            let live =
                |token: &AccountToken| token.state.try_lock().is_ok_and(|state| state.live(now).is_some());
            tokens.retain(|_, token| Arc::strong_count(token) > 1 || live(token));
        }
        Arc::clone(tokens.entry(account.clone()).or_default())
    }
}

impl State {
    fn live(&self, now: Instant) -> Option<&Arc<Grant>> {
        self.grant.as_ref().filter(|grant| now < grant.renew_at)
    }

    /// Whether the App may have got a permission that the token lacks.
    fn may_ask_again(&self, grant: &Grant, now: Instant) -> bool {
        let asked_long_ago = self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASKED);
        grant.lacks_contents && grant.seen.lock().was_forbidden && asked_long_ago
    }
}

impl Grant {
    fn new(Minted { token, lifetime, lacks_contents }: Minted, now: Instant) -> Self {
        // A token that is valid for a short time only is still used for most of it.
        let margin = MARGIN.min(lifetime / 4);
        let renew_at = now.checked_add(lifetime.saturating_sub(margin)).unwrap_or(now);
        Self { token, lacks_contents, minted_at: now, renew_at, seen: Mutex::default() }
    }

    /// Records that GitHub accepted the token for a repository.
    pub(super) fn worked_for(&self, repository: &str) {
        let mut seen = self.seen.lock();
        seen.refused_since = None;
        if !seen.works_for.contains(repository) {
            seen.works_for.insert(repository.to_owned());
        }
    }

    /// Whether GitHub has accepted the token for a repository.
    pub(super) fn works_for(&self, repository: &str) -> bool {
        self.seen.lock().works_for.contains(repository)
    }

    /// Records a rejection. Returns whether the token ever worked, and how long the series of 401s has lasted.
    fn was_refused(&self, status: u16, now: Instant) -> (bool, Duration) {
        let mut seen = self.seen.lock();
        let worked = !seen.works_for.is_empty();
        if status != 401 {
            return (worked, Duration::ZERO);
        }
        let since = *seen.refused_since.get_or_insert(now);
        (worked, now.saturating_duration_since(since))
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.minted_at)
    }

    fn is(&self, other: &Self) -> bool {
        self.token.expose_secret() == other.token.expose_secret()
    }
}

#[cfg(test)]
mod tests;
