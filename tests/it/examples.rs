//! The manifests in `examples/` and the table of flags are what the product accepts and offers.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use opendepot::cli::Cli;
use serde_json::Value;

use crate::support::{World, real_modules, root, user_modules};

/// Kinds of other software, which the testbed's API server does not know.
const FOREIGN: [&str; 3] = ["argoproj.io/", "source.toolkit.fluxcd.io/", "kustomize.toolkit.fluxcd.io/"];

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // kind.rs has those for kind, of which some are no objects.
        if path.is_dir() && !path.ends_with("workflows") && !path.ends_with("kind") {
            found.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest_without_a_warning() {
    let world = World::new("examples").await;
    let manifests = manifests(&root().join("examples"));
    assert!(manifests.len() >= 10, "{manifests:?}");
    for path in manifests {
        let text = std::fs::read_to_string(&path).unwrap();
        let ours = |document: &&str| {
            let value: Value = serde_yaml::from_str(document).unwrap();
            let api = value["apiVersion"].as_str().unwrap();
            !FOREIGN.iter().any(|group| api.starts_with(group))
        };
        let text = text.split("\n---\n").filter(ours).collect::<Vec<_>>().join("\n---\n");
        let here = format!("namespace: {}", world.name);
        let mine = text.replace("namespace: opendepot-system", &here);
        assert_ne!(mine, text, "{} is for the namespace opendepot-system", path.display());
        let mine = mine.replace("namespace: argocd", &here);
        let strict = ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"];
        let applied = world.bed.kubectl_with(&strict, &mine).unwrap();
        assert!(applied.success(), "{}: {}", path.display(), applied.stderr);
        assert!(applied.stdout.contains("(server dry run)"), "{}: {}", path.display(), applied.stdout);
    }
}

#[test]
fn the_seeds_first_module_is_an_example_as_it_stands() {
    if real_modules() {
        let example = std::fs::read_to_string(root().join("examples/seed-module.yaml")).unwrap();
        assert_eq!(example.trim_end(), user_modules()[0]);
    }
}

#[test]
fn the_page_for_operations_names_every_flag_with_its_default() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let cli = Cli::command();
    let run = cli.find_subcommand("run").unwrap();
    for arg in run.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let start = format!("| `--{}", arg.get_long().unwrap());
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("the page has no row {start}"));
        for default in arg.get_default_values() {
            assert!(row.contains(&format!("`{}`", default.to_string_lossy())), "{row}: {default:?}");
        }
    }
}
