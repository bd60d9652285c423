//! Owner and registry of image and chart: Cargo.toml and the chart's values name them, all other files agree, and one command
//! renames them.

use std::path::Path;
use std::process::Command;

use crate::support::rendered::{helm, parse};
use crate::support::root;

fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn tracked(folder: &Path) -> Vec<String> {
    let names = run(folder, "git", &["ls-files"]);
    names.lines().filter(|name| folder.join(name).is_file()).map(str::to_owned).collect()
}

/// The owner by Cargo.toml, and the registry by the chart's values.
fn names(folder: &Path) -> (String, String) {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let between = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start).unwrap();
        rest.split_once(end).unwrap().0.to_owned()
    };
    let owner = between(&read("Cargo.toml"), "repository = \"https://github.com/", "/opendepot\"\n");
    let end = format!("/{owner}/opendepot\n");
    (owner, between(&read("deploy/helm/opendepot/values.yaml"), "  repository: ", &end))
}

/// What stands before `/opendepot` in a line, each with what stands before that.
fn owners(line: &str) -> Vec<(&str, &str)> {
    let owner = |at: usize| {
        let before = &line[..at];
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let start = before.trim_end_matches(word).len();
        (&before[..start], &before[start..])
    };
    line.match_indices("/opendepot").map(|(at, _)| owner(at)).filter(|(_, owner)| !owner.is_empty()).collect()
}

/// The lines of tracked files that name another owner or registry.
fn disagreeing(folder: &Path) -> Vec<String> {
    let (owner, registry) = names(folder);
    let of_github = ["github.com/", "githubusercontent.com/", "uses: ", "--repo "];
    let image = format!("{registry}/");
    let mut found = Vec::new();
    for name in tracked(folder).iter().filter(|name| *name != "tests/it/owner.rs") {
        let Ok(text) = std::fs::read_to_string(folder.join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let wrong = owners(line).into_iter().any(|(before, named)| {
                let ours = of_github.iter().any(|start| before.ends_with(start)) || before.ends_with(&image);
                // `uses: ./…` and names such as github.com/other/opendepot-fork are none of these.
                ours && named != owner
            });
            let deployed = name.starts_with("deploy/") && line.contains(&format!("/{owner}/opendepot"));
            let elsewhere =
                deployed && !line.contains(&image) && !of_github.iter().any(|start| line.contains(start));
            if wrong || elsewhere {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    found
}

#[test]
fn all_files_name_one_owner_and_one_registry() {
    let found = disagreeing(root());
    assert!(found.is_empty(), "hack/rename-owner renames everywhere:\n{}", found.join("\n"));
}

#[test]
fn one_command_renames_owner_and_registry() {
    let copy = tempfile::tempdir().unwrap();
    // By another process: Linux runs no script that is open for writing anywhere, as it would be in a child
    // that a test beside this one starts during the copy.
    let files = tracked(root());
    let mut args = vec!["--parents", "-t", copy.path().to_str().unwrap()];
    args.extend(files.iter().map(String::as_str));
    run(root(), "cp", &args);
    run(copy.path(), "git", &["init", "--quiet"]);
    run(copy.path(), "git", &["add", "--all"]);
    let (owner, registry) = names(copy.path());
    let present = [format!("{owner}/opendepot"), format!("{registry}/{owner}")];
    run(copy.path(), "hack/rename-owner", &["acme", "registry.acme.example"]);
    assert_eq!(names(copy.path()), ("acme".to_owned(), "registry.acme.example".to_owned()));
    for name in tracked(copy.path()) {
        let Ok(text) = std::fs::read_to_string(copy.path().join(&name)) else { continue };
        assert!(!present.iter().any(|present| text.contains(present.as_str())), "{name} has the old name");
    }
    let release = std::fs::read_to_string(copy.path().join(".github/workflows/release.yaml")).unwrap();
    assert!(!release.contains(&registry) && release.contains("  IMAGE: registry.acme.example/"), "{release}");
    assert_eq!(disagreeing(copy.path()), Vec::<String>::new());
    let chart = copy.path().join("deploy/helm/opendepot");
    let rendered = helm(
        "/dev/null".as_ref(),
        &["template", "opendepot", chart.to_str().unwrap(), "-f", "-"],
        &serde_json::json!({}),
    );
    let objects = parse(&rendered.stdout);
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let image = format!("registry.acme.example/acme/opendepot:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], image);
    // One file that was missed is found.
    let page = copy.path().join("docs/security.md");
    let text = std::fs::read_to_string(&page).unwrap().replace("--repo acme/", "--repo other/");
    std::fs::write(&page, text).unwrap();
    assert!(disagreeing(copy.path())[0].starts_with("docs/security.md:"));
}
