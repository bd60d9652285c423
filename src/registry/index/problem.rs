//! Why a Version or Module is not Ready.

use std::sync::Arc;

use crate::api::state::VersionState;

/// A condition `Ready` that is not True.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its reason.
    pub reason: Arc<str>,
    /// The beginning of its message.
    pub message: Box<str>,
}

impl Problem {
    /// The problem of a Version.
    pub fn of(version: &VersionState) -> Option<Self> {
        let ready = version.status.ready.as_ref().filter(|ready| !ready.is_true)?;
        Some(Self { reason: Arc::clone(&ready.reason), message: version.status.message.clone() })
    }
}
