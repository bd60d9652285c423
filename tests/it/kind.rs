//! `examples/kind`: the API server accepts its objects, and its files fit each other. The script itself needs Docker.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::rendered::{SYSTEM, chart};
use crate::support::{World, root};

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join("examples/kind").join(name)).unwrap()
}

/// The object of this kind and name among those of a file.
fn object(objects: &[Value], kind: &str, name: &str) -> Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}")).clone()
}

fn objects(name: &str) -> Vec<Value> {
    serde_yaml::from_multiple(&read(name)).unwrap()
}

#[tokio::test]
async fn the_api_server_accepts_the_objects_for_kind_as_restricted_pods() {
    let world = World::new("kind").await;
    let restricted = format!("namespace/{}", world.name);
    world.kubectl(&["label", &restricted, "pod-security.kubernetes.io/warn=restricted"]);
    for name in ["storage.yaml", "module.yaml", "install.yaml"] {
        let text = read(name);
        let here = ["platform", SYSTEM].iter().fold(text, |text, namespace| {
            text.replace(&format!("namespace: {namespace}\n"), &format!("namespace: {}\n", world.name))
        });
        let strict = ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"];
        let applied = world.bed.kubectl_with(&strict, &here).unwrap();
        assert!(applied.success(), "{name}: {}", applied.stderr);
    }
}

#[test]
fn the_files_for_kind_fit_each_other() {
    let rendered = chart(&serde_yaml::from_str(&read("values.yaml")).unwrap());
    let (storage, module, install) =
        (objects("storage.yaml"), objects("module.yaml"), objects("install.yaml"));
    // The registry is served under the name by which the pod installs, with that name as audience.
    let service = object(&rendered, "Service", "opendepot-registry");
    let host = format!("opendepot-registry.{SYSTEM}.svc");
    assert_eq!(service["spec"]["ports"][0]["port"].as_f64(), Some(443.0));
    let configuration = object(&install, "ConfigMap", "configuration");
    let module = object(&module, "Module", "s3-bucket");
    let source = format!(
        "\"{host}/platform/s3-bucket/{}\"",
        module["spec"]["moduleConfig"]["provider"].as_str().unwrap()
    );
    assert!(configuration["data"]["main.tf"].as_str().unwrap().contains(&source), "{source}");
    let job = &object(&install, "Job", "install")["spec"]["template"]["spec"];
    let volumes = job["volumes"].as_array().unwrap();
    let token =
        volumes.iter().find_map(|v| v["projected"]["sources"][0]["serviceAccountToken"]["audience"].as_str());
    assert_eq!(token, Some(host.as_str()));
    let variable = format!("TF_TOKEN_{}=", host.replace('-', "__").replace('.', "_"));
    assert!(job["containers"][0]["command"][2].as_str().unwrap().contains(&variable), "{variable}");
    assert!(read("up").contains(&format!("host={host}\n")));
    // The service account of the pod may install.
    let binding =
        rendered.iter().find(|o| o["kind"] == "RoleBinding" && o["metadata"]["namespace"] == "platform");
    let subject =
        json!({"kind": "ServiceAccount", "name": job["serviceAccountName"], "namespace": "platform"});
    assert_eq!(binding.unwrap()["subjects"], json!([subject]));
    // Module and operator name the store's Service, and the bucket that it has.
    let port = &object(&storage, "Service", "storage")["spec"]["ports"][0]["port"];
    let s3 = &module["spec"]["moduleConfig"]["storageConfig"]["s3"];
    assert_eq!(s3["endpoint"], format!("http://storage.{SYSTEM}.svc:{port}"));
    let bucket = s3["bucket"].as_str().unwrap();
    for name in ["opendepot", "opendepot-registry"] {
        let pod = &object(&rendered, "Deployment", name)["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(pod["image"], "opendepot:kind");
        let settings = pod.to_string()
            + &rendered.iter().filter(|o| o["kind"] == "ConfigMap").map(Value::to_string).collect::<String>();
        assert!(settings.contains(s3["endpoint"].as_str().unwrap()), "{name}: {settings}");
        assert!(settings.contains(&format!("platform={bucket}")), "{name}: {settings}");
        assert!(settings.contains("AWS_SECRET_ACCESS_KEY"), "{name}: {settings}");
    }
    let storage = object(&storage, "Deployment", "storage");
    let folders = storage["spec"]["template"]["spec"]["initContainers"][0]["command"].to_string();
    assert!(folders.contains(&format!("/{bucket}\"")), "{folders}");
}

#[test]
fn the_script_for_kind_names_files_that_exist() {
    let script = read("up");
    let parsed = Command::new("bash").arg("-n").arg(root().join("examples/kind/up")).status().unwrap();
    assert!(parsed.success());
    let files = script.split(|c: char| c.is_whitespace()).filter(|word| word.starts_with("examples/kind/"));
    let files: Vec<&str> = files.collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert!(root().join(file).is_file(), "{file}");
    }
    // A node image by tag alone could be another one tomorrow.
    assert!(read("cluster.yaml").contains("@sha256:"));
}
