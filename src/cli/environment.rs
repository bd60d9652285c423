//! Environment variables of flags: an empty variable counts as unset, for every command. CI systems and Kubernetes manifests set
//! variables without a value.

use std::ffi::OsStr;

use clap::Command;

/// The storage rules. An empty value is rejected: counted as unset, it would remove every restriction.
const RULES: &str = "OPENDEPOT_ALLOW_STORAGE";

/// The command line without the variables that are empty.
pub(super) fn without_empty(command: Command) -> Command {
    without(command, |name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
}

fn without(command: Command, is_empty: impl Fn(&OsStr) -> bool + Copy) -> Command {
    let is_unset = move |name: &OsStr| name != RULES && is_empty(name);
    let command =
        command.mut_args(|arg| if arg.get_env().is_some_and(is_unset) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(|command| without(command, is_empty))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn flags_of_every_command_forget_variables_that_are_empty() {
        let variables = |command: &Command| -> Vec<_> {
            let arguments = command.get_subcommands().flat_map(Command::get_arguments);
            arguments.filter_map(|arg| arg.get_env().map(OsStr::to_owned)).collect()
        };
        let before = variables(&Cli::command());
        assert!(before.iter().any(|name| name == "GITHUB_OUTPUT"), "{before:?}");
        let rest = variables(&without(Cli::command(), |_| true));
        assert!(!rest.is_empty() && rest.iter().all(|name| name == RULES), "{rest:?}");
        let after = variables(&without(Cli::command(), |name| name == "OPENDEPOT_HOST"));
        let expected: Vec<_> = before.into_iter().filter(|name| name != "OPENDEPOT_HOST").collect();
        assert_eq!(after, expected);
    }
}
