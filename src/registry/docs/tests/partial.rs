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
fn a_refused_block_is_listed_as_what_is_around_it() {
    let docs = docs(&[("main.tf", REFUSED)]);
    assert_eq!(names(&docs), ["a", "b", "twice"]);
    assert_eq!(input(&docs.folders[0], "twice").default.as_deref(), Some("{\n  a = 1\n  a = 2\n}"));
    assert_eq!((docs.folders[0].outputs.len(), docs.folders[0].resources.len()), (1, 1));
    let whys = whys(&docs);
    assert_eq!(whys.len(), 1, "{whys:?}");
    let begin = "main.tf: the block in line 9 could not be read: error in line 12, column ";
    assert!(whys[0].starts_with(begin), "{whys:?}");
    assert!(whys[0].ends_with("; 1 more block could not be read either"), "{whys:?}");
}

/// Values that Terraform accepts and the parser refuses.
fn refused_values() -> Vec<String> {
    let texts = [
        "{ n = 1, n = 2 }",
        "{ for k, v in var.m : k =>\n    v != null\n    ? v\n    : 2\n  }",
        "[for x in a\n    ? b : c : x]",
        "\"%{ if a\n    && b }x%{ endif }\"",
        "<<-E\n    ${a}\n    E, not the end\n    }\n  E",
        "1e400",
    ];
    let deep = format!("{}1{}", "[".repeat(70), "]".repeat(70));
    let long = format!("{}1", "1 + ".repeat(200));
    texts.into_iter().map(str::to_owned).chain([deep, long]).collect()
}

/// A file with `VALUE` in each kind of block.
const WITH_VALUE: &str = r#"variable "i" {
  description = "I"
  default = VALUE
  type = any # }
  sensitive = true
}
output "o" {
  value = VALUE
  description = <<E
}
E
  sensitive = true
}
module "m" {
  x = VALUE
  source = "./m"
}
resource "a_b" "c" {
  d {
    e = VALUE
  }
  provider = x.y
}
terraform {
  required_providers {
    p = VALUE
    q = { source = "h/q" }
  }
}
"#;

#[test]
fn a_refused_value_costs_nothing_else() {
    for value in refused_values() {
        let text = WITH_VALUE.replace("VALUE", &value);
        // Blocks that do not begin in the first column are one piece.
        let indented = format!("  {}", text.replace('\n', "\n  "));
        for text in [&text, &indented] {
            let docs = docs(&[("main.tf", text)]);
            let folder = &docs.folders[0];
            assert_eq!((names(&docs), whys(&docs).len()), (vec!["i"], 1), "{text}");
            let i = &folder.inputs[0];
            assert_eq!((i.description.as_deref(), i.type_.as_deref()), (Some("I"), Some("any")), "{text}");
            assert_eq!((i.sensitive, i.is_required()), (Some(true), false), "{text}");
            let o = &folder.outputs[0];
            assert_eq!((o.description.as_deref(), o.sensitive), (Some("}"), Some(true)), "{text}");
            assert_eq!(folder.calls[0].source.as_deref(), Some("./m"), "{text}");
            let providers: Vec<_> =
                folder.providers.iter().map(|p| (p.name.as_str(), p.source.as_deref())).collect();
            assert_eq!(providers, [("p", None), ("q", Some("h/q")), ("x", None)], "{text}");
            assert_eq!((folder.resources.len(), folder.providers[0].version.as_ref()), (1, None), "{text}");
        }
    }
}

#[test]
fn a_refused_value_in_one_line_is_shown_as_it_is_written() {
    let docs =
        docs(&[("main.tf", "  variable \"x\" { default = { a = \"}\", a = 2 } } # }\n  output \"o\" {}\n")]);
    assert_eq!(input(&docs.folders[0], "x").default.as_deref(), Some("{ a = \"}\", a = 2 }"));
    assert_eq!((docs.folders[0].outputs.len(), whys(&docs).len()), (1, 1));
}

#[test]
fn values_that_the_parser_refuses_are_compared_as_they_are_written() {
    let text = |value: &str| format!("variable \"x\" {{\n  default = {{ n = 1, n = {value} }}\n}}");
    assert_eq!(lines(&text("2"), &text("2")), Vec::<String>::new());
    assert_eq!(lines(&text("2"), &text("3")), ["input x default: { n = 1, n = 2 } -> { n = 1, n = 3 }"]);
}

#[test]
fn a_refused_block_that_is_not_shown_is_not_missing() {
    let locals = "variable \"a\" {}\nlocals {\n  x = { a = 1, a = 2 }\n}\nvariable \"b\" {}\n";
    let docs = docs(&[("main.tf", locals)]);
    assert_eq!((names(&docs), whys(&docs)), (vec!["a", "b"], Vec::new()));
}

#[test]
fn a_panic_of_a_parser_costs_one_file() {
    assert_eq!(folders::contained(|| None), None);
    let why = folders::contained(|| panic!("a defect")).unwrap();
    assert!(why.contains("report this"), "{why}");
}

#[test]
fn wide_blanks_are_no_indentation() {
    let heredoc =
        "variable \"x\" {\n  default = <<-EOT\n    #!/bin/bash\n\u{3000}\u{3000}# 日本語\n  EOT\n}\n";
    let object =
        "variable \"y\" {\n  type = object({\n  \u{a0} a = string,\n\u{a0} \u{a0}b = string\n  })\n}\n";
    let docs = docs(&[("a.tf", heredoc), ("b.tf", object), ("c.tf", "variable \"z\" {}")]);
    assert_eq!(names(&docs), ["x", "y", "z"]);
    let default = input(&docs.folders[0], "x").default.as_deref().unwrap();
    assert!(default.contains("\n\u{3000}\u{3000}# 日本語"), "{default}");
    let type_ = input(&docs.folders[0], "y").type_.as_deref().unwrap();
    assert!(type_.contains("\u{a0} \u{a0}b = string"), "{type_}");
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
fn flags_may_be_texts_or_constant_expressions() {
    let text = "variable \"a\" {\n sensitive = \"true\"\n nullable = \"false\"\n ephemeral = 1\n}";
    let constant = "variable \"b\" {\n sensitive = (true)\n nullable = !(\"true\")\n ephemeral = -1\n}";
    let docs = docs(&[("a.tf", text), ("b.tf", constant)]);
    let a = input(&docs.folders[0], "a");
    assert_eq!((a.sensitive, a.nullable, a.ephemeral), (Some(true), Some(false), None));
    let b = input(&docs.folders[0], "b");
    assert_eq!((b.sensitive, b.nullable, b.ephemeral), (Some(true), Some(false), None));
}

#[test]
fn what_was_not_read_is_neither_added_nor_removed() {
    let broken = "variable \"y\"\n{\n}\n";
    let whole = "variable \"y\" {}\nterraform {\n  required_version = \">= 1\"\n}\n";
    let partial = docs(&[("main.tf", "variable \"x\" {}"), ("y.tf", broken)]);
    let all = docs(&[("main.tf", "variable \"x\" { default = 1 }"), ("y.tf", whole)]);
    for (old, new) in [(&partial, &all), (&all, &partial)] {
        let comparison = compare_unpacked(old, new);
        assert!(!comparison.is_whole() && !comparison.is_empty());
        let [module] = comparison.modules.as_slice() else { panic!("{comparison:?}") };
        let changes: Vec<_> = module.changes.iter().map(|change| (change.subject, change.what)).collect();
        assert_eq!(changes, [("input", "default")]);
        assert_eq!(module.unreadable, ["y.tf"]);
    }
    let same = compare_unpacked(&partial, &partial);
    assert!(same.modules[0].changes.is_empty() && !same.is_whole() && !same.is_empty());
    let cut = compare_unpacked(&all, &Docs { folders: Vec::new(), is_cut: true });
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
fn the_default_configuration_of_a_provider_can_have_to_be_passed() {
    let text = |aliases: &str| {
        let list = format!("configuration_aliases = [{aliases}]");
        format!("terraform {{\n required_providers {{\n  aws = {{ version = \"5\", {list} }}\n }}\n}}\n")
    };
    let (inherited, passed) = (text("aws.a"), text("aws, aws.a"));
    let json = "{\"terraform\": {\"required_providers\": {\"aws\": {\"configuration_aliases\": [\"aws.a\", \"aws\"]}}}}";
    for files in [("main.tf", passed.as_str()), ("main.tf.json", json)] {
        assert_eq!(docs(&[files]).folders[0].providers[0].aliases, ["aws", "aws.a"]);
    }
    assert_eq!(
        lines(&inherited, &passed),
        ["!provider aws configuration: inherited -> passed by the caller"]
    );
    assert_eq!(lines(&passed, &inherited), ["provider aws configuration: passed by the caller -> inherited"]);
    assert_eq!(lines("", &passed), ["!provider aws added: - -> 5", "!provider aws.a added: - -> -"]);
    // The old file with the list is not read: whether the default configuration was passed is not known.
    let unread =
        docs(&[("main.tf", "resource \"aws_a\" \"b\" {}"), ("versions.tf", "terraform {\n  x =\n}\n")]);
    let read = docs(&[("main.tf", "resource \"aws_a\" \"b\" {}"), ("versions.tf", &passed)]);
    let comparison = compare_unpacked(&unread, &read);
    assert_eq!(comparison.modules[0].changes, []);
}

#[test]
fn an_optional_attribute_of_an_object_needs_no_attention() {
    let text = |type_: &str| format!("variable \"x\" {{\n  type = {type_}\n}}\n");
    let (old, new) = ("object({ a = string })", "object({ a = string, b = optional(bool) })");
    assert_eq!(lines(&text(old), &text(new)), [format!("input x type: {old} -> {new}")]);
    assert_eq!(lines(&text(new), &text(old)), [format!("!input x type: {new} -> {old}")]);
}

#[test]
fn defaults_that_differ_where_they_are_cut_are_a_change() {
    let text = |end: &str| format!("variable \"x\" {{ default = \"{}{end}\" }}", "x".repeat(20 << 10));
    assert_eq!((lines(&text("a"), &text("b")).len(), lines(&text("a"), &text("a")).len()), (1, 0));
}
