//! Sends what a plan consists of: creates, then changes, then deletes.
//!
//! In: the part of a plan that is due, and the Module it was made for. Out: API requests, each of which tests what the plan
//! was made on (a POST that finds the name taken, a patch with resourceVersion, a delete with UID and resourceVersion). A
//! refusal for that reason means that the watch has news, and is not an error: the next reconcile sees them. What the
//! API server refuses otherwise, and when it is sent again, [`Attempts`] decides.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::attempts::{Attempts, Due, Outcome, Planned};
use super::names::label_value;
use super::plan::{Change, Create, FileName, Target};
use super::select::ModuleView;
use crate::api::version::TYPE_MODULE;
use crate::api::{
    ADOPT, FINALIZER, GROUP, MODULE_LABEL, MODULE_REQUEST, ModuleConfig, NAMESPACE_LABEL, VERSION, Version,
};
use crate::controller::client;
pub(super) use crate::controller::client::is_refusal;
use crate::domain::Release;
use crate::domain::object_key::{derived_file_name, fresh_file_name};
use crate::domain::text::cut;

/// Without an answer for so long, a run sends nothing more and lets another Module have its turn.
const SLOW: Duration = Duration::from_secs(2);

/// Longest part of the API server's words that is kept: a webhook may answer with a page.
pub(super) const MOST_WORDS: usize = 400;

/// A Module's turn. One whose requests are slow gives it back before its end.
pub type Turn = Option<OwnedSemaphorePermit>;

/// What running a plan did, counted for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Versions created.
    pub created: usize,
    /// Versions changed.
    pub changed: usize,
    /// Versions deleted.
    pub deleted: usize,
    /// Requests that the API server refused. They held up nothing else.
    pub refused: usize,
    /// Whether there is more to send that nothing keeps back.
    pub more: bool,
}

impl Done {
    /// One line, where something was done.
    pub fn log(&self) {
        let Self { created, changed, deleted, .. } = self;
        if created + changed + deleted > 0 {
            tracing::info!(created, changed, deleted, "Versions brought up to date");
        }
    }
}

/// Sends what is due. An error is one that speaks of no single object, and ends it. What was done is found done next time.
pub fn apply<'a>(
    client: &Client,
    module: &'a ModuleView,
    due: &'a Due<'a>,
    attempts: &'a mut Attempts,
    turn: &'a mut Turn,
) -> BoxFuture<'a, Result<Done, kube::Error>> {
    let namespace = module.metadata.namespace.as_deref().unwrap_or_default();
    let (api, resolved) = (client::objects::<Version>(client, namespace), module.resolved());
    async move {
        let (api, resolved) = (&api, &resolved);
        let mut runner = Runner { attempts, turn, done: Done::default() };
        let create = |c| create(api, module, resolved, c).boxed();
        let created = runner.run("created", &due.create, create).await?;
        let change = |c| change(api, module, resolved, c).boxed();
        let changed = runner.run("changed", &due.change, change).await?;
        let deleted = runner.run("deleted", &due.delete, |target| delete(api, target).boxed()).await?;
        Ok(Done { created, changed, deleted, ..runner.done })
    }
    .boxed()
}

struct Runner<'a> {
    attempts: &'a mut Attempts,
    turn: &'a mut Turn,
    done: Done,
}

type Request<'a> = BoxFuture<'a, Result<(), kube::Error>>;

impl Runner<'_> {
    /// Sends requests of one kind, made one by one as there is room for them. Gives how many were done.
    async fn run<'a, T: Planned>(
        &mut self,
        verb: &'static str,
        due: &[&'a T],
        request: impl Fn(&'a T) -> Request<'a>,
    ) -> Result<usize, kube::Error> {
        if due.is_empty() {
            return Ok(0);
        }
        if self.attempts.distrusts(due) {
            drop(self.turn.take());
        }
        let mut run = self.attempts.start(T::VERB);
        // By number, and not with an iterator: its adapters would have to be `Send` for every lifetime.
        let (mut sent, mut under_way) = (0, FuturesUnordered::new());
        let (mut done, mut error) = (0, None);
        loop {
            while under_way.len() < run.at_once()
                && let Some(&item) = due.get(sent)
            {
                let request = request(item);
                under_way.push(async move { (item, request.await) });
                sent += 1;
            }
            let Some((item, result)) = self.next_of(&mut under_way, &mut run).await else { break };
            let outcome = outcome(verb, item.name(), result).unwrap_or_else(|failed| {
                error = Some(failed);
                Outcome::Failed
            });
            done += usize::from(outcome == Outcome::Done);
            self.done.refused += usize::from(matches!(outcome, Outcome::Refused(_)));
            let when = (Instant::now(), rand::random());
            self.attempts.ended(&mut run, (item.name(), item.seen()), outcome, when);
        }
        self.attempts.finish(&run, (Instant::now(), rand::random()));
        self.done.more |= sent < due.len() && !self.attempts.waits(T::VERB);
        error.map_or(Ok(done), Err)
    }

    /// The next answer. While none comes nothing more is sent, and others have the turn.
    async fn next_of<F: Future>(
        &mut self,
        under_way: &mut FuturesUnordered<F>,
        run: &mut super::attempts::Run,
    ) -> Option<F::Output> {
        if let Ok(next) = tokio::time::timeout(SLOW, under_way.next()).await {
            return next;
        }
        run.stop();
        drop(self.turn.take());
        under_way.next().await
    }
}

/// What an answer says of the one object that it was about; an error speaks of all.
fn outcome(verb: &str, name: &str, result: Result<(), kube::Error>) -> Result<Outcome, kube::Error> {
    match result {
        Ok(()) => Ok(Outcome::Done),
        Err(kube::Error::Api(status))
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
        {
            tracing::debug!(message = status.message, "outdated: reading again");
            Ok(Outcome::Outdated)
        }
        // A quota, an admission webhook, a rule of the schema: it speaks of one object.
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            let words = cut(&status.message, MOST_WORDS);
            Ok(Outcome::Refused(format!("Version {name} cannot be {verb}, the API server refuses: {words}")))
        }
        Err(error) => Err(error),
    }
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
    let params = PostParams { field_manager: Some(client::FIELD_MANAGER.into()), ..PostParams::default() };
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
    client::patch(api, &change.target.name, Some(&change.target.resource_version), patch).await.map(drop)
}

/// The merge patch of a change, given the object as it is.
fn patch(module: &ModuleView, resolved: &ModuleConfig, change: &Change, current: &DynamicObject) -> Value {
    let (mut spec, mut metadata) = (Map::new(), Map::new());
    if let Some(file_name) = change.config {
        let before = current.data.pointer("/spec/moduleConfigRef").cloned().unwrap_or(json!({}));
        let after = serde_json::to_value(resolved).unwrap_or_default();
        if let Some(diff) = client::merge_diff(&before, &after) {
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
    let resource = ApiResource::erase::<crate::api::Module>(&());
    OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: module.metadata.name.clone().unwrap_or_default(),
        uid: module.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
