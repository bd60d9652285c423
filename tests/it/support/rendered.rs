//! What `deploy/` comes to: rendered by kubectl and by Helm, parsed.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use opendepot_testbed::control_plane::{Output, SHORT_RUN};
use opendepot_testbed::{Testbed, servers};
use serde_json::{Value, json};

use super::root;

/// The operator's namespace in everything that is shipped.
pub(crate) const SYSTEM: &str = "opendepot-system";

/// The objects of a kustomization of this repository, as YAML.
pub(crate) fn kustomize_yaml(bed: &Testbed, folder: &str) -> String {
    bed.kubectl(&["kustomize", root().join(folder).to_str().unwrap()]).unwrap().ok().unwrap()
}

/// The objects of a kustomization of this repository.
pub(crate) fn kustomize(bed: &Testbed, folder: &str) -> Vec<Value> {
    parse(&kustomize_yaml(bed, folder))
}

/// Kinds of other software, as a cluster that has them names them to Helm.
pub(crate) const OPTIONAL_KINDS: [&str; 3] = [
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "gateway.networking.k8s.io/v1/HTTPRoute",
];

/// The objects of the chart with these values for a cluster that knows all kinds, without the pod of `helm test`, as YAML.
pub(crate) fn chart_yaml(values: &Value) -> String {
    let output = release("opendepot", SYSTEM, &["--skip-tests"], values);
    assert!(output.success(), "{}", output.stderr);
    output.stdout
}

/// Renders a release of the chart for a cluster that knows all kinds.
pub(crate) fn release(name: &str, namespace: &str, more: &[&str], values: &Value) -> Output {
    let kinds = OPTIONAL_KINDS.map(|kind| ["--api-versions", kind]).concat();
    let chart = ["template", name, "deploy/helm/opendepot", "-n", namespace, "-f", "-"];
    helm(Path::new("/dev/null"), &[&chart[..], &kinds[..], more].concat(), values)
}

/// The objects of the chart with these values.
pub(crate) fn chart(values: &Value) -> Vec<Value> {
    parse(&chart_yaml(values))
}

/// Runs Helm at the repository's root; `-f -` reads `values`.
pub(crate) fn helm(kubeconfig: &Path, args: &[&str], values: &Value) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(servers::helm().unwrap());
    command.args(args).current_dir(root()).envs(SHORT_RUN);
    command.env("HOME", home.path()).env("KUBECONFIG", kubeconfig);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A helm that does not read its input closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(values.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    Output {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// The objects of a YAML text.
pub(crate) fn parse(yaml: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_yaml::from_multiple(yaml).unwrap();
    objects.iter_mut().for_each(same_numbers);
    objects
}

/// Makes every number one with a point: some who print YAML write 1, some 1.0.
fn same_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_f64() {
                *value = json!(number);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(same_numbers),
        Value::Object(map) => map.values_mut().for_each(same_numbers),
        _ => {}
    }
}

/// The one object of a kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects.iter().filter(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"));
    assert!(found.next().is_none(), "there are two of {kind} {name}");
    object
}

/// What the container of the Deployment is started with.
pub(crate) fn arguments(objects: &[Value]) -> Vec<String> {
    let deployment = find(objects, "Deployment", "opendepot");
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or_default();
    arguments_of(&deployment["spec"]["template"]["spec"]["containers"][0], namespace)
}

/// What a container in this namespace is started with: Kubernetes replaces the variables that it has.
pub(crate) fn arguments_of(container: &Value, namespace: &str) -> Vec<String> {
    let arguments: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
    let field = json!({"fieldRef": {"fieldPath": "metadata.namespace"}});
    let variable = json!({"name": "POD_NAMESPACE", "valueFrom": field});
    if !container["env"].as_array().is_some_and(|env| env.contains(&variable)) {
        return arguments;
    }
    arguments.into_iter().map(|argument| argument.replace("$(POD_NAMESPACE)", namespace)).collect()
}

/// The objects without what only Helm writes, in the order of their names.
pub(crate) fn comparable(mut objects: Vec<Value>) -> Vec<Value> {
    let of_helm = |key: &String| key.starts_with("helm.sh/") || key == "app.kubernetes.io/managed-by";
    for object in &mut objects {
        for field in ["labels", "annotations"] {
            if let Some(map) = object["metadata"].get_mut(field).and_then(Value::as_object_mut) {
                map.retain(|key, _| !of_helm(key));
            }
        }
    }
    objects.sort_by_key(|o| json!([o["kind"], o["metadata"]["name"]]).to_string());
    objects
}
