//! Failures: the reason for condition, Event and metric, the class that decides the next attempt, and the message.
//!
//! The `classify_*` files map the errors of GitHub, archives and S3. [`reasons`] has every reason with its kind and
//! help text. Pure: clock and jitter are arguments.

mod classify_archive;
mod classify_github;
mod classify_storage;
mod columns;
mod delay;
mod reasons;
mod rules;

use std::time::Duration;

use jiff::Timestamp;

pub use self::columns::{About, Kind};
pub use self::delay::{
    DAILY, HOURLY, LONGEST_DELAY, SECRET_POLL_INTERVAL, SHORTEST_DELAY, TAG_MAY_APPEAR, stalled_pause,
};
pub use self::reasons::Reason;
use crate::api::check::InvalidConfig;
use crate::api::condition::MAX_MESSAGE;
use crate::domain::text::{NEXT_ATTEMPT, cut};
use crate::domain::time::{time_between, whole_second_after};

/// Shortest pause whose end is part of the message: a shorter one is over before it is read, and not worth a write.
const SHORTEST_IN_MESSAGE: Duration = Duration::from_mins(1);

/// Who resolves a failure, and so when it is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Requires manual action. Retried after [`stalled_pause`], and on any change.
    Stalled,
    /// Transient, until a known time.
    Wait(Timestamp),
    /// As [`Class::Retry`], and not before a known time: the server may name a new time again and again.
    RetryAfter(Timestamp),
    /// Transient. Retried with back-off.
    Retry,
    /// A tag that may still appear. As [`Class::Retry`], and hourly after six hours.
    RetryTag,
}

/// The time of the next attempt, if a message ends with it.
pub fn next_attempt(message: &str) -> Option<Timestamp> {
    let (_, time) = message.rsplit_once(NEXT_ATTEMPT)?;
    time.trim_end_matches('.').parse().ok()
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub class: Class,
    /// What failed, on what, and what to do. It contains no secret.
    pub message: String,
}

impl Failure {
    /// A failure of the class that its reason has by default.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let class = match reason.kind() {
            Kind::Manual => Class::Stalled,
            Kind::Tag => Class::RetryTag,
            _ => Class::Retry,
        };
        Self { reason, class, message: message.into() }
    }

    /// Decides whether a corrupt archive requires manual action: `download` is the SHA-256 of this download, `before` that
    /// of the last corrupt one. The same bytes twice are what GitHub stores, not a transport error. After a restart only
    /// the status records that they came twice: `stalled`.
    #[must_use]
    pub fn of_download(self, download: Option<[u8; 32]>, before: Option<[u8; 32]>, stalled: bool) -> Self {
        if self.reason != Reason::ArchiveCorrupt {
            return self;
        }
        let again = if before.is_some() { download == before } else { stalled };
        let (class, next) = if download.is_some() && again {
            (
                Class::Stalled,
                "the same bytes came twice, so GitHub serves a damaged archive; report it to GitHub, or publish a new version",
            )
        } else {
            (self.class, "it is fetched again")
        };
        Self { class, message: format!("{}: {next}", self.message), ..self }
    }

    pub fn is_transient(&self) -> bool {
        self.class != Class::Stalled
    }

    /// The message, and the time of the next attempt if that is at least a minute away. The message of a rate limit
    /// contains its time already, and a failure that requires manual action is retried after that action.
    pub fn message_with_retry(&self, due: Timestamp, now: Timestamp) -> String {
        let known = match self.class {
            Class::Stalled | Class::Wait(_) => return self.message.clone(),
            Class::RetryAfter(until) => until.max(now),
            Class::Retry | Class::RetryTag => now,
        };
        if time_between(known, due) < SHORTEST_IN_MESSAGE {
            return self.message.clone();
        }
        let next = format!(" {NEXT_ATTEMPT}{}.", whole_second_after(due));
        let mut message = cut(self.message.trim_end_matches('.'), MAX_MESSAGE - next.len() - 1);
        message.push('.');
        message + &next
    }
}

impl From<InvalidConfig> for Failure {
    fn from(error: InvalidConfig) -> Self {
        Self::new(Reason::InvalidSpec, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::classify_storage::put_failed;
    use super::*;
    use crate::archive::ArchiveError;
    use crate::storage::Cause;

    /// Failures of a class, whatever their reason.
    impl Failure {
        pub(crate) fn stalled(reason: Reason, message: impl Into<String>) -> Self {
            Self { class: Class::Stalled, ..Self::new(reason, message) }
        }

        pub(crate) fn retry(reason: Reason, message: impl Into<String>) -> Self {
            Self { class: Class::Retry, ..Self::new(reason, message) }
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn a_corrupt_archive_that_comes_twice_requires_manual_action() {
        let corrupt = || Failure::from(ArchiveError::Corrupt { what: "it ends too early".into() });
        let [one, other] = [Some([1; 32]), Some([2; 32])];
        let table = [
            (None, None, false, Class::Retry),
            (one, None, false, Class::Retry),
            (one, other, false, Class::Retry),
            (None, one, false, Class::Retry),
            (one, one, false, Class::Stalled),
            // After a restart only the status records that it came twice.
            (None, None, true, Class::Retry),
            (one, None, true, Class::Stalled),
            (one, other, true, Class::Retry),
            (None, one, true, Class::Retry),
            (one, one, true, Class::Stalled),
        ];
        for (download, before, stalled, class) in table {
            let judged = corrupt().of_download(download, before, stalled);
            let case = format!("{download:?} {before:?} {stalled}");
            assert_eq!((judged.reason, judged.class), (Reason::ArchiveCorrupt, class), "{case}");
            assert_eq!(judged.message.contains("came twice"), class == Class::Stalled, "{}", judged.message);
        }
        let away = Failure::retry(Reason::GitHubUnavailable, "no answer");
        assert_eq!(away.clone().of_download(one, one, true), away);
    }

    #[test]
    fn the_time_of_a_later_automatic_attempt_is_part_of_the_message() {
        let due = |seconds| now() + Duration::from_secs(seconds);
        let retry = |message: &str| Failure::retry(Reason::StorageUnavailable, message);
        assert_eq!(retry("no answer.").message_with_retry(due(59), now()), "no answer.");
        let expected = "no answer. Next attempt at 1970-01-12T13:48:00Z.";
        for message in ["no answer", "no answer."] {
            assert_eq!(
                retry(message).message_with_retry(due(80) - Duration::from_millis(1), now()),
                expected
            );
        }
        let long = retry(&"x".repeat(MAX_MESSAGE)).message_with_retry(due(80), now());
        assert!(
            long.len() <= MAX_MESSAGE && long.ends_with("…. Next attempt at 1970-01-12T13:48:00Z."),
            "{long}"
        );
        assert_eq!(next_attempt(&long), Some("1970-01-12T13:48:00Z".parse().unwrap()));
        for other in
            ["", "no answer.", "Next attempt at noon.", "Next attempt at 1970-01-12T13:48:00Z, or so"]
        {
            assert!(next_attempt(other).is_none(), "{other}");
        }
        assert_eq!(Failure::stalled(Reason::NotAnArchive, "bad").message_with_retry(due(3600), now()), "bad");
        let retry_after = Some(Duration::from_millis(79_500));
        let slow = Cause::SlowDown { retry_after, detail: String::new() };
        let throttled = put_failed(slow).into_failure(now());
        assert!(throttled.message.ends_with("not before 1970-01-12T13:48:00Z"), "{}", throttled.message);
        assert_eq!(throttled.message_with_retry(due(90), now()), throttled.message, "once");
        let later = throttled.message_with_retry(due(300), now());
        assert!(later.ends_with("Next attempt at 1970-01-12T13:51:40Z."), "{later}");
    }
}
