//! `opendepot publish`, with the permissions of the example for release workflows and no others.

use std::path::PathBuf;

use opendepot_testbed::github::{File, Repository};
use opendepot_testbed::operator::Operator;
use serde_json::{Value, json};

use crate::support::command::{Opendepot, Printed, kubeconfig_for, opendepot};
use crate::support::wire::Wire;
use crate::support::{SOON, World, condition, ready, soon};

/// A world with a repository, an operator, and a release workflow with its permissions.
struct Stage {
    world: World,
    repository: Repository,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
    operator: Operator,
}

impl Stage {
    async fn new(name: &str, tags: &[&str]) -> Self {
        let world = World::new(name).await;
        let operator = world.operator().await;
        let repository = world.with_releases("net", tags);
        world.runner();
        let kubeconfig =
            world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "runner").await.unwrap();
        let stage = Self { world, repository, kubeconfig, folder: tempfile::tempdir().unwrap(), operator };
        stage.manifest(|_| {});
        stage
    }

    /// Writes the manifest that the workflow finds in its repository.
    fn manifest(&self, edit: impl Fn(&mut Value)) {
        let mut module = self.world.module("net").0;
        module["spec"].as_object_mut().unwrap().remove("versions");
        edit(&mut module);
        std::fs::write(self.folder.path().join("module.json"), module.to_string()).unwrap();
    }

    fn command(&self) -> Opendepot {
        opendepot(&self.kubeconfig).in_folder(self.folder.path())
    }

    fn publish(&self, version: &str, more: &[&str]) -> Printed {
        self.command().run(&[&["publish", "net", version, "-n", &self.world.name], more].concat())
    }

    /// Whom the release workflow runs as.
    fn runner(&self) -> String {
        format!("system:serviceaccount:{}:runner", self.world.name)
    }

    async fn listed(&self) -> Value {
        let module = self.world.get_module("net").await.unwrap();
        module["spec"]["versions"].as_array().unwrap().iter().map(|v| v["version"].clone()).collect()
    }
}

#[tokio::test]
async fn a_version_is_added_stored_and_printed_and_a_run_may_be_repeated() {
    let odd = "v2.0.0-RC.1+build.5";
    let stage = Stage::new("publish", &["v1.0.0", "v1.1.0", odd]).await;
    let refused = stage.publish("v1.0.0", &[]).failed();
    assert!(refused.contains("there is no Module net in the namespace"), "{refused}");
    let outputs = stage.folder.path().join("publish.env");
    let printed = stage.publish("v1.0.0", &["-f", "module.json", "--outputs", "publish.env"]);
    let text = printed.ok();
    let version = stage.world.version_ready("net-1.0.0").await;
    let status = &version["status"];
    let key = status["storage"]["key"].as_str().unwrap();
    assert_eq!(stage.world.objects_are(1).await, [key]);
    let lines = format!(
        "bucket={}\nkey={key}\nchecksum={}\ncontentDigest={}\n",
        stage.world.name,
        status["checksum"].as_str().unwrap(),
        status["contentDigest"].as_str().unwrap()
    );
    assert_eq!(std::fs::read_to_string(&outputs).unwrap(), lines);
    assert_eq!(text.replacen(": ", "=", 4), lines, "{text}");

    // The other spelling is the same version: nothing is written.
    let audit = stage.world.bed.kubernetes.audit();
    let mark = audit.mark(&stage.world.client).await.unwrap();
    let again = stage.publish("1.0.0", &["-o", "json"]);
    assert_eq!(again.json()["key"], key, "{again:#?}");
    assert!(again.stderr.contains("1.0.0 is already listed"), "{again:#?}");
    let calls = audit.since(mark, &stage.world.client).await.unwrap();
    let runner = stage.runner();
    let writes: Vec<_> = calls.iter().filter(|c| c.is_write() && c.user == runner).collect();
    assert!(writes.is_empty(), "{writes:?}");

    // Several at once, and a Version object whose name has a hash.
    let printed: Vec<Printed> = std::thread::scope(|scope| {
        let runs = ["v1.1.0", odd].map(|tag| {
            let stage = &stage;
            scope.spawn(move || stage.publish(tag, &["-f", "module.json", "-o", "json"]))
        });
        runs.map(|run| run.join().unwrap()).into()
    });
    for printed in &printed {
        assert_eq!(printed.code, Some(0), "{printed:#?}");
    }
    assert_ne!(printed[1].json()["versionObject"], format!("net-{odd}"));
    let mut listed: Vec<Value> = serde_json::from_value(stage.listed().await).unwrap();
    listed.sort_by_key(ToString::to_string);
    assert_eq!(json!(listed), json!(["v1.0.0", "v1.1.0", odd]));
    stage.world.objects_are(3).await;
    let managers: Vec<Value> = stage.world.get_module("net").await.unwrap()["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["manager"].clone())
        .collect();
    assert!(managers.contains(&json!("opendepot-release")), "{managers:?}");

    // A change of the location with the manifest is waited for.
    stage
        .manifest(|module| module["spec"]["moduleConfig"]["storageConfig"]["s3"]["key"] = json!("elsewhere"));
    let moved = stage.publish("v1.0.0", &["-f", "module.json", "-o", "json"]);
    assert!(moved.json()["key"].as_str().unwrap().starts_with("elsewhere/net/"), "{moved:#?}");
}

#[tokio::test]
async fn a_failure_has_its_reason_and_a_second_run_retries() {
    let stage = Stage::new("publish-fails", &["v1.0.0", "v2.0.0"]).await;
    let actions = |version: &str, more: &[&str]| {
        let command = stage.command().env("GITHUB_ACTIONS", "true");
        let printed = command.run(&[&["publish", "net", version, "-n", &stage.world.name], more].concat());
        assert_eq!(printed.code, Some(1), "{printed:#?}");
        assert!(printed.stdout.starts_with("::error title=Not published::"), "{printed:#?}");
        printed
    };
    stage.repository.delete();
    let printed = actions("v1.0.0", &["-f", "module.json"]);
    assert!(printed.stderr.contains("opendepot: RepositoryNotFound: "), "{printed:#?}");
    // Events are written in the background, after the status.
    stage.world.events("net-1.0.0", "RepositoryNotFound").await;
    let printed = actions("v1.0.0", &[]);
    assert!(printed.stderr.contains("Events:\n"), "{printed:#?}");
    // The next attempt would be an hour later.
    let repository = stage.world.bed.github.repository(&stage.repository.name()).unwrap();
    for tag in ["v1.0.0", "v2.0.0"] {
        repository.release(tag, &[File::new("main.tf", format!("# {tag}\n"))]).unwrap();
    }
    let printed = stage.publish("v1.0.0", &[]);
    assert!(printed.code == Some(0) && printed.stderr.contains("a retry was requested"), "{printed:#?}");

    let append = r#"[{"op":"add","path":"/spec/versions/-","value":{"version":"v9.9.9"}}]"#;
    stage.world.kubectl(&["patch", "module", "net", "--type=json", "-p", append]);
    stage.world.version_fails("net-9.9.9", "TagNotFound").await;
    let printed = actions("v9.9.9", &["--timeout", "3s"]);
    assert!(printed.stderr.contains("v9.9.9 is not stored after 3s. TagNotFound: "), "{printed:#?}");
    let mut taken = stage.world.inline("net-4.0.0");
    taken["spec"]["suspend"] = json!(true);
    stage.world.apply(&taken);
    let printed = actions("v4.0.0", &[]);
    assert!(printed.stderr.contains("NameTaken: Version net-4.0.0 exists"), "{printed:#?}");
    let remove = json!({"spec": {"versions": [{"version": "v1.0.0"}]}});
    stage.world.patch("module/net", &remove);
    stage.world.module_ready("net").await;

    stage.publish("v2.0.0", &[]).ok();
    stage.world.patch("module/net", &json!({"spec": {"moduleConfig": {"versionHistoryLimit": 1}}}));
    stage.world.versions_are(&["net-2.0.0", "net-4.0.0"]).await;
    let printed = actions("v1.0.0", &[]);
    assert!(
        printed.stderr.contains("v1.0.0 is not among the 1 newest versions that versionHistoryLimit keeps"),
        "{printed:#?}"
    );
    stage.world.patch("module/net", &json!({"spec": {"suspend": true}}));
    stage.world.module_when("net", |m| condition(m, "Ready")["reason"] == "Suspended" && !ready(m)).await;
    let printed = actions("v3.0.0", &[]);
    assert!(printed.stderr.contains("Suspended: "), "{printed:#?}");
}

#[tokio::test]
async fn a_change_that_the_api_server_rejects_is_no_success() {
    let stage = Stage::new("publish-rejected", &["v1.0.0"]).await;
    stage.publish("v1.0.0", &["-f", "module.json"]).ok();
    let rule = "object.spec.moduleConfigRef.storageConfig.s3.?key.orValue('') == ''";
    stage.world.apply(&stage.world.refusal("UPDATE", "versions", rule, "not on a Friday"));
    let edit =
        json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"key": "elsewhere"}}}}}).to_string();
    let version = "versions.opendepot.defdev.io/net-1.0.0";
    let probe = ["patch", version, "-n", &stage.world.name, "--type=merge", "--dry-run=server", "-p", &edit];
    soon(|| async {
        anyhow::ensure!(!stage.world.bed.kubectl_with(&probe, "")?.success(), "the rule is not known yet");
        Ok(())
    })
    .await;
    stage
        .manifest(|module| module["spec"]["moduleConfig"]["storageConfig"]["s3"]["key"] = json!("elsewhere"));
    // Longer than a change may take to reach a Version of a Module that is Ready.
    let printed = stage.publish("v1.0.0", &["-f", "module.json", "--timeout", "35s"]).failed();
    let expected = "the Module's change has not reached v1.0.0 after 35s. VersionRefused: ";
    assert!(printed.contains(expected) && printed.contains("not on a Friday"), "{printed}");
    stage.world.lift_refusal();
}

#[tokio::test]
async fn what_is_no_version_or_no_manifest_of_the_module_changes_nothing() {
    let stage = Stage::new("publish-hostile", &[]).await;
    for tag in ["v1.0.0$(touch hacked)", "v1.0.0\"},{\"version\":\"9.9.9", "latest", "v1.0.0 --help", ""] {
        let printed = stage.publish(tag, &["-f", "module.json"]);
        assert!(
            printed.code == Some(2) && printed.stderr.contains("is not a semantic version"),
            "{printed:#?}"
        );
    }
    let refused = stage.publish("v1.0.0", &["-f", "module.json", "--outputs", "none/publish.env"]).failed();
    assert!(refused.contains("cannot write none/publish.env"), "{refused}");
    stage.manifest(|module| module["metadata"]["name"] = json!("another"));
    let refused = stage.publish("v1.0.0", &["-f", "module.json"]).failed();
    assert!(
        refused.contains("contains opendepot.defdev.io/v1alpha1 Module another: write only"),
        "{refused}"
    );
    stage.manifest(|module| module["spec"]["moduleConfig"]["bucket"] = json!("typo"));
    let refused = stage.publish("v1.0.0", &["-f", "module.json"]).failed();
    assert!(refused.contains("unknown field \"spec.moduleConfig.bucket\""), "{refused}");
    let args = ["publish", "net", "v1.0.0", "-n", &stage.world.name, "-f", "-"];
    let refused = stage.command().input("a: [").run(&args).failed();
    assert!(refused.contains("manifest -: it is not valid YAML"), "{refused}");
    let files = std::fs::read_dir(stage.folder.path()).unwrap().count();
    assert!(files == 1 && stage.world.get_module("net").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_restarts_ends_no_wait() {
    let stage = Stage::new("publish-outage", &["v1.0.0"]).await;
    // Nothing makes a Version meanwhile.
    stage.operator.terminate(SOON).await.unwrap();
    let wire = Wire::new(&stage.world).await;
    let kubeconfig = stage.folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, wire.carrying(&stage.kubeconfig)).unwrap();
    let command = opendepot(&kubeconfig).in_folder(stage.folder.path());
    let audit = stage.world.bed.kubernetes.audit();
    let mark = audit.mark(&stage.world.client).await.unwrap();
    let namespace = stage.world.name.clone();
    let publish = tokio::task::spawn_blocking(move || {
        command.run(&["publish", "net", "v1.0.0", "-n", &namespace, "-f", "module.json"])
    });
    let runner = stage.runner();
    soon(|| async {
        let looks =
            audit.matching(mark, |c| c.user == runner && c.resource == "versions" && c.verb == "get")?;
        anyhow::ensure!(looks.len() >= 2, "it does not wait yet");
        Ok(())
    })
    .await;
    wire.cut().await;
    wire.turn_away(2).await;
    wire.restore().await;
    let _operator = stage.world.operator().await;
    let printed = publish.await.unwrap();
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert_eq!(printed.stderr.matches("; retrying").count(), 1, "{printed:#?}");
}

#[test]
fn an_api_server_that_never_answers_or_is_behind_a_proxy_ends_the_run() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cluster = json!({"server": format!("http://{}", silent.local_addr().unwrap())});
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = |cluster: &Value| kubeconfig_for(folder.path(), cluster);
    let args = ["publish", "net", "1.0.0", "--timeout", "1s"];
    let late = opendepot(&kubeconfig(&cluster)).run(&args).failed();
    assert!(late.contains("the API server did not answer before the timeout"), "{late}");
    let mut behind = cluster;
    behind["proxy-url"] = json!("http://127.0.0.1:1");
    let refused = opendepot(&kubeconfig(&behind)).run(&args).failed();
    assert!(refused.contains("names a proxy-url for this cluster"), "{refused}");
}
