//! Files that are not read to their end, and what is compared of them.

use super::*;

/// Terraform accepts all of this; the parser refuses three of the blocks.
const REFUSED: &str = r#"variable "a" {}
locals {
  x = { for k, v in var.m : k =>
    v.v != null
    ? v.v
    : 2
  }
}
variable "twice" {
  default = {
    a = 1
    a = 2
  }
}
output "o" { value = 1 }
/* variable "commented" {
variable "out" {}
*/
resource "x_y" "z" {
  text = <<-EOT
variable "text" {}
  EOT, not the end
  EOT
}
variable "b" {}
"#;

fn whys(docs: &Docs) -> Vec<String> {
    let unreadable = docs.folders[0].unreadable.iter();
    unreadable.map(|file| format!("{}: {}", file.file, file.why)).collect()
}

fn names(docs: &Docs) -> Vec<&str> {
    docs.folders[0].inputs.iter().map(|input| input.name.as_str()).collect()
}

#[test]
fn what_is_around_a_refused_block_is_read() {
    let docs = docs(&[("main.tf", REFUSED)]);
    assert_eq!(names(&docs), ["a", "b"]);
    assert_eq!(docs.folders[0].outputs.len(), 1);
    let whys = whys(&docs);
    assert_eq!(whys.len(), 1, "{whys:?}");
    let begin = "main.tf: the block in line 9 could not be read: error in line 12, column ";
    assert!(whys[0].starts_with(begin), "{whys:?}");
    assert!(whys[0].ends_with("; 1 more block could not be read either"), "{whys:?}");
}

#[test]
fn a_refused_block_that_is_not_shown_is_not_missing() {
    let locals = "variable \"a\" {}\nlocals {\n  x = { a = 1, a = 2 }\n}\nvariable \"b\" {}\n";
    let docs = docs(&[("main.tf", locals)]);
    assert_eq!((names(&docs), whys(&docs)), (vec!["a", "b"], Vec::new()));
}

#[test]
fn names_that_terraform_refuses_are_left_out() {
    let native = r#"
variable "x\n}\nmodule \"y\" {" {}
variable "1a" {}
variable "größe" {}
"#;
    let json = r#"{"variable": {"y\n}": {}, "ok": {}}, "resource": {"a b": {"c": {}}, "_x": {"d": {}}}}"#;
    let docs = docs(&[("a.tf", native), ("b.tf.json", json)]);
    assert_eq!((names(&docs), whys(&docs)), (vec!["größe", "ok"], Vec::new()));
    assert_eq!((docs.folders[0].resources.len(), docs.folders[0].providers.len()), (1, 0));
}

#[test]
fn json_may_have_a_list_as_its_root_and_a_block_twice() {
    let twice = r#"{"variable": {"a": {}}, "variable": {"b": {"sensitive": "true", "nullable": "false"}}}"#;
    let list = r#"[{"variable": {"c": {}}}, {"variable": {"d": {}}}]"#;
    let docs = docs(&[("a.tf.json", twice), ("b.tf.json", list)]);
    assert_eq!((names(&docs), whys(&docs)), (vec!["a", "b", "c", "d"], Vec::new()));
    let b = input(&docs.folders[0], "b");
    assert_eq!((b.sensitive, b.nullable), (Some(true), Some(false)));
}

#[test]
fn flags_may_be_texts() {
    let text = "variable \"a\" {\n sensitive = \"true\"\n nullable = \"false\"\n ephemeral = 1\n}";
    let docs = docs(&[("a.tf", text)]);
    let a = input(&docs.folders[0], "a");
    assert_eq!((a.sensitive, a.nullable, a.ephemeral), (Some(true), Some(false), None));
}

#[test]
fn what_was_not_read_is_neither_added_nor_removed() {
    let broken = "variable \"y\" {\n  type =\n}\n";
    let whole = "variable \"y\" {}\nterraform {\n  required_version = \">= 1\"\n}\n";
    let partial = docs(&[("main.tf", "variable \"x\" {}"), ("y.tf", broken)]);
    let all = docs(&[("main.tf", "variable \"x\" { default = 1 }"), ("y.tf", whole)]);
    for (old, new) in [(&partial, &all), (&all, &partial)] {
        let comparison = compare(old, new);
        assert!(!comparison.is_whole() && !comparison.is_empty());
        let [module] = comparison.modules.as_slice() else { panic!("{comparison:?}") };
        let changes: Vec<_> = module.changes.iter().map(|change| (change.subject, change.what)).collect();
        assert_eq!(changes, [("input", "default")]);
        assert_eq!(module.unreadable, ["y.tf"]);
    }
    let same = compare(&partial, &partial);
    assert!(same.modules[0].changes.is_empty() && !same.is_whole() && !same.is_empty());
    let cut = compare(&all, &Docs { folders: Vec::new(), is_cut: true });
    assert_eq!((cut.modules.len(), cut.is_cut, cut.is_whole()), (0, true, false));
}

#[test]
fn configuration_aliases_ephemeral_outputs_and_calls_are_compared() {
    let text = |aliases: &str, ephemeral: bool, call: &str| {
        format!(
            "terraform {{\n required_providers {{\n  aws = {{ configuration_aliases = [{aliases}] }}\n }}\n}}\n\
             output \"o\" {{\n ephemeral = {ephemeral}\n}}\nmodule \"{call}\" {{ source = \"./m\" }}\n"
        )
    };
    assert_eq!(
        lines(&text("aws.a", false, "one"), &text("aws.a, aws.b", true, "two")),
        [
            "!output o ephemeral: false -> true",
            "!provider aws.b added: - -> -",
            "!call one removed: - -> -",
            "call two added: - -> -",
        ]
    );
}

#[test]
fn defaults_that_differ_where_they_are_cut_are_a_change() {
    let text = |end: &str| format!("variable \"x\" {{ default = \"{}{end}\" }}", "x".repeat(20 << 10));
    assert_eq!((lines(&text("a"), &text("b")).len(), lines(&text("a"), &text("a")).len()), (1, 0));
}
