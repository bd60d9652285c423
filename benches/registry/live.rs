//! The binary as it runs: how long it takes to be ready, to see a change, and to answer while requests arrive steadily.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use opendepot::api::Version;
use opendepot_testbed::operator::Operator;

use crate::client::{Server, exchange, request};
use crate::depot::Depot;
use crate::table::{Goal, heading, line, median, percentile};
use crate::{MODULES, VERSIONS};

/// Versions whose status is written while a client looks.
const WATCHED: usize = 200;
const STARTS: usize = 5;
const THREADS: u32 = 8;
/// Each thread sends one in this time: 500 a second in all.
const PACE: Duration = Duration::from_millis(16);
const EACH: u32 = 1250;

pub(crate) async fn as_it_runs(depot: &Depot) {
    depot.publish("live", VERSIONS, VERSIONS - WATCHED, b"PK-live".to_vec()).await;
    heading(&format!("the binary, {} versions", 2 * VERSIONS), "");
    measure(depot, 1).await;
    for number in 1..MODULES {
        depot.publish(&format!("mod{number}"), VERSIONS, VERSIONS, b"PK-small".to_vec()).await;
    }
    heading(&format!("the binary, {} versions", (MODULES + 1) * VERSIONS), "");
    measure(depot, MODULES).await;
}

async fn measure(depot: &Depot, modules: usize) {
    let (registry, target) = depot.binary(&["--download", "redirect"], true).await;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(registry.restart().await.unwrap().as_secs_f64() * 1e3);
    }
    line("start to ready, of 5", ("", ""), median(starts), "ms", Goal::AtMost(2000.0));
    for turn in 0..2 {
        let took = latency(depot, &target, modules).await;
        let (middle, largest) = (percentile(took.clone(), 50), percentile(took.clone(), 100));
        let more = (format!("p50 {middle:.2} ms"), format!("max {largest:.1} ms"));
        let case = if turn == 0 { "500 requests/s over TLS, p99" } else { "  again" };
        line(case, (&more.0, &more.1), percentile(took, 99), "ms", Goal::AtMost(10.0));
    }
    let seen = listed(depot, &target).await;
    let more = (format!("p50 {:.0} ms", percentile(seen.clone(), 50)), String::new());
    line("status write to listed, p99", (&more.0, &more.1), percentile(seen, 99), "ms", Goal::AtMost(250.0));
    memory(&registry);
}

fn memory(registry: &Operator) {
    let memory = registry.memory().unwrap();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let resident = format!("now {:.0} MiB", mib(memory.resident));
    line("memory at the peak", (&resident, ""), mib(memory.peak), "MiB", Goal::AtMost(64.0));
}

/// The time of each answer in milliseconds, while requests for all modules arrive at a steady rate.
async fn latency(depot: &Depot, target: &Server, modules: usize) -> Vec<f64> {
    let mut paths = Vec::new();
    for number in 0..modules {
        let prefix = depot.module(&format!("mod{number}"));
        let download = format!("{prefix}/1.{}.0/download", number * 90);
        let archive = target.archive_path(&download, &depot.token).await;
        paths.extend(["/.well-known/terraform.json".into(), format!("{prefix}/versions"), download, archive]);
    }
    let requests: Vec<String> = paths.iter().map(|path| request(path, &depot.token, "gzip")).collect();
    let start = Instant::now() + Duration::from_millis(100);
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (target, requests) = (target.clone(), requests.clone());
            std::thread::spawn(move || {
                let mut connection = target.connect();
                let send = |number: u32| {
                    let due = start + PACE * number + PACE / THREADS * thread;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let request = &requests[(number + thread) as usize % requests.len()];
                    exchange(&mut connection, request);
                    // From when it was due: a late answer delays the next request, which counts.
                    due.elapsed().as_secs_f64() * 1e3
                };
                (0..EACH).map(send).collect::<Vec<_>>()
            })
        })
        .collect();
    let all = tokio::task::spawn_blocking(|| threads.into_iter().flat_map(|t| t.join().unwrap()).collect());
    all.await.unwrap()
}

/// Milliseconds from the beginning of a status write to the first answer that lists its version.
async fn listed(depot: &Depot, target: &Server) -> Vec<f64> {
    let versions = opendepot::controller::client::objects::<Version>(&depot.client, &depot.namespace);
    let list = request(&format!("{}/versions", depot.module("live")), &depot.token, "identity");
    let mut took = Vec::new();
    for number in VERSIONS - WATCHED..VERSIONS {
        let (target, list, wanted) = (target.clone(), list.clone(), format!("\"1.{number}.0\""));
        let name = format!("live-1.{number}.0");
        let unlisted = Patch::Merge(serde_json::json!({"status": {"synced": false}}));
        versions.patch_status(&name, &PatchParams::default(), &unlisted).await.unwrap();
        let looks = move |expected: bool| {
            let (target, list, wanted) = (target.clone(), list.clone(), wanted.clone());
            tokio::task::spawn_blocking(move || until(&target, &list, &wanted, expected))
        };
        looks(false).await.unwrap();
        let (start, seen) = (Instant::now(), looks(true));
        let status = Patch::Merge(depot.status("live"));
        versions.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
        took.push(seen.await.unwrap().duration_since(start).as_secs_f64() * 1e3);
    }
    took
}

/// The time of the first answer that contains a text, or does not.
fn until(target: &Server, request: &str, text: &str, contains: bool) -> Instant {
    let (mut connection, start) = (target.connect(), Instant::now());
    loop {
        let (bytes, _) = exchange(&mut connection, request);
        if bytes.windows(text.len()).any(|part| part == text.as_bytes()) == contains {
            return Instant::now();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{text} is not as expected: {contains}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
