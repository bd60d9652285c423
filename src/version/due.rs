//! When a Version is due again, by its status and its UID: after a restart, after GitHub's limit, for its next verification.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::state::VersionState;
use crate::api::target::Requests;
use crate::controller::failure::{
    HOURLY, LONGEST_DELAY, Reason, SHORTEST_DELAY, TAG_MAY_APPEAR, next_attempt, stalled_pause,
};
use crate::domain::hash_of;
use crate::domain::time::time_between;
use crate::github::RateLimitNotice;

/// When a Version is retried that failed before this process became leader: after GitHub's limit, or at a phase of the usual
/// pause of its failure. So a restart causes no storm of requests.
pub(crate) fn after_restart(version: &VersionState, leading_since: Timestamp) -> Option<Timestamp> {
    if let Some(until) = rate_limited(version).filter(|until| *until > leading_since) {
        // Shortly after, spread over some seconds.
        let from = until.checked_add(Duration::from_secs(1)).unwrap_or(until);
        return Some(phase(version, SHORTEST_DELAY, from));
    }
    let reason = version.status.reason();
    if Reason::is_progress(reason) || !Reason::costs_requests(reason) {
        return None;
    }
    let period = usual_pause(version, leading_since);
    let named = next_attempt(&version.status.message);
    let is_near = |at: &Timestamp| {
        let pause = time_between(leading_since, *at);
        // With its jitter.
        !pause.is_zero() && pause <= period.mul_f64(1.2)
    };
    Some(named.filter(is_near).unwrap_or_else(|| phase(version, period, leading_since)))
}

/// The usual pause after a failure that has lasted since the time in the status.
fn usual_pause(version: &VersionState, now: Timestamp) -> Duration {
    let status = &version.status;
    let reason = status.reason().parse::<Reason>().ok();
    let condition = if status.is_stalled() { &status.stalled } else { &status.ready };
    let since = condition.as_ref().and_then(|condition| condition.since);
    let failing_for = since.map(|since| time_between(since, now)).unwrap_or_default();
    match (status.is_stalled(), reason) {
        // The restart may have raised the limit.
        (true, Some(Reason::ArchiveTooLarge) | None) => HOURLY,
        (true, Some(reason)) => stalled_pause(reason, failing_for),
        (false, Some(Reason::TagNotFound)) if failing_for >= TAG_MAY_APPEAR => HOURLY,
        // With back-off, each pause is about as long as the failure has lasted.
        (false, _) => failing_for.clamp(SHORTEST_DELAY, LONGEST_DELAY),
    }
}

/// Whether the status is older than the Version: it was restored from a backup, and the object may have been deleted since.
pub(super) fn has_older_status(version: &VersionState) -> bool {
    let status = &version.status;
    let conditions = [&status.ready, &status.reconciling, &status.stalled];
    let mut since = conditions.into_iter().flatten().filter_map(|condition| condition.since);
    let created = version.metadata.creation_timestamp.as_ref();
    created.is_some_and(|created| since.any(|since| since < created.0))
}

/// Whether a user or the Module requests an attempt now.
pub(super) fn has_new_request(version: &VersionState) -> bool {
    let requests = Requests::of(version);
    version.force_sync || requests.requested_at.is_some() || requests.module_request.is_some()
}

/// The end of the rate limit in the status.
pub(crate) fn rate_limited(version: &VersionState) -> Option<Timestamp> {
    let is_limited = version.status.reason() == Reason::RateLimited.as_str();
    is_limited.then(|| RateLimitNotice::read(&version.status.message)).flatten().map(|notice| notice.until)
}

/// How often the object of a Version is verified, if that is on. One that is not there may come back with its bucket.
pub(crate) fn verify_interval(version: &VersionState, interval: Option<Duration>) -> Option<Duration> {
    interval.map(|interval| if version.status.synced { interval } else { interval.min(LONGEST_DELAY) })
}

/// The first time after `from` that is at this object's phase of `period`. The phase depends on the UID, so that restarts neither
/// skip nor bunch verifications, and nothing has to be stored.
pub(crate) fn phase(version: &VersionState, period: Duration, from: Timestamp) -> Timestamp {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let offset = i64::try_from(hash_of(&version.metadata.uid) % period_ms.unsigned_abs()).unwrap_or(0);
    let from_ms = from.as_millisecond();
    let due = from_ms - (from_ms - offset).rem_euclid(period_ms) + period_ms;
    Timestamp::from_millisecond(due).unwrap_or(Timestamp::MAX)
}
