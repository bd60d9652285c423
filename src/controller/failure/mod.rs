//! The one table of failures: which reason they have, and who has to act.
//!
//! In: the errors of GitHub, archives, storage, Secrets and specs. Out: a [`Failure`] with the one CamelCase reason that
//! condition, Event and metric share, a class that says when to try again, and a message for a person. Pure: the clock
//! and the jitter come in as arguments.

mod reason;

use std::time::Duration;

use jiff::Timestamp;

pub use self::reason::Reason;
use crate::api::check::InvalidConfig;
use crate::api::condition::MAX_MESSAGE;
use crate::archive::ArchiveError;
use crate::domain::text::cut;
use crate::github::{CredentialError, FetchError};
use crate::storage::{Cause, Operation, Refused, StorageError};

/// Shortest wait before a failed attempt is repeated.
pub const SHORTEST: Duration = Duration::from_secs(5);

/// Longest wait before an attempt that failed for a passing reason is repeated.
pub const LONGEST: Duration = Duration::from_mins(10);

/// How long something that waits for a person is left alone, unless it changes.
pub const HOURLY: Duration = Duration::from_hours(1);

/// How long what its content stalls is left alone once that has lasted a day: each attempt downloads it, and a tag rarely
/// changes.
pub const DAILY: Duration = Duration::from_hours(24);

/// How often a Secret is looked at while it stalls a Version.
pub const SECRET_LOOK: Duration = Duration::from_mins(1);

/// Pauses from here on are told: the time of a shorter one has passed before anybody reads it, and is not worth a write.
const WORTH_TELLING: Duration = Duration::from_mins(1);

/// How long a missing tag is expected to appear by itself: a release event may overtake the tag.
const TAG_MAY_APPEAR: Duration = Duration::from_hours(6);

/// Who has to act, and so when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A person. Tried again after [`stalled_pause`], and on any change.
    Stalled,
    /// Nobody until a known time.
    Wait(Timestamp),
    /// Nobody, and not before a known time: as [`Class::Retry`], since who asked for that time may ask again for ever.
    RetryAfter(Timestamp),
    /// Nobody: it passes. Tried again with growing pauses.
    Retry,
    /// A tag that may still appear: as [`Class::Retry`], and hourly after six hours.
    RetryTag,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The shared word.
    pub reason: Reason,
    /// Who has to act.
    pub class: Class,
    /// What failed, on what, and what to do. No secret.
    pub message: String,
}

impl Failure {
    /// A failure that waits for a person.
    pub fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, class: Class::Stalled, message: message.into() }
    }

    /// A failure that passes.
    pub fn retry(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, class: Class::Retry, message: message.into() }
    }

    /// The same, given the SHA-256 of the download that it is about and that of the last download that was corrupt: a
    /// corrupt archive that comes a second time is what GitHub has, and no accident of its transport. After a restart only
    /// the status knows that it did: `stalled`.
    #[must_use]
    pub fn of_download(self, download: Option<[u8; 32]>, before: Option<[u8; 32]>, stalled: bool) -> Self {
        if self.reason != Reason::ArchiveCorrupt {
            return self;
        }
        let again = if before.is_some() { download == before } else { stalled };
        let (class, next) = if download.is_some() && again {
            (Class::Stalled, "the same bytes came twice; report it to GitHub, or publish a new version")
        } else {
            (self.class, "it is fetched again")
        };
        Self { class, message: format!("{}: {next}", self.message), ..self }
    }

    /// Whether it ends without a person.
    pub fn passes(&self) -> bool {
        self.class != Class::Stalled
    }

    /// What the status says, given when the next attempt is due: that time too, where it is some way off. What waits for a
    /// known time names that itself, and what waits for a person is tried again when the person has acted.
    pub fn told(&self, due: Timestamp, now: Timestamp) -> String {
        let told = match self.class {
            Class::Stalled | Class::Wait(_) => return self.message.clone(),
            Class::RetryAfter(until) => until.max(now),
            Class::Retry | Class::RetryTag => now,
        };
        if Duration::try_from(due.duration_since(told)).unwrap_or_default() < WORTH_TELLING {
            return self.message.clone();
        }
        let next = format!(" Next attempt at {}.", whole_second_after(due));
        let mut told = cut(self.message.trim_end_matches('.'), MAX_MESSAGE - next.len() - 1);
        told.push('.');
        told + &next
    }

    /// How long to wait before the next attempt, after `failures` in a row (this one counted) over `failing_for`.
    /// `jitter` is from 0 to 1 and spreads what failed together.
    pub fn delay(&self, failures: u32, failing_for: Duration, jitter: f64, now: Timestamp) -> Duration {
        // A little after the time that was named, spread so that not all who wait for it come at once.
        let after = |until: Timestamp| {
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
                + Duration::from_secs(1)
                + SHORTEST.mul_f64(jitter)
        };
        let growing = || {
            // A token is known everywhere within a minute, however often something else failed before.
            let failures = if self.reason == Reason::TokenNotReady { failures.min(3) } else { failures };
            let doubled = SHORTEST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
            doubled.min(LONGEST).mul_f64(0.75 + 0.5 * jitter).clamp(SHORTEST, LONGEST)
        };
        match self.class {
            Class::Stalled => stalled_pause(self.reason, failing_for).mul_f64(0.9 + 0.2 * jitter),
            Class::RetryTag if failing_for >= TAG_MAY_APPEAR => HOURLY.mul_f64(0.9 + 0.2 * jitter),
            Class::Wait(until) => after(until),
            Class::RetryAfter(until) => after(until).max(growing()),
            Class::Retry | Class::RetryTag => growing(),
        }
    }
}

/// How long something that waits for a person is left alone, unless it changes, when it has waited for `stalled_for`.
pub fn stalled_pause(reason: Reason, stalled_for: Duration) -> Duration {
    if reason.is_about_content() && stalled_for >= DAILY { DAILY } else { HOURLY }
}

impl From<InvalidConfig> for Failure {
    fn from(error: InvalidConfig) -> Self {
        Self::stalled(Reason::InvalidSpec, error.to_string())
    }
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self::stalled(Reason::SecretInvalid, error.to_string())
    }
}

impl From<Refused> for Failure {
    fn from(error: Refused) -> Self {
        let reason = match error {
            Refused::Storage { .. } => Reason::StorageNotAllowed,
            Refused::Endpoint(_) | Refused::BadEndpoint(_) => Reason::EndpointNotAllowed,
        };
        Self::stalled(reason, error.to_string())
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        use FetchError as E;
        let (reason, class) = match &error {
            E::HostNotAllowed { .. } => (Reason::HostNotAllowed, Class::Stalled),
            E::RepositoryNotFound { .. } => (Reason::RepositoryNotFound, Class::Stalled),
            E::TagNotFound { .. } => (Reason::TagNotFound, Class::RetryTag),
            E::CredentialRefused { .. } => (Reason::CredentialsRefused, Class::Stalled),
            E::Forbidden { .. } => (Reason::AccessForbidden, Class::Stalled),
            E::RateLimited { until, .. } | E::Blocked { until, .. } => {
                (Reason::RateLimited, Class::Wait(*until))
            }
            E::TokenNotReady { .. } => (Reason::TokenNotReady, Class::Retry),
            E::Server { .. } | E::Network { .. } => (Reason::GitHubUnavailable, Class::Retry),
            E::Unexpected { .. }
            | E::TooManyRedirects { .. }
            | E::BadRedirect { .. }
            | E::TokenRedirected { .. }
            | E::WebPage { .. } => (Reason::UnexpectedAnswer, Class::Retry),
            E::Truncated { .. } => (Reason::DownloadIncomplete, Class::Retry),
            E::TooLarge { .. } => (Reason::ArchiveTooLarge, Class::Stalled),
            E::Spool { .. } => (Reason::SpoolFailed, Class::Retry),
        };
        Self { reason, class, message: error.to_string() }
    }
}

impl StorageError {
    fn class(&self, now: Timestamp) -> (Reason, Class) {
        match &self.cause {
            Cause::BucketMissing => (Reason::BucketNotFound, Class::Retry),
            Cause::InvalidBucket | Cause::InvalidAddress(_) | Cause::WrongRegion { .. } => {
                (Reason::BucketMisconfigured, Class::Stalled)
            }
            // Who mends these does so in AWS, where no change of an object here tells of it: so they are tried again.
            Cause::AccessDenied { .. } => (Reason::StorageAccessDenied, Class::Retry),
            Cause::CredentialsMissing
            | Cause::CredentialsUnavailable { .. }
            | Cause::CredentialsInvalid { .. } => (Reason::StorageCredentialsInvalid, Class::Retry),
            Cause::Kms { .. } => (Reason::EncryptionKeyUnusable, Class::Retry),
            Cause::SlowDown { retry_after: Some(pause) } => {
                (Reason::StorageThrottled, Class::RetryAfter(now.checked_add(*pause).unwrap_or(now)))
            }
            Cause::SlowDown { retry_after: None } => (Reason::StorageThrottled, Class::Retry),
            Cause::ChecksumMismatch => (Reason::ChecksumMismatch, Class::Retry),
            Cause::EntityTooLarge => (Reason::ArchiveTooLarge, Class::Stalled),
            Cause::File { .. } => (Reason::SpoolFailed, Class::Retry),
            // No outage: the store says what it does not do. A 403 or 404 like that is no answer of S3's.
            Cause::Other { status: Some(400..=402 | 405..=408 | 410..=499 | 501), code: Some(_), .. }
                if self.operation != Operation::Head =>
            {
                (Reason::StorageRefused, Class::Stalled)
            }
            Cause::Conflict | Cause::Unavailable { .. } | Cause::Network { .. } | Cause::Other { .. } => {
                (Reason::StorageUnavailable, Class::Retry)
            }
        }
    }

    /// As a failure; `now` turns a pause that S3 asked for into a time.
    pub fn into_failure(self, now: Timestamp) -> Failure {
        let (reason, class) = self.class(now);
        let message = match class {
            Class::RetryAfter(until) => format!("{self}, not before {}", whole_second_after(until)),
            _ => self.to_string(),
        };
        Failure { reason, class, message }
    }
}

/// Times are told in whole seconds, and never too early.
fn whole_second_after(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second().saturating_add(up)).unwrap_or(at)
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let (reason, class) = archive_class(&error);
        Self { reason, class, message: error.to_string() }
    }
}

fn archive_class(error: &ArchiveError) -> (Reason, Class) {
    use ArchiveError as E;
    match error {
        E::NotAnArchive { .. } => (Reason::NotAnArchive, Class::Stalled),
        E::Corrupt { .. } => (Reason::ArchiveCorrupt, Class::Retry),
        E::Empty => (Reason::ArchiveEmpty, Class::Stalled),
        E::NoTopFolder { .. }
        | E::AbsolutePath { .. }
        | E::ParentPath { .. }
        | E::BadName { .. }
        | E::Duplicate { .. }
        | E::FileIsFolder { .. }
        | E::SpecialFile { .. }
        | E::Encrypted { .. }
        | E::UnsupportedMethod { .. }
        | E::LinkLeavesTree { .. }
        | E::TangledLinks => (Reason::ArchiveUnsafe, Class::Stalled),
        E::ArchiveTooLarge { .. }
        | E::UnpackedTooLarge { .. }
        | E::RatioTooHigh { .. }
        | E::TooManyEntries { .. }
        | E::PathsTooLong { .. } => (Reason::ArchiveTooLarge, Class::Stalled),
        E::Io { .. } => (Reason::SpoolFailed, Class::Retry),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }

    #[test]
    fn retries_grow_from_five_seconds_to_ten_minutes() {
        let failure = Failure::retry(Reason::StorageUnavailable, "");
        let pause = |n, jitter| failure.delay(n, Duration::ZERO, jitter, now());
        assert_eq!(pause(1, 0.5), SHORTEST);
        assert_eq!(pause(2, 0.5), Duration::from_secs(10));
        for n in 1..40 {
            for jitter in [0.0, 0.3, 0.999] {
                assert!((SHORTEST..=LONGEST).contains(&pause(n, jitter)), "{n}");
            }
            assert!(pause(n + 1, 0.5) >= pause(n, 0.5));
        }
        assert_eq!(pause(u32::MAX, 0.5), LONGEST);
    }

    #[test]
    fn a_new_token_is_tried_again_within_half_a_minute() {
        let error = FetchError::TokenNotReady { status: 404, what: "api.github.com finds nothing".into() };
        let failure = Failure::from(error);
        assert_eq!((failure.reason, failure.class), (Reason::TokenNotReady, Class::Retry));
        assert_eq!(failure.delay(1, Duration::ZERO, 0.0, now()), SHORTEST);
        for n in 1..40 {
            assert!(failure.delay(n, Duration::ZERO, 0.999, now()) < Duration::from_secs(30), "{n}");
        }
    }

    #[test]
    fn what_its_content_stalls_is_tried_daily_after_a_day() {
        use Reason as R;
        let content = [
            R::NotAnArchive,
            R::ArchiveCorrupt,
            R::ArchiveEmpty,
            R::ArchiveUnsafe,
            R::ArchiveTooLarge,
            R::ImmutableContentChanged,
            R::SameCommitOtherContent,
        ];
        for reason in Reason::ALL {
            let later = if content.contains(reason) { DAILY } else { HOURLY };
            for (stalled_for, pause) in [
                (Duration::ZERO, HOURLY),
                (Duration::from_mins(24 * 60 - 1), HOURLY),
                (DAILY, later),
                (DAILY * 30, later),
            ] {
                assert_eq!(stalled_pause(*reason, stalled_for), pause, "{reason} for {stalled_for:?}");
                let failure = Failure::stalled(*reason, "");
                assert_eq!(failure.delay(1, stalled_for, 0.5, now()), pause, "{reason} for {stalled_for:?}");
            }
        }
    }

    #[test]
    fn a_corrupt_archive_that_comes_twice_waits_for_a_person() {
        let corrupt = || Failure::from(ArchiveError::Corrupt { what: "it breaks off".into() });
        let [one, other] = [Some([1; 32]), Some([2; 32])];
        let table = [
            (None, None, false, Class::Retry),
            (one, None, false, Class::Retry),
            (one, other, false, Class::Retry),
            (None, one, false, Class::Retry),
            (one, one, false, Class::Stalled),
            // The status says that it came twice: that is all that is known after a restart.
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
    fn a_missing_tag_is_looked_for_hourly_after_six_hours() {
        let failure = Failure { class: Class::RetryTag, ..Failure::retry(Reason::TagNotFound, "") };
        assert!(failure.delay(50, Duration::from_mins(359), 0.5, now()) <= LONGEST);
        assert_eq!(failure.delay(50, Duration::from_hours(6), 0.5, now()), HOURLY);
    }

    #[test]
    fn a_wait_never_ends_before_its_time() {
        let until = now() + Duration::from_secs(40);
        let failure = Failure { class: Class::Wait(until), ..Failure::retry(Reason::RateLimited, "") };
        for jitter in [0.0, 0.5, 0.999] {
            let pause = failure.delay(1, Duration::ZERO, jitter, now());
            assert!(pause > Duration::from_secs(40) && pause < Duration::from_secs(50), "{pause:?}");
        }
        assert!(failure.delay(1, Duration::ZERO, 0.0, until + Duration::from_secs(9)) < SHORTEST);
    }

    fn any_timestamp() -> impl Strategy<Value = Timestamp> {
        let limits = [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH];
        let usual = (0..4_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).unwrap());
        prop_oneof![3 => usual, 1 => proptest::sample::select(limits.to_vec())]
    }

    proptest! {
        #[test]
        fn every_delay_is_within_its_bounds(
            failures in prop_oneof![0..30_u32, Just(u32::MAX)],
            failing_for in prop_oneof![0..200_000_u64, Just(u64::MAX)],
            jitter in 0.0..=1.0_f64,
            (until, now) in (any_timestamp(), any_timestamp()),
        ) {
            let failing_for = Duration::from_secs(failing_for);
            let delay = |class, failures| {
                let failure = Failure { class, ..Failure::retry(Reason::InternalError, "") };
                failure.delay(failures, failing_for, jitter, now)
            };
            let hourly = HOURLY.mul_f64(0.899)..=HOURLY.mul_f64(1.101);
            prop_assert!(hourly.contains(&delay(Class::Stalled, failures)));
            let refused = Failure::stalled(Reason::ArchiveUnsafe, "").delay(failures, failing_for, jitter, now);
            let pause = if failing_for >= DAILY { DAILY } else { HOURLY };
            prop_assert!((pause.mul_f64(0.899)..=pause.mul_f64(1.101)).contains(&refused), "{refused:?}");
            let retry = delay(Class::Retry, failures);
            prop_assert!((SHORTEST..=LONGEST).contains(&retry), "{retry:?}");
            prop_assert!(delay(Class::Retry, failures.saturating_add(1)) >= retry, "pauses grow");
            let tag = delay(Class::RetryTag, failures);
            let late = failing_for >= TAG_MAY_APPEAR;
            prop_assert!(if late { hourly.contains(&tag) } else { tag == retry }, "{tag:?}");
            let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
            let wait = delay(Class::Wait(until), failures);
            prop_assert!(wait > left && wait <= left + Duration::from_secs(1) + SHORTEST, "{wait:?} for {left:?}");
            prop_assert_eq!(delay(Class::RetryAfter(until), failures), wait.max(retry));
        }
    }

    #[test]
    fn the_next_attempt_is_told_where_it_is_some_way_off_and_nobody_has_to_act() {
        let due = |seconds| now() + Duration::from_secs(seconds);
        let retry = |message: &str| Failure::retry(Reason::StorageUnavailable, message);
        assert_eq!(retry("no answer.").told(due(59), now()), "no answer.");
        let expected = "no answer. Next attempt at 1970-01-12T13:48:00Z.";
        for message in ["no answer", "no answer."] {
            assert_eq!(retry(message).told(due(80) - Duration::from_millis(1), now()), expected);
        }
        let long = retry(&"x".repeat(MAX_MESSAGE)).told(due(80), now());
        assert!(
            long.len() <= MAX_MESSAGE && long.ends_with("…. Next attempt at 1970-01-12T13:48:00Z."),
            "{long}"
        );
        assert_eq!(Failure::stalled(Reason::NotAnArchive, "bad").told(due(3600), now()), "bad");
        let slow = Cause::SlowDown { retry_after: Some(Duration::from_millis(79_500)) };
        let throttled = put_failed(slow).into_failure(now());
        assert!(throttled.message.ends_with("not before 1970-01-12T13:48:00Z"), "{}", throttled.message);
        assert_eq!(throttled.told(due(90), now()), throttled.message, "once");
        let later = throttled.told(due(300), now());
        assert!(later.ends_with("Next attempt at 1970-01-12T13:51:40Z."), "{later}");
    }

    fn put_failed(cause: Cause) -> StorageError {
        let place = crate::domain::ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: None,
            force_path_style: None,
        };
        StorageError { operation: Operation::Put, place: Box::new(place), cause }
    }

    #[test]
    fn a_store_that_asks_for_a_second_each_time_is_asked_less_and_less() {
        let slow =
            put_failed(Cause::SlowDown { retry_after: Some(Duration::from_secs(1)) }).into_failure(now());
        let delay = |failures| slow.delay(failures, Duration::ZERO, 0.5, now());
        assert!(delay(1) >= SHORTEST && delay(3) >= SHORTEST * 4 && delay(20) >= LONGEST, "{:?}", delay(20));
        let long =
            put_failed(Cause::SlowDown { retry_after: Some(Duration::from_hours(1)) }).into_failure(now());
        assert!(long.delay(1, Duration::ZERO, 0.0, now()) > Duration::from_hours(1));
    }

    #[test]
    fn what_a_store_says_it_does_not_do_is_no_outage() {
        use Operation::{Delete, Head, Put};
        let failure = |operation, status, code: Option<&str>| {
            let cause =
                Cause::Other { status: Some(status), code: code.map(str::to_owned), detail: String::new() };
            let failure = StorageError { operation, ..put_failed(cause) }.into_failure(now());
            (failure.reason, failure.class)
        };
        for (operation, status, code) in [
            (Put, 400, "InvalidArgument"),
            (Put, 501, "NotImplemented"),
            (Put, 405, "MethodNotAllowed"),
            (Delete, 400, "InvalidRequest"),
            (Put, 402, "QuotaExceeded"),
        ] {
            assert_eq!(failure(operation, status, Some(code)), (Reason::StorageRefused, Class::Stalled));
        }
        for (operation, status, code) in [
            (Put, 400, None),
            (Put, 501, None),
            (Head, 400, None),
            (Delete, 404, Some("DefaultBackend")),
            (Delete, 403, Some("Forbidden")),
            (Put, 302, Some("Found")),
            (Put, 409, Some("Conflict")),
        ] {
            assert_eq!(
                failure(operation, status, code),
                (Reason::StorageUnavailable, Class::Retry),
                "{status}"
            );
        }
        assert!(Reason::is_about_storage("StorageRefused"));
    }

    #[test]
    fn reasons_are_camel_case_and_progress_is_no_failure() {
        for reason in Reason::ALL {
            assert!(reason.as_str().chars().all(|c| c.is_ascii_alphanumeric()));
            assert!(reason.as_str().starts_with(|c: char| c.is_ascii_uppercase()));
        }
        assert!(Reason::is_progress("Publishing") && !Reason::is_progress("TagNotFound"));
    }
}
