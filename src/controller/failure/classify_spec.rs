//! The reason of unusable configurations.

use super::{Failure, Reason};
use crate::api::check::InvalidConfig;

impl From<InvalidConfig> for Failure {
    fn from(error: InvalidConfig) -> Self {
        Self::new(Reason::InvalidSpec, error.to_string())
    }
}
