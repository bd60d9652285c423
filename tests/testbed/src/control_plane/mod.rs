//! A Kubernetes control plane of real parts on loopback: etcd, kube-apiserver, kube-controller-manager.
//!
//! No nodes, so pods never run; RBAC, admission, garbage collection and namespaces work as in production.

mod api_server;
mod audit;
mod blocking;
mod etcd;
mod kubeconfig;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::try_join_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::KeyPair;
use tokio::sync::OnceCell;

pub use self::audit::{Audit, AuditEntry, AuditMark};
use self::kubeconfig::Cluster;
use crate::authority::Authority;
use crate::background::eventually;
use crate::port::free_port;
use crate::process::{Folder, Process, Spec};
use crate::servers::{Server, binaries, controllers};

/// What a run of `kubectl` came to.
#[derive(Debug, Clone)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Output {
    /// Whether it ended well.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Standard output.
    ///
    /// # Errors
    /// When it did not end well: standard error.
    pub fn ok(self) -> Result<String> {
        ensure!(self.success(), "kubectl ended with code {}: {}", self.code, self.stderr.trim());
        Ok(self.stdout)
    }
}

/// A running control plane. It ends when this is dropped.
pub struct ControlPlane {
    folder: Folder,
    authority: Authority,
    cluster: Cluster,
    etcd: String,
    kubectl: PathBuf,
    controllers: PathBuf,
    audit: Audit,
    servers: Vec<Process>,
    client: OnceCell<Client>,
}

/// Environment variables that halve the processor time of a run of kubectl, of which the tests make thousands, also in scripts.
/// kubectl parses all translations of its language at each start, even those into English; this language has seven, for summaries
/// of `--help`. No other program has a locale of this name. Most of the rest is garbage collection.
pub const SHORT_RUN: [(&str, &str); 2] = [("LC_MESSAGES", "zh_TW.none"), ("GOGC", "400")];

impl ControlPlane {
    /// Starts etcd and the API server. The controllers start with [`Self::start_controllers`].
    pub async fn start() -> Result<Self> {
        use Server::{Etcd, KubeApiserver, Kubectl};
        let found = tokio::task::spawn_blocking(|| binaries([KubeApiserver, controllers()?, Kubectl, Etcd]));
        let [api_server, controllers, kubectl, etcd_binary] = found.await??;
        let folder = Folder::new("control-plane")?;
        let authority = Authority::new("testbed-kubernetes")?;
        let (etcd_url, port) = (format!("http://127.0.0.1:{}", free_port()?), free_port()?);
        let cluster = Cluster { url: format!("https://127.0.0.1:{port}"), ca_pem: authority.pem() };
        write_identities(folder.path(), &authority, &cluster)?;
        let servers = vec![
            Process::spawn(&etcd::spec(etcd_binary, folder.path(), &etcd_url)?)?,
            Process::spawn(&api_server::spec(api_server, folder.path(), &etcd_url, port))?,
        ];
        let audit = Audit::new(&folder.path().join("audit.log"));
        let (etcd, client) = (etcd_url, OnceCell::new());
        let plane = Self { folder, authority, cluster, etcd, kubectl, controllers, audit, servers, client };
        plane.wait_until_ready().await?;
        Ok(plane)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let client = self.admin().await?;
        for _ in 0..6_000 {
            self.servers.iter().try_for_each(Process::check_alive)?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if client.request_text(request).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = self.servers.last().map(Process::log_tail).unwrap_or_default();
        bail!("the API server is not ready after five minutes:\n{log}")
    }

    /// Starts Kubernetes' own controllers: garbage collection, namespaces, service accounts.
    ///
    /// The custom resources have to be there by then: the garbage collector looks for new kinds every 30 s only.
    pub fn start_controllers(&mut self) -> Result<()> {
        let path = self.folder.path().join("controller-manager.kubeconfig");
        // As the plain system:kube-controller-manager, the garbage collector may not read custom resources.
        let identity = self.authority.client("kube-controller-manager", "system:masters")?;
        kubeconfig::write(&path, &self.cluster.for_certificate(&identity))?;
        let mut spec = Spec::new(&self.controllers, self.folder.path().join("kube-controller-manager.log"))
            .arg(format!("--kubeconfig={}", path.display()));
        if self.controllers.ends_with("kube-controller-manager") {
            spec = spec
                .args(["--controllers=garbagecollector,namespace,serviceaccount", "--leader-elect=false"])
                .args(["--bind-address=127.0.0.1", "--secure-port=0"])
                .args(["--kube-api-qps=1000", "--kube-api-burst=2000"]);
        }
        self.servers.push(Process::spawn(&spec)?);
        Ok(())
    }

    /// Ends the servers of a cluster that one test has for itself. Idle ones take processor time from the other tests.
    pub async fn end(&self) -> Result<()> {
        try_join_all(self.servers.iter().map(Process::stop)).await.map(drop)
    }

    /// A client of the administrator (group `system:masters`), for the caller's runtime.
    pub async fn admin(&self) -> Result<Client> {
        kubeconfig::client(&self.admin_kubeconfig()).await
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// A kubeconfig with a fresh token, good for a day, of a service account.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin().await?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(24 * 3600), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let answer = answer.with_context(|| format!("no token for service account {namespace}/{name}"))?;
        let token = answer.status.context("the API server gave no token")?.token;
        let path = self.folder.path().join(format!("{namespace}-{name}.kubeconfig"));
        kubeconfig::write(&path, &self.cluster.for_token(&token))?;
        Ok(path)
    }

    /// A kubeconfig with a token of its own, by whose number the audit log distinguishes its calls from those of other tokens of that
    /// account. `url`: where to reach the API server instead.
    pub fn kubeconfig_of(&self, namespace: &str, name: &str, url: Option<&str>) -> Result<(PathBuf, String)> {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=24h"])?.ok()?;
        let claims = token.split('.').nth(1).context("the token is a JWT")?;
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
        let credential = format!("JTI={}", claims["jti"].as_str().context("the token has a number")?);
        let path = self.folder.path().join(format!("{}.kubeconfig", uuid::Uuid::new_v4()));
        let cluster =
            Cluster { url: url.unwrap_or(&self.cluster.url).to_owned(), ca_pem: self.cluster.ca_pem.clone() };
        kubeconfig::write(&path, &cluster.for_token(token.trim()))?;
        Ok((path, credential))
    }

    /// `127.0.0.1:PORT` of the API server.
    pub fn address(&self) -> &str {
        self.cluster.url.trim_start_matches("https://")
    }

    /// A client of the user whose kubeconfig this is, for the caller's runtime.
    pub async fn client(&self, kubeconfig: &Path) -> Result<Client> {
        kubeconfig::client(kubeconfig).await
    }

    /// Makes a namespace, unless it is there.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        match Api::all(self.admin().await?).create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            made => made.map(drop).with_context(|| format!("cannot make namespace {name}")),
        }
    }

    /// Applies a folder of manifests (a kustomization, when it holds one) and waits until kubectl knows its CRDs. It keeps what it
    /// has read of an API server, which may have been another one at the same port; this command reads it again.
    pub async fn apply(&self, folder: &Path) -> Result<()> {
        let flag = if folder.join("kustomization.yaml").exists() { "-k" } else { "-f" };
        let path = folder.to_string_lossy();
        self.kubectl(&["apply", "--server-side", flag, &path])?.ok()?;
        let crds = self.kubectl(&["get", "crd", "-o", "name"])?.ok()?;
        eventually(Duration::from_mins(1), || async {
            let known = self.kubectl(&["api-resources", "-o", "name"])?.ok()?;
            let names = crds.lines().filter_map(|line| line.split_once('/'));
            let missing = names.map(|(_, name)| name).find(|name| !known.lines().any(|known| known == *name));
            ensure!(missing.is_none(), "CRD {missing:?} is not served");
            Ok(())
        })
        .await
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubectl_with(args, "")
    }

    /// Runs kubectl as the administrator, with `stdin` to read (`apply -f -`).
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut command = Command::new(&self.kubectl);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("KUBECONFIG", self.admin_kubeconfig()).args(args);
        command.envs(SHORT_RUN);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start kubectl")?;
        if let Some(mut pipe) = child.stdin.take() {
            // A kubectl that does not read its input closes the pipe: that is for it to say.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        let output = child.wait_with_output().context("cannot wait for kubectl")?;
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        })
    }

    /// The kubectl that is used here.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// The calls that were made to the API server.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Where the API server is.
    pub fn url(&self) -> &str {
        &self.cluster.url
    }

    /// The API server's process, to stop and continue it.
    pub fn api_server(&self) -> Option<&Process> {
        self.servers.get(1)
    }
}

fn write_identities(folder: &Path, authority: &Authority, cluster: &Cluster) -> Result<()> {
    let server = authority.server(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    let tokens = KeyPair::generate()?;
    for (name, text) in [
        ("ca.pem", &cluster.ca_pem),
        ("server.pem", &server.certificate_pem),
        ("server.key", &server.key_pem),
        ("tokens.pem", &tokens.public_key_pem()),
        ("tokens.key", &tokens.serialize_pem()),
        ("audit.yaml", &audit::POLICY.to_owned()),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let admin = authority.client("admin", "system:masters")?;
    kubeconfig::write(&folder.join("admin.kubeconfig"), &cluster.for_certificate(&admin))
}
