//! Beside the store: the requests of a registry without an index, and an archive straight from it.

use std::process::Command;
use std::time::{Duration, Instant};

use opendepot::registry::archive::DownloadMode;
use opendepot_testbed::operator::Operator;

use crate::VERSIONS;
use crate::client::{CONNECTIONS, request};
use crate::depot::Depot;
use crate::table::{Goal, heading, line, median};

const LARGE: usize = 300 << 20;
const TURNS: usize = 5;
const TIME: Duration = Duration::from_secs(2);

/// One LIST for `versions`, one HEAD for `download`: the least that a registry without an index pays.
pub(crate) async fn beside_a_registry_without_an_index(depot: &Depot) {
    let real = depot.in_this_process(DownloadMode::Redirect, None).await;
    for number in 0..VERSIONS {
        let key = format!("listed/1.{number}.0.zip");
        depot.bed.s3.put(&depot.namespace, &key, b"PK".to_vec()).await.unwrap();
    }
    let (client, bucket) = (&depot.bed.s3.client(), depot.namespace.as_str());
    let list = || async move {
        let keys = client.list_objects_v2().bucket(bucket).prefix("listed/").send().await.unwrap();
        assert_eq!(keys.key_count(), Some(1000));
    };
    let head = || async move {
        client.head_object().bucket(bucket).key("listed/1.1.0.zip").send().await.unwrap();
    };
    let prefix = depot.module("mod0");
    let versions = request(&format!("{prefix}/versions"), &depot.token, "gzip");
    let download = request(&format!("{prefix}/1.1.0/download"), &depot.token, "gzip");
    let mut all = [const { Vec::new() }; 6];
    for _ in 0..TURNS {
        let (lists, ours) = (calls(list).await, real.load(&versions, TIME).await);
        let (heads, located) = (calls(head).await, real.load(&download, TIME).await);
        for (all, one) in all.iter_mut().zip([lists, ours, ours / lists, heads, located, located / heads]) {
            all.push(one);
        }
    }
    let [lists, ours, times, heads, located, times_of_head] = all.map(median);
    heading("answers per second, plain HTTP", "S3 requests");
    let rates = |theirs: f64, ours: f64| (format!("{theirs:.0}/s"), format!("{ours:.0}/s"));
    let (theirs, ours) = rates(lists, ours);
    line("versions, or a LIST of 1,000 keys", (&theirs, &ours), times, "x", Goal::AtLeast(20.0));
    let (theirs, ours) = rates(heads, located);
    line("download, or a HEAD", (&theirs, &ours), times_of_head, "x", Goal::AtLeast(5.0));
}

/// Calls per second, as many at once as there are connections to the registry.
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

/// The same bytes by curl: from the store, and from the binary that reads them there.
pub(crate) async fn streams(depot: &Depot) {
    depot.publish("large", 1, 1, vec![7; LARGE]).await;
    let redirect = depot.in_this_process(DownloadMode::Redirect, None).await;
    let path = format!("{}/1.0.0/download", depot.module("large"));
    let link = redirect.archive_path(&path, &depot.token).await;
    let direct = redirect.once(&request(&link, &depot.token, "gzip")).await.header("location").to_owned();
    heading("an archive of 300 MiB, by curl", "store");
    for (name, tls, goal) in
        [("streamed, plain HTTP", false, Goal::AtLeast(90.0)), ("streamed, TLS", true, Goal::None)]
    {
        let (registry, target) = depot.binary(&["--download", "stream"], tls).await;
        let link = target.archive_path(&path, &depot.token).await;
        let scheme = if tls { "https" } else { "http" };
        let through = format!("{scheme}://{}{link}", registry.registry_address());
        let mut rates = [const { Vec::new() }; 3];
        // The first one fills the caches.
        curl(&direct).await;
        let before = processor_time(&registry);
        // In turns, so that both meet the same machine.
        for _ in 0..2 * TURNS {
            let (store, ours) = (curl(&direct).await, curl(&through).await);
            for (all, one) in rates.iter_mut().zip([store, ours, 100.0 * ours / store]) {
                all.push(one);
            }
        }
        let took = processor_time(&registry) - before;
        let [store, ours, percent] = rates.map(median);
        let sides = (format!("{store:.0} MiB/s"), format!("{ours:.0} MiB/s"));
        line(name, (&sides.0, &sides.1), percent, "%", goal);
        let carried = (2 * TURNS * (LARGE >> 20)) as f64 / took;
        line("  what one core carries", ("", ""), carried, "MiB/s", Goal::None);
    }
}

/// The seconds of processor time that the process has used.
fn processor_time(registry: &Operator) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", registry.pid())).unwrap();
    // After the name, which may contain spaces: user and system time, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// MiB per second.
async fn curl(url: &str) -> f64 {
    let args = ["--silent", "--fail", "--insecure", "--noproxy", "*", "--output", "/dev/null"];
    let mut command = Command::new("curl");
    command.args(args).args(["--write-out", "%{time_total}", url]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let took: f64 = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    (LARGE >> 20) as f64 / took
}
