//! The registry with modules that are published already, for clients without a token.

use std::io::{Cursor, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Patch, PatchParams, PostParams};
use opendepot::api::{Module, Version};
use opendepot_testbed::authority::Authority;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::s3::REGION;
use opendepot_testbed::terraform::Terraform;
use serde_json::json;

use super::registry_files::{Files, answered, client_of};
use super::{ROOTS, World};

/// The system of every module here.
pub(crate) const SYSTEM: &str = "aws";

/// What a registry is started with: a namespace whose modules everybody may download, a certificate, and a key for links that
/// several replicas share.
pub(crate) struct Depot {
    pub world: World,
    files: Files,
}

/// An answer of the registry.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Depot {
    pub(crate) async fn new(name: &str) -> Self {
        Self::of(World::new(name).await)
    }

    pub(crate) fn of(world: World) -> Self {
        let depot = Self { world, files: Files::new() };
        depot.open_to_everybody();
        depot
    }

    /// A file beside the certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// Clients without a token may download every module of the namespace.
    fn open_to_everybody(&self) {
        let namespace = &self.world.name;
        self.world.apply(&json!({
            "apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                 "metadata": {"name": "download", "namespace": namespace},
                 "rules": [{"apiGroups": ["opendepot.defdev.io"], "resources": ["modules/download"], "verbs": ["get"]}]},
                {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                 "metadata": {"name": "download", "namespace": namespace},
                 "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "download"},
                 "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}]},
            ],
        }));
    }

    /// A replica that is yet to be started, over TLS.
    pub(crate) fn builder(&self) -> OperatorBuilder {
        self.plain_builder().args(self.files.tls())
    }

    /// The same over plain HTTP.
    pub(crate) fn plain_builder(&self) -> OperatorBuilder {
        self.world
            .bed
            .registry()
            .args(["--namespace", &self.world.name, "--allow-storage", "*=*", "--anonymous"])
            .args(["--audience", "registry.test", "--log-level", "debug"])
            .env("OPENDEPOT_DRAIN", "0s")
            .env(ROOTS.0, ROOTS.1)
            .args(self.files.link_key())
    }

    /// A replica, ready.
    pub(crate) async fn registry(&self, args: &[&str]) -> Operator {
        self.builder().args(args.iter().copied()).start_ready().await.unwrap()
    }

    /// See [`World::publish`].
    pub(crate) async fn publish(&self, name: &str, versions: &[(&str, Vec<u8>)]) {
        self.world.publish(name, versions).await;
    }

    /// Publishes one more version of a module, as the operator would.
    pub(crate) async fn append(&self, name: &str, version: &str, bytes: Vec<u8>) {
        let world = &self.world;
        let entry = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
        let patch = Patch::Json::<()>(serde_json::from_value(entry).unwrap());
        let module = world.api::<Module>().patch(name, &PatchParams::default(), &patch).await.unwrap();
        let key = format!("{name}/{version}.zip");
        world.bed.s3.put_with_sha256(&world.name, &key, bytes.clone()).await.unwrap();
        world.record(&module.metadata, version, &key, &bytes).await;
    }

    /// Stores an archive at another key and deletes the former object, as the operator would.
    pub(crate) async fn move_object(&self, version: &str, (from, to): (&str, &str), bytes: &[u8]) {
        let (world, s3) = (&self.world, &self.world.bed.s3);
        s3.put_with_sha256(&world.name, to, bytes).await.unwrap();
        world.record_stored(version, to, bytes).await;
        s3.delete(&world.name, from).await.unwrap();
    }

    /// A client that trusts the certificate and makes each request on a new connection.
    pub(crate) fn client(&self) -> reqwest::Client {
        unpooled(self.files.client())
    }

    /// The same with another authority.
    pub(crate) fn client_of(authority: &Authority) -> reqwest::Client {
        unpooled(client_of(authority))
    }

    /// Both clients, which trust the certificate and install this version of a module from the host.
    pub(crate) fn installers(&self, host: &str, module: &str, version: &str) -> Vec<Terraform> {
        let configuration = format!(
            "module \"it\" {{\n  source  = \"{host}/{}/{module}/{SYSTEM}\"\n  version = \"{version}\"\n}}\n",
            self.world.name
        );
        let clients = Terraform::both().unwrap().into_iter();
        let clients = clients.map(|client| client.env("SSL_CERT_FILE", self.file("ca.pem")));
        let clients: Vec<_> = clients.collect();
        for client in &clients {
            client.configure(&configuration).unwrap();
        }
        clients
    }

    /// The URL of an archive, as the registry at this base (`https://HOST`) gives it to a client.
    pub(crate) async fn archive_url(
        &self,
        base: &str,
        module: &str,
        version: &str,
    ) -> anyhow::Result<String> {
        let path = format!("/v1/modules/{}/{module}/{SYSTEM}/{version}/download", self.world.name);
        let client = self.client();
        let answer = answered(|| client.get(format!("{base}{path}"))).await?;
        anyhow::ensure!(answer.status() == 204, "{} to {path}", answer.status());
        let location = answer.headers().get("x-terraform-get").context("no X-Terraform-Get")?.to_str()?;
        let location = location.split('?').next().unwrap_or_default();
        Ok(format!("{base}{location}"))
    }

    /// A GET with headers. See [`answered`].
    pub(crate) async fn get(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let client = self.client();
        Answer::read(answered(|| get(&client, url, headers)).await?).await
    }

    /// The same with the first answer, also one that says that the API server is away.
    pub(crate) async fn get_once(&self, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        Answer::read(get(&self.client(), url, headers).send().await?).await
    }
}

fn get(client: &reqwest::Client, url: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    headers.iter().fold(client.get(url), |request, (name, value)| request.header(*name, *value))
}

impl World {
    /// Publishes a module as the operator would leave it, with an archive for each version.
    pub(crate) async fn publish(&self, name: &str, versions: &[(&str, Vec<u8>)]) {
        let (world, namespace) = (self, &self.name);
        let listed: Vec<&str> = versions.iter().map(|(version, _)| *version).collect();
        let module = serde_json::from_value(world.module(name).versions(&listed).0).unwrap();
        let modules = world.api::<Module>();
        let module = modules.create(&PostParams::default(), &module).await.unwrap();
        let address = format!("{namespace}/{name}/{SYSTEM}");
        let status = json!({"status": {"address": address, "observedGeneration": 1, "synced": true}});
        modules.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        for (version, bytes) in versions {
            let key = format!("{name}/{version}.zip");
            world.bed.s3.put_with_sha256(namespace, &key, bytes.clone()).await.unwrap();
            self.record(&module.metadata, version, &key, bytes).await;
        }
    }

    async fn record(&self, module: &kube::api::ObjectMeta, version: &str, key: &str, bytes: &[u8]) {
        let (world, namespace) = (self, &self.name);
        let owner = module.name.as_deref().unwrap();
        let config = world.module(owner).0["spec"]["moduleConfig"].clone();
        let object = json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
            "metadata": {
                "name": format!("{owner}-{version}"), "namespace": namespace,
                "finalizers": ["opendepot.defdev.io/stored-object"],
                "ownerReferences": [{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": owner,
                                     "uid": module.uid, "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": {"type": "Module", "version": version, "fileName": format!("{version}.zip"), "moduleConfigRef": config},
        });
        let versions = world.api::<Version>();
        let object = serde_json::from_value(object).unwrap();
        versions.create(&PostParams::default(), &object).await.unwrap();
        self.record_stored(&format!("{owner}-{version}"), key, bytes).await;
    }

    async fn record_stored(&self, version: &str, key: &str, bytes: &[u8]) {
        let status = json!({"status": {
            "observedGeneration": 1, "synced": true, "syncStatus": "Stored.",
            "checksum": STANDARD.encode(digest(&SHA256, bytes)), "archiveSizeBytes": bytes.len(),
            "storage": {"bucket": self.name, "key": key, "region": REGION, "forcePathStyle": true},
        }});
        let patch = Patch::Merge(status);
        self.api::<Version>().patch_status(version, &PatchParams::default(), &patch).await.unwrap();
    }
}

impl Answer {
    async fn read(answer: reqwest::Response) -> anyhow::Result<Self> {
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Self { status, headers, body: answer.bytes().await?.to_vec() })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unpooled(client: reqwest::ClientBuilder) -> reqwest::Client {
    client.pool_max_idle_per_host(0).timeout(Duration::from_mins(1)).build().unwrap()
}

/// A zip with a `main.tf`, and so many bytes that cannot be compressed.
pub(crate) fn archive(main: &str, padding: usize) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("main.tf", stored).unwrap();
    zip.write_all(main.as_bytes()).unwrap();
    if padding > 0 {
        zip.start_file("padding.bin", stored).unwrap();
        zip.write_all(&vec![b'p'; padding]).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The value of a metric.
pub(crate) async fn metric(registry: &Operator, series: &str) -> f64 {
    let text = registry.metrics().await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}
