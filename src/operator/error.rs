//! Errors that end the operator.

use crate::controller::lease::LeadershipLost;
use crate::github::ClientError;
use crate::startup::StartupError;

/// Why the operator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("GitHub client: {0}")]
    GitHub(#[from] ClientError),
    #[error("{0}; the process exits, and its replacement stands by")]
    Lease(#[from] LeadershipLost),
}
