//! Observability: health checks, metrics and logs.

pub(crate) mod admin;
pub mod liveness;
pub(crate) mod log_limit;
pub mod metrics;
pub mod process;
pub mod telemetry;
pub mod watch_age;

/// The commit of this build; `unknown` unless the build sets `OPENDEPOT_REVISION`.
pub const REVISION: &str = match option_env!("OPENDEPOT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
