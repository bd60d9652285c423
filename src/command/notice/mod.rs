//! `opendepot deprecate` and `opendepot withdraw`: write a notice about one version into a Module, with the user's kubeconfig.
//!
//! The patch contains a test of the entry. If the list is edited at the same time, the notice is not written to another version:
//! the command reads the Module and tries again.

mod edit;

use std::time::Duration;

use clap::Args;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::Value;

use self::edit::NotListed;
use super::arguments;
use super::connection::{ConnectError, FIELD_MANAGER, NO_KIND, Retry, connect};
use crate::api::Module;
use crate::controller::client;
use crate::domain::Release;

/// How often the command tries while others edit the list.
const ATTEMPTS: u32 = 10;

/// Arguments of both commands.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Name of the Module object.
    #[arg(value_parser = arguments::module)]
    pub module: String,
    /// A version that the Module lists, with or without a leading v.
    #[arg(value_name = "VERSION", value_parser = Release::parse)]
    pub release: Release,
    /// The reason, which the registry shows: at most 256 characters in one line. An empty text removes the notice.
    #[arg(value_parser = notice)]
    pub text: String,
    /// Namespace of the Module. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_parser = arguments::namespace)]
    pub namespace: Option<String>,
}

/// Why a notice was not written.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error(transparent)]
    Connection(#[from] ConnectError),
    #[error("there is no Module {module} in the namespace {namespace}: choose another namespace with -n")]
    NoModule { module: String, namespace: String },
    #[error("{}", NO_KIND)]
    NoKind,
    #[error("Module {module} in the namespace {namespace} does not list {version}{}", near(.listed))]
    NotListed { module: String, namespace: String, version: Release, listed: NotListed },
    #[error(
        "your user has no permission to {verb} the Module {module} in the namespace {namespace}: {message}"
    )]
    Forbidden { verb: &'static str, module: String, namespace: String, message: String },
    #[error(
        "the API server dropped the notice, because its CRDs are from an older release: apply those of this release \
         (opendepot crd)"
    )]
    OldSchema,
    #[error("Module {module} was changed by other clients during each of {ATTEMPTS} attempts: try again")]
    Busy { module: String },
    #[error("the API server rejected the request: {0}")]
    Refused(String),
    #[error("the Kubernetes API failed: {}", client::explain(.0))]
    Api(#[from] kube::Error),
}

fn near(listed: &NotListed) -> String {
    match listed.near.as_slice() {
        [] => ": it lists no version".to_owned(),
        near if near.len() == listed.count => format!(": it lists {}", near.join(", ")),
        near => format!(": of its {} versions, the nearest are {}", listed.count, near.join(", ")),
    }
}

/// Writes a notice. Returns the sentence for the user. `field`: `deprecated` or `withdrawn`, of an entry of `spec.versions`.
pub async fn run(field: &'static str, arguments: &Arguments) -> Result<String, NoticeError> {
    let (client, namespace) = connect(arguments.namespace.as_deref(), Retry::ByClient).await?;
    let api = client::objects::<Module>(&client, &namespace);
    let command = Command { field, arguments, namespace, api };
    for attempt in 0..ATTEMPTS {
        if let Some(sentence) = command.attempt().await? {
            return Ok(sentence);
        }
        tokio::time::sleep(Duration::from_millis(50) * attempt.min(10)).await;
    }
    Err(NoticeError::Busy { module: arguments.module.clone() })
}

struct Command<'a> {
    field: &'static str,
    arguments: &'a Arguments,
    namespace: String,
    api: Api<DynamicObject>,
}

impl Command<'_> {
    /// Reads the Module and patches it. `None` if its list was changed in between.
    async fn attempt(&self) -> Result<Option<String>, NoticeError> {
        let Arguments { module, release: version, text, .. } = self.arguments;
        let object = self.api.get(module).await.map_err(|error| self.explain("get", error))?;
        let edited = edit::edit(&object.data, version, self.field, text);
        let edited = edited.map_err(|listed| NoticeError::NotListed {
            module: module.clone(),
            namespace: self.namespace.clone(),
            version: version.clone(),
            listed,
        })?;
        let Some(patch) = edited else { return Ok(Some(self.sentence("already"))) };
        let patch = Patch::Json::<Value>(serde_json::from_value(patch).map_err(kube::Error::SerdeError)?);
        match self.api.patch(module, &PatchParams::apply(FIELD_MANAGER), &patch).await {
            Ok(written) => match edit::edit(&written.data, version, self.field, text) {
                Ok(None) => Ok(Some(self.sentence("now"))),
                _ => Err(NoticeError::OldSchema),
            },
            Err(kube::Error::Api(status)) if client::is_failed_test(&status) => Ok(None),
            Err(error) => Err(self.explain("patch", error)),
        }
    }

    fn explain(&self, verb: &'static str, error: kube::Error) -> NoticeError {
        let (module, namespace) = (self.arguments.module.clone(), self.namespace.clone());
        match error {
            // Without the kind, the answer is a page that is no status, so kube's `is_not_found` is false.
            kube::Error::Api(status) if status.code == 404 && !client::is_denied(&status) => {
                let names_it = status.details.as_ref().is_some_and(|details| details.name == module);
                if names_it { NoticeError::NoModule { module, namespace } } else { NoticeError::NoKind }
            }
            kube::Error::Api(status) if status.code == 403 && !client::is_denied(&status) => {
                NoticeError::Forbidden { verb, module, namespace, message: status.message.clone() }
            }
            kube::Error::Api(status) => NoticeError::Refused(status.message.clone()),
            error => error.into(),
        }
    }

    fn sentence(&self, when: &str) -> String {
        let Arguments { module, release: version, text, .. } = self.arguments;
        let (module, word) = (format!("Module {}/{module}", self.namespace), self.field);
        if text.is_empty() {
            let when = if when == "now" { "no longer" } else { "not" };
            format!("{module}: version {version} is {when} {word}")
        } else {
            format!("{module}: version {version} is {when} {word}: {text}")
        }
    }
}

fn notice(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("write one line, without control characters".into());
    }
    if !text.is_empty() && text.trim().is_empty() {
        return Err("write why, or an empty text to take the notice back".into());
    }
    match text.chars().count() {
        0..=256 => Ok(text.to_owned()),
        count => Err(format!("write at most 256 characters, not {count}")),
    }
}
