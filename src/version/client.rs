//! Reads and writes of one Version: the only location that writes to a Version object.
//!
//! Each write tests the resourceVersion that its decision was made on. If only labels or other metadata changed meanwhile, the
//! write is repeated on the newer object, because a publish takes long and its outcome must not be lost. The same applies to a
//! change of the deletion policy, on which that outcome does not depend.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use kube::Client;
use kube::api::{Api, DynamicObject, GetParams};
use serde_json::{Value, json};

use super::memory::ChangeKey;
use super::progress::Progress;
use super::status::{Snapshot, at_generation};
use crate::api::state::VersionState;
use crate::api::{FINALIZER, MODULE_LABEL, NAMESPACE_LABEL, Version, VersionStatus};
use crate::controller::client;

/// How often a write is repeated on a newer object.
const MAX_REPETITIONS: u32 = 2;

/// A Version that is being reconciled.
pub(crate) struct VersionClient {
    api: Api<DynamicObject>,
    raw: DynamicObject,
    /// The Version as it was last read or written.
    pub(super) current: Snapshot,
    pub(super) progress: Arc<Progress>,
    /// Whether another client has made a newer generation since the Version was read, whose spec describes the same object.
    pub(super) has_newer_generation: bool,
}

impl VersionClient {
    /// Reads a cached Version; `None` if it no longer exists, or if another object has its name.
    /// `touched`: whether this process has reconciled it before, so that caches may be behind its writes.
    pub(crate) async fn read(
        client: &Client,
        cached: &VersionState,
        touched: bool,
        progress: &Arc<Progress>,
    ) -> Result<Option<Self>, kube::Error> {
        let api = client::objects::<Version>(client, cached.namespace());
        // A new Version was not written by this process, so the API server's cache, which is at least as new as the watch
        // event, replaces a read from etcd. The first write tests it.
        let is_new = cached.status.ready.is_none() && !touched;
        let known = cached.metadata.resource_version.as_deref().filter(|_| is_new);
        let params = known.map_or_else(GetParams::default, GetParams::at);
        let read = match api.get_with(cached.name(), &params).await {
            // Behind a load balancer, another API server than that of the watch may not have this resourceVersion yet.
            Err(kube::Error::Api(status)) if status.code == 504 && known.is_some() => {
                api.get(cached.name()).await
            }
            read => read,
        };
        let raw = match read {
            Ok(raw) if raw.metadata.uid == cached.metadata.uid => with_own_labels(raw),
            Err(error) if !client::is_gone(&error) => return Err(error),
            _ => return Ok(None),
        };
        let (current, progress) = (Snapshot::of(&raw), Arc::clone(progress));
        if ChangeKey::of(&current.version) != ChangeKey::of(cached) {
            // It may be a request for a sync, made during the wait for a permit.
            *progress.begun.lock() = Some(Instant::now());
        }
        Ok(Some(Self { api, raw, current, progress, has_newer_generation: false }))
    }

    /// The pruned part of `current`.
    pub(crate) fn version(&self) -> &VersionState {
        &self.current.version
    }

    /// Writes what differs between the status that was read and `after`.
    pub(crate) async fn write_status(&mut self, after: &VersionStatus) -> Result<(), kube::Error> {
        let mut after = Cow::Borrowed(after);
        // A write that removes objects from the record depends on the deletion policy, so it is not repeated under another one.
        let strikes = self.current.status.objects.iter().any(|location| !after.objects.contains(location));
        let mut conflicts = 0;
        let accepts = |since: Since, _: &VersionState| since != Since::Policy || !strikes;
        while let Err(error) = self.patch_status(&after).await {
            let before = self.version().generation();
            if self.rebase(error, &mut conflicts, accepts).await? == Since::Policy {
                after = Cow::Owned(at_generation(&after, before, self.version().generation()));
            }
        }
        Ok(())
    }

    async fn patch_status(&mut self, after: &VersionStatus) -> Result<(), kube::Error> {
        let (name, version) = (self.current.version.name(), self.raw.metadata.resource_version.as_deref());
        let raw = client::patch_status(&self.api, name, version, &self.current.status, after).await?;
        if let Some(raw) = raw {
            self.take(raw);
        }
        Ok(())
    }

    /// Reads the Version again. Returns whether it still exists, and has the same `basis` for a decision.
    pub(crate) async fn still<T: PartialEq>(
        &self,
        basis: impl Fn(&VersionState) -> T,
    ) -> Result<bool, kube::Error> {
        match self.api.get(self.current.version.name()).await {
            Ok(fresh) => Ok(basis(&Snapshot::of(&fresh).version) == basis(self.version())),
            Err(error) if client::is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a fresh `spec.fileName`: other content gets its own key.
    pub(crate) async fn write_file_name(&mut self, file_name: &str) -> Result<(), kube::Error> {
        // Before the write, whose event may arrive before its answer.
        self.progress.file_names.lock().push(file_name.into());
        self.write_spec(&json!({"fileName": file_name}), false).await
    }

    /// Resets `spec.forceSync`, whose outcome is in the status.
    pub(crate) async fn reset_force(&mut self) -> Result<(), kube::Error> {
        self.write_spec(&json!({"forceSync": false}), true).await
    }

    /// `ends_request`: whether it ends the forced sync of this generation. A force that was reset and set again is another one.
    async fn write_spec(&mut self, change: &Value, ends_request: bool) -> Result<(), kube::Error> {
        let mut conflicts = 0;
        let accepts = |since: Since, version: &VersionState| {
            since != Since::Generation || (!ends_request && !version.force_sync)
        };
        while let Err(error) = self.patch(json!({"spec": change})).await {
            self.rebase(error, &mut conflicts, accepts).await?;
        }
        Ok(())
    }

    /// Reads again after a conflict, unless there were too many in a row. Returns what has changed if the decision still applies,
    /// and otherwise the error of the write. `accepts`: whether it applies after such a change, to the Version as it is now.
    async fn rebase(
        &mut self,
        error: kube::Error,
        conflicts: &mut u32,
        accepts: impl FnOnce(Since, &VersionState) -> bool,
    ) -> Result<Since, kube::Error> {
        let is_conflict = matches!(&error, kube::Error::Api(status) if client::is_conflict(status));
        if !is_conflict || *conflicts == MAX_REPETITIONS {
            return Err(error);
        }
        *conflicts += 1;
        let fresh = self.api.get(self.current.version.name()).await?;
        let is_terminating = self.raw.metadata.deletion_timestamp.is_some();
        let is_same = fresh.metadata.uid == self.raw.metadata.uid
            && fresh.metadata.deletion_timestamp.is_some() == is_terminating
            && fresh.data.get("status") == self.raw.data.get("status");
        let since =
            since(&self.raw, &fresh).filter(|since| is_same && (*since != Since::Policy || !is_terminating));
        let Some(since) = since else { return Err(error) };
        self.has_newer_generation |= since != Since::Metadata;
        self.take(fresh);
        if accepts(since, self.version()) { Ok(since) } else { Err(error) }
    }

    async fn patch(&mut self, change: Value) -> Result<(), kube::Error> {
        let version = self.raw.metadata.resource_version.as_deref();
        let raw = client::patch(&self.api, self.current.version.name(), version, change).await?;
        self.take(raw);
        Ok(())
    }

    /// Whether another client's finalizer keeps the Version when ours is removed.
    pub(crate) fn has_other_finalizers(&self) -> bool {
        self.raw.metadata.finalizers.iter().flatten().any(|finalizer| finalizer != FINALIZER)
    }

    pub(crate) async fn add_finalizer(&mut self) -> Result<(), kube::Error> {
        let mut all = self.raw.metadata.finalizers.clone().unwrap_or_default();
        all.push(FINALIZER.to_owned());
        self.patch(json!({"metadata": {"finalizers": all}})).await
    }

    /// Removes our finalizer. A Version that no longer exists is no error.
    pub(crate) async fn remove_finalizer(&mut self) -> Result<(), kube::Error> {
        let mut all = self.raw.metadata.finalizers.clone().unwrap_or_default();
        all.retain(|f| f != FINALIZER);
        match self.patch(json!({"metadata": {"finalizers": all}})).await {
            Err(error) if client::is_gone(&error) => Ok(()),
            result => result,
        }
    }

    fn take(&mut self, raw: DynamicObject) {
        self.raw = with_own_labels(raw);
        self.current = Snapshot::of(&self.raw);
    }
}

/// Without other labels, of which there may be a hundred thousand: the object is in memory until its reconcile ends.
fn with_own_labels(mut raw: DynamicObject) -> DynamicObject {
    if let Some(labels) = &mut raw.metadata.labels {
        labels.retain(|label, _| [MODULE_LABEL, NAMESPACE_LABEL].contains(&label.as_str()));
    }
    raw
}

/// What has changed in a Version whose spec describes the same object as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Its generation is the same.
    Metadata,
    /// The deletion policy has changed, and nothing else.
    Policy,
    /// The spec was changed, and changed back.
    Generation,
}

/// `None` if the spec describes another object. More than one new generation is too much for a change of the policy: a forced
/// sync may have been reset and set again.
fn since(before: &DynamicObject, now: &DynamicObject) -> Option<Since> {
    let [(old, first), (new, last)] =
        [before, now].map(|raw| (raw.data.get("spec"), raw.metadata.generation));
    if old == new {
        return Some(if first == last { Since::Metadata } else { Since::Generation });
    }
    let is_next = first.map(|generation| generation + 1) == last;
    (is_next && without_policy(old) == without_policy(new)).then_some(Since::Policy)
}

/// A spec without its deletion policy.
fn without_policy(spec: Option<&Value>) -> Option<Value> {
    let mut spec = spec.cloned()?;
    if let Some(config) = spec.get_mut("moduleConfigRef").and_then(Value::as_object_mut) {
        config.remove("deletionPolicy");
    }
    Some(spec)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn a_new_version_is_read_although_an_api_server_is_behind() {
        let object = json!({"metadata": {"name": "net-1.0.0", "namespace": "acme", "resourceVersion": "7"}});
        let cached: VersionState = serde_json::from_value(object.clone()).unwrap();
        let server = tower::service_fn(move |request: Request<Body>| {
            let is_behind = request.uri().query().is_some_and(|query| query.contains("resourceVersion=7"));
            let (status, answer) = if is_behind {
                (504, json!({"status": "Failure", "message": "Too large resource version", "code": 504}))
            } else {
                (200, object.clone())
            };
            let body = Full::new(Bytes::from(answer.to_string()));
            std::future::ready(Response::builder().status(status).body(body))
        });
        let client = Client::new(server, "default");
        let progress = Arc::<Progress>::default();
        let read = VersionClient::read(&client, &cached, false, &progress).await.unwrap();
        assert_eq!(read.unwrap().version().name(), "net-1.0.0");
        assert_eq!(*progress.begun.lock(), None);
        let mut older = cached;
        older.metadata.generation = Some(1);
        assert!(VersionClient::read(&client, &older, false, &progress).await.unwrap().is_some());
        assert!(progress.begun.lock().is_some(), "a request may be part of the change");
    }

    #[test]
    fn labels_of_others_are_not_kept() {
        let labels =
            json!({"a": "", MODULE_LABEL: "net", NAMESPACE_LABEL: "acme", "opendepot.defdev.io/other": ""});
        let raw = serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap();
        let kept = with_own_labels(raw).metadata.labels.unwrap();
        assert!(kept.into_keys().eq([MODULE_LABEL, NAMESPACE_LABEL]));
    }

    #[test]
    fn a_request_that_is_made_again_is_told_from_a_change_of_the_policy() {
        let version = |generation: i64, spec: Value| -> DynamicObject {
            serde_json::from_value(json!({"metadata": {"generation": generation}, "spec": spec})).unwrap()
        };
        let spec = |policy: &str, force: bool| json!({"forceSync": force, "moduleConfigRef": {"deletionPolicy": policy}});
        let before = version(4, spec("Delete", true));
        for (generation, spec, expected) in [
            (4, spec("Delete", true), Some(Since::Metadata)),
            (6, spec("Delete", true), Some(Since::Generation)),
            (5, spec("Retain", true), Some(Since::Policy)),
            (7, spec("Retain", true), None),
            (5, spec("Delete", false), None),
        ] {
            assert_eq!(since(&before, &version(generation, spec)), expected, "{generation}");
        }
    }
}
