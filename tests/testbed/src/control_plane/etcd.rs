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
        let client = &Client::try_from(Config::new(self.etcd.parse()?))?;
        // Each in a request of its own: the API server expects a revision to have one object.
        stream::iter(objects.iter().map(|object| put(plural, object)))
            .try_for_each_concurrent(CONCURRENCY, async |put| {
                let request = http::Request::post("/v3/kv/put").body(serde_json::to_vec(&put)?)?;
                let answer: Value = client.request(request).await.context("etcd does not store an object")?;
                ensure!(answer["header"]["revision"].is_string(), "etcd stored nothing: {answer}");
                Ok(())
            })
            .await
    }
}

fn put(plural: &str, object: &Value) -> Result<Value> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion").and_then(|version| version.split_once('/')).context("no API group")?.0;
    let namespace = text("/metadata/namespace").context("no namespace")?;
    let name = text("/metadata/name").context("no name")?;
    let key = format!("/registry/{group}/{plural}/{namespace}/{name}");
    Ok(json!({"key": STANDARD.encode(key), "value": STANDARD.encode(object.to_string())}))
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
