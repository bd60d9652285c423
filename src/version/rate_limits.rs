//! GitHub's rate limits that attempts have met, by account. Times are those of the monotonic clock.
//!
//! An attempt costs a read of the Version, a HEAD and a status write. Thousands of waiting Versions would each pay that
//! whenever a limit ends and the first of them meets the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::client::is_older;
use crate::controller::failure::Reason;
use crate::domain::{Mutex, hash_of};
use crate::github::FetchError;

/// The account that a fetch counts for, as a hash of the host and, if there is one, the Secret.
pub(crate) type AccountKey = u64;

/// The limits, by account.
#[derive(Debug, Default)]
pub struct RateLimits {
    /// The end of each limit that an attempt of this process has met.
    met: Mutex<HashMap<AccountKey, Met>>,
    recalled: Mutex<HashMap<AccountKey, Recalled>>,
}

/// A limit that an attempt of this process has met.
#[derive(Debug)]
struct Met {
    until: Instant,
    /// The resourceVersion of the account's Secret, if there is one.
    secret: Option<String>,
}

/// A limit that a status names, from before this process became leader.
#[derive(Debug)]
struct Recalled {
    until: Timestamp,
    limit: FetchError,
    /// The resourceVersion of the Version with that status.
    version: Option<String>,
}

/// The account that a Version's fetch counts for.
pub(crate) fn account(version: &VersionState, target: &Target) -> AccountKey {
    let secret = target.config.secret().map(|name| (version.namespace(), name));
    hash_of((target.repository.host(), secret))
}

impl RateLimits {
    /// Records a limit that an attempt has met, and that lasts so long. `secret`: the resourceVersion of the account's Secret. A
    /// newer one may contain another credential, which the limit of the former one does not concern.
    pub fn met(&self, account: AccountKey, secret: Option<&str>, left: Duration, now: Instant) {
        let Some(until) = now.checked_add(left) else { return };
        let mut all = self.met.lock();
        all.retain(|_, met| met.until > now);
        let met = || Met { until, secret: secret.map(str::to_owned) };
        let last = all.entry(account).or_insert_with(met);
        if is_older(last.secret.as_deref(), secret) {
            *last = met();
        } else if last.secret.as_deref() == secret {
            last.until = until.max(last.until);
        }
    }

    /// How long the account's limit still lasts, if it has one.
    pub fn left(&self, account: AccountKey, now: Instant) -> Option<Duration> {
        let all = self.met.lock();
        let met = all.get(&account)?;
        Some(met.until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Records the limits of whole accounts that the statuses of Versions name.
    pub fn recall(&self, versions: &[Arc<VersionState>]) {
        let now = Timestamp::now();
        let is_limited = |version: &&Arc<VersionState>| {
            version.status.reason() == Reason::RateLimited.as_str() && version.is_observed()
        };
        for version in versions.iter().filter(is_limited) {
            let limit = FetchError::read_limit(&version.status.message).filter(|(until, _)| *until > now);
            let Some(((until, limit), target)) = limit.zip(Target::of(version).ok()) else { continue };
            let account = account(version, &target);
            let mut all = self.recalled.lock();
            let version = version.metadata.resource_version.clone();
            // Many statuses name the same limit: the last one that was written counts.
            let is_last = |known: &Recalled| {
                known.until < until
                    || (known.until == until && is_older(known.version.as_deref(), version.as_deref()))
            };
            if all.get(&account).is_none_or(is_last) {
                all.insert(account, Recalled { until, limit, version });
            }
        }
    }

    /// The limit of the account that a status named, while it lasts. `secret`: the resourceVersion of the account's Secret,
    /// because one that was written after the status may contain another credential.
    pub fn recalled(&self, account: AccountKey, secret: Option<&str>, now: Timestamp) -> Option<FetchError> {
        let mut all = self.recalled.lock();
        all.retain(|_, known| known.until > now);
        let known = all.get(&account)?;
        let is_replaced = is_older(known.version.as_deref(), secret);
        (!is_replaced).then(|| known.limit.clone())
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
        limits.met(1, None, seconds(60), at(40));
        limits.met(1, None, seconds(49), at(41));
        assert_eq!((limits.left(1, at(99)), limits.left(2, at(50))), (Some(seconds(1)), None));
        assert_eq!(limits.left(1, at(100)), None);
        limits.met(2, None, seconds(100), at(100));
        assert_eq!(limits.met.lock().len(), 1, "what is over is forgotten");
        limits.met(3, None, Duration::MAX, at(100));
        assert_eq!(limits.left(3, at(101)), None, "a time beyond the clock is no limit");
    }

    #[test]
    fn the_limit_of_a_replaced_credential_does_not_count_for_its_successor() {
        let start = Instant::now();
        let limits = RateLimits::default();
        let left = || limits.left(1, start).unwrap().as_secs();
        for (secret, seconds, expected) in
            [("9", 3600, 3600), ("10", 60, 60), ("10", 90, 90), ("10", 30, 90), ("9", 3600, 90)]
        {
            limits.met(1, Some(secret), Duration::from_secs(seconds), start);
            assert_eq!(left(), expected, "{seconds} s for {secret}");
        }
    }
}
