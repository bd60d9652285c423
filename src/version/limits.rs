//! Until when GitHub asks whom to wait, so that those that wait need not find out one by one.
//!
//! In: attempts that met a limit. Out: whether another one of the same credential would meet it too. One attempt costs a
//! read of the Version, a look at the bucket and a write of the status: thousands that wait would each pay that whenever
//! the time is up and the first of them meets the next limit.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::plan::{VersionView, Work};

/// In whose name a Version fetches, as a hash: the host, and the Secret if there is one.
pub type Account = u64;

/// The limits that were met, by account.
#[derive(Debug, Default)]
pub struct Limits(Mutex<HashMap<Account, Timestamp>>);

/// In whose name `work` fetches.
pub fn account(view: &VersionView, work: &Work<'_>) -> Account {
    let mut account = DefaultHasher::new();
    work.config.repository.host().hash(&mut account);
    let secret = work.module.authenticated().then(|| (view.namespace(), work.module.secret_name()));
    secret.hash(&mut account);
    account.finish()
}

impl Limits {
    /// An attempt met a limit.
    pub fn met(&self, account: Account, until: Timestamp, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| *until > now);
        let last = all.entry(account).or_insert(until);
        *last = until.max(*last);
    }

    /// Until when the account has to wait, if it has to.
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
        let limits = Limits::default();
        limits.met(1, at(100), at(40));
        limits.met(1, at(90), at(41));
        assert_eq!((limits.until(1, at(99)), limits.until(2, at(50))), (Some(at(100)), None));
        assert_eq!(limits.until(1, at(100)), None);
        limits.met(2, at(200), at(100));
        assert_eq!(limits.0.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
