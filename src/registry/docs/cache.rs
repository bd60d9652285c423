//! The documentation that is kept of archives, and the reasons why there is none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::packed::Packed;
use crate::registry::archive::Fault;

/// The compressed bytes that are kept.
const KEPT: usize = 16 << 20;
/// The largest documentation of one archive, in compressed bytes.
pub(super) const LARGEST: usize = KEPT / 2;
/// How long an archive is not fetched again if its object is another one than recorded, or if this machine may be the cause: it may
/// be busy, or start no process.
const PAUSE: Duration = Duration::from_mins(1);

/// Why documentation cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoDocs {
    /// The archive, or its documentation, is too large.
    #[error("The archive is too large for its documentation to be shown.")]
    TooLarge,
    /// The archive cannot be read, or needs too much memory.
    #[error("The documentation could not be read from the archive.")]
    Unreadable,
    /// It takes too long.
    #[error("Reading the documentation took too long: it is read again after a minute.")]
    TooSlow,
    /// Too many other archives are being read.
    #[error("The documentation of many archives is being read or compared: try again in a minute.")]
    Busy,
    /// The store does not return the archive that was published.
    #[error("{}", .0.sentence())]
    #[serde(skip)]
    Store(Fault),
    /// The spool folder cannot be used, or no process be started.
    #[error("The registry could not read the archive: see its log. It is read again after a minute.")]
    Disk,
}

impl NoDocs {
    /// For `map_err`: a file could not be written to the spool folder.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn disk(error: std::io::Error) -> Self {
        tracing::warn!(%error, "an archive could not be written to the spool folder; free or enlarge the volume of --spool-dir");
        Self::Disk
    }

    /// Seconds until another attempt can succeed; `None` if none can, since an archive does not change.
    pub fn retry_after(self) -> Option<u32> {
        (!matches!(self, Self::TooLarge | Self::Unreadable)).then_some(60)
    }
}

pub(super) type DocsKey = [u8; 32];
pub(super) type DocsResult = Result<Arc<Packed>, NoDocs>;

struct CacheEntry {
    answer: DocsResult,
    /// When the archive is read again; `None`: never, since it does not change.
    until: Option<Instant>,
    used: u64,
}

/// The documentation that was read. The least recently used is removed first.
#[derive(Default)]
pub(super) struct DocsCache {
    answers: HashMap<DocsKey, CacheEntry>,
    uses: u64,
    bytes: usize,
}

impl DocsCache {
    pub(super) fn get(&mut self, key: &DocsKey, now: Instant) -> Option<DocsResult> {
        self.uses += 1;
        let known = self.answers.get_mut(key)?;
        known.used = self.uses;
        known.until.is_none_or(|end| now < end).then(|| known.answer.clone())
    }

    pub(super) fn put(&mut self, key: DocsKey, answer: DocsResult, now: Instant) {
        let until = match answer {
            Ok(_) | Err(NoDocs::TooLarge | NoDocs::Unreadable) => None,
            Err(NoDocs::TooSlow | NoDocs::Disk | NoDocs::Store(Fault::Differs)) => Some(now + PAUSE),
            // The archive can be read again at once.
            Err(NoDocs::Busy | NoDocs::Store(_)) => return,
        };
        let size = |answer: &DocsResult| 128 + answer.as_ref().map_or(0, |packed| packed.size());
        let bytes = size(&answer);
        self.uses += 1;
        self.bytes += bytes;
        if let Some(old) = self.answers.insert(key, CacheEntry { answer, until, used: self.uses }) {
            self.bytes -= size(&old.answer);
        }
        while self.bytes > KEPT {
            let oldest = self.answers.iter().min_by_key(|(_, known)| known.used).map(|(key, _)| *key);
            let Some(gone) = oldest.and_then(|key| self.answers.remove(&key)) else { break };
            self.bytes -= size(&gone.answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_pass_by_itself_is_to_be_tried_again() {
        for (fault, is_passing) in [
            (Fault::Missing, false),
            (Fault::Busy, true),
            (Fault::Silent, true),
            (Fault::Differs, false),
            (Fault::Refused, false),
        ] {
            let sentence = NoDocs::Store(fault).to_string();
            assert_eq!(sentence.contains("try again"), is_passing, "{fault:?}: {sentence}");
        }
    }

    #[test]
    fn what_costs_a_download_each_time_is_tried_again_after_a_minute() {
        let (mut cache, now) = (DocsCache::default(), Instant::now());
        let later = now + PAUSE;
        for (at, (error, at_once, after)) in [
            (NoDocs::TooSlow, true, false),
            (NoDocs::Disk, true, false),
            (NoDocs::Store(Fault::Differs), true, false),
            (NoDocs::Unreadable, true, true),
            (NoDocs::Store(Fault::Silent), false, false),
        ]
        .into_iter()
        .enumerate()
        {
            let key = [u8::try_from(at).unwrap(); 32];
            cache.put(key, Err(error), now);
            for (time, is_kept) in [(now, at_once), (later, after)] {
                let known = cache.get(&key, time).and_then(Result::err);
                assert_eq!(known, is_kept.then_some(error));
            }
        }
    }
}
