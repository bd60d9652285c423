//! Flags of `opendepot credentials`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::domain::names::{is_dns_label, is_dns_subdomain};
use crate::registry::credentials::{Helper, Verb};

/// Flags of `opendepot credentials`. Terraform and OpenTofu append the verb and the host to `args` of `credentials_helper`.
#[derive(Clone, Debug, Args)]
pub struct Credentials {
    /// Host of a registry that may receive a token, such as registry.acme.io (repeatable). Others get none.
    #[arg(long = "host", env = "OPENDEPOT_HOST", value_delimiter = ',', value_name = "HOST")]
    pub hosts: Vec<String>,

    /// File with a token, such as a projected volume.
    #[arg(long, env = "OPENDEPOT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Service account whose tokens are requested with your kubeconfig.
    #[arg(long, env = "OPENDEPOT_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME", value_parser = service_account)]
    pub service_account: Option<(String, String)>,

    /// What Terraform asks for: get, store or forget.
    #[arg(value_enum)]
    pub verb: CredentialsVerb,

    /// The host that Terraform asks for.
    #[arg(value_name = "FOR_HOST")]
    pub for_host: String,
}

/// A verb of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CredentialsVerb {
    Get,
    Store,
    Forget,
}

impl Credentials {
    pub fn helper(&self) -> Helper {
        Helper {
            hosts: self.hosts.clone(),
            token_file: self.token_file.clone(),
            service_account: self.service_account.clone(),
        }
    }

    pub fn verb(&self) -> Verb {
        match self.verb {
            CredentialsVerb::Get => Verb::Get,
            CredentialsVerb::Store => Verb::Store,
            CredentialsVerb::Forget => Verb::Forget,
        }
    }
}

/// The arguments of the process. A link called `terraform-credentials-NAME` is the subcommand `credentials`.
pub fn arguments(all: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = all.into_iter().collect();
    let name = all.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    if name.is_some_and(|name| name.starts_with("terraform-credentials-")) {
        all.insert(1, "credentials".into());
    }
    all
}

fn service_account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_dns_label(namespace) && is_dns_subdomain(name, 253) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME, such as team-a/terraform".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(all: &[&str]) -> Result<Credentials, String> {
        match Cli::try_parse_from(arguments(all.iter().map(OsString::from))) {
            Ok(Cli { command: Command::Credentials(flags) }) => Ok(flags),
            Ok(_) => Err("another command".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_link_to_the_binary_is_a_credentials_helper() {
        for program in [&["/usr/bin/opendepot", "credentials"][..], &["/x/terraform-credentials-opendepot"]] {
            let flags = parse(&[program, &["--host", "a.io", "get", "b.io"]].concat()).unwrap();
            assert_eq!((flags.hosts, flags.verb), (vec!["a.io".to_owned()], CredentialsVerb::Get));
            assert_eq!(flags.for_host, "b.io");
        }
        let flags =
            parse(&["terraform-credentials-acme", "--service-account=team-a/ci", "forget", "b.io"]).unwrap();
        assert_eq!(flags.service_account, Some(("team-a".into(), "ci".into())));
        assert!(parse(&["opendepot", "get", "b.io"]).is_err());
        assert!(parse(&["terraform-credentials-acme", "fetch", "b.io"]).is_err());
        let message =
            parse(&["terraform-credentials-acme", "--service-account=ci", "get", "b.io"]).unwrap_err();
        assert!(message.contains("such as team-a/terraform"), "{message}");
    }

    #[test]
    fn every_flag_has_its_environment_twin() {
        let cli = Cli::command();
        let command = cli.find_subcommand("credentials").unwrap();
        for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
            let long = arg.get_long().unwrap();
            if !["help", "version"].contains(&long) {
                let twin = format!("OPENDEPOT_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(twin.as_str()));
            }
        }
    }
}
