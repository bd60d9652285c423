//! The real servers and clients that the tests run on, got once per machine.
//!
//! CI builds them from source, as the `go.mod` files below `hack/` pin them. Elsewhere, those that their projects publish as
//! archives are downloaded, if they were not built before. `OPENDEPOT_TEST_SERVERS=build` or `download` decides otherwise.
//!
//! What is built is in the user's cache folder, under the hash of `go.mod`, `go.sum` and code of our own, so that a fresh clone
//! finds it. `$KUBEBUILDER_ASSETS`, when set, wins for what it holds.

mod archives;
mod build;
mod setup;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde_json::Value;

use self::setup::Setup;
use crate::kubernetes;
use crate::progress::Progress;

/// CRDs of others whose objects are shipped: the module in `hack/crds/go.mod` that contains one, and where.
const CRDS: [(&str, &str); 3] = [
    ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
];
const PROMETHEUS_OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";

/// A program that the testbed can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Kubernetes' API server.
    KubeApiserver,
    /// Kubernetes' own controllers.
    KubeControllerManager,
    /// The three of them that the tests need, in a program of our own that is built in a third of the time.
    Controllers,
    /// Kubernetes' command line.
    Kubectl,
    /// The API server's database.
    Etcd,
    /// An S3 gateway over plain files.
    Versitygw,
    /// OpenTofu's command line.
    Tofu,
    /// Helm's command line.
    Helm,
    /// Checks GitHub workflows.
    Actionlint,
    /// An identity provider.
    OpenId,
    /// Metrics of Kubernetes objects.
    KubeStateMetrics,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Controllers => "controllers",
            Self::Kubectl => "kubectl",
            Self::Etcd => "etcd",
            Self::Versitygw => "versitygw",
            Self::Tofu => "tofu",
            Self::Helm => "helm",
            Self::Actionlint => "actionlint",
            Self::OpenId => "openid",
            Self::KubeStateMetrics => "kube-state-metrics",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Controllers => "./controllers",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Versitygw => "github.com/versity/versitygw/cmd/versitygw",
            Self::Tofu => "github.com/opentofu/opentofu/cmd/tofu",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
            Self::Actionlint => "github.com/rhysd/actionlint/cmd/actionlint",
            // A few lines of our own in that folder, on a library.
            Self::OpenId => ".",
            Self::KubeStateMetrics => "k8s.io/kube-state-metrics/v2",
        }
    }

    /// Whether the environment names an older Kubernetes, which this is a part of.
    fn is_older(self) -> bool {
        matches!(self, Self::KubeApiserver | Self::KubeControllerManager | Self::Kubectl)
            && kubernetes::older().is_some()
    }

    /// Programs that are built at once, and kept in a folder of this name.
    fn group(self) -> &'static str {
        if self == Self::Controllers { "controllers" } else { self.module() }
    }

    /// What Go calls the program that it builds.
    fn built_as(self) -> &'static str {
        if self == Self::Etcd { "server" } else { self.name() }
    }

    /// The folder under `hack/` whose `go.mod` pins this one.
    fn module(self) -> &'static str {
        match self {
            Self::Tofu => "tofu",
            Self::Helm | Self::Actionlint => "tools",
            Self::OpenId => "openid",
            Self::KubeStateMetrics => "kube-state-metrics",
            _ if self.is_older() => kubernetes::older().unwrap_or(kubernetes::NEWEST),
            _ => kubernetes::NEWEST,
        }
    }
}

/// Where the asked-for programs are, in the order of `wanted`. Those that are missing are got first, which takes minutes
/// on a machine that has none of them.
pub fn binaries<const N: usize>(wanted: [Server; N]) -> Result<[PathBuf; N]> {
    let setup = Setup::of_this_machine()?;
    setup.get(setup.missing(&wanted)?, &Progress::lines())?;
    let mut paths = [const { PathBuf::new() }; N];
    for (server, path) in wanted.into_iter().zip(&mut paths) {
        *path = setup.find(server)?.with_context(|| format!("{} was not made", server.name()))?;
    }
    Ok(paths)
}

/// The program with Kubernetes' controllers: the real one in CI, and where it is built already.
pub fn controllers() -> Result<Server> {
    Setup::of_this_machine()?.controllers()
}

/// Gets missing programs. `afterwards` plans what comes after that.
pub fn prepare(wanted: &[Server], progress: &Progress, afterwards: impl FnOnce()) -> Result<()> {
    let setup = Setup::of_this_machine()?;
    let missing = setup.missing(wanted)?;
    missing.plan(progress);
    afterwards();
    setup.get(missing, progress)
}

/// A `terraform` or `tofu`: one on `PATH`, or else OpenTofu, which is got like the servers.
pub fn terraform() -> Result<PathBuf> {
    if let Some(found) = terraform_on_path() {
        return Ok(found);
    }
    let [tofu] = binaries([Server::Tofu])?;
    Ok(tofu)
}

/// A `terraform` or `tofu` that is installed.
pub fn terraform_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["terraform", "tofu"].iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
    })
}

/// Helm, built from source.
pub fn helm() -> Result<PathBuf> {
    let [helm] = binaries([Server::Helm])?;
    Ok(helm)
}

/// actionlint, built from source.
pub fn actionlint() -> Result<PathBuf> {
    let [actionlint] = binaries([Server::Actionlint])?;
    Ok(actionlint)
}

/// The CRDs of the Gateway API and the Prometheus operator whose objects are shipped, one in each file.
pub fn crds() -> Result<Vec<PathBuf>> {
    CRDS.iter().map(|(module, path)| Ok(downloaded(module)?.join(path))).collect()
}

/// The folder of a Go module that `hack/crds/go.mod` requires, as its `go.sum` has it.
fn downloaded(module: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    let output = go.args(["mod", "download", "-json", module]).current_dir(source("crds")).output();
    let output = output.with_context(|| format!("cannot run go to download {module}: install Go"))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("go mod download {module}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let folder = answer["Dir"].as_str();
    Ok(folder.with_context(|| format!("go mod download {module}: {}", answer["Error"]))?.into())
}

/// The folder `hack/NAME`.
pub(crate) fn source(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack").join(module)
}

/// What decides on the program: `go.mod`, `go.sum`, and code of our own.
fn pinned(server: Server) -> Result<Vec<PathBuf>> {
    let module = source(server.module());
    let code = module.join(if server == Server::Controllers { "controllers" } else { "" });
    let files = fs::read_dir(&code).with_context(|| format!("cannot read {}", code.display()))?;
    let files = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut code: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
        .collect();
    code.sort();
    Ok(["go.mod", "go.sum"].map(|name| module.join(name)).into_iter().chain(code).collect())
}

/// The folder in the user's cache for what is made from these files.
pub(crate) fn cache_for(module: &str, files: &[PathBuf]) -> Result<PathBuf> {
    Ok(cache()?.join(hashed(module, files)?))
}

fn cache() -> Result<PathBuf> {
    let root = std::env::var_os("XDG_CACHE_HOME").filter(|root| !root.is_empty()).map(PathBuf::from);
    let root = root.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let root =
        root.context("neither XDG_CACHE_HOME nor HOME is set: set one, the built servers are kept there")?;
    Ok(root.join("opendepot"))
}

/// The name with a hash of the files.
fn hashed(name: &str, files: &[PathBuf]) -> Result<String> {
    let mut digest = Digest::new(&SHA256);
    for path in files {
        digest.update(&fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let hash = *digest.finish().as_ref().first_chunk().context("a SHA-256 has 8 bytes")?;
    Ok(format!("{name}-{:016x}", u64::from_be_bytes(hash)))
}

pub(crate) fn tell(text: &str) {
    Progress::lines().say(text);
}
