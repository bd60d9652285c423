//! `opendepot source`: prints the `module` block for a version of a Module.

mod block;
mod stored;

use clap::Args;
use kube::{Client, Error};
use serde::Serialize;
use serde_json::Value;

pub use self::block::Block;
use self::block::{Chosen, NoVersion};
use self::stored::objection;
use super::arguments;
use super::connection::{ConnectError, Retry, connect};
use super::output::Output;
use crate::api::state::VersionState;
use crate::api::{Module, Version, VersionStatus, object_name};
use crate::controller::client;
use crate::domain::names::is_dns_subdomain;
use crate::domain::{Endpoint, ObjectLocation, Release};

const EXAMPLES: &str = "\
Examples:
  # By the registry address, with the latest stored version.
  opendepot source terraform-aws-eks -n team-a --registry registry.acme.io
  # Without a registry: by the address of the object in S3.
  opendepot source terraform-aws-eks 21.18.0 -n team-a

This needs the permission to get Modules, and without --registry also Versions.";

/// Arguments of `opendepot source`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name of the Module object.
    #[arg(value_parser = arguments::module)]
    pub module: String,

    /// A version that the Module lists, with or without a leading v. Default: the latest stored version.
    #[arg(value_name = "VERSION", value_parser = arguments::release)]
    pub release: Option<Release>,

    /// Namespace of the Module. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_parser = arguments::namespace)]
    pub namespace: Option<String>,

    /// Host of the registry, such as registry.acme.io. Without it, the address of the object in S3 is printed. `OPENDEPOT_HOST` may
    /// name several hosts for `opendepot credentials`; then this flag chooses one.
    #[arg(long, env = "OPENDEPOT_HOST", value_name = "HOST", value_parser = host)]
    pub registry: Option<String>,

    /// Folder in the module, such as modules/karpenter.
    #[arg(long, value_name = "PATH", value_parser = folder)]
    pub folder: Option<String>,

    /// Default endpoint of the operator, if it is not AWS. For an object in S3.
    #[arg(long, env = "AWS_ENDPOINT_URL_S3", value_name = "URL")]
    pub endpoint: Option<Endpoint>,

    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    pub block: Block,
    /// What a user of the version should know.
    pub warnings: Vec<String>,
}

/// Why there is no block to print.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Connection(#[from] ConnectError),
    #[error("there is no Module {module} in the namespace {namespace}: choose another namespace with -n")]
    NoModule { module: String, namespace: String },
    #[error("Module {module} in the namespace {namespace}: {error}")]
    NoVersion { module: String, namespace: String, error: NoVersion },
    #[error("Module {module} in the namespace {namespace} has no registry address: {why}")]
    NoAddress { module: String, namespace: String, why: String },
    #[error("version {version} is withdrawn, so the registry refuses it: {text}")]
    Withdrawn { version: Release, text: String },
    #[error("version {version} is not stored: {why}")]
    NotStored { version: Release, why: String },
    #[error("your user may not get {what} in the namespace {namespace}: {message}")]
    Forbidden { what: &'static str, namespace: String, message: String },
    #[error("the Kubernetes API failed: {}", client::explain(.0))]
    Api(#[from] Error),
}

/// The warning about a store other than AWS.
const KEYS: &str = "Terraform and OpenTofu use this endpoint only with keys in the address: append \
                    &aws_access_key_id=…&aws_access_key_secret=… to it, or install from a registry";

/// Reads the Module and, as far as that is permitted, the Version.
///
/// # Errors
/// [`SourceError`] if the version cannot be installed.
pub async fn run(arguments: &Arguments) -> Result<Source, SourceError> {
    let (client, namespace) = connect(arguments.namespace.as_deref(), Retry::ByClient).await?;
    let name = arguments.module.clone();
    let module = client::objects::<Module>(&client, &namespace).get(&name).await.map_err(|error| {
        if client::is_gone(&error) {
            SourceError::NoModule { module: name.clone(), namespace: namespace.clone() }
        } else {
            refused("Modules", &namespace, error)
        }
    })?;
    let module = serde_json::to_value(&module).map_err(Error::SerdeError)?;
    let chosen = Chosen::of(&module, arguments.release.as_ref()).map_err(|error| SourceError::NoVersion {
        module: name.clone(),
        namespace: namespace.clone(),
        error,
    })?;
    let block = if let Some(host) = &arguments.registry {
        if let Some(text) = chosen.withdrawn {
            return Err(SourceError::Withdrawn { version: chosen.release, text });
        }
        let address = address(&module).map_err(|why| SourceError::NoAddress {
            module: name.clone(),
            namespace: namespace.clone(),
            why,
        })?;
        // The registry needs no permission for Versions, so this command does not either.
        let place = stored(&client, &namespace, &module, &chosen.release).await;
        if !matches!(place, Err(SourceError::Forbidden { .. })) {
            place?;
        }
        let mut block = Block::of_registry(host, &address, &chosen.release);
        if let Some(folder) = &arguments.folder {
            block.source = format!("{}//{}", block.source, folder.trim_matches('/'));
        }
        block
    } else {
        let mut place = stored(&client, &namespace, &module, &chosen.release).await?;
        if place.endpoint.is_none() {
            place.endpoint = arguments.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned());
        }
        Block::of_object(&name, &place, arguments.folder.as_deref())
    };
    let warnings = warnings(&chosen, &block);
    Ok(Source { block, warnings })
}

/// What a user of the block should know.
fn warnings(chosen: &Chosen, block: &Block) -> Vec<String> {
    let notice = |text: &Option<String>, word: &str| {
        text.as_ref().map(|text| format!("version {} is {word}: {text}", chosen.release))
    };
    let notices = [notice(&chosen.deprecated, "deprecated"), notice(&chosen.withdrawn, "withdrawn")];
    let keys = block.needs_keys().then(|| KEYS.to_owned());
    notices.into_iter().flatten().chain(keys).collect()
}

/// The registry address, or why there is none.
fn address(module: &Value) -> Result<String, String> {
    if let Some(address) = module.pointer("/status/address").and_then(Value::as_str) {
        return Ok(address.to_owned());
    }
    let conditions =
        module.pointer("/status/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let addressable = conditions.iter().find(|condition| condition["type"] == "Addressable");
    let message = addressable.and_then(|condition| condition["message"].as_str());
    Err(message.unwrap_or("the operator has not set status.address yet").to_owned())
}

/// Where the version of a Module is stored.
async fn stored(
    client: &Client,
    namespace: &str,
    module: &Value,
    release: &Release,
) -> Result<ObjectLocation, SourceError> {
    let name = module.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let name = object_name::version_object(name, release);
    let not_stored = |why: String| SourceError::NotStored { version: release.clone(), why };
    let version = match client::objects::<Version>(client, namespace).get(&name).await {
        Ok(version) => version,
        Err(error) if client::is_gone(&error) => {
            return Err(not_stored(format!("there is no Version {name} in the namespace {namespace}")));
        }
        Err(error) => return Err(refused("Versions", namespace, error)),
    };
    let state = serde_json::to_value(&version).and_then(serde_json::from_value::<VersionState>);
    if let Some(why) = objection(&state.map_err(Error::SerdeError)?, module, release) {
        return Err(not_stored(format!("Version {name} {why}")));
    }
    let status: VersionStatus = client::part(&version, "status").map_err(&not_stored)?;
    match status.storage.filter(|_| status.synced == Some(true)) {
        Some(place) => Ok(place),
        None => Err(not_stored(
            status.sync_status.unwrap_or_else(|| "the operator has not published it yet".into()),
        )),
    }
}

fn refused(what: &'static str, namespace: &str, error: Error) -> SourceError {
    match error {
        Error::Api(status) if status.is_forbidden() => {
            SourceError::Forbidden { what, namespace: namespace.to_owned(), message: status.message.clone() }
        }
        error => error.into(),
    }
}

/// A folder, as a path without the slashes at its ends.
fn folder(text: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    let is_plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(|c: char| c.is_control() || "?#\\\"".contains(c))
    };
    if path.split('/').all(is_plain) {
        return Ok(path.to_owned());
    }
    Err("write the path of a folder in the module, such as modules/karpenter".into())
}

fn host(text: &str) -> Result<String, String> {
    let is_host = |host: &str| is_dns_subdomain(&host.to_ascii_lowercase(), 253);
    // `OPENDEPOT_HOST` is a list for `opendepot credentials`.
    let mut hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
    let (text, other) = (hosts.next().unwrap_or_default(), hosts.next());
    if let Some(other) = other {
        return Err(format!("write one host, such as --registry {text} or --registry {other}"));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, "443"));
    if is_host(name) && port.parse::<u16>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("write a host, such as registry.acme.io or registry.acme.io:8443, without https://".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_hosts_one_is_to_be_named() {
        for text in ["registry.acme.io", " registry.acme.io,", ",registry.acme.io"] {
            assert_eq!(host(text).as_deref(), Ok("registry.acme.io"), "{text}");
        }
        assert_eq!(host("a.io:8443").as_deref(), Ok("a.io:8443"));
        let message = host("a.io, b.io").unwrap_err();
        assert_eq!(message, "write one host, such as --registry a.io or --registry b.io");
        for text in ["", ",", "https://a.io", "a.io/b", "a.io:x"] {
            assert!(host(text).unwrap_err().contains("such as registry.acme.io"), "{text}");
        }
    }
}
