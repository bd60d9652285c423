//! The registry as a test uses it: the built binary over TLS, as the shipped service account, and its clients.

use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use opendepot_testbed::control_plane::{AuditEntry, AuditMark};
use opendepot_testbed::eventually;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use opendepot_testbed::port::free_port;
use opendepot_testbed::terraform::Terraform;
use reqwest::{Client, RequestBuilder, Response};

use super::registry_files::{Files, answered};
use super::{ROOTS, SOON, World, soon};

/// The registry's user.
pub(crate) const REGISTRY: &str = "system:serviceaccount:opendepot-system:opendepot-registry";

/// A running registry. It ends when this is dropped.
pub(crate) struct Registry {
    pub process: Operator,
    /// `127.0.0.1:PORT`, which is the host in addresses and the audience of tokens.
    pub host: String,
    pub client: Client,
    /// The certificate of its authority.
    pub ca_file: PathBuf,
    credential: String,
    _files: Files,
}

/// What is needed to start one.
pub(crate) struct RegistryBuilder {
    pub builder: OperatorBuilder,
    pub host: String,
    credential: String,
    files: Files,
}

impl RegistryBuilder {
    /// A registry of the test's namespace, with a link key and a token of its own, that is yet to be started.
    pub(crate) fn new(world: &World) -> Self {
        Self::behind(world, None)
    }

    /// The same, which reaches the API server at this URL.
    pub(crate) fn behind(world: &World, url: Option<&str>) -> Self {
        let (namespace, name) = ("opendepot-system", "opendepot-registry");
        let (kubeconfig, credential) = world.bed.kubernetes.kubeconfig_of(namespace, name, url).unwrap();
        let files = Files::new();
        let host = format!("127.0.0.1:{}", free_port().unwrap());
        let builder = world
            .bed
            .registry()
            .env("KUBECONFIG", kubeconfig)
            .env(ROOTS.0, ROOTS.1)
            .args(["--namespace", &world.name, "--log-level", "debug", "--drain", "0s"])
            .args(["--allow-storage", &format!("{0}={0}", world.name)])
            .args(["--listen", &host, "--url", &format!("https://{host}")])
            .args(files.tls())
            .args(files.link_key());
        Self { builder, host, credential, files }
    }

    /// A file beside the certificate.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// With more arguments.
    pub(crate) fn args(self, args: &[&str]) -> Self {
        Self { builder: self.builder.args(args.iter().copied()), ..self }
    }

    /// With a flag whose value is a file with this text.
    pub(crate) fn flag_file(self, flag: &str, text: &str) -> Self {
        let path = self.file(flag.trim_start_matches('-'));
        std::fs::write(&path, text).unwrap();
        Self { builder: self.builder.args([flag.into(), path]), ..self }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(self) -> Registry {
        let process = self.builder.clone().start_ready().await.unwrap();
        let (client, ca_file) = (self.files.client().build().unwrap(), self.files.path("ca.pem"));
        let Self { host, credential, files, .. } = self;
        Registry { process, host, client, ca_file, credential, _files: files }
    }
}

impl World {
    /// A registry of this namespace, ready.
    pub(crate) async fn registry(&self) -> Registry {
        self.registry_with(&[]).await
    }

    /// The same with more arguments.
    pub(crate) async fn registry_with(&self, args: &[&str]) -> Registry {
        RegistryBuilder::new(self).args(args).start().await
    }

    /// A token for a registry, of a service account of this namespace that may download its modules.
    pub(crate) fn consumer(&self, registry: &Registry, account: &str) -> String {
        self.kubectl(&["create", "serviceaccount", account]);
        let subject = format!("--serviceaccount={}:{account}", self.name);
        self.kubectl(&["create", "rolebinding", account, "--clusterrole=opendepot-consumer", &subject]);
        self.until_permitted(account);
        self.token(&registry.host, account)
    }

    /// Waits until the API server knows that a service account may download the modules of this namespace. A registry that asks
    /// earlier remembers the no.
    fn until_permitted(&self, account: &str) {
        let download = serde_json::json!({
            "namespace": self.name, "verb": "get", "group": "opendepot.defdev.io", "resource": "modules",
            "subresource": "download", "name": "any",
        });
        let user = format!("system:serviceaccount:{}:{account}", self.name);
        let review = serde_json::json!({"spec": {"user": user, "resourceAttributes": download}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let permitted = self.bed.kubernetes.as_admin(async |client: kube::Client| {
            let reviews: &Api<SubjectAccessReview> = &Api::all(client);
            let permitted = eventually(SOON, || async {
                let review = reviews.create(&PostParams::default(), &review).await?;
                anyhow::ensure!(review.status.is_some_and(|status| status.allowed), "not yet");
                Ok(())
            });
            permitted.await.with_context(|| format!("{account} may not download"))
        });
        permitted.unwrap();
    }

    /// A token of a service account of this namespace for an audience.
    pub(crate) fn token(&self, audience: &str, account: &str) -> String {
        let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let token = self.bed.kubernetes.as_admin(async |client: kube::Client| {
            let accounts: Api<ServiceAccount> = Api::namespaced(client, &self.name);
            let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
            Ok(answer.status.context("no token")?.token)
        });
        token.unwrap()
    }

    /// Waits until a Module holds its registry address, and gives it.
    pub(crate) async fn address(&self, module: &str) -> String {
        let module = self.module_when(module, |module| module["status"]["address"].is_string()).await;
        module["status"]["address"].as_str().unwrap().to_owned()
    }
}

impl Registry {
    /// The answer to a GET of a path, with or without a token. See [`answered`].
    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Response {
        answered(|| self.request(path, token)).await.unwrap()
    }

    /// The first answer, also one that says that the API server is away.
    pub(crate) async fn get_once(&self, path: &str, token: Option<&str>) -> Response {
        self.request(path, token).send().await.unwrap()
    }

    fn request(&self, path: &str, token: Option<&str>) -> RequestBuilder {
        let request = self.client.get(format!("https://{}{path}", self.host));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// The answer of [`Self::get`] as if a proxy had forwarded it for this peer.
    pub(crate) async fn get_from(&self, peer: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let request = || self.request(path, token).header("x-forwarded-for", peer);
        let answer = answered(request).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Its log, its metrics and the Events are without these, and without the signature of a token.
    pub(crate) async fn tells_none_of(&self, world: &World, secrets: &[&str]) {
        let events = world.bed.kubectl(&["get", "events", "-A", "-o", "json"]).unwrap().ok().unwrap();
        let metrics = self.process.metrics().await.unwrap();
        for (place, text) in [("log", self.process.log()), ("metrics", metrics), ("Events", events)] {
            shows_none_of(place, &text, secrets);
        }
    }

    /// How many reviews it has sent to the API server: of tokens, and of permissions.
    pub(crate) async fn reviews(&self, world: &World) -> (usize, usize) {
        let audit = world.bed.kubernetes.audit();
        audit.mark(&world.client).await.unwrap();
        let count = |resource: &str| {
            let own = |entry: &AuditEntry| entry.credential == self.credential && entry.resource == resource;
            audit.matching(AuditMark::default(), own).unwrap().len()
        };
        (count("tokenreviews"), count("subjectaccessreviews"))
    }

    /// The versions that it lists of a module.
    pub(crate) async fn versions(&self, address: &str, token: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.get(&format!("/v1/modules/{address}/versions"), Some(token)).await;
        anyhow::ensure!(answer.status() == 200, "{} {}", answer.status(), answer.text().await?);
        let body: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
        let versions = body["modules"][0]["versions"].as_array().cloned().unwrap_or_default();
        Ok(versions.iter().map(|version| version["version"].as_str().unwrap().to_owned()).collect())
    }

    /// Waits until it lists so many versions of a module: it sees a change later than the API that a test asks. From then on
    /// the token and its right are known as well.
    pub(crate) async fn lists(&self, address: &str, token: &str, count: usize) {
        soon(|| async {
            let listed = self.versions(address, token).await?;
            anyhow::ensure!(listed.len() == count, "{listed:?}");
            Ok(())
        })
        .await;
    }

    /// Both clients, with a token for this registry in their environment.
    pub(crate) fn clients(&self, token: &str) -> Vec<Terraform> {
        let with = |client: Terraform| {
            client
                .env("SSL_CERT_FILE", self.ca_file.to_str().unwrap())
                .env(format!("TF_TOKEN_{}", self.host), token)
        };
        Terraform::both().unwrap().into_iter().map(with).collect()
    }

    /// A `module` block that installs from this registry.
    pub(crate) fn module(&self, name: &str, address: &str, version: &str) -> String {
        let host = &self.host;
        format!("module \"{name}\" {{\n  source  = \"{host}/{address}\"\n  version = \"{version}\"\n}}\n")
    }
}

/// A text is without these, and without the signature of a token.
pub(crate) fn shows_none_of(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let signature = secret.rsplit('.').next().unwrap_or(secret);
        assert!(!text.contains(secret) && !text.contains(signature), "a secret is in {place}");
    }
}

/// The version of the module `name` that is installed.
pub(crate) fn installed(client: &Terraform, name: &str) -> String {
    let path = client.folder().join(".terraform/modules/modules.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let entries = all["Modules"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["Key"] == name).unwrap();
    entry["Version"].as_str().unwrap().to_owned()
}
