//! What the operator needs: a Kubernetes API with its CRDs and RBAC, a bucket, and GitHub with a private repository.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use opendepot_testbed::github::{File, real_repositories};
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::s3::REGION;
use opendepot_testbed::servers::{self, Server};
use opendepot_testbed::{Options, Testbed};
use serde_json::Value;

use crate::screen::{command, heading, output, say};

/// The namespace of the operator and of everything here.
pub const NAMESPACE: &str = "opendepot-system";
/// The bucket.
pub const BUCKET: &str = "opendepot-modules";
/// The repository of the first Module.
pub const REPOSITORY: &str = "terraform-aws-modules/terraform-aws-eks";
/// Full names, because other software has kinds of the same names.
const VERSIONS: &str = "versions.opendepot.defdev.io";
const BOTH: &str = "modules.opendepot.defdev.io,versions.opendepot.defdev.io";
/// The tags of that repository.
const TAGS: [&str; 4] = ["v21.10.1", "v21.11.0", "v21.12.0", "v21.13.0"];

/// All servers and the operator. They stop when this is dropped or the process ends.
pub struct Stage {
    pub bed: Testbed,
    /// Whether to use the real GitHub.
    pub online: bool,
    /// Where git finds the first Module's repository.
    pub origin: String,
    /// The GitHub App's installation on the local GitHub.
    pub installation: Option<u64>,
    operator: Operator,
}

impl Stage {
    /// Builds missing programs and starts everything.
    pub async fn start(online: bool) -> Result<Self> {
        if foreign_operator().is_none() {
            heading("Build the operator");
            build()?;
        }
        heading("Start Kubernetes, S3 and GitHub on this machine");
        let bed = servers().await?;
        bed.s3.create_bucket(BUCKET).await?;
        say(format!("S3: {}, bucket {BUCKET}", bed.s3.endpoint()));
        let (origin, installation) = if online {
            say("GitHub: github.com itself");
            (format!("https://github.com/{REPOSITORY}"), None)
        } else {
            let (origin, installation) = private_repository(&bed)?;
            (origin, Some(installation))
        };
        heading("Start the operator, with its service account and the shipped RBAC");
        let operator = operator(&bed, online).await?.start()?;
        let took = operator.wait_ready().await?;
        say(format!("ready after {} ms", took.as_millis()));
        Ok(Self { bed, online, origin, installation, operator })
    }

    /// Shows a kubectl command, runs it, and shows its output.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&self.bed, args)
    }

    /// Shows all Modules and Versions as users see them.
    pub fn show(&self) -> Result<()> {
        self.kubectl(&["get", BOTH, "-n", NAMESPACE]).map(drop)
    }

    /// Waits for a condition of a Module, and fails with the reasons of its Versions.
    pub fn wait(&self, module: &str, condition: &str) -> Result<()> {
        let object = format!("modules.opendepot.defdev.io/{module}");
        let condition = format!("--for={condition}");
        if self.kubectl(&["wait", &object, "-n", NAMESPACE, &condition, "--timeout=60s"]).is_ok() {
            return Ok(());
        }
        self.show()?;
        let why = "jsonpath={range .items[*].status.conditions[?(@.type==\"Ready\")]}{.reason}: {.message}{\"\\n\"}{end}";
        let why = self.bed.kubectl(&["get", VERSIONS, "-n", NAMESPACE, "-o", why])?.ok()?;
        let mut reasons: Vec<&str> = why.lines().filter(|line| !line.starts_with("Synced:")).collect();
        reasons.sort_unstable();
        reasons.dedup();
        bail!("{object} is not Ready after 60 s. Its Versions report:\n{}", reasons.join("\n"))
    }

    /// All Versions of a Module, by name.
    pub fn versions(&self, module: &str) -> Result<Vec<Value>> {
        let of = format!("opendepot.defdev.io/module={module}");
        let list = self.bed.kubectl(&["get", VERSIONS, "-n", NAMESPACE, "-l", &of, "-o", "json"])?.ok()?;
        let mut list: Value = serde_json::from_str(&list)?;
        let Value::Array(versions) = list["items"].take() else { bail!("kubectl gave no list") };
        Ok(versions)
    }

    /// Keeps everything running until Ctrl-C.
    pub async fn keep(&self) -> Result<()> {
        heading("Everything keeps running. Press Ctrl-C to stop it");
        let (kubernetes, s3) = (&self.bed.kubernetes, &self.bed.s3);
        let tools = kubernetes.kubectl_path().parent().context("kubectl has no parent folder")?;
        say(format!(
            "export KUBECONFIG={}\nexport PATH={}:$PATH",
            kubernetes.admin_kubeconfig().display(),
            tools.display()
        ));
        say(format!("export AWS_ENDPOINT_URL_S3={} AWS_REGION={REGION}", s3.endpoint()));
        say(format!(
            "export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}",
            s3.root().access_key,
            s3.root().secret_key
        ));
        say(format!(
            "\nkubectl get {BOTH} -n {NAMESPACE}\ntail -f {}",
            self.operator.home().join("operator.log").display()
        ));
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
    }
}

/// Uses this example's target folder and features, so that nothing is compiled twice.
fn build() -> Result<()> {
    let mut args = vec!["build", "--bin", "opendepot", "--example", "quickstart"];
    if !cfg!(debug_assertions) {
        args.push("--release");
    }
    command("cargo", &args);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo).args(&args).status().context("cannot run cargo")?;
    ensure!(status.success(), "the operator does not build, see above");
    Ok(())
}

/// An operator that was built elsewhere and is to be shown: `OPENDEPOT_BIN`.
fn foreign_operator() -> Option<PathBuf> {
    std::env::var_os("OPENDEPOT_BIN").map(PathBuf::from)
}

/// This program is target/PROFILE/examples/quickstart, its own operator target/PROFILE/opendepot.
fn operator_path() -> Result<PathBuf> {
    if let Some(operator) = foreign_operator() {
        return Ok(operator);
    }
    let here = std::env::current_exe()?;
    let profile = here.ancestors().nth(2).context("this program is not in cargo's target folder")?;
    Ok(profile.join("opendepot"))
}

async fn servers() -> Result<Testbed> {
    use Server::{Etcd, KubeApiserver, KubeControllerManager, Kubectl, Versitygw};
    // Those that this machine does not have yet are built from source, one after the other.
    servers::binaries([Etcd, KubeApiserver, KubeControllerManager, Kubectl, Versitygw])?;
    let folder = |name: &str| Some(std::env::current_dir().ok()?.join(name));
    let started = Instant::now();
    let bed = Testbed::start(Options {
        operator: operator_path()?,
        crds: folder("crds"),
        deploy: folder("deploy/base"),
        service_account: Some((NAMESPACE.to_owned(), "opendepot".to_owned())),
        registry: None,
    });
    let bed = bed.await?;
    say(format!("up after {:.1} s: crds/ and deploy/base are applied", started.elapsed().as_secs_f32()));
    kubectl(&bed, &["version"])?;
    Ok(bed)
}

/// Creates the first Module's private repository, and a GitHub App with access to it.
fn private_repository(bed: &Testbed) -> Result<(String, u64)> {
    let repository = if real_repositories().join(format!("{REPOSITORY}.git")).is_dir() {
        bed.github.alias(REPOSITORY, REPOSITORY)?
    } else {
        let repository = bed.github.repository(REPOSITORY)?;
        repository.releases(TAGS.map(|tag| (tag, stand_in(tag))))?;
        repository
    };
    let repository = repository.private(true);
    let app = bed.github.app(&[REPOSITORY])?;
    say(format!("GitHub: a local stand-in for github.com, with {REPOSITORY} as a private repository"));
    let key = bed.github.ca_file().with_file_name("app.pem");
    std::fs::write(&key, &app.pkcs1_pem).context("cannot write the App's key")?;
    let secret = [
        "create",
        "secret",
        "generic",
        "opendepot-github-application-secret",
        "-n",
        NAMESPACE,
        &format!("--from-literal=githubAppID={}", app.id),
        &format!("--from-literal=githubInstallID={}", app.installation),
        &format!("--from-file=githubPrivateKey={}", key.display()),
    ];
    kubectl(bed, &secret)?;
    let origin = format!("file://{}", std::path::absolute(repository.folder())?.display());
    Ok((origin, app.installation))
}

/// The files of the repository if the real one is not available.
fn stand_in(tag: &str) -> Vec<File> {
    let readme = format!("# terraform-aws-eks {tag}, a stand-in\n");
    let karpenter = "variable \"cluster_name\" {\n  type    = string\n  default = \"\"\n}\n";
    vec![File::new("README.md", readme), File::new("modules/karpenter/main.tf", karpenter)]
}

async fn operator(bed: &Testbed, online: bool) -> Result<OperatorBuilder> {
    if !online {
        return Ok(bed.operator());
    }
    // Like the testbed's operator, without the proxy to the local GitHub.
    let kubeconfig = bed.kubernetes.kubeconfig_for_service_account(NAMESPACE, "opendepot").await?;
    let mut operator = OperatorBuilder::new(operator_path()?)
        .env("KUBECONFIG", kubeconfig)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("AWS_ACCESS_KEY_ID", &bed.s3.root().access_key)
        .env("AWS_SECRET_ACCESS_KEY", &bed.s3.root().secret_key)
        .env("AWS_ENDPOINT_URL_S3", bed.s3.endpoint())
        .env("AWS_REGION", REGION);
    for name in ["HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            operator = operator.env(name, value);
        }
    }
    Ok(operator)
}

fn kubectl(bed: &Testbed, args: &[&str]) -> Result<String> {
    command("kubectl", args);
    let said = bed.kubectl(args)?;
    output(&said.stdout);
    output(&said.stderr);
    said.ok()
}
