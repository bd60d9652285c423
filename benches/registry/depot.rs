//! A namespace with published modules, and registries that answer for it: in this process, or the binary.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use futures::{StreamExt as _, stream};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use opendepot::api::{Module, Version};
use opendepot::observe::liveness::Liveness;
use opendepot::registry::aliases::Aliases;
use opendepot::registry::archive::{DownloadMode, Downloads};
use opendepot::registry::auth::{Access, AccessSettings};
use opendepot::registry::docs::Library;
use opendepot::registry::handler::Service;
use opendepot::registry::http::{Handler, Limits, Stopper, Tls, TrustedProxies, serve};
use opendepot::registry::index::Fold;
use opendepot::registry::index::watch;
use opendepot::registry::key_file::CurrentKeys;
use opendepot::registry::metrics::RegistryMetrics;
use opendepot::registry::page::{Pages, SendBudget};
use opendepot::registry::session::Sessions;
use opendepot::storage::{Storage, StorageRules};
use opendepot_testbed::authority::Authority;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::REGION;
use opendepot_testbed::{Options, Testbed};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::CREDENTIALS;
use crate::client::{AUDIENCE, Server};

pub(crate) struct Depot {
    pub bed: Testbed,
    pub namespace: String,
    pub client: kube::Client,
    pub authority: Authority,
    /// A token that may download here.
    pub token: String,
    /// The status of the Versions of each module.
    statuses: Mutex<HashMap<String, Value>>,
    folder: TempDir,
}

impl Depot {
    pub(crate) async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let options = Options {
            operator: env!("CARGO_BIN_EXE_opendepot").into(),
            crds: Some(root.join("crds")),
            ..Options::default()
        };
        let bed = Testbed::start(options).await.unwrap();
        let user = bed.s3.root();
        let (id, secret) = (&user.access_key, &user.secret_key);
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        std::fs::write(std::env::var_os(CREDENTIALS).unwrap(), text).unwrap();
        let namespace = bed.tenant("bench").await.unwrap().namespace;
        let (client, authority) = (bed.admin().await.unwrap(), Authority::new("bench").unwrap());
        let (folder, identity) = (tempfile::tempdir().unwrap(), authority.server(&["127.0.0.1"]).unwrap());
        std::fs::write(folder.path().join("tls.crt"), identity.certificate_pem).unwrap();
        std::fs::write(folder.path().join("tls.key"), identity.key_pem).unwrap();
        let token = token(&bed, &namespace);
        Self { bed, namespace, client, authority, token, statuses: Mutex::default(), folder }
    }

    /// The path of a module.
    pub(crate) fn module(&self, name: &str) -> String {
        format!("/v1/modules/{}/{name}/aws", self.namespace)
    }

    /// A registry in this process, as `opendepot serve` composes it.
    pub(crate) async fn in_this_process(&self, mode: DownloadMode, tls: Option<&Authority>) -> Server {
        let metrics = RegistryMetrics::default();
        let aliases = Aliases::new(&[], &[]).unwrap();
        let endpoint = self.bed.s3.endpoint().parse().unwrap();
        let rules = StorageRules::new(vec!["*=*".parse().unwrap()], vec![endpoint], None);
        let settings = AccessSettings {
            audience: Some(AUDIENCE.to_owned()),
            auth_config: None,
            tokens_dir: None,
            anonymous: false,
            login: false,
            roots: Vec::new(),
            own_token: None,
        };
        let access = Access::start(&settings, self.client.clone(), metrics.clone()).unwrap();
        let mut tasks = JoinSet::new();
        let fold = Fold::new(rules, aliases.clone());
        let scope = [self.namespace.clone()];
        let (index, health) = watch::start(&self.client, &scope, fold, &Liveness::default(), &mut tasks);
        tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
        health.listed().await;
        let storage = Arc::new(Storage::for_signed_urls(&[]).await.unwrap());
        let keys = CurrentKeys::new(None).unwrap();
        let pages = Pages {
            index,
            access,
            aliases,
            sessions: Sessions::new(keys.clone(), None),
            library: Library::new(Arc::clone(&storage), std::env::temp_dir(), metrics.clone()),
            host: None,
            send_budget: SendBudget::default(),
        };
        let service = Service {
            pages,
            keys,
            downloads: Downloads::new(storage, mode, Vec::new(), 64, metrics.clone()),
            url: String::new(),
            metrics,
            module_metrics: true,
        };
        listen(Arc::new(service), tls).await
    }

    /// The binary, ready.
    pub(crate) async fn binary(&self, args: &[&str], tls: bool) -> (Operator, Server) {
        let mut builder = self.bed.registry().args(["--namespace", &self.namespace]).args(args).args([
            "--allow-storage",
            "*=*",
            "--audience",
            AUDIENCE,
            "--drain",
            "0s",
        ]);
        if tls {
            builder = builder.args(["--tls-cert-file".into(), self.folder.path().join("tls.crt")]);
            builder = builder.args(["--tls-key-file".into(), self.folder.path().join("tls.key")]);
        }
        let registry = builder.start_ready().await.unwrap();
        let address = registry.registry_address().parse().unwrap();
        (registry, Server { address, tls: tls.then(|| trusting(&self.authority)) })
    }

    /// A module with so many versions, of which the first `stored` are as the operator leaves them. All share one object.
    pub(crate) async fn publish(&self, name: &str, count: usize, stored: usize, bytes: Vec<u8>) {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let key = format!("{name}/all.zip");
        let status = json!({"status": {
            "synced": true, "checksum": base64::engine::general_purpose::STANDARD.encode(digest),
            "archiveSizeBytes": bytes.len(),
            "source": {"url": format!("https://github.com/acme/{name}"), "ref": "refs/tags/v1.0.0", "commit": "a".repeat(40)},
            "storage": {"bucket": self.namespace, "key": key, "region": REGION, "endpoint": self.bed.s3.endpoint(),
                        "forcePathStyle": true},
        }});
        self.bed.s3.put_with_sha256(&self.namespace, &key, bytes).await.unwrap();
        self.statuses.lock().unwrap().insert(name.to_owned(), status.clone());
        let config = json!({
            "provider": "aws", "repoUrl": format!("https://github.com/acme/{name}"),
            "storageConfig": {"s3": {"bucket": self.namespace, "region": REGION, "forcePathStyle": true}},
        });
        let uid = self.create_module(name, count, &config).await;
        let versions: &Api<DynamicObject> =
            &opendepot::controller::client::objects::<Version>(&self.client, &self.namespace);
        let (config, status, uid) = (&config, &status, &uid);
        stream::iter(0..count)
            .for_each_concurrent(16, |number| async move {
                let object_name = format!("{name}-1.{number}.0");
                let object = json!({
                    "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
                    "metadata": {
                        "name": object_name, "namespace": self.namespace,
                        "finalizers": ["opendepot.defdev.io/stored-object"],
                        "ownerReferences": [{
                            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": name, "uid": uid,
                            "controller": true, "blockOwnerDeletion": true,
                        }],
                    },
                    "spec": {
                        "type": "Module", "version": format!("1.{number}.0"), "fileName": "all.zip",
                        "moduleConfigRef": config,
                    },
                });
                let object = serde_json::from_value(object).unwrap();
                versions.create(&PostParams::default(), &object).await.unwrap();
                if number < stored {
                    let patch = Patch::Merge(status);
                    versions.patch_status(&object_name, &PatchParams::default(), &patch).await.unwrap();
                }
            })
            .await;
    }

    /// The status of a stored Version of a module, as a patch.
    pub(crate) fn status(&self, module: &str) -> Value {
        self.statuses.lock().unwrap()[module].clone()
    }

    async fn create_module(&self, name: &str, count: usize, config: &Value) -> String {
        let module = json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "moduleConfig": config,
                "versions": (0..count).map(|n| json!({"version": format!("1.{n}.0")})).collect::<Vec<_>>(),
            },
        });
        let modules = opendepot::controller::client::objects::<Module>(&self.client, &self.namespace);
        let module = serde_json::from_value(module).unwrap();
        let module = modules.create(&PostParams::default(), &module).await.unwrap();
        let status = json!({"status": {"address": format!("{}/{name}/aws", self.namespace)}});
        modules.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        module.metadata.uid.unwrap()
    }
}

/// A token of a service account that may download here.
fn token(bed: &Testbed, namespace: &str) -> String {
    let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
         "metadata": {"name": "download", "namespace": namespace},
         "rules": [{"apiGroups": ["opendepot.defdev.io"], "resources": ["modules/download"], "verbs": ["get"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "download", "namespace": namespace},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "download"},
         "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": namespace}]},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": namespace}},
    ]});
    bed.kubectl_with(&["apply", "-f", "-"], &manifests.to_string()).unwrap().ok().unwrap();
    let audience = format!("--audience={AUDIENCE}");
    let token = bed.kubectl(&["create", "token", "ci", "-n", namespace, &audience, "--duration=2h"]).unwrap();
    token.ok().unwrap().trim().to_owned()
}

/// Serves at a port of its own until the process ends.
pub(crate) async fn listen<H: Handler>(handler: Arc<H>, tls: Option<&Authority>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = Stopper::new();
    // Without it the listener would close.
    std::mem::forget(stopper);
    let server = tls.map(certificate);
    tokio::spawn(serve(listener, server, Limits::default(), TrustedProxies::default(), handler, stop));
    Server { address, tls: tls.map(trusting) }
}

fn certificate(authority: &Authority) -> Arc<Tls> {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let identity = authority.server(&["127.0.0.1"]).unwrap();
    std::fs::write(&certificate, identity.certificate_pem).unwrap();
    std::fs::write(&key, identity.key_pem).unwrap();
    Arc::new(Tls::load(&certificate, &key).unwrap())
}

fn trusting(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
