//! The registry's answers, side by side with what they could cost at best and at worst, each in one process on the same machine:
//! a handler that gives the same bytes without any work, curl straight to the store, and the S3 requests of a registry without
//! an index.
//!
//! `cargo bench --bench registry [-- VERSIONS]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use base64::Engine as _;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use opendepot::api::{Module, Version};
use opendepot::observe::liveness::Liveness;
use opendepot::registry::aliases::Aliases;
use opendepot::registry::archive::{Downloads, Mode};
use opendepot::registry::auth::{Access, AccessSettings};
use opendepot::registry::docs::Library;
use opendepot::registry::handler::Service;
use opendepot::registry::http::answer::answer;
use opendepot::registry::http::{Body, Handler, Limits, Peer, Stopper, Tls, TrustedProxies, serve};
use opendepot::registry::index::Fold;
use opendepot::registry::index::watch;
use opendepot::registry::key_file::CurrentKeys;
use opendepot::registry::metrics::RegistryMetrics;
use opendepot::registry::page::Pages;
use opendepot::registry::session::Sessions;
use opendepot::storage::{Storage, StorageRules};
use opendepot_testbed::authority::Authority;
use opendepot_testbed::s3::REGION;
use opendepot_testbed::{Options, Testbed};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Connections that are kept alive.
const CONNECTIONS: usize = 16;
/// How long each case runs.
const TIME: Duration = Duration::from_secs(4);
/// Versions of one module.
const VERSIONS: usize = 1000;
const LARGE: usize = 300 << 20;
const AUDIENCE: &str = "registry.test";
const CREDENTIALS: &str = "AWS_SHARED_CREDENTIALS_FILE";

fn main() {
    if std::env::var_os(CREDENTIALS).is_none() {
        return in_another_process();
    }
    let total = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(VERSIONS);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(compare(total));
}

/// Runs the bench in a process whose environment names a file for S3's credentials, which are known later.
fn in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(std::env::args().skip(1))
        .env(CREDENTIALS, folder.path().join("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// A server, and how to reach it.
struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// Gives one answer to every request.
struct Static {
    status: StatusCode,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Handler for Static {
    async fn handle(&self, _: Request<Bytes>, _: Peer) -> Response<Body> {
        let mut answer = answer(self.status, "OK", self.body.clone());
        answer.headers_mut().extend(self.headers.iter().cloned());
        answer
    }
}

async fn compare(total: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bed = Testbed::start(Options {
        operator: env!("CARGO_BIN_EXE_opendepot").into(),
        crds: Some(root.join("crds")),
        ..Options::default()
    })
    .await
    .unwrap();
    let user = bed.s3.root();
    let credentials = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        user.access_key, user.secret_key
    );
    std::fs::write(std::env::var_os(CREDENTIALS).unwrap(), credentials).unwrap();
    let tenant = bed.tenant("bench").await.unwrap();
    let namespace = tenant.namespace.as_str();
    let depot = Depot { bed: &bed, namespace, client: bed.admin().await.unwrap() };
    for number in 0..total.div_ceil(VERSIONS) {
        depot.publish(&format!("mod{number}"), VERSIONS.min(total), b"PK-small".to_vec()).await;
    }
    depot.publish("large", 1, vec![7; LARGE]).await;
    println!("{total} versions, {CONNECTIONS} connections kept alive, {TIME:?} for each case");
    let token = depot.token();
    let authority = Authority::new("bench").unwrap();
    for tls in [false, true] {
        let tls = tls.then_some(&authority);
        println!("\n{}", if tls.is_some() { "TLS" } else { "plain HTTP" });
        answers(&depot, &token, tls).await;
    }
    println!("\nbeside a registry without an index (AWS SDK, same store)");
    without_index(&depot, &token).await;
    println!("\na stream of 300 MiB");
    streams(&depot, &token).await;
    println!("\n500 requests a second");
    latency(&depot, &token, &authority).await;
}

/// Each answer beside a static one with the same bytes.
async fn answers(depot: &Depot<'_>, token: &str, tls: Option<&Authority>) {
    let real = depot.registry(Mode::Redirect, tls).await;
    let prefix = format!("/v1/modules/{}/mod0/aws", depot.namespace);
    let version = format!("1.{}.0", VERSIONS / 2);
    let archive = archive_path(&real, &format!("{prefix}/{version}/download"), token).await;
    for (what, path, least) in [
        ("versions", format!("{prefix}/versions"), 80.0),
        ("download", format!("{prefix}/{version}/download"), 60.0),
        ("redirect", archive, 25.0),
    ] {
        let request = request(&path, token, "gzip");
        let sample = once(&real, &request).await;
        let alike =
            Static { status: sample.status, headers: sample.headers.clone(), body: sample.body.clone() };
        let alike = listen(Arc::new(alike), tls).await;
        let (best, ours) = (load(&alike, &request).await, load(&real, &request).await);
        let ratio = 100.0 * ours / best;
        println!(
            "  {what:<10} static {best:>8.0}/s   registry {ours:>8.0}/s   {ratio:>4.0} % (goal: {least} %)"
        );
    }
}

/// One LIST for `versions`, one HEAD for `download`: the least that a registry without an index pays.
async fn without_index(depot: &Depot<'_>, token: &str) {
    let real = depot.registry(Mode::Redirect, None).await;
    let prefix = format!("/v1/modules/{}/mod0/aws", depot.namespace);
    for number in 0..VERSIONS {
        let key = format!("listed/1.{number}.0.zip");
        depot.bed.s3.put(depot.namespace, &key, b"PK".to_vec()).await.unwrap();
    }
    let s3 = depot.bed.s3.client();
    let (client, bucket) = (&s3, depot.namespace);
    let list = calls(|| async move {
        let keys = client.list_objects_v2().bucket(bucket).prefix("listed/").send().await.unwrap();
        assert_eq!(keys.key_count(), Some(1000));
    });
    let list = list.await;
    let head = calls(|| async move {
        client.head_object().bucket(bucket).key("listed/1.1.0.zip").send().await.unwrap();
    });
    let head = head.await;
    let versions = load(&real, &request(&format!("{prefix}/versions"), token, "gzip")).await;
    let download = load(&real, &request(&format!("{prefix}/1.1.0/download"), token, "gzip")).await;
    for (what, theirs, ours, least) in [("versions", list, versions, 20.0), ("download", head, download, 5.0)]
    {
        let times = ours / theirs;
        println!(
            "  {what:<10} S3 {theirs:>8.0}/s   registry {ours:>8.0}/s   {times:>4.0} times (goal: {least} times)"
        );
    }
}

async fn calls<F: Future<Output = ()>>(call: impl Fn() -> F) -> f64 {
    let start = Instant::now();
    let counts = (0..CONNECTIONS).map(|_| async {
        let mut count = 0_u32;
        while start.elapsed() < TIME {
            call().await;
            count += 1;
        }
        count
    });
    let count: u32 = futures::future::join_all(counts).await.into_iter().sum();
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// The same bytes by curl, from the registry and from the store.
async fn streams(depot: &Depot<'_>, token: &str) {
    let (stream, redirect) =
        (depot.registry(Mode::Stream, None).await, depot.registry(Mode::Redirect, None).await);
    let path = format!("/v1/modules/{}/large/aws/1.0.0/download", depot.namespace);
    let through = format!("http://{}{}", stream.address, archive_path(&stream, &path, token).await);
    let link = archive_path(&redirect, &path, token).await;
    let to_store = once(&redirect, &request(&link, token, "gzip")).await;
    let direct = to_store.headers.iter().find(|(name, _)| name == header::LOCATION).unwrap();
    let direct = direct.1.to_str().unwrap().to_owned();
    let mut best = [f64::MAX; 2];
    // In turns, so that both meet the same machine.
    for _ in 0..5 {
        for (best, url) in best.iter_mut().zip([&direct, &through]) {
            let url = url.clone();
            let took = tokio::task::spawn_blocking(move || curl(&url)).await.unwrap();
            *best = best.min(took);
        }
    }
    let rate = |took: f64| LARGE as f64 / took / f64::from(1 << 20);
    let ratio = 100.0 * best[0] / best[1];
    println!(
        "  curl: store {:.0} MiB/s   registry {:.0} MiB/s   {ratio:.0} % (goal: 90 %)",
        rate(best[0]),
        rate(best[1])
    );
}

fn curl(url: &str) -> f64 {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "--output",
            "/dev/null",
            "--write-out",
            "%{time_total}",
            url,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}

/// The time of answers while requests arrive at a steady rate, over TLS.
async fn latency(depot: &Depot<'_>, token: &str, authority: &Authority) {
    let real = Arc::new(depot.registry(Mode::Redirect, Some(authority)).await);
    let prefix = format!("/v1/modules/{}/mod0/aws", depot.namespace);
    let archive = archive_path(&real, &format!("{prefix}/1.1.0/download"), token).await;
    let paths = [
        "/.well-known/terraform.json".to_owned(),
        format!("{prefix}/versions"),
        format!("{prefix}/1.1.0/download"),
        archive,
    ];
    let start = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..8_u32)
        .map(|thread| {
            let (real, paths, token) = (Arc::clone(&real), paths.clone(), token.to_owned());
            std::thread::spawn(move || {
                let mut connection = real.connect();
                let mut took = Vec::new();
                for number in 0..625_u32 {
                    // Each thread sends every 16 ms: 500 a second in all.
                    let due = start + Duration::from_millis(16) * number + Duration::from_millis(2) * thread;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let path = &paths[(number + thread) as usize % paths.len()];
                    exchange(&mut connection, &request(path, &token, "gzip"));
                    // From when it was due: a late answer delays the next request, which counts.
                    took.push(due.elapsed());
                }
                took
            })
        })
        .collect();
    let all = tokio::task::spawn_blocking(|| threads.into_iter().flat_map(|t| t.join().unwrap()).collect());
    let mut all: Vec<Duration> = all.await.unwrap();
    all.sort_unstable();
    let at = |percent: usize| all[all.len() * percent / 100];
    println!("  p50 {:.1?}   p99 {:.1?} (goal: 10 ms)   largest {:.1?}", at(50), at(99), all[all.len() - 1]);
}

struct Depot<'a> {
    bed: &'a Testbed,
    namespace: &'a str,
    client: kube::Client,
}

impl Depot<'_> {
    /// A registry in this process, as `opendepot serve` composes it.
    async fn registry(&self, mode: Mode, tls: Option<&Authority>) -> Target {
        let metrics = RegistryMetrics::default();
        let aliases = Aliases::new(&[], &[]).unwrap();
        let rules = StorageRules::new(
            vec!["*=*".parse().unwrap()],
            vec![self.bed.s3.endpoint().parse().unwrap()],
            None,
        );
        let settings = AccessSettings {
            audience: Some(AUDIENCE.to_owned()),
            auth_config: None,
            tokens_dir: None,
            anonymous: false,
            ca_pem: None,
            own_token: None,
        };
        let access = Access::start(&settings, self.client.clone(), metrics.clone()).unwrap();
        let mut tasks = JoinSet::new();
        let fold = Fold::new(rules, aliases.clone());
        let scope = [self.namespace.to_owned()];
        let (index, health) = watch::start(&self.client, &scope, fold, &Liveness::default(), &mut tasks);
        tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
        health.listed().await;
        let storage = Arc::new(Storage::for_signed_urls(None).await.unwrap());
        let keys = CurrentKeys::new(None).unwrap();
        let sessions = Arc::new(Sessions::new(keys.clone(), None));
        let access = Arc::new(access);
        let pages = Pages {
            index: Arc::clone(&index),
            access: Arc::clone(&access),
            aliases: aliases.clone(),
            sessions: Arc::clone(&sessions),
            library: Library::new(Arc::clone(&storage), std::env::temp_dir()),
            host: None,
        };
        let service = Service {
            index,
            access,
            aliases,
            sessions,
            pages,
            keys,
            downloads: Downloads::new(storage, mode, Vec::new(), 64, metrics.clone()),
            url: String::new(),
            metrics,
            module_metrics: true,
        };
        listen(Arc::new(service), tls).await
    }

    /// A token of a service account that may download here.
    fn token(&self) -> String {
        let manifests = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
             "metadata": {"name": "download", "namespace": self.namespace},
             "rules": [{"apiGroups": ["opendepot.defdev.io"], "resources": ["modules/download"], "verbs": ["get"]}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
             "metadata": {"name": "download", "namespace": self.namespace},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "download"},
             "subjects": [{"kind": "ServiceAccount", "name": "ci", "namespace": self.namespace}]},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": self.namespace}},
        ]});
        self.bed.kubectl_with(&["apply", "-f", "-"], &manifests.to_string()).unwrap().ok().unwrap();
        let audience = format!("--audience={AUDIENCE}");
        let token = self.bed.kubectl(&["create", "token", "ci", "-n", self.namespace, &audience]).unwrap();
        token.ok().unwrap().trim().to_owned()
    }

    /// A module as the operator leaves it, whose versions share one object.
    async fn publish(&self, name: &str, count: usize, bytes: Vec<u8>) {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let (checksum, size) = (base64::engine::general_purpose::STANDARD.encode(digest), bytes.len());
        let key = format!("{name}/all.zip");
        self.bed.s3.put_with_sha256(self.namespace, &key, bytes).await.unwrap();
        let config = json!({
            "provider": "aws", "repoUrl": format!("https://github.com/acme/{name}"),
            "storageConfig": {"s3": {"bucket": self.namespace, "region": REGION, "forcePathStyle": true}},
        });
        let module = json!({
            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "moduleConfig": config,
                "versions": (0..count).map(|n| json!({"version": format!("1.{n}.0")})).collect::<Vec<_>>(),
            },
        });
        let modules = opendepot::controller::client::objects::<Module>(&self.client, self.namespace);
        let module = serde_json::from_value(module).unwrap();
        let module = modules.create(&PostParams::default(), &module).await.unwrap();
        let status = json!({"status": {"address": format!("{}/{name}/aws", self.namespace)}});
        modules.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        let versions: &Api<DynamicObject> =
            &opendepot::controller::client::objects::<Version>(&self.client, self.namespace);
        let (uid, config, checksum) = (&module.metadata.uid, &config, &checksum);
        let storage = &json!({
            "bucket": self.namespace, "key": key, "region": REGION,
            "endpoint": self.bed.s3.endpoint(), "forcePathStyle": true,
        });
        stream::iter(0..count)
            .for_each_concurrent(16, |n| async move {
                let object_name = format!("{name}-1.{n}.0");
                let object = json!({
                    "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version",
                    "metadata": {
                        "name": object_name, "namespace": self.namespace,
                        "finalizers": ["opendepot.defdev.io/stored-object"],
                        "ownerReferences": [{
                            "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": name, "uid": uid,
                            "controller": true, "blockOwnerDeletion": true,
                        }],
                    },
                    "spec": {
                        "type": "Module", "version": format!("1.{n}.0"), "fileName": "all.zip",
                        "moduleConfigRef": config,
                    },
                });
                let object = serde_json::from_value(object).unwrap();
                versions.create(&PostParams::default(), &object).await.unwrap();
                let status = json!({"status": {
                    "synced": true, "checksum": checksum, "archiveSizeBytes": size, "storage": storage,
                }});
                let patch = Patch::Merge(status);
                versions.patch_status(&object_name, &PatchParams::default(), &patch).await.unwrap();
            })
            .await;
    }
}

/// Serves at a port of its own until the process ends.
async fn listen<H: Handler>(handler: Arc<H>, tls: Option<&Authority>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stopper, stop) = Stopper::new();
    // Without it the listener would close.
    std::mem::forget(stopper);
    let (server, client) = tls.map(certificates).unzip();
    tokio::spawn(serve(listener, server, Limits::default(), TrustedProxies::default(), handler, stop));
    Target { address, tls: client }
}

fn certificates(authority: &Authority) -> (Arc<Tls>, Arc<ClientConfig>) {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let identity = authority.server(&["127.0.0.1"]).unwrap();
    std::fs::write(&certificate, identity.certificate_pem).unwrap();
    std::fs::write(&key, identity.key_pem).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(Tls::load(&certificate, &key).unwrap()), Arc::new(client))
}

trait Connection: std::io::Read + Write + Send {}
impl<T: std::io::Read + Write + Send> Connection for T {}

impl Target {
    fn connect(&self) -> Box<dyn Connection> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let Some(config) = &self.tls else { return Box::new(stream) };
        let name = ServerName::from(self.address.ip());
        Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream))
    }
}

struct Answer {
    status: StatusCode,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    body: Bytes,
}

fn request(path: &str, token: &str, encoding: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {AUDIENCE}\r\nuser-agent: Terraform/1.11.4\r\nx-terraform-version: 1.11.4\r\n\
         authorization: Bearer {token}\r\naccept-encoding: {encoding}\r\n\r\n"
    )
}

/// Sends a request and reads its answer, which ends with the body of the announced length. Gives the head's length.
fn exchange(connection: &mut Box<dyn Connection>, request: &str) -> (Vec<u8>, usize) {
    connection.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut buffer) = (Vec::with_capacity(16 << 10), [0; 16 << 10]);
    loop {
        let read = connection.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
        let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&bytes[..head]).unwrap();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= head + 4 + length {
            return (bytes, head);
        }
    }
}

async fn once(target: &Target, request: &str) -> Answer {
    let (mut connection, request) = (target.connect(), request.to_owned());
    tokio::task::spawn_blocking(move || {
        let (bytes, head) = exchange(&mut connection, &request);
        let text = std::str::from_utf8(&bytes[..head]).unwrap();
        let mut lines = text.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.filter(|(name, _)| !["content-length", "date", "connection"].contains(name));
        Answer {
            status,
            headers: headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            body: Bytes::copy_from_slice(&bytes[head + 4..]),
        }
    })
    .await
    .unwrap()
}

async fn archive_path(target: &Target, path: &str, token: &str) -> String {
    let answer = once(target, &request(path, token, "gzip")).await;
    assert_eq!(answer.status, 204, "{path}: {}", String::from_utf8_lossy(&answer.body));
    let location = answer.headers.iter().find(|(name, _)| name == "x-terraform-get").unwrap();
    location.1.to_str().unwrap().split('?').next().unwrap().to_owned()
}

/// Answers per second on connections that are kept alive.
async fn load(target: &Target, request: &str) -> f64 {
    let expected = once(target, request).await.status;
    let start = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (mut connection, request) = (target.connect(), request.to_owned());
            std::thread::spawn(move || {
                let (line, mut count) = (format!("HTTP/1.1 {} ", expected.as_u16()), 0_u32);
                while start.elapsed() < TIME {
                    let (answer, _) = exchange(&mut connection, &request);
                    assert!(answer.starts_with(line.as_bytes()), "{}", String::from_utf8_lossy(&answer));
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count = tokio::task::spawn_blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<u32>());
    f64::from(count.await.unwrap()) / start.elapsed().as_secs_f64()
}
