//! Tests of the pure core, and the Versions that they are made with: JSON as the API server stores it.

mod adopt;
mod basis;
mod content;
mod decide;
mod failed;
mod queue;
mod status;
mod target;

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::content::Content;
use super::outcome::Published;
use super::status::Snapshot;
use crate::api::FINALIZER;
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target};
use crate::api::version::{Source, VersionStatus};
use crate::controller::failure::{Failure, Reason};

/// A Version as it is stored.
#[derive(Clone, Debug)]
struct Fixture(Value);

/// A moment, in seconds.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A Version that its Module has just created.
fn version() -> Fixture {
    Fixture(json!({
        "metadata": {
            "name": "network-1.0.0", "namespace": "acme", "uid": "uid-of-network-1.0.0", "resourceVersion": "10",
            "generation": 5, "finalizers": [FINALIZER],
            "ownerReferences": [{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": "network",
                "uid": "uid-of-network", "controller": true}],
        },
        "spec": {
            "type": "Module", "version": "1.0.0", "fileName": "first.zip",
            "moduleConfigRef": {
                "name": "network", "provider": "aws", "repoUrl": "https://github.com/acme/network",
                "fileFormat": "zip", "deletionPolicy": "Delete",
                "storageConfig": {"s3": {"bucket": "shelf", "region": "us-west-2"}},
            },
        },
    }))
}

/// A Version that a user wrote, before the operator saw it.
fn inline() -> Fixture {
    version().with(json!({
        "metadata": {"name": "one-off", "uid": "uid-of-one-off", "finalizers": null, "ownerReferences": null},
        "spec": {"fileName": null},
    }))
}

/// A Version whose object is stored, and all said.
fn stored() -> Fixture {
    version().published()
}

impl Fixture {
    /// With a merge patch applied.
    fn with(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    fn with_status(mut self, status: &VersionStatus) -> Self {
        self.0["status"] = serde_json::to_value(status).unwrap();
        self
    }

    fn annotated(self, key: &str, value: &str) -> Self {
        self.with(json!({"metadata": {"annotations": {key: value}}}))
    }

    fn forced(self) -> Self {
        self.with(json!({"spec": {"forceSync": true}}))
    }

    fn terminating(self) -> Self {
        self.with(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))
    }

    /// As after a write of its spec.
    fn next_generation(self) -> Self {
        let generation = self.0["metadata"]["generation"].as_i64().unwrap() + 1;
        self.with(json!({"metadata": {"generation": generation}}))
    }

    /// As created again at second 1000, from a backup with its status.
    fn restored(self) -> Self {
        self.with(json!({"metadata": {"creationTimestamp": at(1000).to_string()}}))
    }

    /// As after a publish that went well, at second 100.
    fn published(self) -> Self {
        let (current, target) = (self.current(), self.target());
        let status = current.published(&proof(&target), &target.requests, at(100));
        self.with_status(&status)
    }

    /// As after an attempt that failed, at second 200.
    fn failed(self, failure: &Failure) -> Self {
        let current = self.current();
        let status = current.failed(failure, &Requests::of(&current.version), None, at(200));
        self.with_status(&status)
    }

    fn version(&self) -> VersionState {
        serde_json::from_value(self.0.clone()).unwrap()
    }

    fn current(&self) -> Snapshot {
        Snapshot::of(&serde_json::from_value::<DynamicObject>(self.0.clone()).unwrap())
    }

    fn target(&self) -> Target {
        Target::of(&self.version()).unwrap()
    }

    fn status(&self) -> VersionStatus {
        self.current().status
    }
}

/// What a publish of the target would prove.
fn proof(target: &Target) -> Published {
    Published {
        location: target.location.clone(),
        content: Content {
            checksum: "c3Vt".into(),
            size: 100,
            digest: "h1:first".into(),
            commit: Some("c0ffee".into()),
        },
        source: Some(Source {
            url: target.source_url(),
            ref_: "refs/tags/v1.0.0".into(),
            commit: Some("c0ffee".into()),
        }),
        stored_now: true,
        answers: true,
        stored_at: None,
        identity: None,
        replaced: None,
    }
}

fn stalled() -> Failure {
    Failure::stalled(Reason::NotAnArchive, "not an archive")
}

fn passing() -> Failure {
    Failure::retry(Reason::GitHubUnavailable, "GitHub is away")
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
