//! Back-off for uploads that a store rejects.
//!
//! An upload has to be fetched first, and each fetch uses a quota that others share. So while a store rejects uploads to a
//! folder, one upload at a time is tried, with growing pauses, and all others to that folder fail at once with the same error.
//! If three folders below a prefix are rejected for the same reason, this applies to the whole prefix; folders that were not
//! tried yet are then tried one at a time.
//!
//! An upload that S3 accepts and then shows differently counts as rejected.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Cause, Encryption};
use crate::domain::{ObjectLocation, canonical_endpoint};

/// The first pause: shorter than the shortest retry of a caller, so that an upload is never deferred by its own rejection.
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_mins(7);
/// A request by a user is tried at once, unless at least `MANY` uploads were rejected, the last within `JUST_NOW`: thousands may
/// be requested together.
const JUST_NOW: Duration = Duration::from_secs(5);
const MANY: u32 = 8;
/// Rejected folders that stand for the whole prefix, and the pause between tries of further folders.
const FOLDERS: usize = 3;
const FIRST_TRIES: Duration = Duration::from_secs(10);
/// Rejections in a row that are not caused by a single object.
const CONFIRMED: u32 = 3;
/// How long one upload may keep the only permit: its download may hang while the store accepts uploads again.
const PERMIT: Duration = Duration::from_secs(30);
/// After this time without another rejection, an upload that was rejected is forgotten, since it may not exist any more.
const OLD: Duration = Duration::from_hours(2);
/// Specs choose the locations. A forgotten one costs a fetch.
const MAX_TARGETS: usize = 256;
const MAX_FOLDERS: usize = 256;

/// Everything that decides whether an upload is rejected, except the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    endpoint: Option<String>,
    region: String,
    bucket: String,
    /// The key without its last two segments: the prefix in the spec.
    prefix: String,
    encryption: Encryption,
}

/// Folders below one prefix that were rejected for the same reason.
#[derive(Debug)]
struct Rejection {
    cause: Cause,
    folders: HashSet<String>,
    /// Rejections in a row. Simultaneous ones count once.
    count: u32,
    /// All rejected uploads.
    uploads: u32,
    last: Instant,
    /// When the next upload may be tried.
    next: Instant,
    /// When the next upload to a folder that was not tried yet may be tried.
    next_folder: Instant,
    /// Since when an upload has the only permit.
    permitted: Option<Instant>,
}

/// A reason: the cause with its status and code.
type Kind = (Discriminant<Cause>, u16, String);
type All = HashMap<Target, HashMap<Kind, Rejection>>;

/// The rejected targets.
#[derive(Debug, Default)]
pub(super) struct UploadBackoff(Mutex<All>);

/// Permission to prepare an upload.
#[derive(Debug)]
pub struct UploadPermit<'a> {
    backoff: &'a UploadBackoff,
    /// Set if this is the only permit for the target.
    only: Option<(Target, Kind)>,
}

/// Why an upload is not tried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferred {
    pub cause: Cause,
    /// Whether only other folders were rejected.
    pub elsewhere: bool,
    /// Whether there were several rejections in a row.
    pub confirmed: bool,
    pub pause: Duration,
}

impl Target {
    /// The target, and the folder below its prefix.
    fn of(location: &ObjectLocation, encryption: &Encryption) -> (Self, String) {
        let folder = location.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let prefix = folder.rsplit_once('/').map_or("", |(prefix, _)| prefix);
        let target = Self {
            endpoint: canonical_endpoint(location.endpoint.as_deref(), &location.region),
            region: location.region.clone(),
            bucket: location.bucket.clone(),
            prefix: prefix.to_owned(),
            encryption: encryption.clone(),
        };
        (target, folder.to_owned())
    }
}

impl UploadBackoff {
    /// Permits the preparation of an upload, or returns why the last one was rejected. `asked`: a user requested it.
    pub(super) fn permit(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        asked: bool,
        now: Instant,
    ) -> Result<UploadPermit<'_>, Deferred> {
        let (target, folder) = Target::of(location, encryption);
        let mut all = self.locked();
        if let Some(kinds) = all.get_mut(&target) {
            kinds.retain(|_, rejection| now.duration_since(rejection.last) < OLD);
        }
        let only = match all.get_mut(&target).and_then(|kinds| applicable(kinds, &folder)) {
            Some((kind, rejection)) => rejection.permit(&folder, asked, now)?.then_some((target, kind)),
            None => None,
        };
        Ok(UploadPermit { backoff: self, only })
    }

    /// Records the result of a PUT. Success does not end rejections for [`Cause::StoredDifferently`], since S3 accepts those too.
    pub(super) fn record<T>(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        result: &Result<T, Cause>,
        now: Instant,
    ) {
        match result {
            Ok(_) => self.accept(location, encryption, |cause| !is_unverified(cause)),
            Err(cause) if applies_to_others(cause) => drop(self.reject(location, encryption, cause, now)),
            Err(_) => {}
        }
    }

    /// Records that S3 shows an upload as it was sent.
    pub(super) fn verified(&self, location: &ObjectLocation, encryption: &Encryption) {
        self.accept(location, encryption, is_unverified);
    }

    /// Records that S3 shows an upload differently. Returns the cause, with the number of times taken into account.
    pub(super) fn stored_differently(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        what: &'static str,
        now: Instant,
    ) -> Cause {
        self.reject(location, encryption, &Cause::StoredDifferently { what, repeated: false }, now)
    }

    fn accept(&self, location: &ObjectLocation, encryption: &Encryption, ended: impl Fn(&Cause) -> bool) {
        let (target, folder) = Target::of(location, encryption);
        let mut all = self.locked();
        let Some(kinds) = all.get_mut(&target) else { return };
        kinds.retain(|_, rejection| {
            // If one of many folders is accepted, the prefix is, or each folder has to be tried.
            !ended(&rejection.cause) || (rejection.folders.len() < FOLDERS && !rejection.drop_folder(&folder))
        });
        if kinds.is_empty() {
            all.remove(&target);
        }
    }

    fn reject(&self, at: &ObjectLocation, encryption: &Encryption, cause: &Cause, now: Instant) -> Cause {
        let (target, folder) = Target::of(at, encryption);
        let mut all = self.locked();
        if all.len() >= MAX_TARGETS && !all.contains_key(&target) {
            all.clear();
        }
        let kinds = all.entry(target).or_default();
        let kind = kind(cause);
        kinds.retain(|other, rejection| *other == kind || !rejection.drop_folder(&folder));
        let rejection = kinds.entry(kind).or_insert_with(|| Rejection::new(cause, now));
        rejection.repeat(cause, folder, now);
        rejection.cause.clone()
    }

    fn locked(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rejection that an upload to this folder would probably meet.
fn applicable<'a>(
    kinds: &'a mut HashMap<Kind, Rejection>,
    folder: &str,
) -> Option<(Kind, &'a mut Rejection)> {
    let own = kinds.iter().find(|(_, rejection)| rejection.folders.contains(folder));
    let kind =
        own.or_else(|| kinds.iter().find(|(_, rejection)| rejection.folders.len() >= FOLDERS))?.0.clone();
    let rejection = kinds.get_mut(&kind)?;
    Some((kind, rejection))
}

impl Rejection {
    fn new(cause: &Cause, now: Instant) -> Self {
        Self {
            cause: cause.clone(),
            folders: HashSet::new(),
            count: 0,
            uploads: 0,
            last: now,
            next: now,
            next_folder: now + FIRST_TRIES,
            permitted: None,
        }
    }

    /// Whether this upload gets the only permit. `false` if it may be tried in addition, as requested by a user.
    fn permit(&mut self, folder: &str, asked: bool, now: Instant) -> Result<bool, Deferred> {
        let elsewhere = !self.folders.contains(folder);
        if asked && (self.uploads < MANY || now.duration_since(self.last) >= JUST_NOW) {
            return Ok(false);
        }
        let next = if elsewhere { self.next.min(self.next_folder) } else { self.next };
        if self.permitted.is_some_and(|since| now.duration_since(since) < PERMIT) || next > now {
            let pause = next.saturating_duration_since(now).max(SHORTEST);
            let confirmed = self.count >= CONFIRMED;
            return Err(Deferred { cause: self.cause.clone(), elsewhere, confirmed, pause });
        }
        self.permitted = Some(now);
        Ok(true)
    }

    fn repeat(&mut self, cause: &Cause, folder: String, now: Instant) {
        if self.count == 0 || self.next <= now {
            self.count = self.count.saturating_add(1);
        }
        self.uploads = self.uploads.saturating_add(1);
        self.cause = cause.clone();
        if let Cause::StoredDifferently { repeated, .. } = &mut self.cause {
            *repeated = self.count >= CONFIRMED;
        }
        self.last = now;
        self.next = now + pause(self.count).max(requested_delay(cause));
        if self.folders.len() < MAX_FOLDERS && self.folders.insert(folder) {
            self.next_folder = now + FIRST_TRIES;
        }
    }

    /// Removes a folder. Returns whether it was the last one.
    fn drop_folder(&mut self, folder: &str) -> bool {
        self.folders.remove(folder) && self.folders.is_empty()
    }
}

impl Drop for UploadPermit<'_> {
    fn drop(&mut self) {
        if let Some((target, kind)) = &self.only {
            let mut all = self.backoff.locked();
            if let Some(rejection) = all.get_mut(target).and_then(|kinds| kinds.get_mut(kind)) {
                rejection.permitted = None;
            }
        }
    }
}

/// Whether another upload would probably be rejected too: the cause is neither this file nor this key.
fn applies_to_others(cause: &Cause) -> bool {
    use Cause as C;
    !matches!(cause, C::File { .. } | C::EntityTooLarge | C::Conflict | C::InvalidAddress(_))
}

fn is_unverified(cause: &Cause) -> bool {
    matches!(cause, Cause::StoredDifferently { .. })
}

fn kind(cause: &Cause) -> Kind {
    let (status, code) = match cause {
        Cause::Other { status, code, .. } => (status.unwrap_or_default(), code.as_deref()),
        Cause::Unavailable { status, .. } => (*status, None),
        Cause::CredentialsInvalid { code } => (0, Some(code.as_str())),
        _ => (0, None),
    };
    (discriminant(cause), status, code.unwrap_or_default().to_owned())
}

fn pause(count: u32) -> Duration {
    SHORTEST.saturating_mul(2_u32.saturating_pow(count.saturating_sub(1).min(16))).min(LONGEST)
}

fn requested_delay(cause: &Cause) -> Duration {
    match cause {
        Cause::SlowDown { retry_after: Some(pause) } => *pause,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
