//! What is checked outside the cluster: the bucket and the repository of the flags, or of a Module.

use super::arguments::Arguments;
use super::cluster::Cluster;
use super::report::Line;
use crate::api::{Module, ModuleConfig};
use crate::controller::client;
use crate::domain::{ObjectLocation, Repository};
use crate::storage::Encryption;

const CHECK: &str = "module";

/// What is checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// The key is the prefix.
    pub bucket: Option<(ObjectLocation, Encryption)>,
    pub repository: Option<Repository>,
    /// Namespace and name of the Secret with the GitHub credentials.
    pub secret: Option<(String, String)>,
}

/// Reads the flags, or the Module, and the line about it.
pub(crate) async fn subject(arguments: &Arguments, cluster: Option<&Cluster>) -> (Subject, Option<Line>) {
    let Some(name) = &arguments.module else { return (of_flags(arguments, cluster), None) };
    match named(name, &arguments.namespaces, cluster).await {
        Ok((subject, line)) => (subject, Some(line)),
        Err(line) => (Subject::default(), Some(line)),
    }
}

/// Reads a Module by its name, and the line about it.
async fn named(
    name: &str,
    namespaces: &[String],
    cluster: Option<&Cluster>,
) -> Result<(Subject, Line), Line> {
    let without_cluster = || Line::skipped(CHECK, format!("Module {name} cannot be read without a cluster"));
    let cluster = cluster.ok_or_else(without_cluster)?;
    let namespace = match namespaces {
        [] => cluster.namespace.as_str(),
        [namespace, others @ ..] if others.iter().all(|other| other == namespace) => namespace,
        _ => {
            let message = format!("several namespaces are set, but Module {name} is in one");
            return Err(Line::failed(CHECK, message, "write -n with the Module's namespace only"));
        }
    };
    let what = format!("Module {name} in namespace {namespace}");
    let object = client::objects::<Module>(&cluster.client, namespace).get(name).await.map_err(|error| {
        let fix = if client::is_gone(&error) {
            "correct the name, or the namespace with -n"
        } else {
            "see the checks of crds and rights above"
        };
        Line::failed(CHECK, format!("{what} cannot be read: {}", client::explain(&error)), fix)
    })?;
    let config = object.data.pointer("/spec/moduleConfig").cloned().unwrap_or_default();
    let read = serde_json::from_value::<ModuleConfig>(config).map_err(|error| error.to_string());
    match read.and_then(|config| of_module(&config, namespace, name)) {
        Ok(subject) => Ok((subject, Line::ok(CHECK, format!("{what} is valid")))),
        Err(problem) => Err(Line::failed(CHECK, format!("{what}: {problem}"), "correct spec.moduleConfig")),
    }
}

fn of_module(config: &ModuleConfig, namespace: &str, name: &str) -> Result<Subject, String> {
    let checked = config.resolved(name);
    let checked = checked.check(name).map_err(|error| error.to_string())?;
    let s3 = checked.s3;
    let location = ObjectLocation {
        bucket: s3.bucket.clone(),
        key: s3.prefix().to_owned(),
        region: s3.region.clone(),
        endpoint: s3.endpoint.clone(),
        force_path_style: s3.force_path_style,
    };
    let encryption = Encryption {
        server_side_encryption: s3.server_side_encryption.map(|sse| sse.as_str().to_owned()),
        kms_key_id: s3.kms_key_id.clone(),
    };
    let secret = config.secret().map(|name| (namespace.to_owned(), name.to_owned()));
    Ok(Subject { bucket: Some((location, encryption)), repository: Some(checked.repository), secret })
}

fn of_flags(arguments: &Arguments, cluster: Option<&Cluster>) -> Subject {
    let region = arguments.region.clone().unwrap_or_default();
    let bucket = arguments.bucket.clone().map(|bucket| ObjectLocation {
        bucket,
        key: arguments.key.clone().unwrap_or_default().trim_matches('/').to_owned(),
        region,
        endpoint: arguments.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned()),
        force_path_style: arguments.force_path_style.then_some(true),
    });
    let namespace = arguments.namespaces.first().cloned().or_else(|| cluster.map(|c| c.namespace.clone()));
    let secret =
        arguments.secret.clone().map(|name| (namespace.unwrap_or_else(|| "default".to_owned()), name));
    Subject {
        bucket: bucket.map(|location| (location, Encryption::default())),
        repository: arguments.repository.clone(),
        secret,
    }
}
