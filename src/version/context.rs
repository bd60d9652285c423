//! What the Version controller works with, and its requests to S3 with classified failures.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;

use super::basis::encryption;
use super::decide::{Facts, Seen};
use super::progress::Progress;
use super::rate_limits::RateLimits;
use super::retry::{Attempt, Retries};
use super::scheduler::FetchScheduler;
use super::secret_polls::SecretPolls;
use super::secret_trials::SecretTrials;
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target};
use crate::archive;
use crate::controller::bulkhead::Bulkhead;
use crate::controller::events::Events;
use crate::controller::failure::{Class, Failure};
use crate::controller::lease::Leadership;
use crate::controller::owners::Owners;
use crate::domain::{Mutex, ObjectLocation};
use crate::github::GitHub;
use crate::observe::metrics::Metrics;
use crate::storage::{HeldBack, PutOutcome, StillWanted, Storage, StorageError, StorageRules, Upload};

/// What the controller works with.
pub struct Context {
    pub client: Client,
    pub github: GitHub,
    pub storage: Storage,
    /// What flags permit.
    pub rules: StorageRules,
    pub limits: archive::Limits,
    /// Where archives wait on disk.
    pub spool_dir: PathBuf,
    /// How often stored objects are verified; `None`: never.
    pub verify_interval: Option<Duration>,
    pub scheduler: Arc<FetchScheduler>,
    /// Permits for actions without requests to GitHub or S3, by namespace: a webhook may be slow for one.
    pub api: Bulkhead,
    /// Permits for actions without a download, by store: no store can use all of them.
    pub light: Bulkhead,
    /// The same by namespace and store: no namespace can use all of a store's.
    pub light_shares: Bulkhead,
    pub retries: Retries,
    /// The last read of each Secret that stalls a Version.
    pub secret_polls: SecretPolls,
    /// The Secrets that were tried since this process became leader.
    pub secret_trials: SecretTrials,
    /// GitHub's rate limits that attempts have met.
    pub rate_limits: RateLimits,
    /// When this process became leader. A standby may have been running for days before.
    pub leading_since: Instant,
    /// The moved repositories that an Event has named.
    pub moves: Moves,
    pub events: Events,
    pub metrics: Arc<Metrics>,
    /// The records of the Modules that own Versions.
    pub owners: Owners,
    /// Checked before each PUT and DELETE in S3.
    pub leadership: Leadership,
}

/// Above this number, all are forgotten, so that each is reported once more.
const MOST_MOVES: usize = 1024;

/// The moved repositories that an Event has named: namespace, old and new address.
#[derive(Debug, Default)]
pub struct Moves(Mutex<HashSet<[String; 3]>>);

impl Moves {
    /// Whether this is the first time.
    pub(super) fn is_new(&self, namespace: &str, from: &str, to: &str) -> bool {
        let mut named = self.0.lock();
        if named.len() >= MOST_MOVES {
            named.clear();
        }
        named.insert([namespace, from, to].map(str::to_owned))
    }
}

/// The failure of a PUT that is not sent because others like it have failed. It waits no longer than they do, and a request for
/// a sync stays open. `jitter` is from 0 to 1.
fn held_back(held: HeldBack, requested: bool, now: Timestamp, jitter: f64) -> Failure {
    let pause = held.pause.mul_f64(1.0 + jitter / 4.0);
    // The failure of another location may require manual action there, and not here.
    let note = if held.elsewhere {
        " (other uploads below this prefix failed with this error; this one is attempted later)"
    } else {
        ""
    };
    let message = format!("{}{note}", held.error);
    let failure = held.error.into_failure(now);
    if failure.class == Class::Stalled && held.confirmed && !held.elsewhere && !requested {
        return failure;
    }
    Failure { class: Class::Wait(now.checked_add(pause).unwrap_or(now)), message, ..failure }
}

/// The failure of a request to S3 that has just ended.
pub(super) fn classified(error: StorageError) -> Failure {
    error.into_failure(Timestamp::now())
}

impl Context {
    /// The permission to fetch and store, held until that is done. Fails while the store rejects such PUTs.
    pub(super) fn may_store(&self, target: &Target) -> Result<impl Sized + use<'_>, Failure> {
        // A new request is tried once; the retries of one that failed wait like those of others.
        let asked = Requests { pending: false, ..target.requests.clone() }.any();
        let attempt = self.storage.may_store(&target.location, &encryption(target), asked);
        attempt.map_err(|held| held_back(held, target.requests.any(), Timestamp::now(), rand::random()))
    }

    pub(super) async fn put(
        &self,
        location: &ObjectLocation,
        upload: &Upload<'_>,
        still_wanted: StillWanted<'_>,
    ) -> Result<PutOutcome, StorageError> {
        self.leadership.during(Box::pin(self.storage.put_while(location, upload, still_wanted))).await
    }

    pub(super) async fn delete(
        &self,
        location: &ObjectLocation,
        still_wanted: StillWanted<'_>,
    ) -> Result<(), Failure> {
        let delete = Box::pin(self.storage.delete_while(location, still_wanted));
        self.leadership.during(delete).await.map_err(classified)
    }

    /// When this process became leader, by the clock as it is set now.
    pub(super) fn leading_since(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.leading_since.elapsed()).unwrap_or(now)
    }

    /// What a decision depends on besides the Version.
    pub(super) fn facts<'a>(
        &self,
        version: &VersionState,
        attempt: Option<&'a Attempt>,
        seen: Option<Seen>,
        progress: &Progress,
    ) -> Facts<'a> {
        let now = Timestamp::now();
        let verified = self.retries.with(version.uid(), |retry| retry.verified);
        Facts {
            attempt,
            verify_interval: self.verify_interval,
            now,
            leading_since: self.leading_since(now),
            verified: verified.and_then(|at| now.checked_sub(at.elapsed()).ok()),
            seen,
            fate: self.owners.fate(version),
            awaits_digest: self.owners.withholds(version),
            tries_now: progress.tries_now.is_set(),
        }
    }
}
