//! The flags that say what a spec may name, and how the operator starts. What is not allowed becomes a condition, and
//! nothing is sent there.

use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use opendepot_testbed::github::File;
use opendepot_testbed::port::free_port;
use serde_json::{Value, json};

use crate::support::failing::Then::Stalled;
use crate::support::{SOON, World, testbed};

fn of_host(world: &World, name: &str, host: &str) -> Value {
    let url = format!("https://{host}/{}", world.repository(name));
    world.inline_of(name, &world.module(name).config("repoUrl", json!(url)))
}

#[tokio::test]
async fn a_host_is_asked_only_when_a_flag_allows_it() {
    let world = World::new("hosts").await;
    let github = &world.bed.github;
    let (allowed, other) = (format!("ghes-{}.example", world.name), format!("other-{}.example", world.name));
    for (host, name) in [(&allowed, "net"), (&allowed, "private"), (&other, "vpc")] {
        github.serve_host(host);
        let repository = github.repository(&format!("{host}/{}", world.repository(name))).unwrap();
        repository.release("v1.0.0", &[File::new("main.tf", "")]).unwrap();
        drop(repository.private(name == "private"));
    }
    let token = github.personal_token(&[&format!("{allowed}/{}", world.repository("private"))]).unwrap();
    world.secret("opendepot-github-application-secret", &[("githubToken", &token)]);
    let asked = |host: &str| {
        let refused = github.refused().into_iter().filter(|to| to.contains(host)).count();
        github.requests_where(|r| r.host == host).len() + refused
    };

    let operator = world.operator().await;
    world.apply(&of_host(&world, "net", &allowed));
    world.apply(&of_host(&world, "vpc", &other));
    let mut private = of_host(&world, "private", &allowed);
    private["spec"]["moduleConfigRef"]["githubClientConfig"] = json!({"useAuthenticatedClient": true});
    world.apply(&private);
    for (name, host) in [("net", &allowed), ("vpc", &other), ("private", &allowed)] {
        let flag = format!("--github-host {host}");
        world.failed(name, "HostNotAllowed", Stalled, &[host, &flag]).await;
        world.warned_once(name, "HostNotAllowed").await;
        assert_eq!(asked(host), 0, "nothing is sent to {host}");
    }
    world.nothing_stored_nor_told(&operator, &[&token]).await;
    assert_eq!(operator.terminate(SOON).await.unwrap(), 0);

    // The flag comes with a restart, which looks at once.
    let operator = world.operator_with(&["--github-host", &allowed]).await;
    for name in ["net", "private"] {
        let version = world.version_ready(name).await;
        assert_eq!(
            version["status"]["source"]["url"],
            format!("https://{allowed}/{}", world.repository(name))
        );
    }
    world.failed("vpc", "HostNotAllowed", Stalled, &[]).await;
    assert_eq!(asked(&other), 0, "nothing is sent to {other}");
    world.nothing_told(&operator, &[&token]);
}

#[tokio::test]
async fn a_namespace_stores_only_where_a_flag_allows_it() {
    let world = World::new("places").await;
    let s3 = &world.bed.s3;
    let elsewhere = format!("{}-elsewhere", world.name);
    s3.create_bucket(&elsewhere).await.unwrap();
    let rule = |namespace: &str, target: &str| format!("{namespace}={target}");
    let (own, others) = (rule(&world.name, &format!("{}/team", world.name)), rule("another", &elsewhere));
    let operator = world.operator_with(&["--allow-storage", &own, "--allow-storage", &others]).await;
    let cases = [
        ("allowed", &world.name, "team", true),
        ("below", &world.name, "team/deeper", true),
        ("beside", &world.name, "team-b", false),
        ("above", &world.name, "", false),
        ("elsewhere", &elsewhere, "team", false),
    ];
    for (name, bucket, prefix, _) in &cases {
        world.released(name);
        world.apply(
            &world.inline_of(name, &world.module(name).s3("bucket", json!(bucket)).s3("key", json!(prefix))),
        );
    }
    s3.forget_requests(&elsewhere);
    for (name, bucket, prefix, good) in &cases {
        if *good {
            let version = world.version_ready(name).await;
            assert!(
                version["status"]["storage"]["key"]
                    .as_str()
                    .unwrap()
                    .starts_with(&format!("{prefix}/{name}/"))
            );
        } else {
            let flag = format!("--allow-storage {}={bucket}", world.name);
            world.failed(name, "StorageNotAllowed", Stalled, &[&format!("s3://{bucket}/"), &flag]).await;
            world.warned_once(name, "StorageNotAllowed").await;
            assert_eq!(
                world.bed.github.requests(&world.repository(name)).unwrap(),
                [],
                "{name}: nothing is fetched"
            );
        }
    }
    assert_eq!(s3.requests(&elsewhere), [], "nothing is sent to the other bucket");
    let asked = |prefix: &str| s3.requests(&world.name).iter().any(|r| r.key.starts_with(prefix));
    assert!(asked("team/") && !asked("team-b/") && !asked("above/"));
    assert_eq!(s3.keys(&world.name).await.unwrap().len(), 2);

    // A Version that never stored anything is deleted without a request to the bucket.
    world.kubectl(&["delete", "version", "allowed"]);
    world.objects_are(1).await;
    drop(operator);
}

#[tokio::test]
async fn an_endpoint_is_used_only_when_a_flag_allows_it() {
    let world = World::new("endpoints").await;
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    stranger.set_nonblocking(true).unwrap();
    let other = format!("http://{}", stranger.local_addr().unwrap());
    let own = world.bed.s3.endpoint();
    // Without an endpoint of its own, a spec would get nowhere here: what works, works by the spec.
    let builder = world.builder().env("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1");
    let operator = builder.args(["--s3-endpoint", &own]).start_ready().await.unwrap();
    for (name, endpoint) in [("own", format!("{own}/")), ("other", other.clone())] {
        world.released(name);
        world.apply(&world.inline_of(name, &world.module(name).s3("endpoint", json!(endpoint))));
    }
    let version = world.version_ready("own").await;
    assert_eq!(version["status"]["storage"]["endpoint"], format!("{own}/"));
    assert!(!world.stored(&version).await.is_empty());
    let flag = format!("--s3-endpoint {other}");
    world.failed("other", "EndpointNotAllowed", Stalled, &[&other, &flag]).await;
    world.warned_once("other", "EndpointNotAllowed").await;
    let error = stranger.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nothing is sent to the other endpoint");
    world.objects_are(1).await;
    world.nothing_told(&operator, &[&world.bed.s3.root().secret_key]);
}

/// Runs the binary with an empty environment, but for these variables.
fn opendepot(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opendepot"));
    command.args(args).env_clear().envs(env.iter().copied()).output().unwrap()
}

#[test]
fn a_flag_that_cannot_be_read_says_what_to_write() {
    for (flag, value, expected) in [
        ("--namespace", "Team_A", "such as team-a"),
        ("--allow-storage", "team-a", "NAMESPACE=BUCKET[/PREFIX]"),
        ("--allow-storage", "team-a=modules/../x", "no `*`, `.`, `..`"),
        ("--s3-endpoint", "minio:9000", "such as https://minio.storage.svc:9000"),
        ("--s3-endpoint", "https://user:hunter2@minio", "such as https://minio.storage.svc:9000"),
        ("--github-host", "https://ghes.example", "such as ghes.example.com"),
        ("--max-fetches", "0", "a number from 1"),
        ("--max-archive-size", "lots", "such as 512MiB"),
        ("--max-unpacked-size", "-1", "such as 512MiB"),
        ("--max-entries", "0", "such as 100000"),
        ("--verify-interval", "24", "such as 24h"),
        ("--listen", "8080", "such as 0.0.0.0:8080"),
        ("--log-format", "xml", "json, text"),
        ("--log-level", "loud", "error, warn, info, debug or trace"),
    ] {
        let twin = format!("OPENDEPOT_{}", flag[2..].to_uppercase().replace('-', "_"));
        let joined = format!("{flag}={value}");
        for output in [opendepot(&["run", &joined], &[]), opendepot(&["run"], &[(&twin, value)])] {
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{joined}: {stderr}");
            assert!(stderr.contains(expected) && stderr.contains(flag), "{joined}: {stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
            assert!(output.stdout.is_empty());
        }
    }
    let unknown = opendepot(&["run", "--no-such-flag"], &[]);
    assert_eq!(unknown.status.code(), Some(2));
}

/// Arguments, environment, and what is said.
type Start<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn an_operator_that_cannot_start_says_why() {
    let bed = testbed().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (garbage, missing) =
        (path("garbage.pem", "no certificate"), format!("{}/no.pem", folder.path().display()));
    let damaged = path("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let file = format!("{garbage}/spool");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let profile = path("profile", "[default]\nendpoint_url = minio:9000\n");
    let services =
        path("services", "[default]\nservices = a\n\n[services a]\ns3 =\n  endpoint_url = minio:9000\n");
    let cases: [Start; 10] = [
        (&["--ca-file", &missing], &[], "cannot read"),
        (&["--ca-file", &garbage], &[], "--ca-file: contains no certificate"),
        (&["--ca-file", &damaged], &[], "--ca-file: certificate 1 cannot be read"),
        (&[], &[("SSL_CERT_FILE", &missing)], "cannot use the system's certificates"),
        (&["--spool-dir", &file], &[], "--spool-dir"),
        (&["--listen", &address], &[], "choose another address with --listen"),
        (&[], &[("AWS_ENDPOINT_URL", "minio:9000")], "AWS_ENDPOINT_URL: the S3 endpoint"),
        (&[], &[("AWS_ENDPOINT_URL_S3", "minio:9000")], "AWS_ENDPOINT_URL_S3: the S3 endpoint"),
        (&[], &[("AWS_CONFIG_FILE", &profile)], "endpoint_url of the AWS profile: the S3 endpoint"),
        (&[], &[("AWS_CONFIG_FILE", &services)], "endpoint_url of the AWS profile: the S3 endpoint"),
    ];
    let kubeconfig = bed.kubernetes.admin_kubeconfig();
    for (args, env, expected) in cases {
        let all = [&["run", "--listen", "127.0.0.1:0"][..], args].concat();
        let all = if args.contains(&"--listen") { [&["run"][..], args].concat() } else { all };
        let env = [&[("KUBECONFIG", kubeconfig.to_str().unwrap())][..], env].concat();
        let output = opendepot(&all, &env);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    let output = opendepot(&["run", "--listen", "127.0.0.1:0"], &[("HOME", folder.path().to_str().unwrap())]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no Kubernetes cluster is configured"), "{stderr}");
}

/// An output that cannot be written.
fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Waits until something is true; not forever.
fn wait(mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() && start.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts the operator with a full standard error, where it logs that no API server answers, and ends it with SIGTERM.
fn with_a_full_log() -> (Option<ExitStatus>, Option<ExitStatus>) {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
        contexts: [{name: x, context: {cluster: x, user: x}}]\n\
        clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: x, user: {}}]\n";
    std::fs::write(&nowhere, text).unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_opendepot"));
    command.args(["run", "--leader-elect=false", "--allow-storage", "*=*", "--listen", &listen]).env_clear();
    command.env("KUBECONFIG", &nowhere).env("TMPDIR", folder.path()).env("AWS_REGION", "us-west-2");
    let mut child = command.stderr(full()).spawn().unwrap();
    wait(|| TcpStream::connect(&listen).is_ok());
    // The first lists fail at once, and each attempt after them too.
    std::thread::sleep(Duration::from_secs(2));
    let early = child.try_wait().unwrap();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let mut late = None;
    wait(|| {
        late = child.try_wait().unwrap();
        late.is_some()
    });
    let _ = child.kill();
    let _ = child.wait();
    (early, late)
}

#[test]
fn a_log_that_cannot_be_written_ends_no_server_and_no_command_by_a_panic() {
    let (early, late) = with_a_full_log();
    assert_eq!(early, None, "it ended by itself");
    assert_eq!(late.and_then(|status| status.code()), Some(0), "{late:?}");
    let mut archive = Command::new(env!("CARGO_BIN_EXE_opendepot"));
    let status = archive.args(["archive", "/nonexistent"]).env_clear().stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1), "{status:?}");
}
