//! `opendepot source`: prints the `module` block for a version of a Module.

mod chosen;

use clap::Args;
use kube::{Client, Error};
use serde::{Deserialize as _, Serialize};

use self::chosen::{chosen, served_address};
use super::arguments;
use super::connection::{ConnectError, NO_KIND, Retry, connect};
use super::output::Output;
use crate::api::state::{ListedVersion, ModuleListing, VersionState};
use crate::api::{Module, Version, VersionStatus, object_name};
use crate::controller::client;
use crate::domain::names::{is_registry_host, unicode_host};
use crate::domain::{Block, Endpoint, ObjectLocation, Release};

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
    #[arg(value_name = "VERSION", value_parser = Release::parse)]
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

    /// Output format.
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
    #[error("{}", NO_KIND)]
    NoKind,
    #[error("Module {module} in the namespace {namespace}: {why}")]
    Unusable { module: String, namespace: String, why: String },
    #[error("version {version} is withdrawn, so the registry rejects downloads of it: {text}")]
    Withdrawn { version: Release, text: String },
    #[error("version {version} is not stored: {why}")]
    NotStored { version: Release, why: String },
    #[error("your user has no permission to get {what} in the namespace {namespace}: {message}")]
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
    let (name, folder) = (&arguments.module, arguments.folder.as_deref());
    let object = client::objects::<Module>(&client, &namespace).get(name).await.map_err(|error| {
        if client::is_gone(&error) {
            SourceError::NoModule { module: name.clone(), namespace: namespace.clone() }
        } else {
            refused("Modules", &namespace, error)
        }
    })?;
    let object = serde_json::to_value(&object).map_err(Error::SerdeError)?;
    let module = ModuleListing::deserialize(&object).map_err(Error::SerdeError)?;
    let unusable =
        |why: String| SourceError::Unusable { module: name.clone(), namespace: namespace.clone(), why };
    let latest = object["status"]["latestVersion"].as_str();
    let chosen = chosen(&module, latest, arguments.release.as_ref()).map_err(unusable)?;
    let block = if let Some(host) = &arguments.registry {
        if let Some(text) = chosen.withdrawn {
            return Err(SourceError::Withdrawn { version: chosen.release, text: text.into() });
        }
        let address = served_address(&module, &chosen.release).map_err(unusable)?;
        // Users of the registry need no permission for Versions, so this command works without it.
        match stored(&client, &module, &chosen.release).await {
            Ok(_) | Err(SourceError::Forbidden { .. }) => {}
            Err(error) => return Err(error),
        }
        Block::of_registry(host, &address.to_string(), &chosen.release, folder)
    } else {
        let mut location = stored(&client, &module, &chosen.release).await?;
        let endpoint = || arguments.endpoint.as_ref().map(ToString::to_string);
        location.endpoint = location.endpoint.or_else(endpoint);
        Block::of_object(name, &location, folder)
    };
    let warnings = warnings(&chosen, &block);
    Ok(Source { block, warnings })
}

fn warnings(chosen: &ListedVersion, block: &Block) -> Vec<String> {
    let notice = |text: &Option<Box<str>>, word: &str| {
        text.as_ref().map(|text| format!("version {} is {word}: {text}", chosen.release))
    };
    let notices = [notice(&chosen.deprecated, "deprecated"), notice(&chosen.withdrawn, "withdrawn")];
    let keys = block.needs_keys().then(|| KEYS.to_owned());
    notices.into_iter().flatten().chain(keys).collect()
}

/// Where the version of a Module is stored.
async fn stored(
    client: &Client,
    module: &ModuleListing,
    release: &Release,
) -> Result<ObjectLocation, SourceError> {
    let (namespace, name) = (module.namespace(), object_name::version_object(module.name(), release));
    let not_stored = |why: String| SourceError::NotStored { version: release.clone(), why };
    let found = client::objects::<Version>(client, namespace).get_opt(&name).await;
    let found = found.map_err(|error| refused("Versions", namespace, error))?;
    let missing =
        || not_stored(format!("there is no Version {name}: it is new, or versionHistoryLimit excludes it"));
    let version = found.ok_or_else(missing)?;
    let state = serde_json::to_value(&version).and_then(serde_json::from_value::<VersionState>);
    if let Some(why) = objection(&state.map_err(Error::SerdeError)?, module.uid(), release) {
        return Err(not_stored(format!("Version {name} {why}")));
    }
    let status: VersionStatus = client::part(&version, "status").map_err(&not_stored)?;
    let why = status.sync_status.unwrap_or_else(|| "the operator has not published it yet".into());
    status.storage.filter(|_| status.synced == Some(true)).ok_or_else(|| not_stored(why))
}

/// Why the registry does not serve a Version for its Module, whose UID is `module`. Another object may have the Version's name.
fn objection(version: &VersionState, module: &str, release: &Release) -> Option<&'static str> {
    if version.is_terminating() {
        Some("is being deleted")
    } else if version.module().is_none_or(|owner| owner.uid != module) || !version.is_release(release) {
        Some("belongs to another Module, or to none")
    } else if version.status.synced && !version.has_finalizer {
        Some("lacks the operator's finalizer")
    } else {
        None
    }
}

fn refused(what: &'static str, namespace: &str, error: Error) -> SourceError {
    match error {
        Error::Api(status) if status.is_forbidden() => {
            SourceError::Forbidden { what, namespace: namespace.to_owned(), message: status.message.clone() }
        }
        // Without the kind, the answer is a page that is no status, so kube's `is_not_found` is false.
        Error::Api(status) if status.code == 404 => SourceError::NoKind,
        error => error.into(),
    }
}

/// A folder, as a path without the slashes at its ends.
fn folder(text: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    let is_special = |c: char| c.is_control() || "?#\\\"".contains(c);
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(is_special);
    let advice = "write the path of a folder in the module, such as modules/karpenter";
    arguments::valid(path, path.split('/').all(is_plain), advice)
}

fn host(text: &str) -> Result<String, String> {
    // `OPENDEPOT_HOST` is a list for `opendepot credentials`.
    let mut hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
    let (text, other) = (hosts.next().unwrap_or_default(), hosts.next());
    if let Some(other) = other {
        return Err(format!("write one host, such as --registry {text} or --registry {other}"));
    }
    let advice = "write a valid DNS name with a dot, such as registry.acme.io:8443, without https://";
    let host = unicode_host(text);
    arguments::valid(&host, is_registry_host(&host), advice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{FINALIZER, GROUP, VERSION};

    #[test]
    fn only_the_object_that_the_module_stored_counts() {
        let own = json!({
            "metadata": {"name": "net-1.0.0", "finalizers": [FINALIZER], "ownerReferences": [{
                "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Module", "name": "net", "uid": "one",
                "controller": true,
            }]},
            "spec": {"type": "Module", "version": "v1.0.0"},
            "status": {"synced": true},
        });
        let foreign = Some("belongs to another Module, or to none");
        for (field, value, expected) in [
            ("/status", json!({"synced": true}), None),
            ("/metadata/finalizers", json!([]), Some("lacks the operator's finalizer")),
            ("/metadata/ownerReferences", json!([]), foreign),
            ("/metadata/ownerReferences/0/uid", json!("two"), foreign),
            ("/spec/version", json!("1.0.1"), foreign),
            ("/spec/type", json!("Provider"), foreign),
        ] {
            let mut version = own.clone();
            *version.pointer_mut(field).unwrap() = value;
            let state: VersionState = serde_json::from_value(version).unwrap();
            assert_eq!(objection(&state, "one", &Release::parse("1.0.0").unwrap()), expected, "{field}");
        }
        let mut going = own;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let state: VersionState = serde_json::from_value(going).unwrap();
        let found = objection(&state, "one", &Release::parse("1.0.0").unwrap());
        assert_eq!(found, Some("is being deleted"));
    }

    #[test]
    fn of_several_hosts_one_is_to_be_named() {
        for text in ["registry.acme.io", " registry.acme.io,", ",registry.acme.io"] {
            assert_eq!(host(text).as_deref(), Ok("registry.acme.io"), "{text}");
        }
        for (text, expected) in [("a.io:8443", "a.io:8443"), ("xn--mdulos-bxa.io:8443", "módulos.io:8443")] {
            assert_eq!(host(text).as_deref(), Ok(expected));
        }
        let message = host("a.io, b.io").unwrap_err();
        assert_eq!(message, "write one host, such as --registry a.io or --registry b.io");
        for text in ["", ",", "https://a.io", "a.io/b", "a.io:x", "localhost:8443", "módulos"] {
            assert!(host(text).unwrap_err().contains("such as registry.acme.io"), "{text}");
        }
    }
}
