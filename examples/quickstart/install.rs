//! Terraform (or OpenTofu) installs from the registry.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use opendepot_testbed::terraform::Terraform;
use serde_json::Value;

use crate::publish::MODULE;
use crate::screen::{Proofs, command, heading, output};
use crate::stage::{NAMESPACE, Stage};

/// A folder with a configuration that installs the Module from the registry.
pub(crate) struct Consumer {
    terraform: Terraform,
    /// The configuration, and the environment that the client needs.
    pub text: String,
    pub environment: String,
    online: bool,
}

impl Consumer {
    /// Gives a service account the right to install, and Terraform its token.
    pub(crate) fn new(stage: &Stage) -> Result<Self> {
        heading("Allow Terraform to install, with Kubernetes RBAC");
        let (registry, online) = (&stage.registry, stage.online);
        let settings = registry.consumer(|args| stage.kubectl(args), &stage.bed)?;
        let ca = registry.ca_file();
        let environment =
            format!("export TF_CLI_CONFIG_FILE={} SSL_CERT_FILE={}", settings.display(), ca.display());
        let terraform =
            Terraform::new()?.env("TF_CLI_CONFIG_FILE", settings.as_os_str()).env("SSL_CERT_FILE", ca);
        // The root of the real module needs providers and other modules; this folder needs no other module.
        let (folder, inputs) =
            if online { ("//modules/karpenter", "") } else { ("", "\n  name    = \"demo\"") };
        let source = format!("{}/{NAMESPACE}/{MODULE}/aws{folder}", registry.host);
        let text =
            format!("module \"eks\" {{\n  source  = \"{source}\"\n  version = \"~> 21.0\"{inputs}\n}}\n");
        Ok(Self { terraform, text, environment, online })
    }

    /// The folder with the configuration.
    pub(crate) fn folder(&self) -> std::path::Display<'_> {
        self.terraform.folder().display()
    }

    /// `terraform` or `tofu`.
    pub(crate) fn client(&self) -> String {
        self.terraform.name()
    }

    /// Where the client is.
    pub(crate) fn client_path(&self) -> &Path {
        self.terraform.program()
    }

    /// Installs the newest version that meets the constraint, compares it with git, and plans.
    pub(crate) fn first(&self, stage: &Stage, proofs: &mut Proofs) -> Result<()> {
        heading("Install by address and version constraint");
        self.terraform.configure(&self.text)?;
        command("cat", &["main.tf"]);
        output(&self.text);
        let newest = self.install(&[], "21.12.0")?;
        proofs.check(newest, "the newest version that meets the constraint is installed");
        self.shell("git", &["clone", "-q", "--depth=1", "--branch=v21.12.0", &stage.origin, "git"])?;
        let same = self.shell("diff", &["--recursive", "--exclude=.git", "git", ".terraform/modules/eks"])?;
        proofs.check(same, "its files are exactly those that git has at the tag");
        if !self.online {
            let plan = self.run(&["plan", "-input=false"])?;
            proofs.check(plan.contains("Plan: 1 to add"), "the plan works");
        }
        Ok(())
    }

    /// Takes over a new release.
    pub(crate) fn upgrade(&self, proofs: &mut Proofs) -> Result<()> {
        let flag = if self.online { "-update" } else { "-upgrade" };
        let new = self.install(&[flag], "21.13.0")?;
        proofs.check(new, format!("the next `{}` installs the new version", self.first_words(&[flag])));
        Ok(())
    }

    /// Finds out that an archive is not the one that was published.
    pub(crate) fn refuse(&self, proofs: &mut Proofs) -> Result<()> {
        self.shell("rm", &["-r", ".terraform"])?;
        let args = self.words(&[]);
        command(&self.client(), &args);
        let Err(error) = self.terraform.run(&[&args[..], &["-no-color"]].concat()) else {
            bail!("{} installed an archive that was replaced in the bucket", self.client())
        };
        let error = error.to_string();
        let message = error.split_once('\n').map_or(&*error, |(_, message)| message);
        output(&about_modules(message));
        let refused = message.contains("Checksums did not match");
        let nothing = !self.terraform.module("eks").join("main.tf").exists();
        proofs
            .check(refused && nothing, format!("{} refuses the archive and installs nothing", self.client()));
        Ok(())
    }

    /// Installs the repaired archive.
    pub(crate) fn again(&self, proofs: &mut Proofs) -> Result<()> {
        let installed = self.install(&[], "21.13.0")?;
        proofs.check(installed, format!("{} installs it again", self.client()));
        Ok(())
    }

    /// Installs modules, and says whether the module has this version now. The registry's watch may be late on a busy
    /// machine: then the command is repeated.
    fn install(&self, flags: &[&str], version: &str) -> Result<bool> {
        let args = self.words(flags);
        command(&self.client(), &args);
        let args = [&args[..], &["-no-color"]].concat();
        let mut attempts = 10;
        let printed = loop {
            let printed = self.terraform.run(&args)?;
            attempts -= 1;
            if attempts == 0 || self.version()? == version {
                break printed;
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        output(&about_modules(&printed));
        Ok(self.version()? == version)
    }

    /// The version that is installed.
    fn version(&self) -> Result<String> {
        let path = self.terraform.folder().join(".terraform/modules/modules.json");
        let all: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let entries = all["Modules"].as_array().into_iter().flatten();
        let mut installed = entries.filter(|entry| entry["Key"] == "eks").map(|entry| &entry["Version"]);
        let version = installed.next().and_then(Value::as_str).context("the module is not installed")?;
        Ok(version.to_owned())
    }

    fn words<'a>(&self, flags: &[&'a str]) -> Vec<&'a str> {
        let verb: &[&str] = if self.online { &["get"] } else { &["init"] };
        [verb, flags].concat()
    }

    fn first_words(&self, flags: &[&str]) -> String {
        self.words(flags).join(" ")
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        command(&self.client(), args);
        let printed = self.terraform.run(&[args, &["-no-color"]].concat())?;
        output(&about_modules(&printed));
        Ok(printed)
    }

    /// Runs another program in the folder, without the settings of the user, and gives whether it succeeded.
    fn shell(&self, program: &str, args: &[&str]) -> Result<bool> {
        command(program, args);
        let folder = self.terraform.folder();
        let settings = folder.join("gitconfig");
        std::fs::write(&settings, "[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n")?;
        let mut process = Command::new(program);
        process
            .args(args)
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", settings)
            .env("GIT_TERMINAL_PROMPT", "0");
        let ended = process.output().with_context(|| format!("cannot run {program}"))?;
        output(&String::from_utf8_lossy(&ended.stdout));
        output(&String::from_utf8_lossy(&ended.stderr));
        Ok(ended.status.success())
    }
}

/// What a client prints, without empty lines and what is the same for every configuration.
fn about_modules(text: &str) -> String {
    const SAME: [&str; 7] = [
        "Initializing the backend",
        "Initializing provider plugins",
        "- terraform.io/builtin",
        "Terraform used the selected",
        "OpenTofu used the selected",
        "plan. Resource actions",
        "  + create",
    ];
    let same = |line: &str| line.trim().is_empty() || SAME.iter().any(|begins| line.starts_with(begins));
    text.lines().filter(|line| !same(line)).collect::<Vec<_>>().join("\n")
}
