//! `opendepot withdraw` and `deprecate`: a notice reaches the version that was named, and nothing else.

use std::path::PathBuf;
use std::process::Command;

use kube::api::{Patch, PatchParams};
use opendepot::controller::client::is_failed_test;
use serde_json::{Value, json};

use crate::support::{World, ready};

/// What a command printed.
#[derive(Debug)]
struct Printed {
    success: bool,
    stdout: String,
    stderr: String,
}

/// Runs `opendepot` with this kubeconfig.
fn opendepot(kubeconfig: &PathBuf, args: &[&str]) -> Printed {
    let output = Command::new(env!("CARGO_BIN_EXE_opendepot"))
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Printed { success: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn entry<'a>(module: &'a Value, version: &str) -> &'a Value {
    let entries = module["spec"]["versions"].as_array().unwrap();
    entries.iter().find(|entry| entry["version"] == version).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_notice_is_written_removed_and_costs_no_version_anything() {
    let world = World::new("withdraw-notice").await;
    world.tagged("mod", &["v0.9.0", "v1.0.0", "v1.1.0"]);
    let _operator = world.operator().await;
    // A withdrawn version counts for the limit, so no older one takes its place.
    let limited = world.module("mod").config("versionHistoryLimit", json!(2));
    world.apply(&limited.versions(&["v0.9.0", "v1.0.0", "v1.1.0"]));
    world.module_ready("mod").await;
    world.versions_are(&["mod-1.0.0", "mod-1.1.0"]).await;
    world.quiet().await;
    let (versions, counts) = (world.versions().await.unwrap(), world.counts("mod"));
    // The namespace of the context is the default.
    let kubeconfig = world.bed.kubernetes.admin_kubeconfig().with_file_name("withdraw-notice");
    std::fs::copy(world.bed.kubernetes.admin_kubeconfig(), &kubeconfig).unwrap();
    let set = format!(
        "kubectl config set-context --current --namespace={} --kubeconfig={}",
        world.name,
        kubeconfig.display()
    );
    world.shell(&set);

    let writes = world
        .writes_during(async {
            let printed = opendepot(&kubeconfig, &["withdraw", "mod", "1.1.0", "CVE-2026-1: use 1.2.0"]);
            assert!(printed.success, "{printed:?}");
            assert!(printed.stdout.contains("version 1.1.0 is now withdrawn: CVE-2026-1"), "{printed:?}");
            world.module_when("mod", |m| ready(m) && m["metadata"]["generation"] == 2).await;
        })
        .await;
    let module = world.get_module("mod").await.unwrap();
    assert_eq!(entry(&module, "v1.1.0")["withdrawn"], "CVE-2026-1: use 1.2.0");
    assert_eq!(entry(&module, "v1.0.0"), &json!({"version": "v1.0.0"}));
    assert_eq!(writes.len(), 1, "the Module's status alone: {writes:#?}");
    assert_eq!(module["status"]["latestVersion"], "1.0.0", "1.1.0 is withdrawn");
    assert_eq!((world.versions().await.unwrap(), world.counts("mod")), (versions.clone(), counts));

    let again = opendepot(&kubeconfig, &["withdraw", "mod", "v1.1.0", "CVE-2026-1: use 1.2.0"]);
    assert!(again.success && again.stdout.contains("already"), "{again:?}");
    let removed = opendepot(&kubeconfig, &["withdraw", "-n", &world.name, "mod", "v1.1.0", ""]);
    assert!(removed.success && removed.stdout.contains("no longer withdrawn"), "{removed:?}");
    let deprecated = opendepot(&kubeconfig, &["deprecate", "mod", "1.0.0", "use 1.1"]);
    assert!(deprecated.success, "{deprecated:?}");
    let module = world.get_module("mod").await.unwrap();
    let expected =
        json!([{"version": "v0.9.0"}, {"version": "v1.0.0", "deprecated": "use 1.1"}, {"version": "v1.1.0"}]);
    assert_eq!(module["spec"]["versions"], expected);
    world.module_when("mod", |m| m["status"]["latestVersion"] == "1.1.0").await;
    world.quiet().await;
    assert_eq!((world.versions().await.unwrap(), world.counts("mod")), (versions, counts));
}

#[tokio::test]
async fn while_others_edit_the_list_each_notice_reaches_its_version() {
    let world = World::new("withdraw-races").await;
    // Fewer than the attempts of a command, each of which may meet a removal.
    let early: Vec<String> = (0..8).map(|n| format!("0.{n}.0")).collect();
    let named: Vec<String> = (0..4).map(|n| format!("1.{n}.0")).collect();
    let all: Vec<&str> = early.iter().chain(&named).map(String::as_str).collect();
    world.apply(&world.module("mod").versions(&all));
    let kubeconfig = world.bed.kubernetes.admin_kubeconfig();
    std::thread::scope(|scope| {
        for version in &named {
            let (kubeconfig, world) = (&kubeconfig, &world);
            scope.spawn(move || {
                let text = format!("because of {version}");
                let printed = opendepot(kubeconfig, &["withdraw", "-n", &world.name, "mod", version, &text]);
                assert!(printed.success, "{printed:?}");
            });
        }
        scope.spawn(|| {
            for _ in &early {
                let first = json!([{"op": "remove", "path": "/spec/versions/0"}]).to_string();
                world.kubectl(&["patch", "modules.opendepot.defdev.io/mod", "--type=json", "-p", &first]);
            }
        });
    });
    let module = world.get_module("mod").await.unwrap();
    let expected: Vec<Value> =
        named.iter().map(|v| json!({"version": v, "withdrawn": format!("because of {v}")})).collect();
    assert_eq!(module["spec"]["versions"], json!(expected));
}

#[tokio::test]
async fn a_failed_test_of_a_patch_differs_from_a_violation_of_the_schema() {
    let world = World::new("withdraw-failed-test").await;
    world.apply(&world.module("mod").versions(&["1.0.0"]));
    let api = world.api::<opendepot::api::Module>();
    for (operations, failed_test) in [
        (json!([{"op": "test", "path": "/spec/versions/0/version", "value": "1.1.0"}]), true),
        (json!([{"op": "test", "path": "/spec/versions/7/version", "value": "1.0.0"}]), true),
        (json!([{"op": "remove", "path": "/spec/versions/7"}]), true),
        (json!([{"op": "replace", "path": "/spec/versions/0/version", "value": "latest"}]), false),
        (json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": "1.0.0"}}]), false),
    ] {
        let patch = Patch::Json::<()>(serde_json::from_value(operations.clone()).unwrap());
        let error = api.patch("mod", &PatchParams::default(), &patch).await.unwrap_err();
        let kube::Error::Api(status) = error else { panic!("{error}") };
        assert_eq!(status.code, 422, "{status:?}");
        assert_eq!(is_failed_test(&status), failed_test, "{operations}: {status:?}");
    }
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let world = World::new("withdraw-errors").await;
    world.apply(&world.module("mod").versions(&["1.9.0", "1.10.0", "v2.0.0"]));
    let admin = world.bed.kubernetes.admin_kubeconfig();
    let fails = |kubeconfig: &PathBuf, args: &[&str], expected: &[&str]| {
        let printed = opendepot(kubeconfig, &[args, &["-n", &world.name]].concat());
        let all = expected.iter().all(|words| printed.stderr.contains(words));
        assert!(!printed.success && all, "{args:?}: {printed:?}");
    };
    fails(&admin, &["withdraw", "none", "1.0.0", "x"], &["no Module none", "-n"]);
    fails(
        &admin,
        &["withdraw", "mod", "1.10.1", "x"],
        &["does not list 1.10.1", "it lists 1.10.0, 1.9.0, v2.0.0"],
    );
    fails(&admin, &["withdraw", "mod", "1.10", "x"], &["write MAJOR.MINOR.PATCH"]);
    fails(&admin, &["withdraw", "mod", "1.10.0", " "], &["an empty text"]);
    fails(&admin, &["deprecate", "mod", "1.10.0", "a\nb"], &["one line"]);
    fails(&admin, &["deprecate", "mod", "1.10.0", &"ü".repeat(257)], &["at most 256 characters, not 257"]);
    world.kubectl(&["create", "serviceaccount", "reader"]);
    let reader = world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "reader").await.unwrap();
    fails(
        &reader,
        &["withdraw", "mod", "1.10.0", "x"],
        &["your user has no permission to get the Module mod"],
    );
    world.kubectl(&["create", "role", "reader", "--verb=get", "--resource=modules.opendepot.defdev.io"]);
    let account = format!("--serviceaccount={}:reader", world.name);
    world.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account]);
    crate::support::soon(|| async {
        let printed = opendepot(&reader, &["withdraw", "mod", "1.10.0", "x", "-n", &world.name]);
        anyhow::ensure!(printed.stderr.contains("has no permission to patch the Module mod"), "{printed:?}");
        Ok(())
    })
    .await;
    // 256 characters of any language, and the API server refuses what the command would not send.
    let longest = "ü".repeat(256);
    let printed = opendepot(&admin, &["deprecate", "mod", "1.10.0", &longest, "-n", &world.name]);
    assert!(printed.success, "{printed:?}");
    for wrong in ["a\nb".to_owned(), "a\u{85}b".to_owned(), "ü".repeat(257)] {
        let patch = json!({"spec": {"versions": [{"version": "1.10.0", "withdrawn": wrong}]}}).to_string();
        let object = "modules.opendepot.defdev.io/mod";
        let args = ["patch", object, "-n", &world.name, "--type=merge", "-p", &patch];
        let refused = world.bed.kubectl(&args).unwrap();
        assert!(!refused.success() && refused.stderr.contains("spec.versions[0].withdrawn"), "{refused:?}");
    }
    let module = world.get_module("mod").await.unwrap();
    assert_eq!(entry(&module, "1.10.0"), &json!({"version": "1.10.0", "deprecated": longest}));
}
