//! Reads and writes of one Version: the only place that writes to a Version object.
//!
//! Each write tests the resourceVersion that its decision was made on. If only metadata of others changed meanwhile, the write
//! is repeated on the newer object: a publish takes long, and its outcome must not be lost because of a label.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, GetParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use super::progress::Progress;
use super::snapshot::Snapshot;
use crate::api::state::VersionState;
use crate::api::{FINALIZER, Version, VersionStatus};
use crate::controller::client;

/// A Version that is being reconciled.
pub(crate) struct VersionClient {
    api: Api<DynamicObject>,
    raw: DynamicObject,
    current: Snapshot,
    progress: Arc<Progress>,
}

impl VersionClient {
    /// Reads a cached Version; `None` when it no longer exists, or when another object has its name.
    /// `touched`: whether this process has reconciled it before, and may have written what no cache holds yet.
    pub(crate) async fn read(
        client: &Client,
        cached: &VersionState,
        touched: bool,
        progress: &Arc<Progress>,
    ) -> Result<Option<Self>, kube::Error> {
        let api = client::objects::<Version>(client, cached.namespace());
        // A new one was not reconciled yet, so the API server's cache, at least as new as the watch event, is as good as a
        // read from etcd. The first write tests it.
        let is_new = cached.status.ready.is_none() && !touched;
        let known = cached.metadata.resource_version.as_deref().filter(|_| is_new);
        let params = known.map_or_else(GetParams::default, GetParams::at);
        let found = match api.get_with(cached.name(), &params).await {
            Ok(found) => Some(found),
            Err(error) if client::is_gone(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(found.filter(|raw| raw.metadata.uid == cached.metadata.uid).map(|raw| Self {
            api,
            current: Snapshot::of(&raw),
            raw,
            progress: Arc::clone(progress),
        }))
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The Version as it was last read or written.
    pub(crate) fn current(&self) -> &Snapshot {
        &self.current
    }

    /// The pruned part of [`Self::current`].
    pub(crate) fn version(&self) -> &VersionState {
        &self.current.version
    }

    pub(crate) fn reference(&self) -> ObjectReference {
        reference(self.version())
    }

    /// Writes what differs between the status that was read and `after`.
    pub(crate) async fn write_status(&mut self, after: &VersionStatus) -> Result<(), kube::Error> {
        for last_try in [false, false, true] {
            let version = self.raw.metadata.resource_version.clone();
            let result = client::patch_status(
                &self.api,
                self.current.version.name(),
                version.as_deref(),
                &self.current.status,
                after,
            )
            .await;
            match result {
                Ok(None) => return Ok(()),
                Ok(Some(raw)) => {
                    self.take(raw);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if client::is_conflict(&status) && !last_try => {
                    self.rebase().await?.ok_or(kube::Error::Api(status))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the Version, read again, still is what a decision was made on: `basis` takes that out of it. Not so for one
    /// that is gone.
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
        for last_try in [false, false, true] {
            match self.patch(json!({"spec": {"fileName": file_name}})).await {
                Err(kube::Error::Api(status)) if client::is_conflict(&status) && !last_try => {
                    self.rebase().await?.ok_or(kube::Error::Api(status))?;
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Reads again after a conflict. `None` when what the decision was made on is no longer so.
    async fn rebase(&mut self) -> Result<Option<()>, kube::Error> {
        let fresh = self.api.get(self.current.version.name()).await?;
        let same = |field: &str| fresh.data.get(field) == self.raw.data.get(field);
        let unchanged = fresh.metadata.uid == self.raw.metadata.uid
            && fresh.metadata.deletion_timestamp.is_some() == self.raw.metadata.deletion_timestamp.is_some()
            && same("spec")
            && same("status");
        if unchanged {
            self.take(fresh);
        }
        Ok(unchanged.then_some(()))
    }

    pub(crate) async fn patch(&mut self, change: Value) -> Result<(), kube::Error> {
        let version = self.raw.metadata.resource_version.clone();
        let raw = client::patch(&self.api, self.current.version.name(), version.as_deref(), change).await?;
        self.take(raw);
        Ok(())
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
        self.current = Snapshot::of(&raw);
        self.raw = raw;
    }
}

/// The reference of a Version for Events. It names no resourceVersion, with which an Event would aggregate with no other.
pub(super) fn reference(version: &VersionState) -> ObjectReference {
    ObjectReference { resource_version: None, ..version.object_ref(&()) }
}
