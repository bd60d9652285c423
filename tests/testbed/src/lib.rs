//! The real parts that OpenDepot's tests, benches and quickstart run on.
//!
//! | part | what it is |
//! |---|---|
//! | [`control_plane`] | etcd, kube-apiserver and Kubernetes' own controllers, with an audit log to count calls in |
//! | [`kubernetes`] | which version of Kubernetes that is |
//! | [`s3`] | versitygw, behind a proxy that counts and fails requests |
//! | [`github`] | GitHub's site, REST API and archives, of real git repositories |
//! | [`aws`] | a stand-in for AWS, and the AWS CLI |
//! | [`openid`] | a provider of OpenID Connect |
//! | [`operator`] | the built binary, run as the shipped service account |
//! | [`terraform`] | Terraform or OpenTofu, as the judge of what is stored |
//! | [`signing`] | tokens that a test signs itself |
//! | [`https`] | a server that answers as a test says |
//! | [`authority`] | a throw-away certificate authority |
//! | [`workflow`] | a GitHub Actions runner |
//! | [`instructions`] | what a text asks its reader to do: manifests, commands, steps of workflows |
//! | [`markdown`] | pages of documentation, as blocks, tables and links |
//! | [`servers`] | downloads those programs or builds them from source, once per machine |
//! | [`progress`] | how far that is |
//! | [`port`] | loopback ports that are reserved for this process |
//! | [`programs`] | programs of this machine, and scripts |
//! | [`process`] | children that end with the test, however it ends |
//!
//! Everything listens on loopback and keeps its files in temporary folders. Nothing here knows OpenDepot's code.

pub mod authority;
pub mod aws;
mod background;
pub mod control_plane;
pub mod github;
mod hold;
pub mod https;
pub mod instructions;
pub mod kubernetes;
mod log;
pub mod markdown;
pub mod openid;
pub mod operator;
pub mod port;
pub mod process;
pub mod programs;
pub mod progress;
pub mod s3;
pub mod servers;
pub mod signing;
pub mod terraform;
pub mod workflow;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use kube::Client;
use tokio::sync::OnceCell;

pub use self::background::eventually;
use self::control_plane::{ControlPlane, Output};
use self::github::GitHub;
use self::operator::OperatorBuilder;
use self::s3::{REGION, S3};

/// What the testbed has to know about the product.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The operator's binary.
    pub operator: PathBuf,
    /// A folder with the CRDs, applied before Kubernetes' own controllers start.
    pub crds: Option<PathBuf>,
    /// A folder with manifests or a kustomization: service account, RBAC.
    pub deploy: Option<PathBuf>,
    /// Namespace (made, where it is missing) and name of the service account that the operator runs as; without it, the
    /// administrator.
    pub service_account: Option<(String, String)>,
    /// The same for the registry.
    pub registry: Option<(PathBuf, (String, String))>,
}

/// A control plane, an S3 and a GitHub. They end when this is dropped, and when the process ends.
pub struct Testbed {
    /// Kubernetes.
    pub kubernetes: ControlPlane,
    /// S3.
    pub s3: S3,
    /// GitHub.
    pub github: GitHub,
    operator: PathBuf,
    kubeconfig: PathBuf,
    registry_kubeconfig: PathBuf,
}

/// A namespace and a bucket that one test has for itself. Both have the same name.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The namespace.
    pub namespace: String,
    /// The bucket.
    pub bucket: String,
}

impl Testbed {
    /// Starts everything.
    pub async fn start(options: Options) -> Result<Self> {
        // The servers' tasks outlive the caller's runtime.
        background::on_runtime(Self::start_here(options)).await
    }

    async fn start_here(options: Options) -> Result<Self> {
        let (mut kubernetes, s3, github) =
            tokio::try_join!(ControlPlane::start(), S3::start(), GitHub::start())?;
        if let Some(folder) = &options.crds {
            kubernetes.apply(folder).await?;
        }
        kubernetes.start_controllers()?;
        if let Some((namespace, _)) = &options.service_account {
            kubernetes.create_namespace(namespace).await?;
        }
        if let Some(folder) = &options.deploy {
            kubernetes.apply(folder).await?;
        }
        let kubeconfig = match &options.service_account {
            Some((namespace, name)) => kubernetes.kubeconfig_for_service_account(namespace, name).await?,
            None => kubernetes.admin_kubeconfig(),
        };
        let registry_kubeconfig = match &options.registry {
            Some((folder, (namespace, name))) => {
                kubernetes.create_namespace(namespace).await?;
                kubernetes.apply(folder).await?;
                kubernetes.kubeconfig_for_service_account(namespace, name).await?
            }
            None => kubernetes.admin_kubeconfig(),
        };
        Ok(Self { kubernetes, s3, github, operator: options.operator, kubeconfig, registry_kubeconfig })
    }

    /// The one testbed that all tests of this process share, started by the first that asks.
    pub async fn shared(options: impl FnOnce() -> Options) -> Result<&'static Self> {
        static SHARED: OnceCell<Testbed> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(options())).await
    }

    /// A fresh namespace and bucket.
    ///
    /// `name` may have lower-case letters, digits and hyphens, at most 40 of them.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.kubernetes.create_namespace(&name).await?;
        self.s3.create_bucket(&name).await?;
        Ok(Tenant { namespace: name.clone(), bucket: name })
    }

    /// The operator as shipped, configured with the addresses of this testbed.
    pub fn operator(&self) -> OperatorBuilder {
        OperatorBuilder::new(&self.operator)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HTTPS_PROXY", self.github.proxy_url())
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("AWS_ACCESS_KEY_ID", &self.s3.root().access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.s3.root().secret_key)
            .env("AWS_ENDPOINT_URL_S3", self.s3.endpoint())
            .env("AWS_REGION", REGION)
            .args([OsString::from("--ca-file"), self.github.ca_file().into()])
    }

    /// The registry as shipped, configured with the addresses of this testbed. It has no access to GitHub.
    pub fn registry(&self) -> OperatorBuilder {
        OperatorBuilder::registry(&self.operator)
            .env("KUBECONFIG", &self.registry_kubeconfig)
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("AWS_ACCESS_KEY_ID", &self.s3.root().access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.s3.root().secret_key)
            .env("AWS_ENDPOINT_URL_S3", self.s3.endpoint())
            .env("AWS_REGION", REGION)
    }

    /// A Kubernetes client of the administrator, for the caller's runtime.
    pub async fn admin(&self) -> Result<Client> {
        self.kubernetes.admin().await
    }

    /// The kubeconfig with the operator's rights.
    pub fn operator_kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A Kubernetes client with the operator's rights, for the caller's runtime.
    pub async fn operator_client(&self) -> Result<Client> {
        self.kubernetes.client(&self.kubeconfig).await.context("cannot use the operator's kubeconfig")
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.kubernetes.kubectl(args)
    }

    /// Runs kubectl as the administrator, with `stdin` to read (`apply -f -`).
    pub fn kubectl_with(&self, args: &[&str], stdin: &str) -> Result<Output> {
        self.kubernetes.kubectl_with(args, stdin)
    }
}
