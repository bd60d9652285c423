//! Times of GitHub's rate limits: those in an answer's headers, and the waits for limits in a row and for those without a time.

use std::str::FromStr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::{
    Timestamp,
    fmt::{rfc2822, strtime},
    tz::TimeZone,
};

use crate::domain::time::{doubled, whole_second_after};

/// First wait after a limit without a time. It doubles with each further limit.
const FIRST_WAIT: Duration = Duration::from_mins(1);
/// Longer waits are cut to this: a primary limit resets within the hour, and clocks may differ by minutes.
pub(super) const LONGEST_WAIT: Duration = Duration::from_mins(65);
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// This many limits in a row are waited for exactly as named.
const RESPECTED: u32 = 2;
/// The minimum wait after the first further limit. It doubles with each one.
const FIRST_LEAST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_LEAST_WAIT: Duration = Duration::from_mins(10);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: Timestamp,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { monotonic: Instant::now(), wall: Timestamp::now() }
    }

    /// The end of a wait, on a whole second of the wall clock: messages show whole seconds, and never a time before the end.
    pub(super) fn end_of(self, wait: Duration) -> Instant {
        let wall = self.wall.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let up = whole_second_after(wall).duration_since(wall);
        self.monotonic + wait + up.unsigned_abs()
    }
}

/// The times and quotas of an answer's headers, as waits from now.
#[derive(Debug)]
pub(super) struct Times {
    /// What is left, and in how long it is reset; `None` if the reset is over.
    pub(super) quota: Option<(i64, Option<Duration>)>,
    pub(super) used_up: bool,
    pub(super) retry_after: Option<Duration>,
}

impl Times {
    pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Self {
        // GitHub's times are by GitHub's clock, which the Date header shows.
        let theirs = server_time(headers).unwrap_or(now);
        let wait = |at: Timestamp| at.duration_since(theirs);
        let remaining = number(headers, "x-ratelimit-remaining");
        let reset = number(headers, "x-ratelimit-reset").and_then(|s| Timestamp::from_second(s).ok());
        let reset = reset.map(|at| Duration::try_from(wait(at)).ok().filter(|wait| !wait.is_zero()));
        // GitHub writes seconds; a proxy may write a date.
        let seconds = number(headers, "retry-after");
        let seconds = seconds.map(|s: i64| Duration::from_secs(s.try_into().unwrap_or(0)));
        let fraction = || Duration::try_from_secs_f64(number(headers, "retry-after")?).ok();
        let dated = || Some(Duration::try_from(wait(date(headers, "retry-after")?)).unwrap_or_default());
        Self {
            quota: remaining.zip(reset),
            used_up: remaining == Some(0),
            retry_after: seconds.or_else(fraction).or_else(dated),
        }
    }

    /// The wait for the reset of a quota that is used up.
    pub(super) fn spent(&self) -> Option<Duration> {
        self.quota.filter(|_| self.used_up).and_then(|(_, reset)| reset)
    }
}

/// The wait for the last of `strikes` limits without a time.
pub(super) fn untimed(strikes: u32) -> Duration {
    doubled(FIRST_WAIT, strikes, LONGEST_WAIT)
}

/// The wait for the last of `count` limits in a row that named a time. A server that names one second each time would otherwise
/// receive a request each second.
pub(super) fn timed(named: Duration, count: u32) -> Duration {
    match count.saturating_sub(RESPECTED) {
        0 => named,
        further => named.max(doubled(FIRST_LEAST_WAIT, further, LONGEST_LEAST_WAIT)),
    }
}

fn number<N: FromStr>(headers: &HeaderMap, name: &str) -> Option<N> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The server's clock.
pub(super) fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    date(headers, "date")
}

/// A date in one of the three forms that a recipient must accept (RFC 9110).
fn date(headers: &HeaderMap, name: &str) -> Option<Timestamp> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    if let Ok(date) = rfc2822::parse(text) {
        return Some(date.timestamp());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let date = obsolete.iter().find_map(|format| strtime::parse(format, text).ok()?.to_datetime().ok())?;
    TimeZone::UTC.to_timestamp(date).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::RETRY_AFTER};

    use super::*;

    #[test]
    fn a_wait_is_read_in_every_form() {
        let now = Timestamp::from_second(784_111_777 - 90).unwrap();
        for (value, seconds) in [
            ("90", Some(90.0)),
            (" 90 ", Some(90.0)),
            ("0.5", Some(0.5)),
            ("-1", Some(0.0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90.0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(90.0)),
            ("Sun Nov  6 08:49:37 1994", Some(90.0)),
            ("Sun Nov  6 08:48:00 1994", Some(0.0)),
            ("-0.5", None),
            ("inf", None),
            ("nan", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            let wait = Times::read(&headers, now).retry_after;
            assert_eq!(wait, seconds.map(Duration::from_secs_f64), "{value:?}");
        }
    }
}
