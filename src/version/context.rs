//! What the Version controller works with, and its requests to S3 and for Secrets with their failures classified.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::decide::{Facts, Seen};
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
use crate::storage::{Encryption, Found, HeldBack, PutOutcome, Storage, StorageError, StorageRules, Upload};

/// Permits for actions without a download: no store can use all of them, and no namespace all of a store.
pub struct LightPermits {
    /// By namespace and store.
    pub shares: Bulkhead,
    pub stores: Bulkhead,
}

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
    /// How often stored objects are looked at; `None`: never.
    pub verify_interval: Option<Duration>,
    pub scheduler: Arc<FetchScheduler>,
    /// Permits for actions without requests to GitHub or S3, by namespace: a webhook may be slow for one.
    pub api: Bulkhead,
    /// Permits for actions without a download.
    pub light: LightPermits,
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
    /// What is known of the Modules that own Versions.
    pub owners: Owners,
    /// Asked before each PUT and DELETE in S3.
    pub leadership: Leadership,
}

/// Above this many moved repositories, all are forgotten, and named once more.
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

/// A failure of others that this one would meet as well. It was not tried, and waits no longer than they do: a request stays
/// open until it was. `jitter` is from 0 to 1.
fn held_back(held: HeldBack, requested: bool, now: Timestamp, jitter: f64) -> Failure {
    let pause = held.pause.mul_f64(1.0 + jitter / 4.0);
    // Elsewhere, a user may have to act for the others and not for this one.
    let note =
        if held.elsewhere { " (so for others below this prefix; this one is tried later)" } else { "" };
    let message = format!("{}{note}", held.error);
    let failure = held.error.into_failure(now);
    if failure.class == Class::Stalled && held.confirmed && !held.elsewhere && !requested {
        return failure;
    }
    Failure { class: Class::Wait(now.checked_add(pause).unwrap_or(now)), message, ..failure }
}

/// How S3 is to encrypt the object of a target.
pub(super) fn encryption(target: &Target) -> Encryption {
    let s3 = target.config.storage_config.as_ref().and_then(|storage| storage.s3.as_ref());
    Encryption {
        server_side_encryption: s3
            .and_then(|s3| s3.server_side_encryption)
            .map(|sse| sse.as_str().to_owned()),
        kms_key_id: s3.and_then(|s3| s3.kms_key_id.clone()),
    }
}

impl Context {
    pub(super) async fn head(&self, place: &ObjectLocation) -> Result<Option<Found>, Failure> {
        self.storage.head(place).await.map_err(|e| e.into_failure(Timestamp::now()))
    }

    /// Fails when the bucket is not there.
    pub(super) async fn bucket(&self, place: &ObjectLocation) -> Result<(), Failure> {
        let there = self.storage.bucket_exists(place).await;
        there.map_err(|e| e.into_failure(Timestamp::now()))
    }

    /// The right to fetch what is to be stored, held until that is done; not where the store refuses all such PUTs.
    pub(super) fn may_store(&self, target: &Target) -> Result<impl Sized + use<'_>, Failure> {
        // A request asks once; what it left open is retried like all else.
        let asked = Requests { pending: false, ..target.requests.clone() }.any();
        let attempt = self.storage.may_store(&target.location, &encryption(target), asked);
        attempt.map_err(|held| held_back(held, target.requests.any(), Timestamp::now(), rand::random()))
    }

    pub(super) async fn put(
        &self,
        place: &ObjectLocation,
        upload: &Upload<'_>,
    ) -> Result<PutOutcome, StorageError> {
        self.leadership.during(Box::pin(self.storage.put(place, upload))).await
    }

    pub(super) async fn delete(&self, place: &ObjectLocation) -> Result<(), Failure> {
        let delete = Box::pin(self.storage.delete(place));
        self.leadership.during(delete).await.map_err(|e| e.into_failure(Timestamp::now()))
    }

    /// When this process became leader, by the clock as it is set now.
    pub(super) fn leading_since(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.leading_since.elapsed()).unwrap_or(now)
    }

    /// What a decision on a Version depends on besides it.
    pub(super) fn facts<'a>(
        &self,
        version: &VersionState,
        attempt: Option<&'a Attempt>,
        seen: Option<Seen>,
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
            tries_now: false,
        }
    }

    /// The resourceVersion of a Secret (`Some(None)`: it does not exist), a moment old at most; `None` when it cannot be
    /// known.
    pub(super) async fn secret_version(&self, namespace: &str, name: &str) -> Option<Option<String>> {
        let request = async {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let found = secrets.get_opt(name).await;
            let found =
                found.inspect_err(|error| tracing::debug!(%error, name, "the Secret cannot be looked at"));
            found.ok().map(|secret| secret.and_then(|s| s.metadata.resource_version))
        };
        self.secret_polls.outcome(namespace, name, request).await
    }
}
