//! `opendepot validate`: checks manifests of Modules and Versions as the API server checks new objects, without a cluster.

mod patterns;
mod rules;
mod schema;

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::schema::Violation;
use super::output::Output;
use crate::api::{GROUP, VERSION, definitions};
use crate::domain::names::is_dns_subdomain;

const EXAMPLES: &str = "\
Examples:
  # Files of a GitOps repository. Objects of other kinds are ignored.
  opendepot validate modules/*.yaml
  # What Kustomize or Helm render.
  kustomize build overlays/prod | opendepot validate -

The schema and its rules are those of this binary's CustomResourceDefinitions; unknown fields are errors, as with kubectl's strict
validation. What only the cluster decides is not checked: quotas, webhooks, and the operator's --allow-storage and --github-host.
The exit status is 1 if a manifest is invalid.";

/// Arguments of `opendepot validate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Files with YAML or JSON manifests, also several in one file; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,

    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Modules and Versions that were checked.
    pub checked: usize,
    /// Documents of other kinds.
    pub ignored: usize,
    pub problems: Vec<Problem>,
}

/// One problem of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// Counted from 1; 0 if the file cannot be read.
    pub document: usize,
    /// Kind and name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    #[serde(flatten)]
    pub violation: Violation,
}

/// Checks all files.
pub fn run(arguments: &Arguments) -> Report {
    let mut report = Report::default();
    for file in &arguments.files {
        let text = if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(Path::new(file))
        };
        match text {
            Ok(text) => report.add(file, &text),
            Err(error) => report.unreadable(file, error.to_string()),
        }
    }
    report
}

impl Report {
    fn unreadable(&mut self, file: &str, message: String) {
        let violation = Violation { path: String::new(), message };
        self.problems.push(Problem { file: file.to_owned(), document: 0, object: String::new(), violation });
    }

    fn add(&mut self, file: &str, text: &str) {
        let documents: Vec<Value> = match serde_yaml::from_multiple(text) {
            Ok(documents) => documents,
            Err(error) => return self.unreadable(file, format!("not valid YAML: {error}")),
        };
        for (index, document) in documents.iter().enumerate() {
            // What `kubectl get -o yaml` prints for several objects.
            let items = document["items"].as_array().filter(|_| document["kind"] == "List");
            for object in items.map_or(std::slice::from_ref(document), Vec::as_slice) {
                let Some(violations) = violations(object) else {
                    self.ignored += usize::from(!object.is_null());
                    continue;
                };
                self.checked += 1;
                let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
                let name = format!("{} {}", text("/kind"), text("/metadata/name"));
                let problem = |violation| Problem {
                    file: file.to_owned(),
                    document: index + 1,
                    object: name.clone(),
                    violation,
                };
                self.problems.extend(violations.into_iter().map(problem));
            }
        }
    }
}

/// The violations of an object; `None` if it is of another API group.
fn violations(object: &Value) -> Option<Vec<Violation>> {
    let (group, version) = object["apiVersion"].as_str()?.split_once('/')?;
    if group != GROUP {
        return None;
    }
    let violation = |path: &str, message: String| vec![Violation { path: path.to_owned(), message }];
    if version != VERSION {
        return Some(violation("apiVersion", format!("Invalid value: write {GROUP}/{VERSION}")));
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let definitions = definitions();
    let Some((_, definition)) = definitions.iter().find(|(_, definition)| definition.spec.names.kind == kind)
    else {
        return Some(violation("kind", format!("Invalid value: {kind:?}: write Module or Version")));
    };
    let mut schemas = definition.spec.versions.iter().filter_map(|version| version.schema.as_ref());
    let mut schema = schemas.find_map(|s| serde_json::to_value(&s.open_api_v3_schema).ok())?;
    // Both are known to the API server, and a status is dropped when an object is created.
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["status"] = json!({"x-kubernetes-preserve-unknown-fields": true});
    schema["properties"]["metadata"] = metadata();
    let mut found = schema::check(&schema, object, "");
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    let generated = object.pointer("/metadata/generateName").is_some();
    match name {
        None if !generated => found.extend(violation("metadata.name", "Required value".to_owned())),
        Some(name) if !is_dns_subdomain(name, 253) => found.extend(violation(
            "metadata.name",
            format!("Invalid value: {name:?}: write lower-case letters, digits, '-' and '.', such as terraform-aws-eks"),
        )),
        _ => {}
    }
    Some(found)
}

/// The schema of `metadata`, as far as manifests contain it.
fn metadata() -> Value {
    let texts = json!({"type": "object", "nullable": true, "additionalProperties": {"type": "string"}});
    let any = json!({"x-kubernetes-preserve-unknown-fields": true, "nullable": true});
    let text = json!({"type": "string", "nullable": true});
    json!({"type": "object", "properties": {
        "name": text, "generateName": text, "namespace": text, "labels": texts, "annotations": texts,
        "finalizers": any, "ownerReferences": any, "uid": any, "resourceVersion": any, "generation": any,
        "creationTimestamp": any, "deletionTimestamp": any, "deletionGracePeriodSeconds": any,
        "managedFields": any, "selfLink": any,
    }})
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { file, document, object, violation: Violation { path, message } } in &self.problems {
            let place =
                if *document == 0 { String::new() } else { format!(" document {document}, {object}:") };
            let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
            writeln!(f, "{file}:{place}{path} {message}")?;
        }
        let Self { checked, ignored, problems } = self;
        write!(f, "{checked} checked, {ignored} of other kinds ignored, {} problems", problems.len())
    }
}
