//! `opendepot publish`: adds a version to a Module and waits until it is stored, in a release workflow of any CI system.
//!
//! It only appends to the Module's list, so it can run again, and for several versions at once.

mod arguments;
mod cluster;
mod deadline;
mod error;
mod manifest;
mod publication;
mod state;
pub mod stored;

use tokio::time::Instant;

pub use self::arguments::Arguments;
use self::cluster::Cluster;
use self::deadline::Deadline;
pub use self::error::PublishError;
use self::manifest::Manifest;
use self::publication::Publication;
pub use self::stored::Stored;
use super::connection::{Retry, connect};
use crate::api::object_name;
use crate::domain::Release;

/// Publishes a version, and writes `--outputs`. Steps are printed to standard error.
///
/// # Errors
/// [`PublishError`] if the version is not stored in time.
pub async fn run(arguments: &Arguments) -> Result<Stored, PublishError> {
    let started = Instant::now();
    // Before anything is published.
    append_outputs(arguments, "")?;
    let (client, namespace) = connect(arguments.namespace.as_deref(), Retry::ByCommand).await?;
    let manifest = arguments.manifest.as_ref().map(|path| {
        let is_stdin = path.as_os_str() == "-";
        let text =
            if is_stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
        let text = text.map_err(|error| PublishError::File { path: path.clone(), error })?;
        Manifest::parse(&text, &arguments.module, &namespace)
            .map_err(|error| PublishError::Manifest { path: path.clone(), error })
    });
    let manifest = manifest.transpose()?;
    let release =
        Release::parse(&arguments.version).map_err(|error| PublishError::Prevented(error.to_string()))?;
    let publication = Publication {
        arguments,
        cluster: Cluster::new(&client, &namespace),
        object: object_name::version_object(&arguments.module, &release),
        namespace,
        release,
        deadline: Deadline(started + arguments.timeout),
    };
    let stored = publication.publish(manifest.as_ref()).await?;
    append_outputs(arguments, &stored.lines())?;
    Ok(stored)
}

/// Appends to the file of `--outputs`, if there is one.
fn append_outputs(arguments: &Arguments, text: &str) -> Result<(), PublishError> {
    use std::io::Write as _;
    let Some(path) = &arguments.outputs else { return Ok(()) };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| PublishError::Outputs { path: path.clone(), error })
}
