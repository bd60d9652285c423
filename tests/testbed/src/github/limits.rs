//! GitHub's primary rate limit: so many REST requests an hour for each credential.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use crate::background::lock;

const HOUR: Duration = Duration::from_hours(1);

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Everybody without a token: all share one address here. 60 an hour.
    Anonymous,
    /// The sender of this unknown token. 60 an hour.
    Rejected(String),
    /// All tokens of an installation. 5,000 an hour.
    Installation(u64),
    /// A personal access token. 5,000 an hour.
    Personal(String),
    /// An App's own calls, by JWT. 5,000 an hour.
    App(u64),
}

impl Quota {
    fn limit(&self) -> u32 {
        if matches!(self, Self::Anonymous | Self::Rejected(_)) { 60 } else { 5_000 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Window {
    remaining: u32,
    reset: SystemTime,
    /// How long it lasts from its first request on, as long as there was none.
    lasts: Option<Duration>,
    asked_for: bool,
}

impl Window {
    /// As it is for a request at this time: the first one begins it.
    fn begun(self, now: SystemTime) -> Self {
        self.lasts.map_or(self, |lasts| Self { reset: now + lasts, lasts: None, ..self })
    }

    fn standing(self, limit: u32) -> Standing {
        let Self { remaining, reset, asked_for, .. } = self;
        Standing { limit, remaining, reset, ahead: 0, exceeded: false, asked_for }
    }
}

/// What an answer says about a quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    limit: u32,
    remaining: u32,
    reset: SystemTime,
    ahead: i64,
    /// Whether this request was one too many.
    pub(super) exceeded: bool,
    /// Whether a test has set this quota: then there is one at an Enterprise Server too.
    pub(super) asked_for: bool,
}

impl Standing {
    /// As if it were spent, for a fault.
    pub(super) fn spent(self, reset_in: Duration) -> Self {
        Self { remaining: 0, reset: SystemTime::now() + reset_in, exceeded: true, ..self }
    }

    /// By a clock that is so many seconds ahead.
    pub(super) fn by_clock(self, ahead: i64) -> Self {
        Self { ahead, ..self }
    }

    pub(super) fn write(self, headers: &mut HeaderMap) {
        let reset = self.reset.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Rounded up: a client that waits until the named second must not come too early.
        let reset = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        let reset = reset.saturating_add_signed(self.ahead);
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-used", HeaderValue::from(self.limit.saturating_sub(self.remaining)));
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
        headers.insert("x-ratelimit-resource", HeaderValue::from_static("core"));
    }
}

/// The quotas of one GitHub.
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<HashMap<Quota, Window>>);

impl Limits {
    /// Counts one request.
    pub(super) fn spend(&self, quota: &Quota) -> Standing {
        let (now, limit) = (SystemTime::now(), quota.limit());
        let mut windows = lock(&self.0);
        let full = Window { remaining: limit, reset: now + HOUR, lasts: None, asked_for: false };
        let window = windows.entry(quota.clone()).or_insert(full);
        *window = window.begun(now);
        if window.reset <= now {
            *window = Window { asked_for: window.asked_for, ..full };
        }
        let exceeded = window.remaining == 0;
        window.remaining = window.remaining.saturating_sub(1);
        Standing { exceeded, ..window.standing(limit) }
    }

    /// Counts nothing.
    pub(super) fn look(&self, quota: &Quota) -> Standing {
        let (now, limit) = (SystemTime::now(), quota.limit());
        let window = lock(&self.0).get(quota).map(|window| window.begun(now));
        let full = Window { remaining: limit, reset: now + HOUR, lasts: None, asked_for: false };
        window.filter(|window| window.reset > now).unwrap_or(full).standing(limit)
    }

    /// The time counts from the first request on: a test that is slow until then has the whole of it.
    pub(super) fn set(&self, quota: Quota, remaining: u32, reset_in: Duration) {
        let reset = SystemTime::now() + reset_in;
        let window = Window { remaining, reset, lasts: Some(reset_in), asked_for: true };
        lock(&self.0).insert(quota, window);
    }

    pub(super) fn remaining(&self, quota: &Quota) -> u32 {
        self.look(quota).remaining
    }
}
