//! Tests of the pure core, and the Modules and Versions that they are made with: JSON as the API server keeps it.
#![expect(clippy::needless_pass_by_value, reason = "fixtures read best with json!() in place")]

mod addresses;
mod attempts;
mod life;
mod model;
mod plan;
mod removal;
mod select;
mod status;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::edit::{Change, Edit};
use super::file_name::FileName;
use super::ledger::Ledger;
use super::plan::Plan;
use super::rejected_requests::RejectedRequests;
use super::select::Selection;
use super::status::Facts;
use super::view::ModuleView;
use crate::api::state::VersionState;
use crate::api::{FINALIZER, MODULE_REQUEST, ModuleStatus, NAMESPACE_LABEL};
use crate::domain::Release;

const UID: &str = "uid-of-network";

/// A Module as it is stored.
#[derive(Clone, Debug)]
struct ModuleFixture(Value);

/// A Version as it is stored.
#[derive(Clone, Debug)]
struct ChildFixture(Value);

/// A moment, in seconds.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A Module that wants nothing yet.
fn module() -> ModuleFixture {
    ModuleFixture(json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
        "metadata": {"name": "network", "namespace": "acme", "uid": UID, "resourceVersion": "7", "generation": 3},
        "spec": {
            "versions": [],
            "moduleConfig": {
                "provider": "aws", "repoUrl": "https://github.com/acme/network",
                "storageConfig": {"s3": {"bucket": "shelf", "region": "us-west-2"}},
            },
        },
    }))
}

/// A Version that [`module`] has just created.
fn child(version: &str) -> ChildFixture {
    let release = Release::parse(version).unwrap();
    ChildFixture(json!({
        "metadata": {
            "name": crate::api::object_name::version_object("network", &release), "namespace": "acme",
            "uid": format!("uid-of-{release}"), "resourceVersion": "10", "generation": 1, "finalizers": [FINALIZER],
            "ownerReferences": [{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "network",
                "uid": UID, "controller": true}],
        },
        "spec": {
            "type": "Module", "version": version, "fileName": format!("{release}.zip"),
            "moduleConfigRef": module().view().resolved,
        },
    }))
}

/// A Version of [`module`] whose object is stored.
fn stored_child(version: &str) -> ChildFixture {
    let digest = format!("h1:{}", Release::parse(version).unwrap());
    child(version)
        .with(json!({"status": {"synced": true, "checksum": "c3Vt", "contentDigest": digest}}))
        .stored_as_wanted()
        .ready("True", "Synced", "")
}

/// A Version of [`module`] that was never stored.
fn failed_child(version: &str) -> ChildFixture {
    child(version).with(json!({"status": {"synced": false}})).ready("False", "TagNotFound", "no such tag")
}

impl ModuleFixture {
    fn with(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    fn with_versions<'a>(self, versions: impl IntoIterator<Item = &'a str>) -> Self {
        let versions: Vec<Value> = versions.into_iter().map(|v| json!({"version": v})).collect();
        self.with(json!({"spec": {"versions": versions}}))
    }

    fn with_config(self, change: Value) -> Self {
        self.with(json!({"spec": {"moduleConfig": change}}))
    }

    fn with_limit(self, limit: usize) -> Self {
        self.with_config(json!({"versionHistoryLimit": limit}))
    }

    fn immutable(self, published: Value) -> Self {
        self.with_config(json!({"immutable": true})).with(json!({"status": {"published": published}}))
    }

    fn with_token(self, token: &str) -> Self {
        self.with(json!({"status": {"forceToken": token}}))
    }

    fn suspended(self) -> Self {
        self.with(json!({"spec": {"suspend": true}}))
    }

    fn forced(self) -> Self {
        self.with(json!({"spec": {"forceSync": true}}))
    }

    /// As after a write of its spec.
    fn next_generation(self) -> Self {
        let generation = self.0["metadata"]["generation"].as_i64().unwrap() + 1;
        self.with(json!({"metadata": {"generation": generation}}))
    }

    fn view(&self) -> ModuleView {
        ModuleView::take_from(&mut serde_json::from_value(self.0.clone()).unwrap())
    }

    fn decide(&self, children: &[ChildFixture]) -> (Selection, Plan) {
        let pass = pass(&self.view(), children, &RejectedRequests::default(), None);
        (pass.selection, pass.plan)
    }

    fn plan(&self, children: &[ChildFixture]) -> Plan {
        self.decide(children).1
    }

    /// The status after a reconcile at second 100.
    fn status(&self, children: &[ChildFixture], token: Option<&str>) -> ModuleStatus {
        pass(&self.view(), children, &RejectedRequests::default(), token).status
    }

    fn with_status(mut self, status: &ModuleStatus) -> Self {
        self.0["status"] = serde_json::to_value(status).unwrap();
        self
    }
}

impl ChildFixture {
    fn with(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    fn with_config(self, change: Value) -> Self {
        self.with(json!({"spec": {"moduleConfigRef": change}}))
    }

    fn ready(self, status: &str, reason: &str, message: &str) -> Self {
        let generation = self.0["metadata"]["generation"].clone();
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": message});
        self.with(json!({"status": {"observedGeneration": generation, "conditions": [ready]}}))
    }

    /// As `module` has configured it.
    fn of(mut self, module: &ModuleFixture) -> Self {
        self.0["spec"]["moduleConfigRef"] = json!(module.view().resolved);
        self
    }

    /// With its object where its configuration says now.
    fn stored_as_wanted(self) -> Self {
        let (config, name) = (&self.0["spec"]["moduleConfigRef"], &self.0["spec"]["fileName"]);
        let s3 = &config["storageConfig"]["s3"];
        let key = format!("{}/{}", config["name"].as_str().unwrap(), name.as_str().unwrap());
        let location = json!({"bucket": s3["bucket"], "key": key, "region": s3["region"]});
        let source = json!({"url": config["repoUrl"], "ref": "refs/tags/any"});
        self.with(json!({"status": {"storage": location, "source": source}}))
    }

    fn stalled(mut self) -> Self {
        let conditions = self.0["status"]["conditions"].as_array_mut().unwrap();
        conditions.push(json!({"type": "Stalled", "status": "True"}));
        self
    }

    fn terminating(self) -> Self {
        self.with(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))
    }

    fn without_finalizer(self) -> Self {
        self.with(json!({"metadata": {"finalizers": null}}))
    }

    fn of_another_owner(mut self) -> Self {
        self.0["metadata"]["ownerReferences"][0]["uid"] = json!("uid-of-another");
        self
    }

    fn ownerless(self) -> Self {
        self.with(json!({"metadata": {"ownerReferences": null}}))
    }

    /// As a copy of it in another namespace.
    fn of_nobody_here(self) -> Self {
        self.with(json!({"metadata": {"labels": {NAMESPACE_LABEL: "another"}}}))
    }

    fn annotated(self, key: &str, value: &str) -> Self {
        self.with(json!({"metadata": {"annotations": {key: value}}}))
    }

    fn asked(self, token: &str) -> Self {
        self.annotated(MODULE_REQUEST, token)
    }

    fn answered(self, token: &str) -> Self {
        self.asked(token).with(json!({"status": {"lastModuleRequest": token}}))
    }

    fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap()
    }

    fn lean(&self) -> VersionState {
        serde_json::from_value(self.0.clone()).unwrap()
    }
}

/// What one reconcile decides.
struct Decided {
    selection: Selection,
    ledger: Ledger,
    plan: Plan,
    status: ModuleStatus,
    /// Whether the digests of the status are waited for.
    awaits_digest: bool,
}

/// One reconcile of `view` at second 100.
fn pass(
    view: &ModuleView,
    children: &[ChildFixture],
    refused: &RejectedRequests,
    token: Option<&str>,
) -> Decided {
    pass_with(view, children, refused, token, false)
}

fn pass_with(
    view: &ModuleView,
    children: &[ChildFixture],
    refused: &RejectedRequests,
    token: Option<&str>,
    is_too_large: bool,
) -> Decided {
    let children: Vec<VersionState> = children.iter().map(ChildFixture::lean).collect();
    let children: Vec<&VersionState> = children.iter().collect();
    let selection = super::select::select(view, &children);
    let token = token.map(str::to_owned);
    let ledger = Ledger::next(view, (&selection, &children), refused, is_too_large, token);
    let plan = super::plan::plan(view, &ledger, &selection, &children);
    let facts = Facts { selection: &selection, children: &children, ledger: &ledger, plan: &plan, refused };
    let status = super::status::status(view, &facts, at(100));
    let awaits_digest = super::status::awaits_digest(view, &facts);
    Decided { selection, ledger, plan, status, awaits_digest }
}

/// The single edits of a change, by kind.
impl Change {
    fn config(&self) -> Option<&FileName> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::SetConfig(file_name) => Some(file_name),
            _ => None,
        })
    }

    fn retain(&self) -> Option<bool> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::SetPolicy { retain } => Some(*retain),
            _ => None,
        })
    }

    fn suspended(&self) -> Option<bool> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::SetSuspended(suspended) => Some(*suspended),
            _ => None,
        })
    }

    fn request(&self) -> Option<&str> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::Request(token) => Some(token.as_str()),
            _ => None,
        })
    }

    #[expect(clippy::option_option, reason = "the outer one: whether it is written; the inner one: what")]
    fn expected_digest(&self) -> Option<Option<String>> {
        self.edits.iter().find_map(|edit| match edit {
            Edit::PinDigest(digest) => Some(Some(digest.clone())),
            Edit::UnpinDigest => Some(None),
            _ => None,
        })
    }
}

/// An annotation as a patch.
fn with_key(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().unwrap().remove(&key);
        } else if target.get(&key).is_some() {
            merge(&mut target[&key], change);
        } else {
            target[&key] = change;
        }
    }
}
