//! What OpenDepot needs: a Kubernetes API with its CRDs and RBAC, a bucket, and GitHub with a private repository.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use opendepot_testbed::github::{App, File};
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::s3::REGION;
use opendepot_testbed::servers::{self, Server};
use opendepot_testbed::{Options, Testbed};
use serde_json::Value;

use crate::install::Consumer;
use crate::publish::{MANAGER, MODULE, MODULES};
use crate::registry::Registry;
use crate::screen::{begin_steps, command, heading, line, output, plan_steps, progress, say};

/// The namespace of the operator and of everything here.
pub(crate) const NAMESPACE: &str = "opendepot-system";
/// The bucket.
pub(crate) const BUCKET: &str = "opendepot-modules";
/// The repository of the Module.
pub(crate) const REPOSITORY: &str = "terraform-aws-modules/terraform-aws-eks";
/// Full names, because other software has kinds of the same names.
const VERSIONS: &str = "versions.opendepot.defdev.io";
const BOTH: &str = "modules.opendepot.defdev.io,versions.opendepot.defdev.io";
/// The tags of that repository. The last one is for users who keep everything running.
const TAGS: [&str; 5] = ["v21.10.1", "v21.11.0", "v21.12.0", "v21.13.0", "v21.14.0"];

/// All servers, the operator and the registry. They stop when this is dropped or the process ends.
pub(crate) struct Stage {
    pub bed: Testbed,
    /// Whether to use the real GitHub.
    pub online: bool,
    /// Where git finds the Module's repository.
    pub origin: String,
    /// A GitHub App with access to it, on the local GitHub.
    pub app: Option<App>,
    pub registry: Registry,
    operator: Operator,
}

impl Stage {
    /// Builds missing programs and starts everything.
    pub(crate) async fn start(online: bool) -> Result<Self> {
        if foreign_operator().is_none() {
            heading("Build OpenDepot");
            build()?;
        }
        heading("Start Kubernetes, S3 and GitHub on this machine");
        let bed = servers().await?;
        bed.s3.create_bucket(BUCKET).await?;
        let (origin, app) = if online {
            say("GitHub is github.com itself");
            (format!("https://github.com/{REPOSITORY}"), None)
        } else {
            let (origin, app) = private_repository(&bed)?;
            (origin, Some(app))
        };
        heading("Start the operator and the registry, each with its service account and the shipped RBAC");
        command("opendepot", &["run"]);
        let operator = operator(&bed, online).await?.start()?;
        let took = operator.wait_ready().await?;
        say(format!("ready after {} ms", took.as_millis()));
        let registry = Registry::start(&bed).await?;
        Ok(Self { bed, online, origin, app, registry, operator })
    }

    /// Creates the Secret with the GitHub App's credentials.
    pub(crate) fn secret(&self, app: &App) -> Result<()> {
        let key = self.bed.github.ca_file().with_file_name("app.pem");
        std::fs::write(&key, &app.pkcs1_pem).context("cannot write the App's key")?;
        let (id, installation) = (app.id, app.installation);
        let fields = [
            format!("--from-literal=githubAppID={id}"),
            format!("--from-literal=githubInstallID={installation}"),
            format!("--from-file=githubPrivateKey={}", key.display()),
        ];
        let name = ["create", "secret", "generic", "opendepot-github-application-secret", "-n", NAMESPACE];
        self.kubectl(&[&name[..], &fields.each_ref().map(String::as_str)].concat()).map(drop)
    }

    /// Shows a kubectl command, runs it, and shows its output.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<String> {
        kubectl(&self.bed, args)
    }

    /// Shows all Modules and Versions as users see them.
    pub(crate) fn show(&self) -> Result<()> {
        self.kubectl(&["get", BOTH, "-n", NAMESPACE]).map(drop)
    }

    /// Waits for a condition of a Module, and fails with the reasons of its Versions.
    pub(crate) fn wait(&self, module: &str, condition: &str) -> Result<()> {
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
    pub(crate) fn versions(&self, module: &str) -> Result<Vec<Value>> {
        let of = format!("opendepot.defdev.io/module={module}");
        let list = self.bed.kubectl(&["get", VERSIONS, "-n", NAMESPACE, "-l", &of, "-o", "json"])?.ok()?;
        let mut list: Value = serde_json::from_str(&list)?;
        let Value::Array(versions) = list["items"].take() else { bail!("kubectl gave no list") };
        Ok(versions)
    }

    /// Keeps everything running until Ctrl-C.
    pub(crate) async fn keep(&self, consumer: &Consumer) -> Result<()> {
        heading("Everything keeps running. Press Ctrl-C to stop it, and to delete its files");
        let (kubernetes, s3) = (&self.bed.kubernetes, &self.bed.s3);
        let folder = |path: &Path| path.parent().map(|path| path.display().to_string());
        let tools =
            [folder(kubernetes.kubectl_path()), folder(&operator_path()?), folder(consumer.client_path())];
        let tools: Vec<String> = tools.into_iter().flatten().collect();
        say("Paste this into another shell:\n");
        say(format!(
            "export KUBECONFIG={} PATH={}:$PATH",
            kubernetes.admin_kubeconfig().display(),
            tools.join(":")
        ));
        say(format!("export AWS_ENDPOINT_URL_S3={} AWS_REGION={REGION}", s3.endpoint()));
        say(format!(
            "export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}",
            s3.root().access_key,
            s3.root().secret_key
        ));
        say(&consumer.environment);
        say(format!("cd {}", consumer.folder()));
        say(format!("\nmain.tf in that folder, or a folder of your own:\n\n{}", consumer.text));
        let client = consumer.client();
        say(format!("kubectl get {BOTH} -n {NAMESPACE} -o wide"));
        let release = r#"[{"op":"add","path":"/spec/versions/-","value":{"version":"21.14.0"}}]"#;
        let patch = ["patch", MODULES, MODULE, "-n", NAMESPACE, MANAGER, "--type", "json", "-p", release];
        say(line("kubectl", &patch));
        say(format!("{client} init -upgrade"));
        if !self.online {
            let (proxy, ca) = (self.bed.github.proxy_url(), self.bed.github.ca_file());
            let local = format!("HTTPS_PROXY={proxy} NO_PROXY=127.0.0.1 OPENDEPOT_CA_FILE={}", ca.display());
            say(format!("{local} opendepot check {MODULE} -n {NAMESPACE}    # with the local GitHub"));
        }
        say(format!("tail -f {}    # operator", self.operator.home().join("operator.log").display()));
        say(format!("tail -f {}    # registry", self.registry.log_file().display()));
        say(format!("curl http://{}/metrics    # operator", self.operator.admin_address()));
        say(format!("curl http://{}/metrics    # registry", self.registry.admin_address()));
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
    let status = progress().above(|| Command::new(cargo).args(&args).status()).context("cannot run cargo")?;
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
    use Server::{Etcd, KubeApiserver, Kubectl, Tofu, Versitygw};
    let wanted = [Etcd, KubeApiserver, Kubectl, Versitygw, servers::controllers()?];
    // OpenTofu, where neither client is installed.
    let client = servers::terraform_on_path().is_none().then_some(Tofu);
    servers::prepare(&wanted.into_iter().chain(client).collect::<Vec<_>>(), progress(), plan_steps)?;
    begin_steps();
    let folder = |name: &str| Some(std::env::current_dir().ok()?.join(name));
    let started = Instant::now();
    let bed = Testbed::start(Options {
        operator: operator_path()?,
        crds: folder("crds"),
        deploy: folder("deploy/base"),
        service_account: Some((NAMESPACE.to_owned(), "opendepot".to_owned())),
        registry: folder("deploy/registry")
            .map(|path| (path, (NAMESPACE.into(), "opendepot-registry".into()))),
    });
    let bed = bed.await?;
    let took = started.elapsed().as_secs_f32();
    say(format!("up after {took:.1} s: crds/, deploy/base and deploy/registry are applied"));
    Ok(bed)
}

/// Creates the Module's private repository, and a GitHub App with access to it.
fn private_repository(bed: &Testbed) -> Result<(String, App)> {
    let repository = bed.github.repository(REPOSITORY)?;
    repository.releases(TAGS.map(|tag| (tag, stand_in(tag))))?;
    let repository = repository.private(true);
    say(format!("GitHub is a local stand-in for github.com, with a small private repository {REPOSITORY}"));
    let origin = format!("file://{}", std::path::absolute(repository.folder())?.display());
    Ok((origin, bed.github.app(&[REPOSITORY])?))
}

/// The files of the local repository: a module that needs no provider.
fn stand_in(tag: &str) -> Vec<File> {
    let resource = format!("  input = \"cluster ${{var.name}}, by terraform-aws-eks {tag}\"");
    let main = format!(
        "variable \"name\" {{\n  type = string\n}}\n\nresource \"terraform_data\" \"cluster\" {{\n{resource}\n}}\n"
    );
    let karpenter = "variable \"cluster_name\" {\n  type    = string\n  default = \"\"\n}\n";
    let readme = format!("# terraform-aws-eks {tag}, a stand-in\n");
    vec![
        File::new("README.md", readme),
        File::new("main.tf", main),
        File::new("modules/karpenter/main.tf", karpenter),
    ]
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
