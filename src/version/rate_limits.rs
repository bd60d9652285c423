//! GitHub's rate limits that attempts have met, by account. Times are those of the monotonic clock.
//!
//! An attempt costs a read of the Version, a HEAD and a status write. Thousands of waiting Versions would each pay that
//! whenever a limit ends and the first of them meets the next one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::domain::{Mutex, hash_of};

/// The account that a fetch counts for, as a hash of the host and, if there is one, the Secret.
pub(crate) type Account = u64;

/// The end of each limit, by account.
#[derive(Debug, Default)]
pub struct RateLimits(Mutex<HashMap<Account, Instant>>);

/// The account that a Version's fetch counts for.
pub(crate) fn account(version: &VersionState, target: &Target) -> Account {
    let config = &target.config;
    let secret = config.authenticated().then(|| (version.namespace(), config.secret_name()));
    hash_of((target.repository.host(), secret))
}

impl RateLimits {
    /// Records a limit that an attempt has met, and that lasts so long.
    pub fn met(&self, account: Account, left: Duration, now: Instant) {
        let Some(until) = now.checked_add(left) else { return };
        let mut all = self.0.lock();
        all.retain(|_, until| *until > now);
        let last = all.entry(account).or_insert(until);
        *last = until.max(*last);
    }

    /// How long the account's limit still lasts, if it has one.
    pub fn left(&self, account: Account, now: Instant) -> Option<Duration> {
        let all = self.0.lock();
        let until = all.get(&account)?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_limit_of_an_account_counts_until_its_time_and_for_no_other() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let seconds = Duration::from_secs;
        let limits = RateLimits::default();
        limits.met(1, seconds(60), at(40));
        limits.met(1, seconds(49), at(41));
        assert_eq!((limits.left(1, at(99)), limits.left(2, at(50))), (Some(seconds(1)), None));
        assert_eq!(limits.left(1, at(100)), None);
        limits.met(2, seconds(100), at(100));
        assert_eq!(limits.0.lock().len(), 1, "what is over is forgotten");
        limits.met(3, Duration::MAX, at(100));
        assert_eq!(limits.left(3, at(101)), None, "a time beyond the clock is no limit");
    }
}
