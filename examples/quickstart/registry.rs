//! The registry, and what Terraform needs to use it.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result};
use opendepot_testbed::Testbed;
use opendepot_testbed::authority::Authority;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::process::Folder;

use crate::screen::{command, say};
use crate::stage::{BUCKET, NAMESPACE};

/// The service account that Terraform uses here.
const ACCOUNT: &str = "terraform";

/// A running registry. It ends when this is dropped.
pub(crate) struct Registry {
    /// The host in addresses, and the audience of tokens.
    pub host: String,
    process: Operator,
    folder: Folder,
}

impl Registry {
    /// Starts it over TLS, which both clients require, and waits until it is ready.
    pub(crate) async fn start(bed: &Testbed) -> Result<Self> {
        let (authority, folder) = (Authority::new("quickstart")?, Folder::new("registry")?);
        let server = authority.server(&["127.0.0.1"])?;
        for (name, text) in
            [("ca.crt", &authority.pem()), ("tls.crt", &server.certificate_pem), ("tls.key", &server.key_pem)]
        {
            std::fs::write(folder.path().join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let listener = TcpListener::bind("127.0.0.1:8443").or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
        let host = listener.local_addr()?.to_string();
        drop(listener);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let url = format!("https://{host}");
        let storage = format!("{NAMESPACE}={BUCKET}");
        let shown = |cert, key| {
            ["--url", &url, "--allow-storage", &storage, "--tls-cert-file", cert, "--tls-key-file", key]
        };
        command("opendepot", &[&["serve"][..], &shown("tls.crt", "tls.key")].concat());
        let process = bed
            .registry()
            .args(shown(&file("tls.crt"), &file("tls.key")))
            .args(["--listen", &host, "--drain", "0s"])
            .start()?;
        let took = process.wait_ready().await?;
        say(format!("ready after {} ms", took.as_millis()));
        Ok(Self { host, process, folder })
    }

    /// The certificate of its authority.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Where its metrics are.
    pub(crate) fn admin_address(&self) -> &str {
        self.process.admin_address()
    }

    /// Its log.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.process.home().join("operator.log")
    }

    /// Gives Terraform's service account the right to install, and writes a CLI configuration with a token for it.
    pub(crate) fn consumer(
        &self,
        kubectl: impl Fn(&[&str]) -> Result<String>,
        bed: &Testbed,
    ) -> Result<PathBuf> {
        kubectl(&["create", "serviceaccount", ACCOUNT, "-n", NAMESPACE])?;
        let subject = format!("--serviceaccount={NAMESPACE}:{ACCOUNT}");
        let role = "--clusterrole=opendepot-consumer";
        kubectl(&["create", "rolebinding", ACCOUNT, "-n", NAMESPACE, role, &subject])?;
        let audience = format!("--audience={}", self.host);
        let token = ["create", "token", ACCOUNT, "-n", NAMESPACE, &audience, "--duration=24h"];
        command("kubectl", &token);
        let token = bed.kubectl(&token)?.ok()?;
        say("eyJ… (the token)");
        let path = self.folder.path().join("terraform.tfrc");
        let text = |token: &str| format!("credentials \"{}\" {{\n  token = \"{token}\"\n}}\n", self.host);
        std::fs::write(&path, format!("disable_checkpoint = true\n{}", text(token.trim())))?;
        say(format!(
            "\n$ export TF_CLI_CONFIG_FILE={} SSL_CERT_FILE={}",
            path.display(),
            self.ca_file().display()
        ));
        say(format!("$ cat $TF_CLI_CONFIG_FILE\n{}", text("eyJ…").trim_end()));
        Ok(path)
    }
}
