//! The documentation as a site: each page is in the book once, and every link of the built site leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use opendepot::cli::Cli;
use opendepot_testbed::markdown::{anchors, links};

use crate::support::generated::is_generated;
use crate::support::root;

/// Where links to files without a page lead.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

/// Pages that mdBook makes by itself, with links relative to the site and not to the page.
const OF_THE_TOOL: [&str; 2] = ["404.html", "toc.html"];

/// The values of these attributes in a page, unescaped.
fn values<'a>(html: &'a str, attributes: &[&str]) -> Vec<&'a str> {
    let starts =
        attributes.iter().flat_map(|name| html.split(&format!(" {name}=\"")).skip(1).collect::<Vec<_>>());
    starts.filter_map(|rest| rest.split('"').next()).collect()
}

/// Whether a file has this extension.
fn is(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

#[test]
fn each_page_is_in_the_book_once() {
    let listed = links(&root().join("docs/SUMMARY.md")).unwrap();
    let once: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "{listed:?}");
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = is(&name, "md");
        assert!(!page || name == "SUMMARY.md" || listed.contains(&name), "docs/SUMMARY.md lacks {name}");
    }
}

#[test]
fn every_link_of_the_site_leads_somewhere() {
    let site = tempfile::tempdir().unwrap();
    let output = Command::new(root().join("hack/site")).arg(site.path()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(site.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if is(&name, "html") && !OF_THE_TOOL.contains(&name.as_str()) {
            pages.insert(name.clone(), std::fs::read_to_string(site.path().join(name)).unwrap());
        }
    }
    let (mut within, mut outside) = (0, 0);
    for (name, html) in &pages {
        for link in values(html, &["href", "src"]) {
            if let Some(file) = link.strip_prefix(REPOSITORY) {
                let (file, anchor) = file.split_once('#').unwrap_or((file, ""));
                let file = root().join(file);
                assert!(file.exists(), "{name}: {link}");
                assert!(
                    anchor.is_empty() || anchors(&file).unwrap().iter().any(|a| a == anchor),
                    "{name}: {link}"
                );
                outside += 1;
            } else if !link.contains(':') {
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let file = if file.is_empty() { name } else { file.trim_start_matches("./") };
                assert!(site.path().join(file).exists(), "{name}: {link}");
                // Line numbers of scripts and the like have no anchors.
                if let Some(target) = pages.get(file).filter(|_| !anchor.is_empty()) {
                    assert!(values(target, &["id"]).contains(&anchor), "{name}: {link}");
                }
                within += 1;
            }
        }
    }
    assert!(within > 500 && outside > 30, "{within} {outside}");
}

const FLAGS: &str = "# Flags

<!-- Generated from the command line: UPDATE_GENERATED=1 cargo test --test it site -->

Each flag has an environment variable, in capitals: `--verify-interval` is `OPENDEPOT_VERIFY_INTERVAL`. Lists are separated by
commas. A flag overrides its variable. [Operations](operations.md#configure) and [registry](registry.md#set-up) show how to set them.
";

/// The flags of the two servers, in the words of `--help`.
fn flags() -> String {
    let mut page = FLAGS.to_owned();
    let cli = Cli::command();
    for name in ["run", "serve"] {
        let command = cli.find_subcommand(name).unwrap();
        write!(page, "\n## `opendepot {name}`\n\n{}\n\n", command.get_about().unwrap()).unwrap();
        page += "| flag | default | meaning |\n|---|---|---|\n";
        for arg in command.get_arguments().filter(|arg| arg.get_env().is_some()) {
            let flag = arg.get_long().unwrap();
            let variable = format!("OPENDEPOT_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().unwrap(), variable.as_str());
            let defaults = arg.get_default_values().iter().map(|value| format!("`{}`", value.display()));
            let defaults = defaults.collect::<Vec<_>>().join(", ");
            let takes = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
            let takes: String = takes.iter().map(|value| format!(" {}", value.replace('|', "\\|"))).collect();
            let help = arg.get_help().unwrap().to_string().replace('\n', " ").replace('|', "\\|");
            writeln!(page, "| `--{flag}{takes}` | {defaults} | {help} |").unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_flags_is_what_the_help_says() {
    is_generated("docs/flags.md", &flags(), "site");
}

#[test]
fn the_page_of_versions_names_what_the_tests_use() {
    let page = std::fs::read_to_string(root().join("docs/supported.md")).unwrap();
    for (module, package, row) in [
        ("servers", "k8s.io/kubernetes", "| kubectl, with its Kustomize | # |"),
        ("servers", "github.com/versity/versitygw", "| versitygw | #, the real gateway |"),
        ("tofu", "github.com/opentofu/opentofu", "| OpenTofu | # |"),
        ("tools", "helm.sh/helm/v4", "| Helm | # |"),
    ] {
        let pinned = std::fs::read_to_string(root().join(format!("hack/{module}/go.mod"))).unwrap();
        let version =
            pinned.lines().find_map(|line| line.trim().strip_prefix(&format!("{package} v"))).unwrap();
        let row = row.replace('#', version.split(' ').next().unwrap());
        assert!(page.contains(&row), "docs/supported.md lacks {row}");
    }
}
