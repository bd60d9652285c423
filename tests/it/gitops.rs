//! Flux and Argo CD, played on the real API server: what they write at a reconcile removes no version that was appended.
//!
//! Both are played as their sources have it. Flux (fluxcd/pkg `ssa`): before it applies, it merges the entries in
//! `managedFields` of every manager whose name begins with `kubectl` into its own, unless the object is annotated
//! `ssa: Merge`. Argo CD (gitops-engine `sync`): it applies as its sync options say, with fields that are to be ignored
//! taken from the object as it was when it was compared.

use opendepot_testbed::markdown::{Block, blocks};
use serde_json::{Value, json};

use crate::support::rendered::parse;
use crate::support::{World, root, soon};
use crate::workflows::{ACTION, APPEND, PUBLISH, Stage};

const FLUX: &str = "kustomize-controller";
const MERGE: &str = "kustomize.toolkit.fluxcd.io/ssa";

/// A document of an example.
fn example(file: &str, kind: &str) -> Value {
    let documents = parse(&std::fs::read_to_string(root().join("examples").join(file)).unwrap());
    documents.into_iter().find(|document| document["kind"] == kind).unwrap()
}

/// The Module of an example as it is in Git, for what the release workflows publish here.
fn module_in_git(file: &str, world: &World) -> Value {
    let mut module = example(file, "Module");
    assert!(module["spec"]["versions"].is_null(), "{file}: Git leaves the list to release workflows");
    module["metadata"]["name"] = json!("my-module");
    module["metadata"]["namespace"] = json!(world.name);
    module["spec"]["moduleConfig"] = json!({
        "name": "my-module", "provider": "aws", "repoOwner": world.name, "fileFormat": "zip",
        "repoUrl": format!("https://github.com/{}/terraform-aws-my-module", world.name),
        "storageConfig": {"s3": {"bucket": world.name, "region": "us-west-2"}},
    });
    module
}

fn run(world: &World, args: &[&str], input: &Value) {
    let output = world.bed.kubectl_with(&[&["-n", &world.name], args].concat(), &input.to_string()).unwrap();
    assert!(output.success(), "{args:?}: {}", output.stderr);
}

/// What is below `b` is put into `a`.
fn merge(a: &mut Value, b: &Value) {
    for (key, value) in b.as_object().unwrap() {
        merge(&mut a[key], value);
        if a[key].is_null() {
            a[key] = json!({});
        }
    }
}

/// One reconcile of Flux with this Module in Git.
async fn flux(world: &World, git: &Value) {
    let live = world.get_module("my-module").await.unwrap_or_default();
    let merges = |object: &Value| object["metadata"]["annotations"][MERGE] == "Merge";
    if live.is_object() && !merges(git) && !merges(&live) {
        let entries = live["metadata"]["managedFields"].as_array().unwrap();
        let own = |e: &Value| e["manager"] == FLUX && e["operation"] == "Apply";
        let taken =
            |e: &Value| e["manager"].as_str().unwrap().starts_with("kubectl") && e["subresource"].is_null();
        let mut mine = entries.iter().find(|e| own(e)).unwrap().clone();
        entries.iter().filter(|e| taken(e)).for_each(|e| merge(&mut mine["fieldsV1"], &e["fieldsV1"]));
        let mut rest: Vec<Value> = entries.iter().filter(|e| !own(e) && !taken(e)).cloned().collect();
        rest.push(mine);
        let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": rest}]).to_string();
        let manager = format!("--field-manager={FLUX}");
        world.kubectl(&[
            "patch",
            "modules.opendepot.defdev.io",
            "my-module",
            &manager,
            "--type=json",
            "-p",
            &patch,
        ]);
    }
    let manager = format!("--field-manager={FLUX}");
    run(world, &["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"], git);
}

/// One sync of Argo CD, which compared when the Module was as `seen`.
async fn argo_cd(world: &World, application: &Value, git: &Value, seen: &Value) {
    let options = &application["spec"]["syncPolicy"]["syncOptions"];
    let set = |option: &str| options.as_array().unwrap().iter().any(|o| o == option);
    let mut target = git.clone();
    if set("RespectIgnoreDifferences=true") {
        for ignored in application["spec"]["ignoreDifferences"].as_array().into_iter().flatten() {
            for pointer in ignored["jsonPointers"].as_array().into_iter().flatten() {
                if pointer == "/spec/versions" {
                    target["spec"]["versions"] = seen["spec"]["versions"].clone();
                }
            }
        }
    }
    if !set("ServerSideApply=true") {
        run(world, &["apply", "--field-manager=argocd-controller", "-f", "-"], &target);
        return;
    }
    let live = world.get_module("my-module").await.unwrap();
    let applied = live["metadata"]["managedFields"].as_array().unwrap().iter();
    if !set("ClientSideApplyMigration=false")
        && applied.clone().any(|e| e["manager"] == "kubectl-client-side-apply")
    {
        run(world, &["apply", "-f", "-"], &target);
    }
    let apply =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-"];
    run(world, &apply, &target);
}

/// The command of a page that appends a version, for the Module here.
fn command(page: &str, world: &World, version: &str) -> String {
    let all = blocks(&root().join(page)).unwrap();
    let mut commands = all.iter().flat_map(Block::commands);
    let command =
        commands.find(|command| command.contains("/spec/versions/-") && !command.contains('…')).unwrap();
    let (before, value) = command.split_once("\"version\":\"").unwrap();
    let after = &value[value.find('"').unwrap()..];
    format!("{before}\"version\":\"{version}{after}")
        .replace("opendepot-system", &world.name)
        .replace("terraform-aws-eks", "my-module")
}

/// The seed's own way: kubectl's own name for the manager of a patch.
fn append_plainly(world: &World, version: &str) {
    let patch = json!([{"op": "add", "path": "/spec/versions/-", "value": {"version": version}}]);
    world.kubectl(&["patch", "module", "my-module", "--type=json", "-p", &patch.to_string()]);
}

#[tokio::test]
async fn flux_keeps_what_every_shipped_way_appended() {
    let tags = ["v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0"];
    let stage = Stage::new("flux", &tags).await;
    let world = &stage.world;
    let shipped = module_in_git("flux.yaml", world);
    // The name of the manager has to be enough: users copy the commands, and write Modules of their own.
    let mut bare = shipped.clone();
    bare["metadata"].as_object_mut().unwrap().remove("annotations");
    flux(world, &bare).await;
    stage.published(PUBLISH, "v1.0.0");
    stage.published(APPEND, "v1.1.0");
    stage.published(ACTION, "v1.2.0");
    world.shell(&command("README.md", world, "v1.3.0"));
    world.shell(&command("docs/publishing.md", world, "v1.4.0"));
    for _ in 0..2 {
        flux(world, &bare).await;
        assert_eq!(stage.listed().await, tags[..5]);
    }
    world.module_ready("my-module").await;
    let keys = world.objects_are(5).await;

    // This is what the name guards against; the annotation of the example guards against it too.
    append_plainly(world, "v1.5.0");
    world.version_ready("my-module-1.5.0").await;
    flux(world, &bare).await;
    assert_eq!(stage.listed().await, tags[..5]);
    flux(world, &shipped).await;
    append_plainly(world, "v1.5.0");
    flux(world, &shipped).await;
    assert_eq!(stage.listed().await, tags);
    soon(|| async {
        world.module_ready("my-module").await;
        let now = world.bed.s3.keys(&world.name).await?;
        anyhow::ensure!(now.len() == 6 && keys.iter().all(|key| now.contains(key)), "{now:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn argo_cd_writes_no_stale_list_back() {
    let world = World::new("argo-cd").await;
    let (application, git) = (example("argocd.yaml", "Application"), module_in_git("argocd.yaml", &world));
    let stale = world.module("none").0["spec"].clone();
    let listed = async || {
        let module = world.get_module("my-module").await.unwrap();
        let versions = module["spec"]["versions"].as_array().unwrap().clone();
        versions.iter().map(|v| v["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    run(&world, &["apply", "--server-side", "--field-manager=argocd-controller", "-f", "-"], &git);
    let seen = world.get_module("my-module").await.unwrap();
    assert_eq!((&seen["spec"]["versions"], &stale["versions"]), (&json!([]), &json!([])));
    world.shell(&command("README.md", &world, "1.0.0"));
    append_plainly(&world, "2.0.0");
    for _ in 0..2 {
        argo_cd(&world, &application, &git, &seen).await;
        assert_eq!(listed().await, ["1.0.0", "2.0.0"]);
    }
    // What is removed stays removed, whatever was seen before.
    let seen = world.get_module("my-module").await.unwrap();
    world.patch(
        "modules.opendepot.defdev.io/my-module",
        &json!({"spec": {"versions": [{"version": "1.0.0"}]}}),
    );
    argo_cd(&world, &application, &git, &seen).await;
    assert_eq!(listed().await, ["1.0.0"]);

    // This is what it guards against.
    let mut unsafe_ = application.clone();
    unsafe_["spec"]["syncPolicy"]["syncOptions"] = json!(["RespectIgnoreDifferences=true"]);
    unsafe_["spec"]["ignoreDifferences"] = json!([{"jsonPointers": ["/spec/versions"]}]);
    let seen = world.get_module("my-module").await.unwrap();
    world.shell(&command("README.md", &world, "3.0.0"));
    argo_cd(&world, &unsafe_, &git, &seen).await;
    assert_eq!(listed().await, ["1.0.0"], "3.0.0 was appended after Argo CD had looked");
}

#[tokio::test]
async fn a_module_that_kubectl_applied_is_handed_to_argo_cd_as_the_example_says() {
    let world = World::new("handed").await;
    let (application, git) = (example("argocd.yaml", "Application"), module_in_git("argocd.yaml", &world));
    let mut by_hand = git.clone();
    by_hand["spec"]["versions"] = json!([{"version": "1.0.0"}, {"version": "1.1.0"}]);
    let count =
        async || world.get_module("my-module").await.unwrap()["spec"]["versions"].as_array().unwrap().len();
    let text = std::fs::read_to_string(root().join("examples/argocd.yaml")).unwrap();
    let lines: Vec<_> =
        text.lines().skip_while(|line| !line.starts_with("#   kubectl annotate")).take(2).collect();
    let hand_over = lines.join("\n").replace('#', "").replace("opendepot-system", &world.name);
    let hand_over = hand_over.replace("terraform-aws-network", "my-module");
    for manager in ["kubectl-client-side-apply", "opendepot-release"] {
        let manager = format!("--field-manager={manager}");
        run(&world, &["apply", &manager, "-f", "-"], &by_hand);
        let seen = world.get_module("my-module").await.unwrap();
        argo_cd(&world, &application, &git, &seen).await;
        assert_eq!(count().await, 0, "{manager}: this is what the command guards against");
        world.kubectl(&["delete", "modules.opendepot.defdev.io", "my-module"]);

        run(&world, &["apply", &manager, "-f", "-"], &by_hand);
        world.shell(hand_over.trim());
        for _ in 0..2 {
            argo_cd(&world, &application, &git, &seen).await;
            assert_eq!(count().await, 2, "{manager}");
        }
        world.kubectl(&["delete", "modules.opendepot.defdev.io", "my-module"]);
    }
}
