//! `opendepot publish`: adds a version to a Module and waits until it is stored, in a release workflow of any CI system.
//!
//! It only appends to the Module's list, so it can run again, and for several versions at once.

mod cluster;
mod manifest;
mod state;
pub mod stored;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::Client;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use self::cluster::Cluster;
use self::manifest::{Manifest, ManifestError};
use self::state::Progress;
pub use self::stored::Stored;
use super::arguments;
use super::output::Output;
use crate::api::object_name;
use crate::controller::client;
use crate::controller::connection::inferred;
use crate::domain::Release;

/// Pause between two looks at the cluster.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a change of the Module's configuration may take to reach a Version after the operator has seen it.
const CHANGE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  # Add a version to an existing Module, and wait until it is stored.
  opendepot publish terraform-aws-eks v21.18.0 -n team-a
  # Create the Module from a file if it does not exist, else apply the file's moduleConfig.
  opendepot publish terraform-aws-eks \"$CI_COMMIT_TAG\" -n team-a --manifest module.yaml
  # GitLab CI: pass bucket, key, checksum and contentDigest to later jobs (artifacts:reports:dotenv).
  opendepot publish terraform-aws-eks \"$CI_COMMIT_TAG\" -n team-a --outputs publish.env

The permissions that this needs: examples/release-workflow-rbac.yaml. A run can be repeated; other versions are not changed.";

/// Arguments of `opendepot publish`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of the Module object.
    #[arg(value_parser = arguments::module)]
    pub module: String,

    /// The version, in the form of the release's tag, with or without a leading v.
    #[arg(id = "release", value_name = "VERSION", value_parser = arguments::version)]
    pub version: String,

    /// Namespace of the Module. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_parser = arguments::namespace)]
    pub namespace: Option<String>,

    /// File with the Module's manifest. The Module is created from it if it does not exist. Otherwise its moduleConfig is merged
    /// into the existing one, and its versions are ignored.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Maximum time to wait until the version is stored, such as 90s, 10m or 1h.
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,

    /// File to which the lines bucket=, key=, checksum= and contentDigest= are appended.
    #[arg(long, env = "GITHUB_OUTPUT", value_name = "FILE")]
    pub outputs: Option<PathBuf>,

    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why a version was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("no Kubernetes cluster is configured: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("cannot write {path}: {error}")]
    Outputs { path: PathBuf, error: std::io::Error },
    #[error("manifest {path}: {error}")]
    Manifest { path: PathBuf, error: ManifestError },
    #[error("there is no Module {module} in the namespace {namespace}: create it, or give --manifest")]
    NoModule { module: String, namespace: String },
    #[error("{doing} failed: {message}")]
    Refused { doing: String, message: String },
    #[error("{doing} failed: {error}")]
    Api { doing: String, error: kube::Error },
    #[error("{0}")]
    Prevented(String),
    #[error("{version} is not among the {limit} newest versions that versionHistoryLimit keeps")]
    Excluded { version: String, limit: i64 },
    #[error("there is no Version object for {version} after {after}: is the operator running? {state}")]
    NoVersion { version: String, after: String, state: String },
    #[error("the Module's change has not reached {version} after {after}: is the operator running? {state}")]
    NotChanged { version: String, after: String, state: String },
    #[error("{version} is not stored after {after}. {state}")]
    NotStored { version: String, after: String, state: String },
}

/// Publishes a version, and writes `--outputs`. Steps are printed to standard error.
///
/// # Errors
/// [`PublishError`] if the version is not stored in time.
pub async fn run(arguments: &Arguments) -> Result<Stored, PublishError> {
    let started = Instant::now();
    let config = inferred().await?;
    let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let manifest = arguments.manifest.as_ref().map(|path| {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| PublishError::File { path: path.clone(), error })?;
        Manifest::parse(&text, &arguments.module, &namespace)
            .map_err(|error| PublishError::Manifest { path: path.clone(), error })
    });
    let manifest = manifest.transpose()?;
    let client = Client::try_from(config)
        .map_err(|error| PublishError::Api { doing: "connecting to the cluster".to_owned(), error })?;
    let release =
        Release::parse(&arguments.version).map_err(|error| PublishError::Prevented(error.to_string()))?;
    let publication = Publication {
        arguments,
        cluster: Cluster::new(&client, &namespace),
        object: object_name::version_object(&arguments.module, &release),
        namespace,
        release,
        deadline: started + arguments.timeout,
    };
    let stored = publication.publish(manifest.as_ref()).await?;
    if let Some(path) = &arguments.outputs {
        append_file(path, &stored.lines())
            .map_err(|error| PublishError::Outputs { path: path.clone(), error })?;
    }
    Ok(stored)
}

fn append_file(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

struct Publication<'a> {
    arguments: &'a Arguments,
    cluster: Cluster,
    namespace: String,
    release: Release,
    /// Name of the Version object.
    object: String,
    deadline: Instant,
}

impl Publication<'_> {
    async fn publish(&self, manifest: Option<&Manifest>) -> Result<Stored, PublishError> {
        let Arguments { module, version, .. } = self.arguments;
        let name = format!("Module {module} in the namespace {}", self.namespace);
        if let Some(manifest) = manifest {
            let done = self.cluster.configure(module, manifest).await;
            eprintln!("{name}: {}", done.map_err(|error| self.explain("applying the manifest", error))?);
        }
        let listed = state::is_listed(&self.module().await?, &self.release);
        let added = !listed
            && self
                .cluster
                .append(module, version)
                .await
                .map_err(|e| self.explain("adding the version", e))?;
        eprintln!("{name}: {version} {}", if added { "added" } else { "is already listed" });
        self.wait_for_object().await?;
        if !added {
            self.wait_for_change().await?;
        }
        let stored = self.wait_until_stored(added).await?;
        Ok(Stored::of(&stored, module, &self.namespace))
    }

    async fn module(&self) -> Result<Value, PublishError> {
        let doing = format!("reading Module {}", self.arguments.module);
        self.cluster.module(&self.arguments.module).await.map_err(|error| self.explain(&doing, error))
    }

    async fn version(&self) -> Result<Option<Value>, PublishError> {
        let doing = format!("reading Version {}", self.object);
        self.cluster.version(&self.object).await.map_err(|error| self.explain(&doing, error))
    }

    /// Waits for the Version object. A state in which the Module cannot create it ends the wait.
    async fn wait_for_object(&self) -> Result<(), PublishError> {
        let mut prevented_before = false;
        loop {
            let module = self.module().await?;
            let version = self.version().await?;
            if version.as_ref().is_some_and(|version| state::is_of_module(version, &module)) {
                return Ok(());
            }
            if let Some(limit) =
                state::excluded_by_limit(&module, &self.release).filter(|_| version.is_none())
            {
                return Err(PublishError::Excluded { version: self.arguments.version.clone(), limit });
            }
            let prevented = state::prevented(&module, version.is_some());
            match prevented {
                Some(why) if prevented_before => {
                    self.print_events(&module).await;
                    return Err(PublishError::Prevented(stored::harmless(&why)));
                }
                prevented => prevented_before = prevented.is_some(),
            }
            if self.is_late() {
                self.print_events(&module).await;
                return Err(PublishError::NoVersion {
                    version: self.arguments.version.clone(),
                    after: self.after(),
                    state: sentence(&module),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until an existing Version has the Module's configuration. Until then, its conditions describe the old one.
    async fn wait_for_change(&self) -> Result<(), PublishError> {
        let mut seen = None;
        loop {
            let module = self.module().await?;
            let version = self.version().await?.unwrap_or_default();
            if state::has_config_of(&version, &module, &self.arguments.module) {
                return Ok(());
            }
            if let Some(ready) = state::Ready::of(&module) {
                // The operator changes no Version of such a Module, whose conditions count then.
                if ready.reason == "InvalidSpec" || ready.reason == "Suspended" {
                    return Err(PublishError::Prevented(stored::harmless(&ready.sentence())));
                }
                let since = *seen.get_or_insert_with(Instant::now);
                if since.elapsed() > CHANGE {
                    return Ok(());
                }
            }
            if self.is_late() {
                return Err(PublishError::NotChanged {
                    version: self.arguments.version.clone(),
                    after: self.after(),
                    state: sentence(&module),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the version is stored. If it failed before this run, requests a retry.
    async fn wait_until_stored(&self, added: bool) -> Result<Value, PublishError> {
        let mut version = self.version().await?.unwrap_or_default();
        let mut request = None;
        if !added && state::failed_before(&version) {
            let token = format!("publish-{}", Uuid::new_v4());
            let doing = "requesting a retry of the failed version";
            self.cluster.request_sync(&self.object, &token).await.map_err(|e| self.explain(doing, e))?;
            eprintln!("Version {}: failed before, a retry is requested", self.object);
            request = Some(token);
        }
        loop {
            match state::progress(&version, request.as_deref()) {
                Progress::Stored => return Ok(version),
                Progress::GivenUp(why) => {
                    self.print_events(&version).await;
                    return Err(PublishError::Prevented(stored::harmless(&why)));
                }
                Progress::Waiting => {}
            }
            if self.is_late() {
                self.print_events(&version).await;
                return Err(PublishError::NotStored {
                    version: self.arguments.version.clone(),
                    after: self.after(),
                    state: sentence(&version),
                });
            }
            tokio::time::sleep(PAUSE).await;
            version = self.version().await?.unwrap_or_default();
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn after(&self) -> String {
        humantime::format_duration(self.arguments.timeout).to_string()
    }

    /// Prints the Events of an object, which may explain more than its condition.
    async fn print_events(&self, object: &Value) {
        let events = self.cluster.events(object).await;
        if !events.is_empty() {
            eprintln!("Events:\n{}", events.join("\n"));
        }
    }

    fn explain(&self, doing: &str, error: kube::Error) -> PublishError {
        let (module, namespace) = (&self.arguments.module, &self.namespace);
        match error {
            error if client::is_gone(&error) => {
                PublishError::NoModule { module: module.clone(), namespace: namespace.clone() }
            }
            kube::Error::Api(status) => {
                PublishError::Refused { doing: doing.to_owned(), message: stored::harmless(&status.message) }
            }
            error => PublishError::Api { doing: doing.to_owned(), error },
        }
    }
}

/// The Ready condition of an object, if it is current.
fn sentence(object: &Value) -> String {
    state::Ready::of(object).map(|ready| stored::harmless(&ready.sentence())).unwrap_or_default()
}
