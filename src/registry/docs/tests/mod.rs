//! Tests of what is read from whole archives, as they are stored.

mod hostile;
mod partial;

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::folders::read;
use super::*;
use crate::archive::{Limits, normalise};
use crate::domain::ArchiveFormat;

/// The documentation of a module with these files, stored as the operator stores it.
fn docs(files: &[(&str, &str)]) -> Docs {
    read_in(files, ArchiveFormat::Zip, Duration::from_mins(1)).unwrap()
}

fn read_in(files: &[(&str, &str)], format: ArchiveFormat, time: Duration) -> Result<Docs, NoDocs> {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("acme-module-1/{path}"), content.as_bytes()).unwrap();
    }
    let raw = folder.path().join("raw");
    std::fs::File::create(&raw).unwrap().write_all(&tar.into_inner().unwrap().finish().unwrap()).unwrap();
    let stored = normalise(&raw, format, &Limits::default(), folder.path()).unwrap();
    read(&stored.file, folder.path(), Instant::now() + time).map_err(|failed| failed.why)
}

fn input<'a>(folder: &'a Folder, name: &str) -> &'a Input {
    folder.inputs.iter().find(|input| input.name == name).unwrap_or_else(|| panic!("no input {name}"))
}

const VARIABLES: &str = r#"
variable "name" {
  description = "The name: \"quoted\", $${not} computed"
  type        = string
}

variable "tags" {
  description = <<-EOT
    Tags of all resources.

      - indented
  EOT
  type = map(object({
    value = string # a comment
    hidden = optional(bool, false)
  }))
  default   = {}
  nullable  = false
  sensitive = true
}

variable "old" {
  type    = "list"
  default = ["a", "${path.module}"]
  deprecated = "use name"
  ephemeral = true
}
variable "bare" {}
"#;

#[test]
fn inputs_are_shown_as_they_are_written() {
    for format in [ArchiveFormat::Zip, ArchiveFormat::Tar] {
        let docs = read_in(&[("variables.tf", VARIABLES)], format, Duration::from_mins(1)).unwrap();
        let root = docs.folder("").unwrap();
        assert_eq!(root.unreadable, []);
        let names: Vec<&str> = root.inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names, ["bare", "name", "old", "tags"]);
        let name = input(root, "name");
        assert_eq!(name.description.as_deref(), Some("The name: \"quoted\", ${not} computed"));
        assert!(name.is_required() && name.type_.as_deref() == Some("string"));
        let tags = input(root, "tags");
        assert_eq!(tags.description.as_deref(), Some("Tags of all resources.\n\n  - indented"));
        assert_eq!(
            tags.type_.as_deref(),
            Some("map(object({\n  value = string # a comment\n  hidden = optional(bool, false)\n}))")
        );
        assert_eq!(
            (tags.default.as_deref(), tags.nullable, tags.sensitive),
            (Some("{}"), Some(false), Some(true))
        );
        let old = input(root, "old");
        assert_eq!(old.type_.as_deref(), Some("list"));
        assert_eq!(old.default.as_deref(), Some("[\"a\", \"${path.module}\"]"));
        assert_eq!((old.deprecated.as_deref(), old.ephemeral), (Some("use name"), Some(true)));
        assert!(input(root, "bare").is_required());
    }
}

#[test]
fn outputs_requirements_resources_and_calls_are_read() {
    let docs = docs(&[
        (
            "main.tf",
            r#"
terraform {
  required_version = ">= 1.3"
  required_providers {
    aws  = { source = "hashicorp/aws", version = ">= 5.0" }
    null = "~> 3.0"
    tls = {
      source  = "hashicorp/tls"
      version = ">= 4.0"
    }
  }
}
resource "aws_eks_cluster" "this" {}
resource "random_id" "this" { provider = random.east }
data "aws_region" "current" {}
ephemeral "aws_secret" "s" {}
module "kms" {
  source  = "terraform-aws-modules/kms/aws"
  version = "2.1.0"
}
"#,
        ),
        (
            "outputs.tf",
            "output \"id\" {\n value = aws_eks_cluster.this.id\n description = \"The id\"\n sensitive = true\n}\n",
        ),
        ("README.md", "# EKS\n"),
    ]);
    let root = docs.folder("").unwrap();
    assert_eq!(root.unreadable, []);
    assert_eq!(root.readme.as_deref(), Some("# EKS\n"));
    assert_eq!(root.required_version, [">= 1.3"]);
    let providers: Vec<_> =
        root.providers.iter().map(|p| (p.name.as_str(), p.source.as_deref(), p.version.as_deref())).collect();
    assert_eq!(
        providers,
        [
            ("aws", Some("hashicorp/aws"), Some(">= 5.0")),
            ("null", None, Some("~> 3.0")),
            ("random", None, None),
            ("tls", Some("hashicorp/tls"), Some(">= 4.0")),
        ]
    );
    let resources: Vec<String> =
        root.resources.iter().map(|r| format!("{:?} {}.{}", r.mode, r.type_, r.name)).collect();
    assert_eq!(
        resources,
        [
            "Managed aws_eks_cluster.this",
            "Managed random_id.this",
            "Data aws_region.current",
            "Ephemeral aws_secret.s"
        ]
    );
    assert_eq!(root.calls[0].source.as_deref(), Some("terraform-aws-modules/kms/aws"));
    assert_eq!(
        (root.outputs[0].description.as_deref(), root.outputs[0].sensitive),
        (Some("The id"), Some(true))
    );
}

#[test]
fn the_version_of_a_provider_block_is_required_too() {
    let main = "provider \"aws\" {\n  version = \"~> 2.0\"\n}\nprovider \"aws\" {\n  alias = \"b\"\n  version = \"~> 2.0\"\n}\n";
    let versions = "terraform {\n  required_providers {\n    aws = \">= 2.7\"\n  }\n}\n";
    let json = "{\"provider\": {\"aws\": [{\"version\": \"~> 2.0\"}, {}]}}";
    for (files, expected) in [
        (&[("main.tf", main)][..], "~> 2.0"),
        (&[("main.tf.json", json)], "~> 2.0"),
        (&[("a.tf", versions), ("main.tf", main)], ">= 2.7, ~> 2.0"),
    ] {
        assert_eq!(docs(files).folders[0].providers[0].version.as_deref(), Some(expected));
    }
}

#[test]
fn a_description_keeps_the_indentation_of_its_lists() {
    for begin in ["<<EOT", "<<-EOT"] {
        let text = format!(
            "variable \"x\" {{\n  description = {begin}\n    Rules:\n      - a\n        - b\n\n    End.\nEOT\n}}\n"
        );
        let docs = docs(&[("main.tf", &text)]);
        let description = docs.folders[0].inputs[0].description.as_deref();
        assert_eq!(description, Some("Rules:\n  - a\n    - b\n\nEnd."), "{begin}");
    }
}

#[test]
fn both_syntaxes_say_the_same() {
    let json = r#"{
      "//": "a comment",
      "variable": {"a": {"type": "string", "description": "A", "sensitive": true}, "b": [{"default": {"x": 1}}]},
      "output": [{"o": {"value": "${1}", "description": "O", "ephemeral": "true"}}],
      "module": {"m": {"source": "./m"}},
      "resource": {"aws_x": {"y": {}}, "null_z": [{"w": {"provider": "aws.east"}}]},
      "data": {"aws_d": {"e": {}}},
      "terraform": [{"required_version": ">= 1", "required_providers": [
        {"aws": {"source": "h/aws", "version": "5", "configuration_aliases": ["aws.west", "aws.east"]}, "n": "1"}]}]
    }"#;
    let native = r#"
variable "a" {
  type = string
  description = "A"
  sensitive = true
}
variable "b" { default = { x = 1 } }
output "o" {
  value = 1
  description = "O"
  ephemeral = true
}
module "m" { source = "./m" }
resource "aws_x" "y" {}
resource "null_z" "w" { provider = aws.east }
data "aws_d" "e" {}
terraform {
  required_version = ">= 1"
  required_providers {
    aws = {
      source = "h/aws"
      version = "5"
      configuration_aliases = [aws.west, aws.east]
    }
    n = "1"
  }
}
"#;
    let (mut json, native) = (docs(&[("main.tf.json", json)]), docs(&[("main.tf", native)]));
    assert_eq!(json.folders[0].inputs[1].default.as_deref(), Some("{\n  \"x\": 1\n}"));
    assert_eq!(json.folders[0].providers[0].aliases, ["aws.east", "aws.west"]);
    json.folders[0].inputs[1].default.clone_from(&native.folders[0].inputs[1].default);
    assert_eq!(json, native);
}

#[test]
fn the_root_submodules_and_examples_are_read_in_this_order() {
    let main = "variable \"x\" {}";
    let docs = docs(&[
        ("zz/main.tf", main),
        ("examples/complete/main.tf", main),
        ("examples/complete/nested/main.tf", main),
        ("modules/b/main.tf", main),
        ("modules/b/README.md", "b"),
        ("modules/b/examples/e/main.tf", main),
        ("modules/b/test/main.tf", main),
        ("modules/b/tests/setup/main.tf", main),
        ("modules/tests/main.tf", main),
        ("modules/a/deep/main.tofu", main),
        ("modules/only-readme/README.md", "x"),
        ("modules/README.md", "x"),
        ("readme.MD", "root"),
        ("tests/main.tf", main),
    ]);
    let paths: Vec<&str> = docs.folders.iter().map(|folder| folder.path.as_str()).collect();
    assert_eq!(paths, ["", "modules/a/deep", "modules/b", "modules/tests", "examples/complete"]);
    assert_eq!(docs.folder("").unwrap().readme.as_deref(), Some("root"));
    assert_eq!(docs.folder("modules/b").unwrap().readme.as_deref(), Some("b"));
    assert!(docs.folder("").unwrap().inputs.is_empty() && !docs.is_cut);
}

#[test]
fn override_files_change_what_the_others_declare() {
    let docs = docs(&[
        ("a.tf", "variable \"x\" {\n type = string\n default = \"a\"\n}\noutput \"o\" { value = 1 }"),
        (
            "a_override.tf",
            "variable \"x\" { default = \"b\" }\nvariable \"new\" {}\noutput \"o\" { sensitive = true }",
        ),
        ("override.tf", "terraform {\n required_providers {\n aws = { version = \"6\" }\n }\n}"),
        (
            "versions.tf",
            "terraform {\n required_providers {\n aws = { source = \"h/aws\", version = \"5\" }\n }\n}",
        ),
    ]);
    let root = docs.folder("").unwrap();
    assert_eq!(root.inputs.len(), 1);
    assert_eq!(
        (root.inputs[0].type_.as_deref(), root.inputs[0].default.as_deref()),
        (Some("string"), Some("\"b\""))
    );
    assert_eq!(root.outputs[0].sensitive, Some(true));
    assert_eq!(root.providers[0].version.as_deref(), Some("6"));
}

#[test]
fn a_provider_block_in_an_override_file_replaces_another_block_and_no_requirement() {
    let required = "terraform {\n required_providers {\n aws = {\n source = \"h/aws\"\n version = \">= 5\"\n configuration_aliases = [aws.b]\n }\n }\n}";
    for (main, over, expected) in [
        ("", "provider \"aws\" { version = \"6\" }", ">= 5, 6"),
        ("provider \"aws\" { version = \"5\" }", "provider \"aws\" { version = \"6\" }", ">= 5, 6"),
        ("provider \"aws\" { version = \"5\" }", "provider \"aws\" { region = \"a\" }", "5, >= 5"),
    ] {
        let docs = docs(&[("main.tf", main), ("override.tf", over), ("versions.tf", required)]);
        let aws = &docs.folders[0].providers[0];
        let found = (aws.source.as_deref(), aws.version.as_deref(), aws.aliases.as_slice());
        assert_eq!(found, (Some("h/aws"), Some(expected), &["aws.b".to_owned()][..]), "{main} {over}");
    }
}

#[test]
fn files_that_neither_client_loads_are_left_out() {
    let docs = docs(&[
        ("main.tf", "variable \"a\" {}"),
        ("main.tofu", "variable \"twin\" {}"),
        ("more.tofu", "variable \"b\" {}"),
        (".hidden.tf", "variable \"c\" {}"),
        ("main.tf.bak", "variable \"d\" {}"),
        ("main.tf~", "variable \"e\" {}"),
        ("x.tftest.hcl", "variable \"f\" {}"),
    ]);
    let names: Vec<&str> = docs.folders[0].inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn what_cannot_be_read_of_a_file_costs_no_other() {
    let docs =
        docs(&[("a.tf", "variable \"a\" {}"), ("b.tf", "variable \"b\" {\n  type =\n}"), ("c.tf.json", "{")]);
    let root = docs.folder("").unwrap();
    let names: Vec<&str> = root.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let unreadable: Vec<String> =
        root.unreadable.iter().map(|file| format!("{}: {}", file.file, file.why)).collect();
    assert_eq!(
        unreadable,
        [
            "b.tf: the block in line 1 could not be read: error in line 2, column 9",
            "c.tf.json: syntax error in line 1, column 1"
        ]
    );
}

fn lines(old: &str, new: &str) -> Vec<String> {
    let comparison = compare_unpacked(&docs(&[("main.tf", old)]), &docs(&[("main.tf", new)]));
    let all = comparison.modules.into_iter().flat_map(|module| module.changes);
    all.map(|change| {
        let mark = if change.is_breaking { "!" } else { "" };
        let value = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        format!(
            "{mark}{} {} {}: {} -> {}",
            change.subject,
            change.name,
            change.what,
            value(change.before),
            value(change.after)
        )
    })
    .collect()
}

#[test]
fn what_a_caller_has_to_act_on_comes_first() {
    let old = r#"
variable "gone" { default = 1 }
variable "kept" {
  type = object({ a = string })
  default = { a = "x" }
}
variable "typed" { type = string }
variable "optional" { default = 1 }
output "gone" { value = 1 }
resource "aws_a" "gone" {}
terraform {
  required_version = ">= 1.0"
  required_providers { 
    aws = { source = "hashicorp/aws", version = ">= 5" }
  }
}
"#;
    let new = r#"
variable "kept" {
  type = object({
    a = string # same
  })
  default = { a = "y" }
}
variable "typed" { type = number }
variable "optional" {}
variable "added" { default = null }
variable "needed" {}
output "secret" {
  value = 1
  sensitive = true
}
resource "aws_a" "added" {}
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 6" }
  }
}
"#;
    assert_eq!(
        lines(old, new),
        [
            "!input gone removed: 1 -> -",
            "!input needed added: - -> -",
            "!input optional default: 1 -> -",
            "!input typed type: string -> number",
            "!output gone removed: - -> -",
            "!resource aws_a.gone removed: - -> -",
            "input added added: - -> null",
            "input kept default: { a = \"x\" } -> { a = \"y\" }",
            "output secret added: - -> -",
            "terraform  version: >= 1.0 -> >= 1.5",
            "provider aws version: >= 5 -> >= 6",
            "resource aws_a.added added: - -> -",
        ]
    );
    assert_eq!(lines(old, old), Vec::<String>::new());
}

#[test]
fn a_submodule_that_comes_or_goes_is_a_change_and_an_example_is_none() {
    let main = "variable \"x\" {}";
    let old = docs(&[
        ("main.tf", ""),
        ("modules/a/main.tf", main),
        ("modules/a/examples/e/main.tf", main),
        ("examples/e/main.tf", main),
    ]);
    let new = docs(&[("main.tf", ""), ("modules/b/main.tf", main)]);
    let found = |old: &Docs, new: &Docs| -> Vec<(String, Presence, usize)> {
        let modules = compare_unpacked(old, new).modules.into_iter();
        let breaking = |module: &ModuleChanges| module.changes.iter().filter(|c| c.is_breaking).count();
        modules.map(|module| (module.path.clone(), module.presence, breaking(&module))).collect()
    };
    let [a, b] = ["modules/a", "modules/b"].map(str::to_owned);
    assert_eq!(found(&old, &new), [(a.clone(), Presence::Removed, 1), (b.clone(), Presence::Added, 0)]);
    // The one that is gone comes first.
    assert_eq!(found(&new, &old), [(b, Presence::Removed, 1), (a, Presence::Added, 0)]);
}
