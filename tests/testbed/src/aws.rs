//! A stand-in for AWS (moto), and the AWS CLI, both from `PyPI` in the versions that `hack/aws/requirements.txt` pins.
//!
//! They are installed once per machine, in the user's cache folder. The stand-in checks no signature and enforces no policy: it
//! keeps what it is given, in the form in which AWS gives it back.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::background::eventually;
use crate::process::{Folder, Process, Spec};
use crate::servers::{cache_for, source, tell};

/// The account that everything is in.
pub const ACCOUNT: &str = "111122223333";

/// A running stand-in. It ends when this is dropped.
pub struct Aws {
    folder: Folder,
    python: PathBuf,
    _process: Process,
}

impl Aws {
    /// Starts one that has a default VPC in each region and nothing else.
    pub async fn start() -> Result<Self> {
        let python = tokio::task::spawn_blocking(installed).await??;
        let folder = Folder::new("aws")?;
        let spec = Spec::new(python.join("bin/python"), folder.path().join("stand-in.log"))
            .args([source("aws").join("stand-in.py"), folder.path().to_owned()])
            .env("HOME", folder.path())
            .env("MOTO_ACCOUNT_ID", ACCOUNT);
        let process = Process::spawn(&spec)?;
        eventually(Duration::from_mins(5), || async {
            process.check_alive()?;
            let is_ready = ["endpoint", "socket"].iter().all(|name| folder.path().join(name).exists());
            ensure!(is_ready, "the stand-in for AWS does not listen yet: {}", process.log());
            Ok(())
        })
        .await?;
        Ok(Self { folder, python, _process: process })
    }

    /// A command whose `aws` is the AWS CLI, for this stand-in, with nothing else in its environment.
    pub fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let endpoint = fs::read_to_string(self.folder.path().join("endpoint"))?;
        let mut path: OsString = source("aws").into();
        for next in [self.python.join("bin").into_os_string(), std::env::var_os("PATH").unwrap_or_default()] {
            path.push(":");
            path.push(next);
        }
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("OPENDEPOT_STAND_IN", self.folder.path())
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "any");
        Ok(command)
    }

    /// What the AWS CLI prints for a command in a region.
    pub fn json(&self, region: &str, args: &[&str]) -> Result<Value> {
        let mut command = self.command(source("aws").join("aws"))?;
        let output = command.args(args).env("AWS_DEFAULT_REGION", region).output()?;
        if !output.status.success() {
            bail!("aws {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("aws {}", args.join(" ")))
    }

    /// The arguments of each command of the AWS CLI so far.
    pub fn commands(&self) -> Result<Vec<Vec<String>>> {
        let text = fs::read_to_string(self.folder.path().join("commands"))?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// The Python environment with both programs, which takes half a minute on a machine that has none.
fn installed() -> Result<PathBuf> {
    let requirements = source("aws").join("requirements.txt");
    let folder = cache_for("aws", std::slice::from_ref(&requirements))?;
    let (ready, python) = (folder.join("ready"), folder.join("bin/python"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let guard = File::create(folder.with_extension("lock")).context("cannot make the lock")?;
    guard.lock().context("cannot take the lock")?;
    // A link to a Python that was removed since does not exist.
    if ready.exists() && python.exists() {
        return Ok(folder);
    }
    tell("installing the AWS CLI and its stand-in, once per machine");
    let run = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {}", printed.trim());
        Ok(())
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("install Python 3.10 or newer with its module venv (Debian: python3-venv)")?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--no-deps",
        "-r",
    ];
    run(Command::new(&python).args(pip).arg(&requirements))?;
    fs::write(ready, "").context("cannot mark the environment as complete")?;
    Ok(folder)
}
