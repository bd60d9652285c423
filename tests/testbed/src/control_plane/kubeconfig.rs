//! Kubeconfig files for the users of a control plane.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::authority::Identity;

/// How to reach the API server, and how to know it.
pub(super) struct Cluster {
    pub(super) url: String,
    pub(super) ca_pem: String,
}

impl Cluster {
    /// A kubeconfig for the holder of this client certificate.
    pub(super) fn for_certificate(&self, identity: &Identity) -> Value {
        self.file(&json!({
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem),
        }))
    }

    /// A kubeconfig for the holder of this token.
    pub(super) fn for_token(&self, token: &str) -> Value {
        self.file(&json!({ "token": token }))
    }

    fn file(&self, user: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "testbed", "cluster": {
                "server": self.url,
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            }}],
            "users": [{ "name": "user", "user": user }],
            "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "user" }}],
            "current-context": "testbed",
        })
    }
}

/// Writes a kubeconfig; JSON is YAML too.
pub(super) fn write(path: &Path, kubeconfig: &Value) -> Result<()> {
    std::fs::write(path, kubeconfig.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// A client that lives on the caller's runtime.
pub(super) async fn client(path: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}
