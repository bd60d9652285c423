//! `opendepot check`: each line against the real servers, and what it changes: nothing.

use std::sync::mpsc;

use opendepot_testbed::s3::{S3Failure, S3Fault, Store};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::command::{Printed, opendepot};
use crate::support::rendered::{find, parse, release};
use crate::support::{World, root, soon, whole_cluster};

/// The lines of one check: result and message.
fn lines(report: &Value, check: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = report["checks"].as_array().unwrap().iter().filter(|line| line["check"] == check);
    of.map(|line| (text(&line["result"]), text(&line["message"]))).collect()
}

/// The one line of a check that failed, with its fix.
#[track_caller]
fn failure(printed: &Printed, check: &str) -> String {
    assert_eq!(printed.code, Some(1), "{printed:#?}");
    let report = printed.json();
    let failed: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|line| line["result"] == "failed").collect();
    assert!(!failed.is_empty() && failed.iter().all(|line| line["check"] == check), "{report:#}");
    assert!(failed.iter().all(|line| line["fix"].as_str().is_some_and(|fix| !fix.is_empty())), "{report:#}");
    format!("{}\n{}", failed[0]["message"].as_str().unwrap(), failed[0]["fix"].as_str().unwrap())
}

#[tokio::test]
async fn in_the_operators_pod_it_needs_no_argument_and_no_other_right() {
    let world = World::new("check-pod").await;
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();
    let printed =
        world.command().env("OPENDEPOT_LEASE_NAMESPACE", "opendepot-system").run(&["check", "-o", "json"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let report = printed.json();
    assert_eq!((&report["failed"], &report["version"]), (&json!(0), &json!(env!("CARGO_PKG_VERSION"))));
    let crds = lines(&report, "crds");
    assert!(crds.len() == 2 && crds.iter().all(|(result, _)| result == "ok"), "{crds:?}");
    let rights = lines(&report, "rights");
    assert!(rights.len() == 9 && rights.iter().all(|(result, _)| result == "ok"), "{rights:?}");
    let aws = lines(&report, "aws");
    assert!(aws[0].0 == "ok" && aws[0].1.contains("credentials from AWS_ACCESS_KEY_ID"), "{aws:?}");
    assert_eq!(lines(&report, "egress"), [("ok".into(), "https://github.com answers (HTTP 404)".into())]);
    for check in ["bucket", "github"] {
        assert_eq!(lines(&report, check)[0].0, "skipped", "{report:#}");
    }
    assert!(!printed.stdout.contains(&world.bed.s3.root().secret_key));
    // Reviews are not stored.
    let calls = audit.since(mark, &world.client).await.unwrap();
    let written: Vec<_> = calls
        .iter()
        .filter(|call| {
            call.user == crate::support::OPERATOR && call.is_write() && call.namespace == world.name
        })
        .collect();
    assert!(written.is_empty(), "{written:?}");

    // The text, as users read it, and the rights of the operator for an administrator.
    let admin = opendepot(&world.bed.kubernetes.admin_kubeconfig())
        .env("OPENDEPOT_CA_FILE", world.bed.github.ca_file());
    let admin = admin.env("HTTPS_PROXY", world.bed.github.proxy_url()).env("NO_PROXY", "127.0.0.1");
    let admin = admin.env("AWS_EC2_METADATA_DISABLED", "true");
    let text = admin.run(&["check", "--as", crate::support::OPERATOR]);
    assert_eq!(text.code, Some(1), "{text:#?}");
    assert!(
        text.stdout
            .contains("leases.coordination.k8s.io opendepot in namespace opendepot-system: get, update"),
        "{text:#?}"
    );
    assert!(
        text.stdout.contains(
            "failed   aws      no credentials found\n                  fix: give the ServiceAccount"
        ),
        "{text:#?}"
    );
    assert!(text.stdout.ends_with("1 check failed.\n"), "{text:#?}");
}

/// What `helm test` runs with the chart's values, as its own service account with the permissions that the chart grants.
#[tokio::test]
async fn helm_test_succeeds_with_exactly_what_the_chart_grants() {
    let world = World::new("check-helm").await;
    let (s3, github) = (&world.bed.s3, &world.bed.github);
    let endpoint = s3.endpoint();
    let env = [
        ("AWS_ACCESS_KEY_ID", s3.root().access_key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", s3.root().secret_key.as_str()),
        ("AWS_ENDPOINT_URL_S3", endpoint.as_str()),
    ];
    let values = json!({
        "fullnameOverride": "tested", "namespaces": [world.name], "secretNames": ["app", "other"],
        "caFile": {"secret": "roots"}, "httpsProxy": github.proxy_url(), "noProxy": "127.0.0.1,localhost",
        "githubHosts": ["github.com"], "extraArgs": ["--max-entries=5"], "crds": {"install": false},
        "extraEnv": env.map(|(name, value)| json!({"name": name, "value": value})),
    });
    let rendered = release("release", &world.name, &[], &values);
    assert!(rendered.success(), "{}", rendered.stderr);
    let objects = parse(&rendered.stdout);
    let container = find(&objects, "Pod", "tested-check")["spec"]["containers"][0].clone();
    let kept = |kind: &str| {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.for_each(|object| world.apply(object));
    };
    kept("ServiceAccount");
    let account = world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "tested").await.unwrap();
    // Kubernetes mounts the Secret, and the namespace of the pod.
    let mounts = tempfile::tempdir().unwrap();
    std::fs::copy(github.ca_file(), mounts.path().join("ca.crt")).unwrap();
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
    let args = args.iter().map(|arg| arg.replace("/etc/opendepot/ca", mounts.path().to_str().unwrap()));
    let args: Vec<String> = args.chain(["-o".into(), "json".into()]).collect();
    let check = || {
        let mut command = opendepot(&account).env("OPENDEPOT_LEASE_NAMESPACE", &world.name);
        for variable in container["env"].as_array().unwrap() {
            command = command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        }
        command.run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = check();
    let message = failure(&refused, "rights");
    assert!(
        message.contains("not allowed to get, list, watch, patch") && message.contains("grant the rules"),
        "{message}"
    );
    let rights = lines(&refused.json(), "rights");
    assert!(rights.len() == 10 && rights.iter().all(|(result, _)| result == "failed"), "{rights:?}");
    kept("Role");
    kept("RoleBinding");
    soon(|| async {
        let printed = check();
        anyhow::ensure!(printed.code == Some(0), "{printed:#?}");
        assert_eq!(lines(&printed.json(), "rights").len(), 10);
        assert!(!printed.stdout.contains(&s3.root().secret_key), "{printed:#?}");
        Ok(())
    })
    .await;
    // What the message of each other failure contains.
    let run = |kubeconfig: &std::path::Path, args: &[&str]| {
        opendepot(kubeconfig).run(&[&["check", "-o", "json"], args].concat())
    };
    let cluster = |printed: Printed| {
        let report = printed.json();
        let line = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|line| line["check"] == "cluster")
            .unwrap()
            .clone();
        assert_eq!((printed.code, &line["result"]), (Some(1), &json!("failed")), "{report:#}");
        format!("{} {}", line["message"].as_str().unwrap(), line["fix"].as_str().unwrap())
    };
    let message = cluster(run(&account, &["--as", crate::support::OPERATOR]));
    assert!(message.contains("cannot impersonate") && message.contains("leave out --as"), "{message}");
    let config: Value = serde_yaml::from_str(&std::fs::read_to_string(&account).unwrap()).unwrap();
    for (pointer, value, expected) in [
        ("/users/0/user/token", "expired", "log in again"),
        ("/clusters/0/cluster/server", "https://127.0.0.1:1", "onnection refused"),
        ("/current-context", "none", "set KUBECONFIG"),
    ] {
        let mut config = config.clone();
        *config.pointer_mut(pointer).unwrap() = json!(value);
        let (path, name) = (mounts.path().join("kubeconfig"), pointer);
        std::fs::write(&path, config.to_string()).unwrap();
        let message = cluster(run(&path, &[]));
        assert!(message.contains(expected) && !message.contains("Status {"), "{name}: {message}");
    }
}

/// Missing definitions, and those of another release.
#[tokio::test]
async fn definitions_that_are_not_of_this_release_are_named() {
    let (_turn, bed) = whole_cluster().await;
    let kubeconfig = bed.kubernetes.admin_kubeconfig();
    let crds = |expected: &'static [&'static str]| {
        let kubeconfig = kubeconfig.clone();
        soon(move || {
            let printed =
                opendepot(&kubeconfig).env("AWS_EC2_METADATA_DISABLED", "true").run(&["check", "-o", "json"]);
            async move {
                let found = lines(&printed.json(), "crds");
                let as_expected = found.len() == 2
                    && found.iter().zip(expected).all(|((_, message), expected)| message.contains(expected));
                anyhow::ensure!(as_expected, "{found:?}");
                let failed = expected.iter().any(|text| !text.contains("with the schema"));
                assert!(!failed || printed.stdout.contains("opendepot crd"), "{printed:#?}");
                Ok(())
            }
        })
    };
    let text = std::fs::read_to_string(root().join("crds/modules.yaml")).unwrap();
    let mut old: Value = serde_yaml::from_str(&text).unwrap();
    let spec =
        &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec.as_object_mut().unwrap().remove("removal");
    spec["moduleConfig"]["properties"]["provider"]["maxLength"] = json!(20);
    let name = "crd/modules.opendepot.defdev.io";
    let apply = ["apply", "--server-side", "--force-conflicts", "-f"];
    bed.kubectl_with(&[&apply[..], &["-"]].concat(), &old.to_string()).unwrap().ok().unwrap();
    crds(&["differs in spec.moduleConfig.provider, spec.removal", "with the schema of this release"]).await;
    bed.kubectl(&["delete", name]).unwrap().ok().unwrap();
    crds(&["modules.opendepot.defdev.io: v1alpha1 is not served", "with the schema of this release"]).await;
    // Without either, the API server does not know the group.
    bed.kubectl(&["delete", "crd/versions.opendepot.defdev.io"]).unwrap().ok().unwrap();
    crds(&["modules.opendepot.defdev.io: v1alpha1 is not", "versions.opendepot.defdev.io: v1alpha1 is not"])
        .await;
    for args in [
        &["publish", "net", "1.0.0", "--timeout", "5s"][..],
        &["source", "net"],
        &["withdraw", "net", "1.0.0", "CVE"],
    ] {
        let refused = opendepot(&kubeconfig).run(args).failed();
        assert!(
            refused.contains("the cluster has no kind Module or Version: install"),
            "{args:?}: {refused}"
        );
    }
    let folder = root().join("crds");
    bed.kubectl(&[&apply[..], &[folder.to_str().unwrap()]].concat()).unwrap().ok().unwrap();
    let both = ["crd/versions.opendepot.defdev.io", name];
    bed.kubectl(&[&["wait", "--for=condition=Established"][..], &both].concat()).unwrap().ok().unwrap();
    crds(&["with the schema of this release", "with the schema of this release"]).await;
}

#[tokio::test]
async fn for_a_module_its_bucket_secret_and_repository_are_checked_and_nothing_stays() {
    let world = World::new("check-module").await;
    let repository = world.released("net").private(true);
    let app = world.bed.github.app(&[&repository.name()]).unwrap();
    let (id, installation) = (app.id.to_string(), app.installation.to_string());
    let secret = json!({"useAuthenticatedClient": true, "secretName": "app"});
    world.apply(&world.module("net").s3("key", json!("team/")).config("githubClientConfig", secret));
    let check = |more: &[&str]| {
        // As in a pod, no folder is writable.
        let command = world.command().env("OPENDEPOT_LEADER_ELECT", "false").env("TMPDIR", "/no/such/folder");
        command.run(&[&["check", "net", "-n", &world.name, "-o", "json"], more].concat())
    };
    let message = failure(&check(&[]), "github");
    assert!(message.contains("Secret app in namespace") && message.contains("does not exist"), "{message}");

    world.secret(
        "app",
        &[("githubAppID", &id), ("githubInstallID", &installation), ("githubPrivateKey", &app.pkcs1_pem)],
    );
    world.bed.s3.forget_requests(&world.name);
    let printed = check(&[]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let report = printed.json();
    let (github, bucket) = (lines(&report, "github"), lines(&report, "bucket"));
    assert!(
        github[0].1.contains(&format!("is visible as App {id}, installation {installation}")),
        "{github:?}"
    );
    assert!(bucket[2].1.contains("SHA-256, size and metadata are as sent"), "{bucket:?}");
    assert!(bucket[3].1.contains("PUT with If-None-Match: rejected"), "{bucket:?}");
    assert!(bucket.len() == 5 && bucket.iter().all(|(result, _)| result == "ok"), "{bucket:?}");
    let requests = world.bed.s3.requests(&world.name);
    let mut requests: Vec<String> = requests.iter().map(|r| format!("{} {}", r.method, r.key)).collect();
    // The SDK repeats what takes ten seconds.
    requests.dedup();
    let key = requests.last().unwrap().split(' ').nth(1).unwrap().to_owned();
    assert!(key.starts_with("team/opendepot-check-"), "{requests:?}");
    let expected = [
        "HEAD ".to_owned(),
        format!("HEAD {key}"),
        format!("PUT {key}"),
        format!("HEAD {key}"),
        format!("PUT {key}"),
        format!("DELETE {key}"),
    ];
    assert_eq!(requests, expected);
    assert_eq!(world.bed.s3.keys(&world.name).await.unwrap(), Vec::<String>::new());
    assert!(!printed.stdout.contains("PRIVATE KEY"));

    // A probe that cannot be verified is deleted, and what fails is named.
    world.bed.s3.inject(S3Fault::new(&world.name, S3Failure::HideMissing));
    let message = failure(&check(&[]), "bucket");
    assert!(
        message.contains("s3:ListBucket") && message.contains("examples/aws/s3-policy.json"),
        "{message}"
    );
    world.bed.s3.clear_faults(&world.name);
    world.patch(
        "module/net",
        &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"bucket": "no-such-bucket"}}}}}),
    );
    let message = failure(&check(&[]), "bucket");
    assert!(
        message.contains("bucket no-such-bucket does not exist") && message.contains("create the bucket"),
        "{message}"
    );
    repository.delete();
    world.patch(
        "module/net",
        &json!({"spec": {"moduleConfig": {"storageConfig": {"s3": {"bucket": world.name}}}}}),
    );
    let message = failure(&check(&[]), "github");
    assert!(message.contains("install the App"), "{message}");

    // Wrong keys are named, also one with a line break, and so is what a store does not support.
    for (variable, value, named) in [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "(SignatureDoesNotMatch)"),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE\n", "(AWS_ACCESS_KEY_ID) contains a line break"),
    ] {
        let wrong = world.command().env("OPENDEPOT_LEADER_ELECT", "false").env(variable, value);
        let report = wrong.run(&["check", "net", "-n", &world.name, "-o", "json"]).json();
        let bucket = lines(&report, "bucket");
        assert!(bucket[0].0 == "failed" && bucket[0].1.contains(named), "{report:#}");
    }
    world.bed.s3.behave_as(&world.name, Store::BackblazeB2);
    let bucket = lines(&check(&[]).json(), "bucket");
    assert!(bucket.len() == 5 && bucket.iter().all(|(result, _)| result == "ok"), "{bucket:?}");
    assert!(bucket[2].1.contains("the store returns no SHA-256"), "{bucket:?}");
    assert!(bucket[3].1.contains("the store rejects If-None-Match"), "{bucket:?}");
    let repeated = lines(&check(&["--namespace", &world.name]).json(), "module");
    assert!(repeated.len() == 1 && repeated[0].0 == "ok", "{repeated:?}");
    let printed = world.command().run(&["check", "none", "-n", &world.name]);
    assert!(printed.stdout.contains("Module none in namespace"), "{printed:#?}");
}

#[tokio::test]
async fn missing_rights_are_named_one_by_one() {
    let world = World::new("check-rights").await;
    world.kubectl(&["create", "serviceaccount", "poor"]);
    let resources = "--resource=modules.opendepot.defdev.io,versions.opendepot.defdev.io,secrets";
    world.kubectl(&["create", "role", "poor", "--verb=get", "--verb=list", resources]);
    let account = format!("--serviceaccount={}:poor", world.name);
    world.kubectl(&["create", "rolebinding", "poor", "--role=poor", &account]);
    let poor = world.bed.kubernetes.kubeconfig_for_service_account(&world.name, "poor").await.unwrap();
    soon(|| async {
        let printed =
            world.command().env("KUBECONFIG", &poor).run(&["check", "-n", &world.name, "-o", "json"]);
        let rights = lines(&printed.json(), "rights");
        let modules =
            format!("modules.opendepot.defdev.io in namespace {}: not allowed to watch, patch", world.name);
        anyhow::ensure!(rights[0] == ("failed".to_owned(), modules), "{rights:?}");
        anyhow::ensure!(rights[5].0 == "ok", "secrets: {rights:?}");
        let message = failure(&printed, "rights");
        assert!(message.contains("deploy/base/rbac.yaml"), "{message}");
        Ok(())
    })
    .await;
}

/// Plays STS: answers each request with this, and reports its body.
async fn sts(status: &'static str, body: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let mut read = 0;
            while !String::from_utf8_lossy(&request[..read]).contains("GetCallerIdentity") {
                match stream.read(&mut request[read..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => read += more,
                }
            }
            let _ = sender.send(String::from_utf8_lossy(&request[..read]).into_owned());
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn at_aws_the_identity_is_that_of_sts() {
    let world = World::new("check-sts").await;
    let check = |sts: &str| {
        let command = world.command().without("AWS_ENDPOINT_URL_S3").env("AWS_ENDPOINT_URL_STS", sts);
        let command = command.env("OPENDEPOT_LEASE_NAMESPACE", "opendepot-system");
        tokio::task::block_in_place(|| command.run(&["check", "-o", "json"]))
    };
    let arn = "arn:aws:sts::123456789012:assumed-role/opendepot/session";
    let body = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                <Arn>arn:aws:sts::123456789012:assumed-role/opendepot/session</Arn><UserId>AROAEXAMPLE:session</UserId>\
                <Account>123456789012</Account></GetCallerIdentityResult><ResponseMetadata>\
                <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata></GetCallerIdentityResponse>";
    let (url, requests) = sts("200 OK", body).await;
    let printed = check(&url);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert_eq!(
        lines(&printed.json(), "aws"),
        [("ok".to_owned(), format!("{arn}, credentials from AWS_ACCESS_KEY_ID"))]
    );
    assert!(requests.recv().unwrap().contains("Credential="), "the request is signed");

    let body = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                <Code>InvalidClientTokenId</Code><Message>The security token included in the request is invalid.</Message>\
                </Error><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ErrorResponse>";
    let (url, _requests) = sts("403 Forbidden", body).await;
    let message = failure(&check(&url), "aws");
    assert!(
        message.contains("STS rejects the credentials from AWS_ACCESS_KEY_ID: InvalidClientTokenId"),
        "{message}"
    );
}
