//! etcd, and writes of custom resources to it without the API server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{TryStreamExt as _, stream};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::ControlPlane;
use crate::port::free_port;
use crate::process::Spec;

/// Writes at once.
const CONCURRENCY: usize = 32;

impl ControlPlane {
    /// Stores custom resources with their status as the API server would: thousands in seconds, which cost the API server
    /// minutes of processor time. Replaces an object of the same name. Nothing is validated or added, so the objects must be
    /// complete: UID, creation time and generation too.
    ///
    /// # Errors
    /// If an object has no name, or etcd does not answer.
    pub async fn store(&self, plural: &str, objects: &[Value]) -> Result<()> {
        let with_value = |object: &Value| {
            Ok(json!({"key": key(plural, object)?, "value": STANDARD.encode(object.to_string())}))
        };
        self.send("put", objects.iter().map(with_value)).await
    }

    /// Deletes custom resources, also with finalizers.
    ///
    /// # Errors
    /// If an object has no name, or etcd does not answer.
    pub async fn remove(&self, plural: &str, objects: &[Value]) -> Result<()> {
        let by_key = |object: &Value| Ok(json!({"key": key(plural, object)?}));
        self.send("deleterange", objects.iter().map(by_key)).await
    }

    async fn send(&self, method: &str, requests: impl Iterator<Item = Result<Value>>) -> Result<()> {
        let client = &Client::try_from(Config::new(self.etcd.parse()?))?;
        // Each in a request of its own: the API server expects a revision to have one object.
        stream::iter(requests)
            .try_for_each_concurrent(CONCURRENCY, async |request| {
                let request =
                    http::Request::post(format!("/v3/kv/{method}")).body(serde_json::to_vec(&request)?)?;
                let answer: Value = client.request(request).await.context("etcd does not answer")?;
                ensure!(answer["header"]["revision"].is_string(), "etcd has changed nothing: {answer}");
                Ok(())
            })
            .await
    }
}

/// The key of an object in etcd.
fn key(plural: &str, object: &Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion").and_then(|version| version.split_once('/')).context("no API group")?.0;
    let namespace = text("/metadata/namespace").context("no namespace")?;
    let name = text("/metadata/name").context("no name")?;
    Ok(STANDARD.encode(format!("/registry/{group}/{plural}/{namespace}/{name}")))
}

/// How etcd is started.
pub(super) fn spec(binary: PathBuf, folder: &Path, url: &str) -> Result<Spec> {
    let peers = format!("http://127.0.0.1:{}", free_port()?);
    Ok(Spec::new(binary, folder.join("etcd.log"))
        .arg("--unsafe-no-fsync")
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
        .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
        .args([format!("--initial-cluster=default={peers}"), "--log-level=warn".to_owned()]))
}
