//! The steps of a publication, and the waits between them.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::arguments::Arguments;
use super::cluster::Cluster;
use super::deadline::{Deadline, PAUSE};
use super::error::PublishError;
use super::manifest::Manifest;
use super::state::{self, Progress};
use super::stored::{self, Stored};
use crate::command::output;
use crate::domain::Release;

/// A hint for a version on which the operator does not seem to work.
const IS_IT_RUNNING: &str = ": is the operator running?";
/// Maximum wait for the first answer. With a wrong configuration there is none.
const FIRST: Duration = Duration::from_secs(30);
/// Maximum time for reading Events, which only explain a failure.
const EVENTS: Duration = Duration::from_secs(5);
/// Maximum time for a change of the Module's configuration to reach a Version after the Module became Ready with it.
const CHANGE: Duration = Duration::from_secs(30);

/// One run: the version to publish, and where.
pub(super) struct Publication<'a> {
    pub arguments: &'a Arguments,
    pub cluster: Cluster,
    pub namespace: String,
    pub release: Release,
    /// Name of the Version object.
    pub object: String,
    pub deadline: Deadline,
}

/// What is still missing, and the object whose condition may contain the reason.
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
            let doing = "applying the manifest";
            let configure = async || self.request(doing, self.cluster.configure(module, manifest)).await;
            let result = self.deadline.at_most(FIRST).repeat(configure).await?;
            output::note(format_args!("{name}: {result}"));
        }
        let added = self.add(manifest.is_some()).await?;
        output::note(format_args!("{name}: {version} {}", if added { "added" } else { "is already listed" }));
        self.wait_for_object().await?;
        if !added {
            self.wait_for_change().await?;
        }
        let stored = self.wait_until_stored(added).await?;
        Ok(Stored::of(&stored, module, &self.namespace))
    }

    /// Adds the version to the list. Returns false if it is there already. `is_known`: whether the API server has answered
    /// before.
    async fn add(&self, is_known: bool) -> Result<bool, PublishError> {
        let Arguments { module, version, .. } = self.arguments;
        let deadline = if is_known { self.deadline } else { self.deadline.at_most(FIRST) };
        let current = deadline.repeat(async || self.module().await).await?;
        if state::is_listed(&current, &self.release) {
            return Ok(false);
        }
        let mut is_repeated = false;
        let appending = self.deadline.repeat(async || {
            // If only the answer to an earlier attempt was lost, that attempt added the version.
            let may_be_added = std::mem::replace(&mut is_repeated, true);
            let appended = self.request("adding the version", self.cluster.append(module, version)).await?;
            Ok(appended || may_be_added)
        });
        appending.await
    }

    async fn module(&self) -> Result<Value, PublishError> {
        let doing = format!("reading Module {}", self.arguments.module);
        self.request(&doing, self.cluster.module(&self.arguments.module)).await
    }

    async fn version(&self) -> Result<Option<Value>, PublishError> {
        let doing = format!("reading Version {}", self.object);
        self.request(&doing, self.cluster.version(&self.object)).await
    }

    /// Sends a request, which ends at the deadline at the latest.
    async fn request<T>(
        &self,
        doing: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, PublishError> {
        let Ok(answer) = tokio::time::timeout_at(self.deadline.of_request(), request).await else {
            let message = "the API server did not answer before the timeout".to_owned();
            return Err(PublishError::Request { doing: doing.to_owned(), message, is_transient: true });
        };
        let explain =
            |error| PublishError::of_request(&self.arguments.module, &self.namespace, doing, &error);
        answer.map_err(explain)
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
            match state::prevented(&module, version.as_ref()) {
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
            let ready = state::Ready::of(&module);
            if let Some(ready) = &ready {
                // The operator does not change the Versions of such a Module, so the Module's condition is final.
                if ready.reason == "InvalidSpec" || ready.reason == "Suspended" {
                    return Err(self.prevented(&module, &ready.sentence()).await);
                }
                // Until the Module is Ready, the change may still come, or the API server may reject it.
                if ready.status == "True" && seen.get_or_insert_with(Instant::now).elapsed() > CHANGE {
                    return Ok(ControlFlow::Break(()));
                }
            }
            let hint = if ready.is_some() { "." } else { IS_IT_RUNNING };
            let missing = format!("the Module's change has not reached {}", self.arguments.version);
            Ok(ControlFlow::Continue(Missing { what: missing, hint, object: module }))
        })
        .await
    }

    /// Waits until the version is stored. If it failed before this run, requests a retry.
    async fn wait_until_stored(&self, added: bool) -> Result<Value, PublishError> {
        let version = self.deadline.repeat(async || self.version().await).await?.unwrap_or_default();
        let mut request = None;
        if !added && state::failed_before(&version) {
            let token = format!("publish-{}", Uuid::new_v4());
            let doing = "requesting a retry of the failed version";
            let sync = async || self.request(doing, self.cluster.request_sync(&self.object, &token)).await;
            self.deadline.repeat(sync).await?;
            output::note(format_args!("Version {}: failed before; a retry was requested", self.object));
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

    /// Checks once a second until a check ends the wait. At the deadline, the error contains what is still missing, or why the
    /// last check failed.
    async fn poll<T>(
        &self,
        mut check: impl AsyncFnMut() -> Result<ControlFlow<T, Missing>, PublishError>,
    ) -> Result<T, PublishError> {
        loop {
            let missing = match self.deadline.repeat(&mut check).await? {
                ControlFlow::Break(found) => return Ok(found),
                ControlFlow::Continue(missing) => missing,
            };
            if self.deadline.is_over() {
                self.print_events(&missing.object).await;
                let ready = state::Ready::of(&missing.object);
                return Err(PublishError::Late {
                    missing: missing.what,
                    after: humantime::format_duration(self.arguments.timeout).to_string(),
                    hint: missing.hint,
                    state: ready
                        .map(|ready| format!(" {}", stored::harmless(&ready.sentence())))
                        .unwrap_or_default(),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The error for an object whose condition excludes a success.
    async fn prevented(&self, object: &Value, why: &str) -> PublishError {
        self.print_events(object).await;
        PublishError::Prevented(stored::harmless(why))
    }

    /// Prints the Events of an object, which may explain more than its condition.
    async fn print_events(&self, object: &Value) {
        let events = tokio::time::timeout(EVENTS, self.cluster.events(object)).await.unwrap_or_default();
        if !events.is_empty() {
            output::note(format_args!("Events:\n{}", events.join("\n")));
        }
    }
}
