//! The sentence in which a status records GitHub's rate limit, so that a restarted operator still respects it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

const ASKS: &str = " asks to wait until ";

/// GitHub's request to send nothing before a known time. `Display` writes the sentence of a failure's message, and
/// `FromStr` reads it back from a message that may go on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitNotice {
    /// Host that sent the limit.
    pub host: String,
    /// When the next request may be sent.
    pub until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no notice of a rate limit")]
pub struct NotANotice;

impl fmt::Display for RateLimitNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ASKS}{}", self.host, self.until)
    }
}

impl FromStr for RateLimitNotice {
    type Err = NotANotice;

    fn from_str(message: &str) -> Result<Self, Self::Err> {
        let (host, rest) = message.split_once(ASKS).ok_or(NotANotice)?;
        let until = rest.split_whitespace().next().ok_or(NotANotice)?;
        Ok(Self { host: host.to_owned(), until: until.parse().map_err(|_| NotANotice)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::FetchError;

    #[test]
    fn a_notice_is_read_back_from_every_message_that_has_one() {
        let until = Timestamp::from_second(1_000_000).unwrap();
        let host = || "api.github.com".to_owned();
        let notice = RateLimitNotice { host: host(), until };
        // As releases up to 0.1.0 wrote it.
        assert_eq!(notice.to_string(), "api.github.com asks to wait until 1970-01-12T13:46:40Z");
        for error in [
            FetchError::RateLimited { host: host(), until, secondary: true },
            FetchError::RateLimited { host: host(), until, secondary: false },
            FetchError::Blocked { host: host(), until, repository: None },
            FetchError::Blocked { host: host(), until, repository: Some("https://github.com/a/b".into()) },
        ] {
            assert_eq!(error.to_string().parse(), Ok(notice.clone()), "{error}");
        }
        for other in ["", "the archive holds no file", "x asks to wait until", "x asks to wait until soon"] {
            assert_eq!(other.parse::<RateLimitNotice>(), Err(NotANotice), "{other}");
        }
    }
}
