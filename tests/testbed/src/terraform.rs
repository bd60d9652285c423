//! Terraform (or OpenTofu) as the judge of what is stored: it installs modules straight from S3.
//!
//! It sees no settings of the machine or its user, and no provider registry: configurations have to do with what is
//! built in (`terraform_data`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::background::eventually;
use crate::process::{Folder, Process, Spec};
use crate::programs::write_script;
use crate::s3::{REGION, S3};
use crate::servers;

/// A working folder with one configuration. It is removed when this is dropped.
#[derive(Debug)]
pub struct Terraform {
    program: PathBuf,
    folder: Folder,
    env: Vec<(String, OsString)>,
}

impl Terraform {
    /// An empty working folder. Where there is neither `terraform` nor `tofu`, OpenTofu is got first, which may take
    /// minutes.
    pub fn new() -> Result<Self> {
        Self::of(servers::terraform()?)
    }

    /// One of each client, since they differ: Terraform, if it is on `PATH`, and OpenTofu, which is got where it is missing.
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

    /// Starts `login HOST` on a terminal, and says yes to the question whether a token may be stored. The token is in the
    /// working folder, which is the home of every command.
    pub fn login(&self, host: &str) -> Result<Login> {
        let (bin, asked) = (self.folder.sub("bin")?, self.folder().join("browser-url"));
        self.folder.sub(".terraform.d")?;
        // What both clients call to open a browser.
        let browser = bin.join("xdg-open");
        let script =
            format!("#!/bin/sh\nprintf %s \"$1\" >'{0}.new' && mv '{0}.new' '{0}'\n", asked.display());
        write_script(&browser, &script)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)))?;
        let command = format!("'{}' login -no-color {host}", self.program.display());
        fs::write(self.folder().join("yes"), "yes\n").context("cannot write an answer")?;
        let spec = Spec::new("/bin/sh", self.folder().join("login.log"))
            .args(["-c", "cd \"$HOME\" && exec script -qefc \"$0\" /dev/null <yes", &command])
            .env("PATH", path)
            .env("HOME", self.folder());
        let spec = self.env.iter().fold(spec, |spec, (name, value)| spec.env(name, value));
        Ok(Login { process: Process::spawn(&spec)?, asked })
    }

    /// Where the module that the configuration calls `name` is installed.
    pub fn module(&self, name: &str) -> PathBuf {
        self.folder().join(".terraform/modules").join(name)
    }

    /// Found by both clients in their home. If a variable named it, they would not read stored tokens.
    fn config(&self) -> PathBuf {
        self.folder().join(".terraformrc")
    }
}

/// A running `login`. It ends when this is dropped.
pub struct Login {
    process: Process,
    asked: PathBuf,
}

impl Login {
    /// The URL that it has a browser open.
    pub async fn url(&self) -> Result<String> {
        eventually(Duration::from_mins(1), || async {
            match fs::read_to_string(&self.asked) {
                Ok(url) => Ok(url),
                Err(error) => {
                    self.process.check_alive()?;
                    Err(error).context("no browser was opened yet")
                }
            }
        })
        .await
    }

    /// What it has said, when it has ended well.
    pub async fn finish(&self) -> Result<String> {
        let code = self.process.exited(Duration::from_mins(1)).await?;
        ensure!(code == 0, "login ended with code {code}\n{}", self.process.log());
        Ok(self.process.log())
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
