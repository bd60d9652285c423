//! The reason of unusable configurations.

use super::{Failure, Reason};
use crate::api::check::InvalidConfig;
use crate::api::target::InvalidSpec;

impl From<InvalidSpec> for Failure {
    fn from(error: InvalidSpec) -> Self {
        Self::stalled(Reason::InvalidSpec, error.to_string())
    }
}

impl From<InvalidConfig> for Failure {
    fn from(error: InvalidConfig) -> Self {
        Self::new(Reason::InvalidSpec, error.to_string())
    }
}
