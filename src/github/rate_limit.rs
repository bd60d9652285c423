//! GitHub's rate limits. In goes every answer that GitHub gives to an account; out comes whether, and until when, that
//! account has to wait. It must not send, sleep or look at a clock: the caller brings the time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

use super::credential::Account;
use crate::domain::time::whole_second_after;

/// First wait after a limit that names no time; it doubles with each one that follows.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// A primary limit resets within the hour; the rest is room for clocks that differ. Nothing is worth waiting longer for.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(65);
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// Above this many accounts, those that have nothing to say are forgotten.
const MANY: usize = 1024;

/// An order to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateLimit {
    pub(super) until: Timestamp,
    pub(super) kind: LimitKind,
}

/// What ordered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitKind {
    /// The hourly quota is spent.
    Primary,
    /// Too many requests at once, or a server that is overloaded.
    Secondary,
    /// A web page that forbids what was asked for without a credential.
    Page,
}

/// What GitHub answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// GitHub's explanation.
    pub(super) message: Option<&'a str>,
    /// Whether the request carried a credential.
    pub(super) authorized: bool,
}

/// The gates of all accounts.
#[derive(Debug, Default)]
pub(super) struct RateLimits(Mutex<HashMap<Account, AccountLimits>>);

impl RateLimits {
    /// `Err` while the account has to wait.
    pub(super) fn check(&self, account: &Account, now: Timestamp) -> Result<(), RateLimit> {
        self.lock().get(account).and_then(|gate| gate.closed_at(now)).map_or(Ok(()), Err)
    }

    /// Takes note of an answer; `Some` when the answer itself was an order to wait.
    pub(super) fn observe(&self, account: &Account, answer: Answer<'_>, now: Timestamp) -> Option<RateLimit> {
        let mut gates = self.lock();
        if gates.len() >= MANY {
            gates.retain(|_, gate| gate.closed_at(now).is_some());
        }
        gates.entry(account.clone()).or_default().observe(answer, now)
    }

    /// The smallest quota left, for each kind of credential that a quota was seen for.
    pub(super) fn remaining(&self, now: Timestamp) -> Vec<(&'static str, i64)> {
        let mut smallest = BTreeMap::new();
        for (account, gate) in &*self.lock() {
            let quota = gate.quota.filter(|(_, reset)| *reset > now);
            if let Some(((remaining, _), kind)) = quota.zip(account.identity.kind()) {
                let least = smallest.entry(kind).or_insert(remaining);
                *least = remaining.min(*least);
            }
        }
        smallest.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, AccountLimits>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one account.
#[derive(Debug, Default)]
struct AccountLimits {
    closed: Option<RateLimit>,
    /// Limits without a time, since the last good answer.
    strikes: u32,
    /// What is left, and when that ceases to hold.
    quota: Option<(i64, Timestamp)>,
}

impl AccountLimits {
    fn closed_at(&self, now: Timestamp) -> Option<RateLimit> {
        self.closed.filter(|limit| limit.until > now)
    }

    fn observe(&mut self, answer: Answer<'_>, now: Timestamp) -> Option<RateLimit> {
        let Answer { status, headers, .. } = answer;
        let remaining = number(headers, "x-ratelimit-remaining");
        // GitHub's times are by GitHub's clock: how far off they are counts, and is added to ours.
        let theirs = date(headers, "date").unwrap_or(now);
        let local = |at: Timestamp| later(now, at.duration_since(theirs));
        let reset = number(headers, "x-ratelimit-reset").and_then(|s| Timestamp::from_second(s).ok());
        let reset = reset.map(local);
        if let Some(quota) = remaining.zip(reset) {
            self.quota = Some(quota);
        }
        let spent = reset.filter(|reset| remaining == Some(0) && *reset > now);
        let was_open = self.closed_at(now).is_none();

        let named = match status {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                retry_after(headers, now).or_else(|| date(headers, "retry-after").map(local)).max(spent)
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                retry_after(headers, now).or_else(|| date(headers, "retry-after").map(local))
            }
            _ => None,
        };
        if let Some(kind) = answer.limit(remaining == Some(0), named.is_some()) {
            // Answers that were under way together are one strike, not several.
            let wait = FIRST_WAIT * 2_i32.pow(self.strikes.min(10));
            self.strikes += u32::from(was_open && named.is_none());
            return Some(self.close(named.unwrap_or_else(|| later(now, wait)), kind, now));
        }
        if let Some(reset) = spent {
            self.close(reset, LimitKind::Primary, now);
        } else if was_open && (status.is_success() || status.is_redirection()) {
            self.strikes = 0;
        }
        None
    }

    /// Closes the gate, never for less long than it is closed already. Until a whole second, so that the time that people
    /// are told is the time that is meant.
    fn close(&mut self, until: Timestamp, kind: LimitKind, now: Timestamp) -> RateLimit {
        let until = whole_second_after(until.clamp(later(now, SHORTEST_WAIT), later(now, LONGEST_WAIT)));
        let limit = match self.closed_at(now) {
            Some(longer) if longer.until >= until => longer,
            _ => RateLimit { until, kind },
        };
        *self.closed.insert(limit)
    }
}

impl Answer<'_> {
    /// Whether this is an order to wait, given whether the quota is spent and whether a time was named.
    fn limit(&self, spent: bool, timed: bool) -> Option<LimitKind> {
        let kind = if spent { LimitKind::Primary } else { LimitKind::Secondary };
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(kind),
            StatusCode::FORBIDDEN if timed || spent || speaks_of_a_limit(self.message) => Some(kind),
            // The site and the host of archives answer so when there is too much from one address.
            StatusCode::FORBIDDEN if !self.authorized && self.message.is_none() => Some(LimitKind::Page),
            StatusCode::SERVICE_UNAVAILABLE if timed => Some(LimitKind::Secondary),
            _ => None,
        }
    }
}

fn speaks_of_a_limit(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    message.contains("rate limit") || message.contains("abuse detection")
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Seconds from now, as GitHub writes it; a proxy may write a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    Some(later(now, SignedDuration::from_secs(number(headers, "retry-after")?.max(0))))
}

fn date(headers: &HeaderMap, name: &str) -> Option<Timestamp> {
    Some(rfc2822::parse(headers.get(name)?.to_str().ok()?).ok()?.timestamp())
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
