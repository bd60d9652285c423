//! Arguments of `opendepot check`.

use std::path::PathBuf;

use clap::Args;

use crate::command::arguments;
use crate::command::output::Output;
use crate::domain::{Endpoint, Repository};

const EXAMPLES: &str = "\
Examples:
  # In the operator's pod: CRDs, permissions, AWS credentials, egress.
  opendepot check
  # The same for a Module: its bucket, its Secret and its repository too.
  opendepot check terraform-aws-eks -n team-a
  # From a laptop, with the permissions of the operator.
  opendepot check --as system:serviceaccount:opendepot-system:opendepot
  # A bucket, before anything is installed.
  opendepot check --bucket opendepot-modules --region us-west-2

The exit status is 1 if a check failed.";

/// Arguments of `opendepot check`. Flags that `opendepot run` has too have the same environment variables.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of a Module, whose bucket, credentials and repository are checked.
    #[arg(value_parser = arguments::module)]
    pub module: Option<String>,

    /// Namespace that the operator is restricted to (repeatable, or comma-separated). With MODULE: its namespace.
    #[arg(short, long = "namespace", env = "OPENDEPOT_NAMESPACE", value_delimiter = ',', value_parser = arguments::namespace)]
    pub namespaces: Vec<String>,

    /// Check with the permissions of this user, such as system:serviceaccount:opendepot-system:opendepot.
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,

    /// Bucket in which a probe is written, read and deleted.
    #[arg(long, requires = "region", conflicts_with = "module")]
    pub bucket: Option<String>,

    /// Region of the bucket.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,

    /// Endpoint of an S3-compatible store. Default: AWS, or `AWS_ENDPOINT_URL_S3`.
    #[arg(long, value_name = "URL", requires = "bucket")]
    pub endpoint: Option<Endpoint>,

    /// Address the bucket in the path, as most stores other than AWS require.
    #[arg(long, requires = "bucket")]
    pub force_path_style: bool,

    /// Prefix of the probe's key, if the permissions are limited to one.
    #[arg(long, requires = "bucket", value_name = "PREFIX")]
    pub key: Option<String>,

    /// Repository that must be visible: `https://HOST/OWNER/REPO`.
    #[arg(long, value_name = "URL", value_parser = Repository::parse, conflicts_with = "module")]
    pub repository: Option<Repository>,

    /// Secret with the GitHub credentials for --repository, in the namespace. Default: none, for a public repository.
    #[arg(long, requires = "repository", value_parser = arguments::object)]
    pub secret: Option<String>,

    /// Name of a Secret that the operator may read, if its permissions are limited to some (repeatable). Default: any Secret.
    #[arg(long, value_delimiter = ',', value_name = "NAME", value_parser = arguments::object)]
    pub secret_names: Vec<String>,

    /// Host of GitHub that must be reachable (repeatable). Default: github.com.
    #[arg(long, env = "OPENDEPOT_GITHUB_HOST", value_delimiter = ',', value_name = "HOST",
        value_parser = arguments::github_host)]
    pub github_host: Vec<String>,

    /// PEM file with CA certificates for GitHub and S3, in addition to the system's.
    #[arg(long, env = "OPENDEPOT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Whether the operator uses leader election, which needs permissions for a Lease.
    #[arg(long, env = "OPENDEPOT_LEADER_ELECT", value_name = "true|false", default_value_t = true,
        action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: bool,

    /// Name of the Lease for leader election.
    #[arg(long, env = "OPENDEPOT_LEASE_NAME", default_value = "opendepot", value_parser = arguments::object)]
    pub lease_name: String,

    /// Namespace of the Lease. Default: that of the service account, or of the kubeconfig's context.
    #[arg(long, env = "OPENDEPOT_LEASE_NAMESPACE", value_parser = arguments::namespace)]
    pub lease_namespace: Option<String>,

    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
