//! The sentence in which a status records GitHub's rate limit, so that a restarted operator still respects it.

use jiff::Timestamp;

use super::limit_times::LONGEST_WAIT;
use crate::domain::time::time_between;

const ASKS: &str = " asks to wait until ";

/// GitHub's request to send nothing before a known time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitNotice {
    /// Host that sent the limit.
    pub host: String,
    /// When the next request may be sent.
    pub until: Timestamp,
}

/// The sentence, with which a failure's message starts.
pub(super) fn notice(host: &str, until: Timestamp) -> String {
    format!("{host}{ASKS}{until}")
}

impl RateLimitNotice {
    /// Reads the sentence back from a message that starts with it. A time after the end of any limit does not count: the clock
    /// was ahead when it was written.
    pub fn read(message: &str) -> Option<Self> {
        let (host, rest) = message.split_once(ASKS)?;
        let until = rest.split_whitespace().next()?.parse().ok()?;
        // The clocks of two nodes may differ.
        let is_possible = time_between(Timestamp::now(), until) < 2 * LONGEST_WAIT;
        is_possible.then(|| Self { host: host.to_owned(), until })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::github::FetchError;

    #[test]
    fn a_time_that_a_wrong_clock_wrote_is_ignored() {
        for (minutes, counts) in [(-1, true), (64, true), (131, false), (9 * 60, false)] {
            let until = Timestamp::now() + SignedDuration::from_mins(minutes);
            let read = RateLimitNotice::read(&notice("github.com", until));
            assert_eq!(read.map(|notice| notice.until), counts.then_some(until), "{minutes}");
        }
        assert_eq!(RateLimitNotice::read(&notice("github.com", Timestamp::MAX)), None);
    }

    #[test]
    fn a_notice_is_read_back_from_every_message_that_has_one() {
        let until = Timestamp::from_second(1_000_000).unwrap();
        let host = || "api.github.com".to_owned();
        // As releases up to 0.1.0 wrote it.
        assert_eq!(notice(&host(), until), "api.github.com asks to wait until 1970-01-12T13:46:40Z");
        let expected = RateLimitNotice { host: host(), until };
        for error in [
            FetchError::RateLimited { host: host(), until, secondary: true },
            FetchError::RateLimited { host: host(), until, secondary: false },
            FetchError::Blocked { host: host(), until, repository: None, authenticated: true },
            FetchError::Blocked {
                host: host(),
                until,
                repository: Some("https://github.com/a/b".into()),
                authenticated: false,
            },
        ] {
            assert_eq!(RateLimitNotice::read(&error.to_string()), Some(expected.clone()), "{error}");
        }
        for other in ["", "the archive contains no file", "x asks to wait until", "x asks to wait until soon"]
        {
            assert_eq!(RateLimitNotice::read(other), None, "{other}");
        }
    }
}
