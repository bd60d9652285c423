//! `docs/operations.md` to the letter: its commands are run as they stand there, on clusters of their own, and afterwards
//! no object is lost, none was stored twice, and each is what it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use http::Method;
use opendepot_testbed::control_plane::{ControlPlane, SHORT_RUN};
use opendepot_testbed::github::File;
use opendepot_testbed::markdown::Runbook;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::{Options, Testbed, servers};
use serde_json::{Value, json};

use crate::support::rendered::{SYSTEM, helm};
use crate::support::{SOON, ready, root, soon};

const BUCKET: &str = "modules";
const TEAM: &str = "team-a";
/// Too long for a label: what names a Module has to be read from somewhere else.
const LONG: &str = "terraform-aws-a-module-whose-name-is-longer-than-what-a-label-may-hold";

/// What a cluster's operator was installed with. Some blocks of the document are for one of the two.
#[derive(Clone, Copy)]
enum Installer {
    Kubectl,
    Helm,
}

/// A cluster, with the one part of it that a control plane alone does not have: who runs what is deployed.
struct Cluster<'a> {
    bed: &'a Testbed,
    plane: &'a ControlPlane,
    /// Where the commands are run.
    folder: &'a Path,
    installer: Installer,
    operator: Option<Operator>,
}

impl Cluster<'_> {
    /// Follows the document's commands under a heading.
    async fn follow(&mut self, guide: &Runbook, anchor: &str) {
        let mut blocks = guide.scripts(anchor).unwrap();
        match (anchor, self.installer) {
            ("stop-the-operator", Installer::Kubectl) => drop(blocks.remove(1)),
            ("stop-the-operator" | "restore", Installer::Helm) => drop(blocks.remove(0)),
            _ => {}
        }
        for block in blocks {
            self.run(block);
            self.kubelet().await;
        }
    }

    fn run(&self, commands: &str) {
        let programs = [self.plane.kubectl_path().to_owned(), servers::helm().unwrap()];
        let mut path: Vec<_> = programs.iter().map(|p| p.parent().unwrap().to_owned()).collect();
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let output = Command::new("timeout")
            .args(["120", "bash", "-euo", "pipefail", "-c", commands])
            .current_dir(self.folder)
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", self.folder)
            .env("KUBECONFIG", self.plane.admin_kubeconfig())
            .envs(SHORT_RUN)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}\n{}\n{stderr}", output.status);
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.plane.kubectl(args).unwrap().ok().unwrap()
    }

    /// Runs the operator where it is deployed with replicas, and ends it where it no longer is.
    async fn kubelet(&mut self) {
        let replicas = "jsonpath={range .items[*]}{.metadata.name} {.spec.replicas}{\"\\n\"}{end}";
        let listed = self.kubectl(&["get", "deployments", "-n", SYSTEM, "-o", replicas]);
        let deployed = listed.lines().any(|line| line.starts_with("opendepot ") && line != "opendepot 0");
        match self.operator.take() {
            Some(operator) if !deployed => {
                operator.terminate(SOON).await.unwrap();
            }
            None if deployed => {
                let account = self.plane.kubeconfig_for_service_account(SYSTEM, "opendepot").await.unwrap();
                let started = self.bed.operator().env("KUBECONFIG", account).start_ready().await;
                self.operator = Some(started.unwrap());
            }
            same => self.operator = same,
        }
    }

    fn items(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let kind = format!("{kind}.opendepot.defdev.io");
        let mut list: Value =
            serde_json::from_str(&self.plane.kubectl(&["get", &kind, "-A", "-o", "json"])?.ok()?)?;
        Ok(serde_json::from_value(list["items"].take())?)
    }

    /// Waits until everything is stored, Ready, and owned by a Module that exists. Gives what is stored.
    async fn settled(&self) -> BTreeMap<String, Value> {
        soon(|| async {
            let (modules, versions) = (self.items("modules")?, self.items("versions")?);
            for object in modules.iter().chain(&versions) {
                ensure!(ready(object) && object["status"]["synced"] == true, "{object:#}");
            }
            let uids: Vec<_> = modules.iter().map(|m| &m["metadata"]["uid"]).collect();
            let mut stored = BTreeMap::new();
            for version in versions {
                let owner = &version["metadata"]["ownerReferences"][0]["uid"];
                let inline = version["metadata"]["name"] == "one-off";
                ensure!(owner.is_null() == inline && (inline || uids.contains(&owner)), "{version:#}");
                let (metadata, status) = (&version["metadata"], &version["status"]);
                let name = metadata["name"].as_str().context("a name")?;
                stored.insert(
                    format!("{}/{name}", metadata["namespace"].as_str().unwrap_or_default()),
                    json!([status["storage"], status["checksum"], status["contentDigest"], status["source"]]),
                );
            }
            Ok(stored)
        })
        .await
    }

    /// What an immutable Module has on record of its versions.
    fn published(&self) -> Value {
        let modules = self.items("modules").unwrap();
        let net = modules.iter().find(|m| m["metadata"]["name"] == "net").unwrap();
        net["status"]["published"].clone()
    }

    /// Asks for a full sync of a Module or Version of the team, and waits until it was done.
    async fn force(&self, object: &str) {
        self.kubectl(&["patch", object, "-n", TEAM, "--type=merge", "-p", r#"{"spec":{"forceSync":true}}"#]);
        self.becomes(object, "{.spec.forceSync}", "false").await;
    }

    async fn becomes(&self, object: &str, path: &str, expected: &str) {
        soon(|| async {
            let path = format!("jsonpath={path}");
            let value = self.plane.kubectl(&["get", object, "-n", TEAM, "-o", &path])?.ok()?;
            ensure!(value == expected, "{object}: {path} is {value:?}");
            Ok(())
        })
        .await;
    }
}

fn module(namespace: &str, name: &str, versions: &[&str], config: &Value) -> Value {
    let mut module = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1",
        "kind": "Module",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "moduleConfig": {
                "provider": "aws",
                "repoUrl": "https://github.com/acme/net",
                "storageConfig": {"s3": {"bucket": BUCKET, "region": "us-west-2", "forcePathStyle": true}},
            },
            "versions": versions.iter().map(|v| json!({"version": v})).collect::<Vec<_>>(),
        },
    });
    for (field, value) in config.as_object().unwrap() {
        module["spec"]["moduleConfig"][field] = value.clone();
    }
    module
}

/// Modules of every kind that makes a difference, in two namespaces, and a Version of its own.
async fn publish(cluster: &Cluster<'_>) {
    let bed = cluster.bed;
    bed.s3.create_bucket(BUCKET).await.unwrap();
    let tags = ["v1.0.0", "v1.1.0", "v1.2.0"];
    let repository = bed.github.repository("acme/net").unwrap();
    repository.releases(tags.map(|tag| (tag, vec![File::new("main.tf", format!("# {tag}\n"))]))).unwrap();
    let apply = |object: &Value| {
        bed.kubernetes.kubectl_with(&["apply", "-f", "-"], &object.to_string()).unwrap().ok().unwrap()
    };
    bed.kubernetes.create_namespace(TEAM).await.unwrap();
    apply(&module(TEAM, "net", &tags, &json!({"immutable": true})));
    apply(&module(SYSTEM, "tool", &tags[..1], &json!({"name": "vpc", "fileFormat": "tar"})));
    apply(&module(TEAM, LONG, &tags[..1], &json!({"deletionPolicy": "Retain"})));
    let inline = module(TEAM, "one-off", &[], &json!({}));
    apply(&json!({
        "apiVersion": inline["apiVersion"], "kind": "Version", "metadata": inline["metadata"],
        "spec": {"type": "Module", "version": "1.0.0", "moduleConfigRef": inline["spec"]["moduleConfig"]},
    }));
    assert_eq!(cluster.settled().await.len(), 6);
    // What is removed is still on record.
    apply(&module(TEAM, "net", &tags[..2], &json!({"immutable": true})));
    let removed = "versions.opendepot.defdev.io/net-1.2.0";
    cluster.kubectl(&["wait", "--for=delete", "-n", TEAM, removed, "--timeout=120s"]);
    // Requests that were done, of which the object carries only the last.
    let version = "versions.opendepot.defdev.io/net-1.0.0";
    cluster.force("module/net").await;
    cluster.kubectl(&["annotate", version, "-n", TEAM, "opendepot.defdev.io/requestedAt=monday"]);
    cluster.becomes(version, "{.status.lastHandledRequest}", "monday").await;
    cluster.force(version).await;
}

/// A cluster that knows nothing yet, with the operator installed by Helm.
async fn another_cluster() -> ControlPlane {
    let mut plane = ControlPlane::start().await.unwrap();
    let install = ["install", "opendepot", "deploy/helm/opendepot", "-n", SYSTEM, "--create-namespace"];
    let installed = helm(&plane.admin_kubeconfig(), &install, &json!({}));
    assert!(installed.success(), "{}", installed.stderr);
    plane.start_controllers().unwrap();
    plane.create_namespace(TEAM).await.unwrap();
    plane
}

#[tokio::test]
async fn uninstall_backup_restore_and_move_lose_nothing_and_store_nothing_twice() {
    let guide = Runbook::read(&root().join("docs/operations.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["deploy", "crds"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let options = Options {
        operator: env!("CARGO_BIN_EXE_opendepot").into(),
        crds: Some(root().join("crds")),
        deploy: Some(root().join("deploy/base")),
        service_account: Some((SYSTEM.into(), "opendepot".into())),
        registry: None,
    };
    let (bed, plane) = tokio::join!(Testbed::start(options), another_cluster());
    let bed = bed.unwrap();
    let cluster =
        |plane, installer| Cluster { bed: &bed, plane, folder: folder.path(), installer, operator: None };
    let mut first = cluster(&bed.kubernetes, Installer::Kubectl);
    let mut second = cluster(&plane, Installer::Helm);
    first.kubelet().await;
    publish(&first).await;
    let (before, published) = (first.settled().await, first.published());
    assert_eq!((before.len(), published.as_object().unwrap().len()), (5, 3));
    let keys = bed.s3.keys(BUCKET).await.unwrap();
    let traffic = || {
        let puts = bed
            .s3
            .requests(BUCKET)
            .iter()
            .filter(|r| matches!(r.method, Method::PUT | Method::DELETE))
            .count();
        (puts, bed.github.requests_where(|_| true).len())
    };
    let quiet = traffic();

    // The first cluster is lost, and the second has its operator already.
    first.follow(&guide, "back-up").await;
    first.operator.take().unwrap().kill().await.unwrap();
    second.kubelet().await;
    second.follow(&guide, "restore").await;
    assert_eq!(second.settled().await, before);
    assert_eq!((second.published(), traffic()), (published.clone(), quiet), "found, not stored again");
    // Generations have started anew: the force that comes at the number of the last one is another.
    second.kubectl(&[
        "patch",
        "module/net",
        "-n",
        TEAM,
        "--type=merge",
        "-p",
        &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 9}}}).to_string(),
    ]);
    second.force("module/net").await;
    assert_eq!(traffic().0, quiet.0 + 2);
    assert_eq!(second.settled().await, before);
    let quiet = traffic();

    // The rest of the first is deleted, and touches nothing.
    first.operator = None;
    first.run(guide.scripts("stop-the-operator").unwrap()[0]);
    first.follow(&guide, "remove-the-modules-and-keep-what-is-stored").await;
    assert_eq!(first.kubectl(&["get", "crd", "-o", "name"]), "");
    assert_eq!((bed.s3.keys(BUCKET).await.unwrap(), traffic()), (keys.clone(), quiet));

    // And back again, with the operator installed afterwards.
    let steps = guide.steps("move-to-another-cluster").unwrap();
    assert_eq!(steps.len(), 4, "{steps:?}");
    for (place, anchor) in steps {
        let here = if place == "Old cluster" { &mut second } else { &mut first };
        here.follow(&guide, anchor).await;
        if anchor == "restore" {
            assert!(
                first.operator.is_none() && second.operator.is_none(),
                "two operators must not work at once"
            );
            first.run("kubectl apply -k deploy/base");
            first.kubelet().await;
            assert_eq!(first.settled().await, before);
        }
    }
    assert_eq!(second.kubectl(&["get", "crd", "-o", "name"]), "");
    second.follow(&guide, "stop-the-operator").await;
    assert_eq!(second.kubectl(&["get", "deployments", "-n", SYSTEM, "-o", "name"]), "");
    assert_eq!((first.published(), traffic()), (published, quiet), "found, not stored again");
    assert_eq!(bed.s3.keys(BUCKET).await.unwrap(), keys);

    // The Modules own their Versions as ever: a force reaches them, and their deletion deletes what they stored.
    first.force("module/net").await;
    assert_eq!(traffic().0, quiet.0 + 2);
    first.follow(&guide, "remove-everything").await;
    let left = bed.s3.keys(BUCKET).await.unwrap();
    assert!(left.len() == 1 && left[0].starts_with(LONG), "only what is retained: {left:?}");
}
