//! The reasons to delay a publish: the throttle of forced syncs, GitHub's rate limits, and a Version that changes again and again
//! while it is published.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::context::Context;
use super::due::{has_new_request, rate_limited};
use super::memory::{Attempt, ChangeKey};
use super::rate_limits::{AccountKey, account};
use crate::api::state::VersionState;
use crate::api::target::{Target, throttled_request};
use crate::controller::failure::{HOURLY, SHORTEST_DELAY};
use crate::domain::time::time_between;
use crate::github::{Credential, FetchError};

/// How long a publish has to wait before it may wait for a permit, GitHub's limits apart.
pub(super) fn publish_delay(ctx: &Context, version: &VersionState) -> Option<Duration> {
    let (now, force) = (Instant::now(), throttled_request(version));
    let pause = ctx.memories.with(version.uid(), |memory| {
        // A forced sync that is one of many in a row waits, and is not dropped.
        let throttled = force.and_then(|id| memory.forces.admit(&id, now).err());
        throttled.unwrap_or_else(|| memory.interruptions.pause(now))
    });
    Some(pause).filter(|pause| !pause.is_zero())
}

/// How long a Version waits whose last attempt met GitHub's limit, while the limit lasts and the Version has not changed. It
/// makes one attempt per hour, so that its status contains the current limit.
pub(super) fn limited(ctx: &Context, version: &VersionState, attempt: Option<&Attempt>) -> Option<Duration> {
    let account = if let Some(attempt) = attempt {
        let is_same = |_: &AccountKey| attempt.at.elapsed() < HOURLY && attempt.key == ChangeKey::of(version);
        attempt.account.filter(is_same)?
    } else {
        let now = Timestamp::now();
        account_in_status(version, ctx.leading_since(now), now)?
    };
    let left = ctx.rate_limits.left(account, Instant::now())?;
    // As for an attempt that met the limit itself: shortly after its end, spread over some seconds.
    Some(left + Duration::from_secs(1) + SHORTEST_DELAY.mul_f64(rand::random()))
}

/// The limit of a Version's account that a status named. It is applied to the credential, which other Secrets may contain too.
/// `secret`: the resourceVersion of the credential's Secret.
pub(super) fn recalled(
    ctx: &Context,
    version: &VersionState,
    target: &Target,
    credential: &Credential,
    secret: Option<&str>,
) -> Option<FetchError> {
    let limit = ctx.rate_limits.recalled(account(version, target), secret, Timestamp::now())?;
    if let FetchError::RateLimited { until, secondary, .. } = limit {
        ctx.github.limit(&target.repository, credential, until, secondary);
    }
    Some(limit)
}

/// The account of a Version that met GitHub's limit before this process became leader, and has no new request.
pub(crate) fn account_in_status(
    version: &VersionState,
    leading_since: Timestamp,
    now: Timestamp,
) -> Option<AccountKey> {
    rate_limited(version)?;
    if time_between(leading_since, now) >= HOURLY || has_new_request(version) || !version.is_observed() {
        return None;
    }
    Some(account(version, &Target::of(version).ok()?))
}
