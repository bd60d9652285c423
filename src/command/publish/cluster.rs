//! The requests of `opendepot publish` to the API server.

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::stored::harmless;
use crate::api::{Module, REQUESTED_AT, Version};
use crate::command::connection::FIELD_MANAGER;
use crate::controller::client;

/// How often an append is sent again when others edit the Module.
const ATTEMPTS: u32 = 10;
/// Events that are printed.
const MAX_EVENTS: usize = 10;

/// The Modules and Versions of one namespace.
pub(crate) struct Cluster {
    client: Client,
    modules: Api<DynamicObject>,
    versions: Api<DynamicObject>,
    events: Api<Event>,
}

impl Cluster {
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            client: client.clone(),
            modules: client::objects::<Module>(client, namespace),
            versions: client::objects::<Version>(client, namespace),
            events: Api::namespaced(client.clone(), namespace),
        }
    }

    pub(crate) async fn module(&self, name: &str) -> Result<Value, Error> {
        value(&self.modules.get(name).await?)
    }

    /// `None` if it does not exist.
    pub(crate) async fn version(&self, name: &str) -> Result<Option<Value>, Error> {
        self.versions.get_opt(name).await?.as_ref().map(value).transpose()
    }

    /// Creates the Module, or merges the manifest's `moduleConfig` into the existing one. Returns what was done.
    pub(crate) async fn configure(&self, name: &str, manifest: &Manifest) -> Result<&'static str, Error> {
        match self.client.request::<Value>(self.creation(manifest)?).await {
            Ok(_) => return Ok("created"),
            Err(Error::Api(status)) if status.is_already_exists() && !client::is_denied(&status) => {}
            Err(error) => return Err(error),
        }
        self.modules.patch(name, &patch_params(), &Patch::Merge(manifest.patch())).await?;
        Ok("configured")
    }

    /// A POST with strict validation, which kube's parameters lack.
    fn creation(&self, manifest: &Manifest) -> Result<http::Request<Vec<u8>>, Error> {
        let path = self.modules.resource_url();
        let body = serde_json::to_vec(&manifest.object).map_err(Error::SerdeError)?;
        http::Request::post(format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(Error::HttpError)
    }

    /// Appends the version to the list. Returns false if the API server reports that it is there already.
    pub(crate) async fn append(&self, module: &str, version: &str) -> Result<bool, Error> {
        let operations = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
        let patch = Patch::Json::<Value>(serde_json::from_value(operations).map_err(Error::SerdeError)?);
        let mut attempt = 1;
        loop {
            match self.modules.patch(module, &patch_params(), &patch).await {
                Ok(_) => return Ok(true),
                Err(Error::Api(status)) if is_duplicate(&status) => return Ok(false),
                Err(Error::Api(status)) if client::is_conflict(&status) && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Requests one full sync of a Version.
    pub(crate) async fn request_sync(&self, version: &str, request: &str) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {REQUESTED_AT: request}}});
        self.versions.patch(version, &patch_params(), &Patch::Merge(patch)).await.map(drop)
    }

    /// The newest Events of an object, for a log. None if they cannot be read.
    pub(crate) async fn events(&self, object: &Value) -> Vec<String> {
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(500);
        let Ok(list) = self.events.list(&params).await else { return Vec::new() };
        let time = |event: &Event| {
            let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
            let time = series.or(event.event_time.as_ref()).map(|time| time.0);
            time.or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        };
        let mut events = list.items;
        events.sort_by_key(time);
        let newest = events.len().saturating_sub(MAX_EVENTS);
        let line = |event: &Event| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            harmless(&format!("  {} {}: {}", text(&event.type_), text(&event.reason), text(&event.message)))
        };
        events[newest..].iter().map(line).collect()
    }
}

fn value(object: &DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(Error::SerdeError)
}

fn patch_params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).validation_strict()
}

/// `spec.versions` is a map with the version as its key, so the schema rejects the same spelling twice.
fn is_duplicate(status: &kube::core::Status) -> bool {
    let causes = status.details.as_ref().map_or(&[][..], |details| details.causes.as_slice());
    let [cause] = causes else { return false };
    status.code == 422 && cause.reason == "FieldValueDuplicate" && cause.field.starts_with("spec.versions[")
}
