//! Why `opendepot publish` fails.

use std::path::PathBuf;

use super::manifest::ManifestError;
use super::stored::harmless;
use crate::command::connection::{ConnectError, NO_KIND};
use crate::controller::client;

const PERMISSIONS: &str = "; the permissions that this needs are in examples/release-workflow-rbac.yaml";

/// Why a version was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Connection(#[from] ConnectError),
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("cannot write {path}: {error}")]
    Outputs { path: PathBuf, error: std::io::Error },
    #[error("manifest {path}: {error}")]
    Manifest { path: PathBuf, error: ManifestError },
    #[error("there is no Module {module} in the namespace {namespace}: create it, or set --manifest")]
    NoModule { module: String, namespace: String },
    #[error("there is no namespace {0}: create it, or choose another namespace with -n")]
    NoNamespace(String),
    #[error("{}", NO_KIND)]
    NoKind,
    /// `is_transient`: the API server did not answer, or reported that it is overloaded or starting.
    #[error("{doing} failed: {message}")]
    Request { doing: String, message: String, is_transient: bool },
    #[error("{0}")]
    Prevented(String),
    #[error("{version} is not among the {limit} newest versions that versionHistoryLimit keeps")]
    Excluded { version: String, limit: i64 },
    #[error("{missing} after {after}{hint}{state}")]
    Late { missing: String, after: String, hint: &'static str, state: String },
}

impl PublishError {
    /// Why a request about a Module or its Version failed. `doing`: what the request was for.
    pub(super) fn of_request(module: &str, namespace: &str, doing: &str, error: &kube::Error) -> Self {
        let is_forbidden =
            matches!(error, kube::Error::Api(status) if status.code == 403 && !client::is_denied(status));
        let advice = if is_forbidden { PERMISSIONS } else { "" };
        let message = harmless(&client::explain(error)) + advice;
        let failed = |is_transient| Self::Request { doing: doing.to_owned(), message, is_transient };
        let status = match error {
            // Without the kind, the answer is a page that is no status, so kube's `is_not_found` is false.
            kube::Error::Api(status) if status.code == 404 && !client::is_denied(status) => status,
            kube::Error::Api(status) => return failed(client::is_outage(status)),
            kube::Error::Service(_) | kube::Error::HyperError(_) => return failed(true),
            // No answer of an API server, or no request at all: the configuration is wrong.
            _ => return failed(false),
        };
        // Only an answer about an object contains its name.
        let details = status.details.as_ref();
        match details.map_or(("", ""), |details| (details.kind.as_str(), details.name.as_str())) {
            ("namespaces", _) => Self::NoNamespace(namespace.to_owned()),
            (_, "") => Self::NoKind,
            (_, name) if name == module => {
                Self::NoModule { module: module.to_owned(), namespace: namespace.to_owned() }
            }
            _ => failed(false),
        }
    }

    /// Whether the same request may succeed some seconds later.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, Self::Request { is_transient: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_says_which_object_is_missing() {
        let module = "there is no Module net in the namespace team: create it, or set --manifest";
        for (code, details, expected) in [
            (404, json!({"kind": "modules", "name": "net"}), module),
            (404, json!({"kind": "namespaces", "name": "team"}), "there is no namespace team: create it"),
            (404, json!({"kind": "versions", "name": "net-1.0.0"}), "reading failed: why"),
            (404, json!({}), "the cluster has no kind Module or Version"),
            (404, json!(null), "the cluster has no kind Module or Version"),
            (403, json!({"kind": "modules", "name": "net"}), "reading failed: why; the permissions"),
            (503, json!({}), "reading failed: why"),
        ] {
            // kube's reason for an answer that is no status, such as the page about a kind that is missing.
            let reason = match code {
                404 if details.is_null() => "Failed to parse error data",
                404 => "NotFound",
                _ => "",
            };
            let status: Status = serde_json::from_value(json!({
                "code": code, "message": "why", "reason": reason, "details": details,
            }))
            .unwrap();
            let error =
                PublishError::of_request("net", "team", "reading", &kube::Error::Api(Box::new(status)));
            assert!(error.to_string().starts_with(expected), "{code} {details}: {error}");
            assert_eq!(error.is_transient(), code == 503, "{code}");
        }
    }
}
