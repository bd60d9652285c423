//! The commands for users, run as users run them: the built binary, in an environment of its own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{ROOTS, World};

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    /// Its output, if it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Its error, if it failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        self.stderr
    }

    /// Its output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A command that is yet to be run.
pub(crate) struct Opendepot(Command, Option<String>);

/// Writes a kubeconfig whose only cluster is this one, without credentials, into a folder.
pub(crate) fn kubeconfig_for(folder: &Path, cluster: &Value) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "clusters": [{"name": "one", "cluster": cluster}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "users": [{"name": "one", "user": {}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// The binary with an environment of nothing but `PATH` and these settings.
pub(crate) fn opendepot(kubeconfig: &Path) -> Opendepot {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opendepot"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", "/nonexistent").env("KUBECONFIG", kubeconfig);
    Opendepot(command, None)
}

impl World {
    /// The binary with the credentials of the operator for all servers, as in its pod.
    pub(crate) fn command(&self) -> Opendepot {
        let (s3, github) = (&self.bed.s3, &self.bed.github);
        opendepot(self.bed.operator_kubeconfig())
            .env("HTTPS_PROXY", github.proxy_url())
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("AWS_ACCESS_KEY_ID", &s3.root().access_key)
            .env("AWS_SECRET_ACCESS_KEY", &s3.root().secret_key)
            .env("AWS_ENDPOINT_URL_S3", s3.endpoint())
            .env("AWS_REGION", "us-west-2")
            .env("OPENDEPOT_CA_FILE", github.ca_file())
            .env(ROOTS.0, ROOTS.1)
    }
}

impl Opendepot {
    /// One more environment variable.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// One environment variable less.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// With this standard input.
    #[must_use]
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.1 = Some(text.to_owned());
        self
    }

    /// In this folder.
    #[must_use]
    pub(crate) fn in_folder(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(mut self, args: &[&str]) -> Printed {
        let input = if self.1.is_some() { Stdio::piped() } else { Stdio::null() };
        let command = self.0.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), self.1) {
            stdin.write_all(text.as_bytes()).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Printed { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
