//! The `opendepot` binary: parses the command line, installs logging, and runs one command.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use opendepot::cli::{self, Cli, Command, Credentials};
use opendepot::command::output;
use opendepot::command::version::Build;
use opendepot::command::{archive, check, notice, publish, source, validate};
use opendepot::observe::telemetry::{self, LogFormat};
use opendepot::registry::{credentials, docs};
use opendepot::{api, operator, serve};

/// Returns memory to the system soon after a burst; its settings are compiled in, see `.cargo/config.toml`. Windows, on which
/// only the command line is used, keeps its own.
#[cfg(not(windows))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One TLS provider for every client of the process. An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match Cli::of_process(&cli::arguments(std::env::args_os())).command {
        Command::Check(arguments) => match check(&arguments) {
            Ok(failed) if failed > 0 => return ExitCode::FAILURE,
            result => result.map(drop),
        },
        Command::Publish(arguments) => publish(&arguments),
        Command::Validate(arguments) => {
            let report = validate::run(&arguments);
            match output::print(arguments.output, &report) {
                Ok(()) if !report.problems.is_empty() => return ExitCode::FAILURE,
                result => result,
            }
        }
        Command::Source(arguments) => source(&arguments),
        Command::Archive(arguments) => archive(&arguments),
        Command::Version(arguments) => output::print(arguments.output, &Build::this()),
        Command::Completion { shell } => {
            std::io::stdout().write_all(&Cli::completion(shell)).map_err(Into::into)
        }
        Command::Crd => api::print(std::io::stdout().lock()).map_err(Into::into),
        Command::Deprecate(arguments) => notify("deprecated", &arguments),
        Command::Withdraw(arguments) => notify("withdrawn", &arguments),
        Command::Credentials(flags) => print_credentials(&flags),
        Command::ReadDocumentation(arguments) => docs::run(&arguments).map_err(Into::into),
        Command::Run(flags) => run(flags.log_format, &flags.log_level, operator::run(&flags)),
        Command::Serve(flags) => run(flags.log_format, &flags.log_level, serve::run(&flags)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("opendepot: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that ends by itself.
fn once<T, E: Error + 'static>(command: impl Future<Output = Result<T, E>>) -> Result<T, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(command)?)
}

/// Publishes a version, and prints where it is. In GitHub Actions, a failure is also an annotation of the run.
fn publish(arguments: &publish::Arguments) -> Result<(), Box<dyn Error>> {
    let stored = once(publish::run(arguments)).inspect_err(|error| {
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| !value.is_empty()) {
            let _ = writeln!(std::io::stdout(), "{}", publish::stored::annotation(&error.to_string()));
        }
    })?;
    output::print(arguments.output, &stored)
}

/// Prints the block, and its warnings on standard error.
fn source(arguments: &source::Arguments) -> Result<(), Box<dyn Error>> {
    let source = once(source::run(arguments))?;
    for warning in &source.warnings {
        output::note(format_args!("opendepot: {warning}"));
    }
    output::print(arguments.output, &source.block)
}

/// Prints what would be stored.
fn archive(arguments: &archive::Arguments) -> Result<(), Box<dyn Error>> {
    output::print(arguments.output, &once(archive::run(arguments))?)
}

/// Prints the result of all checks. Returns how many failed.
fn check(arguments: &check::Arguments) -> Result<usize, Box<dyn Error>> {
    let report = once(check::run(arguments))?;
    output::print(arguments.output, &report)?;
    Ok(report.failed)
}

/// Writes a notice, and prints what it did.
fn notify(field: &'static str, arguments: &notice::Arguments) -> Result<(), Box<dyn Error>> {
    let notice = once(notice::run(field, arguments))?;
    Ok(writeln!(std::io::stdout(), "{notice}")?)
}

/// Runs a server to its end.
fn run<E: Into<Box<dyn Error>>>(
    format: Option<LogFormat>,
    level: &str,
    server: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn Error>> {
    telemetry::install(format, level).map_err(|e| format!("--log-level: {e}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(server);
    // Does not wait for an archive that is being unpacked: that would delay the next leader.
    runtime.shutdown_background();
    result.map_err(Into::into)
}

/// Answers one request of the credentials helper protocol.
fn print_credentials(flags: &Credentials) -> Result<(), Box<dyn Error>> {
    let helper = flags.helper();
    if let Some(note) = helper.unnamed(flags.verb, &flags.for_host) {
        output::note(format_args!("opendepot: {note}"));
    }
    let answer = once(credentials::answer(&helper, flags.verb, &flags.for_host))?;
    Ok(write!(std::io::stdout(), "{answer}")?)
}
