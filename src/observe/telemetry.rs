//! Logging on standard error: JSON in a cluster, text elsewhere. Panics are logged and counted.
//!
//! Other crates are logged from `warn` up only, unless a filter includes them: the AWS and HTTP clients may log secrets
//! at `debug`. The client of `kube-client` is not logged: its warning about an unreadable answer contains the whole answer, the
//! answer to a token review contains the token, and its errors do not say what failed. This process logs each failed request,
//! and the warnings of kube's watches, with what to do.

use std::io;
use std::panic;

use clap::ValueEnum;
use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The directives for kube's crates and the AWS SDK, before those of the user. After each failure of a store, the SDK logs as an
/// error that it cannot close a connection of another HTTP client than its own. That client avoids those connections itself:
/// `src/storage/s3/http.rs`. The SDK's clients that read credentials of an instance or a container have no setting against that.
const QUIET: &str = "kube_client::client=off,kube_client::client::tls=warn,kube_runtime::watcher=error,\
                     aws_smithy_runtime::client::http::connection_poisoning=off";

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable.
    Text,
}

/// Installs the subscriber. Fails on an invalid filter.
pub fn install(format: Option<LogFormat>, level: &str) -> Result<(), ParseError> {
    let filter = filter(level)?;
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let format = format.unwrap_or(if in_cluster { LogFormat::Json } else { LogFormat::Text });
    // A line that cannot be written is lost. By default the subscriber reports that on standard error, and panics there.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
    }
    Ok(())
}

/// The filter for a level, or for a list of directives.
pub fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let directives = if level.contains(['=', ',']) {
        format!("{QUIET},{level}")
    } else {
        format!("warn,{QUIET},opendepot={level}")
    };
    EnvFilter::builder().parse(directives)
}

/// Counts and logs every panic of the process. Most are caught, and a panic in a task that is not awaited would be lost.
pub fn count_panics(panics: Counter) {
    panic::set_hook(Box::new(move |panic| {
        panics.inc();
        let cause = panic.payload_as_str().unwrap_or_default();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(cause, location, "panicked; this is a defect, report it with this line");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_api_server_are_not_logged() {
        for level in ["info", "debug", "info,opendepot=debug"] {
            let filter = filter(level).unwrap().to_string();
            assert!(filter.contains("kube_client::client=off"), "{filter}");
            assert!(filter.contains("connection_poisoning=off"), "{filter}");
        }
    }

    #[tokio::test]
    async fn panics_of_tasks_and_blocking_threads_are_counted() {
        let panics: Counter = Counter::default();
        let before = panic::take_hook();
        count_panics(panics.clone());
        let odd: Vec<u8> = Vec::new();
        let first = odd.len();
        let in_task = odd.clone();
        let task = tokio::spawn(async move { in_task[first] }).await;
        let thread = tokio::task::spawn_blocking(move || odd[first]).await;
        panic::set_hook(before);
        assert!(task.is_err() && thread.is_err());
        // Another test that expects a panic may run at the same time.
        assert!(panics.get() >= 2);
    }
}
