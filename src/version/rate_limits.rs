//! GitHub's rate limits that attempts have met, by account.
//!
//! An attempt costs a read of the Version, a HEAD and a status write. Thousands of waiting Versions would each pay that
//! whenever a limit ends and the first of them meets the next one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::api::state::VersionState;
use crate::api::target::Target;

/// The account that a fetch counts for, as a hash of the host and, if there is one, the Secret.
pub type Account = u64;

/// The end of each limit, by account.
#[derive(Debug, Default)]
pub struct RateLimits(Mutex<HashMap<Account, Timestamp>>);

/// The account that a Version's fetch counts for.
pub fn account(version: &VersionState, target: &Target) -> Account {
    let mut account = DefaultHasher::new();
    target.repository.host().hash(&mut account);
    let config = &target.config;
    let secret = config.authenticated().then(|| (version.namespace(), config.secret_name()));
    secret.hash(&mut account);
    account.finish()
}

impl RateLimits {
    /// Records a limit that an attempt has met.
    pub fn met(&self, account: Account, until: Timestamp, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| *until > now);
        let last = all.entry(account).or_insert(until);
        *last = until.max(*last);
    }

    /// The end of the account's limit, if it has one.
    pub fn until(&self, account: Account, now: Timestamp) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&account).copied().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_limit_of_an_account_counts_until_its_time_and_for_no_other() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let limits = RateLimits::default();
        limits.met(1, at(100), at(40));
        limits.met(1, at(90), at(41));
        assert_eq!((limits.until(1, at(99)), limits.until(2, at(50))), (Some(at(100)), None));
        assert_eq!(limits.until(1, at(100)), None);
        limits.met(2, at(200), at(100));
        assert_eq!(limits.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
