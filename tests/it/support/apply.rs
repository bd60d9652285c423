//! `kubectl apply`, of Modules and Versions with the same requests but without kubectl, whose start takes longer than they do.

use anyhow::{Context as _, Result, ensure};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Map, Value, json};

use super::World;

/// Where `kubectl apply` keeps the manifest, to know at the next one which fields to remove.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl World {
    /// Applies manifests, strictly validated: one Module or Version as JSON by requests of our own, all others with kubectl.
    pub(crate) fn apply(&self, manifest: &impl ToString) {
        let text = manifest.to_string();
        match serde_json::from_str::<Value>(&text) {
            Ok(object) if path(&object).is_some() => {
                let applied = self.bed.kubernetes.as_admin(async |client| apply(&client, object).await);
                applied.unwrap();
            }
            _ => {
                let applied = self.bed.kubectl_with(&["apply", "-f", "-"], &text).unwrap();
                assert!(applied.success(), "{}", applied.stderr);
                assert!(!applied.stderr.contains("Warning"), "{}", applied.stderr);
            }
        }
    }
}

/// The path of the objects of its kind in its namespace, if it is a Module or a Version.
fn path(object: &Value) -> Option<String> {
    let plural = match object["kind"].as_str()? {
        "Module" => "modules",
        "Version" => "versions",
        _ => return None,
    };
    let (api, namespace) = (object["apiVersion"].as_str()?, object["metadata"]["namespace"].as_str()?);
    Some(format!("/apis/{api}/namespaces/{namespace}/{plural}"))
}

/// A three-way merge, as kubectl has it for custom resources: fields of the last manifest that this one does not have are removed,
/// and what others wrote stays.
async fn apply(client: &Client, mut manifest: Value) -> Result<()> {
    let folder = path(&manifest).context("neither a Module nor a Version")?;
    let name = manifest["metadata"]["name"].as_str().context("no name")?.to_owned();
    manifest["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{manifest}\n"));
    let (status, current) = send(client, Method::GET, &format!("{folder}/{name}"), None).await?;
    ensure!(status.is_success() || status == StatusCode::NOT_FOUND, "{status}: {}", current["message"]);
    let query = "fieldManager=kubectl-client-side-apply&fieldValidation=Strict";
    let (status, answer) = if status == StatusCode::NOT_FOUND {
        send(client, Method::POST, &format!("{folder}?{query}"), Some(&manifest)).await?
    } else {
        let last = current["metadata"]["annotations"][LAST_APPLIED].as_str();
        let last = last.map(serde_json::from_str).transpose()?.unwrap_or_default();
        let patch = three_way(&last, &current, &manifest);
        if patch == json!({}) {
            return Ok(());
        }
        send(client, Method::PATCH, &format!("{folder}/{name}?{query}"), Some(&patch)).await?
    };
    ensure!(status.is_success(), "{status}: {}", answer["message"]);
    Ok(())
}

/// The merge patch that makes `current` equal to `manifest`, except for fields that neither this manifest nor the last one has.
fn three_way(last: &Value, current: &Value, manifest: &Value) -> Value {
    let none = Map::new();
    let [last, current] = [last, current].map(|value| value.as_object().unwrap_or(&none));
    let mut patch = Map::new();
    for (key, wanted) in manifest.as_object().into_iter().flatten() {
        let (last, there) = (last.get(key).unwrap_or(&Value::Null), current.get(key));
        let wanted = match there {
            Some(there) if there == wanted => continue,
            Some(there) if there.is_object() && wanted.is_object() => three_way(last, there, wanted),
            _ => wanted.clone(),
        };
        if wanted != json!({}) || there.is_none() {
            patch.insert(key.clone(), wanted);
        }
    }
    let gone = last.keys().filter(|key| manifest.get(key.as_str()).is_none());
    patch.extend(gone.map(|key| (key.clone(), Value::Null)));
    Value::Object(patch)
}

async fn send(
    client: &Client,
    method: Method,
    url: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Value)> {
    let merge = method == Method::PATCH;
    let content = if merge { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method).uri(url).header("Content-Type", content);
    let body = body.map(Value::to_string).unwrap_or_default();
    let answer = client.send(request.body(Body::from(body.into_bytes()))?).await?;
    // Each shows a mistake in a test: a field that is unknown or has two values, or a rule that is deprecated.
    ensure!(answer.headers().get("Warning").is_none(), "{:?}", answer.headers().get("Warning"));
    let (status, body) = (answer.status(), answer.into_body().collect().await?.to_bytes());
    Ok((status, serde_json::from_slice(&body).with_context(|| format!("{status}: no JSON"))?))
}
