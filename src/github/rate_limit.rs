//! GitHub's rate limits, per account: whether, and until when, requests with a credential have to wait.
//!
//! Pure: the caller passes the time. Waits are measured on the monotonic clock, so that a clock that is set neither ends nor
//! extends one; only messages contain a time of day.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use jiff::{Timestamp, Unit};

use super::{
    credential::Account,
    limit_times::{LONGEST_WAIT, Now, SHORTEST_WAIT, Times, timed, untimed},
    page_block::{PageBlocks, PageMeaning},
};
use crate::domain::Mutex;
use crate::domain::time::time_between;

/// Above this number of accounts, those that have no limit are forgotten.
const MANY: usize = 1024;

/// A limit as messages show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateLimit {
    pub(super) until: Timestamp,
    pub(super) kind: LimitKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitKind {
    /// The hourly quota is used up.
    Primary,
    /// Too many requests at once, or an overloaded server.
    Secondary,
    /// Web pages with status 403 in answer to anonymous requests for several repositories.
    Pages,
    /// Such a page for this repository alone.
    RepositoryPage,
}

/// Why GitHub's answer is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    RateLimit(RateLimit),
    /// A web page with status 403, although GitHub serves other repositories.
    PageAgain,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) headers: &'a HeaderMap,
    /// GitHub's explanation.
    pub(super) message: Option<&'a str>,
    /// Whether the request had a credential.
    pub(super) authorized: bool,
    /// When the request was sent.
    pub(super) sent: Instant,
}

#[derive(Debug, Default)]
pub(super) struct RateLimits(Mutex<HashMap<Account, AccountLimits>>);

impl RateLimits {
    /// `Err` while requests of the account for this repository have to wait.
    pub(super) fn check(&self, account: &Account, repository: &str, now: Now) -> Result<(), RateLimit> {
        self.0.lock().get(account).and_then(|limits| limits.current(repository, now)).map_or(Ok(()), Err)
    }

    /// Records an answer. `Err` if it is a limit or a blocking page.
    pub(super) fn observe(
        &self,
        account: &Account,
        repository: &str,
        answer: Answer<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        let mut all = self.0.lock();
        if all.len() >= MANY {
            all.retain(|_, limits| limits.limited(now).is_some());
        }
        all.entry(account.clone()).or_default().observe(repository, answer, now)
    }

    /// Records a limit that another process has met.
    pub(super) fn recall(&self, account: &Account, until: Timestamp, kind: LimitKind, now: Now) {
        let wait = time_between(now.wall, until);
        self.0.lock().entry(account.clone()).or_default().limit_for(wait, kind, now);
    }

    /// Records that a request sent at `sent` returned an archive.
    pub(super) fn served(&self, account: &Account, repository: &str, sent: Instant, now: Now) {
        if let Some(limits) = self.0.lock().get_mut(account) {
            limits.pages.served(repository, sent);
            limits.end_row(now);
        }
    }

    /// The smallest quota left, for each kind of credential with a known quota.
    pub(super) fn remaining(&self, now: Now) -> Vec<(&'static str, i64)> {
        let mut smallest = BTreeMap::new();
        for (account, limits) in &*self.0.lock() {
            let quota = limits.quota.filter(|(_, reset)| *reset > now.monotonic);
            if let Some(((remaining, _), kind)) = quota.zip(account.identity.kind()) {
                let least = smallest.entry(kind).or_insert(remaining);
                *least = remaining.min(*least);
            }
        }
        smallest.into_iter().collect()
    }
}

#[derive(Debug, Default)]
struct AccountLimits {
    limit: Option<(Instant, LimitKind)>,
    /// Limits without a time since the last good answer.
    strikes: u32,
    /// Limits with a time since the last good answer.
    timed: u32,
    /// What is left, and when the quota is reset.
    quota: Option<(i64, Instant)>,
    pages: PageBlocks,
}

impl AccountLimits {
    /// The limit of the whole account.
    fn limited(&self, now: Now) -> Option<RateLimit> {
        let (until, kind) = self.limit.filter(|(until, _)| *until > now.monotonic)?;
        Some(shown(until, kind, now))
    }

    fn current(&self, repository: &str, now: Now) -> Option<RateLimit> {
        let page =
            || Some(shown(self.pages.wait(repository, now.monotonic)?, LimitKind::RepositoryPage, now));
        self.limited(now).or_else(page)
    }

    fn observe(&mut self, repository: &str, answer: Answer<'_>, now: Now) -> Result<(), Rejection> {
        let times = Times::read(answer.headers, now.wall);
        let after = |wait: Duration| now.monotonic.checked_add(wait);
        if let Some((remaining, reset)) = times.quota {
            self.quota = reset.and_then(after).map(|reset| (remaining, reset));
        }
        let spent = times.spent();
        let named = match answer.status {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => times.retry_after.max(spent),
            StatusCode::SERVICE_UNAVAILABLE => times.retry_after,
            _ => None,
        };
        let was_open = self.limited(now).is_none();
        if answer.is_blocking_page(&times, named) {
            return Err(self.page(repository, answer.sent, was_open, now));
        }
        if let Some(kind) = answer.limit(&times, named.is_some()) {
            // Answers during a limit, to requests that were sent before it, count as one with it.
            let count = if named.is_some() { &mut self.timed } else { &mut self.strikes };
            *count = count.saturating_add(was_open.into());
            let wait = named.map_or_else(|| untimed(self.strikes), |named| timed(named, self.timed));
            return Err(Rejection::RateLimit(self.limit_for(wait, kind, now)));
        }
        if let Some(reset) = spent {
            self.limit_for(reset, LimitKind::Primary, now);
        } else if answer.status.is_success() {
            self.end_row(now);
        }
        Ok(())
    }

    /// Ends a row of limits after a good answer. A redirect is none: GitHub may limit the host of archives alone, to which each
    /// fetch is redirected first.
    fn end_row(&mut self, now: Now) {
        if self.limited(now).is_none() {
            (self.strikes, self.timed) = (0, 0);
        }
    }

    fn page(&mut self, repository: &str, sent: Instant, was_open: bool, now: Now) -> Rejection {
        let limit = match self.pages.observe(repository, sent, now, was_open) {
            PageMeaning::Account(wait) => self.limit_for(wait, LimitKind::Pages, now),
            PageMeaning::Repository(until) => shown(until, LimitKind::RepositoryPage, now),
            PageMeaning::Forbidden => return Rejection::PageAgain,
        };
        Rejection::RateLimit(limit)
    }

    /// Limits the account. A limit never shortens an earlier one.
    fn limit_for(&mut self, wait: Duration, kind: LimitKind, now: Now) -> RateLimit {
        let until = now.end_of(wait.clamp(SHORTEST_WAIT, LONGEST_WAIT));
        let (until, kind) = self.limit.filter(|longer| longer.0 >= until).unwrap_or((until, kind));
        self.limit = Some((until, kind));
        shown(until, kind, now)
    }
}

impl Answer<'_> {
    /// Whether this is a limit. `dated`: its end is known.
    fn limit(&self, times: &Times, dated: bool) -> Option<LimitKind> {
        let kind = if times.used_up { LimitKind::Primary } else { LimitKind::Secondary };
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(kind),
            StatusCode::FORBIDDEN if dated || times.used_up || is_about_limit(self.message) => Some(kind),
            StatusCode::SERVICE_UNAVAILABLE if dated => Some(LimitKind::Secondary),
            _ => None,
        }
    }

    /// Whether this is an anonymous 403 without GitHub's explanation. The site and the host of archives send such pages
    /// after too many requests from one address.
    fn is_blocking_page(&self, times: &Times, named: Option<Duration>) -> bool {
        self.status == StatusCode::FORBIDDEN
            && !self.authorized
            && self.message.is_none()
            && !times.used_up
            && named.is_none()
    }
}

/// A limit's end by the wall clock as it is set now. The end is on a whole second, except for the drift between both clocks.
fn shown(until: Instant, kind: LimitKind, now: Now) -> RateLimit {
    let wait = until.saturating_duration_since(now.monotonic);
    let at = now.wall.saturating_add(wait).unwrap_or(Timestamp::MAX);
    RateLimit { until: at.round(Unit::Second).unwrap_or(at), kind }
}

fn is_about_limit(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    message.contains("rate limit") || message.contains("abuse detection")
}

#[cfg(test)]
mod tests;
