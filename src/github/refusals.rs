//! Credentials that GitHub has just rejected. Other fetches with the same credential fail without a request: more rejected
//! requests would use up the quota of the address, and make GitHub reject valid credentials too.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{credential::Account, error::FetchError};
use crate::domain::Mutex;

/// How long a rejection is the answer to other fetches.
const RECENT: Duration = Duration::from_mins(1);

/// The last rejection of each account, and its time.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Account, (Instant, FetchError)>>);

impl Refusals {
    /// Records `error` if it is a rejection of the account's credential.
    pub(super) fn record(&self, account: &Account, error: &FetchError, now: Instant) {
        if matches!(error, FetchError::CredentialRefused { .. }) {
            let mut all = self.0.lock();
            all.retain(|_, (at, _)| is_recent(*at, now));
            all.insert(account.clone(), (now, error.clone()));
        }
    }

    /// Records that GitHub accepted the account's credential.
    pub(super) fn accepted(&self, account: &Account) {
        self.0.lock().remove(account);
    }

    /// The recent rejection of the account, unless the caller's `last` attempt ended after it: that attempt has reported it, and
    /// the next one sends a request to GitHub.
    pub(super) fn recent(
        &self,
        account: &Account,
        last: Option<Instant>,
        now: Instant,
    ) -> Option<FetchError> {
        let all = self.0.lock();
        let (at, error) = all.get(account)?;
        let is_reported = last.is_some_and(|last| last >= *at);
        (is_recent(*at, now) && !is_reported).then(|| error.clone())
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < RECENT
}

#[cfg(test)]
mod tests {
    use super::super::credential::Identity;
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
        refusals.record(&own, &refused("one"), at(10));
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
        refusals.record(&own, &refused("two"), at(20));
        assert!(recent(Some(11), 21).is_some_and(|text| text.contains("two")));
        assert!(refusals.recent(&account("b"), None, at(21)).is_none());
        refusals.accepted(&own);
        assert_eq!(recent(None, 21), None);
    }

    #[test]
    fn other_errors_and_old_rejections_are_not_kept() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        refusals.record(&account("a"), &FetchError::TooLarge { limit: 1 }, start);
        assert!(refusals.0.lock().is_empty());
        for number in 0..300_u64 {
            refusals.record(&account(&number.to_string()), &refused(""), start + Duration::from_secs(number));
        }
        assert_eq!(refusals.0.lock().len(), 60);
    }
}
