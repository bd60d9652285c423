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
    pub(super) kind: Kind,
}

/// What ordered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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
pub(super) struct Gates(Mutex<HashMap<Account, Gate>>);

impl Gates {
    /// `Err` while the account has to wait.
    pub(super) fn check(&self, account: &Account, now: Timestamp) -> Result<(), Limit> {
        self.lock().get(account).and_then(|gate| gate.closed_at(now)).map_or(Ok(()), Err)
    }

    /// Takes note of an answer; `Some` when the answer itself was an order to wait.
    pub(super) fn observe(&self, account: &Account, answer: Answer<'_>, now: Timestamp) -> Option<Limit> {
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

    fn observe(&mut self, answer: Answer<'_>, now: Timestamp) -> Option<Limit> {
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
            self.close(reset, Kind::Primary, now);
        } else if was_open && (status.is_success() || status.is_redirection()) {
            self.strikes = 0;
        }
        None
    }

    /// Closes the gate, never for less long than it is closed already. Until a whole second, so that the time that people
    /// are told is the time that is meant.
    fn close(&mut self, until: Timestamp, kind: Kind, now: Timestamp) -> Limit {
        let until = whole_second_after(until.clamp(later(now, SHORTEST_WAIT), later(now, LONGEST_WAIT)));
        let limit = match self.closed_at(now) {
            Some(longer) if longer.until >= until => longer,
            _ => Limit { until, kind },
        };
        *self.closed.insert(limit)
    }
}

impl Answer<'_> {
    /// Whether this is an order to wait, given whether the quota is spent and whether a time was named.
    fn limit(&self, spent: bool, timed: bool) -> Option<Kind> {
        let kind = if spent { Kind::Primary } else { Kind::Secondary };
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => Some(kind),
            StatusCode::FORBIDDEN if timed || spent || speaks_of_a_limit(self.message) => Some(kind),
            // The site and the host of archives answer so when there is too much from one address.
            StatusCode::FORBIDDEN if !self.authorized && self.message.is_none() => Some(Kind::Page),
            StatusCode::SERVICE_UNAVAILABLE if timed => Some(Kind::Secondary),
            _ => None,
        }
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

    fn answer<'a>(status: StatusCode, headers: &'a HeaderMap, message: Option<&'a str>) -> Answer<'a> {
        Answer { status, headers, message, authorized: true }
    }

    #[test]
    fn what_an_answer_means() {
        let secondary = Some("You have exceeded a secondary rate limit.");
        let both = [quota(0, 900), retry("60")].concat();
        let limit = |seconds, secondary: bool| {
            Some((seconds, if secondary { Kind::Secondary } else { Kind::Primary }))
        };
        for (what, status, pairs, message, order, closed) in [
            ("plain success", 200, vec![], None, None, None),
            ("success with quota", 302, quota(9, 900), None, None, None),
            ("last of the quota", 302, quota(0, 900), None, None, Some(900)),
            ("quota of the past", 302, quota(0, -5), None, None, None),
            ("spent", 403, quota(0, 900), None, limit(900, false), Some(900)),
            ("spent, 429", 429, quota(0, 900), None, limit(900, false), Some(900)),
            ("spent, and the reset is over", 403, quota(0, -5), None, limit(60, false), Some(60)),
            ("spent, and the reset is now", 429, quota(0, 0), None, limit(60, false), Some(60)),
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
            ("overloaded", 503, retry("20"), None, limit(20, true), Some(20)),
            ("failed", 503, vec![], None, None, None),
            ("failed oddly", 500, retry("20"), None, None, None),
        ] {
            let mut gate = Gate::default();
            let status = StatusCode::from_u16(status).unwrap();
            let seen = gate.observe(answer(status, &headers(&pairs), message), at(0));
            assert_eq!(seen, order.map(|(s, kind)| Limit { until: at(s), kind }), "{what}");
            assert_eq!(gate.closed_at(at(0)).map(|l| l.until), closed.map(at), "{what}");
        }
    }

    /// The headers of a GitHub whose clock is that many seconds ahead of ours.
    fn by_clock(ahead: i64, pairs: Vec<(&'static str, String)>) -> HeaderMap {
        let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at(ahead)).unwrap();
        headers(&[pairs, vec![("date", date)]].concat())
    }

    #[test]
    fn the_wait_is_by_the_clock_that_named_the_time() {
        let dated = retry("Fri, 15 Jan 2027 08:02:00 GMT");
        for (what, ahead, pairs, seconds) in [
            ("same clock", 0, quota(0, 900), 900),
            ("ours is ten minutes fast", -600, quota(0, -300), 300),
            ("ours is ten minutes slow", 600, quota(0, 900), 300),
            ("ours is a second fast", -1, quota(0, 20), 21),
            ("reset when it was sent", -600, quota(0, -600), 60),
            ("reset before it was sent", -600, quota(0, -601), 60),
            ("a date", -30, dated, 150),
            ("seconds need no clock", -600, retry("30"), 30),
        ] {
            let mut gate = Gate::default();
            let spent = gate.observe(answer(StatusCode::FORBIDDEN, &by_clock(ahead, pairs), None), at(0));
            assert_eq!(spent.map(|limit| limit.until), Some(at(seconds)), "{what}");
        }
        // The same where nothing is refused yet, and for what the metrics show.
        let mut gate = Gate::default();
        gate.observe(answer(StatusCode::FOUND, &by_clock(-600, quota(0, -300)), None), at(0));
        assert_eq!(gate.closed_at(at(299)).map(|limit| limit.until), Some(at(300)));
        assert_eq!(gate.quota, Some((0, at(300))));
    }

    #[test]
    fn a_fast_clock_never_probes_before_the_reset() {
        // Without a Date header the reset seems to be over all the time: 1, 2, 4 … minutes, and not each second.
        let (mut gate, mut now, mut asked) = (Gate::default(), 0, Vec::new());
        while now < 600 {
            asked.push(now);
            let spent = gate.observe(answer(StatusCode::FORBIDDEN, &headers(&quota(0, -5)), None), at(now));
            now = spent.unwrap().until.as_second() - NOW;
        }
        assert_eq!(asked, [0, 60, 180, 420]);
    }

    #[test]
    fn a_page_that_forbids_what_needs_no_credential_is_an_order_to_wait() {
        for (what, status, authorized, message, kind) in [
            ("abuse page", 403, false, None, Some(Kind::Page)),
            ("to a credential", 403, true, None, None),
            ("GitHub's explanation", 403, false, Some("Resource not accessible"), None),
            (
                "GitHub's explanation about a limit",
                403,
                false,
                Some("API rate limit exceeded"),
                Some(Kind::Secondary),
            ),
            ("429 as a page", 429, false, None, Some(Kind::Secondary)),
            ("sign in", 401, false, None, None),
            ("legal reasons", 451, false, None, None),
        ] {
            let mut gate = Gate::default();
            let status = StatusCode::from_u16(status).unwrap();
            let none = HeaderMap::new();
            let limit = gate.observe(Answer { authorized, ..answer(status, &none, message) }, at(0));
            assert_eq!(limit, kind.map(|kind| Limit { until: at(60), kind }), "{what}");
        }
    }

    #[test]
    fn waits_without_a_time_double_until_a_good_answer() {
        let mut gate = Gate::default();
        let busy = |gate: &mut Gate, now: i64| {
            let limit = gate.observe(answer(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), None), at(now));
            limit.unwrap().until.as_second() - NOW - now
        };
        assert_eq!(busy(&mut gate, 0), 60);
        assert_eq!(busy(&mut gate, 60), 120);
        assert_eq!(busy(&mut gate, 180), 240);
        // Answered late: part of the same strike, as is a success that was under way.
        assert!(busy(&mut gate, 181) >= 239);
        gate.observe(answer(StatusCode::OK, &HeaderMap::new(), None), at(182));
        assert_eq!(gate.strikes, 3);
        assert!(gate.closed_at(at(182)).is_some());
        gate.observe(answer(StatusCode::OK, &HeaderMap::new(), None), at(9000));
        assert_eq!(busy(&mut gate, 9001), 60);
    }

    #[test]
    fn a_shorter_order_does_not_open_a_closed_gate() {
        let mut gate = Gate::default();
        gate.observe(answer(StatusCode::FORBIDDEN, &headers(&quota(0, 900)), None), at(0));
        gate.observe(answer(StatusCode::TOO_MANY_REQUESTS, &headers(&retry("5")), None), at(1));
        assert_eq!(gate.closed_at(at(899)).map(|l| l.until), Some(at(900)));
        assert_eq!(gate.closed_at(at(900)), None);
    }

    #[test]
    fn accounts_wait_apart_and_the_smallest_quota_is_shown() {
        let gates = Gates::default();
        let account = |n| Account { host: "api.github.com".into(), identity: Identity::Token([n; 32]) };
        let observe = |account: &Account, remaining| {
            let headers = headers(&quota(remaining, 900));
            gates.observe(account, answer(StatusCode::OK, &headers, None), at(0));
        };
        observe(&account(1), 40);
        observe(&account(2), 0);
        assert_eq!(gates.check(&account(1), at(0)), Ok(()));
        assert_eq!(gates.check(&account(2), at(0)), Err(Limit { until: at(900), kind: Kind::Primary }));
        assert_eq!(gates.remaining(at(0)), [("token", 0)]);
        // What an App has left for asking for tokens says nothing of what its tokens have left.
        let app = |identity| Account { identity, ..account(0) };
        observe(&app(Identity::AppItself { app_id: 1, fingerprint: [1; 32] }), 3);
        assert_eq!(gates.remaining(at(0)), [("token", 0)]);
        observe(&app(Identity::App { app_id: 1, installation_id: 2, fingerprint: [1; 32] }), 7);
        assert_eq!(gates.remaining(at(0)), [("app", 7), ("token", 0)]);
        assert_eq!(gates.remaining(at(900)), []);
    }
}
