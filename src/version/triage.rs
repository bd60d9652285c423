//! Whether there is work for a Version, decided from what the watch keeps of it: no request is made for the many that rest.
//!
//! In: the lean Version, what is remembered of its last attempt, and the time. Out: a lane, a time to wait for, or nothing
//! to do. Pure: no client and no clock.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::limits::Account;
use crate::api::requests::PendingForce;
use crate::api::state::VersionState;
use crate::api::version::TYPE_MODULE;
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::failure::{HOURLY, Reason, SECRET_POLL_INTERVAL, stalled_pause};
use crate::github::RateLimitNotice;

/// What is remembered, in memory only, of a Version whose last attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// How many failed in a row.
    pub failures: u32,
    /// Why the last one did.
    pub reason: Reason,
    /// Since when they fail for that reason.
    pub since: Timestamp,
    /// When it was made.
    pub at: Instant,
    /// When the pause after it ends.
    pub ends: Instant,
    /// The same as the clock shows it now: it may have been set since.
    pub due: Timestamp,
    /// What the attempt saw; anything else is a change, which is not made to wait.
    pub seen: Seen,
    /// The Secret that it failed on: its name and resourceVersion (none if it was missing).
    pub secret: Option<(String, Option<String>)>,
    /// SHA-256 of the last download that was corrupt.
    pub download: Option<[u8; 32]>,
    /// In whose name it fetched, where GitHub asks that account to wait.
    pub account: Option<Account>,
}

/// The times that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The clock.
    pub now: Timestamp,
    /// When this process began to lead: what it remembers of failures and verifications begins there.
    pub leading_since: Timestamp,
    /// When this process last saw the object in the bucket.
    pub verified: Option<Timestamp>,
}

/// What a user (or the Module) can change to ask for another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    generation: Option<i64>,
    requested_at: Option<String>,
    module_request: Option<String>,
}

/// What the lean Version tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Triage {
    /// Not this operator's business.
    Ignore,
    /// Nothing to do before that time (`None`: before a change).
    Settled(Option<Timestamp>),
    /// A failed attempt waits for its time.
    Waiting(Timestamp),
    /// Little work: the finalizer, suspension, deletion, a look at the object.
    Light,
    /// Work that will probably fetch.
    Publish,
}

impl Seen {
    /// As the watch shows it.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            generation: metadata.generation,
            requested_at: annotation(metadata, REQUESTED_AT).map(str::to_owned),
            module_request: annotation(metadata, MODULE_REQUEST).map(str::to_owned),
        }
    }

    /// The same, after a write of our own that made a new generation without changing what is wanted.
    #[must_use]
    pub fn at_generation(self, generation: Option<i64>) -> Self {
        Self { generation, ..self }
    }
}

/// Whether there is work, decided without any request.
pub fn triage(
    version: &VersionState,
    remembered: Option<&Attempt>,
    verify_interval: Option<Duration>,
    times: Times,
) -> Triage {
    let now = times.now;
    let belongs_to_others = version.controller().is_some() || version.is_original();
    if version.type_ != TYPE_MODULE || (!version.has_finalizer() && belongs_to_others) {
        return Triage::Ignore;
    }
    if let Some(attempt) = remembered.filter(|a| a.due > now && a.seen == Seen::of(&version.metadata)) {
        // A deletion is a change too: it makes a new generation.
        return Triage::Waiting(attempt.due);
    }
    if version.terminating() {
        return if version.has_finalizer() { Triage::Light } else { Triage::Ignore };
    }
    if !version.has_finalizer() {
        return Triage::Light;
    }
    let status = &version.status;
    let observed =
        status.observed_generation.is_some() && status.observed_generation == version.metadata.generation;
    if version.suspend || version.module_suspended {
        let said = observed && status.reason == Reason::Suspended.as_str();
        return if said { Triage::Settled(None) } else { Triage::Light };
    }
    let asked = asked(version);
    // After a restart nothing is remembered: what waited for GitHub's reset still does, unless somebody asks again.
    if remembered.is_none()
        && observed
        && !asked
        && let Some(until) = rate_limited(version).filter(|until| *until > now)
    {
        return Triage::Waiting(until);
    }
    if asked || status.pending_force.is_some() {
        return Triage::Publish;
    }
    if !status.synced || status.ready != Some(true) {
        // After a restart nothing is remembered: what waited for a person still does, spread over its usual pause.
        if remembered.is_none() && observed && status.stalled {
            return restart_pause(version, times);
        }
        return Triage::Publish;
    }
    let other_content = version.expected_digest.is_some() && version.expected_digest != status.content_digest;
    if !observed || status.extra_objects || other_content {
        return Triage::Publish;
    }
    match verify_interval
        .map(|interval| next_verification(version, interval, times.verified.unwrap_or(times.leading_since)))
    {
        Some(due) if due <= now => Triage::Light,
        due => Triage::Settled(due),
    }
}

/// Versions of one repository share a lane to the slots.
pub fn lane(version: &VersionState) -> String {
    version.repository.to_ascii_lowercase()
}

/// What names the forced sync that stands, if one does: the same one is counted once.
pub fn forced(version: &VersionState) -> Option<String> {
    let status = &version.status;
    let of_module = version.annotation(MODULE_REQUEST);
    if of_module.is_some() && of_module != status.last_module_request.as_deref() {
        // The Module has counted its request, which is not held back by what was asked of one Version before.
        return None;
    }
    let generation = version.metadata.generation.unwrap_or_default();
    let pending = PendingForce::parse(status.pending_force.as_deref());
    if version.force_sync && !pending.is_some_and(|pending| pending.handles(generation)) {
        return Some(format!("forceSync/{generation}"));
    }
    let asked = version.annotation(REQUESTED_AT)?;
    (status.last_handled_request.as_deref() != Some(asked)).then(|| format!("requestedAt/{asked}"))
}

/// Whether somebody asks for a full sync, and no attempt has answered yet.
fn asked(version: &VersionState) -> bool {
    let new = |key, handled: &Option<String>| {
        version.annotation(key).is_some_and(|token| handled.as_deref() != Some(token))
    };
    version.force_sync
        || new(REQUESTED_AT, &version.status.last_handled_request)
        || new(MODULE_REQUEST, &version.status.last_module_request)
}

/// Until when GitHub's limit lasts that the status speaks of.
fn rate_limited(version: &VersionState) -> Option<Timestamp> {
    let limited = version.status.reason == Reason::RateLimited.as_str();
    let notice = limited.then(|| version.status.message.parse::<RateLimitNotice>().ok()).flatten()?;
    Some(notice.until)
}

fn restart_pause(version: &VersionState, times: Times) -> Triage {
    if !Reason::costs_requests(&version.status.reason) {
        return Triage::Publish;
    }
    let stalled_for = version.status.stalled_since.map(|since| times.now.duration_since(since));
    let stalled_for = stalled_for.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
    let period = match version.status.reason.parse::<Reason>().ok() {
        // The Secret may have been mended while nobody looked at it.
        Some(reason) if reason.is_about_secret() => SECRET_POLL_INTERVAL,
        // The restart may have brought a larger limit.
        Some(Reason::ArchiveTooLarge) | None => HOURLY,
        Some(reason) => stalled_pause(reason, stalled_for),
    };
    let due = phase(version, period, times.leading_since);
    if due <= times.now { Triage::Publish } else { Triage::Waiting(due) }
}

/// When the object is to be looked at next: a phase of the clock that its UID decides, so that restarts neither forget
/// nor bunch verifications, and nothing has to be written.
pub fn next_verification(version: &VersionState, interval: Duration, verified: Timestamp) -> Timestamp {
    phase(version, interval, verified)
}

/// The first moment after `from` that lies at this object's phase of `period`.
fn phase(version: &VersionState, period: Duration, from: Timestamp) -> Timestamp {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut hash = DefaultHasher::new();
    version.metadata.uid.hash(&mut hash);
    let offset = i64::try_from(hash.finish() % period_ms.unsigned_abs()).unwrap_or(0);
    let from_ms = from.as_millisecond();
    let due = from_ms - (from_ms - offset).rem_euclid(period_ms) + period_ms;
    Timestamp::from_millisecond(due).unwrap_or(Timestamp::MAX)
}

pub(super) fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
