//! Null in the chart's values: the default of a value, and one key less in a map. Security contexts of the registry.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::chart_values::{merged, registry};
use crate::support::rendered::{SYSTEM, chart, comparable, find, parse, release};
use crate::support::root;

/// Values under which most of the chart is rendered, the same each time: no key of links is made.
fn most() -> Value {
    let enabled = json!({"enabled": true});
    let registry = registry(&json!({
        "linkKey": {"existingSecret": "links"},
        "ingress": enabled,
        "httpRoute": {"enabled": true, "parentRefs": [{"name": "gateway"}]},
    }));
    merged(registry, &json!({"serviceMonitor": enabled, "prometheusRule": enabled, "dashboards": enabled}))
}

/// The values of the reference by their paths, and the groups that they are in, unless these values set them.
fn unset(values: &Value) -> (BTreeSet<String>, BTreeSet<String>) {
    let readme = std::fs::read_to_string(root().join("deploy/helm/opendepot/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let paths: BTreeSet<String> = rows.filter(|path| *path != "Key").map(str::to_owned).collect();
    let groups = paths.iter().flat_map(|path| path.match_indices('.').map(|(at, _)| path[..at].to_owned()));
    let unset = |path: &String| path.split('.').try_fold(values, |value, key| value.get(key)).is_none();
    (paths.iter().filter(|path| unset(path)).cloned().collect(), groups.filter(unset).collect())
}

/// These values with null at paths.
fn with_nulls<'a>(values: &Value, paths: impl IntoIterator<Item = &'a String>) -> Value {
    let mut values = values.clone();
    for path in paths {
        *path.split('.').fold(&mut values, |value, key| &mut value[key]) = json!(null);
    }
    values
}

#[test]
fn null_is_the_default_of_every_value_and_group() {
    let most = most();
    let default = comparable(chart(&most));
    let (paths, groups) = unset(&most);
    assert!(paths.len() > 200 && groups.len() > 15, "{paths:?} {groups:?}");
    for paths in [paths, groups] {
        // All at once, and one by one only to name those that fail.
        let same = |values: &Value| {
            let rendered = release("opendepot", SYSTEM, &["--skip-tests"], values);
            rendered.success() && comparable(parse(&rendered.stdout)) == default
        };
        if !same(&with_nulls(&most, &paths)) {
            let failing: Vec<_> = paths.iter().filter(|path| !same(&with_nulls(&most, [*path]))).collect();
            panic!("null is not the default of {failing:?}");
        }
    }
    // Nor is less installed if there is no other value at all.
    let (default, (_, groups)) = (comparable(chart(&json!({}))), unset(&json!({})));
    assert_eq!(
        comparable(chart(&with_nulls(&json!({}), groups.iter().filter(|g| !g.contains('.'))))),
        default
    );
}

/// What the second file removes, of the operator and of the registry.
const OF_BOTH: [&str; 15] = [
    "resources.limits.cpu",
    "resources.requests.hugepages-2Mi",
    "resources.claims",
    "nodeSelector.pool",
    "podAnnotations.checked-by",
    "podLabels.zone",
    "livenessProbe.initialDelaySeconds",
    "livenessProbe.failureThreshold",
    "podSecurityContext.supplementalGroups",
    "podSecurityContext.seLinuxOptions",
    "securityContext.runAsUser",
    "securityContext.appArmorProfile",
    "strategy.type",
    "affinity.nodeAffinity",
    "dnsConfig.nameservers",
];

/// The rest.
const OF_ONE: [&str; 6] = [
    "strategy.rollingUpdate",
    "commonLabels.env",
    "serviceAccount.annotations.role-arn",
    "serviceAccount.labels.team",
    "registry.consumers.platform",
    "registry.httpRoute.timeouts.request",
];

/// Writes `above` over `below`, as Helm does with files of values.
fn layer(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            above.iter().for_each(|(key, value)| layer(below.entry(key).or_insert(json!(null)), value));
        }
        (below, above) => *below = above.clone(),
    }
}

#[test]
fn a_second_file_of_values_removes_what_the_first_one_sets() {
    let pod = json!({
        "resources": {"limits": {"cpu": "1"}, "requests": {"hugepages-2Mi": "4Mi"}, "claims": [{"name": "gpu"}]},
        "nodeSelector": {"pool": "platform"},
        "podAnnotations": {"checked-by": "platform"},
        "podLabels": {"zone": "trusted"},
        "livenessProbe": {"initialDelaySeconds": 20, "failureThreshold": 7},
        "podSecurityContext": {"supplementalGroups": [2000], "seLinuxOptions": {"level": "s0"}},
        "securityContext": {"runAsUser": 1000, "appArmorProfile": {"type": "RuntimeDefault"}},
        "strategy": {"type": "RollingUpdate"},
        "affinity": {"nodeAffinity": {}},
        "dnsConfig": {"nameservers": ["10.96.0.10"]},
    });
    let first = json!({
        "strategy": {"rollingUpdate": {"maxSurge": 2}},
        "commonLabels": {"env": "production"},
        "serviceAccount": {"annotations": {"role-arn": "a"}, "labels": {"team": "platform"}},
        "registry": {
            "consumers": {"platform": [{"kind": "Group", "name": "platform"}]},
            "httpRoute": {"timeouts": {"request": "0s"}},
        },
    });
    let kept = most();
    let mut both = kept.clone();
    for above in [&pod, &json!({ "registry": pod }), &first] {
        layer(&mut both, above);
    }
    let paths: BTreeSet<String> =
        OF_BOTH.iter().flat_map(|path| [(*path).to_owned(), format!("registry.{path}")]).collect();
    let rest: BTreeSet<String> = OF_ONE.iter().map(|path| (*path).to_owned()).collect();
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("production.yaml");
    std::fs::write(&second, with_nulls(&json!({}), paths.iter().chain(&rest)).to_string()).unwrap();
    let rendered = release("opendepot", SYSTEM, &["--skip-tests", "-f", second.to_str().unwrap()], &both);
    assert!(rendered.success(), "{}", rendered.stderr);
    let (layered, expected) = (comparable(parse(&rendered.stdout)), comparable(chart(&kept)));
    assert_ne!(comparable(chart(&both)), expected);
    for (layered, expected) in layered.iter().zip(&expected) {
        assert_eq!(layered, expected);
    }
    assert_eq!(layered.len(), expected.len());
}

#[test]
fn security_contexts_of_the_registry_change_those_of_the_operator() {
    let contexts = |values: &Value| {
        let pod =
            find(&chart(values), "Deployment", "opendepot-registry")["spec"]["template"]["spec"].clone();
        (pod["securityContext"].clone(), pod["containers"][0]["securityContext"].clone())
    };
    let of_pod = json!({
        "runAsNonRoot": true, "runAsUser": 65532.0, "runAsGroup": 65532.0, "fsGroup": 1000.0,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let of_container = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 1000.0,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    });
    let add = json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}});
    for name in ["securityContext", "containerSecurityContext"] {
        let values = registry(&json!({
            "podSecurityContext": {"fsGroup": 1000}, name: merged(add.clone(), &json!({"runAsUser": 1000})),
        }));
        assert_eq!(contexts(&values), (of_pod.clone(), of_container.clone()), "{name}");
    }

    // What the operator's values change applies too, null removes a key, and false and 0 are values.
    let of_operator = json!({
        "podSecurityContext": {"runAsUser": null, "runAsGroup": 7}, "securityContext": {"privileged": true},
    });
    let values = registry(&json!({
        "podSecurityContext": {"fsGroup": null, "runAsGroup": 0}, "securityContext": {"privileged": false, "capabilities": null},
    }));
    let expected = (
        json!({"runAsNonRoot": true, "runAsGroup": 0.0, "seccompProfile": {"type": "RuntimeDefault"}}),
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "privileged": false}),
    );
    let values = merged(values, &of_operator);
    assert_eq!(contexts(&values), expected);
    let objects = chart(&values);
    let own = &find(&objects, "Deployment", "opendepot")["spec"]["template"]["spec"];
    assert_eq!(own["containers"][0]["securityContext"]["privileged"], true);
}
