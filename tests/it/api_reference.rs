//! `docs/api.md`, made of the CRDs: every field that they have, in the words that `kubectl explain` uses.

use std::fmt::Write as _;

use serde_json::Value;

use crate::support::generated::is_generated;

const HEAD: &str = "# API reference

<!-- Made of the CRDs: UPDATE_GENERATED=1 cargo test --test it api_reference -->

This page describes the kinds of `opendepot.defdev.io/v1alpha1`. Both are namespaced, and `kubectl get opendepot` lists both.
`kubectl explain modules.opendepot.defdev.io.spec --recursive` prints the same descriptions. [Concepts](concepts.md) defines the
terms, [architecture](architecture.md) explains how the fields work together, and [troubleshooting](troubleshooting.md) lists the
reasons in conditions.
";

const TAIL: &str = "
## Annotations, labels, finalizers

All begin with `opendepot.defdev.io/`.

| name | on | set by | meaning |
|---|---|---|---|
| `requestedAt` | Module, Version | you | each new value requests one full sync, like `forceSync` |
| `adopt: MODULE` | Version | you or the operator | the Module with this name may adopt the Version if it has no owner. If the operator set the annotation (the Version has the label `module`), the Module adopts the Version only if its location and repository are those that the Module wants |
| `registry-name: NAME` | Module | you | the name in the registry address, in place of `moduleConfig.name`. No object moves |
| `claim-address: ADDRESS` | Module | you | takes over an address that was refused, after the Module that had it is gone |
| `description: TEXT` | Module | you | the description on the [pages](registry.md#pages) of the registry, which its search finds |
| `confirm-removal: GENERATION` | Module | you | confirms a removal that waits because of `removal: Confirm`, at this generation of the spec |
| `module-request` | Version | the operator | the open sync request of its Module |
| labels `module`, `namespace` | Version | the operator | for `kubectl get versions.opendepot.defdev.io -l`; names that are too long for a label are truncated |
| finalizer `versions` | Module | the operator | keeps a Module that has Versions until their `deletionPolicy` equals its own |
| finalizer `stored-object` | Version | the operator | keeps the Version until its object is deleted or released |

## Objects in S3

The key is `[storageConfig.s3.key/]name/fileName`. Each object has its SHA-256 (`x-amz-checksum-sha256`) and the metadata
`opendepot-namespace`, `-version-name`, `-module`, `-version`, `-source`, `-ref`, `-commit`, `-digest`, `-sha256` and `-size`. The
first two identify the Version that the object belongs to. `-request` and `-module-request` are the sync requests that the
object fulfils. `-format` is the revision of the archive format (1 if absent). `-archive` is `zip` or `tar.gz`, and is present if
the key does not end in it.
";

/// Where fields are the same as elsewhere: what they are called here, and where they are described.
const DESCRIBED_ELSEWHERE: [(&str, &str); 1] = [("moduleConfigRef", "Its fields: Module's `moduleConfig`.")];

#[test]
fn the_reference_is_what_the_crds_say() {
    is_generated("docs/api.md", &reference(), "api_reference");
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (_, definition) in opendepot::api::definitions() {
        let definition = serde_json::to_value(&definition).unwrap();
        let names = &definition["spec"]["names"];
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let kind = names["kind"].as_str().unwrap();
        let name = |field: &str| names[field].as_str().unwrap().to_owned();
        let short = names["shortNames"][0].as_str().unwrap();
        writeln!(text, "\n## {kind}\n\n{}\n", sentence(&schema["description"])).unwrap();
        writeln!(text, "`kubectl get {}.opendepot.defdev.io` (or `{short}`) shows:\n", name("plural"))
            .unwrap();
        writeln!(text, "| column | meaning |\n|---|---|").unwrap();
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let wide = if column["priority"] == 1 { " (with `-o wide`)" } else { "" };
            let (name, meaning) = (column["name"].as_str().unwrap(), sentence(&column["description"]));
            writeln!(text, "| {name} | {meaning}{wide} |").unwrap();
        }
        for part in ["spec", "status"] {
            let properties = &schema["properties"][part];
            writeln!(text, "\n### {kind}: `{part}`\n\n{}\n", sentence(&properties["description"])).unwrap();
            writeln!(text, "| field | type | meaning |\n|---|---|---|").unwrap();
            let mut rules = Vec::new();
            fields(&mut text, "", properties, &mut rules);
            if !rules.is_empty() {
                writeln!(text, "\nThe API server refuses what breaks a rule:\n").unwrap();
                for rule in rules {
                    writeln!(text, "- {rule}").unwrap();
                }
            }
        }
    }
    text + TAIL
}

/// The rows of an object's fields, and of theirs.
fn fields(text: &mut String, prefix: &str, object: &Value, rules: &mut Vec<String>) {
    for rule in object["x-kubernetes-validations"].as_array().into_iter().flatten() {
        rules.push(escaped(rule["message"].as_str().unwrap()));
    }
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let required = object["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let elsewhere = DESCRIBED_ELSEWHERE.iter().find(|(field, _)| field == name);
        let more = elsewhere.map(|(_, where_)| format!(" {where_}")).unwrap_or_default();
        writeln!(
            text,
            "| `{path}` | {} | {}{more} |",
            kind(field, required),
            sentence(&field["description"])
        )
        .unwrap();
        // Conditions are Kubernetes' own.
        if name != "conditions" && elsewhere.is_none() {
            fields(text, &format!("{path}."), field, rules);
            fields(text, &format!("{path}[]."), &field["items"], rules);
        }
    }
}

/// The type, and what narrows it.
fn kind(field: &Value, required: bool) -> String {
    let type_ = field["type"].as_str().unwrap_or("any");
    let mut words = vec![match type_ {
        "array" => format!("list of {}s", field["items"]["type"].as_str().unwrap()),
        "object" if field["additionalProperties"].is_object() => {
            format!("map of {}s", field["additionalProperties"]["type"].as_str().unwrap())
        }
        other => other.to_owned(),
    }];
    if required {
        words.push("required".to_owned());
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(|v| format!("`{v}`")).collect();
        words.push(values.join(" or "));
    }
    match &field["default"] {
        Value::Null => {}
        Value::String(default) if default.is_empty() => words.push("default `\"\"`".to_owned()),
        Value::String(default) => words.push(format!("default `{default}`")),
        default => words.push(format!("default `{default}`")),
    }
    if let Some(least) = field["minimum"].as_f64() {
        words.push(format!("at least {least}"));
    }
    if let Some(most) = field["maxItems"].as_u64() {
        words.push(format!("at most {most}"));
    }
    words.join(", ")
}

fn sentence(text: &Value) -> String {
    escaped(&text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A cell's text. Between backticks only the bar has a meaning of its own.
fn escaped(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`").replace('|', "\\|")
}
