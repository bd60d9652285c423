//! `opendepot version`: what this binary is.

use clap::Args;
use serde::Serialize;

use super::output::Output;
use crate::api::{GROUP, VERSION};
use crate::archive;
use crate::observe::REVISION;

/// Arguments of `opendepot version`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What this binary is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    pub version: &'static str,
    /// The commit; `unknown` unless the build set it.
    pub commit: &'static str,
    /// `apiVersion` of Modules and Versions.
    pub api_version: String,
    /// The revision of stored archives: with another one, the same files may have other bytes.
    pub archive_revision: u32,
    pub platform: String,
}

impl Build {
    pub fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: REVISION,
            api_version: format!("{GROUP}/{VERSION}"),
            archive_revision: archive::REVISION,
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, commit, api_version, archive_revision, platform } = self;
        writeln!(f, "opendepot {version}\ncommit: {commit}\nAPI version: {api_version}")?;
        write!(f, "archive revision: {archive_revision}\nplatform: {platform}")
    }
}
