//! Flags of `opendepot credentials`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Args;
use clap::builder::OsStringValueParser;

use crate::registry::credentials::{Helper, Verb};

/// Flags of `opendepot credentials`. Terraform and OpenTofu append the verb and the host to `args` of `credentials_helper`. No value
/// of a flag is rejected here: for a host that is not named, the command succeeds with any value.
#[derive(Clone, Debug, Args)]
pub struct Credentials {
    /// Host of a registry that may receive a token, such as registry.acme.io (repeatable). Others get none.
    #[arg(long = "host", env = "OPENDEPOT_HOST", value_delimiter = ',', value_name = "HOST",
        value_parser = OsStringValueParser::new())]
    pub hosts: Vec<OsString>,

    /// File with a token, such as a projected volume.
    #[arg(long, env = "OPENDEPOT_TOKEN_FILE", value_name = "FILE",
        value_parser = OsStringValueParser::new())]
    pub token_file: Option<OsString>,

    /// Service account whose tokens are requested with your kubeconfig.
    #[arg(long, env = "OPENDEPOT_SERVICE_ACCOUNT", value_name = "NAMESPACE/NAME",
        value_parser = OsStringValueParser::new())]
    pub service_account: Option<OsString>,

    /// What to do with the token: get, store or forget.
    #[arg(value_enum)]
    pub verb: Verb,

    /// Host that the token is for.
    #[arg(value_name = "FOR_HOST")]
    pub for_host: String,
}

impl Credentials {
    pub fn helper(&self) -> Helper {
        let text = |value: &OsString| value.to_string_lossy().into_owned();
        Helper {
            hosts: self.hosts.iter().map(text).collect(),
            token_file: self.token_file.as_ref().filter(|path| !path.is_empty()).map(Into::into),
            service_account: self.service_account.as_ref().map(text).filter(|account| !account.is_empty()),
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
            assert_eq!((flags.hosts, flags.verb), (vec!["a.io".into()], Verb::Get));
            assert_eq!(flags.for_host, "b.io");
        }
        let flags =
            parse(&["terraform-credentials-acme", "--service-account=team-a/ci", "forget", "b.io"]).unwrap();
        assert_eq!(flags.helper().service_account.as_deref(), Some("team-a/ci"));
        assert!(parse(&["opendepot", "get", "b.io"]).is_err());
        assert!(parse(&["terraform-credentials-acme", "fetch", "b.io"]).is_err());
    }

    #[test]
    fn no_value_of_a_flag_is_refused_before_the_host_is_known() {
        for flag in ["--host=", "--host=,", "--token-file=", "--service-account=", "--service-account=ci"] {
            let flags = parse(&["terraform-credentials-acme", flag, "get", "b.io"]).unwrap();
            assert_eq!(flags.helper().token_file, None, "{flag}");
        }
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
