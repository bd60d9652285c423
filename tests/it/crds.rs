//! The CustomResourceDefinitions: generated, accepted without a warning, explained, and strict where a user would
//! otherwise find out late.

use std::path::Path;

use opendepot_testbed::kubernetes::VARIABLE;
use serde_json::{Value, json};

use crate::support::command::opendepot;
use crate::support::generated::{is_generated, updates};
use crate::support::{root, testbed};

#[test]
fn the_files_in_crds_are_what_the_code_prints() {
    for (plural, definition) in opendepot::api::definitions() {
        let printed = opendepot::api::yaml(&definition).unwrap();
        if updates() {
            // The chart has a copy, which deploy.rs compares with this one.
            let copy = format!("deploy/helm/opendepot/files/crds/{plural}.yaml");
            std::fs::write(root().join(copy), &printed).unwrap();
        }
        is_generated(&format!("crds/{plural}.yaml"), &printed, "crds");
    }
}

#[tokio::test]
async fn applying_them_draws_no_warning() {
    let bed = testbed().await;
    let folder = root().join("crds");
    let applied = bed
        .kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--warnings-as-errors",
            "-f",
            folder.to_str().unwrap(),
        ])
        .unwrap();
    assert!(applied.success(), "{applied:?}");
    assert!(!applied.stderr.contains("Warning"), "{}", applied.stderr);
}

/// Fails if a text is compared with an expression that has no message: the API server then answers with the expression alone.
fn each_comparison_has_a_message(schema: &Value, path: &str) {
    match schema {
        Value::Object(fields) => {
            // A field may be called `pattern`, but then it is no text.
            assert!(
                !fields.get("pattern").is_some_and(Value::is_string),
                "{path}: write a rule with a message"
            );
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                assert!(rule["message"].is_string(), "{path}: {rule} has no message");
            }
            fields
                .iter()
                .for_each(|(name, part)| each_comparison_has_a_message(part, &format!("{path}.{name}")));
        }
        Value::Array(parts) => parts.iter().for_each(|part| each_comparison_has_a_message(part, path)),
        _ => {}
    }
}

#[test]
fn no_field_is_refused_without_words() {
    for (plural, definition) in opendepot::api::definitions() {
        each_comparison_has_a_message(&serde_json::to_value(&definition).unwrap(), plural);
    }
}

/// A Module that the API server accepts, with one thing changed by a merge patch.
fn module(change: &Value) -> Value {
    let mut module = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1",
        "kind": "Module",
        "metadata": {"name": "checked", "namespace": "default"},
        "spec": {
            "moduleConfig": {
                "name": "m", "provider": "aws", "repoUrl": "https://github.com/owner/repo",
                "storageConfig": {"s3": {"bucket": "bucket", "region": "us-west-2"}},
            },
            "versions": [{"version": "1.0.0"}],
        },
    });
    merge(&mut module, change);
    module
}

fn merge(target: &mut Value, change: &Value) {
    match change {
        Value::Object(change) if target.is_object() => {
            for (key, value) in change {
                if value.is_null() {
                    target.as_object_mut().unwrap().remove(key);
                } else {
                    merge(&mut target[key], value);
                }
            }
        }
        _ => *target = change.clone(),
    }
}

#[tokio::test]
async fn bad_modules_are_refused_with_a_message_that_says_what_to_write() {
    let bed = testbed().await;
    let dry_run = |object: &Value| {
        bed.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &object.to_string()).unwrap()
    };
    let validate = |object: &Value| {
        opendepot(Path::new("/nonexistent")).input(&object.to_string()).run(&["validate", "-"])
    };
    let is_older = std::env::var_os(VARIABLE).is_some();
    let good = dry_run(&module(&json!({})));
    assert!(good.success(), "{}", good.stderr);
    let config = |change: Value| json!({"spec": {"moduleConfig": change}});
    let storage = |change: Value| config(json!({"storageConfig": change}));
    let versions = |version: Value| json!({"spec": {"versions": [{"version": version}]}});
    let notice =
        |field: &str, text: &str| json!({"spec": {"versions": [{"version": "1.0.0", (field): text}]}});
    for (change, expected) in [
        (config(json!({"storageConfig": null})), "storageConfig.s3 is required: write"),
        (storage(json!({"s3": null})), "storageConfig.s3 is required: write"),
        (storage(json!({"s3": {"bucket": null}})), "storageConfig.s3.bucket: Required value"),
        (storage(json!({"s3": {"region": null}})), "storageConfig.s3.region: Required value"),
        (storage(json!({"s3": {"bucket": "Bad_Bucket"}})), "bucket must be the name of a bucket, such as"),
        (storage(json!({"s3": {"region": "us west 2"}})), "region must be the name of a region, such as"),
        (storage(json!({"s3": {"endpoint": "minio:9000"}})), "endpoint must be https://HOST[:PORT]"),
        (
            config(json!({"githubClientConfig": {"secretName": "My_Secret"}})),
            "secretName must be the name of a Secret",
        ),
        (storage(json!({"s3": {"key": "../up"}})), "must not contain . or .. as a segment"),
        (storage(json!({"s3": {"key": "/rooted"}})), "key must be made of plain path segments, such as"),
        (storage(json!({"s3": {"key": "a//b"}})), "no leading or double slash"),
        (storage(json!({"s3": {"key": "a\\b"}})), "no leading or double slash"),
        (storage(json!({"s3": {"key": "a\nb"}})), "no leading or double slash"),
        (
            storage(json!({"s3": null, "gcs": {"bucket": "b"}})),
            "storageConfig.gcs is not supported: OpenDepot stores in S3",
        ),
        (
            storage(json!({"fileSystem": {"directoryPath": "/x"}})),
            "storageConfig.fileSystem is not supported",
        ),
        (
            storage(json!({"azureStorage": {"accountName": "x"}})),
            "storageConfig.azureStorage is not supported",
        ),
        (config(json!({"repoUrl": null})), "repoUrl is required: write https://github.com/OWNER/REPO"),
        (
            config(json!({"repoUrl": "http://github.com/owner/repo"})),
            "repoUrl must be https://HOST/OWNER/REPO",
        ),
        (config(json!({"repoUrl": "https://github.com/owner"})), "repoUrl must be https://HOST/OWNER/REPO"),
        (
            config(json!({"repoUrl": "https://user:pw@github.com/owner/repo"})),
            "repoUrl must be https://HOST/OWNER/REPO",
        ),
        (config(json!({"repoOwner": "another-owner"})), "repoOwner must be the owner in repoUrl"),
        (config(json!({"fileFormat": "rar"})), "supported values: \"zip\", \"tar\""),
        (config(json!({"deletionPolicy": "Keep"})), "supported values: \"Delete\", \"Retain\""),
        (config(json!({"versionHistoryLimit": -1})), "versionHistoryLimit"),
        (config(json!({"name": ".."})), "name must be one plain path segment, such as"),
        (notice("deprecated", "one\ntwo"), "deprecated must be one line, without control characters"),
        (notice("withdrawn", "one\u{85}two"), "withdrawn must be one line, without control characters"),
        (config(json!({"provider": "AWS"})), "provider must be a name such as aws"),
        (
            config(json!({"repoUrl": null, "repoOwner": "my org"})),
            "repoOwner must be a user or an organisation",
        ),
        (versions(json!("1.10")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("1.0.0-01")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("1.0.0-a..b")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("1.0.0+a..b")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("1.0.0+.a")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("18446744073709551616.0.0")), "version must be a semantic version"),
        (versions(json!("latest")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!("1.2.3/../../x")), "version must be a semantic version, MAJOR.MINOR.PATCH"),
        (versions(json!(1.10)), "must be of type string: \"number\""),
        (json!({"spec": {"versions": [{"version": "1.0.0"}, {"version": "1.0.0"}]}}), "Duplicate value"),
        (json!({"spec": {"surprise": true}}), "unknown field \"spec.surprise\""),
        (json!({"status": {"surprise": true}, "spec": {"x": 1}}), "unknown field \"spec.x\""),
        (json!({"spec": {"removal": "confirm"}}), "supported values: \"Immediate\", \"Confirm\""),
        (
            config(json!({"versionHistoryLimit": 3_000_000_000_u32})),
            "must be of type integer with format int32",
        ),
        (config(json!({"versionHistoryLimit": 1e30})), "must be of type integer with format int32"),
        (config(json!({"versionHistoryLimit": 1.5})), "spec.moduleConfig.versionHistoryLimit: Invalid value"),
        (json!({"metadata": {"generateName": "Upper"}}), "metadata.generateName"),
        (json!({"apiVersion": null}), "apiVersion"),
        (json!({"apiVersion": "v1"}), "Module"),
        (json!({"apiVersion": "opendepot.defdev.io/v1beta1"}), "opendepot.defdev.io/v1"),
        (json!({"kind": "Modules"}), "Modules"),
        (json!({"metadata": {"name": "Upper"}}), "Upper"),
        (json!({"metadata": {"namespace": "Bad_Namespace"}}), "Bad_Namespace"),
        (json!({"metadata": {"labels": {"team": "a b"}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"a b": "team"}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"team": "b".repeat(64)}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"team": 1.1}}}), "metadata.labels"),
        (json!({"metadata": {"labels": {"A/team": "x"}}}), "metadata.labels"),
        (json!({"metadata": {"annotations": {"a b": "x"}}}), "metadata.annotations"),
        (json!({"metadata": {"annotations": {"a": true}}}), "metadata.annotations"),
        (json!({"metadata": {"annotations": {"a": "x".repeat(256 << 10)}}}), "metadata.annotations"),
        (json!({"metadata": {"finalizers": ["x y"]}}), "metadata.finalizers"),
        (json!({"metadata": {"ownerReferences": [{"name": "x"}]}}), "metadata.ownerReferences"),
        (json!({"metadata": {"creationTimestamp": "yesterday"}}), "yesterday"),
        (json!({"metadata": {"generation": "x"}}), "generation"),
        (json!({"metadata": {"lables": {}}}), "unknown field \"metadata.lables\""),
    ] {
        // Older API servers do not compare numbers with the format.
        if !(is_older && expected.contains("format int32")) {
            let refused = dry_run(&module(&change));
            assert!(!refused.success(), "accepted: {change}");
            assert!(refused.stderr.contains(expected), "{change}\n{}", refused.stderr);
        }
        let offline = validate(&module(&change));
        assert!(offline.code == Some(1) && offline.stdout.contains(expected), "{change}\n{offline:#?}");
    }
    for accepted in [
        config(json!({"repoUrl": "https://github.com/Owner/repo.git", "repoOwner": "owner"})),
        config(json!({"repoUrl": null, "repoOwner": "owner"})),
        config(json!({"versionConstraints": ">= 1.0.0", "provider": null})),
        storage(json!({"presign": {"enabled": true, "ttl": "15m", "fallbackToProxy": true}})),
        storage(json!({"s3": {"key": "modules/terraform v2/"}})),
        versions(json!("v1.0.0-rc.1+build.5")),
        versions(json!("1.0.0--.0a.1-2+0.00-")),
        json!({"spec": {"versions": [{"version": "v1.0.0", "name": "x", "fileName": "y.zip", "synced": true}]}}),
        json!({"spec": {"versions": null}}),
        notice("deprecated", "zwei \u{2013} \u{a0}drei"),
        notice("withdrawn", ""),
        storage(json!({"s3": {"endpoint": "http://[::1]:9000/"}})),
        json!({"spec": {"versions": [{"version": "1.0.0"}, {"version": "v1.0.0"}]}}),
        config(json!({"versionHistoryLimit": 3.0})),
        json!({"metadata": {"labels": {"a": "", "example.com/b": "C.d_e-f"}, "annotations": {"Example.com/B_c": ""}}}),
        json!({"metadata": {"name": null, "generateName": "checked-"}}),
        json!({"metadata": {"finalizers": ["example.com/x"], "generation": 7, "uid": "x"}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}}),
        json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"synced": true}}),
    ] {
        let created = dry_run(&module(&accepted));
        assert!(created.success(), "{accepted}\n{}", created.stderr);
        let offline = validate(&module(&accepted));
        assert_eq!(offline.code, Some(0), "{accepted}\n{offline:#?}");
    }
}

#[tokio::test]
async fn a_version_never_changes_its_type_or_version() {
    let bed = testbed().await;
    let version = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
        "metadata": {"name": "fixed", "namespace": "default"},
        "spec": {"type": "Module", "version": "1.0.0", "suspend": true, "moduleConfigRef": module(&json!({}))["spec"]["moduleConfig"]},
    });
    bed.kubectl_with(&["create", "-f", "-"], &version.to_string()).unwrap().ok().unwrap();
    for (patch, expected) in [
        (r#"{"spec":{"version":"1.0.1"}}"#, "version cannot be changed: create another Version"),
        (r#"{"spec":{"type":"Provider"}}"#, "type cannot be changed"),
        (r#"{"spec":{"moduleConfigRef":null}}"#, "moduleConfigRef is required"),
        (r#"{"spec":{"fileName":"../x.zip"}}"#, "fileName must be the last part of a key, such as"),
    ] {
        let refused = bed
            .kubectl(&[
                "patch",
                "version.opendepot.defdev.io",
                "fixed",
                "-n",
                "default",
                "--type=merge",
                "-p",
                patch,
            ])
            .unwrap();
        assert!(refused.stderr.contains(expected), "{patch}: {refused:?}");
    }
    bed.kubectl(&["delete", "version.opendepot.defdev.io", "fixed", "-n", "default"]).unwrap().ok().unwrap();
}

#[tokio::test]
async fn explain_reads_well_for_every_field() {
    let bed = testbed().await;
    for kind in ["modules", "versions"] {
        let api = ["--api-version=opendepot.defdev.io/v1alpha1", "--recursive=false"];
        for field in ["", ".spec", ".status", ".spec.moduleConfig", ".spec.moduleConfigRef", ".spec.versions"]
        {
            let path = format!("{kind}{field}");
            let explained = bed.kubectl(&["explain", &path, api[0], api[1]]).unwrap();
            if !explained.success() {
                assert!(explained.stderr.contains("does not exist"), "{path}: {}", explained.stderr);
                continue;
            }
            let undescribed = explained.stdout.matches("<no description>").count();
            // Kubernetes itself describes metadata.
            assert_eq!(undescribed, 0, "{path}\n{}", explained.stdout);
        }
    }
}

#[test]
fn files_are_validated_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let good = serde_yaml::to_string(&module(&json!({}))).unwrap();
    let bad = good.replace("region: us-west-2", "region: us-west-2\n        regoin: eu-west-1");
    assert_ne!(bad, good);
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n";
    std::fs::write(folder.path().join("good.yaml"), &good).unwrap();
    std::fs::write(folder.path().join("bad.yaml"), format!("{other}---\n{good}---\n{bad}")).unwrap();
    std::fs::write(folder.path().join("broken.yaml"), "a: [").unwrap();
    let run = |args: &[&str]| {
        opendepot(Path::new("/nonexistent")).in_folder(folder.path()).run(&[&["validate"], args].concat())
    };
    assert_eq!(run(&["good.yaml"]).ok(), "1 checked, 0 of other kinds ignored, 0 problems\n");
    let printed = run(&["good.yaml", "bad.yaml", "broken.yaml", "none.yaml"]);
    let field = "spec.moduleConfig.storageConfig.s3.regoin";
    let line = format!("bad.yaml:37: document 3, Module checked: {field}: unknown field \"{field}\"\n");
    assert!(printed.code == Some(1) && printed.stdout.starts_with(&line), "{printed:#?}");
    assert!(printed.stdout.contains("broken.yaml:1: not valid YAML: "), "{printed:#?}");
    assert!(printed.stdout.contains("none.yaml: "), "{printed:#?}");
    assert!(printed.stdout.ends_with("3 checked, 1 of other kinds ignored, 3 problems\n"), "{printed:#?}");
    let problem = &run(&["bad.yaml", "-o", "json"]).json()["problems"][0];
    assert_eq!((&problem["document"], &problem["path"]), (&json!(3), &json!(field)));
    // Lists of every form, JSON objects after each other, and files of a folder.
    let items = |kind: &str, item: &str| {
        format!("apiVersion: v1\nkind: {kind}\nitems:\n- {}\n", item.trim_end().replace('\n', "\n  "))
    };
    let json = module(&json!({})).to_string();
    std::fs::create_dir_all(folder.path().join("repo/.git")).unwrap();
    std::fs::create_dir_all(folder.path().join("repo/b")).unwrap();
    std::fs::create_dir_all(folder.path().join("empty")).unwrap();
    for (name, text) in [
        ("list.yaml", items("List", &good)),
        ("modules.yaml", items("ModuleList", &good).replace(": v1\n", ": opendepot.defdev.io/v1alpha1\n")),
        ("stream.json", format!("{json}\n{json}\n")),
        ("windows.yaml", format!("\u{feff}# x\n---\n{good}--- # y\n{good}...\n").replace('\n', "\r\n")),
        (
            "anchors.yaml",
            good.replace("bucket: bucket", "<<: &place {bucket: bucket}").replace("name: m", "name: &n m"),
        ),
        ("repo/a.yaml", good.clone()),
        ("repo/b/c.yml", good.clone()),
        ("repo/b/d.json", json.clone()),
        ("repo/b/template.yaml", "a: {{ .Values.a }}\n".to_owned()),
        ("repo/b/values.yaml", "replicas: 3\n".to_owned()),
        ("repo/b/README.md", bad.clone()),
        ("repo/.git/e.yaml", bad.clone()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    for (file, expected) in [
        ("list.yaml", "1 checked, 0 of"),
        ("modules.yaml", "1 checked, 0 of"),
        ("stream.json", "2 checked, 0 of"),
        ("windows.yaml", "2 checked, 0 of"),
        ("anchors.yaml", "1 checked, 0 of"),
        ("repo", "3 checked, 2 of"),
    ] {
        let printed = run(&[file]).ok();
        assert!(printed.starts_with(expected), "{file}: {printed}");
    }
    let twice = good.replace("provider: aws", "provider: aws\n    provider: google");
    for (name, text, expected) in [
        ("twice.yaml", twice, "twice.yaml:"),
        ("template.yaml", good.replace("aws", "{{ .Values.provider }}"), "must be rendered first"),
        ("nested.yaml", items("List", &items("List", &good)), "kubectl rejects a list in a list"),
        (
            "item.yaml",
            items("List", &good.replace("region: us-west-2", "region: 5")),
            "s3.region: Invalid value",
        ),
        (
            "nameless.yaml",
            good.replace("apiVersion: opendepot.defdev.io/v1alpha1\n", ""),
            "apiVersion: Required value",
        ),
        (
            "group.yaml",
            good.replace("opendepot.defdev.io/", "opendepot.io/"),
            "write opendepot.defdev.io/v1alpha1",
        ),
        ("text.yaml", "hello\n".to_owned(), "this is not a Kubernetes object: write apiVersion and kind"),
        (
            "entry.yaml",
            items("List", "hello"),
            "entry.yaml:4: document 1, ? ?: this is not a Kubernetes object",
        ),
        ("empty.yaml", "# nothing\n".to_owned(), "empty.yaml: this contains no object: check"),
        ("empty/a.yaml", "# nothing\n".to_owned(), "empty: this contains no object: check"),
        ("list.yaml", items("List", "").replace("\n- ", " []"), "list.yaml: this contains no object: check"),
        ("repo/b/broken.yaml", format!("{good}  x: ["), "repo/b/broken.yaml:"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        let printed = run(&[name.split('/').next().unwrap()]);
        assert!(printed.code == Some(1) && printed.stdout.contains(expected), "{name}: {printed:#?}");
        assert!(!printed.stdout.contains("-->") && !printed.stdout.contains("Policy"), "{printed:#?}");
    }
    let empty = opendepot(Path::new("/nonexistent")).input("").run(&["validate", "-"]);
    assert!(empty.code == Some(1) && empty.stdout.contains("-: this contains no object"), "{empty:#?}");
    // Every manifest that is shipped.
    let examples = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<String> = examples
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.display().to_string())
        .collect();
    run(&files.iter().map(String::as_str).collect::<Vec<_>>()).ok();
}
