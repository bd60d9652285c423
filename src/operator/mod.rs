//! The composition root: creates clients, contexts, watches and controllers, and shuts them down at a signal or a fatal error.
//!
//! Each kind is watched once per scope: the cluster, or each namespace that a flag names.

mod router;
mod scope;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::{Client, Config};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::scope::{Shared, start_scope};
use crate::cli::Run;
use crate::controller::bulkhead::Bulkhead;
use crate::controller::connection;
use crate::controller::events::Events;
use crate::controller::failure::Reason;
use crate::controller::lease::{self, Election, LeaderLease, Leadership, LeadershipLost};
use crate::controller::object_metrics::ObjectMetrics;
use crate::controller::owners::Owners;
use crate::controller::watch::{all_listed, scopes, stopping};
use crate::github::{self, ClientError, GitHub};
use crate::observe::admin::{self, Admin};
use crate::observe::liveness::Liveness;
use crate::observe::metrics::Metrics;
use crate::observe::telemetry;
use crate::startup::{
    StartupError, ca_certificates, connect, ended, listen, raise_open_files, signalled, storage_rules,
    workdir,
};
use crate::storage::{Storage, StorageRules};
use crate::version;
use crate::version::scheduler::FetchScheduler;
use crate::workdir::Workdir;

/// The unit of the limits of concurrent reconciles of Versions. Those with requests to S3, such as a deletion: 1/2 for one
/// namespace in one store, 3/4 for one store, 3/2 in total. Those with requests to the API server only: 1 for one namespace, 2 in
/// total.
const LIGHT: usize = 16;

/// How long work in flight may take to end after a signal without leader election.
const GRACE: Duration = Duration::from_secs(8);
/// The same with leader election: a standby replica becomes the leader sooner than a long transfer ends.
const SHORT_GRACE: Duration = Duration::from_secs(1);

/// Why the operator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("GitHub client: {0}")]
    GitHub(#[from] ClientError),
    #[error("{0}; the process exits, and its replacement stands by")]
    Lease(#[from] LeadershipLost),
}

/// Runs the operator until a signal.
pub async fn run(flags: &Run) -> Result<(), OperatorError> {
    // At first: the system ignores signals that the first process of a container does not handle.
    let mut signal = std::pin::pin!(signalled()?);
    raise_open_files();
    let listener = listen("--listen", flags.listen)?;
    let workdir = workdir(flags.spool_dir.as_deref())?;
    let (stopper, stop) = watch::channel(false);
    let metrics = Arc::new(Metrics::new(Reason::counted()));
    telemetry::count_panics(metrics.panics.clone());
    let (config, client, watch_client) = connect().await?;
    let events = Events::start(client.clone());
    let mut version = version_context(flags, &client, &workdir, events, Arc::clone(&metrics)).await?;
    let ready = Arc::new(AtomicBool::new(false));
    let (liveness, object_metrics) = (Liveness::default(), ObjectMetrics::default());
    let admin = Admin {
        scrape: scraper(Arc::clone(&metrics), version.github.clone(), object_metrics.clone()),
        liveness: liveness.clone(),
        ready: Arc::clone(&ready),
    };
    tokio::spawn(admin::serve(listener, admin, stopping(stop.clone())));
    let api_server = connection::address(&config);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %flags.listen, api_server, "started");

    let mut lease = acquire_lease(flags, &config, &client, &ready, &mut signal).await;
    if flags.leader_elect && lease.is_none() {
        return Ok(());
    }
    // A standby is ready. A leader is not until its lists are read: it may lack the permission to read them.
    ready.store(false, Ordering::Release);
    version.leading_since = Instant::now();
    if let Some(lease) = &lease {
        version.leadership = lease.leadership.clone();
    }
    metrics.leader.set(1);
    let version = Arc::new(version);
    let pace = Arc::default();
    let shared = Shared { watch_client, version, object_metrics, pace, liveness, stop };
    let mut tasks = start(flags, &shared, ready);
    let result = tokio::select! {
        () = signal => Ok(()),
        ended = ended(&mut tasks, "a controller") => Err(ended.into()),
        lost = renew_until_lost(lease.as_mut()) => Err(lost.into()),
    };
    let _ = stopper.send(true);
    let is_lost = matches!(result, Err(OperatorError::Lease(_)));
    shut_down(tasks, lease, is_lost).await;
    drop(workdir);
    result
}

/// Waits for work in flight, and releases the Lease unless it is lost.
async fn shut_down(mut tasks: JoinSet<&'static str>, lease: Option<LeaderLease>, is_lost: bool) {
    let grace = match &lease {
        _ if is_lost => Duration::ZERO,
        Some(_) => SHORT_GRACE,
        None => GRACE,
    };
    tracing::info!(grace = %humantime::format_duration(grace), "shutting down");
    if tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("aborted work in flight; the next leader repeats it");
        tasks.shutdown().await;
    }
    if let Some(lease) = lease.filter(|_| !is_lost) {
        lease.release().await;
    }
}

fn scraper(metrics: Arc<Metrics>, github: GitHub, objects: ObjectMetrics) -> admin::Scrape {
    Arc::new(move || metrics.scrape(&github.remaining(), &objects.count()))
}

/// Waits for the Lease, or for `stop`, if leader election is on. A standby replica is ready: waiting for the Lease is its job.
async fn acquire_lease(
    flags: &Run,
    config: &Config,
    client: &Client,
    ready: &AtomicBool,
    stop: impl Future<Output = ()> + Unpin,
) -> Option<LeaderLease> {
    if !flags.leader_elect {
        return None;
    }
    let namespace = flags.lease_namespace.clone().unwrap_or_else(|| lease::own_namespace(config));
    let mut last = None;
    let waiting = |holder: &str| {
        ready.store(true, Ordering::Release);
        if last.as_deref() != Some(holder) {
            tracing::info!(holder, "standing by for leader lease");
            last = Some(holder.to_owned());
        }
    };
    Election::new(client.clone(), &namespace, &flags.lease_name).acquire(stop, waiting).await
}

/// Resolves when the Lease is lost; without leader election, never.
async fn renew_until_lost(lease: Option<&mut LeaderLease>) -> LeadershipLost {
    match lease {
        Some(lease) => lease.renew_until_lost().await,
        None => std::future::pending().await,
    }
}

/// Starts watches and controllers. Sets `ready` when the caches are filled.
fn start(flags: &Run, shared: &Shared, ready: Arc<AtomicBool>) -> JoinSet<&'static str> {
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    let scopes = scopes(&flags.namespaces);
    let mut listed: Vec<_> =
        scopes.into_iter().flat_map(|scope| start_scope(shared, scope, &mut tasks)).collect();
    let age = shared.version.metrics.watches.clone();
    tokio::spawn(async move {
        if all_listed(&mut listed, &age).await {
            ready.store(true, Ordering::Release);
            tracing::info!("ready");
        }
    });
    tasks
}

async fn version_context(
    flags: &Run,
    client: &Client,
    spool: &Workdir,
    events: Events,
    metrics: Arc<Metrics>,
) -> Result<version::Context, OperatorError> {
    let roots = ca_certificates(flags.ca_file.as_deref())?;
    let storage = Storage::new(&roots).await.map_err(StartupError::from)?;
    let github = GitHub::new(&github::Settings {
        extra_hosts: flags.github_host.clone(),
        roots,
        max_archive_bytes: flags.archives.max_archive_size,
        ..github::Settings::default()
    })?;
    let rules = rules(flags, &storage)?;
    Ok(version::Context {
        client: client.clone(),
        github,
        storage,
        rules,
        limits: flags.archives.limits(),
        spool_dir: spool.path(),
        verify_interval: Some(flags.verify_interval).filter(|interval| !interval.is_zero()),
        scheduler: FetchScheduler::new(flags.max_fetches.into()),
        api: Bulkhead::new(LIGHT * 2, LIGHT),
        light: Bulkhead::new(LIGHT * 3 / 2, LIGHT * 3 / 4),
        light_shares: Bulkhead::new(Semaphore::MAX_PERMITS, LIGHT / 2),
        rate_limits: version::rate_limits::RateLimits::default(),
        memories: version::memory::Memories::default(),
        secret_polls: version::secret_polls::SecretPolls::default(),
        secret_trials: version::secret_trials::SecretTrials::default(),
        leading_since: Instant::now(),
        moves: version::context::Moves::default(),
        events,
        metrics,
        owners: Owners::default(),
        leadership: Leadership::without_end(),
    })
}

fn rules(flags: &Run, storage: &Storage) -> Result<StorageRules, OperatorError> {
    let rules = storage_rules(&flags.allow_storage, &flags.s3_endpoint, storage)?;
    if rules.allows_anything() {
        tracing::warn!(
            "every namespace is allowed to store in every bucket that the operator's AWS identity can access; restrict this with --allow-storage"
        );
    }
    Ok(rules)
}
