//! Reads one Module and writes it: its status, its finalizers and `spec.forceSync`. All writes of a Module are made here.
//!
//! Each write carries the resourceVersion of the last read or write, so that it fails if others changed the Module.

use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::Status;
use serde_json::{Value, json};

use super::addressable::ADDRESSABLE;
use super::context::Context;
use super::digests;
use super::pace::Urgency;
use super::rejected_requests::rejection;
use super::view::ModuleView;
use crate::api::state::ModuleState;
use crate::api::{MODULE_FINALIZER, Module, ModuleStatus, condition};
use crate::controller::client::{self, is_refusal};
use crate::controller::events::Event;
use crate::controller::failure::Reason;

/// A Module that was read, without its spec and status.
pub(super) struct ModuleClient<'a> {
    pub(super) ctx: &'a Context,
    api: Api<DynamicObject>,
    /// Its metadata is that of the last read or write.
    pub(super) object: DynamicObject,
}

/// How a write ended.
#[derive(Debug)]
pub(super) enum Written {
    Done,
    /// The status differs only in progress and is written later.
    Later(Duration),
    /// The object has changed since it was read, or is gone.
    Conflict,
    /// The API server cannot store a status of this size.
    TooLarge,
    /// The API server refuses, with this message for the status.
    Refused(String),
}

impl<'a> ModuleClient<'a> {
    /// Reads a Module. `None` if it is gone, or another one has its name.
    pub(super) async fn read(
        ctx: &'a Context,
        cached: &ModuleState,
    ) -> Result<Option<(Self, ModuleView)>, kube::Error> {
        let api = client::objects::<Module>(&ctx.client, cached.namespace());
        let object = api.get_opt(cached.name()).await?;
        let Some(mut object) = object.filter(|object| object.metadata.uid == cached.metadata.uid) else {
            return Ok(None);
        };
        // Nothing reads them, and there may be a hundred thousand.
        object.metadata.labels = None;
        let view = ModuleView::take_from(&mut object);
        Ok(Some((Self { ctx, api, object }, view)))
    }

    pub(super) fn resource_version(&self) -> Option<&str> {
        self.object.metadata.resource_version.as_deref()
    }

    /// Whether the cache shows that the Module has since been changed by others, is being deleted, or no longer exists.
    pub(super) fn is_outdated(&self) -> bool {
        let read = &self.object.metadata;
        let namespace = read.namespace.as_deref().unwrap_or_default();
        self.ctx.cached(namespace, self.name()).is_none_or(|cached| {
            let now = &cached.metadata;
            now.uid != read.uid
                || now.generation > read.generation
                || (now.deletion_timestamp.is_some() && read.deletion_timestamp.is_none())
        })
    }

    /// Writes the status if it changed. Progress is paced.
    pub(super) async fn write_status(
        &mut self,
        before: &ModuleStatus,
        after: &ModuleStatus,
        urgency: Urgency,
    ) -> Result<Written, kube::Error> {
        let uid = self.object.metadata.uid.clone().unwrap_or_default();
        let wait = self.ctx.memories.with(&uid, |memory| memory.pace.wait(urgency, Instant::now()));
        if !wait.is_zero() {
            return Ok(Written::Later(wait));
        }
        let since = Instant::now();
        let result =
            client::patch_status(&self.api, self.name(), self.resource_version(), before, after).await;
        let end = match result {
            Ok(Some(written)) => {
                self.object.metadata.resource_version = written.metadata.resource_version;
                self.report(before, after);
                Written::Done
            }
            Ok(None) => return Ok(Written::Done),
            Err(error) if client::is_outdated(&error) => return Ok(Written::Conflict),
            Err(kube::Error::Api(status)) if is_too_large(&status) => {
                tracing::warn!(
                    cause = status.message,
                    "the Module's status is too large for the API server; shorten spec.versions"
                );
                Written::TooLarge
            }
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                let words = rejection("The status of the Module cannot be written", &status);
                if self.ctx.memories.with(&uid, |memory| memory.rejected.add()).is_some() {
                    self.warn(Reason::VersionRefused, &words);
                }
                return Ok(Written::Refused(words));
            }
            Err(error) => return Err(error),
        };
        let (took, now) = (since.elapsed(), Instant::now());
        self.ctx.memories.if_known(&uid, |memory| memory.pace.wrote(urgency, took, now));
        Ok(end)
    }

    /// Replaces the finalizers.
    pub(super) async fn write_finalizers(&mut self, all: &[String]) -> Result<Written, kube::Error> {
        let what = format!("The finalizer {MODULE_FINALIZER} cannot be added or removed");
        self.patch(&what, json!({"metadata": {"finalizers": all}})).await
    }

    pub(super) async fn reset_force_sync(&mut self) -> Result<Written, kube::Error> {
        self.patch("spec.forceSync cannot be reset", json!({"spec": {"forceSync": false}})).await
    }

    async fn patch(&mut self, what: &str, change: Value) -> Result<Written, kube::Error> {
        match client::patch(&self.api, self.name(), self.resource_version(), change).await {
            Ok(written) => {
                self.object.metadata.resource_version = written.metadata.resource_version;
                self.object.metadata.generation = written.metadata.generation;
                Ok(Written::Done)
            }
            Err(error) if client::is_outdated(&error) => Ok(Written::Conflict),
            Err(kube::Error::Api(status)) if is_refusal(&status) => {
                Ok(Written::Refused(rejection(what, &status)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn warn(&self, reason: Reason, note: &str) {
        self.event(Event::warning(reason.as_str(), "Reconcile", note));
    }

    fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    fn event(&self, event: Event) {
        self.ctx.events.send(&self.object, &ApiResource::erase::<Module>(&()), event);
    }

    /// Creates Events if the Module's readiness or its reason changed, or if `immutable` was turned off.
    fn report(&self, before: &ModuleStatus, after: &ModuleStatus) {
        if let Some(note) = digests::unpinned(before, after) {
            self.event(Event::normal("ImmutableTurnedOff", "Reconcile", note));
        }
        let taken = |status: &ModuleStatus| {
            let addressable = condition::find(&status.conditions, ADDRESSABLE)?.clone();
            (addressable.reason == Reason::AddressTaken.as_str()).then_some(addressable)
        };
        if let (None, Some(taken)) = (taken(before), taken(after)) {
            self.event(Event::warning(&taken.reason, "Reconcile", taken.message));
        }
        let Some(ready) = condition::find(&after.conditions, "Ready") else { return };
        let before = condition::find(&before.conditions, "Ready");
        if before.is_some_and(|before| before.status == ready.status && before.reason == ready.reason) {
            return;
        }
        let (reason, note) = (&ready.reason, &ready.message);
        let is_warning = !Reason::is_progress(reason);
        self.event(Event { is_warning, ..Event::normal(reason, "Reconcile", note) });
    }
}

/// The limit of the API server, of etcd, or of the connection between them.
fn is_too_large(status: &Status) -> bool {
    let says = |words: &str| status.message.contains(words);
    !client::is_denied(status)
        && (status.code == 413 || says("request is too large") || says("message larger than max"))
}
