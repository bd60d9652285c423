//! The `opendepot` binary: parses the command line, installs logging, and runs one command.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;
use opendepot::cli::{self, Cli, Command, Credentials};
use opendepot::notice::{self, Notice};
use opendepot::observe::telemetry::{self, LogFormat};
use opendepot::registry::credentials;
use opendepot::{api, operator, serve};

/// Returns memory to the system soon after a burst; its settings are compiled in, see `.cargo/config.toml`. Windows, on which only the
/// command line is used, keeps its own.
#[cfg(not(windows))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse_from(cli::arguments(std::env::args_os())).command {
        Command::Crd => api::print(std::io::stdout().lock()).map_err(Into::into),
        Command::Deprecate(arguments) => notify(Notice::Deprecated, &arguments),
        Command::Withdraw(arguments) => notify(Notice::Withdrawn, &arguments),
        Command::Credentials(flags) => print_credentials(&flags),
        Command::Run(flags) => {
            let (format, level) = (flags.log_format, flags.log_level.clone());
            run(format, &level, operator::run(*flags))
        }
        Command::Serve(flags) => {
            let (format, level) = (flags.log_format, flags.log_level.clone());
            run(format, &level, serve::run(*flags))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opendepot: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a notice, and prints what it did.
fn notify(notice: Notice, arguments: &notice::Arguments) -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(notice::run(notice, arguments))?);
    Ok(())
}

/// Runs a server to its end.
fn run<E: Error + 'static>(
    format: Option<LogFormat>,
    level: &str,
    server: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn Error>> {
    telemetry::install(format, level).map_err(|e| format!("--log-level: {e}"))?;
    // One TLS provider for every client of the process. An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(server);
    // Does not wait for an archive that is being unpacked: that would delay the next leader.
    runtime.shutdown_background();
    Ok(result?)
}

/// Answers one request of the credentials helper protocol.
fn print_credentials(flags: &Credentials) -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(credentials::answer(&flags.helper(), flags.verb(), &flags.for_host))?;
    print!("{answer}");
    Ok(())
}
