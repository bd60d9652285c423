//! The tables of reasons in docs/troubleshooting.md, generated from the table in the code.

use std::fmt::Write as _;

use opendepot::controller::failure::{About, Kind, Reason};

use crate::support::generated::is_generated;
use crate::support::root;

const START: &str = "<!-- Generated from src/controller/failure/reasons.rs: UPDATE_GENERATED=1 cargo test --test it reasons -->\n";
const END: &str = "<!-- End of the generated tables. -->\n";

/// The sections of the page: title, text above the table, and what its reasons are about.
const SECTIONS: [(&str, &str, &[About]); 9] = [
    ("At rest and at work", "", &[About::Work]),
    (
        "Configuration errors",
        r#"The message names the field, and some messages contain the command that corrects it:

```sh
kubectl get modules.opendepot.defdev.io terraform-aws-eks -n opendepot-system \
    -o jsonpath='{.status.conditions[?(@.type=="Ready")].message}{"\n"}'
kubectl get versions.opendepot.defdev.io terraform-aws-eks-21.12.0 -n opendepot-system -o jsonpath='{.spec}{"\n"}'
```"#,
        &[About::Spec],
    ),
    (
        "The address in the registry",
        "These are reasons of the condition `Addressable`. `ProviderMissing` is one of them too. Without a registry they have no consequence.",
        &[About::Address],
    ),
    (
        "What the operator's flags allow",
        r#"The message names the flag. To see the flags that are set, as arguments and as environment variables:

```sh
kubectl get deployment opendepot -n opendepot-system \
    -o jsonpath='{.spec.template.spec.containers[0].args}{"\n"}{.spec.template.spec.containers[0].env}{"\n"}'
```

Set them where the operator was installed: with Helm `allowStorage`, `s3Endpoints` and `githubHosts`, with Kustomize in your
[overlay](operations.md#configure)."#,
        &[About::Flags],
    ),
    (
        "GitHub and its credentials",
        r"To see which Secrets there are, with the names of their keys and without their values, and whether GitHub has the tag:

```sh
kubectl describe secrets -n opendepot-system
git ls-remote --tags https://github.com/terraform-aws-modules/terraform-aws-eks '*21.12.0'
```",
        &[About::Secret, About::Access, About::GitHub],
    ),
    (
        "The archive",
        r"To repeat what the operator does with the tag's archive, without storing it:

```sh
opendepot archive terraform-aws-modules/terraform-aws-eks v21.12.0
```",
        &[About::Content, About::Disk],
    ),
    (
        "Warnings about a stored archive",
        "Each is a Warning Event of the Version, sent when an object was stored. The Version is ready.",
        &[About::Warning],
    ),
    (
        "S3",
        r#"To see where a Version is stored, and what the operator's identity may do in its bucket:

```sh
kubectl get versions.opendepot.defdev.io terraform-aws-eks-21.12.0 -n opendepot-system -o jsonpath='{.status.storage}{"\n"}'
kubectl exec -n opendepot-system deployment/opendepot -- /opendepot check terraform-aws-eks -n opendepot-system
```"#,
        &[About::Storage],
    ),
    ("The operator", "", &[About::Operator]),
];

#[test]
fn the_tables_of_reasons_are_those_of_the_code() {
    let path = "docs/troubleshooting.md";
    let page = std::fs::read_to_string(root().join(path)).unwrap();
    let (before, rest) = page.split_once(START).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let generated = [before, START, &tables(), END, after].concat();
    is_generated(path, &generated, "reasons");
}

fn tables() -> String {
    let mut text = "\n".to_owned();
    let mut listed = 0;
    for (title, introduction, about) in SECTIONS {
        writeln!(text, "### {title}\n").unwrap();
        if !introduction.is_empty() {
            writeln!(text, "{introduction}\n").unwrap();
        }
        text.push_str("| reason | meaning | what to do | retry |\n|---|---|---|---|\n");
        for reason in Reason::ALL.iter().filter(|reason| about.contains(&reason.about())) {
            let cells = [reason.meaning(), reason.remedy(), retry(reason.kind())].join(" | ");
            writeln!(text, "| `{reason}` | {} |", cells.trim_end()).unwrap();
            listed += 1;
        }
        text.push('\n');
    }
    assert_eq!(listed, Reason::ALL.len(), "a reason is about something that no section has");
    text
}

/// The column `retry`, whose words the page explains above the tables.
fn retry(kind: Kind) -> &'static str {
    match kind {
        Kind::Done | Kind::Note => "",
        Kind::Progress | Kind::Automatic => "automatic",
        Kind::Paused | Kind::Manual => "manual",
        Kind::Tag => "automatic; hourly after 6 hours",
        Kind::Scheduled => "scheduled",
        Kind::UntilRepeated => "automatic; manual after the same bytes came twice",
        Kind::Inherited => "like the Versions",
    }
}
