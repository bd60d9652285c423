//! Arguments of `opendepot publish`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::command::arguments;
use crate::command::output::Output;

const EXAMPLES: &str = "\
Examples:
  # Add a version to an existing Module, and wait until it is stored.
  opendepot publish terraform-aws-eks v21.18.0 -n team-a
  # Create the Module from a file if it does not exist, else apply the file's moduleConfig.
  opendepot publish terraform-aws-eks \"$CI_COMMIT_TAG\" -n team-a --manifest module.yaml
  # GitLab CI: pass bucket, key, checksum and contentDigest to later jobs (artifacts:reports:dotenv).
  opendepot publish terraform-aws-eks \"$CI_COMMIT_TAG\" -n team-a --outputs publish.env

The permissions that this needs: examples/release-workflow-rbac.yaml. A run can be repeated; other versions are not changed.";

/// Arguments of `opendepot publish`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of the Module object.
    #[arg(value_parser = arguments::module)]
    pub module: String,

    /// The version, in the form of the release's tag, with or without a leading v.
    #[arg(id = "release", value_name = "VERSION", value_parser = arguments::version)]
    pub version: String,

    /// Namespace of the Module. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_parser = arguments::namespace)]
    pub namespace: Option<String>,

    /// File with the Module's manifest; - is standard input. The Module is created from it if it does not exist. Otherwise its
    /// moduleConfig is merged into the existing one, and its versions are ignored.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,

    /// Maximum time to wait until the version is stored, such as 90s, 10m or 1h; at most 24h.
    #[arg(long, default_value = "10m", value_parser = timeout)]
    pub timeout: Duration,

    /// File to which the lines bucket=, key=, checksum= and contentDigest= are appended.
    #[arg(long, env = "GITHUB_OUTPUT", value_name = "FILE")]
    pub outputs: Option<PathBuf>,

    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

fn timeout(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|timeout| *timeout <= Duration::from_hours(24))
        .ok_or_else(|| "write a duration of at most 24h with its unit, such as 90s, 10m or 1h".into())
}
