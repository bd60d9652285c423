//! What the tests share: the testbed, short ways to say what is wanted, and to wait for what is expected.

mod admission;
mod apply;
pub(crate) mod archives;
pub(crate) mod browser;
pub(crate) mod chromium;
pub(crate) mod command;
pub(crate) mod failing;
pub(crate) mod generated;
pub(crate) mod moving;
mod publisher;
pub(crate) mod registry;
pub(crate) mod registry_files;
pub(crate) mod rendered;
pub(crate) mod requests;
pub(crate) mod token_registry;
pub(crate) mod watch_proxy;
pub(crate) mod watched;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use opendepot::api::{Module, Version};
use opendepot::controller::client::objects;
use opendepot_testbed::control_plane::{AuditEntry, SHORT_RUN};
use opendepot_testbed::github::real_repositories;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::programs::program;
use opendepot_testbed::{Options, Testbed, eventually};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// How long anything may take that the operator does by itself, while tests with thousands of objects run beside it.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// Waits until `observe` succeeds and returns what it found. After [`SOON`] the test fails with the last complaint.
#[track_caller]
pub(crate) fn soon<T, F, Fut>(observe: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        eventually(SOON, observe).await.unwrap_or_else(|error| panic!("waited for at {caller}: {error:#}"))
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder beside the real repositories.
pub(crate) fn shared(path: &str) -> PathBuf {
    real_repositories().join("..").join(path)
}

/// The servers that all tests share.
pub(crate) async fn testbed() -> &'static Testbed {
    Testbed::shared(|| options(root().join("crds"))).await.expect("the testbed starts")
}

/// Servers that one test has for itself, with the CRDs of that folder. They end with the process, unless the test ends them.
pub(crate) async fn own_testbed(crds: PathBuf) -> &'static Testbed {
    Box::leak(Box::new(Testbed::start(options(crds)).await.expect("the testbed starts")))
}

/// Servers whose whole cluster a test needs: an operator for all namespaces, names that a text prescribes. One test at a
/// time has them, as long as it holds the guard; it leaves no Module behind.
pub(crate) async fn whole_cluster() -> (MutexGuard<'static, ()>, &'static Testbed) {
    static TURN: Mutex<()> = Mutex::const_new(());
    static BED: OnceCell<&'static Testbed> = OnceCell::const_new();
    let turn = TURN.lock().await;
    (turn, BED.get_or_init(|| own_testbed(root().join("crds"))).await)
}

/// The turn of a test that keeps the processors busy for a minute: one at a time has it, so that the tests beside it meet
/// their deadlines.
pub(crate) async fn heavy() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Servers for thousands of objects, and the [`heavy`] turn. Each object costs something at every garbage collection of its API
/// server, as long as that runs, so the servers that all tests share have few.
pub(crate) async fn large_cluster() -> (MutexGuard<'static, ()>, &'static Testbed) {
    static BED: OnceCell<&'static Testbed> = OnceCell::const_new();
    let turn = heavy().await;
    (turn, BED.get_or_init(|| own_testbed(root().join("crds"))).await)
}

fn options(crds: PathBuf) -> Options {
    Options {
        operator: env!("CARGO_BIN_EXE_opendepot").into(),
        crds: Some(crds),
        deploy: Some(root().join("deploy/base")),
        service_account: Some(("opendepot-system".into(), "opendepot".into())),
        registry: Some((
            root().join("deploy/registry"),
            ("opendepot-system".into(), "opendepot-registry".into()),
        )),
    }
}

/// The system's certificates for processes that trust no public authority: one, which signed nothing. To parse those of a machine
/// takes longer than the rest of a start.
pub(crate) const ROOTS: (&str, &str) =
    ("SSL_CERT_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/root.pem"));

/// One test's part of the testbed: a namespace, a bucket, and an owner on GitHub, all with one name.
pub(crate) struct World {
    pub bed: &'static Testbed,
    pub client: Client,
    pub name: String,
}

impl World {
    /// A fresh one.
    pub(crate) async fn new(name: &str) -> Self {
        Self::on(testbed().await, name).await
    }

    /// A fresh one on these servers.
    pub(crate) async fn on(bed: &'static Testbed, name: &str) -> Self {
        let tenant = bed.tenant(name).await.unwrap();
        Self { bed, client: bed.admin().await.unwrap(), name: tenant.namespace }
    }

    /// One in a namespace of that very name, without a bucket.
    pub(crate) async fn named(bed: &'static Testbed, namespace: &str) -> Self {
        bed.kubernetes.create_namespace(namespace).await.unwrap();
        Self { bed, client: bed.admin().await.unwrap(), name: namespace.to_owned() }
    }

    /// One in a namespace that exists already, with its bucket.
    pub(crate) async fn at(namespace: &str) -> Self {
        let bed = testbed().await;
        Self { bed, client: bed.admin().await.unwrap(), name: namespace.to_owned() }
    }

    /// An operator that watches this namespace alone, ready.
    pub(crate) async fn operator(&self) -> Operator {
        self.operator_with(&[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn operator_with(&self, args: &[&str]) -> Operator {
        self.builder().args(args.iter().copied()).start_ready().await.unwrap()
    }

    /// An operator that is yet to be started. All share one control plane, so none waits for another's Lease.
    pub(crate) fn builder(&self) -> OperatorBuilder {
        let args = ["--namespace", &self.name, "--log-level", "debug"];
        self.bed.operator().args(args).env("OPENDEPOT_LEADER_ELECT", "false").env(ROOTS.0, ROOTS.1)
    }

    /// The name of a repository of this test: `OWNER/name`.
    pub(crate) fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// A Module of this test.
    pub(crate) fn module(&self, name: &str) -> ModuleFixture {
        ModuleFixture(json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1",
            "kind": "Module",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {
                "moduleConfig": {
                    "provider": "aws",
                    "repoUrl": format!("https://github.com/{}", self.repository(name)),
                    "storageConfig": {"s3": {"bucket": self.name, "region": "us-west-2", "forcePathStyle": true}},
                },
                "versions": [],
            },
        }))
    }

    /// Runs a shell line with this testbed's kubectl; it has to succeed.
    pub(crate) fn shell(&self, line: &str) -> String {
        self.shell_in(root(), line)
    }

    /// The same in a folder, whose `bin` comes first in the `PATH`.
    pub(crate) fn shell_in(&self, folder: &Path, line: &str) -> String {
        let kubernetes = &self.bed.kubernetes;
        let (tools, kubeconfig) =
            (kubernetes.kubectl_path().parent().unwrap(), kubernetes.admin_kubeconfig());
        let system = std::env::var("PATH").unwrap();
        let output = Command::new(program("bash"))
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(folder)
            .env("PATH", format!("{}/bin:{}:{system}", folder.display(), tools.display()))
            .env("HOME", kubeconfig.parent().unwrap())
            .env("KUBECONFIG", &kubeconfig)
            .envs(SHORT_RUN)
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs kubectl in this namespace; it has to succeed.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.name];
        all.extend(args);
        let output = self.bed.kubectl(&all).unwrap();
        assert!(output.success(), "kubectl {}: {}", args.join(" "), output.stderr);
        output.stdout
    }

    /// A merge patch of `module/NAME` or `version/NAME`, as kubectl sends it.
    pub(crate) fn patch(&self, object: &str, patch: &Value) {
        self.merge(object, "kubectl-patch", patch);
    }

    fn merge(&self, object: &str, manager: &str, patch: &Value) {
        let (kind, name) = object.split_once('/').unwrap();
        let (params, patch) = (PatchParams::apply(manager), Patch::Merge(patch));
        let patched = self.bed.kubernetes.as_admin(async |client: Client| {
            let api = match kind.split('.').next() {
                Some("module" | "modules") => objects::<Module>(&client, &self.name),
                Some("version" | "versions") => objects::<Version>(&client, &self.name),
                _ => anyhow::bail!("{kind} is neither a Module nor a Version"),
            };
            Ok(api.patch(name, &params, &patch).await?)
        });
        patched.unwrap();
    }

    /// The objects of a kind, untyped.
    pub(crate) fn api<K: kube::Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        objects::<K>(&self.client, &self.name)
    }

    /// A Module as it is now.
    pub(crate) async fn get_module(&self, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.api::<Module>().get(name).await?)?)
    }

    /// A Version as it is now, if it is there.
    pub(crate) async fn get_version(&self, name: &str) -> Result<Option<Value>> {
        Ok(self.api::<Version>().get_opt(name).await?.map(|v| serde_json::to_value(v).unwrap()))
    }

    /// All Versions, by name.
    pub(crate) async fn versions(&self) -> Result<Vec<Value>> {
        let list = self.api::<Version>().list(&ListParams::default()).await?;
        let mut all: Vec<Value> = list.items.iter().map(|v| serde_json::to_value(v).unwrap()).collect();
        all.sort_by_key(|v| v["metadata"]["name"].as_str().unwrap().to_owned());
        Ok(all)
    }

    /// Waits until a Module is as expected, and gives it.
    pub(crate) async fn module_when(&self, name: &str, expected: impl Fn(&Value) -> bool) -> Value {
        soon(|| async {
            let module = self.get_module(name).await?;
            ensure!(expected(&module), "the Module is {:#}", brief(&module));
            Ok(module)
        })
        .await
    }

    /// Waits until a Version is as expected, and gives it.
    pub(crate) async fn version_when(&self, name: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let wait = eventually(SOON, || async {
            let version = self.get_version(name).await?.context("there is no such Version")?;
            ensure!(expected(&version), "the Version is {:#}", brief(&version));
            Ok(version)
        });
        wait.await.unwrap_or_else(|error| panic!("{name}: {error:#}"))
    }

    /// Waits until a Module is Ready at its generation with all its versions stored.
    pub(crate) async fn module_ready(&self, name: &str) -> Value {
        self.module_when(name, |m| ready(m) && m["status"]["synced"] == true).await
    }

    /// Waits until a Version is stored and Ready at its generation.
    pub(crate) async fn version_ready(&self, name: &str) -> Value {
        self.version_when(name, |v| ready(v) && v["status"]["synced"] == true).await
    }

    /// Waits until a Version fails with a reason, and gives its message.
    pub(crate) async fn version_fails(&self, name: &str, reason: &str) -> String {
        let version = self.version_when(name, |v| {
            condition(v, "Ready")["status"] == "False" && condition(v, "Ready")["reason"] == reason
        });
        condition(&version.await, "Ready")["message"].as_str().unwrap().to_owned()
    }

    /// Waits until there are just these Versions.
    pub(crate) async fn versions_are(&self, names: &[&str]) {
        soon(|| async {
            let there = self.versions().await?;
            let there: Vec<&str> = there.iter().map(|v| v["metadata"]["name"].as_str().unwrap()).collect();
            ensure!(there == names, "there are {there:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until the bucket holds just this many objects, and gives their keys.
    pub(crate) async fn objects_are(&self, count: usize) -> Vec<String> {
        soon(|| async {
            let keys = self.bed.s3.keys(&self.name).await?;
            ensure!(keys.len() == count, "the bucket holds {keys:?}");
            Ok(keys)
        })
        .await
    }

    /// The bytes that a Version says it stored.
    pub(crate) async fn stored(&self, version: &Value) -> Vec<u8> {
        let place = &version["status"]["storage"];
        let (bucket, key) = (place["bucket"].as_str().unwrap(), place["key"].as_str().unwrap());
        self.bed.s3.get(bucket, key).await.unwrap()
    }

    /// Runs `work`, waits until the operator has been silent for a while, and gives what it wrote to this namespace
    /// (Events apart).
    pub(crate) async fn writes_during<F: Future<Output = ()>>(&self, work: F) -> Vec<AuditEntry> {
        let audit = self.bed.kubernetes.audit();
        let mark = audit.mark(&self.client).await.unwrap();
        work.await;
        self.quiet().await;
        let since = audit.since(mark, &self.client).await.unwrap();
        let ours = |e: &AuditEntry| e.user == OPERATOR && e.namespace == self.name;
        since.into_iter().filter(|e| ours(e) && e.is_write() && !e.is_lease_or_event()).collect()
    }

    /// Waits until three seconds have passed without a write of the operator to this namespace. Where the API server is slow,
    /// longer: what the operator still writes may need several requests.
    pub(crate) async fn quiet(&self) {
        let audit = self.bed.kubernetes.audit();
        let from = audit.position().unwrap();
        let ours = |e: &AuditEntry| e.user == OPERATOR && e.namespace == self.name && e.is_write();
        let count = || audit.matching(from, ours).unwrap().len();
        let begun = tokio::time::Instant::now();
        let (mut last, mut since, mut slowest) = (count(), begun, Duration::ZERO);
        while since.elapsed() < Duration::from_secs(3).max(slowest * 6) {
            assert!(begun.elapsed() < Duration::from_mins(3), "the operator does not come to rest");
            tokio::time::sleep(Duration::from_millis(250)).await;
            let asked = tokio::time::Instant::now();
            let namespace = http::Request::get(format!("/api/v1/namespaces/{}", self.name));
            self.client.request_text(namespace.body(Vec::new()).unwrap()).await.unwrap();
            slowest = slowest.max(asked.elapsed());
            let now = count();
            if now != last {
                (last, since, slowest) = (now, tokio::time::Instant::now(), Duration::ZERO);
            }
        }
    }
}

/// Whom the operator runs as.
pub(crate) const OPERATOR: &str = "system:serviceaccount:opendepot-system:opendepot";

/// A Module that is being written.
#[derive(Clone, Debug)]
pub(crate) struct ModuleFixture(pub Value);

impl ModuleFixture {
    /// With these versions.
    pub(crate) fn versions(mut self, versions: &[&str]) -> Self {
        self.0["spec"]["versions"] = versions.iter().map(|v| json!({"version": v})).collect();
        self
    }

    /// With one field of `moduleConfig` changed.
    pub(crate) fn config(mut self, field: &str, value: Value) -> Self {
        self.0["spec"]["moduleConfig"][field] = value;
        self
    }

    /// With one field of `storageConfig.s3` changed.
    pub(crate) fn s3(mut self, field: &str, value: Value) -> Self {
        self.0["spec"]["moduleConfig"]["storageConfig"]["s3"][field] = value;
        self
    }
}

impl std::fmt::Display for ModuleFixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A condition of an object; null when it is not there.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|c| c["type"] == type_).unwrap_or(&Value::Null)
}

/// Whether an object is Ready at its generation.
pub(crate) fn ready(object: &Value) -> bool {
    let condition = condition(object, "Ready");
    condition["status"] == "True"
        && condition["observedGeneration"] == object["metadata"]["generation"]
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The key of the object that a Version has stored.
pub(crate) fn key(version: &Value) -> String {
    version["status"]["storage"]["key"].as_str().expect("the Version has stored something").to_owned()
}

/// What matters of an object when a wait fails.
fn brief(object: &Value) -> Value {
    json!({
        "generation": object["metadata"]["generation"],
        "deletionTimestamp": object["metadata"]["deletionTimestamp"],
        "forceSync": object["spec"]["forceSync"],
        "status": object["status"],
    })
}

/// What the tests keep of the seed: its manifests and commands.
pub(crate) const USER_MANIFESTS: &str = "tests/it/user_manifests.txt";

/// The Module manifests of the seed, as they stand there: the first, the workflow's, the full list.
pub(crate) fn user_modules() -> Vec<String> {
    modules_in(&std::fs::read_to_string(root().join(USER_MANIFESTS)).unwrap())
}

/// The Module manifests in a text.
pub(crate) fn modules_in(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &&str| line.trim_start().starts_with("apiVersion: opendepot.defdev.io");
    let starts = lines.iter().enumerate().filter(|(_, line)| begins(line)).map(|(at, _)| at);
    starts
        .map(|start| {
            let indent = lines[start].len() - lines[start].trim_start().len();
            let body = lines[start..].iter().take_while(|l| !l.trim().is_empty() && l.trim() != "EOF");
            body.map(|l| &l[indent..]).collect::<Vec<_>>().join("\n")
        })
        .collect()
}

/// Whether the real modules are at hand. Where CI says that it is CI, they have to be.
pub(crate) fn real_modules() -> bool {
    let there = real_repositories().join("terraform-aws-modules").is_dir();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "CI runs with the real modules: set OPENDEPOT_TEST_REPOS"
    );
    there
}
