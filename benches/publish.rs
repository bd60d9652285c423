//! Publishing many versions, side by side with a bare loop that downloads and PUTs the same archives with the same
//! concurrency (aim: at most 1.25 times that when GitHub answers after 100 ms, at most 3 times without a delay).
//!
//! `cargo bench --bench publish [-- VERSIONS]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures::{StreamExt as _, stream};
use opendepot::domain::Repository;
use opendepot::domain::{ArchiveFormat, ObjectLocation};
use opendepot::github::{Credential, GitHub, Settings};
use opendepot::storage::{Body, Encryption, Ownership, Storage, Upload, always};
use opendepot_testbed::github::File;
use opendepot_testbed::s3::REGION;
use opendepot_testbed::{Options, Testbed, eventually};
use serde_json::json;

/// As many as `--max-fetches` is by default.
const AT_ONCE: usize = 4;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // The bare loop runs in a process of its own, since the proxy comes from the environment.
    if let Some(at) = args.iter().position(|a| a == "bare") {
        runtime.block_on(bare_loop(&args[at + 1], &args[at + 2], args[at + 3].parse().unwrap()));
    } else {
        let versions = args.iter().find_map(|a| a.parse().ok()).unwrap_or(1000);
        runtime.block_on(compare(versions));
    }
}

async fn compare(versions: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bed = Testbed::start(Options {
        operator: std::env::var_os("OPENDEPOT_BIN").unwrap_or(env!("CARGO_BIN_EXE_opendepot").into()).into(),
        crds: Some(root.join("crds")),
        deploy: Some(root.join("deploy/base")),
        service_account: Some(("opendepot-system".into(), "opendepot".into())),
        registry: None,
    })
    .await
    .unwrap();
    for latency in [Duration::from_millis(100), Duration::ZERO] {
        bed.github.set_latency(latency);
        let tenant = bed.tenant("bench").await.unwrap();
        let repository = bed.github.repository(&format!("{}/mod", tenant.namespace)).unwrap();
        let files = |n: usize| vec![File::new("main.tf", format!("# {n}\n").repeat(500))];
        repository.releases((0..versions).map(|n| (format!("1.{n}.0"), files(n)))).unwrap();
        // Once before, so that neither pays for packing the archives at GitHub.
        bare(&bed, &tenant.namespace, versions);
        let bare = bare(&bed, &tenant.namespace, versions);
        let (ours, memory) = operator(&bed, &tenant.namespace, versions).await;
        let ratio = ours.as_secs_f64() / bare.as_secs_f64();
        println!(
            "{versions} versions, latency {latency:?}: bare {bare:.2?}, opendepot {ours:.2?}, ratio {ratio:.2}, {memory}"
        );
    }
}

/// The time of the bare loop.
fn bare(bed: &Testbed, name: &str, versions: usize) -> Duration {
    let root = bed.s3.root();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["bare", name, bed.github.ca_file().to_str().unwrap(), &versions.to_string()])
        .env("HTTPS_PROXY", bed.github.proxy_url())
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("AWS_ACCESS_KEY_ID", &root.access_key)
        .env("AWS_SECRET_ACCESS_KEY", &root.secret_key)
        .env("AWS_ENDPOINT_URL_S3", bed.s3.endpoint())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Duration::from_secs_f64(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

async fn bare_loop(name: &str, ca: &str, versions: usize) {
    let roots = opendepot::startup::ca_certificates(Some(Path::new(ca))).unwrap();
    let storage = &Storage::new(&roots).await.unwrap();
    let github = &GitHub::new(&Settings { roots, ..Settings::default() }).unwrap();
    let repository = &Repository::from_parts(name, "mod").unwrap();
    let started = Instant::now();
    stream::iter(0..versions)
        .for_each_concurrent(AT_ONCE, |n| async move {
            let raw = tempfile::NamedTempFile::new().unwrap();
            let mut file = tokio::fs::File::from_std(raw.as_file().try_clone().unwrap());
            let tags = [format!("1.{n}.0")];
            github
                .fetch(repository, &tags, ArchiveFormat::Zip, &Credential::Anonymous, &mut file)
                .await
                .unwrap();
            let bytes = std::fs::read(raw.path()).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let sha256 = base64::engine::general_purpose::STANDARD.encode(digest);
            let upload = Upload {
                body: Body::File(raw.path()),
                size: bytes.len() as u64,
                sha256: &sha256,
                ownership: &Ownership::default(),
                encryption: &Encryption::default(),
                create_only: false,
            };
            let key = format!("bare/{n}.zip");
            let location = ObjectLocation {
                bucket: name.into(),
                key,
                region: REGION.into(),
                endpoint: None,
                force_path_style: Some(true),
            };
            storage.put(&location, &upload, &always).await.unwrap();
        })
        .await;
    println!("{}", started.elapsed().as_secs_f64());
}

/// The time from `kubectl apply` to a Module that is synced, and the operator's memory after it.
async fn operator(bed: &Testbed, name: &str, versions: usize) -> (Duration, String) {
    let operator = bed.operator().args(["--namespace", name]).start_ready().await.unwrap();
    let module = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
        "metadata": {"name": "mod", "namespace": name},
        "spec": {
            "moduleConfig": {
                "provider": "aws", "repoUrl": format!("https://github.com/{name}/mod"),
                "storageConfig": {"s3": {"bucket": name, "region": REGION, "forcePathStyle": true}},
            },
            "versions": (0..versions).map(|n| json!({"version": format!("1.{n}.0")})).collect::<Vec<_>>(),
        },
    });
    let started = Instant::now();
    bed.kubectl_with(&["create", "-f", "-"], &module.to_string()).unwrap().ok().unwrap();
    let modules =
        opendepot::controller::client::objects::<opendepot::api::Module>(&bed.admin().await.unwrap(), name);
    eventually(Duration::from_mins(10), || async {
        // Each look costs the API server as much as a write of the operator.
        tokio::time::sleep(Duration::from_millis(250)).await;
        anyhow::ensure!(modules.get("mod").await?.data["status"]["synced"] == true, "not yet");
        Ok(())
    })
    .await
    .unwrap();
    (started.elapsed(), format!("{:?}", operator.memory().unwrap()))
}
