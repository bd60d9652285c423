//! Terraform (or OpenTofu) as the judge of what is stored: it installs modules straight from S3.
//!
//! It sees no settings of the machine or its user, and no provider registry: configurations have to do with what is
//! built in (`terraform_data`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::Folder;
use crate::s3::{REGION, S3};
use crate::servers;

/// A working folder with one configuration. It goes when this is dropped.
#[derive(Debug)]
pub struct Terraform {
    program: PathBuf,
    folder: Folder,
    env: Vec<(String, OsString)>,
}

impl Terraform {
    /// An empty working folder. Where there is neither `terraform` nor `tofu`, OpenTofu is built first, which takes
    /// minutes.
    pub fn new() -> Result<Self> {
        Self::of(servers::terraform()?)
    }

    /// One of each client, since they differ: Terraform, if it is on `PATH`, and OpenTofu, which is built where it is missing.
    pub fn both() -> Result<Vec<Self>> {
        let [tofu] = servers::binaries([servers::Server::Tofu])?;
        let terraform = servers::terraform()?;
        let other = (terraform.file_name() != tofu.file_name()).then_some(terraform);
        [Some(tofu), other].into_iter().flatten().map(Self::of).collect()
    }

    fn of(program: PathBuf) -> Result<Self> {
        let terraform = Self { program, folder: Folder::new("terraform")?, env: Vec::new() };
        let mirror = terraform.folder.sub("no-providers")?;
        let config = format!(
            "disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
            mirror.display()
        );
        fs::write(terraform.config(), config).context("cannot write Terraform's settings")?;
        Ok(terraform)
    }

    /// `terraform` or `tofu`.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The client.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One more environment variable for each command.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Removes what is installed.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(self.folder().join(".terraform")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove the installed modules")
            }
            _ => Ok(()),
        }
    }

    /// Writes `main.tf`.
    pub fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.folder().join("main.tf"), text).context("cannot write main.tf")
    }

    /// Runs one command, and gives what it said.
    ///
    /// # Errors
    /// When it did not end well: what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("TF_CLI_CONFIG_FILE", self.config())
            .env("TF_IN_AUTOMATION", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let (out, error) = (said(&output.stdout), said(&output.stderr));
            bail!("{} {} ended with {}\n{out}{error}", self.name(), args.join(" "), output.status);
        }
        Ok(said(&output.stdout))
    }

    /// Where the module that the configuration calls `name` is installed.
    pub fn module(&self, name: &str) -> PathBuf {
        self.folder().join(".terraform/modules").join(name)
    }

    fn config(&self) -> PathBuf {
        self.folder().join("settings.tfrc")
    }
}

/// What to write as a module's `source`, to install the object or a folder in it. It holds S3's secret key.
pub fn source(s3: &S3, bucket: &str, key: &str, folder: Option<&str>) -> String {
    let (endpoint, user) = (s3.endpoint(), s3.root());
    let folder = folder.map(|folder| format!("//{folder}")).unwrap_or_default();
    // The keys in the query are what makes it use that endpoint.
    format!(
        "s3::{endpoint}/{bucket}/{key}{folder}?region={REGION}&aws_access_key_id={}&aws_access_key_secret={}",
        user.access_key, user.secret_key
    )
}
