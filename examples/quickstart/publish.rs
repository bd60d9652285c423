//! Operations on a Module: publish, append, repair, remove.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use base64::Engine as _;
use opendepot_testbed::github::Credential;
use serde_json::Value;

use crate::screen::{Proofs, command, heading, say};
use crate::stage::{BUCKET, NAMESPACE, REPOSITORY, Stage};

/// The Module.
pub(crate) const MODULE: &str = "terraform-aws-eks";
pub(crate) const MODULES: &str = "modules.opendepot.defdev.io";
const VERSIONS: &str = "versions.opendepot.defdev.io";
/// Flux takes over fields of managers named kubectl*, and removes those not in Git.
pub(crate) const MANAGER: &str = "--field-manager=opendepot-release";
const READY: &str = "condition=Ready";

/// Applies the first Module: three versions of a private repository.
pub(crate) async fn first_versions(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Publish three versions of a GitHub repository");
    if let Some(app) = &stage.app {
        stage.secret(app)?;
    }
    if stage.online {
        anonymous(stage)?;
    } else {
        stage.kubectl(&["apply", MANAGER, "-f", "examples/seed-module.yaml"])?;
    }
    stage.wait(MODULE, READY)?;
    stage.show()?;
    let versions = stage.versions(MODULE)?;
    let names: Vec<&str> = versions.iter().filter_map(|v| v["metadata"]["name"].as_str()).collect();
    let expected = ["terraform-aws-eks-21.10.1", "terraform-aws-eks-21.11.0", "terraform-aws-eks-21.12.0"];
    proofs.check(names == expected, "one Version object per entry of spec.versions");
    let mut same = !versions.is_empty();
    for version in &versions {
        same &= stored(stage, version).await?.1 == version["status"]["checksum"];
    }
    proofs.check(same, "status.checksum is the SHA-256 of the bytes in the bucket, for each of them");
    if let Some(app) = &stage.app {
        private(stage, app.installation, proofs)?;
    }
    Ok(())
}

/// The same Module without credentials, for the real github.com.
fn anonymous(stage: &Stage) -> Result<()> {
    let manifest = std::fs::read_to_string("examples/seed-module.yaml")?;
    let manifest = manifest.replace("    githubClientConfig:\n      useAuthenticatedClient: true\n", "");
    say(format!(
        "\n$ sed '/githubClientConfig/,+1d' examples/seed-module.yaml | kubectl apply {MANAGER} -f -"
    ));
    say(stage.bed.kubectl_with(&["apply", MANAGER, "-f", "-"], &manifest)?.ok()?.trim_end());
    Ok(())
}

fn private(stage: &Stage, installation: u64, proofs: &mut Proofs) -> Result<()> {
    let requests = stage.bed.github.requests(REPOSITORY)?;
    let api: Vec<_> = requests.iter().filter(|request| request.host == "api.github.com").collect();
    let authenticated = api.iter().all(|request| request.credential == Credential::Installation);
    proofs.check(!api.is_empty() && authenticated, "the private repository was read as the GitHub App");
    let tokens = stage.bed.github.token_requests(installation).len();
    proofs.check(tokens == 1, "one App token was enough for all versions");
    Ok(())
}

/// Appends a version, as a release workflow does.
pub(crate) fn one_more(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Append a version, as a release workflow does, and upgrade");
    let before = resource_versions(stage)?;
    let append = r#"[{"op":"add","path":"/spec/versions/-","value":{"version":"21.13.0"}}]"#;
    stage.kubectl(&["patch", MODULES, MODULE, "-n", NAMESPACE, MANAGER, "--type", "json", "-p", append])?;
    stage.wait(MODULE, READY)?;
    stage.show()?;
    let mut after = resource_versions(stage)?;
    let new = after.remove("terraform-aws-eks-21.13.0").is_some();
    proofs.check(new, "an appended entry is published");
    proofs.check(!before.is_empty() && after == before, "the existing Versions are not changed");
    Ok(())
}

/// Replaces an object with that of an older version, as an attacker who can write to the bucket.
pub(crate) async fn tamper(stage: &Stage) -> Result<()> {
    heading("Replace the newest archive in the bucket by an older one, as an attacker could");
    let versions = stage.versions(MODULE)?;
    let older = stored(stage, versions.first().context("there is a first Version")?).await?.0;
    let newest = stored(stage, versions.last().context("there is a last Version")?).await?.0;
    command("aws", &["s3", "cp", &format!("s3://{BUCKET}/{older}"), &format!("s3://{BUCKET}/{newest}")]);
    let bytes = stage.bed.s3.get(BUCKET, &older).await?;
    stage.bed.s3.put(BUCKET, &newest, bytes).await
}

/// Restores the object with a forced sync. (Without it, the next verification does, at most a day later.)
pub(crate) async fn repair(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Repair the archive now, instead of at the next daily verification");
    let version = newest(stage)?;
    let name = version["metadata"]["name"].as_str().context("a Version has a name")?;
    let object = format!("{VERSIONS}/{name}");
    let force = r#"{"spec":{"forceSync":true}}"#;
    stage.kubectl(&["patch", VERSIONS, name, "-n", NAMESPACE, MANAGER, "--type", "merge", "-p", force])?;
    let done = "--for=jsonpath={.spec.forceSync}=false";
    stage.kubectl(&["wait", &object, "-n", NAMESPACE, done, "--timeout=60s"])?;
    let (_, same) = stored(stage, &newest(stage)?).await?;
    let restored = same == version["status"]["checksum"];
    proofs.check(restored, "forceSync restores the archive, byte for byte");
    Ok(())
}

/// Removes an entry, which deletes its Version and its object.
pub(crate) async fn one_less(stage: &Stage, proofs: &mut Proofs) -> Result<()> {
    heading("Remove a version");
    let versions = stage.versions(MODULE)?;
    let (key, _) = stored(stage, versions.first().context("there is a first Version")?).await?;
    let remove = r#"[{"op":"remove","path":"/spec/versions/0"}]"#;
    stage.kubectl(&["patch", MODULES, MODULE, "-n", NAMESPACE, MANAGER, "--type", "json", "-p", remove])?;
    let gone = "versions.opendepot.defdev.io/terraform-aws-eks-21.10.1";
    stage.kubectl(&["wait", gone, "-n", NAMESPACE, "--for=delete", "--timeout=60s"])?;
    stage.wait(MODULE, READY)?;
    stage.show()?;
    let left = resource_versions(stage)?;
    let keys = stage.bed.s3.keys(BUCKET).await?;
    let removed = left.len() == 3 && !left.contains_key("terraform-aws-eks-21.10.1");
    proofs.check(removed, "a removed entry's Version is deleted, the others stay");
    proofs.check(keys.len() == 3 && !keys.contains(&key), "its object is deleted from the bucket");
    Ok(())
}

/// A Version's key, and the SHA-256 of the object at that key.
async fn stored(stage: &Stage, version: &Value) -> Result<(String, String)> {
    let key = version["status"]["storage"]["key"].as_str().context("a stored Version has a key")?;
    let bytes = stage.bed.s3.get(BUCKET, key).await?;
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    Ok((key.to_owned(), base64::engine::general_purpose::STANDARD.encode(sum)))
}

fn newest(stage: &Stage) -> Result<Value> {
    stage.versions(MODULE)?.pop().context("the Module has a Version")
}

fn resource_versions(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = stage.versions(MODULE)?;
    let metadata = versions.iter().map(|version| &version["metadata"]);
    Ok(metadata.map(|m| (text(&m["name"]), text(&m["resourceVersion"]))).collect())
}
