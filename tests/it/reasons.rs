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
    ("Configuration errors", "", &[About::Spec]),
    (
        "The address in the registry",
        "These are reasons of the condition `Addressable`. `ProviderMissing` is one of them too. Without a registry they have no consequence.",
        &[About::Address],
    ),
    ("What the operator's flags allow", "", &[About::Flags]),
    ("GitHub and its credentials", "", &[About::Secret, About::Access, About::GitHub]),
    ("The archive", "", &[About::Content, About::Disk]),
    (
        "Warnings about a stored archive",
        "Each is a Warning Event of the Version, sent when an object was stored. The Version is ready.",
        &[About::Warning],
    ),
    ("S3", "", &[About::Storage]),
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
