//! Terraform and OpenTofu install modules from the registry by address and constraint.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use opendepot_testbed::github::{File, Repository, real_repositories};
use opendepot_testbed::s3::{S3Failure, S3Fault};
use serde_json::json;

use crate::support::archives::{Tree, folder_tree, git_tree};
use crate::support::command::opendepot;
use crate::support::token_registry::{Registry, installed};
use crate::support::{World, real_modules, soon};

const MAIN: &str = "resource \"terraform_data\" \"greeting\" {\n  input = \"hello\"\n}\n";

/// Releases of a small module with a folder `modules/part`.
fn release(repository: &Repository, versions: &[&str]) {
    for version in versions {
        let part = format!("output \"version\" {{\n  value = \"{version}\"\n}}\n");
        let files = [File::new("main.tf", MAIN), File::new("modules/part/main.tf", part)];
        repository.release(&format!("v{version}"), &files).unwrap();
    }
}

/// A published module, its address, a registry and a token for it.
async fn published(
    world: &World,
    repository: &Repository,
    versions: &[&str],
    format: &str,
) -> (Registry, String, String) {
    release(repository, versions);
    world.apply(&world.module("net").config("fileFormat", json!(format)).versions(versions));
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let address = world.address("net").await;
    world.module_ready("net").await;
    registry.lists(&address, &token, versions.len()).await;
    (registry, token, address)
}

fn init(client: &opendepot_testbed::terraform::Terraform) -> String {
    client.run(&["init", "-no-color", "-input=false", "-upgrade"]).unwrap()
}

#[tokio::test]
async fn both_clients_install_the_newest_that_meets_a_constraint() {
    for format in ["zip", "tar"] {
        let world = World::new(&format!("install-{format}")).await;
        let _operator = world.operator().await;
        let versions = ["1.9.0", "1.10.0", "2.0.0-rc.1"];
        let repository = world.bed.github.repository(&world.repository("net")).unwrap();
        let (registry, token, address) = published(&world, &repository, &versions, format).await;
        assert_eq!(address, format!("{}/net/aws", world.name));
        for client in registry.clients(&token) {
            let root = registry.module("net", &address, "~> 1.9");
            let part = registry.module("part", &format!("{address}//modules/part"), "~> 1.9");
            // What `opendepot source` prints can be used as it is.
            let printed = opendepot(&world.bed.kubernetes.admin_kubeconfig())
                .run(&["source", "net", "-n", &world.name, "--registry", &registry.host])
                .ok()
                .replace("module \"net\"", "module \"printed\"");
            client.configure(&(root + &part + &printed)).unwrap();
            init(&client);
            assert_eq!(installed(&client, "net"), "1.10.0", "{}", client.name());
            assert_eq!(installed(&client, "printed"), "1.10.0", "{printed}");
            let plan = client.run(&["plan", "-no-color", "-input=false"]).unwrap();
            assert!(plan.contains("module.net.terraform_data.greeting will be created"), "{plan}");
            let text = std::fs::read_to_string(client.module("part").join("modules/part/main.tf")).unwrap();
            assert!(text.contains("1.10.0"), "{text}");
        }
        // The next release is there at the next init.
        release(&repository, &["1.11.0"]);
        let entry = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": "1.11.0"}}]);
        world.kubectl(&["patch", "modules.opendepot.defdev.io/net", "--type=json", "-p", &entry.to_string()]);
        world.version_ready("net-1.11.0").await;
        soon(|| async {
            let listed = registry.versions(&address, &token).await?;
            anyhow::ensure!(listed == ["2.0.0-rc.1", "1.11.0", "1.10.0", "1.9.0"], "{listed:?}");
            Ok(())
        })
        .await;
        for client in registry.clients(&token) {
            client.configure(&registry.module("net", &address, "~> 1.9")).unwrap();
            init(&client);
            assert_eq!(installed(&client, "net"), "1.11.0", "{}", client.name());
        }
    }
}

#[tokio::test]
async fn both_clients_refuse_an_archive_that_was_changed_in_the_bucket() {
    let world = World::new("install-tampered").await;
    let _operator = world.operator().await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let (streaming, token, address) = published(&world, &repository, &["1.0.0"], "zip").await;
    let version = world.version_ready("net-1.0.0").await;
    let key = crate::support::key(&version);
    let mut bytes = world.stored(&version).await;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.bed.s3.put(&world.name, &key, bytes).await.unwrap();
    // A stream is refused by the registry where the store returns the checksum; what a redirect leads to is for the client alone.
    let redirecting = world.registry_with(&["--download", "redirect"]).await;
    let other_token = world.token(&redirecting.host, "ci");
    for (registry, token) in [(&streaming, &token), (&redirecting, &other_token)] {
        registry.lists(&address, token, 1).await;
        for client in registry.clients(token) {
            world.bed.s3.forget_requests(&world.name);
            client.configure(&registry.module("net", &address, "1.0.0")).unwrap();
            client.run(&["init", "-no-color", "-input=false"]).unwrap_err();
            assert!(!client.module("net").join("main.tf").exists(), "{} installed it", client.name());
            let requests = world.bed.s3.requests(&world.name);
            let sent =
                requests.iter().any(|r| r.key == key && r.method == Method::GET && r.status == Some(200));
            assert!(sent, "{}: {requests:?}", client.name());
        }
    }
}

#[tokio::test]
async fn both_clients_print_the_status_of_an_archive_and_nothing_else_of_the_answer() {
    let world = World::new("install-denied").await;
    let _operator = world.operator().await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let (streaming, token, address) = published(&world, &repository, &["1.0.0"], "zip").await;
    let redirecting = world.registry_with(&["--download", "redirect"]).await;
    let other_token = world.token(&redirecting.host, "ci");
    for (registry, token, answer, code, printed) in [
        (&redirecting, &other_token, 403, "AccessDenied", 403),
        (&redirecting, &other_token, 404, "NoSuchKey", 404),
        (&streaming, &token, 403, "AccessDenied", 503),
    ] {
        registry.lists(&address, token, 1).await;
        world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::Answer(answer, code)).method(Method::GET));
        for client in registry.clients(token) {
            client.configure(&registry.module("net", &address, "1.0.0")).unwrap();
            let said = client.run(&["init", "-no-color", "-input=false"]).unwrap_err().to_string();
            let said = said.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(&format!("bad response code: {printed}")), "{}: {said}", client.name());
        }
        world.bed.s3.clear_faults(&world.name);
    }
}

#[tokio::test]
async fn a_real_module_is_installed_as_git_has_it_and_fetched_once_for_all_its_submodules() {
    if !real_modules() {
        return;
    }
    let world = World::new("install-real").await;
    let _operator = world.operator().await;
    let mut all = Vec::new();
    // The root of the first calls a module of the public registry.
    for (name, tag, format, parts) in [
        ("eks", "v21.18.0", "zip", ["karpenter", "eks-managed-node-group", "fargate-profile"]),
        ("s3-bucket", "v5.1.0", "tar", ["root", "notification", "object"]),
    ] {
        let real = format!("terraform-aws-modules/terraform-aws-{name}");
        world.bed.github.alias(&world.repository(name), &real).unwrap();
        world.apply(&world.module(name).config("fileFormat", json!(format)).versions(&[tag]));
        all.push((name, tag, git_tree(&real_repositories().join(format!("{real}.git")), tag), parts));
    }
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    for (name, tag, tree, parts) in all {
        let (address, version) = (world.address(name).await, tag.trim_start_matches('v'));
        world.module_ready(name).await;
        registry.lists(&address, &token, 1).await;
        for client in registry.clients(&token) {
            let call = |part: &str| {
                let folder = if part == "root" { String::new() } else { format!("//modules/{part}") };
                registry.module(part, &format!("{address}{folder}"), &format!("~> {version}"))
            };
            client.configure(&parts.map(call).concat()).unwrap();
            world.bed.s3.forget_requests(&world.name);
            // The links of one window of five minutes are the same.
            let window = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 300;
            let begun = window();
            client.run(&["get", "-no-color"]).unwrap();
            let most = if window() == begun { 1 } else { 2 };
            let requests = world.bed.s3.requests(&world.name);
            let gets = requests.iter().filter(|request| request.method == Method::GET).count();
            assert!((1..=most).contains(&gets), "{} {name}: {requests:?}", client.name());
            // Where a client copies what it has fetched already, it leaves out files whose name begins with a dot.
            let plain = |tree: Tree| -> Tree {
                tree.into_iter()
                    .filter(|(path, _)| !path.split('/').any(|part| part.starts_with('.')))
                    .collect()
            };
            let mut sorted = parts;
            sorted.sort_unstable();
            for (number, call) in sorted.into_iter().enumerate() {
                let there = folder_tree(&client.module(call));
                let same = there == tree || (number > 0 && plain(there) == plain(tree.clone()));
                assert!(same, "{} {name} {call} differs from git", client.name());
                assert_eq!(installed(&client, call), version, "{}", client.name());
            }
        }
    }
}

#[tokio::test]
async fn withdrawn_and_removed_versions_are_not_installed() {
    let world = World::new("install-withdrawn").await;
    let _operator = world.operator().await;
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    let (registry, token, address) =
        published(&world, &repository, &["1.0.0", "1.1.0", "1.2.0"], "zip").await;
    let download = |version: &str| format!("/v1/modules/{address}/{version}/download");
    let located = registry.get(&download("1.2.0"), Some(&token)).await;
    assert_eq!(located.status(), 204);
    let link = located.headers()["x-terraform-get"].to_str().unwrap().to_owned();
    let versions = json!([
        {"version": "1.0.0", "deprecated": "use 1.1"}, {"version": "1.1.0"},
        {"version": "1.2.0", "withdrawn": "CVE-2026-1"},
    ]);
    world.patch("modules.opendepot.defdev.io/net", &json!({"spec": {"versions": versions}}));
    soon(|| async {
        let listed = registry.versions(&address, &token).await?;
        anyhow::ensure!(listed == ["1.1.0", "1.0.0"], "{listed:?}");
        Ok(())
    })
    .await;
    let body =
        registry.get(&format!("/v1/modules/{address}/versions"), Some(&token)).await.text().await.unwrap();
    assert!(body.contains(r#"{"version":"1.0.0","deprecation":{"reason":"use 1.1"}}"#), "{body}");
    for path in [download("1.2.0"), link.replace(&format!("https://{}", registry.host), "")] {
        let answer = registry.get(&path, Some(&token)).await;
        assert_eq!(answer.status(), 410, "{path}");
        assert!(answer.text().await.unwrap().contains("CVE-2026-1"));
    }
    // If all are withdrawn, both clients print that.
    let all =
        ["1.0.0", "1.1.0", "1.2.0"].map(|version| json!({"version": version, "withdrawn": "CVE-2026-2"}));
    world.patch("modules.opendepot.defdev.io/net", &json!({"spec": {"versions": all}}));
    soon(|| async {
        let status = registry.get(&format!("/v1/modules/{address}/versions"), Some(&token)).await.status();
        anyhow::ensure!(status == 410, "{status}");
        Ok(())
    })
    .await;
    for client in registry.clients(&token) {
        client.configure(&registry.module("net", &address, "~> 1.0")).unwrap();
        let error = client.run(&["init", "-no-color", "-input=false"]).unwrap_err().to_string();
        let error = error.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(error.contains("410 Gone: version withdrawn"), "{}: {error}", client.name());
    }
    // The object stays, and the record: taking the notice back lists the version again.
    world.patch(
        "modules.opendepot.defdev.io/net",
        &json!({"spec": {"versions": [{"version": "1.1.0"}, {"version": "1.2.0"}]}}),
    );
    soon(|| async {
        let listed = registry.versions(&address, &token).await?;
        anyhow::ensure!(listed == ["1.2.0", "1.1.0"], "{listed:?}");
        Ok(())
    })
    .await;
    assert_eq!(registry.get(&download("1.0.0"), Some(&token)).await.status(), 404);
}
