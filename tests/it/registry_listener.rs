//! The listener of the built binary: roll-outs, certificates, slow clients and memory.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use http::{Method, Version};
use opendepot_testbed::authority::Authority;
use opendepot_testbed::operator::Operator;
use opendepot_testbed::s3::{S3Failure, S3Fault, S3Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::registry::{Depot, SYSTEM, archive, metric};
use crate::support::registry_files::answered;
use crate::support::{heavy, soon};

const MAIN: &str = "output \"greeting\" {\n  value = \"hello\"\n}\n";

/// A replica behind a balancer.
struct Replica {
    process: Operator,
    /// When it was asked the last time, if it was ready then.
    ready: Mutex<Option<Instant>>,
}

impl Replica {
    async fn is_ready(&self) -> bool {
        let asked = Instant::now();
        let answer = self.process.http_get("/readyz").await;
        let is_ready = answer.is_ok_and(|(status, _)| status == 200);
        *self.ready.lock().unwrap() = is_ready.then_some(asked);
        is_ready
    }

    /// Whether it may be sent a connection. It is asked again if that is long ago, as on a machine that is slow.
    async fn takes_connections(&self) -> bool {
        let Some(asked) = *self.ready.lock().unwrap() else { return false };
        asked.elapsed() < Duration::from_millis(500) || self.is_ready().await
    }
}

/// A balancer of TCP connections, as a Service is: it sends each one to a replica that was ready a moment ago.
async fn balance(replicas: &[Arc<Replica>]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = replicas.to_vec();
    tokio::spawn(async move {
        loop {
            for replica in &asked {
                replica.is_ready().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let replicas = replicas.to_vec();
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            let replicas = replicas.clone();
            tokio::spawn(async move {
                let mut next = turn;
                while !replicas[next % replicas.len()].takes_connections().await {
                    next += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let to = replicas[next % replicas.len()].process.registry_address();
                let mut replica = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut client, &mut replica).await
            });
        }
    });
    address
}

/// What an `init` requests, each on a connection of its own and without a second attempt, apart from those of [`answered`].
async fn init(depot: &Depot, client: &reqwest::Client, host: SocketAddr, bytes: &[u8]) -> Result<()> {
    let base = format!("https://{host}");
    let discovery = client.get(format!("{base}/.well-known/terraform.json")).send().await?;
    ensure!(discovery.status() == 200, "discovery: {}", discovery.status());
    let module = format!("{base}/v1/modules/{}/net/{SYSTEM}", depot.world.name);
    let versions = answered(|| client.get(format!("{module}/versions"))).await?;
    ensure!(versions.status() == 200, "versions: {}", versions.status());
    let download = answered(|| client.get(format!("{module}/1.0.0/download"))).await?;
    ensure!(download.status() == 204, "download: {}", download.status());
    let location = download.headers().get("x-terraform-get").context("no location")?.to_str()?;
    let url = format!("{base}{location}");
    ensure!(client.head(&url).send().await?.status() == 200, "HEAD");
    let archive = client.get(&url).send().await?;
    ensure!(archive.status() == 200, "archive: {}", archive.status());
    ensure!(archive.bytes().await? == bytes, "other bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_init_fails_while_replicas_are_replaced() {
    let _turn = heavy().await;
    let depot = Arc::new(Depot::new("reg-roll").await);
    let bytes = Arc::new(archive(MAIN, 50_000));
    depot.publish("net", &[("1.0.0", bytes.to_vec())]).await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let process = depot.builder().env("OPENDEPOT_DRAIN", "5s").start_ready().await.unwrap();
        replicas.push(Arc::new(Replica { process, ready: Mutex::default() }));
    }
    let host = balance(&replicas).await;
    let (done, inits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (depot, bytes) = (Arc::clone(&depot), Arc::clone(&bytes));
            let (done, inits) = (Arc::clone(&done), Arc::clone(&inits));
            tokio::spawn(async move {
                let client = depot.client();
                while !done.load(Ordering::SeqCst) {
                    let number = inits.fetch_add(1, Ordering::SeqCst);
                    let result = init(&depot, &client, host, &bytes).await;
                    result.unwrap_or_else(|error| panic!("init {number}: {error:#}"));
                }
            })
        })
        .collect();
    let real = {
        let (depot, done) = (Arc::clone(&depot), Arc::clone(&done));
        tokio::task::spawn_blocking(move || {
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                for client in depot.installers(&host.to_string(), "net", "1.0.0") {
                    client.run(&["init", "-no-color"]).unwrap_or_else(|error| panic!("{error:#}"));
                    count += 1;
                }
            }
            count
        })
    };
    for round in 0.. {
        for replica in &replicas {
            let code = replica.process.terminate(Duration::from_mins(1)).await.unwrap();
            assert_eq!(code, 0, "{}", replica.process.log());
            replica.process.restart().await.unwrap();
            // The balancer has to see it before the other one ends.
            let restarted = Instant::now();
            soon(|| async {
                let ready = *replica.ready.lock().unwrap();
                ensure!(ready.is_some_and(|asked| asked > restarted), "the balancer has not seen it");
                Ok(())
            })
            .await;
        }
        if round >= 1 && inits.load(Ordering::SeqCst) >= 200 {
            break;
        }
        assert!(round < 100, "{} inits", inits.load(Ordering::SeqCst));
    }
    done.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let real = real.await.unwrap();
    println!("{} inits, {real} by real clients", inits.load(Ordering::SeqCst));
    assert!(real >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_end_of_its_replica() {
    let depot = Depot::new("reg-last").await;
    let bytes = archive(MAIN, 8 << 20);
    depot.publish("net", &[("1.0.0", bytes.clone())]).await;
    let registry = Arc::new(depot.registry(&[]).await);
    let base = format!("https://{}", registry.registry_address());
    let url = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    let mut answer = depot.client().get(&url).send().await.unwrap();
    let mut read = answer.chunk().await.unwrap().unwrap().to_vec();
    let ended = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.terminate(Duration::from_mins(1)).await }
    });
    soon(|| async {
        ensure!(TcpStream::connect(registry.registry_address()).await.is_err(), "it still listens");
        Ok(())
    })
    .await;
    while let Some(chunk) = answer.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == bytes, "{} of {} bytes", read.len(), bytes.len());
    assert_eq!(ended.await.unwrap().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let depot = Depot::new("reg-cert").await;
    let registry = depot.registry(&[]).await;
    let url = format!("https://{}/.well-known/terraform.json", registry.registry_address());
    let not_after = metric(&registry, "opendepot_registry_tls_not_after_seconds").await;
    assert!(not_after > 1e9, "{not_after}");
    // Requests go on all the time, each on a connection of its own; from the change on, by the new authority alone.
    let other = Authority::new("other").unwrap();
    let (old, new) = (depot.client(), Depot::client_of(&other));
    let (done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = tokio::spawn({
        let (url, done, served) = (url.clone(), Arc::clone(&done), Arc::clone(&served));
        let (old, new) = (old.clone(), new.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                let answer = match old.get(&url).send().await {
                    Ok(answer) => answer,
                    Err(_) => new.get(&url).send().await.expect("one of the two is served"),
                };
                assert_eq!(answer.status(), 200);
                served.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    std::fs::write(depot.file("tls.key"), "damaged").unwrap();
    soon(|| async {
        ensure!(registry.log().contains("the old one is served"), "not reported yet");
        Ok(())
    })
    .await;
    assert!(old.get(&url).send().await.is_ok() && new.get(&url).send().await.is_err());
    assert!((metric(&registry, "opendepot_registry_tls_not_after_seconds").await - not_after).abs() < 1.0);
    let identity = other.server(&["127.0.0.1"]).unwrap();
    std::fs::write(depot.file("tls.crt"), &identity.certificate_pem).unwrap();
    std::fs::write(depot.file("tls.key"), &identity.key_pem).unwrap();
    soon(|| async { new.get(&url).send().await.map(drop).context("the old one is still served") }).await;
    done.store(true, Ordering::SeqCst);
    load.await.expect("no request fails");
    assert!(old.get(&url).send().await.is_err());
    println!("{} requests meanwhile", served.load(Ordering::SeqCst));
}

/// Reads until the server closes the connection, and how long that took.
async fn closed(mut stream: TcpStream, start: Instant) -> Duration {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(Duration::from_mins(2), stream.read_to_end(&mut bytes)).await.unwrap();
    start.elapsed()
}

/// A registry over plain HTTP whose store speaks HTTP/2 over TLS.
async fn with_http2_store(depot: &Depot) -> (Operator, S3Tls) {
    let authority = Authority::new("store").unwrap();
    let store = depot.world.bed.s3.over_tls(&authority).unwrap();
    let answer = Depot::client_of(&authority).get(store.endpoint()).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let ca_file = depot.file("store.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let builder = depot.plain_builder().env("AWS_ENDPOINT_URL_S3", store.endpoint());
    let registry = builder.args([OsString::from("--ca-file"), ca_file.into()]).start_ready().await.unwrap();
    (registry, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_hold_nothing_for_long() {
    let depot = Depot::new("reg-slow").await;
    depot.publish("net", &[("1.0.0", archive(MAIN, 32 << 20))]).await;
    let (registry, _store) = with_http2_store(&depot).await;
    let address = registry.registry_address().to_owned();
    let base = format!("http://{address}");
    let link = depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    let path = link.strip_prefix(&base).unwrap();
    let streams = async || metric(&registry, "opendepot_registry_streams").await;
    let start = Instant::now();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
    // Three that are not read fill the window of one HTTP/2 connection to the store.
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    soon(|| async {
        ensure!(streams().await > 2.5, "the archives do not arrive");
        Ok(())
    })
    .await;
    let another = depot.get(&link, &[]).await.unwrap();
    assert!(another.status == 200 && another.body.len() > 32 << 20, "{}", another.status);
    assert!(streams().await > 2.5, "the others are not cut yet");
    let took = closed(slow, start).await;
    assert!(took >= Duration::from_secs(9) && took < Duration::from_mins(1), "{took:?}");
    assert!((streams().await - 3.0).abs() < 0.1);

    // 131 connections of one address, three of which are in use: the idle one that came first makes room.
    let mut idle = Vec::new();
    for _ in 0..128 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let first = idle.remove(0);
    let took = closed(first, Instant::now()).await;
    assert!(took < Duration::from_secs(9), "{took:?}");
    let answer = depot.get(&format!("{base}/.well-known/terraform.json"), &[]).await.unwrap();
    assert_eq!(answer.status, 200);

    // The stuck ones have not read a byte: after 30 s they are cut.
    soon(|| async {
        ensure!(streams().await < 0.5, "one still holds its place");
        Ok(())
    })
    .await;
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_wait_for_the_store_leave_connections_to_others() {
    let depot = Depot::new("reg-waits").await;
    depot.publish("net", &[("1.0.0", archive(MAIN, 0))]).await;
    let registry = depot.plain_builder().args(["--trusted-proxy", "127.0.0.1"]).start_ready().await.unwrap();
    let address = registry.registry_address().to_owned();
    let base = format!("http://{address}");
    depot.archive_url(&base, "net", "1.0.0").await.unwrap();
    depot.world.bed.s3.inject(S3Fault::new(&depot.world.name, S3Failure::Hang).method(Method::GET));
    let page = format!("/modules/{}/net/{SYSTEM}", depot.world.name);
    let (mut waiting, start) = (Vec::new(), Instant::now());
    for number in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let peer = format!("192.0.2.{}", number % 200);
        let request =
            format!("GET {page} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {peer}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    // 256 wait until the store counts as unavailable, which is after 10 s. The others get a page without documentation at once.
    let refused = waiting.iter_mut().map(|stream| async move {
        let mut bytes = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).contains("The documentation of many archives is being read")
    });
    let refused = join_all(refused).await.into_iter().filter(|refused| *refused).count();
    assert!((1..=44).contains(&refused), "{refused}");
    let answer = depot.get(&format!("{base}/.well-known/terraform.json"), &[]).await.unwrap();
    assert_eq!(answer.status, 200);
    // The first one was not among them. A request waits for 30 s, and a read ends before that.
    let took = closed(waiting.swap_remove(0), start).await;
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(29), "{took:?}");
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let limit = getrlimit(Resource::Nofile);
    // Without a limit there is none to raise.
    let Some(most) = limit.maximum else { return };
    // The registry inherits this one.
    setrlimit(Resource::Nofile, Rlimit { current: Some(most - 1), ..limit }).unwrap();
    let depot = Depot::new("reg-files").await;
    let registry = depot.registry(&[]).await;
    let metrics = registry.metrics().await.unwrap();
    let limit = metrics.lines().find_map(|line| line.strip_prefix("process_max_fds "));
    let limit: f64 = limit.unwrap().parse().unwrap();
    assert_eq!(limit.to_string(), most.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_streams_and_a_thousand_connections_fit_into_memory() {
    let _turn = heavy().await;
    let depot = Depot::new("reg-memory").await;
    let versions: Vec<String> = (0..8).map(|number| format!("1.{number}.0")).collect();
    let bytes = archive(MAIN, 16 << 20);
    let all: Vec<_> = versions.iter().map(|version| (version.as_str(), bytes.clone())).collect();
    depot.publish("net", &all).await;
    let builder = depot.plain_builder().args(["--trusted-proxy", "127.0.0.0/8"]);
    let registry = builder.start_ready().await.unwrap();
    let address = registry.registry_address().to_owned();
    let base = format!("http://{address}");
    let open = async |number: usize| {
        let link = depot.archive_url(&base, "net", &versions[number % 8]).await.unwrap();
        let path = link.strip_prefix(&base).unwrap();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let peer = format!("192.0.2.{}", number % 5);
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {peer}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    // All at once: a stream of which nothing is read is cut after a while.
    let mut streams = join_all((0..64).map(open)).await;
    soon(|| async {
        let streams = metric(&registry, "opendepot_registry_streams").await;
        ensure!(streams > 63.5, "{streams} streams");
        Ok(())
    })
    .await;
    for stream in &mut streams {
        stream.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
    }
    let memory = registry.memory().unwrap();
    println!("64 streams: {memory:?}");
    assert!(memory.peak_of_release() <= 64 << 20, "64 streams: {memory:?}");

    let part = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}", "x".repeat(32_000));
    let mut held = Vec::new();
    for _ in 0..1024 - 64 - 1 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(part.as_bytes()).await.unwrap();
        held.push(stream);
    }
    soon(|| async {
        let answer = depot.get(&format!("{base}/.well-known/terraform.json"), &[]).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await;
    let memory = registry.memory().unwrap();
    println!("64 streams and 960 connections with 32 KiB each: {memory:?}");
    assert!(memory.peak_of_release() <= 192 << 20, "{memory:?}");
}
