//! What holds a publish back before it waits for a permit: the throttle of forced syncs, GitHub's rate limits, and a Version that
//! changes again and again while it is published.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::context::Context;
use super::due::rate_limited;
use super::rate_limits::{Account, account};
use super::retry::{Attempt, ChangeKey};
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target, throttled_request};
use crate::controller::failure::{HOURLY, SHORTEST};

/// How long a publish waits that is held back.
pub(super) fn held_back(
    ctx: &Context,
    version: &VersionState,
    attempt: Option<&Attempt>,
) -> Option<Duration> {
    throttled(ctx, version).or_else(|| restarts(ctx, version)).or_else(|| limited(ctx, version, attempt))
}

/// How long a forced sync waits that is one of many in a row. Nothing is dropped.
fn throttled(ctx: &Context, version: &VersionState) -> Option<Duration> {
    let id = throttled_request(version)?;
    ctx.retries.with(version.uid(), |retry| retry.forces.admit(&id, Instant::now())).err()
}

/// How long a Version waits that has changed during each of its last publishes.
fn restarts(ctx: &Context, version: &VersionState) -> Option<Duration> {
    let pause = ctx.retries.with(version.uid(), |retry| retry.restarts.pause(Instant::now()));
    Some(pause).filter(|pause| !pause.is_zero())
}

/// How long a Version waits whose last attempt met GitHub's limit, while that limit lasts and nothing has changed. It makes
/// one attempt per hour, so that its status names the current limit.
pub(super) fn limited(ctx: &Context, version: &VersionState, attempt: Option<&Attempt>) -> Option<Duration> {
    let account = if let Some(attempt) = attempt {
        limited_account(attempt, version)?
    } else {
        let now = Timestamp::now();
        account_in_status(version, ctx.leading_since(now), now)?
    };
    let left = ctx.rate_limits.left(account, Instant::now())?;
    // As for an attempt that met the limit itself: shortly after its end, spread over some seconds.
    Some(left + Duration::from_secs(1) + SHORTEST.mul_f64(rand::random()))
}

fn limited_account(attempt: &Attempt, version: &VersionState) -> Option<Account> {
    let is_same_location = attempt.key == ChangeKey::of(version) && attempt.at.elapsed() < HOURLY;
    attempt.account.filter(|_| is_same_location)
}

/// The account of a Version that met GitHub's limit before this process became leader, and has no new request.
pub(crate) fn account_in_status(
    version: &VersionState,
    leading_since: Timestamp,
    now: Timestamp,
) -> Option<Account> {
    let leads_for = Duration::try_from(now.duration_since(leading_since)).unwrap_or_default();
    let requests = Requests::of(version);
    let is_asked = requests.requested_at.is_some() || requests.module_request.is_some() || version.force_sync;
    if leads_for >= HOURLY || is_asked || !version.is_observed() {
        return None;
    }
    rate_limited(version)?;
    Some(account(version, &Target::of(version).ok()?))
}
