//! Log lines: JSON in a cluster, text elsewhere, on standard error.
//!
//! In: how they shall look. Out: the process's one subscriber. Other crates speak from `warn` up only, unless a filter
//! says otherwise: what the AWS and HTTP clients say at `debug` may hold what must not be logged.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::cli::LogFormat;

/// Installs the subscriber. Fails on a filter that cannot be read.
pub fn install(format: Option<LogFormat>, level: &str) -> Result<(), ParseError> {
    let filter = filter(level)?;
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let format = format.unwrap_or(if in_cluster { LogFormat::Json } else { LogFormat::Text });
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
    }
    Ok(())
}

/// What is logged at a level, or by a filter of several.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let directives =
        if level.contains(['=', ',']) { level.to_owned() } else { format!("warn,opendepot={level}") };
    EnvFilter::builder().parse(directives)
}
