//! The versions of Kubernetes that the tests run on, and the tests that run on the older ones.

use std::process::Command;

use opendepot_testbed::kubernetes::{Kubernetes, chosen, known};

use crate::support::{root, testbed};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[tokio::test]
async fn the_servers_are_of_the_older_version_that_is_chosen() {
    let chosen = chosen().unwrap();
    if chosen == known().unwrap()[0] {
        // Elsewhere than in CI, servers that the user or envtest has may be of another patch.
        return;
    }
    let kubernetes = &testbed().await.kubernetes;
    let versions = kubernetes.kubectl(&["version", "-o", "json"]).unwrap().ok().unwrap();
    let versions: serde_json::Value = serde_json::from_str(&versions).unwrap();
    let expected = format!("v{}", chosen.version);
    for program in ["clientVersion", "serverVersion"] {
        assert_eq!(versions[program]["gitVersion"], *expected, "{program}");
    }
}

#[test]
fn the_script_for_older_versions_names_tests_that_exist() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let all = String::from_utf8(output.stdout).unwrap();
    let all: Vec<&str> = all.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let script = read("hack/older-kubernetes");
    let core = script.split_once("\ncore=(\n").unwrap().1.split_once("\n)\n").unwrap().0;
    let filters: Vec<&str> = core.lines().map(str::trim).collect();
    assert!(filters.contains(&"kubernetes_versions::"), "{filters:?}");
    for filter in filters {
        assert!(filter.contains("::"), "{filter}: write the module too");
        assert!(all.iter().any(|test| test.contains(filter)), "no test is called {filter}");
    }
}

#[test]
fn the_oldest_version_of_the_chart_is_tested_and_each_tested_one_is_in_the_page() {
    let (known, page) = (known().unwrap(), read("docs/supported.md"));
    let minors: Vec<&str> = known.iter().map(Kubernetes::minor).collect();
    let chart = read("deploy/helm/opendepot/Chart.yaml");
    let oldest = minors.last().unwrap();
    assert!(chart.contains(&format!("\nkubeVersion: \">={oldest}.0-0\"\n")), "hack/ has {minors:?}");
    for version in &known {
        let what = if version == &known[0] { "tested: " } else { "the core of the tests: " };
        let row = format!("| {} | {what}", version.version);
        assert!(page.contains(&row), "docs/supported.md lacks {row}");
    }
}
