//! What the Version controller works with, and its requests to S3 with classified failures.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;

use super::basis::encryption;
use super::decide::{Facts, Seen};
use super::memory::{Attempt, Memories};
use super::progress::Progress;
use super::rate_limits::RateLimits;
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
use crate::storage::{PutOutcome, StillWanted, Storage, StorageError, StorageRules, Upload, UploadDelayed};

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
    pub memories: Memories,
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
fn upload_delayed(delayed: UploadDelayed, requested: bool, now: Timestamp, jitter: f64) -> Failure {
    let pause = delayed.pause.mul_f64(1.0 + jitter / 4.0);
    // The failure of another location may require manual action there, and not here.
    let note = if delayed.elsewhere {
        " (other uploads below this prefix failed with this error; this one is attempted later)"
    } else {
        ""
    };
    let message = format!("{}{note}", delayed.error);
    let failure = delayed.error.into_failure(now);
    if failure.class == Class::Stalled && delayed.confirmed && !delayed.elsewhere && !requested {
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
        let requested = Requests { pending: false, ..target.requests.clone() }.any();
        let attempt = self.storage.may_store(&target.location, &encryption(target), requested);
        let any = target.requests.any();
        attempt.map_err(|delayed| upload_delayed(delayed, any, Timestamp::now(), rand::random()))
    }

    pub(super) async fn put(
        &self,
        location: &ObjectLocation,
        upload: &Upload<'_>,
        still_wanted: StillWanted<'_>,
    ) -> Result<PutOutcome, StorageError> {
        self.leadership.during(Box::pin(self.storage.put(location, upload, still_wanted))).await
    }

    pub(super) async fn delete(
        &self,
        location: &ObjectLocation,
        still_wanted: StillWanted<'_>,
    ) -> Result<(), Failure> {
        let delete = Box::pin(self.storage.delete(location, still_wanted));
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
        let verified = self.memories.with(version.uid(), |memory| memory.verified);
        Facts {
            attempt,
            verify_interval: self.verify_interval,
            now,
            leading_since: self.leading_since(now),
            verified: verified.and_then(|at| now.checked_sub(at.elapsed()).ok()),
            seen,
            fate: self.owners.fate(version),
            awaits_digest: self.owners.awaits_module(version),
            tries_now: progress.tries_now.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use futures::future::{BoxFuture, join};
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;
    use tower::BoxError;

    use super::*;
    use crate::github::Settings;
    use crate::storage::{Body as UploadBody, Encryption, Ownership};

    /// A context whose API server never answers.
    fn context(leadership: Leadership) -> Context {
        let server = |_: Request<Body>| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>();
        let client = Client::new(tower::service_fn(server), "acme");
        Context {
            client: client.clone(),
            github: GitHub::new(&Settings::default()).unwrap(),
            storage: Storage::with_test_keys(),
            rules: StorageRules::new(Vec::new(), Vec::new(), None),
            limits: archive::Limits::default(),
            spool_dir: PathBuf::new(),
            verify_interval: None,
            scheduler: FetchScheduler::new(1),
            api: Bulkhead::new(1, 1),
            light: Bulkhead::new(1, 1),
            light_shares: Bulkhead::new(1, 1),
            memories: Memories::default(),
            secret_polls: SecretPolls::default(),
            secret_trials: SecretTrials::default(),
            rate_limits: RateLimits::default(),
            leading_since: Instant::now(),
            moves: Moves::default(),
            events: Events::start(client),
            metrics: Arc::new(Metrics::new([])),
            owners: Owners::default(),
            leadership,
        }
    }

    fn wanted() -> BoxFuture<'static, bool> {
        std::future::ready(true).boxed()
    }

    /// A store that answers nothing, and an object in it. `accept` does not wait for a connection.
    fn store() -> (TcpListener, ObjectLocation) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let location = ObjectLocation {
            bucket: "modules".into(),
            key: "network/first.zip".into(),
            region: "us-west-2".into(),
            endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
            force_path_style: Some(true),
        };
        (listener, location)
    }

    /// Another process may be the leader by now, and may need the object.
    #[tokio::test]
    async fn a_process_that_is_no_longer_the_leader_sends_neither_put_nor_delete() {
        let (ownership, encryption) = (Ownership::default(), Encryption::default());
        let upload = Upload {
            body: UploadBody::Memory(b"archive"),
            size: 7,
            sha256: "c2hh",
            ownership: &ownership,
            encryption: &encryption,
            create_only: true,
        };
        let over = Leadership::until(tokio::time::Instant::now());
        let [former, leader] = [over, Leadership::without_end()].map(context);
        for is_put in [true, false] {
            let [unused, used] = [(); 2].map(|()| store());
            let send = async |ctx: &Context, location: &ObjectLocation| {
                if is_put {
                    ctx.put(location, &upload, &wanted).await.is_ok()
                } else {
                    ctx.delete(location, &wanted).await.is_ok()
                }
            };
            // The former leader begins first, so it would connect first.
            let requests = join(send(&former, &unused.1), send(&leader, &used.1));
            let connected = async {
                while used.0.accept().is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                _ = requests => panic!("no store answers"),
                () = connected => {}
                () = tokio::time::sleep(Duration::from_secs(30)) => panic!("the leader sends nothing"),
            }
            assert!(unused.0.accept().is_err(), "{}", if is_put { "PUT" } else { "DELETE" });
        }
    }
}
