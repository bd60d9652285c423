//! The manifest of a Module, as `--manifest` gives it. Pure.

use serde_json::{Value, json};

use crate::api::{GROUP, VERSION};
use crate::domain::text::yaml_options;

/// The one Module of a file, with its namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// The whole object, to create it.
    pub object: Value,
}

/// Why a file is not the Module's manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("it is not valid YAML: {0}")]
    Yaml(String),
    #[error("it contains {0} documents: write only the Module")]
    Documents(usize),
    #[error("it contains {found}: write only {GROUP}/{VERSION} Module {module}")]
    OtherObject { found: String, module: String },
    #[error("its namespace is {found}, not {namespace}")]
    OtherNamespace { found: String, namespace: String },
}

impl Manifest {
    /// Reads the one Module of a file.
    ///
    /// # Errors
    /// [`ManifestError`] if it contains anything else.
    pub(crate) fn parse(text: &str, module: &str, namespace: &str) -> Result<Self, ManifestError> {
        // The reader skips empty documents.
        let documents: Vec<Value> = serde_yaml::from_multiple_with_options(text, yaml_options())
            .map_err(|e| ManifestError::Yaml(e.to_string()))?;
        let [mut object]: [Value; 1] =
            documents.try_into().map_err(|all: Vec<Value>| ManifestError::Documents(all.len()))?;
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if version != format!("{GROUP}/{VERSION}") || kind != "Module" || name != module {
            let found = format!("{version} {kind} {name}").trim().to_owned();
            return Err(ManifestError::OtherObject { found, module: module.to_owned() });
        }
        let found = text("/metadata/namespace");
        if !found.is_empty() && found != namespace {
            return Err(ManifestError::OtherNamespace { found, namespace: namespace.to_owned() });
        }
        object["metadata"]["namespace"] = json!(namespace);
        Ok(Self { object })
    }

    /// The patch that merges its `moduleConfig` into that of an existing Module.
    pub(crate) fn patch(&self) -> Value {
        let config = self.object.pointer("/spec/moduleConfig").cloned().unwrap_or_else(|| json!({}));
        json!({"spec": {"moduleConfig": config}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "apiVersion: opendepot.defdev.io/v1alpha1\nkind: Module\nmetadata: {name: net}\nspec:\n  moduleConfig:\n    provider: aws\n";

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse(text, "net", "team").map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_module_of_that_name_is_accepted() {
        let manifest = parse(MODULE).unwrap();
        assert_eq!(manifest.object["metadata"], json!({"name": "net", "namespace": "team"}));
        assert_eq!(manifest.patch(), json!({"spec": {"moduleConfig": {"provider": "aws"}}}));
        assert!(parse(&format!("---\n{MODULE}---\n")).is_ok(), "an empty document is none");
        let comments = "  # - version: 1.0.0\n".repeat(200);
        assert!(parse(&format!("{MODULE}  versions:\n{comments}  - version: 2.0.0\n")).is_ok());
        for (text, expected) in [
            (
                MODULE.replace("net", "other"),
                "contains opendepot.defdev.io/v1alpha1 Module other: write only",
            ),
            (MODULE.replace("kind: Module", "kind: Version"), "v1alpha1 Version net"),
            (MODULE.replace("{name: net}", "{name: net, namespace: b}"), "namespace is b, not team"),
            (format!("{MODULE}---\n{MODULE}"), "2 documents"),
            (String::new(), "0 documents"),
            ("a: [".to_owned(), "not valid YAML"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
