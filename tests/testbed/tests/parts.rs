//! Each part of the testbed does what the tests of the product rely on.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use opendepot_testbed::process::Folder;
use opendepot_testbed::programs::write_script;
use opendepot_testbed::s3::{S3, S3Failure, S3Fault};
use opendepot_testbed::{Options, Testbed, eventually};
use tokio::sync::OnceCell;

const MANIFESTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: { name: reader, namespace: default }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: reader }
rules: [{ apiGroups: [""], resources: [configmaps], verbs: [list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader }
subjects: [{ kind: ServiceAccount, name: reader, namespace: default }]
"#;

/// Stands for the operator: prints its environment and its arguments, and exits with 3 at SIGTERM.
const SCRIPT: &str = r#"#!/bin/sh
trap 'exit 3' TERM
env; echo "$@"; echo started
while :; do sleep 0.05; done
"#;

/// What the testbed has to know about a product, in a folder that is removed with this process.
fn product() -> Result<Folder> {
    let folder = Folder::new("product")?;
    std::fs::write(folder.sub("deploy")?.join("reader.yaml"), MANIFESTS)?;
    write_script(&folder.path().join("operator"), SCRIPT)?;
    Ok(folder)
}

async fn shared() -> Result<&'static Testbed> {
    static PRODUCT: OnceCell<Folder> = OnceCell::const_new();
    let folder = PRODUCT.get_or_try_init(|| async { product() }).await?;
    let options = || Options {
        operator: folder.path().join("operator"),
        crds: None,
        deploy: Some(folder.path().join("deploy")),
        service_account: Some(("default".to_owned(), "reader".to_owned())),
        ..Options::default()
    };
    Testbed::shared(options).await
}

#[tokio::test]
async fn the_control_plane_audits_a_service_account_bound_by_rbac() -> Result<()> {
    let testbed = shared().await?;
    let tenant = testbed.tenant("audit").await?;
    let admin = testbed.admin().await?;
    let mark = testbed.kubernetes.audit().mark(&admin).await?;

    let maps: Api<ConfigMap> = Api::namespaced(testbed.operator_client().await?, &tenant.namespace);
    maps.list(&ListParams::default()).await?;
    let mut map = ConfigMap::default();
    map.metadata.name = Some("forbidden".to_owned());
    let refused = maps.create(&PostParams::default(), &map).await;
    ensure!(refused.is_err(), "RBAC let a write through");

    let entries = testbed.kubernetes.audit().since(mark, &admin).await?;
    let ours: Vec<_> = entries
        .iter()
        .filter(|entry| {
            entry.user == "system:serviceaccount:default:reader" && entry.namespace == tenant.namespace
        })
        .map(|entry| (entry.verb.as_str(), entry.resource.as_str(), entry.code))
        .collect();
    assert_eq!(ours, [("list", "configmaps", 200), ("create", "configmaps", 403)]);

    testbed.kubectl(&["delete", "namespace", &tenant.namespace, "--wait=false"])?.ok()?;
    eventually(Duration::from_mins(1), || async {
        let got = testbed.kubectl(&["get", "namespace", &tenant.namespace])?;
        ensure!(got.stderr.contains("NotFound"), "the namespace is still there: {got:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operator_is_told_where_everything_is_and_nothing_else() -> Result<()> {
    let testbed = shared().await?;
    let operator = testbed.operator().env("AWS_REGION", "eu-west-1").args(["--max-fetches", "2"]).start()?;
    eventually(Duration::from_secs(30), || async {
        ensure!(operator.log().contains("started"), "{}", operator.log());
        Ok(())
    })
    .await?;
    let log = operator.log();
    for wanted in [
        "KUBECONFIG=/",
        "HTTPS_PROXY=http://127.0.0.1:",
        "AWS_REGION=eu-west-1\n",
        "OPENDEPOT_LISTEN=127.0.0.1:",
        "run --ca-file /",
        "--max-fetches 2\n",
    ] {
        ensure!(log.contains(wanted), "no {wanted:?} in {log}");
    }
    ensure!(!log.contains("CARGO"), "the environment is not clean: {log}");
    ensure!(operator.memory()?.peak > 0);
    assert_eq!(operator.terminate(Duration::from_secs(5)).await?, 3);
    Ok(())
}

#[tokio::test]
async fn s3_stores_counts_fails_and_comes_back() -> Result<()> {
    let s3 = S3::start().await?;
    s3.create_bucket("modules").await?;
    s3.put("modules", "a/b c.zip", "bytes").await?;
    assert_eq!(s3.keys("modules").await?, ["a/b c.zip"]);
    assert_eq!(std::fs::read(s3.object_file("modules", "a/b c.zip"))?, b"bytes");

    s3.inject(
        S3Fault::new("modules", S3Failure::Answer(503, "SlowDown")).prefix("a/").method(Method::GET).times(1),
    );
    s3.forget_requests("modules");
    assert_eq!(s3.get("modules", "a/b c.zip").await?, b"bytes");
    let seen: Vec<_> =
        s3.requests("modules").into_iter().map(|seen| (seen.method, seen.key, seen.status)).collect();
    let get = |status| (Method::GET, "a/b c.zip".to_owned(), Some(status));
    assert_eq!(seen, [get(503), get(200)]);

    s3.inject(S3Fault::new("modules", S3Failure::HideMissing));
    let missing = s3.client().head_object().bucket("modules").key("none").send().await;
    assert_eq!(
        missing.map_err(|error| error.raw_response().map(|raw| raw.status().as_u16())).err(),
        Some(Some(403))
    );
    s3.clear_faults("modules");

    s3.stop().await?;
    ensure!(
        tokio::net::TcpStream::connect(s3.endpoint().trim_start_matches("http://")).await.is_err(),
        "still up"
    );
    s3.resume().await?;
    assert_eq!(s3.get("modules", "a/b c.zip").await?, b"bytes");

    let stranger = s3.client_of(&s3.create_user()?);
    let refused = stranger.get_object().bucket("modules").key("a/b c.zip").send().await;
    assert_eq!(
        refused.err().and_then(|error| error.raw_response().map(|raw| raw.status().as_u16())),
        Some(403)
    );
    Ok(())
}
