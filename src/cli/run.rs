//! Flags of `opendepot run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::{at_least_one, listen, log_level, namespace};
use crate::command::arguments::{self, ArchiveLimits, github_host, object};
use crate::domain::Endpoint;
use crate::observe::telemetry::LogFormat;
use crate::storage::StorageRule;

/// Flags of `opendepot run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Namespace to watch (repeatable, or comma-separated). Default: all namespaces.
    #[arg(long = "namespace", env = "OPENDEPOT_NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,

    /// Allow a namespace to store in a bucket: NAMESPACE=BUCKET[/PREFIX]; `*` matches every namespace or bucket (repeatable).
    /// Default: no restriction, and a warning.
    #[arg(
        long,
        env = "OPENDEPOT_ALLOW_STORAGE",
        value_delimiter = ',',
        value_name = "NAMESPACE=BUCKET[/PREFIX]"
    )]
    pub allow_storage: Vec<StorageRule>,

    /// Allow an S3 endpoint in specs (repeatable). AWS and `AWS_ENDPOINT_URL_S3` are always allowed.
    #[arg(long, env = "OPENDEPOT_S3_ENDPOINT", value_delimiter = ',', value_name = "URL")]
    pub s3_endpoint: Vec<Endpoint>,

    /// Allow a host other than github.com in repoUrl: GitHub Enterprise Server, or SUBDOMAIN.ghe.com (repeatable).
    #[arg(long, env = "OPENDEPOT_GITHUB_HOST", value_delimiter = ',', value_name = "HOST", value_parser = github_host)]
    pub github_host: Vec<String>,

    /// Maximum number of archives that are fetched and stored concurrently.
    #[arg(long, env = "OPENDEPOT_MAX_FETCHES", default_value_t = 4, value_parser = at_least_one)]
    pub max_fetches: u16,

    #[command(flatten)]
    pub archives: ArchiveLimits,

    /// Folder for temporary archives. Default: the system's temporary folder.
    #[arg(long, env = "OPENDEPOT_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// Interval at which stored objects are verified, such as 24h or 30m; 0 disables verification.
    #[arg(long, env = "OPENDEPOT_VERIFY_INTERVAL", default_value = "24h", value_parser = interval)]
    pub verify_interval: Duration,

    /// PEM file with CA certificates for GitHub and S3, in addition to the system's.
    #[arg(long, env = "OPENDEPOT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Address of /livez, /readyz and /metrics. An IPv6 address accepts IPv4 too; without IPv6, [::] means 0.0.0.0.
    #[arg(long, env = "OPENDEPOT_LISTEN", default_value = "[::]:8080", value_name = "ADDRESS:PORT",
        value_parser = listen)]
    pub listen: SocketAddr,

    /// Enable leader election: of several replicas, only the one that holds the Lease is active.
    #[arg(long, env = "OPENDEPOT_LEADER_ELECT", value_name = "true|false", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: bool,

    /// Name of the Lease for leader election.
    #[arg(long, env = "OPENDEPOT_LEASE_NAME", default_value = "opendepot", value_parser = object)]
    pub lease_name: String,

    /// Namespace of the Lease for leader election. Default: the operator's own namespace.
    #[arg(long, env = "OPENDEPOT_LEASE_NAMESPACE", value_parser = arguments::namespace)]
    pub lease_namespace: Option<String>,

    /// Log format. Default: json in a cluster, text elsewhere.
    #[arg(long, env = "OPENDEPOT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level: error, warn, info, debug or trace, or a filter such as info,opendepot=debug.
    #[arg(long, env = "OPENDEPOT_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
}

fn interval(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(interval) if interval.is_zero() || interval >= Duration::from_secs(1) => Ok(interval),
        _ => Err("write a duration of at least 1s with its unit, such as 24h or 30m, or 0 for never".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn run(arguments: &[&str]) -> Result<Run, String> {
        let all = ["opendepot", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Run(run) }) => Ok(*run),
            Ok(_) => Err("another command".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_documents() {
        let run = run(&[]).unwrap();
        assert!(run.namespaces.is_empty() && run.allow_storage.is_empty() && run.github_host.is_empty());
        assert_eq!((run.max_fetches, run.archives.max_entries), (4, 100_000));
        assert_eq!((run.archives.max_archive_size, run.archives.max_unpacked_size), (512 << 20, 2 << 30));
        assert_eq!(run.verify_interval, Duration::from_hours(24));
        assert_eq!(run.listen.to_string(), "[::]:8080");
    }

    #[test]
    fn lists_take_commas_and_repetition() {
        let run = run(&["--namespace", "a,b", "--namespace", "c", "--verify-interval", "0"]).unwrap();
        assert_eq!(run.namespaces, ["a", "b", "c"]);
        assert!(run.verify_interval.is_zero());
    }

    #[test]
    fn a_bad_value_says_what_to_write() {
        for (flag, value, expected) in [
            ("--namespace", "Team_A", "such as team-a"),
            ("--max-fetches", "0", "a number from 1"),
            ("--max-archive-size", "lots", "such as 512MiB"),
            ("--max-archive-size", "0", "such as 512MiB"),
            ("--verify-interval", "24", "such as 24h"),
            ("--verify-interval", "10ms", "at least 1s"),
            ("--allow-storage", "team-a", "NAMESPACE=BUCKET"),
            ("--s3-endpoint", "minio", "https://"),
            ("--github-host", "https://ghes.example", "such as ghes.example.com"),
            ("--github-host", "", "such as ghes.example.com"),
            ("--lease-name", "", "such as opendepot"),
            ("--lease-namespace", "team-a,team-b", "one namespace, such as team-a"),
            ("--log-level", "loud", "error, warn, info, debug or trace"),
            ("--listen", "8080", "such as 0.0.0.0:8080"),
            ("--max-entries", "lots", "such as 100000"),
        ] {
            let message = run(&[flag, value]).unwrap_err();
            assert!(message.contains(expected), "{flag} {value}: {message}");
        }
    }

    #[test]
    fn a_bad_value_of_another_command_says_what_to_write_too() {
        for (arguments, expected) in [
            (&["check", "--github-host", "https://ghes.example"][..], "such as ghes.example.com"),
            (&["check", "--github-host", ""], "such as ghes.example.com"),
            (&["publish", "net", "1.0.0", "--timeout", "abc"], "such as 90s, 10m or 1h"),
            (&["publish", "net", "1.0.0", "--timeout", "300000000000y"], "at most 24h"),
        ] {
            let refused = Cli::try_parse_from([&["opendepot"], arguments].concat()).unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }

    #[test]
    fn leader_election_is_on_and_can_be_switched_off() {
        assert!(run(&[]).unwrap().leader_elect && run(&["--leader-elect"]).unwrap().leader_elect);
        assert!(!run(&["--leader-elect=false"]).unwrap().leader_elect);
        let run = run(&["--lease-name", "staging", "--lease-namespace", "tools"]).unwrap();
        assert_eq!((run.lease_name.as_str(), run.lease_namespace.as_deref()), ("staging", Some("tools")));
    }
}
