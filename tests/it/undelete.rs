//! How to undo a removal in a bucket with versioning, with the commands of the documents: the same objects, under the same keys.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use http::Method;
use opendepot_testbed::aws::Aws;
use opendepot_testbed::control_plane::SHORT_RUN;
use opendepot_testbed::markdown::blocks;
use serde_json::{Value, json};

use crate::support::requests::main_tf;
use crate::support::{World, key, ready, root, soon};

const ALL: [&str; 4] = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0"];
/// A key prefix that a shell would split.
const PREFIX: &str = "our modules/";

/// The AWS CLI applies `--query` to each page of a list. With this one, the versions of each key are a page, and the HEAD of the
/// object `$REJECTED` is rejected.
const PAGES: &str = r#"#!/usr/bin/env bash
set -euo pipefail
if [[ "$*" == *head-object*"$REJECTED"* ]]; then echo Forbidden >&2; exit 254; fi
if [ "$2" != list-object-versions ]; then exec hack/aws/aws "$@"; fi
keys=$(hack/aws/aws "$@" --query 'sort([Versions, DeleteMarkers][].Key)' | tr '\t' '\n' | uniq)
while IFS= read -r key; do hack/aws/aws "$@" --prefix "$key"; done <<<"$keys"
"#;

/// The block of docs/aws.md that brings objects back, for these Versions.
fn command(namespace: &str, versions: &[&str]) -> String {
    let blocks = blocks(&root().join("docs/aws.md")).unwrap();
    let block = blocks.into_iter().find(|block| block.text.contains("undelete.sh")).unwrap();
    let example = "opendepot-system terraform-aws-eks-21.11.0 terraform-aws-eks-21.12.0";
    assert!(block.text.contains(example), "{}", block.text);
    block.text.replace(example, &format!("{namespace} {}", versions.join(" ")))
}

/// What the status says of the object.
fn recorded(version: &Value) -> Value {
    let status = &version["status"];
    json!([status["storage"], status["checksum"], status["contentDigest"], status["source"]["commit"]])
}

#[tokio::test]
async fn removed_versions_come_back_with_their_objects() {
    let world = World::new("undelete").await;
    let repository = world.tagged("mod", &ALL);
    let store = world.bed.s3.another_with_versions(&world.name).await.unwrap();
    let _operator = world.operator_with(&["--s3-endpoint", &store.endpoint()]).await;
    let list = |versions: &[&str]| {
        let module = world.module("mod").config("immutable", json!(true)).versions(versions);
        world.apply(&module.s3("endpoint", json!(store.endpoint())).s3("key", json!(PREFIX)));
    };
    let keys = || async { store.keys(&world.name).await };
    // An object that a Version had earlier, whose key is on an earlier page than the one that it has later.
    let replaced = format!("{PREFIX}mod/00000000.zip");
    let put = store.client().put_object().bucket(&world.name).key(&replaced);
    let put =
        put.metadata("opendepot-namespace", &world.name).metadata("opendepot-version-name", "mod-1.0.0");
    put.send().await.unwrap();
    store.delete(&world.name, &replaced).await.unwrap();
    list(&ALL);
    world.module_ready("mod").await;
    let mut before = BTreeMap::new();
    for version in world.versions().await.unwrap() {
        let bytes = store.get(&world.name, &key(&version)).await.unwrap();
        before.insert(version["metadata"]["name"].as_str().unwrap().to_owned(), (recorded(&version), bytes));
    }
    let at_first = keys().await.unwrap();
    assert_eq!((before.len(), at_first.len()), (4, 4));

    // Three versions are gone with one edit. Then one tag is moved, one is deleted, and one is as it was.
    list(&["v1.3.0"]);
    soon(|| async {
        anyhow::ensure!(keys().await?.len() == 1, "{:?}", keys().await?);
        Ok(())
    })
    .await;
    world.versions_are(&["mod-1.3.0"]).await;
    repository.release("v1.0.0", &main_tf("# moved\n")).unwrap();
    repository.delete_tag("v1.1.0").unwrap();
    // A DELETE that was sent twice has left two markers.
    let twice = before["mod-1.0.0"].0[0]["key"].as_str().unwrap();
    store.delete(&world.name, twice).await.unwrap();
    // A foreign object was deleted after them.
    let foreign = format!("{PREFIX}mod/foreign.zip");
    store.client().put_object().bucket(&world.name).key(&foreign).send().await.unwrap();
    store.delete(&world.name, &foreign).await.unwrap();

    // The entries are put back: a version with its tag is fetched, and has the same content under a new key.
    list(&ALL);
    world.version_fails("mod-1.0.0", "ImmutableContentChanged").await;
    world.version_fails("mod-1.1.0", "TagNotFound").await;
    let again = world.version_ready("mod-1.2.0").await;
    let old = &before["mod-1.2.0"].0;
    assert_eq!(recorded(&again).as_array().unwrap()[1..], old.as_array().unwrap()[1..]);
    assert_ne!(again["status"]["storage"]["key"], old[0]["key"]);

    // The documents' command brings back what was stored, and nothing is fetched or stored for it.
    world.count_from_now("mod");
    store.forget_requests(&world.name);
    let aws = Aws::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("aws");
    std::fs::write(&pages, PAGES).unwrap();
    std::fs::set_permissions(&pages, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |rejected: &str, versions: &[&str]| {
        let mut command_line = aws.command("bash").unwrap();
        let mut path = folder.path().as_os_str().to_owned();
        let envs = command_line.get_envs().find(|(name, _)| *name == "PATH");
        path.push(":");
        path.push(world.bed.kubernetes.kubectl_path().parent().unwrap());
        path.push(":");
        path.push(envs.and_then(|(_, value)| value).unwrap());
        command_line
            .args(["-euo", "pipefail", "-c", &command(&world.name, versions)])
            .current_dir(root())
            .env("PATH", path)
            .env("REJECTED", rejected)
            .env("KUBECONFIG", world.bed.kubernetes.admin_kubeconfig())
            .envs(SHORT_RUN)
            .env("AWS_ENDPOINT_URL_S3", store.endpoint())
            .env("AWS_ACCESS_KEY_ID", &store.root().access_key)
            .env("AWS_SECRET_ACCESS_KEY", &store.root().secret_key);
        command_line.output().unwrap()
    };
    // An object that was replaced earlier does not stand for the last one, which cannot be read.
    let output = run(twice, &["mod-1.0.0"]);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{problem}");
    let expected = format!("{replaced} was deleted before {twice}, which may belong to this Version");
    assert!(problem.contains(&expected), "{problem}");
    let output = run("foreign.zip", &["mod-1.0.0", "mod-1.1.0", "mod-1.2.0"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.lines().filter(|line| line.ends_with(" is back")).count(), 3, "{printed}");
    world.module_ready("mod").await;
    for (name, (status, bytes)) in &before {
        let version =
            world.version_when(name, |version| &recorded(version) == status && ready(version)).await;
        assert_eq!(&store.get(&world.name, &key(&version)).await.unwrap(), bytes, "{name}");
    }
    // The second object of 1.2.0 is deleted, since no Version refers to it.
    soon(|| async {
        anyhow::ensure!(keys().await? == at_first, "{:?}, at first {at_first:?}", keys().await?);
        Ok(())
    })
    .await;
    let puts =
        store.requests(&world.name).into_iter().filter(|r| r.method == Method::PUT && !r.key.is_empty());
    assert_eq!((world.served("mod"), puts.count()), (0, 0));

    // There is nothing to bring back of a version that is there. An object that cannot be read does not end the search.
    let output = run("foreign.zip", &["mod-1.3.0"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("mod/foreign.zip cannot be read; skipped"), "{said}");
    assert!(said.contains("no deleted object of this Version"), "{said}");
    assert_eq!(keys().await.unwrap(), at_first);
}
