//! The rejections of uploads to the folders below one prefix, for one reason: which upload may be tried next, and when.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::domain::time::doubled;
use crate::storage::{Cause, StorageError};

/// The first pause: shorter than the shortest retry of a caller, so that an upload is never deferred by its own rejection.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_mins(7);
/// A request by a user is tried at once, unless at least `MANY` uploads were rejected, the last within `JUST_NOW`: thousands may
/// be requested together.
const JUST_NOW: Duration = Duration::from_secs(5);
pub(super) const MANY: u32 = 8;
/// The pause between tries of further folders.
const FIRST_TRIES: Duration = Duration::from_secs(10);
/// Rejections in a row that are not caused by a single object.
const CONFIRMED: u32 = 3;
/// How long one upload may keep the only permit: its download may hang while the store accepts uploads again.
const PERMIT: Duration = Duration::from_secs(30);
pub(super) const MAX_FOLDERS: usize = 256;

/// Folders below one prefix that were rejected for the same reason.
#[derive(Debug)]
pub(super) struct Rejection {
    pub cause: Cause,
    pub folders: HashSet<String>,
    /// Rejections in a row. Simultaneous ones count once.
    count: u32,
    /// All rejected uploads.
    uploads: u32,
    pub last: Instant,
    /// When the next upload may be tried.
    next: Instant,
    /// When the next upload to a folder that was not tried yet may be tried.
    next_folder: Instant,
    /// Since when an upload has the only permit.
    pub permitted: Option<Instant>,
}

/// Why an upload is not worth preparing now.
#[derive(Debug)]
pub struct UploadDelayed {
    /// The error of the last upload that was rejected.
    pub error: StorageError,
    /// Whether only uploads to other folders were rejected; this one was not tried yet.
    pub elsewhere: bool,
    /// Whether it was rejected several times in a row.
    pub confirmed: bool,
    /// Time until another upload may be tried.
    pub pause: Duration,
}

impl Rejection {
    pub(super) fn new(cause: &Cause, now: Instant) -> Self {
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
    pub(super) fn permit(
        &mut self,
        folder: &str,
        requested: bool,
        now: Instant,
        error: impl FnOnce(Cause) -> StorageError,
    ) -> Result<bool, UploadDelayed> {
        let elsewhere = !self.folders.contains(folder);
        if requested && (self.uploads < MANY || now.duration_since(self.last) >= JUST_NOW) {
            return Ok(false);
        }
        let next = if elsewhere { self.next.min(self.next_folder) } else { self.next };
        if self.permitted.is_some_and(|since| now.duration_since(since) < PERMIT) || next > now {
            let pause = next.saturating_duration_since(now).max(FIRST_PAUSE);
            let confirmed = self.count >= CONFIRMED;
            return Err(UploadDelayed { error: error(self.cause.clone()), elsewhere, confirmed, pause });
        }
        self.permitted = Some(now);
        Ok(true)
    }

    pub(super) fn repeat(&mut self, cause: &Cause, folder: String, now: Instant) {
        if self.count == 0 || self.next <= now {
            self.count = self.count.saturating_add(1);
        }
        self.uploads = self.uploads.saturating_add(1);
        self.cause = cause.clone();
        if let Cause::StoredDifferently { repeated, .. } = &mut self.cause {
            *repeated = self.count >= CONFIRMED;
        }
        self.last = now;
        let requested = cause.retry_after().unwrap_or_default();
        self.next = now + doubled(FIRST_PAUSE, self.count, LONGEST_PAUSE).max(requested);
        if self.folders.len() >= MAX_FOLDERS {
            // Which others were tried is not remembered.
            self.next_folder = self.next;
        } else if self.folders.insert(folder) {
            self.next_folder = now + FIRST_TRIES;
        }
    }

    /// Removes a folder. Returns whether it was the last one.
    pub(super) fn drop_folder(&mut self, folder: &str) -> bool {
        self.folders.remove(folder) && self.folders.is_empty()
    }
}
