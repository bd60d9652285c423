//! What tokens cost the API server, what a stranger learns, and the credentials helper.

use std::process::Command;

use futures::future::join_all;
use serde_json::Value;

use crate::support::World;
use crate::support::token_registry::Registry;

/// Reviews of a kind that were sent to the API server.
async fn reviews(registry: &Registry, kind: &str) -> u32 {
    let metrics = registry.process.metrics().await.unwrap();
    let start = format!("opendepot_registry_reviews_total{{kind=\"{kind}\"");
    let lines = metrics.lines().filter(|line| line.starts_with(&start));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum()
}

fn versions(namespace: &str, name: &str) -> String {
    format!("/v1/modules/{namespace}/{name}/aws/versions")
}

#[tokio::test]
async fn many_clients_with_one_new_token_cost_one_review_of_each_kind() {
    let world = World::new("auth-many").await;
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let path = versions(&world.name, "net");
    let answers = join_all((0..100).map(|_| registry.get(&path, Some(&token)))).await;
    // Permitted, and there is no such module.
    assert!(answers.iter().all(|answer| answer.status() == 404));
    assert_eq!((reviews(&registry, "token").await, reviews(&registry, "access").await), (1, 1));
}

#[tokio::test]
async fn random_names_cost_a_bounded_number_of_reviews_and_others_go_on() {
    let world = World::new("auth-names").await;
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let own = versions(&world.name, "net");
    assert_eq!(registry.get(&own, Some(&token)).await.status(), 404);
    let mut bodies = Vec::new();
    let mut limited = 0;
    for number in 0..150 {
        let answer = registry.get(&versions("elsewhere", &format!("n{number}")), Some(&token)).await;
        match answer.status().as_u16() {
            403 => bodies.push(answer.text().await.unwrap()),
            429 => {
                assert!(answer.headers().contains_key("retry-after"));
                limited += 1;
            }
            other => panic!("{other}"),
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(limited > 30, "{limited}");
    assert!(reviews(&registry, "access").await < 120);
    // Cached identities still have access, and so has another one.
    assert_eq!(registry.get(&own, Some(&token)).await.status(), 404);
    let other = world.consumer(&registry, "other");
    assert_eq!(registry.get(&versions(&world.name, "vpc"), Some(&other)).await.status(), 404);
}

#[tokio::test]
async fn the_credentials_helper_gives_a_token_to_the_named_host_only() {
    let world = World::new("auth-helper").await;
    let registry = world.registry().await;
    world.consumer(&registry, "ci");
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("terraform-credentials-opendepot");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_opendepot"), &link).unwrap();
    let helper = |host: &str, kubeconfig: &std::path::Path| {
        let account = format!("{}/ci", world.name);
        let output = Command::new(&link)
            .args(["--host", &registry.host, "--service-account", &account, "get", host])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .output()
            .unwrap();
        (output.status.success(), output.stdout, String::from_utf8(output.stderr).unwrap())
    };
    let kubeconfig = world.bed.kubernetes.admin_kubeconfig();
    let (success, answer, error) = helper(&registry.host, &kubeconfig);
    assert!(success, "{error}");
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let token = answer["token"].as_str().unwrap();
    assert_eq!(registry.get(&versions(&world.name, "net"), Some(token)).await.status(), 404);
    // For another host no kubeconfig is read; for this one it is missed.
    let missing = folder.path().join("none");
    assert_eq!(helper("app.terraform.io", &missing), (true, b"{}\n".to_vec(), String::new()));
    let (success, answer, error) = helper(&registry.host, &missing);
    assert!(!success && answer.is_empty() && error.contains("service account"), "{error}");
}
