//! What the kubelet, Prometheus and users of `kubectl logs` see of the process.

use std::time::Duration;

use opendepot_testbed::github::File;
use opendepot_testbed::port::free_port;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{World, soon};

#[tokio::test]
async fn the_process_is_ready_within_a_second_and_reports_what_it_did() {
    let world = World::new("admin").await;
    world
        .bed
        .github
        .repository(&world.repository("mod"))
        .unwrap()
        .release("1.0.0", &[File::new("main.tf", "")])
        .unwrap();
    let operator = world.bed.operator().env("OPENDEPOT_LEADER_ELECT", "false");
    let operator = operator.args(["--namespace", &world.name, "--log-format", "json"]).start().unwrap();
    let took = operator.wait_ready().await.unwrap();
    println!("ready after {took:?}");
    assert_eq!(operator.http_get("/livez").await.unwrap().0, 200);
    world.apply(&world.module("mod").versions(&["1.0.0"]));
    world.module_ready("mod").await;
    // A status is visible before the operator has counted and logged the reconcile that wrote it.
    let expected = [
        "opendepot_modules{state=\"ready\",reason=\"Synced\"} 1",
        "opendepot_reconciles_total{controller=\"version\",outcome=\"settled\"}",
        "opendepot_reconciles_total{controller=\"module\",outcome=\"settled\"}",
        "opendepot_reconcile_duration_seconds_bucket{le=\"0.005\",controller=\"version\"}",
        "opendepot_queue_depth{controller=\"version\",lane=\"publish\"} 0",
        "opendepot_queue_depth{controller=\"module\",lane=\"light\"} 0",
        "opendepot_versions{state=\"ready\",reason=\"Synced\"} 1",
        "opendepot_failures_total{controller=\"version\",reason=\"TagNotFound\"} 0",
        "opendepot_leader 1",
        "opendepot_stored_bytes_total",
        "opendepot_fetched_bytes_total",
        "opendepot_panics_total 0",
        "opendepot_build_info{version=",
    ];
    let counted_and_logged = || async {
        let metrics = operator.metrics().await?;
        for series in expected {
            anyhow::ensure!(metrics.contains(series), "{series} is not in\n{metrics}");
        }
        let log = operator.log();
        let is_last =
            |line: &str| line.contains(r#""reason":"Synced""#) && line.contains(r#""controller":"module""#);
        anyhow::ensure!(log.lines().any(is_last), "the Module's status is not in\n{log}");
        Ok(metrics)
    };
    let metrics = soon(counted_and_logged).await;
    assert!(
        !metrics.contains("mod-1.0.0") && !metrics.contains(&world.name),
        "no names of objects in labels"
    );
    crate::monitoring::measures_itself(&operator).await;
    let said = operator.log();
    world.quiet().await;
    assert_eq!(operator.log(), said, "at rest it says nothing");
    world.apply(&world.module("mod").versions(&["1.0.0", "9.9.9"]));
    soon(|| async {
        anyhow::ensure!(operator.log().contains("Warning Event"), "{}", operator.log());
        Ok(())
    })
    .await;
    world.patch("module/mod", &json!({"spec": {"versions": []}}));
    world.versions_are(&[]).await;
    let code = operator.terminate(Duration::from_secs(10)).await.unwrap();
    assert_eq!(code, 0);
    let log = operator.log();
    // The reader of YAML rejects an object with a key twice. One of JSON keeps the last.
    let lines: Vec<Value> = log.lines().map(|line| serde_yaml::from_str(line).expect(line)).collect();
    let event = |message: &str, reason: &str, object: &str| {
        let is_it =
            |l: &&Value| l["message"] == message && l["reason"] == reason && l["span"]["object"] == object;
        lines.iter().find(is_it).unwrap_or_else(|| panic!("{reason} of {object} is not in\n{log}"))
    };
    let failed = event("Warning Event", "TagNotFound", "mod-9.9.9");
    assert!(failed["note"].as_str().unwrap().contains("9.9.9"), "{failed}");
    let published = event("Normal Event", "Synced", "mod-1.0.0");
    assert!(published["note"].as_str().unwrap().starts_with("Stored s3://"), "{published}");
    let span = &published["span"];
    assert!(span["controller"] == "version" && span["namespace"] == world.name.as_str(), "{published}");
    assert!(span["id"].is_number(), "{published}");
    // Nothing was stored for the other one.
    for (object, expected) in [("mod-1.0.0", "deleted an object"), ("mod-9.9.9", "no object is left")] {
        let about_it = |l: &&Value| l["location"].is_string() && l["span"]["object"] == object;
        let messages: Vec<&Value> = lines.iter().filter(about_it).map(|l| &l["message"]).collect();
        assert_eq!(messages, [expected], "{object}: {log}");
    }
}

#[tokio::test]
async fn an_operator_without_its_api_server_is_not_ready_and_says_so() {
    let world = World::new("alone").await;
    let nowhere = "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
        contexts: [{name: x, context: {cluster: x, user: x}}]\n\
        clusters: [{name: x, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: x, user: {}}]\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, nowhere).unwrap();
    let operator = world.builder().env("KUBECONFIG", &path).start().unwrap();
    soon(|| async {
        let log = operator.log();
        let names_scope = |line: &str| line.contains("watch failed") && line.contains(&world.name);
        anyhow::ensure!(log.lines().any(names_scope), "{log}");
        Ok(())
    })
    .await;
    assert_eq!(operator.http_get("/livez").await.unwrap().0, 200);
    assert_eq!(operator.http_get("/readyz").await.unwrap().0, 503);
}

#[tokio::test]
async fn probes_reach_it_over_ipv4_and_over_ipv6() {
    let world = World::new("families").await;
    // The default, but for the port; and what it falls back to.
    for listen in ["[::]", "0.0.0.0"] {
        let port = free_port().unwrap();
        let operator = world.builder().env("OPENDEPOT_LISTEN", format!("{listen}:{port}"));
        let _operator = operator.start().unwrap();
        let answers = async |host: &str| {
            let mut stream = TcpStream::connect(format!("{host}:{port}")).await?;
            stream.write_all(format!("GET /livez HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
            Ok(())
        };
        soon(|| answers("127.0.0.1")).await;
        assert_eq!(answers("[::1]").await.is_ok(), listen == "[::]", "{listen}");
    }
}
