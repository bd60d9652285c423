//! The command line: flags with their environment variables, defaults and checks. The message of an invalid value contains an
//! example of a valid one.

mod credentials;
mod environment;
mod run;
mod serve;

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::command::{archive, arguments, check, notice, publish, source, validate, version};
use crate::observe::telemetry;
use crate::registry::docs;

pub use credentials::{Credentials, arguments};
pub use run::Run;
pub use serve::Serve;

const COMPLETION: &str = "\
Examples:
  # bash, for this session
  source <(opendepot completion bash)
  # zsh, permanently
  opendepot completion zsh > \"${fpath[1]}/_opendepot\"
  # fish, permanently
  opendepot completion fish > ~/.config/fish/completions/opendepot.fish";

/// Publishes Terraform and OpenTofu modules from GitHub to S3 and serves them as a registry, with commands for authors and users.
#[derive(Debug, Parser)]
#[command(name = "opendepot", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command line of the process. Prints help, the version or an error, and ends the process, if that is the result.
    pub fn of_process(arguments: &[OsString]) -> Self {
        let matches = environment::without_empty(Self::command()).try_get_matches_from(arguments);
        match matches.and_then(|matches| Self::from_arg_matches(&matches)) {
            Ok(cli) => cli,
            Err(error) if error.use_stderr() => error.exit(),
            // Help lists empty variables too.
            Err(_) => Self::parse_from(arguments),
        }
    }

    /// The completion script for a shell.
    pub fn completion(shell: clap_complete::Shell) -> Vec<u8> {
        // The scripts would offer hidden commands too.
        let all = Self::command();
        let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
        let shown = clap::Command::new("opendepot").subcommands(shown);
        let mut shown = shown.version(env!("CARGO_PKG_VERSION")).propagate_version(true);
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut shown, "opendepot", &mut script);
        script
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the operator.
    Run(Box<Run>),
    /// Start the module registry that Terraform and OpenTofu install from.
    Serve(Box<Serve>),
    /// Check whether the cluster, AWS and GitHub allow what the operator does, with a remedy for each failure.
    Check(Box<check::Arguments>),
    /// Add a version to a Module and wait until it is stored: for release workflows of any CI system.
    Publish(publish::Arguments),
    /// Print the module block with which Terraform and OpenTofu install a version.
    Source(source::Arguments),
    /// Show what would be stored for a tag or a local archive, and whether it would be rejected.
    Archive(archive::Arguments),
    /// Check manifests of Modules and Versions without a cluster: schema, rules, unknown fields.
    Validate(validate::Arguments),
    /// Mark a version as deprecated: the registry still lists it, and its pages show the text.
    Deprecate(notice::Arguments),
    /// Withdraw a version: the registry no longer lists it, and rejects its downloads with the text. The object is kept.
    Withdraw(notice::Arguments),
    /// Print a token for a registry: the credentials helper of Terraform and OpenTofu.
    Credentials(Credentials),
    /// Print a completion script for a shell, such as bash, zsh or fish.
    #[command(after_help = COMPLETION)]
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the release, the commit and the API version of this binary.
    Version(version::Arguments),
    /// Print the CustomResourceDefinitions as YAML, for kubectl apply.
    Crd,
    /// Print the documentation of an archive: the registry starts this for each archive.
    #[command(hide = true)]
    ReadDocumentation(docs::Arguments),
}

fn namespace(text: &str) -> Result<String, String> {
    let hint = "write the name of a namespace, such as team-a, or several as team-a,team-b";
    arguments::namespace(text).map_err(|_| hint.into())
}

fn log_level(text: &str) -> Result<String, String> {
    let hint = "write error, warn, info, debug or trace, or a filter such as info,opendepot=debug";
    telemetry::filter(text).map(|_| text.to_owned()).map_err(|_| hint.into())
}

fn at_least_one(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "write a number from 1 to 65535".into())
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8080 or [::]:8080".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_line_of_help_and_completes_in_each_shell() {
        let cli = Cli::command();
        assert!(cli.get_about().is_some_and(|about| about.to_string().contains("registry")));
        let shown = || cli.get_subcommands().filter(|command| !command.is_hide_set());
        let commands: Vec<&str> = shown().map(clap::Command::get_name).collect();
        assert!(shown().all(|command| command.get_about().is_some()), "{commands:?}");
        for shell in <clap_complete::Shell as clap::ValueEnum>::value_variants() {
            let script = String::from_utf8(Cli::completion(*shell)).unwrap();
            let missing: Vec<_> = commands.iter().filter(|name| !script.contains(**name)).collect();
            assert!(missing.is_empty() && script.contains("verify-interval"), "{shell}: {missing:?}");
            assert!(!script.contains("read-documentation"), "{shell}");
        }
    }

    #[test]
    fn every_flag_has_its_environment_twin() {
        let cli = Cli::command();
        let servers = ["run", "serve"].map(|name| cli.find_subcommand(name).unwrap());
        let flags = servers.iter().flat_map(|server| server.get_arguments());
        for arg in flags.filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
            let twin = format!("OPENDEPOT_{}", arg.get_long().unwrap().to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|e| e.to_str()), Some(twin.as_str()));
            assert!(arg.get_help().is_some(), "{twin}");
        }
    }
}
