//! The project's own machinery: workflows that GitHub accepts, actions that cannot change under us, a release that fits
//! its tag, dependencies with a reason, modules for the tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use opendepot_testbed::github::real_repositories;
use opendepot_testbed::markdown::rows;
use opendepot_testbed::servers::actionlint;
use opendepot_testbed::workflow::Runner;
use serde_json::{Value, json};

use crate::support::{real_modules, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    files_of(&root().join(folder))
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Longer files hold more than one idea.
const LONGEST_FILE: usize = 300;

#[test]
fn no_production_file_is_too_long() {
    let mut folders = vec![root().join("src"), root().join("tests/testbed/src")];
    let (mut seen, mut too_long) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for path in files_of(&folder) {
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                seen += 1;
                too_long.extend((lines > LONGEST_FILE).then(|| format!("{}: {lines} lines", path.display())));
            }
        }
    }
    assert!(seen > 200, "{seen} files");
    assert!(too_long.is_empty(), "split by idea: {too_long:#?}");
}

#[test]
fn github_accepts_every_workflow() {
    let workflows: Vec<_> = [".github/workflows", "examples/workflows"].map(files).concat();
    assert!(workflows.len() >= 5, "{workflows:?}");
    let output = Command::new(actionlint().unwrap()).args(workflows).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_action_is_pinned_to_a_commit() {
    for path in [".github/workflows", ".github/actions/publish"].map(files).concat() {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let pinned = line.split_once('@').is_some_and(|(_, rest)| {
                let (commit, version) = rest.split_once(" # v").unwrap_or_default();
                commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()) && !version.is_empty()
            });
            assert!(pinned || line.starts_with("./"), "{}: {line}", path.display());
        }
    }
}

#[test]
fn a_release_is_refused_unless_tag_code_and_changelog_agree() {
    let workflow = read(".github/workflows/release.yaml");
    let check = |tag: &str, changelog: &str| {
        let runner = Runner::new().unwrap();
        std::fs::copy(root().join("Cargo.toml"), runner.workspace().join("Cargo.toml")).unwrap();
        std::fs::write(runner.workspace().join("CHANGELOG.md"), changelog).unwrap();
        runner.run(&workflow, Some("check"), &json!({"ref_name": tag})).unwrap()
    };
    let (tag, changelog) = (format!("v{VERSION}"), read("CHANGELOG.md"));
    let agreed = check(&tag, &changelog);
    assert!(agreed.success, "{}", agreed.log);
    assert!(!check("v99.0.0", &changelog).success);
    assert!(!check(VERSION, &changelog).success);
    assert!(!check(&tag, &changelog.replace(&format!("## [{VERSION}] - "), "## [99.0.0] - ")).success);
}

#[test]
fn a_release_with_a_binary_of_more_than_30_mb_is_refused() {
    let binary = tempfile::NamedTempFile::new().unwrap();
    for (bytes, is_accepted) in [(30_000_000, true), (30_000_001, false)] {
        binary.as_file().set_len(bytes).unwrap();
        let output = Command::new(root().join(".ci/binary-size")).arg(binary.path()).output().unwrap();
        assert_eq!(output.status.success(), is_accepted, "{bytes}: {output:?}");
    }
    let workflow: Value = serde_yaml::from_str(&read(".github/workflows/release.yaml")).unwrap();
    let steps = workflow["jobs"]["binaries"]["steps"].as_array().unwrap();
    let is_checked = |step: &Value| {
        let script = step["run"].as_str().unwrap_or_default();
        script.lines().any(|line| line == ".ci/binary-size target/release/opendepot")
    };
    assert!(steps.iter().any(is_checked), "{steps:#?}");
    assert!(read("hack/image").contains("|| .ci/binary-size \"$root/opendepot\"\n"));
}

#[test]
fn what_names_a_version_names_this_one() {
    let action = format!("uses: opendepot/opendepot/.github/actions/publish@v{VERSION}\n");
    assert!(read("examples/workflows/publish-with-action.yaml").contains(&action), "{action}");
    let login = format!("uses: opendepot/opendepot/.github/actions/login@v{VERSION}\n");
    assert!(read("docs/consume.md").contains(&login), "{login}");
    assert!(read("CHANGELOG.md").contains(&format!("\n[{VERSION}]: ")));
    assert!(read("docs/security.md").contains(&format!("opendepot-{VERSION}-linux-amd64.tar.gz")));
    let image = format!("registry.example.com/opendepot:{VERSION}");
    assert!(read("docs/cli.md").contains(&image), "{image}");
    assert!(read("deploy/helm/opendepot/Chart.yaml").contains(&format!("/opendepot:{VERSION}\n")));
    for overlay in ["image", "registry"] {
        let kustomization = read(&format!("deploy/overlays/{overlay}/kustomization.yaml"));
        assert!(kustomization.contains(&format!("newTag: {VERSION}\n")), "{overlay}");
    }
}

/// `binaries` builds for Linux, `laptops` for what its matrix names.
#[test]
fn the_page_of_commands_names_each_archive_that_a_release_has() {
    let workflow: Value = serde_yaml::from_str(&read(".github/workflows/release.yaml")).unwrap();
    let mut built = BTreeSet::new();
    for job in ["binaries", "laptops"] {
        for row in workflow["jobs"][job]["strategy"]["matrix"]["include"].as_array().unwrap() {
            let (system, arch) = (row["system"].as_str().unwrap_or("linux"), row["arch"].as_str().unwrap());
            built.insert(format!("opendepot-{VERSION}-{system}-{arch}.tar.gz"));
        }
    }
    let page = read("docs/cli.md");
    let named = page.split('`').filter(|text| text.starts_with("opendepot-") && text.ends_with(".tar.gz"));
    assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), built);
    assert!(page.contains(&format!("gh release download v{VERSION} ")));
    let oldest = format!("Rust {} or newer", env!("CARGO_PKG_RUST_VERSION"));
    assert!(page.contains(&oldest), "{oldest}");
}

#[test]
fn the_oldest_kubernetes_is_the_same_in_the_chart_and_in_the_pages() {
    let chart = read("deploy/helm/opendepot/Chart.yaml");
    let oldest = chart.split_once("\nkubeVersion: \">=").unwrap().1.split_once(".0-0\"\n").unwrap().0;
    // Before it, the API server refuses every write to an object that breaks a rule of the CRDs.
    assert_eq!(oldest, "1.30");
    for page in ["README.md", "docs/migration.md"] {
        assert!(read(page).contains(&format!("You need Kubernetes {oldest} or newer")), "{page}");
    }
}

/// The names in these tables of a manifest.
fn dependencies(manifest: &Path, tables: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap();
    let (mut names, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with('[') {
            inside = tables.contains(&line);
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn every_dependency_has_a_reason_and_no_other() {
    let page = root().join("docs/dependencies.md");
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names.dedup();
        names
    };
    let tables = ["[dependencies]", "[target.'cfg(not(windows))'.dependencies]"];
    let ours = sorted(dependencies(&root().join("Cargo.toml"), &tables));
    assert_eq!(sorted(rows(&page, "Of the operator").unwrap()), ours);
    let mut tests = dependencies(&root().join("Cargo.toml"), &["[dev-dependencies]"]);
    tests.extend(dependencies(&root().join("tests/testbed/Cargo.toml"), &["[dependencies]"]));
    tests.extend(dependencies(&root().join("fuzz/Cargo.toml"), &["[dependencies]"]));
    tests.retain(|name| name != "opendepot");
    tests.retain(|name| !ours.contains(name));
    assert_eq!(sorted(rows(&page, "Of the tests").unwrap()), sorted(tests));
}

#[test]
fn the_real_modules_come_with_one_command() {
    if !real_modules() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fetch = || {
        let output = Command::new(root().join(".ci/modules"))
            .arg(folder.path())
            .env(
                "OPENDEPOT_MODULES_FROM",
                format!("file://{}", real_repositories().canonicalize().unwrap().display()),
            )
            .env("HOME", folder.path())
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fetch();
    fetch();
    for repository in ["terraform-aws-eks.git", "terraform-aws-s3-bucket.git"] {
        let refs = |folder: &Path| {
            let output = Command::new("git")
                .args(["-c", "safe.directory=*", "-C"])
                .arg(folder.join("terraform-aws-modules").join(repository))
                .args(["for-each-ref", "refs/tags"])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(!refs(folder.path()).is_empty());
        assert_eq!(refs(folder.path()), refs(&real_repositories()), "{repository}");
    }
}

#[test]
fn the_pictures_in_the_documents_are_there_and_small() {
    let [readme, operations] =
        ["README.md", "docs/operations.md"].map(|page| std::fs::read_to_string(root().join(page)).unwrap());
    let text = readme + &operations.replace("](images/", "](docs/images/");
    let named: Vec<&str> = text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    for picture in std::fs::read_dir(root().join("docs/images")).unwrap() {
        let picture = picture.unwrap();
        let name = format!("docs/images/{}", picture.file_name().to_str().unwrap());
        assert!(named.contains(&name.as_str()), "no page shows {name}");
        assert!(picture.metadata().unwrap().len() < 200 << 10, "{name} is too large");
    }
    assert_eq!(named.iter().filter(|name| name.starts_with("docs/images/")).count(), 4);
}
