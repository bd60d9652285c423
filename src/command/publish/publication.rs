//! The steps of a publication, and the waits between them.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::arguments::Arguments;
use super::cluster::Cluster;
use super::error::PublishError;
use super::manifest::Manifest;
use super::state::{self, Progress};
use super::stored::{self, Stored};
use crate::controller::client;
use crate::domain::Release;

/// For a version that the operator seems not to work on.
const IS_IT_RUNNING: &str = ": is the operator running?";
/// Pause between two looks at the cluster.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a change of the Module's configuration may take to reach a Version after the operator has seen it.
const CHANGE: Duration = Duration::from_secs(30);

/// One run: the version to publish, and where.
pub(super) struct Publication<'a> {
    pub arguments: &'a Arguments,
    pub cluster: Cluster,
    pub namespace: String,
    pub release: Release,
    /// Name of the Version object.
    pub object: String,
    pub deadline: Instant,
}

/// What a look did not find, and the object whose condition may say why.
struct Missing {
    what: String,
    hint: &'static str,
    object: Value,
}

impl Publication<'_> {
    pub(super) async fn publish(&self, manifest: Option<&Manifest>) -> Result<Stored, PublishError> {
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
        self.poll(async || {
            let (module, version) = (self.module().await?, self.version().await?);
            if version.as_ref().is_some_and(|version| state::is_of_module(version, &module)) {
                return Ok(ControlFlow::Break(()));
            }
            let excluded = state::excluded_by_limit(&module, &self.release);
            if let Some(limit) = excluded.filter(|_| version.is_none()) {
                return Err(PublishError::Excluded { version: self.arguments.version.clone(), limit });
            }
            match state::prevented(&module, version.is_some()) {
                Some(why) if prevented_before => return Err(self.prevented(&module, &why).await),
                why => prevented_before = why.is_some(),
            }
            let missing = format!("there is no Version object for {}", self.arguments.version);
            Ok(ControlFlow::Continue(Missing { what: missing, hint: IS_IT_RUNNING, object: module }))
        })
        .await
    }

    /// Waits until an existing Version has the Module's configuration. Until then, its conditions describe the old one.
    async fn wait_for_change(&self) -> Result<(), PublishError> {
        let mut seen = None;
        self.poll(async || {
            let (module, version) = (self.module().await?, self.version().await?.unwrap_or_default());
            if state::has_config_of(&version, &module, &self.arguments.module) {
                return Ok(ControlFlow::Break(()));
            }
            if let Some(ready) = state::Ready::of(&module) {
                // The operator changes no Version of such a Module, whose conditions count then.
                if ready.reason == "InvalidSpec" || ready.reason == "Suspended" {
                    return Err(self.prevented(&module, &ready.sentence()).await);
                }
                let since = *seen.get_or_insert_with(Instant::now);
                if since.elapsed() > CHANGE {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let missing = format!("the Module's change has not reached {}", self.arguments.version);
            Ok(ControlFlow::Continue(Missing { what: missing, hint: IS_IT_RUNNING, object: module }))
        })
        .await
    }

    /// Waits until the version is stored. If it failed before this run, requests a retry.
    async fn wait_until_stored(&self, added: bool) -> Result<Value, PublishError> {
        let version = self.version().await?.unwrap_or_default();
        let mut request = None;
        if !added && state::failed_before(&version) {
            let token = format!("publish-{}", Uuid::new_v4());
            let doing = "requesting a retry of the failed version";
            self.cluster.request_sync(&self.object, &token).await.map_err(|e| self.explain(doing, e))?;
            eprintln!("Version {}: failed before, a retry is requested", self.object);
            request = Some(token);
        }
        self.poll(async || {
            let version = self.version().await?.unwrap_or_default();
            match state::progress(&version, request.as_deref()) {
                Progress::Stored => Ok(ControlFlow::Break(version)),
                Progress::GivenUp(why) => Err(self.prevented(&version, &why).await),
                Progress::Waiting => {
                    let missing = format!("{} is not stored", self.arguments.version);
                    Ok(ControlFlow::Continue(Missing { what: missing, hint: ".", object: version }))
                }
            }
        })
        .await
    }

    /// Looks once a second until a look ends the wait. At the deadline, the error is what the last look found missing, or why it
    /// could not look: an API server that does not answer for a while, as during its upgrade, ends no wait.
    async fn poll<T>(
        &self,
        mut look: impl AsyncFnMut() -> Result<ControlFlow<T, Missing>, PublishError>,
    ) -> Result<T, PublishError> {
        let mut answered = true;
        loop {
            let missing = match look().await {
                Ok(ControlFlow::Break(found)) => return Ok(found),
                Ok(ControlFlow::Continue(missing)) => missing,
                Err(error) if error.is_transient() && Instant::now() < self.deadline => {
                    if answered {
                        eprintln!("{error}: trying again until the timeout");
                    }
                    answered = false;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            answered = true;
            if Instant::now() >= self.deadline {
                self.print_events(&missing.object).await;
                let ready = state::Ready::of(&missing.object);
                return Err(PublishError::Late {
                    missing: missing.what,
                    after: humantime::format_duration(self.arguments.timeout).to_string(),
                    hint: missing.hint,
                    state: ready.map(|ready| stored::harmless(&ready.sentence())).unwrap_or_default(),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The error for an object whose condition rules the version out.
    async fn prevented(&self, object: &Value, why: &str) -> PublishError {
        self.print_events(object).await;
        PublishError::Prevented(stored::harmless(why))
    }

    /// Prints the Events of an object, which may explain more than its condition.
    async fn print_events(&self, object: &Value) {
        let events = self.cluster.events(object).await;
        if !events.is_empty() {
            eprintln!("Events:\n{}", events.join("\n"));
        }
    }

    fn explain(&self, doing: &str, error: kube::Error) -> PublishError {
        if client::is_gone(&error) {
            let (module, namespace) = (self.arguments.module.clone(), self.namespace.clone());
            return PublishError::NoModule { module, namespace };
        }
        let (doing, message) = (doing.to_owned(), stored::harmless(&client::explain(&error)));
        match error {
            kube::Error::Api(status) if !client::is_outage(&status) => {
                PublishError::Refused { doing, message }
            }
            _ => PublishError::Unanswered { doing, message },
        }
    }
}
