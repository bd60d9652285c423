//! Runs a [`Plan`]: creates, then changes, then deletes.
//!
//! In: a plan and the Module it was made for. Out: API requests, each of which tests what the plan was made on (a POST
//! that finds the name taken, a patch with resourceVersion, a delete with UID and resourceVersion). A refusal for that
//! reason means that the watch has news, and is not an error: the next reconcile sees them.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions};
use kube::core::Status;
use serde_json::{Map, Value, json};

use super::names::label_value;
use super::plan::{Change, Create, FileName, Plan, Target};
use super::select::ModuleView;
use crate::api;
use crate::crd::version::TYPE_MODULE;
use crate::crd::{
    ADOPT, FINALIZER, GROUP, MODULE_LABEL, MODULE_REQUEST, ModuleConfig, NAMESPACE_LABEL, VERSION, Version,
    release::Release,
};
use crate::version::plan::{derived_file_name, fresh_file_name};

/// API requests of one Module under way at once.
const AT_ONCE: usize = 8;

/// What the API server refused, by the Version's name.
pub type Refused = BTreeMap<String, String>;

/// What running a plan did, counted for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Names of the Versions created.
    pub created: Vec<String>,
    /// Versions changed.
    pub changed: usize,
    /// Versions deleted.
    pub deleted: usize,
    /// Requests that found the object other than the plan had seen it.
    pub outdated: usize,
    /// What the API server refused, by the Version's name, in words for a person. It held up nothing else.
    pub refused: Refused,
}

impl Done {
    /// One line, where something was done.
    pub fn log(&self) {
        let (created, Self { changed, deleted, .. }) = (self.created.len(), self);
        if created + changed + deleted > 0 {
            tracing::info!(created, changed, deleted, "Versions brought up to date");
        }
    }
}

/// Runs `plan`. An error is one that speaks of no single object, and ends it. What was done is found done next time.
pub async fn apply(client: &Client, module: &ModuleView, plan: &Plan) -> Result<Done, kube::Error> {
    let namespace = module.metadata.namespace.as_deref().unwrap_or_default();
    let api = api::objects::<Version>(client, namespace);
    let resolved = module.resolved();
    let mut done = Done::default();
    let creates = plan.create.iter().map(|c| named(&c.name, create(&api, module, &resolved, c)));
    done.created = done.run("created", creates.collect()).await?;
    let changes = plan.change.iter().map(|c| named(&c.target.name, change(&api, module, &resolved, c)));
    done.changed = done.run("changed", changes.collect()).await?.len();
    let deletes = plan.delete.iter().map(|target| named(&target.name, delete(&api, target)));
    done.deleted = done.run("deleted", deletes.collect()).await?.len();
    Ok(done)
}

type Request<'a> = BoxFuture<'a, (&'a str, Result<(), kube::Error>)>;

fn named<'a>(
    name: &'a str,
    request: impl Future<Output = Result<(), kube::Error>> + Send + 'a,
) -> Request<'a> {
    async move { (name, request.await) }.boxed()
}

impl Done {
    /// Gives the names of what was done.
    async fn run(&mut self, verb: &str, requests: Vec<Request<'_>>) -> Result<Vec<String>, kube::Error> {
        let mut results = stream::iter(requests).buffer_unordered(AT_ONCE);
        let mut done = Vec::new();
        while let Some((name, result)) = results.next().await {
            match result {
                Ok(()) => done.push(name.to_owned()),
                Err(kube::Error::Api(status))
                    if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
                {
                    tracing::debug!(message = status.message, "outdated: reading again");
                    self.outdated += 1;
                }
                // A quota, an admission webhook, a rule of the schema: it speaks of one object.
                Err(kube::Error::Api(status)) if is_refusal(&status) => {
                    let words = format!(
                        "Version {name} cannot be {verb}, the API server refuses: {}",
                        status.message
                    );
                    self.refused.insert(name.to_owned(), words);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// Whether an answer speaks of this one object. A webhook that cannot be reached gives 500.
pub(super) fn is_refusal(status: &Status) -> bool {
    matches!(status.code, 400..=428 | 430..=500)
}

async fn create(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    resolved: &ModuleConfig,
    create: &Create,
) -> Result<(), kube::Error> {
    let mut metadata = json!({
        "name": create.name,
        "namespace": module.metadata.namespace,
        "labels": labels(module),
        "finalizers": [FINALIZER],
        "ownerReferences": [owner(module)],
        "annotations": {ADOPT: module.metadata.name},
    });
    if let Some(token) = module.open_request() {
        metadata["annotations"][MODULE_REQUEST] = json!(token);
    }
    let mut spec = json!({
        "type": TYPE_MODULE,
        "version": create.version,
        "fileName": fresh_file_name(resolved.file_format),
        "moduleConfigRef": resolved,
    });
    if let Some(digest) = &create.expected_digest {
        spec["expectedDigest"] = json!(digest);
    }
    let object = DynamicObject {
        types: Some(kube::api::TypeMeta {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "Version".into(),
        }),
        metadata: serde_json::from_value(metadata).map_err(kube::Error::SerdeError)?,
        data: json!({"spec": spec}),
    };
    let params = PostParams { field_manager: Some(api::FIELD_MANAGER.into()), ..PostParams::default() };
    api.create(&params, &object).await.map(drop)
}

async fn change(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    resolved: &ModuleConfig,
    change: &Change,
) -> Result<(), kube::Error> {
    let current = api.get(&change.target.name).await?;
    if current.metadata.uid.as_ref() != Some(&change.target.uid) {
        return Ok(());
    }
    let patch = patch(module, resolved, change, &current);
    api::patch(api, &change.target.name, Some(&change.target.resource_version), patch).await.map(drop)
}

/// The merge patch of a change, given the object as it is.
fn patch(module: &ModuleView, resolved: &ModuleConfig, change: &Change, current: &DynamicObject) -> Value {
    let (mut spec, mut metadata) = (Map::new(), Map::new());
    if let Some(file_name) = change.config {
        let before = current.data.pointer("/spec/moduleConfigRef").cloned().unwrap_or(json!({}));
        let after = serde_json::to_value(resolved).unwrap_or_default();
        if let Some(diff) = api::merge_diff(&before, &after) {
            spec.insert("moduleConfigRef".into(), diff);
        }
        match file_name {
            FileName::Keep => {}
            FileName::Fresh => {
                spec.insert("fileName".into(), json!(fresh_file_name(resolved.file_format)));
            }
            FileName::Derived => drop(spec.insert("fileName".into(), json!(derived(resolved, current)))),
        }
    }
    if let (Some(retain), None) = (change.retain, change.config) {
        let policy = if retain { "Retain" } else { "Delete" };
        spec.insert("moduleConfigRef".into(), json!({"deletionPolicy": policy}));
    }
    if let Some(suspended) = change.suspended {
        spec.insert("moduleSuspended".into(), if suspended { json!(true) } else { Value::Null });
    }
    if let Some(expected) = &change.expected_digest {
        spec.insert("expectedDigest".into(), json!(expected));
    }
    let (mut annotations, own) = (Map::new(), current.metadata.annotations.as_ref());
    if own.and_then(|own| own.get(ADOPT)) != module.metadata.name.as_ref() {
        annotations.insert(ADOPT.into(), json!(module.metadata.name));
    }
    if let Some(token) = &change.request {
        annotations.insert(MODULE_REQUEST.into(), json!(token));
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), annotations.into());
    }
    if change.adopt {
        let mut finalizers = current.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        metadata.insert("finalizers".into(), json!(finalizers));
        metadata.insert("labels".into(), labels(module));
        let mut owners = current.metadata.owner_references.clone().unwrap_or_default();
        let mine = owner(module);
        owners.retain(|o| o.uid != mine.uid);
        owners.push(mine);
        metadata.insert("ownerReferences".into(), json!(owners));
    }
    let mut patch = Map::new();
    if !spec.is_empty() {
        patch.insert("spec".into(), spec.into());
    }
    if !metadata.is_empty() {
        patch.insert("metadata".into(), metadata.into());
    }
    patch.into()
}

async fn delete(api: &Api<DynamicObject>, target: &Target) -> Result<(), kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: Some(target.resource_version.clone()),
        }),
        ..DeleteParams::background()
    };
    api.delete(&target.name, &params).await.map(drop)
}

fn derived(resolved: &ModuleConfig, current: &DynamicObject) -> Option<String> {
    let version = current.data.pointer("/spec/version")?.as_str()?;
    let release = Release::parse(version).ok()?;
    let (namespace, name) = (current.metadata.namespace.as_deref()?, current.metadata.name.as_deref()?);
    Some(derived_file_name(namespace, name, &release, resolved.file_format))
}

fn labels(module: &ModuleView) -> Value {
    json!({
        MODULE_LABEL: label_value(module.metadata.name.as_deref().unwrap_or_default()),
        NAMESPACE_LABEL: label_value(module.metadata.namespace.as_deref().unwrap_or_default()),
    })
}

fn owner(module: &ModuleView) -> OwnerReference {
    let resource = ApiResource::erase::<crate::crd::Module>(&());
    OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: module.metadata.name.clone().unwrap_or_default(),
        uid: module.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
