//! Recent rejections of credentials by GitHub, and repositories that it has not found. Other fetches with a rejected credential
//! fail without a request: more rejected requests would use up the quota of the address, and make GitHub reject valid
//! credentials too.
//!
//! GitHub also rejects a valid personal token now and then. If one has worked, its rejections are in doubt for a minute.
//!
//! Other fetches of a repository that GitHub has not found fail without a request for some seconds: a Module with thousands of
//! versions and a wrong repository would use up the quota that it shares with others.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::credential::{Account, Identity};
use super::error::FetchError;
use crate::domain::Mutex;

/// How long a rejection is the answer to other fetches, and how long it may be in doubt.
const RECENT: Duration = Duration::from_mins(1);
/// How long it counts that a personal token has worked.
const WORKED: Duration = Duration::from_hours(1);
/// Shortest time between two requests with a token that is in doubt.
const DOUBTED: Duration = Duration::from_secs(5);
/// With this many answers, the old ones are forgotten.
const MANY: usize = 1024;

/// How long a missing repository is the answer to other fetches. This is short, because it may be created, or made accessible, at any
/// time, while a Version waits an hour after this answer.
const MISSING: Duration = Duration::from_secs(10);

/// The last answer to the credential of each account, and its time: a rejection or (`None`) an archive.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Account, (Instant, Option<FetchError>)>>);

impl Refusals {
    /// Records `error` if it is a rejection of the account's credential, or of a signature by a wrong clock. Returns the error to
    /// report.
    pub(super) fn record(&self, account: &Account, error: FetchError, now: Instant) -> FetchError {
        if !matches!(error, FetchError::CredentialRefused { .. } | FetchError::ClocksDiffer { .. }) {
            return error;
        }
        let mut all = self.0.lock();
        let is_personal = matches!(account.identity, Identity::Token(_));
        let since = match all.get(account) {
            Some((at, None)) if is_personal && is_within(WORKED, *at, now) => Some(now),
            Some((_, Some(FetchError::TokenDoubted { since, .. }))) => Some(*since),
            _ => None,
        };
        let reported = match (since.filter(|since| is_within(RECENT, *since, now)), error) {
            (Some(since), FetchError::CredentialRefused { status, what }) => {
                FetchError::TokenDoubted { status, what, since }
            }
            (_, error) => error,
        };
        all.retain(|_, (at, _)| is_within(WORKED, *at, now));
        all.insert(account.clone(), (now, Some(reported.clone())));
        reported
    }

    /// Records that GitHub accepted the account's credential. That counts later for personal tokens only.
    pub(super) fn accepted(&self, account: &Account, now: Instant) {
        let mut all = self.0.lock();
        if !matches!(account.identity, Identity::Token(_)) {
            all.remove(account);
            return;
        }
        if all.len() >= MANY {
            all.retain(|_, (at, _)| is_within(WORKED, *at, now));
        }
        all.insert(account.clone(), (now, None));
    }

    /// The recent rejection of the account, unless the caller's `last` attempt ended after it: that attempt has reported it, and
    /// the next one sends a request to GitHub. With a token that is in doubt, all callers together send one every few seconds.
    pub(super) fn recent(
        &self,
        account: &Account,
        last: Option<Instant>,
        now: Instant,
    ) -> Option<FetchError> {
        let all = self.0.lock();
        let (at, error) = all.get(account)?;
        let is_answer = match error {
            Some(FetchError::TokenDoubted { .. }) => is_within(DOUBTED, *at, now),
            _ => is_within(RECENT, *at, now) && last.is_none_or(|last| last < *at),
        };
        error.clone().filter(|_| is_answer)
    }
}

/// The repositories that GitHub has just not found for an account, and when.
#[derive(Debug, Default)]
pub(super) struct MissingRepositories(Mutex<HashMap<(Account, String), (Instant, FetchError)>>);

impl MissingRepositories {
    /// Records the end of a fetch.
    pub(super) fn record(&self, account: &Account, repository: &str, end: Option<&FetchError>, now: Instant) {
        let key = (account.clone(), repository.to_owned());
        let mut all = self.0.lock();
        match end {
            Some(error @ FetchError::RepositoryNotFound { .. }) => {
                all.retain(|_, (at, _)| is_within(MISSING, *at, now));
                all.insert(key, (now, error.clone()));
            }
            None | Some(FetchError::TagNotFound { .. }) => {
                all.remove(&key);
            }
            Some(_) => {}
        }
    }

    /// The recent answer, unless the caller's `last` attempt ended after it.
    pub(super) fn recent(
        &self,
        account: &Account,
        repository: &str,
        last: Option<Instant>,
        now: Instant,
    ) -> Option<FetchError> {
        let all = self.0.lock();
        let (at, error) = all.get(&(account.clone(), repository.to_owned()))?;
        let is_answer = is_within(MISSING, *at, now) && last.is_none_or(|last| last < *at);
        is_answer.then(|| error.clone())
    }
}

fn is_within(duration: Duration, at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < duration
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(host: &str) -> Account {
        Account { host: host.into(), identity: Identity::Token([1; 32]) }
    }

    fn refused(what: &str) -> FetchError {
        FetchError::CredentialRefused { status: 401, what: what.into() }
    }

    #[test]
    fn a_rejection_answers_each_caller_once_and_for_a_minute() {
        let (refusals, start, own) = (Refusals::default(), Instant::now(), account("a"));
        let at = |second| start + Duration::from_secs(second);
        let recent = |last: Option<u64>, now| {
            refusals.recent(&own, last.map(at), at(now)).map(|error| error.to_string())
        };
        assert_eq!(recent(None, 0), None);
        refusals.record(&own, refused("one"), at(10));
        for (last, now, is_answer) in [
            (None, 10, true),
            (Some(9), 69, true),
            (Some(9), 70, false),
            (None, 70, false),
            (Some(10), 11, false),
            (Some(11), 12, false),
        ] {
            assert_eq!(recent(last, now).is_some(), is_answer, "{last:?} at {now}");
        }
        refusals.record(&own, refused("two"), at(20));
        assert!(recent(Some(11), 21).is_some_and(|text| text.contains("two")));
        assert!(refusals.recent(&account("b"), None, at(21)).is_none());
        refusals.accepted(&own, at(21));
        assert_eq!(recent(None, 21), None);
    }

    #[test]
    fn rejections_of_a_personal_token_that_has_worked_are_in_doubt_for_a_minute() {
        let (refusals, start, own) = (Refusals::default(), Instant::now(), account("a"));
        let at = |second| start + Duration::from_secs(second);
        let is_doubted = |account: &Account, now| {
            let error = refusals.record(account, refused("why"), at(now));
            matches!(error, FetchError::TokenDoubted { status: 401, .. })
        };
        assert!(!is_doubted(&own, 0), "it has not worked");
        refusals.accepted(&own, at(10));
        for (now, expected) in [(3_609, true), (3_668, true), (3_669, false), (3_670, false)] {
            assert_eq!(is_doubted(&own, now), expected, "at {now}");
        }
        // Until another request shows more, all get the same answer, however often.
        refusals.accepted(&own, at(4_000));
        assert!(is_doubted(&own, 4_001) && is_doubted(&own, 4_010));
        for (last, now, is_answer) in [
            (None, 4_014, true),
            (Some(4_012), 4_014, true),
            (None, 4_015, false),
            (Some(4_012), 4_015, false),
        ] {
            assert_eq!(
                refusals.recent(&own, last.map(at), at(now)).is_some(),
                is_answer,
                "{last:?} at {now}"
            );
        }
        refusals.accepted(&own, at(5_000));
        assert!(!is_doubted(&own, 5_000 + 3_600), "it worked too long ago");
        let fingerprint = [1; 32];
        let app = Account {
            host: "a".into(),
            identity: Identity::App { app_id: 1, installation_id: 2, fingerprint },
        };
        refusals.accepted(&app, at(6_000));
        assert!(!is_doubted(&app, 6_001));
        refusals.accepted(&app, at(6_002));
        assert!(!refusals.0.lock().contains_key(&app));
    }

    #[test]
    fn a_missing_repository_answers_each_caller_once_for_ten_seconds_and_until_it_is_found() {
        let (missing, start, own) = (MissingRepositories::default(), Instant::now(), account("a"));
        let at = |second| start + Duration::from_secs(second);
        let not_found =
            || FetchError::RepositoryNotFound { repository: "acme/net".into(), authenticated: true };
        let recent = |last: Option<u64>, now| missing.recent(&own, "net", last.map(at), at(now)).is_some();
        missing.record(&own, "net", Some(&not_found()), at(10));
        for (last, now, expected) in
            [(None, 10, true), (Some(9), 19, true), (None, 20, false), (Some(10), 11, false)]
        {
            assert_eq!(recent(last, now), expected, "{last:?} at {now}");
        }
        assert!(missing.recent(&account("b"), "net", None, at(11)).is_none());
        assert!(missing.recent(&own, "other", None, at(11)).is_none());
        let no_tag = FetchError::TagNotFound { repository: "acme/net".into(), tried: Vec::new() };
        for (end, expected) in
            [(Some(FetchError::TooLarge { limit: 1 }), true), (Some(no_tag), false), (None, false)]
        {
            missing.record(&own, "net", Some(&not_found()), at(10));
            missing.record(&own, "net", end.as_ref(), at(11));
            assert_eq!(recent(None, 12), expected, "{end:?}");
        }
        for number in 0..30 {
            missing.record(&account(&number.to_string()), "net", Some(&not_found()), at(number));
        }
        assert_eq!(missing.0.lock().len(), 10);
    }

    #[test]
    fn other_errors_and_old_rejections_are_not_kept() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let error = refusals.record(&account("a"), FetchError::TooLarge { limit: 1 }, start);
        assert!(matches!(error, FetchError::TooLarge { .. }) && refusals.0.lock().is_empty());
        for number in 0..300_u64 {
            refusals.record(&account(&number.to_string()), refused(""), start + Duration::from_mins(number));
        }
        assert_eq!(refusals.0.lock().len(), 60);
        let refusals = Refusals::default();
        for number in 0..5_000_u64 {
            refusals.accepted(&account(&number.to_string()), start + Duration::from_mins(number));
        }
        assert!(refusals.0.lock().len() <= MANY, "tokens that were replaced are forgotten");
    }
}
