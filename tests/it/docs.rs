//! The documentation is true: its commands work, its manifests are accepted, and its links lead somewhere.

use std::path::Path;
use std::process::Command;

use opendepot_testbed::control_plane::SHORT_RUN;
use opendepot_testbed::github::File;
use opendepot_testbed::markdown::{Block, anchors, blocks, links, pages};
use opendepot_testbed::programs::program;
use serde_json::Value;

use crate::support::{World, root};

/// Commands that are not run here, by how they begin, each with the reason.
const NOT_RUN: [(&str, &str); 29] = [
    ("cargo ", "CI builds, tests and runs the quickstart by itself"),
    ("UPDATE_GENERATED=1 cargo ", "the same, and it would write into the sources"),
    ("OPENDEPOT_TEST_REPOS=", "the same, with another folder of modules"),
    (".ci/", "CI itself; fetching modules is tested in project.rs"),
    ("helm ", "the chart is rendered, accepted and upgraded in deploy.rs"),
    ("docker ", "hack/image builds the Dockerfile in CI"),
    ("gh ", "needs github.com"),
    ("curl -sS -H \"Authorization: Bearer $TOKEN\" https://old.acme.io/", "needs another registry"),
    ("hack/", "CI fuzzes, and runs the tests on older versions, by itself"),
    ("OPENDEPOT_TEST_KUBERNETES=", "the same"),
    ("cp target/dashboards/", "the pictures that hack/dashboards/run has drawn"),
    ("examples/kind/up", "needs Docker; .github/workflows/kind.yaml runs it, and kind.rs checks its files"),
    ("kind ", "the same"),
    ("FUZZ_SECONDS=", "the same, for longer"),
    ("kubectl set env deployment/opendepot ", "environment twins are tested in flags.rs"),
    ("kubectl get lease opendepot ", "the operators here have Leases of their own; leadership.rs reads them"),
    ("openssl dgst ", "both digests are recomputed by other means in user_manifests.rs"),
    ("cd module ", "the same"),
    ("kubectl logs ", "no pods run on the testbed"),
    ("kubectl exec ", "the same; check.rs runs the command"),
    ("kubectl get deployment opendepot ", "the same"),
    ("kubectl get service opendepot-registry ", "the same"),
    ("kubectl create secret tls ", "needs a certificate; registry_listener.rs has one"),
    ("git ls-remote ", "needs github.com"),
    ("opendepot check", "check.rs runs it with all servers"),
    ("opendepot archive ", "archive_command.rs runs it with a GitHub"),
    ("git archive ", "the same"),
    ("kustomize build ", "the tests have the one in kubectl"),
    ("kubectl create namespace ", "each test has one already"),
];

/// Sections whose commands are run by tests of their own: runbooks.rs, since they take the operator or a whole cluster
/// away, and kubectl.rs, which makes what the section shows.
const RUN_ELSEWHERE: [&str; 4] =
    ["Uninstall", "Back up and restore", "Move to another cluster", "When something is wrong"];

fn not_run(command: &str) -> bool {
    NOT_RUN.iter().any(|(begins, _)| command.starts_with(begins))
}

/// The blocks of a page whose commands are run here.
fn sessions(page: &Path) -> Vec<(Block, Vec<String>)> {
    let all = blocks(page).unwrap().into_iter().filter(|b| b.language == "sh");
    let here = all.filter(|b| !RUN_ELSEWHERE.contains(&b.section.as_str()));
    let run = here.map(|b| (b.clone(), b.commands().into_iter().filter(|c| !not_run(c)).collect::<Vec<_>>()));
    run.filter(|(_, commands)| !commands.is_empty()).collect()
}

/// A cluster as the pages speak of it, in a namespace of its own: the seed's Module, published, and an operator.
async fn stage(page: &str) -> (World, opendepot_testbed::operator::Operator, tempfile::TempDir) {
    let name = page.rsplit('/').next().unwrap().trim_end_matches(".md").to_lowercase();
    let world = World::new(&format!("docs-{name}")).await;
    let repository = world.bed.github.repository(&world.repository("terraform-aws-eks")).unwrap();
    let tags = ["21.10.1", "21.11.0", "21.12.0", "21.13.0", "21.18.0"];
    let releases = tags.map(|tag| (format!("v{tag}"), vec![File::new("main.tf", format!("# {tag}\n"))]));
    repository.releases(releases).unwrap();
    let operator = world.operator().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["crds", "deploy"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("examples")).unwrap();
    for entry in std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap()) {
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            let text = here(&std::fs::read_to_string(entry.path()).unwrap(), &world);
            std::fs::write(folder.path().join("examples").join(entry.file_name()), text).unwrap();
        }
    }
    let module = std::fs::read_to_string(folder.path().join("examples/seed-module.yaml")).unwrap();
    let credentials = "    githubClientConfig:\n      useAuthenticatedClient: true\n";
    world.apply(&module.replace(credentials, ""));
    world.module_ready("terraform-aws-eks").await;
    std::fs::write(folder.path().join("main.tf"), crate::consume::sources(&world).await).unwrap();
    (world, operator, folder)
}

/// A text of the documentation, for the namespace, bucket and repositories of this test.
pub(crate) fn here(text: &str, world: &World) -> String {
    let text = ["opendepot-system", "opendepot-modules", "terraform-aws-modules"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(name, &world.name));
    // Other tests have their objects in the other namespaces.
    let own = format!(" -n {}", world.name);
    let words = text
        .split(' ')
        .map(|word| if word.trim_end() == "-A" { word.replace("-A", own.trim_start()) } else { word.into() });
    words.collect::<Vec<String>>().join(" ")
}

/// Runs the commands of a page, and gives where they ran.
pub(crate) async fn run(page: &str) -> (World, opendepot_testbed::operator::Operator, tempfile::TempDir) {
    let sessions = sessions(&root().join(page));
    assert!(!sessions.is_empty(), "{page} has nothing to run: take it out of the list below");
    let (world, operator, folder) = stage(page).await;
    let app = world.bed.github.app(&[&world.repository("terraform-aws-eks")]).unwrap();
    std::fs::write(folder.path().join("app.pem"), &app.pkcs1_pem).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_opendepot")).parent().unwrap();
    let kubectl = world.bed.kubernetes.kubectl_path().parent().unwrap();
    let path = format!("{}:{}:{}", kubectl.display(), binary.display(), std::env::var("PATH").unwrap());
    for (block, commands) in sessions {
        for command in commands {
            let mine = here(&command, &world).replace("123456", &app.id.to_string());
            let mine = mine.replace("7654321", &app.installation.to_string());
            let output = Command::new(program("bash"))
                .args(["-euo", "pipefail", "-c", &mine])
                .current_dir(folder.path())
                .env("PATH", &path)
                .env("HOME", folder.path())
                .env("KUBECONFIG", world.bed.kubernetes.admin_kubeconfig())
                .envs(SHORT_RUN)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{page}:{}: {command}\n{said}", block.line);
        }
    }
    (world, operator, folder)
}

macro_rules! pages_with_commands {
    ($($test:ident: $page:literal),+ $(,)?) => {
        const RUN: &[&str] = &[$($page),+];
        $(#[tokio::test]
        async fn $test() {
            run($page).await;
        })+
    };
}

pages_with_commands! {
    the_readmes_commands_work: "README.md",
    the_commands_for_publishing_work: "docs/publishing.md",
    the_commands_for_operations_work: "docs/operations.md",
    the_commands_for_troubleshooting_work: "docs/troubleshooting.md",
    the_commands_for_the_registry_work: "docs/registry.md",
    the_commands_for_the_github_app_work: "docs/github-app.md",
    the_commands_for_users_work: "docs/cli.md",
    the_commands_for_alerts_work: "docs/alerts.md",
}

#[test]
fn no_page_has_commands_that_nothing_runs() {
    for page in pages(root()).unwrap() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let name = name.trim_start_matches("./");
        assert!(
            RUN.contains(&name)
                || crate::consume::PAGES.contains(&name)
                || name == crate::aws::PAGE
                || sessions(&page).is_empty(),
            "{name} has commands: run them"
        );
        for block in blocks(&page).unwrap() {
            let known = ["sh", "yaml", "json", "mermaid", "text"].contains(&block.language.as_str());
            assert!(known, "{name}:{}: say what language {:?} is", block.line, block.language);
            let copied = block.language != "sh" || !block.text.lines().any(|line| line.starts_with("$ "));
            assert!(copied, "{name}:{}: commands are copied: write them without a prompt", block.line);
        }
    }
}

#[test]
fn the_restart_after_a_restore_of_etcd_selects_both_deployments() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    assert!(page.contains(
        "rollout restart deployment -n opendepot-system -l app.kubernetes.io/instance=opendepot\n"
    ));
    for folder in ["deploy/base", "deploy/registry"] {
        let text = std::fs::read_to_string(root().join(folder).join("kustomization.yaml")).unwrap();
        assert!(text.contains("  app.kubernetes.io/instance: opendepot\n"), "{folder}");
    }
}

#[tokio::test]
async fn the_manifests_in_the_pages_are_accepted() {
    let world = World::new("docs-manifests").await;
    for page in pages(root()).unwrap() {
        for block in blocks(&page).unwrap().iter().filter(|b| b.language == "yaml") {
            let place = format!("{}:{}", page.display(), block.line);
            let documents = block.text.split("\n---\n").map(|text| {
                serde_yaml::from_str::<Value>(text).unwrap_or_else(|error| panic!("{place}: {error}"))
            });
            // Fragments, such as values of a chart, are read and no more; a file of the registry is tested in consume.rs.
            let of_the_cluster = |document: Value| {
                document["apiVersion"].is_string() && document["kind"] != "AuthenticationConfiguration"
            };
            if documents.into_iter().all(of_the_cluster) {
                let strict =
                    ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"];
                let applied = world.bed.kubectl_with(&strict, &here(&block.text, &world)).unwrap();
                assert!(applied.success(), "{place}: {}", applied.stderr);
            }
        }
    }
}

#[test]
fn every_link_within_the_project_leads_somewhere() {
    for page in pages(root()).unwrap() {
        for link in links(&page).unwrap().iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            let found = anchor.is_empty() || anchors(&target).unwrap().iter().any(|a| a == anchor);
            assert!(found, "{}: {link}", page.display());
        }
    }
}

#[test]
fn every_path_that_a_page_names_exists() {
    const FOLDERS: [&str; 8] =
        ["src/", "tests/", "hack/", "deploy/", "examples/", "fuzz/", ".ci/", ".github/"];
    let mut found = 0;
    for page in pages(root()).unwrap() {
        let text = std::fs::read_to_string(&page).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._/-".contains(c));
        for path in words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
            let path = path.trim_end_matches('.');
            assert!(root().join(path).exists(), "{} names {path}", page.display());
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}
