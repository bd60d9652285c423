//! GitHub's rate limits. In goes every answer that GitHub gives to an account; out comes whether, and until when, that
//! account has to wait. It must not send, sleep or look at a clock: the caller brings the time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

use super::credential::Account;

/// First wait after a limit that names no time; it doubles with each one that follows.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(1);
/// A primary limit resets within the hour; the rest is room for clocks that differ. Nothing is worth waiting longer for.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(65);
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// Above this many accounts, those that have nothing to say are forgotten.
const MANY: usize = 1024;

/// An order to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) until: Timestamp,
    pub(super) secondary: bool,
}

/// The gates of all accounts.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<HashMap<Account, Gate>>);

impl Gates {
    /// `Err` while the account has to wait.
    pub(super) fn check(&self, account: &Account, now: Timestamp) -> Result<(), Limit> {
        self.lock().get(account).and_then(|gate| gate.closed_at(now)).map_or(Ok(()), Err)
    }

    /// Takes note of an answer; `Some` when the answer itself was an order to wait. `message` is GitHub's explanation.
    pub(super) fn observe(
        &self,
        account: &Account,
        (status, headers): (StatusCode, &HeaderMap),
        message: Option<&str>,
        now: Timestamp,
    ) -> Option<Limit> {
        let mut gates = self.lock();
        if gates.len() >= MANY {
            gates.retain(|_, gate| gate.closed_at(now).is_some());
        }
        gates.entry(account.clone()).or_default().observe(status, headers, message, now)
    }

    /// The smallest quota left, for each kind of credential that a quota was seen for.
    pub(super) fn remaining(&self, now: Timestamp) -> Vec<(&'static str, i64)> {
        let mut smallest = BTreeMap::new();
        for (account, gate) in &*self.lock() {
            if let Some((remaining, _)) = gate.quota.filter(|(_, reset)| *reset > now) {
                let least = smallest.entry(account.identity.kind()).or_insert(remaining);
                *least = remaining.min(*least);
            }
        }
        smallest.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Account, Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one account.
#[derive(Debug, Default)]
struct Gate {
    closed: Option<Limit>,
    /// Limits without a time, since the last good answer.
    strikes: u32,
    /// What is left, and when that ceases to hold.
    quota: Option<(i64, Timestamp)>,
}

impl Gate {
    fn closed_at(&self, now: Timestamp) -> Option<Limit> {
        self.closed.filter(|limit| limit.until > now)
    }

    fn observe(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        message: Option<&str>,
        now: Timestamp,
    ) -> Option<Limit> {
        let remaining = number(headers, "x-ratelimit-remaining");
        let reset = number(headers, "x-ratelimit-reset").and_then(|s| Timestamp::from_second(s).ok());
        if let Some(quota) = remaining.zip(reset) {
            self.quota = Some(quota);
        }
        let spent = reset.filter(|_| remaining == Some(0));
        let was_open = self.closed_at(now).is_none();

        let order = match status {
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                let told = retry_after(headers, now).max(spent);
                if told.is_none() && status == StatusCode::FORBIDDEN && !speaks_of_a_limit(message) {
                    None
                } else {
                    // Answers that were under way together are one strike, not several.
                    let wait = FIRST_WAIT * 2_i32.pow(self.strikes.min(10));
                    self.strikes += u32::from(was_open && told.is_none());
                    Some((told.unwrap_or_else(|| later(now, wait)), spent.is_none()))
                }
            }
            StatusCode::SERVICE_UNAVAILABLE => retry_after(headers, now).map(|until| (until, false)),
            _ => None,
        };
        if let Some((until, secondary)) = order {
            return Some(self.close(until, secondary, now));
        }
        if let Some(reset) = spent.filter(|reset| *reset > now) {
            self.close(reset, false, now);
        } else if was_open && (status.is_success() || status.is_redirection()) {
            self.strikes = 0;
        }
        None
    }

    /// Closes the gate, never for less long than it is closed already. Until a whole second, so that the time that people
    /// are told is the time that is meant.
    fn close(&mut self, until: Timestamp, secondary: bool, now: Timestamp) -> Limit {
        let until = whole_second_after(until.clamp(later(now, SHORTEST_WAIT), later(now, LONGEST_WAIT)));
        let limit = match self.closed_at(now) {
            Some(longer) if longer.until >= until => longer,
            _ => Limit { until, secondary },
        };
        *self.closed.insert(limit)
    }
}

/// People read this time: whole seconds, and never too early.
fn whole_second_after(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at)
}

fn speaks_of_a_limit(message: Option<&str>) -> bool {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    message.contains("rate limit") || message.contains("abuse detection")
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Seconds from now, as GitHub writes it, or a date, as a proxy may.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    if let Some(seconds) = number(headers, "retry-after") {
        return Some(later(now, SignedDuration::from_secs(seconds.max(0))));
    }
    let date = rfc2822::parse(headers.get("retry-after")?.to_str().ok()?).ok()?;
    Some(date.timestamp())
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::{super::credential::Identity, *};

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn quota(remaining: i64, reset: i64) -> Vec<(&'static str, String)> {
        vec![
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", (NOW + reset).to_string()),
        ]
    }

    fn retry(value: &str) -> Vec<(&'static str, String)> {
        vec![("retry-after", value.to_owned())]
    }

    #[test]
    fn what_an_answer_means() {
        let secondary = Some("You have exceeded a secondary rate limit.");
        let both = [quota(0, 900), retry("60")].concat();
        let limit = |seconds, secondary| Some((seconds, secondary));
        for (what, status, pairs, message, order, closed) in [
            ("plain success", 200, vec![], None, None, None),
            ("success with quota", 302, quota(9, 900), None, None, None),
            ("last of the quota", 302, quota(0, 900), None, None, Some(900)),
            ("quota of the past", 302, quota(0, -5), None, None, None),
            ("spent", 403, quota(0, 900), None, limit(900, false), Some(900)),
            ("spent, 429", 429, quota(0, 900), None, limit(900, false), Some(900)),
            ("spent, just reset", 403, quota(0, -5), None, limit(1, false), Some(1)),
            ("retry-after", 403, retry("30"), None, limit(30, true), Some(30)),
            ("zero retry-after", 429, retry("0"), None, limit(1, true), Some(1)),
            ("the longer of both", 403, both, secondary, limit(900, false), Some(900)),
            ("date", 429, retry("Fri, 15 Jan 2027 08:02:00 GMT"), None, limit(120, true), Some(120)),
            ("absurd", 429, retry("86400000"), None, limit(3900, true), Some(3900)),
            ("secondary without a time", 403, quota(9, 900), secondary, limit(60, true), Some(60)),
            ("429 without a word", 429, vec![], None, limit(60, true), Some(60)),
            ("forbidden", 403, quota(9, 900), Some("Resource protected by SAML"), None, None),
            ("forbidden without a word", 403, vec![], None, None, None),
            ("not found", 404, quota(9, 900), None, None, None),
            ("overloaded", 503, retry("20"), None, limit(20, false), Some(20)),
            ("failed", 503, vec![], None, None, None),
            ("failed oddly", 500, retry("20"), None, None, None),
        ] {
            let mut gate = Gate::default();
            let status = StatusCode::from_u16(status).unwrap();
            let seen = gate.observe(status, &headers(&pairs), message, at(0));
            assert_eq!(seen, order.map(|(s, secondary)| Limit { until: at(s), secondary }), "{what}");
            assert_eq!(gate.closed_at(at(0)).map(|l| l.until), closed.map(at), "{what}");
        }
    }

    #[test]
    fn waits_without_a_time_double_until_a_good_answer() {
        let mut gate = Gate::default();
        let busy = |gate: &mut Gate, now: i64| {
            let limit = gate.observe(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), None, at(now));
            limit.unwrap().until.as_second() - NOW - now
        };
        assert_eq!(busy(&mut gate, 0), 60);
        assert_eq!(busy(&mut gate, 60), 120);
        assert_eq!(busy(&mut gate, 180), 240);
        // Answered late: part of the same strike, as is a success that was under way.
        assert!(busy(&mut gate, 181) >= 239);
        gate.observe(StatusCode::OK, &HeaderMap::new(), None, at(182));
        assert_eq!(gate.strikes, 3);
        assert!(gate.closed_at(at(182)).is_some());
        gate.observe(StatusCode::OK, &HeaderMap::new(), None, at(9000));
        assert_eq!(busy(&mut gate, 9001), 60);
    }

    #[test]
    fn a_shorter_order_does_not_open_a_closed_gate() {
        let mut gate = Gate::default();
        gate.observe(StatusCode::FORBIDDEN, &headers(&quota(0, 900)), None, at(0));
        gate.observe(StatusCode::TOO_MANY_REQUESTS, &headers(&retry("5")), None, at(1));
        assert_eq!(gate.closed_at(at(899)).map(|l| l.until), Some(at(900)));
        assert_eq!(gate.closed_at(at(900)), None);
    }

    #[test]
    fn accounts_wait_apart_and_the_smallest_quota_is_shown() {
        let gates = Gates::default();
        let account = |n| Account { host: "api.github.com".into(), identity: Identity::Token([n; 32]) };
        let answer = |n, remaining| {
            let headers = headers(&quota(remaining, 900));
            gates.observe(&account(n), (StatusCode::OK, &headers), None, at(0));
        };
        answer(1, 40);
        answer(2, 0);
        assert_eq!(gates.check(&account(1), at(0)), Ok(()));
        assert_eq!(gates.check(&account(2), at(0)), Err(Limit { until: at(900), secondary: false }));
        assert_eq!(gates.remaining(at(0)), [("token", 0)]);
        assert_eq!(gates.remaining(at(900)), []);
    }
}
