//! The composition root: clients, two controllers per scope, the admin server, and one way to stop.
//!
//! In: checked flags. Out: a running operator, until a signal or a fatal error. Each kind is watched once per scope (the
//! cluster, or each namespace that a flag names); what the Version watch tells goes to both controllers.

use crate::controller::failure::Reason;
mod router;
mod scope;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::{Client, Config};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::scope::{Shared, start_scope};
use crate::archive;
use crate::cli::Run;
use crate::controller::events::Events;
use crate::controller::lease::{self, Election, Held, Leadership, Lost};
use crate::controller::object_metrics::ObjectMetrics;
use crate::controller::owners::Owners;
use crate::controller::watch::stopping;
use crate::github::{self, GitHub};
use crate::observe::admin::{self, Admin, Sampled};
use crate::observe::liveness::Liveness;
use crate::observe::metrics::Metrics;
use crate::observe::telemetry;
use crate::storage::{Storage, StorageRules};
use crate::version;
use crate::version::shares::Shares;
use crate::version::slots::Slots;
use crate::workdir::Workdir;

/// Versions that do small work (a look at the bucket, a deletion) at once.
const LIGHT: usize = 16;

/// How long work in flight may take to end after a signal, when nobody waits to take over.
const GRACE: Duration = Duration::from_secs(8);
/// The same when others wait: they work sooner than a long transfer ends.
const SHORT_GRACE: Duration = Duration::from_secs(1);

/// Why the operator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A file that a flag names.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The CA file.
    #[error("--ca-file: {0}")]
    Ca(#[from] crate::storage::CaError),
    /// The spool folder.
    #[error("cannot use {path} for archives: {error}; name a writable folder with --spool-dir")]
    Workdir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// GitHub's client.
    #[error("GitHub client: {0}")]
    GitHub(#[from] github::ClientError),
    /// `AWS_ENDPOINT_URL_S3`.
    #[error("AWS_ENDPOINT_URL_S3: {0}")]
    Endpoint(#[from] crate::domain::EndpointError),
    /// No cluster.
    #[error("no Kubernetes API server is configured ({0}); run in a cluster, or set KUBECONFIG")]
    Cluster(#[from] kube::config::InferConfigError),
    /// The Kubernetes client.
    #[error("Kubernetes client: {0}")]
    Kube(#[from] kube::Error),
    /// The admin server.
    #[error("cannot listen on {address}: {error}; choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
    /// The Lease.
    #[error("{0}; the process stops so that it waits for its turn again")]
    Lease(#[from] Lost),
    /// A part that runs for ever has ended.
    #[error("{0} ended; the process stops so that it is started again")]
    Ended(&'static str),
}

/// Runs the operator until a signal.
pub async fn run(flags: Run) -> Result<(), OperatorError> {
    let listener = admin::listen(flags.listen)
        .map_err(|error| OperatorError::Listen { address: flags.listen, error })?;
    let spool_dir = flags.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
    let spool =
        Workdir::new(&spool_dir).map_err(|error| OperatorError::Workdir { path: spool_dir, error })?;
    let (stopper, stop) = watch::channel(false);
    let metrics = Arc::new(Metrics::new(Reason::counted()));
    telemetry::count_panics(Arc::clone(&metrics));
    let config = config().await?;
    let (client, watch_client) = clients(&config)?;
    let events = Events::start(client.clone());
    let mut version = version_context(&flags, &client, &spool, events.clone(), Arc::clone(&metrics)).await?;
    let ready = Arc::new(AtomicBool::new(false));
    let (liveness, census) = (Liveness::default(), ObjectMetrics::default());
    let admin = Admin {
        metrics: Arc::clone(&metrics),
        sampled: Arc::new({
            let (github, objects) = (version.github.clone(), census.clone());
            move || Sampled { github_remaining: github.remaining(), objects: objects.count() }
        }),
        liveness: liveness.clone(),
        ready: Arc::clone(&ready),
    };
    tokio::spawn(admin::serve(listener, admin, stopping(stop.clone())));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %flags.listen, "started");

    let mut signal = std::pin::pin!(signalled()?);
    let mut held = tokio::select! {
        held = elected(&flags, &config, &client, &ready) => held,
        () = &mut signal => return Ok(()),
    };
    version.leading_since = jiff::Timestamp::now();
    if let Some(held) = &held {
        version.leadership = held.leadership();
    }
    metrics.leader.set(1);
    let version = Arc::new(version);
    let pace = Arc::default();
    let shared = Shared { client, watch_client, version, events, metrics, census, pace, liveness, stop };
    let mut tasks = start(&flags, &shared, ready);
    let result = tokio::select! {
        () = signal => Ok(()),
        ended = tasks.join_next() => Err(OperatorError::Ended(ended.and_then(Result::ok).unwrap_or("a controller"))),
        lost = keep(held.as_mut()) => Err(lost.into()),
    };
    let _ = stopper.send(true);
    tracing::info!("stopping: work in flight is ended or given up");
    let grace = match (&held, &result) {
        (_, Err(OperatorError::Lease(_))) => Duration::ZERO,
        (Some(_), _) => SHORT_GRACE,
        (None, _) => GRACE,
    };
    if tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("work in flight did not end in time; it is given up and done again at the next start");
        tasks.shutdown().await;
    }
    if let Some(held) = held.filter(|_| !matches!(result, Err(OperatorError::Lease(_)))) {
        held.release().await;
    }
    drop(spool);
    result
}

/// Waits for the Lease, if one is wanted. Who waits is ready: it does all that it has to.
async fn elected(flags: &Run, config: &Config, client: &Client, ready: &AtomicBool) -> Option<Held> {
    if !flags.leader_elect {
        return None;
    }
    let namespace = flags.lease_namespace.clone().unwrap_or_else(|| lease::own_namespace(config));
    let mut last = None;
    let waiting = |holder: &str| {
        ready.store(true, Ordering::Release);
        if last.as_deref() != Some(holder) {
            tracing::info!(holder, "waiting: another process leads");
            last = Some(holder.to_owned());
        }
    };
    Some(Election::new(client.clone(), &namespace, &flags.lease_name).win(waiting).await)
}

/// Resolves when the Lease is lost; never without one.
async fn keep(held: Option<&mut Held>) -> Lost {
    match held {
        Some(held) => held.keep().await,
        None => std::future::pending().await,
    }
}

/// Starts watches and controllers; `ready` is set when the watches have seen every object once.
fn start(flags: &Run, shared: &Shared, ready: Arc<AtomicBool>) -> JoinSet<&'static str> {
    let mut tasks: JoinSet<&'static str> = JoinSet::new();
    // A namespace that is named twice is watched once.
    let mut scopes: BTreeSet<Option<String>> = flags.namespaces.iter().cloned().map(Some).collect();
    if scopes.is_empty() {
        scopes.insert(None);
    }
    let seen: Vec<_> =
        scopes.iter().flat_map(|scope| start_scope(shared, scope.as_deref(), &mut tasks)).collect();
    tokio::spawn(async move {
        for mut seen in seen {
            // An error means that the watch has ended, and with it the process.
            if seen.wait_for(|seen| *seen).await.is_err() {
                return;
            }
        }
        ready.store(true, Ordering::Release);
        tracing::info!("ready");
    });
    tasks
}

async fn config() -> Result<Config, OperatorError> {
    let mut config = Config::infer().await?;
    // The proxy of the environment is for GitHub and S3. kube would match NO_PROXY against the wrong address.
    config.proxy_url = None;
    // kube would repeat a POST up to 15 times; back-off is ours.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(config)
}

/// One client for requests and one for watches, which are silent for minutes.
fn clients(config: &Config) -> Result<(Client, Client), OperatorError> {
    let mut watching = config.clone();
    watching.read_timeout = Some(Duration::from_mins(5));
    Ok((Client::try_from(config.clone())?, Client::try_from(watching)?))
}

async fn version_context(
    flags: &Run,
    client: &Client,
    spool: &Workdir,
    events: Events,
    metrics: Arc<Metrics>,
) -> Result<version::Context, OperatorError> {
    let ca_pem = match &flags.ca_file {
        Some(path) => {
            Some(std::fs::read(path).map_err(|error| OperatorError::File { path: path.clone(), error })?)
        }
        None => None,
    };
    let storage = Storage::new(ca_pem.as_deref()).await?;
    let github = GitHub::new(&github::Settings {
        extra_hosts: flags.github_host.clone(),
        ca_pem,
        max_archive_bytes: flags.max_archive_size,
        ..github::Settings::default()
    })?;
    let default_endpoint = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
    let default_endpoint = default_endpoint.map(|url| url.parse()).transpose()?;
    crate::domain::use_default_endpoint(default_endpoint.as_ref());
    let rules = StorageRules::new(flags.allow_storage.clone(), flags.s3_endpoint.clone(), default_endpoint);
    if rules.allows_anything() {
        tracing::warn!(
            "every namespace may store in every bucket that this identity reaches: restrict it with --allow-storage"
        );
    }
    Ok(version::Context {
        client: client.clone(),
        github,
        storage,
        rules,
        limits: archive::Limits {
            archive_bytes: flags.max_archive_size,
            unpacked_bytes: flags.max_unpacked_size,
            entries: flags.max_entries,
            ..archive::Limits::default()
        },
        spool_dir: spool.path(),
        verify_interval: Some(flags.verify_interval).filter(|interval| !interval.is_zero()),
        slots: Slots::new(flags.max_fetches.into()),
        light: Shares::new(LIGHT, LIGHT / 2),
        github_limits: version::limits::Limits::default(),
        memories: version::memory::Memories::default(),
        looks: version::secret_looks::SecretLooks::default(),
        leading_since: jiff::Timestamp::now(),
        moves: version::context::Moves::default(),
        events,
        metrics,
        owners: Owners::default(),
        leadership: Leadership::without_end(),
    })
}

/// Resolves at SIGTERM or SIGINT, listened for from the call on.
fn signalled() -> Result<impl Future<Output = ()>, OperatorError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(OperatorError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(OperatorError::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
