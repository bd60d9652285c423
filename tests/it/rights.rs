//! The shipped rights: an operator and a registry of one namespace need no others, and use each of them.

use std::collections::BTreeSet;

use opendepot_testbed::control_plane::AuditEntry;
use opendepot_testbed::github::File;
use opendepot_testbed::operator::{Operator, OperatorBuilder};
use serde_json::{Value, json};

use crate::support::registry::{Depot, archive};
use crate::support::rendered::{SYSTEM, arguments, arguments_of, find, kustomize, kustomize_yaml, parse};
use crate::support::{SOON, World, soon};

/// One thing that may be done: group, resource (with its subresource), verb.
type Right = (String, String, String);

/// What admission asks about, though it is never requested: see the end of the test.
const ONLY_ASKED_ABOUT: (&str, &str, &str) = ("opendepot.defdev.io", "modules/finalizers", "update");

fn right(group: &str, resource: &str, verb: &str) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// What the rules of a role allow.
fn allowed(role: &Value) -> BTreeSet<Right> {
    let texts = |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap() };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                all.extend(texts(&rule["verbs"]).iter().map(|verb| right(&group, &resource, verb)));
            }
        }
    }
    all
}

/// What a call took.
fn taken_by(call: &AuditEntry) -> Right {
    let subresource =
        if call.subresource.is_empty() { String::new() } else { format!("/{}", call.subresource) };
    right(&call.group, &format!("{}{subresource}", call.resource), &call.verb)
}

/// Waits until the API server knows that this account of the namespace may do this. It learns of roles by a
/// watch of its own.
async fn may(world: &World, account: &str, verb: &str, resource: &str) {
    let user = format!("--as=system:serviceaccount:{}:{account}", world.name);
    soon(|| async {
        let answer = world.bed.kubectl(&["auth", "can-i", verb, resource, "-n", &world.name, &user])?;
        anyhow::ensure!(answer.success(), "{account} may not {verb} {resource}: {}", answer.stderr);
        Ok(())
    })
    .await;
}

/// The operator of the overlay for one namespace, installed and started in this world's.
async fn installed(world: &World) -> Operator {
    let yaml = kustomize_yaml(world.bed, "deploy/overlays/one-namespace").replace(SYSTEM, &world.name);
    let applied = world.bed.kubectl_with(&["apply", "--server-side", "-f", "-"], &yaml).unwrap();
    assert!(applied.success(), "{}", applied.stderr);
    may(world, "opendepot", "list", "modules.opendepot.defdev.io").await;
    may(world, "opendepot", "create", "leases.coordination.k8s.io").await;
    let account =
        world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "opendepot").await.unwrap();
    let arguments = arguments(&parse(&yaml));
    // `run` comes from the testbed, and this machine has no such folder.
    let arguments = arguments.iter().filter(|a| *a != "run" && !a.starts_with("--spool-dir"));
    world.bed.operator().env("KUBECONFIG", account).args(arguments).start_ready().await.unwrap()
}

/// All that an operator does: publish, publicly and with a Secret, adopt, force, remove, and tell of it.
async fn everything(world: &World) {
    let tags = ["v1.0.0", "v1.1.0", "v1.2.0"];
    let repository = world.bed.github.repository(&world.repository("net")).unwrap();
    repository.releases(tags.map(|tag| (tag, vec![File::new("main.tf", format!("# {tag}\n"))]))).unwrap();
    let private = world.released("private").private(true);
    let token = world.bed.github.personal_token(&[&private.name()]).unwrap();
    world.secret("opendepot-github-application-secret", &[("githubToken", &token)]);

    let mut inline = world.inline_of("net-1.2.0", &world.module("net"));
    inline["spec"]["version"] = json!("1.2.0");
    inline["metadata"]["annotations"] = json!({"opendepot.defdev.io/adopt": "net"});
    world.apply(&inline);
    world.version_ready("net-1.2.0").await;
    world.apply(&world.module("net").versions(&tags));
    let secret = json!({"useAuthenticatedClient": true});
    world.apply(&world.module("private").config("githubClientConfig", secret).versions(&["v1.0.0"]));
    world.module_ready("net").await;
    world.module_ready("private").await;

    world.patch("module/net", &json!({"spec": {"forceSync": true}}));
    world.module_when("net", |m| m["spec"]["forceSync"] == false && m["status"]["synced"] == true).await;
    // Once more: a second Event about the same thing counts up the first.
    world.patch("version.opendepot.defdev.io/net-1.0.0", &json!({"spec": {"forceSync": true}}));
    world.version_when("net-1.0.0", |v| v["spec"]["forceSync"] == false).await;
    world.apply(&world.module("net").versions(&tags[..2]));
    world.versions_are(&["net-1.0.0", "net-1.1.0", "private-1.0.0"]).await;
}

#[tokio::test]
async fn an_operator_of_one_namespace_needs_only_its_role_and_uses_all_of_it() {
    let world = World::new("rights").await;
    let shipped = kustomize(world.bed, "deploy/base");
    let overlay = kustomize(world.bed, "deploy/overlays/one-namespace");
    let role = find(&overlay, "Role", "opendepot");
    assert_eq!(role["rules"], find(&shipped, "ClusterRole", "opendepot")["rules"]);
    assert!(
        overlay.iter().all(|o| !o["kind"].as_str().unwrap().starts_with("Cluster")),
        "no rights elsewhere"
    );
    let lease = find(&overlay, "Role", "opendepot-lease");
    assert_eq!(lease, find(&shipped, "Role", "opendepot-lease"));

    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    let operator = installed(&world).await;
    everything(&world).await;
    let account = format!("system:serviceaccount:{}:opendepot", world.name);
    let expected: BTreeSet<Right> = allowed(role).union(&allowed(lease)).cloned().collect();
    let asked_about = right(ONLY_ASKED_ABOUT.0, ONLY_ASKED_ABOUT.1, ONLY_ASKED_ABOUT.2);
    let requested: BTreeSet<Right> = expected.iter().filter(|r| **r != asked_about).cloned().collect();
    // Events are written when there is time for them.
    soon(|| async {
        let calls = audit.since(mark, &world.client).await?;
        let calls: Vec<_> = calls.iter().filter(|c| c.user == account && !c.resource.is_empty()).collect();
        let refused: Vec<_> = calls.iter().filter(|c| matches!(c.code, 401 | 403)).collect();
        assert!(refused.is_empty(), "{refused:?}");
        let used: BTreeSet<Right> = calls.into_iter().map(taken_by).collect();
        assert!(used.is_subset(&requested), "used, and not shipped: {:?}", used.difference(&requested));
        let unused: Vec<_> = requested.difference(&used).collect();
        anyhow::ensure!(unused.is_empty(), "shipped, and never used: {unused:?}");
        Ok(())
    })
    .await;
    assert_eq!(operator.terminate(SOON).await.unwrap(), 0);
    owned_versions_need_the_right_that_is_only_asked_about(&world, role).await;
}

/// A Version whose owner is a Module is made only by who may update that Module's finalizers.
async fn owned_versions_need_the_right_that_is_only_asked_about(world: &World, role: &Value) {
    let module = world.get_module("net").await.unwrap();
    let mut version = world.inline("owned");
    version["metadata"]["ownerReferences"] = json!([{
        "apiVersion": module["apiVersion"], "kind": "Module", "name": "net", "uid": module["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let user = format!("--as=system:serviceaccount:{}:opendepot", world.name);
    let create = || {
        world
            .bed
            .kubectl_with(&["create", &user, "--dry-run=server", "-f", "-"], &version.to_string())
            .unwrap()
    };
    let made = create();
    assert!(made.success(), "{}", made.stderr);
    let rules: Vec<_> = role["rules"].as_array().unwrap().iter().collect();
    let without: Vec<_> =
        rules.into_iter().filter(|r| r["resources"] != json!([ONLY_ASKED_ABOUT.1])).collect();
    let patch = json!({"rules": without}).to_string();
    world.kubectl(&["patch", "role", "opendepot", "--type=merge", "-p", &patch]);
    // The API server learns of it by a watch of its own.
    soon(|| async {
        let refused = create().stderr;
        anyhow::ensure!(refused.contains("cannot set blockOwnerDeletion"), "{refused}");
        Ok(())
    })
    .await;
}

/// The registry of the overlay for one namespace, installed in this world's, with the flags of its Deployment.
async fn registry_installed(depot: &Depot) -> OperatorBuilder {
    let world = &depot.world;
    let yaml =
        kustomize_yaml(world.bed, "deploy/overlays/registry-one-namespace").replace(SYSTEM, &world.name);
    // The binding for reviews is for the whole cluster: other tests have theirs.
    let yaml = yaml.replace("opendepot-registry-auth-delegator", &format!("{}-auth-delegator", world.name));
    let applied = world.bed.kubectl_with(&["apply", "--server-side", "-f", "-"], &yaml).unwrap();
    assert!(applied.success(), "{}", applied.stderr);
    may(world, "opendepot-registry", "list", "modules.opendepot.defdev.io").await;
    may(world, "opendepot-registry", "create", "tokenreviews.authentication.k8s.io").await;
    let plane = &world.bed.kubernetes;
    let account = plane.kubeconfig_for_service_account(&world.name, "opendepot-registry").await.unwrap();
    let deployment = find(&parse(&yaml), "Deployment", "opendepot-registry").clone();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let arguments = arguments_of(container, &world.name);
    let here = |argument: &String| {
        let mounted =
            [("/tls/tls.crt", "tls.crt"), ("/tls/tls.key", "tls.key"), ("/link-key/key", "link.key")];
        mounted.iter().fold(argument.clone(), |argument, (path, file)| {
            argument.replace(path, depot.file(file).to_str().unwrap())
        })
    };
    // `serve` comes from the testbed, and the ConfigMap has what the kustomization leaves open.
    let arguments = arguments.iter().filter(|argument| *argument != "serve").map(here);
    let settings =
        [("AUDIENCE", "registry.test"), ("ALLOW_STORAGE", "*=*"), ("ANONYMOUS", "true"), ("DRAIN", "0s")];
    let builder = world.bed.registry().env("KUBECONFIG", account).args(arguments);
    settings.iter().fold(builder, |b, (name, value)| b.env(format!("OPENDEPOT_{name}"), *value))
}

#[tokio::test]
async fn a_registry_of_one_namespace_needs_only_its_role_and_uses_all_of_it() {
    let depot = Depot::new("rights-registry").await;
    let world = &depot.world;
    let shipped = kustomize(world.bed, "deploy/registry");
    let overlay = kustomize(world.bed, "deploy/overlays/registry-one-namespace");
    let role = find(&overlay, "Role", "opendepot-registry");
    assert_eq!(role["rules"], find(&shipped, "ClusterRole", "opendepot-registry")["rules"]);
    let reviews = world.kubectl(&["get", "clusterrole", "system:auth-delegator", "-o", "json"]);
    let reviews: Value = serde_json::from_str(&reviews).unwrap();
    let expected: BTreeSet<Right> = allowed(role).union(&allowed(&reviews)).cloned().collect();

    depot.publish("net", &[("1.0.0", archive("# net\n", 0))]).await;
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    let installed = registry_installed(&depot).await;
    let registry = installed.clone().start_ready().await.unwrap();
    let base = format!("https://{}", registry.registry_address());
    let url = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    assert_eq!(depot.get(&url, &[]).await.unwrap().status, 200);
    world.kubectl(&["create", "serviceaccount", "ci"]);
    let token = format!("Bearer {}", world.token("registry.test", "ci"));
    let with_token = [("authorization", token.as_str())];
    // What is published later comes by the watch. A public module is open to every identity.
    depot.publish("vpc", &[("1.0.0", archive("# vpc\n", 0))]).await;
    for name in ["net", "vpc"] {
        let path = format!("{base}/v1/modules/{}/{name}/aws/versions", world.name);
        soon(|| async {
            let status = depot.get(&path, &with_token).await?.status;
            anyhow::ensure!(status == 200, "{status} for {name}");
            Ok(())
        })
        .await;
    }
    assert_eq!(registry.terminate(SOON).await.unwrap(), 0);

    let account = format!("system:serviceaccount:{}:opendepot-registry", world.name);
    let calls = audit.since(mark, &world.client).await.unwrap();
    let calls: Vec<_> = calls.iter().filter(|call| call.user == account).collect();
    let refused: Vec<_> = calls.iter().filter(|call| matches!(call.code, 401 | 403)).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let elsewhere: Vec<_> = calls
        .iter()
        .filter(|call| !call.resource.ends_with("reviews") && call.namespace != world.name)
        .collect();
    assert!(elsewhere.is_empty(), "only reviews are for the whole cluster: {elsewhere:?}");
    let used: BTreeSet<Right> = calls.into_iter().map(taken_by).collect();
    assert_eq!(used, expected, "what is used, and what is granted");

    // A namespace in which it has no Role, such as one that its owner deleted, does not keep the others from being served.
    let registry = installed.args(["--namespace=kube-public"]).start_ready().await.unwrap();
    let url = format!("https://{}/v1/modules/{}/net/aws/versions", registry.registry_address(), world.name);
    assert_eq!(depot.get(&url, &[]).await.unwrap().status, 200);
    let metrics = registry.metrics().await.unwrap();
    let mut lines = metrics.lines();
    let age = lines.find_map(|line| line.strip_prefix("opendepot_registry_watch_age_seconds ")).unwrap();
    assert!(age.parse::<f64>().unwrap() > 0.0, "{age}");
}
