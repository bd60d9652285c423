//! The real servers and clients that the tests run on, built from source once per machine.
//!
//! The `go.mod` files below `hack/` pin them. What is built is in the user's cache folder, under the hash of that file,
//! its `go.sum` and its code, so that a fresh clone finds it. `$KUBEBUILDER_ASSETS`, when set, wins for what it holds.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use serde_json::Value;

/// CRDs of others whose objects are shipped: the module in `hack/crds/go.mod` that contains one, and where.
const CRDS: [(&str, &str); 3] = [
    ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    (PROMETHEUS_OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
];
const PROMETHEUS_OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator";

/// A program that the testbed can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Kubernetes' API server.
    KubeApiserver,
    /// Kubernetes' own controllers.
    KubeControllerManager,
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

    /// The folder under `hack/` whose `go.mod` pins this one.
    fn module(self) -> &'static str {
        match self {
            Self::Tofu => "tofu",
            Self::Helm | Self::Actionlint => "tools",
            Self::OpenId => "openid",
            Self::KubeStateMetrics => "kube-state-metrics",
            _ => "servers",
        }
    }
}

/// Where the asked-for programs are, in the order of `wanted`. Those that are missing are built first, which takes
/// minutes on a machine that has none of them.
pub fn binaries<const N: usize>(wanted: [Server; N]) -> Result<[PathBuf; N]> {
    let mut missing = Vec::new();
    let mut paths = wanted.map(asset);
    for (server, path) in wanted.into_iter().zip(&mut paths) {
        if path.as_os_str().is_empty() {
            *path = cache(server.module())?.join(server.name());
            if !path.exists() {
                missing.push((server, path.clone()));
            }
        }
    }
    for (done, (server, path)) in missing.iter().enumerate() {
        build(*server, path, &format!("{} of {}", done + 1, missing.len()))?;
    }
    Ok(paths)
}

/// A `terraform` or `tofu`: one on `PATH`, or else OpenTofu, built from source.
pub fn terraform() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["terraform", "tofu"].iter().find_map(|name| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
    });
    if let Some(found) = found {
        return Ok(found);
    }
    let [tofu] = binaries([Server::Tofu])?;
    Ok(tofu)
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

/// The program in `$KUBEBUILDER_ASSETS`, or an empty path.
fn asset(server: Server) -> PathBuf {
    std::env::var_os("KUBEBUILDER_ASSETS")
        .map(|assets| Path::new(&assets).join(server.name()))
        .filter(|path| path.is_file())
        .unwrap_or_default()
}

/// The folder `hack/NAME`.
pub(crate) fn source(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack").join(module)
}

/// What decides on the program: `go.mod`, `go.sum`, and code of our own.
fn pinned(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let files = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut code: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
        .collect();
    code.sort();
    Ok(["go.mod", "go.sum"].map(|name| folder.join(name)).into_iter().chain(code).collect())
}

fn cache(module: &str) -> Result<PathBuf> {
    cache_for(module, &pinned(&source(module))?)
}

/// The folder in the user's cache for what is made from these files.
pub(crate) fn cache_for(module: &str, files: &[PathBuf]) -> Result<PathBuf> {
    let root = std::env::var_os("XDG_CACHE_HOME").filter(|root| !root.is_empty()).map(PathBuf::from);
    let root = root.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let root =
        root.context("neither XDG_CACHE_HOME nor HOME is set: set one, the built servers are kept there")?;
    let mut digest = Digest::new(&SHA256);
    for path in files {
        digest.update(&fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let hash = *digest.finish().as_ref().first_chunk().context("a SHA-256 has 8 bytes")?;
    Ok(root.join("opendepot").join(format!("{module}-{:016x}", u64::from_be_bytes(hash))))
}

fn build(server: Server, path: &Path, progress: &str) -> Result<()> {
    let folder = path.parent().context("a binary is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let guard = File::create(folder.join(".lock")).context("cannot make the build lock")?;
    guard.lock().context("cannot take the build lock")?;
    if path.exists() {
        return Ok(());
    }
    let name = server.name();
    let started = Instant::now();
    tell(&format!("building {name} ({progress}), some minutes, once per machine"));
    let unfinished = folder.join(format!(".{name}.unfinished"));
    let status = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &ldflags(server)?, "-o"])
        .arg(&unfinished)
        .arg(server.package())
        .env("CGO_ENABLED", "0")
        .current_dir(source(server.module()))
        .status()
        .with_context(|| format!("cannot run go to build {name}: install Go, or set KUBEBUILDER_ASSETS"))?;
    if !status.success() {
        bail!("building {name} failed, see above");
    }
    // Renamed last: an interrupted build is never mistaken for a good one.
    fs::rename(&unfinished, path).with_context(|| format!("cannot put {name} into {}", folder.display()))?;
    tell(&format!("built {name} in {} s", started.elapsed().as_secs()));
    Ok(())
}

/// Not `eprintln`, which a test keeps to itself: who waits for minutes wants to know what for.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Without these a Kubernetes server takes itself for v0.0.0.
fn ldflags(server: Server) -> Result<String> {
    if !server.package().starts_with("k8s.io/kubernetes/") {
        return Ok("-s -w".to_owned());
    }
    let text = fs::read_to_string(source("servers").join("go.mod"))?;
    let version = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    // What follows is a comment of Go's own: `// indirect`.
    let version = version.and_then(|rest| rest.split_whitespace().next());
    let version = version.context("hack/servers/go.mod does not require k8s.io/kubernetes")?;
    let (major, rest) = version.split_once('.').context("k8s.io/kubernetes has an odd version")?;
    let minor = rest.split('.').next().unwrap_or_default();
    let base = "k8s.io/component-base/version";
    Ok(format!("-s -w -X {base}.gitVersion=v{version} -X {base}.gitMajor={major} -X {base}.gitMinor={minor}"))
}
