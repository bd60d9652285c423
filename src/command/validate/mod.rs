//! `opendepot validate`: checks manifests of Modules and Versions as the API server checks new objects, without a cluster.

mod document;
mod files;
mod limits;
mod metadata;
mod rules;
mod schema;

use std::fmt;
use std::sync::LazyLock;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use self::document::{Document, documents};
use self::files::{File, Found};
pub use self::schema::Violation;
use super::output::Output;
use crate::api::{GROUP, VERSION, definitions};
use crate::domain::text::plural;

const EXAMPLES: &str = "\
Examples:
  # Files or folders of a GitOps repository. Objects of other kinds are ignored.
  opendepot validate modules/
  # What Kustomize or Helm render.
  kustomize build overlays/prod | opendepot validate -

The schema and its rules are those of this binary's CustomResourceDefinitions; unknown fields are errors, as with kubectl's strict
validation. What only the cluster decides is not checked: quotas, webhooks, and the operator's --allow-storage and --github-host.
The exit status is 1 if a manifest is invalid.";

/// Arguments of `opendepot validate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Files with YAML or JSON manifests, one or several in each; - is standard input. In a folder and its subfolders, all .yaml,
    /// .yml and .json files are checked, except hidden ones.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,

    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// The schemas of new objects by their kinds. They are made from the types once, which takes longer than a check.
static SCHEMAS: LazyLock<[(String, Value); 2]> = LazyLock::new(|| {
    definitions().map(|(_, definition)| {
        let versions = serde_json::to_value(definition.spec.versions).unwrap_or_default();
        let mut schema = versions[0]["schema"]["openAPIV3Schema"].clone();
        // The API server accepts both, and drops the status of a new object.
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        schema["properties"]["status"] = json!({"x-kubernetes-preserve-unknown-fields": true});
        schema["properties"]["metadata"] = metadata::schema();
        (definition.spec.names.kind, schema)
    })
});

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
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
    for argument in &arguments.files {
        let before = report.found();
        for found in files::read(argument) {
            match found {
                Found::File(file) => report.add(&file),
                Found::Other => report.ignored += 1,
                Found::Unreadable { name, error } => report.unreadable(&name, None, error),
            }
        }
        if report.found() == before {
            report.unreadable(argument, None, "this contains no object: check the command that writes it");
        }
    }
    report
}

impl Report {
    fn found(&self) -> usize {
        self.checked + self.ignored + self.problems.len()
    }

    fn unreadable(&mut self, file: &str, line: Option<u64>, message: impl Into<String>) {
        let (file, object, violation) = (file.to_owned(), String::new(), Violation::new("", message));
        self.problems.push(Problem { file, line, document: 0, object, violation });
    }

    fn add(&mut self, file: &File) {
        // A folder may contain files that are no manifests.
        let is_other = !file.is_named && !file.text.contains(GROUP);
        let documents = match documents(&file.text) {
            Ok(documents) => documents,
            Err(_) if is_other => return self.ignored += 1,
            Err(error) => return self.unreadable(&file.name, error.line, error.to_string()),
        };
        for (index, document) in documents.iter().enumerate() {
            self.check(&file.name, is_other, index + 1, document);
        }
    }

    /// Checks a document: an object, or what `kubectl get -o yaml` prints for several.
    fn check(&mut self, file: &str, is_other: bool, number: usize, document: &Document) {
        let value = &document.value;
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        let items = value["items"].as_array().filter(|_| is_list);
        for (index, object) in items.map_or(std::slice::from_ref(value), Vec::as_slice).iter().enumerate() {
            let nested = items.is_some() && object["items"].is_array();
            let violations = if nested {
                Some(vec![Violation::new("kind", "kubectl rejects a list in a list")])
            } else if !object.is_object() && !is_other {
                let message = "this is not a Kubernetes object: write apiVersion and kind";
                Some(vec![Violation::new("", message)])
            } else {
                violations(object)
            };
            let Some(violations) = violations else {
                self.ignored += usize::from(object.is_object());
                continue;
            };
            self.checked += usize::from(object.is_object() && !nested);
            let prefix = if items.is_some() { format!("items[{index}]") } else { String::new() };
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
            let object = format!("{} {}", text("/kind"), text("/metadata/name"));
            for violation in violations {
                let separator = if prefix.is_empty() || violation.path.is_empty() { "" } else { "." };
                let line = document.line(&format!("{prefix}{separator}{}", violation.path));
                let (file, object) = (file.to_owned(), object.clone());
                self.problems.push(Problem { file, line, document: number, object, violation });
            }
        }
    }
}

/// The violations of an object; `None` if it is of another API group.
fn violations(object: &Value) -> Option<Vec<Violation>> {
    let violation = |path: &str, message: String| Some(vec![Violation::new(path, message)]);
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let expected = format!("{GROUP}/{VERSION}");
    if api_version != expected {
        let is_ours = api_version.split_once('/').is_some_and(|(group, _)| group == GROUP);
        let problem = if object["apiVersion"].is_null() { "Required value" } else { "Invalid value" };
        let found = violation("apiVersion", format!("{problem}: write {expected}"));
        return found.filter(|_| is_ours || is_meant(object, api_version));
    }
    let Some((_, schema)) = SCHEMAS.iter().find(|(of, _)| of == kind) else {
        return violation("kind", format!("Invalid value: {kind:?}: write Module or Version"));
    };
    let mut found = schema::check(schema, object);
    found.extend(metadata::check(&object["metadata"]));
    Some(found)
}

/// Whether an object of another API group, or of none, is meant to be a Module or Version. Other software has kinds of these
/// names.
fn is_meant(object: &Value, api_version: &str) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    let is_kind = ["Module", "Version", "ModuleList", "VersionList"].contains(&kind);
    let has_config =
        ["/spec/moduleConfig", "/spec/moduleConfigRef"].iter().any(|at| object.pointer(at).is_some());
    match api_version.split_once('/') {
        None => is_kind || has_config,
        Some((group, _)) => has_config || (is_kind && group.contains("opendepot")),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { file, line, document, object, violation: Violation { path, message } } in &self.problems
        {
            let line = line.map(|line| format!("{line}:")).unwrap_or_default();
            let place =
                if *document == 0 { String::new() } else { format!(" document {document}, {object}:") };
            let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
            writeln!(f, "{file}:{line}{place}{path} {message}")?;
        }
        let Self { checked, ignored, problems } = self;
        let problems = plural(problems.len(), "problem");
        write!(f, "{checked} checked, {ignored} of other kinds ignored, {problems}")
    }
}
