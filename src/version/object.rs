//! One Version as it was last read, and the writes to it.
//!
//! In: what to write. Out: the object as it is after the write. Each write tests the resourceVersion that the decision
//! was made on; where only metadata of others moved meanwhile, it is repeated on the newer one, since a publish takes
//! long and its outcome must not be lost to a label.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, GetParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

use super::plan::VersionView;
use crate::api::state::{VersionState, retains};
use crate::api::{FINALIZER, Version, VersionStatus, requests};
use crate::controller::client;

/// A Version that is being worked on.
pub struct Object {
    api: Api<DynamicObject>,
    raw: DynamicObject,
    view: VersionView,
}

impl Object {
    /// Reads the Version that `lean` stands for; `None` when it is gone or another took its name.
    /// `touched`: whether this process has worked on it before, and may have written what no cache knows yet.
    pub async fn read(
        client: &Client,
        lean: &VersionState,
        touched: bool,
    ) -> Result<Option<Self>, kube::Error> {
        let namespace = lean.metadata.namespace.as_deref().unwrap_or_default();
        let api = client::objects::<Version>(client, namespace);
        // Nobody has worked on a new one yet: what the API server has in memory, no older than what the watch told, is as
        // good as what it would have to ask etcd for. The first write tests it.
        let new = lean.status.ready.is_none() && !touched;
        let known = lean.metadata.resource_version.as_deref().filter(|_| new);
        let params = known.map_or_else(GetParams::default, GetParams::at);
        let found = match api.get_with(lean.metadata.name.as_deref().unwrap_or_default(), &params).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(found.filter(|raw| raw.metadata.uid == lean.metadata.uid).map(|raw| Self {
            api,
            view: view(&raw),
            raw,
        }))
    }

    /// The Version as it was last read.
    pub fn view(&self) -> &VersionView {
        &self.view
    }

    /// For Events.
    pub fn reference(&self) -> ObjectReference {
        let mut reference = self.raw.object_ref(&kube::api::ApiResource::erase::<Version>(&()));
        // An Event about a field path or an old resourceVersion aggregates with nothing.
        reference.resource_version = None;
        reference
    }

    /// Writes what differs between the status that was read and `after`.
    pub async fn write_status(&mut self, after: &VersionStatus) -> Result<(), kube::Error> {
        for last_try in [false, false, true] {
            let version = self.raw.metadata.resource_version.clone();
            let result = client::patch_status(
                &self.api,
                self.view.name(),
                version.as_deref(),
                &self.view.status,
                after,
            )
            .await;
            match result {
                Ok(None) => return Ok(()),
                Ok(Some(raw)) => {
                    self.take(raw);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.is_conflict() && !last_try => {
                    self.rebase().await?.ok_or(kube::Error::Api(status))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the Version, read again, still is what a decision was made on: `basis` takes that out of it. Not so for one
    /// that is gone.
    pub async fn still<T: PartialEq>(&self, basis: impl Fn(&VersionView) -> T) -> Result<bool, kube::Error> {
        match self.api.get(self.view.name()).await {
            Ok(fresh) => Ok(basis(&view(&fresh)) == basis(&self.view)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a fresh `spec.fileName`: other content gets a key of its own.
    pub async fn write_file_name(&mut self, file_name: &str) -> Result<(), kube::Error> {
        for last_try in [false, false, true] {
            match self.patch(json!({"spec": {"fileName": file_name}})).await {
                Err(kube::Error::Api(status)) if status.is_conflict() && !last_try => {
                    self.rebase().await?.ok_or(kube::Error::Api(status))?;
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Reads again after a conflict. `None` when what the decision was made on is no longer so.
    async fn rebase(&mut self) -> Result<Option<()>, kube::Error> {
        let fresh = self.api.get(self.view.name()).await?;
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

    /// Writes a merge patch of spec or metadata.
    pub async fn patch(&mut self, change: Value) -> Result<(), kube::Error> {
        let version = self.raw.metadata.resource_version.clone();
        let raw = client::patch(&self.api, self.view.name(), version.as_deref(), change).await?;
        self.take(raw);
        Ok(())
    }

    /// Adds our finalizer beside those of others.
    pub async fn add_finalizer(&mut self) -> Result<(), kube::Error> {
        let mut all = self.raw.metadata.finalizers.clone().unwrap_or_default();
        all.push(FINALIZER.to_owned());
        self.patch(json!({"metadata": {"finalizers": all}})).await
    }

    /// Lets the Version go. One that is gone already is let go.
    pub async fn remove_finalizer(&mut self) -> Result<(), kube::Error> {
        let mut all = self.raw.metadata.finalizers.clone().unwrap_or_default();
        all.retain(|f| f != FINALIZER);
        match self.patch(json!({"metadata": {"finalizers": all}})).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn take(&mut self, raw: DynamicObject) {
        self.view = view(&raw);
        self.raw = raw;
    }
}

pub(super) fn view(raw: &DynamicObject) -> VersionView {
    let retain = raw.data.pointer("/spec/moduleConfigRef").is_some_and(retains);
    let mut metadata = raw.metadata.clone();
    metadata.annotations.iter_mut().for_each(requests::shorten_annotations);
    let mut status: VersionStatus = client::part(raw, "status").unwrap_or_default();
    let recorded = [&mut status.last_handled_request, &mut status.last_module_request];
    recorded.into_iter().flatten().for_each(requests::shorten_recorded);
    VersionView { metadata, spec: client::part(raw, "spec"), status, retain }
}
