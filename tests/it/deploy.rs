//! What is shipped to install the operator: the kustomizations and the chart say the same, the API server accepts them,
//! and the operator understands what they start it with.

use std::path::Path;

use clap::Parser as _;
use opendepot::cli::{Cli, Command, Run};
use opendepot_testbed::servers;
use serde_json::{Value, json};

use crate::support::generated::updates;
use crate::support::rendered::{
    SYSTEM, arguments, arguments_of, chart, chart_yaml, comparable, find, helm, kustomize, kustomize_yaml,
    parse,
};
use crate::support::{World, root, testbed};

/// The kustomizations that can be applied as they are.
const KUSTOMIZATIONS: [&str; 10] = [
    "crds",
    "deploy/base",
    "deploy/overlays/image",
    "deploy/overlays/one-namespace",
    "deploy/overlays/irsa",
    "deploy/overlays/openshift",
    "deploy/overlays/registry",
    "deploy/overlays/registry-one-namespace",
    "deploy/registry",
    "deploy/user-roles",
];

/// What the chart repeats: a package of it has only its own folder, and Flux follows no links out of it.
const COPIES: [(&str, &str); 5] = [
    ("crds/modules.yaml", "crds/modules.yaml"),
    ("crds/versions.yaml", "crds/versions.yaml"),
    ("deploy/monitoring/alerts.yaml", "alerts.yaml"),
    ("deploy/monitoring/dashboard.json", "dashboards/opendepot.json"),
    ("deploy/monitoring/dashboard-registry.json", "dashboards/opendepot-registry.json"),
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
        "registry": crate::deploy_registry::everything(namespace),
    })
}

fn parsed(arguments: &[String]) -> Run {
    let all = std::iter::once("opendepot").chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(all) {
        Ok(Cli { command: Command::Run(run) }) => *run,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// What the chart also sets, as the API server would: a server-side apply removes only what it has set.
pub(crate) fn with_strategies(mut kustomized: Vec<Value>) -> Vec<Value> {
    for object in &mut kustomized {
        if object["kind"] == "Deployment" && object["spec"]["strategy"].is_null() {
            object["spec"]["strategy"] =
                json!({"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
        }
    }
    kustomized
}

#[tokio::test]
async fn the_chart_gives_the_same_objects_as_the_kustomizations() {
    let bed = testbed().await;
    let mut kustomized = kustomize(bed, "deploy/base");
    kustomized.extend(kustomize(bed, "crds"));
    let without_registry = chart(&json!({}));
    assert_eq!(without_registry.len(), kustomized.len(), "the registry is installed on request only");
    kustomized.extend(kustomize(bed, "deploy/registry"));
    let mut charted = chart(&json!({"registry": crate::deploy_registry::required()}));
    crate::deploy_registry::without_settings(&mut kustomized, &mut charted);
    let (kustomized, charted) = (comparable(with_strategies(kustomized)), comparable(charted));
    for (left, right) in kustomized.iter().zip(&charted) {
        assert_eq!(left, right, "{} {}", left["kind"], left["metadata"]["name"]);
    }
    assert_eq!(kustomized.len(), charted.len());

    // The rights are the same where they are Roles, and the CRDs stay when the release is removed.
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
        if updates() && !copy.ends_with(of) {
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
    let values = json!({"prometheusRule": {"enabled": true}, "dashboards": {"enabled": true}, "enabled": true, "skipMissingKinds": false});
    let rendered = helm("/dev/null".as_ref(), &args, &values);
    assert!(rendered.success(), "{}", rendered.stderr);
    let objects = parse(&rendered.stdout);
    assert_eq!(objects.iter().filter(|o| o["kind"] == "CustomResourceDefinition").count(), 2);
    let rules = parse(&std::fs::read_to_string(root().join("deploy/monitoring/alerts.yaml")).unwrap());
    assert_eq!(find(&objects, "PrometheusRule", "opendepot")["spec"], rules[0]);
    let shipped = &find(&objects, "ConfigMap", "opendepot-dashboards")["data"];
    for (original, copy) in &COPIES[3..] {
        let dashboard = std::fs::read_to_string(root().join(original)).unwrap();
        let shipped = &shipped[copy.trim_start_matches("dashboards/")];
        assert_eq!(shipped.as_str().unwrap().trim_end(), dashboard.trim_end(), "{copy}");
    }
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
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let elsewhere = json!({
        "extraEnv": [
            env("AWS_ENDPOINT_URL_S3", "http://minio:9000"), env("https_proxy", "http://me:secret@proxy:3128/"),
            env("OPENDEPOT_GITHUB_HOST", "one.example.com:8443,two.example.com"), env("AWS_REGION", "a:1234"),
            env("AWS_ENDPOINT_URL_STS", "https://[fd00::1]:4443/sts"), env("HTTP_PROXY", ""),
            {"name": "AWS_ENDPOINT_URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        "extraArgs": ["--s3-endpoint=http://a.example.com,https://b.example.com:9443", "--github-host=c:7443"],
    });
    assert_eq!(ports(&elsewhere), ["443", "6443", "80", "9443", "7443", "9000", "3128", "8443", "4443"]);
}

/// What YAML takes for something else than a string, though each may be a name.
const LOOK_LIKE_VALUES: [&str; 9] = ["12345", "on", "off", "no", "yes", "null", "true", "1e3", "0x1f"];

#[test]
fn the_chart_quotes_every_name() {
    for name in LOOK_LIKE_VALUES {
        // The name of a Service begins with a letter.
        let full = if name.starts_with(|c: char| c.is_ascii_digit()) { "opendepot" } else { name };
        let yaml = chart_yaml(&json!({
            "namespaces": [name],
            "fullnameOverride": full,
            "serviceAccount": {"create": false, "name": name},
            "priorityClassName": name,
            "caFile": {"secret": name, "key": name},
            "imagePullSecrets": [{"name": name}],
            "secretNames": [name],
            "podLabels": {"label": name},
            "podAnnotations": {"annotation": name},
            "nodeSelector": {"node": name},
            "serviceMonitor": {"enabled": true, "labels": {"label": name}},
            "prometheusRule": {"enabled": true, "labels": {"label": name}},
            "logLevel": "off",
            "crds": {"install": false},
            "userRoles": true,
            "registry": crate::deploy_registry::named(name),
        }));
        let bare = |line: &&str| {
            [": ", "- ", "["].iter().any(|before| {
                line.trim_end_matches([']', ' '])
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.ends_with(before))
            })
        };
        let switch = |line: &&str| {
            ["runAsNonRoot:", "readOnly", "honorLabels:"].iter().any(|key| line.trim_start().starts_with(key))
        };
        let bare: Vec<_> = yaml.lines().filter(bare).filter(|line| !switch(line)).collect();
        assert!(bare.is_empty(), "{bare:?}");
        let objects = parse(&yaml);
        let pod = &find(&objects, "Deployment", full)["spec"]["template"]["spec"];
        assert_eq!((&pod["serviceAccountName"], &pod["priorityClassName"]), (&json!(name), &json!(name)));
        let binding = find(&objects, "RoleBinding", full);
        assert_eq!(binding["metadata"]["namespace"], name);
        assert_eq!(
            (&binding["roleRef"]["name"], &binding["subjects"][0]["name"]),
            (&json!(full), &json!(name))
        );
    }
    // A release may be called so too.
    let args = ["template", "12345", "deploy/helm/opendepot", "-n", "null", "-f", "-"];
    let rendered = helm("/dev/null".as_ref(), &args, &json!({"crds": {"install": false}}));
    let objects = parse(&rendered.stdout);
    let account = find(&objects, "ServiceAccount", "opendepot-12345");
    assert_eq!(account["metadata"]["namespace"], "null");
    assert_eq!(account["metadata"]["labels"]["app.kubernetes.io/instance"], "12345");
    find(&objects, "Service", "opendepot-12345");
}

#[test]
fn never_verifying_may_be_written_as_a_number() {
    for (value, expected) in
        [(json!(0), Some(0)), (json!("0"), Some(0)), (json!("12h"), Some(43_200)), (json!(""), None)]
    {
        let arguments = arguments(&chart(&json!({"verifyInterval": value})));
        let given = arguments.iter().any(|argument| argument.starts_with("--verify-interval"));
        assert_eq!(given, expected.is_some(), "{value}: {arguments:?}");
        let seconds = parsed(&arguments).verify_interval.as_secs();
        assert_eq!(seconds, expected.unwrap_or(24 * 3600), "{value}");
    }
    assert!(!arguments(&chart(&json!({"verifyInterval": null}))).iter().any(|a| a.contains("verify")));
}

#[test]
fn probes_and_service_follow_where_it_listens() {
    let port = |values: &Value| {
        let objects = chart(values);
        let container =
            find(&objects, "Deployment", "opendepot")["spec"]["template"]["spec"]["containers"][0].clone();
        for probe in ["livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "http");
        }
        assert_eq!(find(&objects, "Service", "opendepot")["spec"]["ports"][0]["targetPort"], "http");
        let ingress = &find(&objects, "NetworkPolicy", "opendepot")["spec"]["ingress"][0]["ports"][0];
        assert_eq!(ingress["port"], "http");
        container["ports"][0]["containerPort"].as_f64().unwrap()
    };
    let env = json!([{"name": "OPENDEPOT_LISTEN", "value": "[::]:9091"}]);
    for (values, expected) in [
        (json!({}), 8080.0),
        (json!({"extraArgs": ["--listen=[::]:9090"]}), 9090.0),
        (json!({"extraArgs": ["--listen=0.0.0.0:9090"]}), 9090.0),
        (json!({"extraEnv": env}), 9091.0),
        (json!({"extraEnv": env, "extraArgs": ["--listen=[::]:9090"]}), 9090.0),
    ] {
        assert!((port(&values) - expected).abs() < 0.1, "{values}");
    }
}

#[tokio::test]
async fn on_openshift_the_pod_asks_for_no_user() {
    let context = |objects: &[Value]| {
        find(objects, "Deployment", "opendepot")["spec"]["template"]["spec"]["securityContext"].clone()
    };
    let chosen = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let overlay = kustomize(testbed().await, "deploy/overlays/openshift");
    assert_eq!(context(&overlay), chosen);
    let charted = |values: Value| {
        let args = ["template", "opendepot", "deploy/helm/opendepot", "-n", SYSTEM, "-f", "-"];
        let args = [&args[..], &["--api-versions", "security.openshift.io/v1"]].concat();
        parse(&helm("/dev/null".as_ref(), &args, &values).stdout)
    };
    let objects = charted(json!({"registry": crate::deploy_registry::required()}));
    assert_eq!(context(&objects), chosen);
    let registry = &find(&objects, "Deployment", "opendepot-registry")["spec"]["template"]["spec"];
    assert_eq!(registry["securityContext"], chosen);
    let own = charted(json!({"podSecurityContext": {"runAsUser": 1000, "fsGroup": null}}));
    let own = context(&own);
    assert_eq!(
        (own["runAsUser"].as_f64(), &own["runAsGroup"], &own["fsGroup"]),
        (Some(1000.0), &json!(null), &json!(null))
    );
    // There a policy is evaluated after the address of the DNS Service became that of a pod.
    for objects in [overlay, charted(json!({}))] {
        let dns = &find(&objects, "NetworkPolicy", "opendepot")["spec"]["egress"][0];
        let ports: Vec<_> = dns["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["port"].as_f64(), p["protocol"] == "UDP"))
            .collect();
        assert_eq!(
            ports,
            [(Some(53.0), true), (Some(53.0), false), (Some(5353.0), true), (Some(5353.0), false)]
        );
    }
}

/// Copies a folder of this repository into another folder.
fn copy(of: &str, into: &Path) {
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg("-r").arg(root().join(of)).arg(into).status().unwrap().success());
}

/// The chart as a later release may have it: with a value that this one does not know.
fn next_chart(folder: &Path) {
    copy("deploy/helm/opendepot", folder);
    let chart = folder.join("opendepot");
    let edit = |file: &str, change: &dyn Fn(String) -> String| {
        let path = chart.join(file);
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
    };
    edit("values.yaml", &|values| values + "\nfresh:\n  word: new\n");
    edit("values.schema.json", &|text| {
        let mut schema: Value = serde_json::from_str(&text).unwrap();
        schema["properties"]["fresh"] = json!({"type": "object"});
        schema.to_string()
    });
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: fresh\ndata:\n  word: {{ .Values.fresh.word }}\n";
    std::fs::write(chart.join("templates/fresh.yaml"), map).unwrap();
}

#[tokio::test]
async fn the_documented_upgrade_keeps_what_was_set_and_takes_what_is_new() {
    let world = World::new("upgrade").await;
    let kubeconfig = world.bed.kubernetes.admin_kubeconfig();
    let values = json!({"namespaces": [world.name], "crds": {"install": false}, "replicas": 3});
    let install = ["install", "opendepot", "deploy/helm/opendepot", "-n", &world.name, "-f", "-"];
    let installed = helm(&kubeconfig, &install, &values);
    assert!(installed.success(), "{}", installed.stderr);
    let folder = tempfile::tempdir().unwrap();
    next_chart(folder.path());
    let chart = folder.path().join("opendepot");
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    // The next line names the image.
    let command = page.lines().find_map(|line| line.strip_prefix("helm ")?.strip_suffix(" \\")).unwrap();
    assert!(command.starts_with("upgrade opendepot deploy/helm/opendepot "), "{command}");
    let command =
        command.replace("deploy/helm/opendepot", chart.to_str().unwrap()).replace(SYSTEM, &world.name);
    let command: Vec<&str> = command.split(' ').collect();
    let upgraded = helm(&kubeconfig, &command, &json!(null));
    assert!(upgraded.success(), "{command:?}: {}", upgraded.stderr);
    let said = world.kubectl(&["get", "configmap/fresh", "deployment/opendepot", "-o", "json"]);
    let list: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(list["items"][0]["data"]["word"], "new");
    assert_eq!(list["items"][1]["spec"]["replicas"], 3);

    // The API server refuses what is left of a rolling update.
    let recreate = [&command[..], &["--set", "strategy.type=Recreate"]].concat();
    let upgraded = helm(&kubeconfig, &recreate, &json!(null));
    assert!(upgraded.success(), "{recreate:?}: {}", upgraded.stderr);
    let said = world.kubectl(&["get", "deployment/opendepot", "-o", "json"]);
    let deployment: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
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
async fn the_api_server_accepts_all_of_it_without_a_warning() {
    let world = World::new("deploy").await;
    let restricted =
        ["label", "--overwrite", "namespace", SYSTEM, "pod-security.kubernetes.io/warn=restricted"];
    world.bed.kubectl(&restricted).unwrap().ok().unwrap();
    let mut all = KUSTOMIZATIONS.map(|folder| (folder, kustomize_yaml(world.bed, folder))).to_vec();
    all.push(("the chart", chart_yaml(&everything(&world.name))));
    for crd in servers::crds().unwrap() {
        world.bed.kubernetes.apply(&crd).await.unwrap();
    }
    for kind in ["ServiceMonitor", "PrometheusRule", "HTTPRoute"] {
        assert!(all.last().unwrap().1.contains(&format!("kind: {kind}\n")), "the chart has no {kind}");
    }
    for (what, yaml) in all {
        let strict = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
        let args = [&strict[..], &["--warnings-as-errors", "-f", "-"]].concat();
        let applied = world.bed.kubectl_with(&args, &yaml).unwrap();
        assert!(applied.success(), "{what}: {}", applied.stderr);
    }
}

/// An overlay of a user, in a folder with a copy of `deploy`, with a namespace and names of its own.
fn outer(folder: &Path, inner: &str) -> String {
    let path = folder.join("outer");
    std::fs::create_dir_all(&path).unwrap();
    let text = format!("namespace: team-x\nnamePrefix: my-\nresources: [../{inner}]\n");
    std::fs::write(path.join("kustomization.yaml"), text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_overlay_with_another_namespace_and_other_names_gives_the_rights_to_its_own_account() {
    let bed = testbed().await;
    let folder = tempfile::tempdir().unwrap();
    copy("deploy", folder.path());
    for inner in KUSTOMIZATIONS.iter().filter(|inner| **inner != "crds" && **inner != "deploy/user-roles") {
        let yaml = kustomize_yaml(bed, &outer(folder.path(), inner));
        assert!(!yaml.contains(SYSTEM), "{inner}: {yaml}");
        let objects = parse(&yaml);
        let account = &objects.iter().find(|object| object["kind"] == "ServiceAccount").unwrap()["metadata"];
        let bindings = objects.iter().filter(|o| o["kind"].as_str().unwrap().ends_with("RoleBinding"));
        let subjects: Vec<_> = bindings.map(|binding| &binding["subjects"][0]).collect();
        assert_eq!(subjects.len(), 2, "{inner}");
        for subject in subjects {
            let named = (&subject["name"], &subject["namespace"]);
            assert_eq!(named, (&account["name"], &json!("team-x")), "{inner}");
        }
    }

    // The change that the overlay for OpenShift describes.
    let path = folder.path().join("deploy/overlays/openshift/kustomization.yaml");
    let text = std::fs::read_to_string(&path).unwrap().replace("  - ../image\n", "  - ../irsa\n");
    std::fs::write(&path, text).unwrap();
    let yaml = kustomize_yaml(bed, &outer(folder.path(), "deploy/overlays/openshift"));
    assert!(yaml.contains("eks.amazonaws.com/role-arn") && !yaml.contains("runAsUser"), "{yaml}");
}

#[tokio::test]
async fn what_is_added_below_or_above_an_overlay_for_one_namespace_stays() {
    let folder = tempfile::tempdir().unwrap();
    copy("deploy", folder.path());
    let patched = |file: &Path, before: &str, patch: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let patch = format!("{before}  - target: {{kind: Deployment}}\n    patch: |-\n      - {patch}\n");
        std::fs::write(file, text + &patch).unwrap();
    };
    let container = "/spec/template/spec/containers/0";
    let added =
        format!("{{op: add, path: {container}/env, value: [{{name: AWS_REGION, value: us-west-2}}]}}");
    patched(&folder.path().join("deploy/overlays/registry/kustomization.yaml"), "", &added);
    let above = outer(folder.path(), "deploy/overlays/registry-one-namespace");
    let added = format!("{{op: add, path: {container}/args/-, value: --namespace=team-b}}");
    patched(&Path::new(&above).join("kustomization.yaml"), "patches:\n", &added);

    let objects = parse(&kustomize_yaml(testbed().await, &above));
    let deployment = find(&objects, "Deployment", "my-opendepot-registry");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let variables: Vec<_> = container["env"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["POD_NAMESPACE", "AWS_REGION"]);
    let arguments = arguments_of(container, "team-x");
    assert_eq!(arguments[arguments.len() - 2..], ["--namespace=team-x", "--namespace=team-b"]);
}

#[tokio::test]
async fn the_operator_understands_what_it_is_started_with() {
    let bed = testbed().await;
    for folder in ["deploy/base", "deploy/overlays/irsa"] {
        let run = parsed(&arguments(&kustomize(bed, folder)));
        assert_eq!(run.spool_dir.as_deref(), Some("/spool".as_ref()));
        assert!(run.namespaces.is_empty() && run.leader_elect);
    }
    let one = parsed(&arguments(&kustomize(bed, "deploy/overlays/one-namespace")));
    assert_eq!(one.namespaces, [SYSTEM]);

    let objects = chart(&everything("team-a"));
    let run = parsed(&arguments(&objects));
    assert_eq!(run.namespaces, ["team-a", SYSTEM]);
    assert_eq!(run.allow_storage.len(), 2);
    assert_eq!(run.s3_endpoint.len(), 1);
    assert_eq!(run.github_host, ["ghes.example.com:8443"]);
    assert_eq!((run.max_fetches, run.archives.max_archive_size), (8, 1 << 30));
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
        (json!({"verifyInterval": 24}), "/verifyInterval"),
        (
            json!({"extraArgs": ["--listen=127.0.0.1:8080"]}),
            "can only connect to the pod's own address; write [::]:8080",
        ),
        (
            json!({"extraEnv": [{"name": "OPENDEPOT_LISTEN", "value": "[::1]:9"}]}),
            "can only connect to the pod's own address",
        ),
        (json!({"extraArgs": ["--listen=9090"]}), "write an IP address and a port"),
        (json!({"extraArgs": ["--listen=[::]:0"]}), "write an IP address and a port"),
        (
            json!({"extraEnv": [{"name": "OPENDEPOT_LISTEN", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}),
            "OPENDEPOT_LISTEN needs a value",
        ),
        (json!({"extraArgs": ["--spool-dir=/tmp"]}), "--spool-dir=/tmp repeats a flag that the chart sets"),
        (json!({"logLevel": "debug", "extraArgs": ["--log-level=info"]}), "use the value logLevel"),
        (json!({"extraArgs": ["--max-entries=1", "--max-entries=2"]}), "--max-entries=2 repeats"),
        (json!({"fullnameOverride": "12345"}), "/fullnameOverride"),
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
    for overlay in ["image", "irsa", "openshift", "one-namespace"] {
        let deployed = kustomize(testbed().await, &format!("deploy/overlays/{overlay}"));
        let containers =
            &find(&deployed, "Deployment", "opendepot")["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], format!("registry.example.com/opendepot:{version}"), "{overlay}");
    }
    let chart = std::fs::read_to_string(root().join("deploy/helm/opendepot/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&chart).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));

    // The spool holds the worst that the defaults let in: of each fetch the archive, its files, and what is made of them.
    let run = parsed(&["run".to_owned()]);
    let worst =
        u64::from(run.max_fetches) * (run.archives.max_archive_size + 2 * run.archives.max_unpacked_size);
    assert_eq!(pod["volumes"][0]["emptyDir"]["sizeLimit"], "20Gi");
    assert!(worst <= 20 << 30, "{worst}");
}
