//! Terraform (or OpenTofu) installs the stored objects.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use opendepot_testbed::github::File;
use opendepot_testbed::terraform::{Terraform, source};
use serde_json::Value;

use crate::screen::{Proofs, command, heading, output, say};
use crate::stage::{BUCKET, Stage};

const GREETING: &str = r#"variable "name" {
  type = string
}

resource "terraform_data" "greeting" {
  input = "hello ${var.name}"
}
"#;

/// Installs the first Module's newest version, and compares it with its tag in git.
pub fn real_module(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Install the module with Terraform, and compare it with git");
    let versions = stage.versions("terraform-aws-eks")?;
    let terraform = Terraform::new()?;
    // The module's root uses another module from a registry; this folder does not.
    configure(&terraform, stage, versions.last(), Some("modules/karpenter"), "")?;
    run(&terraform, &["get"])?;
    let (clone, installed) = (terraform.folder().join("git"), terraform.module("example"));
    let (clone_path, tree) = (clone.display().to_string(), installed.display().to_string());
    let from = ["clone", "--quiet", "--depth", "1", "--branch", "v21.13.0", &stage.origin, &clone_path];
    git(terraform.folder(), &from)?;
    let git_folder = format!("--git-dir={clone_path}/.git");
    let differences = git(
        terraform.folder(),
        &[&git_folder, &format!("--work-tree={tree}"), "status", "--short", "--ignored"],
    )?;
    say(format!("{} differences", differences.lines().count()));
    let same = differences.is_empty() && installed.join("modules/karpenter").is_dir();
    proofs.check(same, "Terraform installs exactly the files that git has at the tag, at the archive's root");
    Ok(())
}

/// Publishes a small module as zip and as tar.gz, and plans with both.
pub fn plan(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Publish a small module as zip and as tar.gz, and plan with both");
    let repository = stage.bed.github.repository("acme/terraform-greeting")?;
    repository.release("v1.0.0", &[File::new("main.tf", GREETING)])?;
    stage.kubectl(&["apply", "-f", "examples/quickstart/greeting.yaml"])?;
    let mut digests = Vec::new();
    for (module, format) in [("greeting-zip", "zip"), ("greeting-tar", "tar.gz")] {
        stage.wait(module, "condition=Ready")?;
        let versions = stage.versions(module)?;
        let terraform = Terraform::new()?;
        configure(&terraform, stage, versions.first(), None, "\n  name   = \"world\"")?;
        run(&terraform, &["init", "-input=false"])?;
        let plan = run(&terraform, &["plan", "-input=false"])?;
        let planned = plan.contains("hello world") && plan.contains("Plan: 1 to add");
        proofs.check(planned, format!("{} init and plan work with the {format}", terraform.name()));
        digests
            .extend(versions.first().and_then(|v| v["status"]["contentDigest"].as_str().map(str::to_owned)));
    }
    let same = matches!(&digests[..], [zip, tar] if zip == tar);
    proofs.check(same, "zip and tar.gz of one tag have the same contentDigest");
    stage.show()
}

/// Writes a configuration that uses a Version's object, and shows it without the S3 credentials.
fn configure(
    terraform: &Terraform,
    stage: &Stage,
    version: Option<&Value>,
    folder: Option<&str>,
    inputs: &str,
) -> Result<()> {
    let key =
        version.and_then(|v| v["status"]["storage"]["key"].as_str()).context("the Version is stored")?;
    let source = source(&stage.bed.s3, BUCKET, key, folder);
    let text = |source: &str| format!("module \"example\" {{\n  source = \"{source}\"{inputs}\n}}\n");
    terraform.configure(&text(&source))?;
    let shown = source.split_once("&aws_access_key_id").map_or("", |(before, _)| before);
    command("cat", &["main.tf"]);
    output(&text(&format!("{shown}&aws_access_key_id=…&aws_access_key_secret=…")));
    Ok(())
}

fn run(terraform: &Terraform, args: &[&str]) -> Result<String> {
    command(&terraform.name(), args);
    let (first, rest) = args.split_first().context("a command has a name")?;
    let said = terraform.run(&[&[first, "-no-color"], rest].concat())?;
    let lines = said.lines().filter(|line| !line.trim().is_empty() && !line.contains("aws_access_key"));
    output(&lines.collect::<Vec<_>>().join("\n"));
    Ok(said)
}

/// Runs git without the settings of the machine and its user.
fn git(folder: &Path, args: &[&str]) -> Result<String> {
    command("git", args);
    let settings = folder.join("gitconfig");
    std::fs::write(&settings, "[safe]\n\tdirectory = *\n").context("cannot write git's settings")?;
    let mut git = Command::new("git");
    git.args(args).env("GIT_CONFIG_GLOBAL", settings).env("GIT_TERMINAL_PROMPT", "0");
    let said = git.output().context("cannot run git")?;
    let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    ensure!(said.status.success(), "git ended with {}: {error}", said.status);
    output(&out);
    Ok(out.into_owned())
}
