//! Back-off for uploads that a store rejects.
//!
//! An upload has to be fetched first, and each fetch uses a quota that others share. So while a store rejects uploads to a
//! folder, one upload at a time is tried, with growing pauses, and all others to that folder fail at once with the same error.
//! If three folders below a prefix are rejected for the same reason, this applies to the whole prefix; folders that were not
//! tried yet are then tried one at a time.
//!
//! An upload that S3 accepts and then shows differently counts as rejected, and so does one that S3 rejects because of an object
//! that a HEAD does not find.

mod rejection;

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

use self::rejection::Rejection;
pub use self::rejection::UploadDelayed;
use super::{Cause, Encryption, PutOutcome, StorageError};
use crate::domain::{Mutex, ObjectLocation, canonical_endpoint};

/// Rejected folders that stand for the whole prefix.
const FOLDERS: usize = 3;
/// A rejection is forgotten after this time without another one, since the rejected upload may no longer exist.
const OLD: Duration = Duration::from_hours(2);
/// Bounds the memory, since specs name the locations. A forgotten one costs a fetch.
const MAX_PREFIXES: usize = 256;

/// Everything that decides whether an upload is rejected, except the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UploadPrefix {
    endpoint: Option<String>,
    region: String,
    bucket: String,
    /// The key without its last two segments: the prefix in the spec.
    prefix: String,
    encryption: Encryption,
}

/// A reason: the cause with its status and code.
type Kind = (Discriminant<Cause>, u16, String);

#[derive(Debug, Default)]
pub(super) struct UploadBackoff(Mutex<HashMap<UploadPrefix, HashMap<Kind, Rejection>>>);

/// Permission to prepare an upload.
#[derive(Debug)]
pub struct UploadPermit<'a> {
    backoff: &'a UploadBackoff,
    /// Set if this is the only permit below the prefix.
    only: Option<(UploadPrefix, Kind)>,
}

impl UploadPrefix {
    /// The prefix, and the folder below it.
    fn of(location: &ObjectLocation, encryption: &Encryption) -> (Self, String) {
        let folder = location.key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
        let prefix = Self {
            endpoint: canonical_endpoint(location.endpoint.as_deref(), &location.region),
            region: location.region.clone(),
            bucket: location.bucket.clone(),
            prefix: above.to_owned(),
            encryption: encryption.clone(),
        };
        (prefix, folder.to_owned())
    }
}

impl UploadBackoff {
    /// Permits the preparation of an upload, or returns why the last one was rejected. `requested`: by a user.
    /// `error` makes the error from its cause.
    pub(super) fn permit(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        requested: bool,
        now: Instant,
        error: impl FnOnce(Cause) -> StorageError,
    ) -> Result<UploadPermit<'_>, UploadDelayed> {
        let (prefix, folder) = UploadPrefix::of(location, encryption);
        let mut all = self.0.lock();
        let mut only = None;
        if let Some(kinds) = all.get_mut(&prefix) {
            kinds.retain(|_, rejection| now.duration_since(rejection.last) < OLD);
            if let Some((kind, rejection)) = applicable(kinds, &folder) {
                only = rejection.permit(&folder, requested, now, error)?.then(|| (prefix, kind.clone()));
            }
        }
        Ok(UploadPermit { backoff: self, only })
    }

    /// Records the result of a PUT. Success does not end rejections for [`Cause::StoredDifferently`], since S3 accepts those too.
    pub(super) fn record(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        result: &Result<PutOutcome, Cause>,
        now: Instant,
    ) {
        match result {
            Ok(PutOutcome::Stored) => self.accept(location, encryption, |cause| !is_unverified(cause)),
            Err(cause) if applies_to_others(cause) => drop(self.reject(location, encryption, cause, now)),
            // Whether an existing object is a rejection depends on whether a HEAD finds it.
            Ok(PutOutcome::AlreadyExists) | Err(_) => {}
        }
    }

    /// Records that S3 shows an upload as it was sent.
    pub(super) fn verified(&self, location: &ObjectLocation, encryption: &Encryption) {
        self.accept(location, encryption, is_unverified);
    }

    fn accept(&self, location: &ObjectLocation, encryption: &Encryption, ended: impl Fn(&Cause) -> bool) {
        let (prefix, folder) = UploadPrefix::of(location, encryption);
        let mut all = self.0.lock();
        let Some(kinds) = all.get_mut(&prefix) else { return };
        kinds.retain(|_, rejection| {
            // If one of many folders is accepted, the whole prefix may be: forget them all, and try each again.
            !ended(&rejection.cause) || (rejection.folders.len() < FOLDERS && !rejection.drop_folder(&folder))
        });
        if kinds.is_empty() {
            all.remove(&prefix);
        }
    }

    /// Records a rejection. Returns its cause, with the number of rejections in a row taken into account.
    pub(super) fn reject(
        &self,
        location: &ObjectLocation,
        encryption: &Encryption,
        cause: &Cause,
        now: Instant,
    ) -> Cause {
        let (prefix, folder) = UploadPrefix::of(location, encryption);
        let mut all = self.0.lock();
        if all.len() >= MAX_PREFIXES && !all.contains_key(&prefix) {
            all.clear();
        }
        let kinds = all.entry(prefix).or_default();
        let kind = kind(cause);
        kinds.retain(|other, rejection| *other == kind || !rejection.drop_folder(&folder));
        let rejection = kinds.entry(kind).or_insert_with(|| Rejection::new(cause, now));
        rejection.repeat(cause, folder, now);
        rejection.cause.clone()
    }
}

/// The rejection that an upload to this folder would probably meet: that of the folder itself, or of the whole prefix.
fn applicable<'a>(
    kinds: &'a mut HashMap<Kind, Rejection>,
    folder: &str,
) -> Option<(&'a Kind, &'a mut Rejection)> {
    let is_own = |rejection: &Rejection| rejection.folders.contains(folder);
    let applying = kinds.iter_mut().filter(|(_, one)| is_own(one) || one.folders.len() >= FOLDERS);
    // `true` is greater than `false`.
    applying.max_by_key(|(_, one)| is_own(one))
}

impl Drop for UploadPermit<'_> {
    fn drop(&mut self) {
        if let Some((prefix, kind)) = &self.only
            && let Some(kinds) = self.backoff.0.lock().get_mut(prefix)
            && let Some(rejection) = kinds.get_mut(kind)
        {
            rejection.permitted = None;
        }
    }
}

/// Whether other uploads would probably be rejected too: the cause is neither this file nor this key.
fn applies_to_others(cause: &Cause) -> bool {
    use Cause as C;
    let is_of_file = matches!(cause, C::File { .. } | C::EntityTooLarge | C::BodyTooLarge);
    !is_of_file && !matches!(cause, C::Retained { .. } | C::InvalidAddress(_))
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

#[cfg(test)]
mod tests;
