//! What is shipped to install the operator: the kustomizations and the chart say the same, the API server accepts them,
//! and the operator understands what they start it with.

use clap::Parser as _;
use opendepot::cli::{Cli, Command, Run};
use serde_json::{Value, json};

use crate::support::rendered::{
    SYSTEM, arguments, chart, chart_yaml, comparable, find, helm, kustomize, kustomize_yaml, parse,
};
use crate::support::{World, root, testbed};

/// The kustomizations that can be applied as they are.
const KUSTOMIZATIONS: [&str; 5] =
    ["crds", "deploy/base", "deploy/overlays/one-namespace", "deploy/overlays/irsa", "deploy/user-roles"];

/// What the chart repeats: a package of it has only its own folder, and Flux follows no links out of it.
const COPIES: [(&str, &str); 3] = [
    ("crds/modules.yaml", "crds/modules.yaml"),
    ("crds/versions.yaml", "crds/versions.yaml"),
    ("deploy/monitoring/alerts.yaml", "alerts.yaml"),
];

/// Values that leave no part of the chart out.
fn everything(namespace: &str) -> Value {
    json!({
        "replicas": 3,
        "image": {"digest": format!("sha256:{}", "0".repeat(64))},
        "imagePullSecrets": [{"name": "registry"}],
        "namespaces": [namespace, SYSTEM, namespace],
        "allowStorage": [format!("{namespace}=modules/team"), "*=shared"],
        "s3Endpoints": ["https://minio.example.com:9000"],
        "githubHosts": ["ghes.example.com:8443"],
        "maxFetches": 8,
        "verifyInterval": "12h30m",
        "logFormat": "text",
        "logLevel": "info,opendepot=debug",
        "extraArgs": ["--max-archive-size=1GiB"],
        "caFile": {"configMap": "roots"},
        "httpsProxy": "http://proxy.example.com:3128",
        "noProxy": ".cluster.local",
        "extraEnv": [{"name": "AWS_REGION", "value": "us-west-2"}],
        "secretNames": ["opendepot-github-application-secret"],
        "userRoles": true,
        "podSecurityContext": {"runAsUser": 1000, "supplementalGroups": [2000]},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/opendepot"}},
        "podAnnotations": {"team": "platform"},
        "podLabels": {"team": "platform"},
        "nodeSelector": {"kubernetes.io/arch": "arm64"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "podDisruptionBudget": {"minAvailable": "50%"},
        "networkPolicy": {"apiServerPorts": [6443, 16443], "extraEgress": [{"ports": [{"port": 5353}]}]},
        "serviceMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": true, "labels": {"release": "prometheus"}},
    })
}

fn parsed(arguments: &[String]) -> Run {
    let all = std::iter::once("opendepot").chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(all) {
        Ok(Cli { command: Command::Run(run) }) => *run,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[tokio::test]
async fn the_chart_gives_the_same_objects_as_the_kustomizations() {
    let bed = testbed().await;
    let mut kustomized = kustomize(bed, "deploy/base");
    kustomized.extend(kustomize(bed, "crds"));
    let (kustomized, charted) = (comparable(kustomized), comparable(chart(&json!({}))));
    for (left, right) in kustomized.iter().zip(&charted) {
        assert_eq!(left, right, "{} {}", left["kind"], left["metadata"]["name"]);
    }
    assert_eq!(kustomized.len(), charted.len());

    // The rights are the same where they are Roles, and the CRDs stay when the release goes.
    let in_teams = chart(&json!({"namespaces": ["team-a", "team-b"]}));
    let rules = &find(&kustomized, "ClusterRole", "opendepot")["rules"];
    let named =
        |kind| in_teams.iter().filter(move |o| o["kind"] == kind && o["metadata"]["name"] == "opendepot");
    assert_eq!(named("Role").filter(|role| role["rules"] == *rules).count(), 2);
    assert_eq!((named("ClusterRole").count(), named("RoleBinding").count()), (0, 2));
    let crds: Vec<_> = in_teams.iter().filter(|o| o["kind"] == "CustomResourceDefinition").collect();
    assert_eq!(crds.len(), 2);
    assert!(crds.iter().all(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
    let none = chart(&json!({"crds": {"install": false}}));
    assert!(none.iter().all(|o| o["kind"] != "CustomResourceDefinition"));
}

#[test]
fn a_packaged_chart_has_all_that_it_needs() {
    for (of, copy) in COPIES {
        let copy = root().join("deploy/helm/opendepot/files").join(copy);
        let original = std::fs::read_to_string(root().join(of)).unwrap();
        if std::env::var_os("UPDATE_GENERATED").is_some() && copy.ends_with("alerts.yaml") {
            std::fs::write(&copy, &original).unwrap();
        }
        let kept = std::fs::read_to_string(&copy).unwrap_or_default();
        assert!(kept == original, "{of} changed: run UPDATE_GENERATED=1 cargo test --test it -- crds deploy");
        assert!(!std::fs::symlink_metadata(&copy).unwrap().is_symlink());
    }
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().to_str().unwrap();
    let packaged =
        helm("/dev/null".as_ref(), &["package", "deploy/helm/opendepot", "-d", into], &json!(null));
    assert!(packaged.success(), "{}", packaged.stderr);
    let package = folder.path().join(format!("opendepot-{}.tgz", env!("CARGO_PKG_VERSION")));
    let args = ["template", "opendepot", package.to_str().unwrap(), "-n", SYSTEM, "-f", "-"];
    let values = json!({"prometheusRule": {"enabled": true}, "enabled": true});
    let rendered = helm("/dev/null".as_ref(), &args, &values);
    assert!(rendered.success(), "{}", rendered.stderr);
    let objects = parse(&rendered.stdout);
    assert_eq!(objects.iter().filter(|o| o["kind"] == "CustomResourceDefinition").count(), 2);
    let rules = parse(&std::fs::read_to_string(root().join("deploy/monitoring/alerts.yaml")).unwrap());
    assert_eq!(find(&objects, "PrometheusRule", "opendepot")["spec"], rules[0]);
}

#[tokio::test]
async fn users_get_their_rights_from_the_chart_as_from_the_kustomization() {
    let kustomized = comparable(kustomize(testbed().await, "deploy/user-roles"));
    let charted = comparable(chart(&json!({"userRoles": true})));
    let roles: Vec<_> = charted.iter().filter(|o| o["metadata"]["name"] != "opendepot").collect();
    let roles: Vec<_> = roles.into_iter().filter(|o| o["kind"] == "ClusterRole").collect();
    assert_eq!(roles, kustomized.iter().collect::<Vec<_>>());
    assert_eq!(roles.len(), 2);
}

#[test]
fn the_network_policy_lets_out_to_what_other_values_name() {
    let ports = |values: &Value| {
        let policy = find(&chart(values), "NetworkPolicy", "opendepot").clone();
        let ports: Vec<_> = policy["spec"]["egress"][1]["ports"].as_array().unwrap().clone();
        ports.iter().map(|port| port["port"].as_f64().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&json!({})), ["443", "6443"]);
    assert_eq!(ports(&everything("team-a")), ["443", "6443", "16443", "9000", "8443", "3128"]);
    let plain = json!({
        "s3Endpoints": ["http://minio.example.com", "https://s3.example.com"],
        "githubHosts": ["ghes.example.com"],
        "networkPolicy": {"apiServerPorts": []},
    });
    assert_eq!(ports(&plain), ["443", "80"]);
}

#[test]
fn the_chart_lets_the_platform_choose_users_and_names_secrets() {
    let chosen = json!({"runAsUser": null, "runAsGroup": null, "fsGroup": null});
    let objects = chart(&json!({"podSecurityContext": chosen, "secretNames": ["app"]}));
    let context = |objects: &[Value]| {
        find(objects, "Deployment", "opendepot")["spec"]["template"]["spec"]["securityContext"].clone()
    };
    let kept = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(context(&objects), kept);
    let rules = &find(&objects, "ClusterRole", "opendepot")["rules"];
    let secrets =
        rules.as_array().unwrap().iter().find(|rule| rule["resources"] == json!(["secrets"])).unwrap();
    assert_eq!((&secrets["resourceNames"], &secrets["verbs"]), (&json!(["app"]), &json!(["get"])));
}

#[tokio::test]
async fn the_api_server_accepts_all_of_it_without_a_warning_not_even_about_pods_that_may_too_much() {
    let world = World::new("deploy").await;
    let restricted =
        ["label", "--overwrite", "namespace", SYSTEM, "pod-security.kubernetes.io/warn=restricted"];
    world.bed.kubectl(&restricted).unwrap().ok().unwrap();
    let mut all = KUSTOMIZATIONS.map(|folder| (folder, kustomize_yaml(world.bed, folder))).to_vec();
    all.push(("the chart", chart_yaml(&everything(&world.name))));
    for (what, yaml) in all {
        // Nothing here knows the Prometheus operator's kinds.
        let known = |o: &&str| !o.contains("kind: ServiceMonitor") && !o.contains("kind: PrometheusRule");
        let known: Vec<_> = yaml.split("\n---\n").filter(known).collect();
        let strict = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
        let args = [&strict[..], &["--warnings-as-errors", "-f", "-"]].concat();
        let applied = world.bed.kubectl_with(&args, &known.join("\n---\n")).unwrap();
        assert!(applied.success(), "{what}: {}", applied.stderr);
    }
}

#[tokio::test]
async fn the_operator_understands_what_it_is_started_with() {
    let bed = testbed().await;
    for folder in ["deploy/base", "deploy/overlays/irsa"] {
        let run = parsed(&arguments(&kustomize(bed, folder)));
        assert_eq!(run.spool_dir.as_deref(), Some("/spool".as_ref()));
        assert!(run.namespaces.is_empty() && run.leader_elect);
    }
    let run = parsed(&arguments(&kustomize(bed, "deploy/overlays/one-namespace")));
    assert_eq!(run.namespaces, [SYSTEM]);

    let objects = chart(&everything("team-a"));
    let run = parsed(&arguments(&objects));
    assert_eq!(run.namespaces, ["team-a", SYSTEM]);
    assert_eq!(run.allow_storage.len(), 2);
    assert_eq!(run.s3_endpoint.len(), 1);
    assert_eq!(run.github_host, ["ghes.example.com:8443"]);
    assert_eq!((run.max_fetches, run.max_archive_size), (8, 1 << 30));
    assert_eq!(run.verify_interval.as_secs(), 12 * 3600 + 1800);
    assert_eq!(run.log_level, "info,opendepot=debug");
    let pod = &find(&objects, "Deployment", "opendepot")["spec"]["template"]["spec"];
    let ca = run.ca_file.unwrap();
    assert_eq!(ca.parent().unwrap().to_str(), pod["containers"][0]["volumeMounts"][1]["mountPath"].as_str());

    // A release of another name has a Lease of its own, and the right to it.
    let objects = chart(&json!({"fullnameOverride": "second"}));
    let deployment = find(&objects, "Deployment", "second");
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(parsed(&serde_json::from_value::<Vec<_>>(arguments.clone()).unwrap()).lease_name, "second");
    assert_eq!(find(&objects, "Role", "second-lease")["rules"][1]["resourceNames"], json!(["second"]));
}

#[test]
fn the_chart_refuses_values_that_cannot_work() {
    for (values, expected) in [
        (json!({"replica": 1}), "'replica' not allowed"),
        (json!({"replicas": -1}), "/replicas"),
        (json!({"namespaces": ["Team_A"]}), "/namespaces/0"),
        (json!({"namespaces": "team-a"}), "/namespaces"),
        (json!({"allowStorage": ["modules"]}), "/allowStorage/0"),
        (json!({"s3Endpoints": ["minio:9000"]}), "/s3Endpoints/0"),
        (json!({"githubHosts": ["https://ghes.example.com"]}), "/githubHosts/0"),
        (json!({"maxFetches": 0}), "/maxFetches"),
        (json!({"verifyInterval": "24"}), "/verifyInterval"),
        (json!({"logFormat": "xml"}), "/logFormat"),
        (json!({"extraArgs": ["max-fetches=8"]}), "/extraArgs/0"),
        (json!({"caFile": {"configMap": "a", "secret": "b"}}), "/caFile"),
        (json!({"image": {"digest": "sha256:1"}}), "/image/digest"),
        (json!({"extraEnv": [{"value": "x"}]}), "/extraEnv/0"),
        (json!({"resources": {"limits": {"memory": "lots"}}}), "/resources/limits/memory"),
        (json!({"serviceAccount": {"create": false}}), "/serviceAccount/name"),
        (json!({"networkPolicy": {"apiServerPorts": ["https"]}}), "/networkPolicy/apiServerPorts/0"),
        (json!({"podDisruptionBudget": {"minAvailable": "half"}}), "/podDisruptionBudget/minAvailable"),
    ] {
        let args = ["template", "opendepot", "deploy/helm/opendepot", "-f", "-"];
        let refused = helm("/dev/null".as_ref(), &args, &values);
        assert!(!refused.success() && refused.stderr.contains(expected), "{values}: {}", refused.stderr);
    }
    let linted = helm("/dev/null".as_ref(), &["lint", "--strict", "deploy/helm/opendepot"], &json!({}));
    assert!(linted.success(), "{}", linted.stdout);
}

#[tokio::test]
async fn what_is_installed_is_of_this_release() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("ghcr.io/opendepot/opendepot:{version}");
    let deployed = kustomize(testbed().await, "deploy/base");
    let pod = &find(&deployed, "Deployment", "opendepot")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], image);
    let chart = std::fs::read_to_string(root().join("deploy/helm/opendepot/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&chart).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));

    // The spool holds the worst that the defaults let in: of each fetch the archive, its files, and what is made of them.
    let run = parsed(&["run".to_owned()]);
    let worst = u64::from(run.max_fetches) * (run.max_archive_size + 2 * run.max_unpacked_size);
    assert_eq!(pod["volumes"][0]["emptyDir"]["sizeLimit"], "20Gi");
    assert!(worst <= 20 << 30, "{worst}");
}
