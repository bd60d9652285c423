//! Values as companies write them: every value of the chart arrives in the objects, and the API server accepts these.

use std::collections::BTreeSet;

use opendepot_testbed::servers;
use serde_json::{Value, json};

use crate::support::rendered::{
    OPTIONAL_KINDS, SYSTEM, arguments, chart, chart_yaml, comparable, find, helm, kustomize, parse, release,
};
use crate::support::{World, root, testbed};

/// The files of `chart_values`, by their names.
fn files() -> Vec<(String, Value)> {
    let folder = root().join("tests/it/chart_values");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    };
    paths.map(read).collect()
}

/// The paths of what is set, with the texts and numbers there.
fn leaves(value: &Value, path: &str, into: &mut Vec<(String, Option<String>)>) {
    let text = match value {
        Value::Object(map) if !map.is_empty() => {
            let join =
                |key: &String| if path.is_empty() { key.clone() } else { [path, key.as_str()].join(".") };
            return map.iter().for_each(|(key, value)| leaves(value, &join(key), into));
        }
        Value::Array(list) if !list.is_empty() => {
            return list.iter().for_each(|value| leaves(value, path, into));
        }
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    into.push((path.to_owned(), text));
}

/// A text as it is in YAML: possibly in quotation marks, with escapes.
fn shown(yaml: &str, text: &str) -> bool {
    yaml.contains(text) || yaml.contains(&text.replace('"', "\\\""))
}

#[tokio::test]
async fn values_of_companies_arrive_in_objects_that_the_api_server_accepts() {
    let world = World::new("chart-values").await;
    let restricted = ["label", "namespace", &world.name, "pod-security.kubernetes.io/warn=restricted"];
    world.bed.kubectl(&restricted).unwrap().ok().unwrap();
    for crd in servers::crds().unwrap() {
        world.bed.kubernetes.apply(&crd).await.unwrap();
    }
    let (mut set, mut accounts, mut others) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (name, values) in files() {
        let rendered = release(&name, &world.name, &[], &values);
        assert!(rendered.success(), "{name}: {}", rendered.stderr);
        let mut found = Vec::new();
        leaves(&values, "", &mut found);
        for (path, text) in found {
            // A template is evaluated, and what is disabled is not there.
            let absent = path == "prometheusRule.disabled" || path.starts_with("extraObjects");
            let text = text.filter(|_| !absent);
            assert!(text.is_none_or(|text| shown(&rendered.stdout, &text)), "{name}: {path} has no effect");
            set.insert(path);
        }
        for yaml in rendered.stdout.split("\n---\n") {
            let mut object: Value = serde_yaml::from_str(yaml).unwrap();
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if object.is_null() || kind == "CustomResourceDefinition" {
                continue;
            }
            // A dry run needs the namespaces of Roles, and the account and class of the pod that `helm test` runs.
            if !kind.starts_with("Cluster") {
                object["metadata"]["namespace"] = json!(world.name);
            }
            match kind.as_str() {
                "Pod" => {
                    object["spec"]["serviceAccountName"] = json!("account-of-tests");
                    object["spec"].as_object_mut().unwrap().remove("runtimeClassName");
                }
                "ServiceAccount" => accounts.push(object["metadata"]["name"].clone()),
                _ => {}
            }
            others.push(object.to_string());
        }
    }
    assert!(accounts.len() >= 20, "{accounts:?}");
    world.kubectl(&["create", "serviceaccount", "account-of-tests"]);
    let strict = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
    let args = [&strict[..], &["--warnings-as-errors", "-f", "-"]].concat();
    let applied = world.bed.kubectl_with(&args, &others.join("\n---\n")).unwrap();
    assert!(applied.success(), "{}", applied.stderr);

    // Each value of the reference is in one of the files.
    let readme = std::fs::read_to_string(root().join("deploy/helm/opendepot/README.md")).unwrap();
    let documented = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let documented: Vec<&str> = documented.filter(|path| *path != "Key").collect();
    let below = |path: &str| set.iter().any(|set| set == path || set.starts_with(&format!("{path}.")));
    let missing: Vec<_> = documented.iter().filter(|path| !below(path)).collect();
    assert!(documented.len() > 200 && missing.is_empty(), "in no file of chart_values: {missing:?}");
}

#[tokio::test]
async fn the_file_without_values_is_the_kustomization() {
    let bed = testbed().await;
    let mut kustomized = kustomize(bed, "deploy/base");
    kustomized.extend(kustomize(bed, "crds"));
    let (_, values) = files().into_iter().find(|(name, _)| name == "default").unwrap();
    let kustomized = comparable(crate::deploy::with_strategies(kustomized));
    assert_eq!(comparable(chart(&values)), kustomized);
}

#[test]
fn every_field_of_a_rolling_update_is_set() {
    let strategy =
        |values: &Value, name: &str| find(&chart(values), "Deployment", name)["spec"]["strategy"].clone();
    let rolling = |surge: Value, unavailable: Value| json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
    for (own, expected) in [
        (json!({}), rolling(json!("25%"), json!("25%"))),
        (json!({"rollingUpdate": {"maxSurge": 0}}), rolling(json!(0.0), json!("25%"))),
        (json!({"rollingUpdate": {"maxUnavailable": 2}}), rolling(json!("25%"), json!(2.0))),
        (json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 2}}), json!({"type": "Recreate"})),
    ] {
        assert_eq!(strategy(&json!({ "strategy": own }), "opendepot"), expected, "{own}");
    }
    let of_registry = |own: &Value| strategy(&registry(own), "opendepot-registry");
    assert_eq!(of_registry(&json!({})), rolling(json!(1.0), json!(0.0)));
    assert_eq!(of_registry(&json!({"strategy": {"type": "Recreate"}})), json!({"type": "Recreate"}));
}

/// Values with further ones.
pub(crate) fn merged(mut values: Value, more: &Value) -> Value {
    values.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    values
}

/// The registry with these values besides those that it requires.
pub(crate) fn registry(more: &Value) -> Value {
    json!({ "registry": merged(crate::deploy_registry::required(), more) })
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    for (values, expected) in [
        (
            json!({"replicaCount": 3, "replicas": 4}),
            "replicaCount and replicas are two names of one value: remove one",
        ),
        (
            json!({"updateStrategy": {"type": "Recreate"}, "deploymentStrategy": {"type": "RollingUpdate"}}),
            "deploymentStrategy and strategy are",
        ),
        (
            registry(&json!({"env": [{"name": "A"}], "extraEnv": [{"name": "B"}]})),
            "registry.env and registry.extraEnv are two names",
        ),
        (
            json!({"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}}),
            "remove minAvailable or maxUnavailable",
        ),
        (
            json!({"podDisruptionBudget": {"minAvailable": 2}}),
            "write at most 1: with 2 of 2 replicas, no node can be drained",
        ),
        (
            registry(&json!({"podDisruptionBudget": {"maxUnavailable": 0}})),
            "registry.podDisruptionBudget.maxUnavailable: write at least 1",
        ),
        (json!({"podDisruptionBudget": {"minAvailable": "100%"}}), "no node can be drained"),
        (
            json!({"podDisruptionBudget": {"minAvailable": "51%"}}),
            "write at most 1: with 51% of 2 replicas, no node can be drained",
        ),
        (
            registry(&json!({"replicas": 3, "podDisruptionBudget": {"minAvailable": "67%"}})),
            "registry.podDisruptionBudget.minAvailable: write at most 2",
        ),
        (
            json!({"httpsProxy": "http://a", "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://b"}]}),
            "extraEnv: remove HTTPS_PROXY: the value httpsProxy sets it",
        ),
        (
            merged(
                registry(&json!({"env": [{"name": "NO_PROXY", "value": ".svc"}]})),
                &json!({"noProxy": "a"}),
            ),
            "registry.extraEnv: remove NO_PROXY: the value noProxy sets it",
        ),
        (json!({"extraEnv": [{"name": "POD_NAME", "value": "a"}]}), "remove POD_NAME: the chart sets it"),
        (
            json!({"extraEnv": [{"name": "AWS_REGION", "value": "a"}, {"name": "AWS_REGION", "value": "b"}]}),
            "extraEnv: remove AWS_REGION: an entry before it has the same name",
        ),
        (json!({"extraArgs": ["--lease-name=opendepot"]}), "the value fullnameOverride names it"),
        (
            json!({"extraArgs": ["--lease-namespace=tools"]}),
            "extraArgs: remove --lease-namespace=tools: the operator has permission only for the Lease of the release",
        ),
        (
            json!({"extraEnv": [{"name": "OPENDEPOT_LEASE_NAME", "value": "a"}]}),
            "extraEnv: remove OPENDEPOT_LEASE_NAME: the operator has permission",
        ),
        (
            json!({"extraEnv": [{"name": "OPENDEPOT_LEASE_NAMESPACE", "value": "a"}]}),
            "it is in the namespace of the release, helm's --namespace",
        ),
        (
            json!({"extraArgs": ["--leader-elect=false"]}),
            "replicas: write 1, or remove --leader-elect=false: without a Lease",
        ),
        (
            json!({"extraEnv": [{"name": "OPENDEPOT_LEADER_ELECT", "value": "false"}]}),
            "replicas: write 1, or remove OPENDEPOT_LEADER_ELECT",
        ),
        (json!({"logLevel": "verbose"}), "at '/logLevel': 'verbose' does not match"),
        (json!({"spool": {"type": "ephemeral", "medium": "Memory"}}), "spool.medium: remove it"),
        (
            json!({"spool": {"storageClassName": "gp3"}}),
            "spool.storageClassName: remove it, or set spool.type to ephemeral",
        ),
        (json!({"metricsPort": 9090, "extraArgs": ["--listen=[::]:9091"]}), "use the value metricsPort"),
        (
            registry(&json!({"port": 9443, "extraArgs": ["--listen=[::]:9444"]})),
            "use the value registry.port",
        ),
        (registry(&json!({"metricsPort": 8443})), "the same port 8443"),
        (registry(&json!({"extraArgs": ["--spool-dir=/tmp"]})), "use the value registry.spool"),
        (
            registry(&json!({"terminationGracePeriodSeconds": 79})),
            "registry.terminationGracePeriodSeconds: write at least 80",
        ),
        (json!({"terminationGracePeriodSeconds": 8}), "/terminationGracePeriodSeconds"),
        (
            json!({"prometheusRule": {"enabled": true, "disabled": ["OpenDepotAsleep"]}}),
            "there is no rule OpenDepotAsleep; the rules are",
        ),
        (json!({"livenessProbe": {"httpGet": {}}}), "'httpGet' not allowed"),
        (json!({"registry": {"spool": {"sizeLimits": "1Gi"}}}), "'sizeLimits' not allowed"),
        (json!({"securityContext": {"fsGroup": 1}}), "'fsGroup' not allowed"),
        (json!({"podLabels": {"app.kubernetes.io/name": "x"}}), "/podLabels/app.kubernetes.io~1name"),
        (registry(&json!({"serviceMonitor": {}})), "'serviceMonitor' not allowed"),
    ] {
        let refused = release("opendepot", SYSTEM, &[], &values);
        assert!(!refused.success() && refused.stderr.contains(expected), "{values}: {}", refused.stderr);
    }
}

#[test]
fn further_objects_are_objects_or_texts_with_templates() {
    let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let text = "{{- if .Values.replicas }}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n{{- end }}";
    for name in ["extraObjects", "extraManifests", "extraDeploy"] {
        let objects = chart(&json!({name: [map("{{ .Release.Name }}-object"), text]}));
        find(&objects, "ConfigMap", "opendepot-object");
        find(&objects, "ConfigMap", "opendepot-text");
    }
}

#[test]
fn kinds_that_the_cluster_does_not_know_are_left_out_unless_forced() {
    let mut values = registry(&json!({"httpRoute": {"enabled": true, "parentRefs": [{"name": "gateway"}]}}));
    values["serviceMonitor"] = json!({"enabled": true});
    values["prometheusRule"] = json!({"enabled": true});
    let kinds = |values: &Value| {
        let args = ["template", "opendepot", "deploy/helm/opendepot", "-n", SYSTEM, "-f", "-"];
        let rendered = helm("/dev/null".as_ref(), &args, values);
        assert!(rendered.success(), "{}", rendered.stderr);
        let optional = ["ServiceMonitor", "PrometheusRule", "HTTPRoute"];
        let objects = parse(&rendered.stdout);
        optional.map(|kind| objects.iter().filter(|o| o["kind"] == kind).count())
    };
    assert_eq!(kinds(&values), [0, 0, 0]);
    let install =
        ["install", "opendepot", "deploy/helm/opendepot", "-n", SYSTEM, "--dry-run=client", "-f", "-"];
    let notes = |values: &Value| helm("/dev/null".as_ref(), &install, values).stdout;
    assert!(notes(&values).contains(&format!("does not have these kinds: {}.\n", OPTIONAL_KINDS.join(", "))));
    values["skipMissingKinds"] = json!(false);
    assert!(notes(&values).contains("helm test opendepot") && !notes(&values).contains("Left out"));
    assert_eq!(kinds(&values), [2, 1, 1]);
    // Group and version alone are not enough for Helm.
    let readme = std::fs::read_to_string(root().join("deploy/helm/opendepot/README.md")).unwrap();
    assert!(readme.contains(&format!("`--api-versions {}`", OPTIONAL_KINDS[0])));
}

#[test]
fn alert_rules_are_switched_off_one_by_one() {
    let rules = |values: Value| {
        let objects = chart(&json!({ "prometheusRule": values }));
        let groups =
            find(&objects, "PrometheusRule", "opendepot")["spec"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = rules(json!({"enabled": true}));
    let mut expected: Vec<String> = all.iter().filter(|name| *name != "OpenDepotPanicked").cloned().collect();
    expected.push("Ours".into());
    let extra = json!([{"alert": "Ours", "expr": "vector(1)"}]);
    assert_eq!(
        rules(json!({"enabled": true, "disabled": ["OpenDepotPanicked"], "extraRules": extra})),
        expected
    );
    // Another namespace than the release's: the monitor names where its Services are.
    let objects = chart(&json!({"serviceMonitor": {"enabled": true, "namespace": "monitoring"}}));
    let monitor = find(&objects, "ServiceMonitor", "opendepot");
    assert_eq!(monitor["metadata"]["namespace"], "monitoring");
    assert_eq!(monitor["spec"]["namespaceSelector"], json!({"matchNames": [SYSTEM]}));
}

#[test]
fn helm_test_checks_with_the_rights_and_settings_of_the_operator() {
    let values = json!({
        "fullnameOverride": "second", "replicas": 1, "namespaces": ["team-a"], "caFile": {"secret": "roots"},
        "secretNames": ["app"], "githubHosts": ["ghes.example.com"],
        "extraArgs": ["--max-entries=5", "--leader-elect=false"],
        "extraVolumes": [{"name": "aws", "secret": {"secretName": "aws"}}],
        "extraVolumeMounts": [{"name": "aws", "mountPath": "/aws"}, {"name": "spool", "mountPath": "/more"}],
        "httpsProxy": "http://proxy:3128", "extraContainers": [{"name": "sidecar"}], "initContainers": [{"name": "first"}],
        "podLabels": {"zone": "trusted"}, "podAnnotations": {"checked-by": "platform", "helm.sh/hook": "pre-install"},
    });
    let objects = parse(&release("opendepot", SYSTEM, &[], &values).stdout);
    let pod = find(&objects, "Pod", "second-check");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(
        (&annotations["helm.sh/hook"], &annotations["checked-by"]),
        (&json!("test"), &json!("platform"))
    );
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "second");
    // A sidecar would keep the pod from its end.
    assert_eq!((spec["containers"].as_array().unwrap().len(), &spec["initContainers"]), (1, &json!(null)));
    let container = &spec["containers"][0];
    let expected = [
        "check",
        "--lease-name=second",
        "--namespace=team-a",
        "--ca-file=/etc/opendepot/ca/ca.crt",
        "--secret-names=app",
        "--github-host=ghes.example.com",
        "--leader-elect=false",
    ];
    let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| &mount["name"]);
    assert_eq!(mounts.collect::<Vec<_>>(), ["ca", "aws"]);
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(container["args"], json!(expected));
    assert_eq!(container["env"][0]["name"], "HTTPS_PROXY");
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let service = &find(&objects, "Service", "second")["spec"]["selector"];
    assert_ne!(service["app.kubernetes.io/name"], labels["app.kubernetes.io/name"]);
    assert_eq!(labels["zone"], "trusted");
    assert_eq!(arguments(&chart(&json!({})))[0], "run");
    assert!(!chart_yaml(&json!({})).contains("helm.sh/hook"));
}
