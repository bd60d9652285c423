//! Pages of a real module whose documentation has been read before, as people open them one after the other.

use std::process::Command;
use std::time::Instant;

use opendepot::registry::archive::DownloadMode;
use opendepot_testbed::github::real_repositories;

use crate::client::{Server, exchange, request};
use crate::depot::Depot;
use crate::table::{Goal, heading, line, percentile};

/// Requests for each page.
const REQUESTS: usize = 1000;
const MODULE: &str = "terraform-aws-modules/terraform-aws-eks";
const TAG: &str = "v21.18.0";
/// Versions of the module.
const VERSIONS: usize = 100;

pub(crate) async fn warm(depot: &Depot) {
    let repository = real_repositories().join(format!("{MODULE}.git"));
    let archive =
        Command::new("git").arg("-C").arg(&repository).args(["archive", "--format=zip", TAG]).output();
    let archive = archive.ok().filter(|output| output.status.success());
    let Some(archive) = archive else { return println!("\nno pages: {} is not there", repository.display()) };
    depot.publish("eks", VERSIONS, VERSIONS, archive.stdout).await;
    let registry = depot.in_this_process(DownloadMode::Redirect, None).await;
    heading(&format!("warm pages of {MODULE} {TAG}, one client"), "p50");
    let module = format!("/modules/{}/eks/aws", depot.namespace);
    for (case, path) in [
        ("list", "/".to_owned()),
        ("module", module.clone()),
        ("submodule", format!("{module}/1.99.0/modules/eks-managed-node-group")),
        ("all versions", format!("{module}/versions")),
        ("comparison", format!("{module}/compare/1.0.0...1.99.0")),
    ] {
        let (bytes, times) = times(registry.clone(), request(&path, &depot.token, "gzip")).await;
        let middle = format!("{:.2} ms", percentile(times.clone(), 50));
        let case = format!("{case}, p99");
        line(
            &case,
            (&middle, &format!("{} KiB", bytes >> 10)),
            percentile(times, 99),
            "ms",
            Goal::AtMost(10.0),
        );
    }
}

/// The size of the page, and how long each answer takes, in milliseconds.
async fn times(target: Server, request: String) -> (usize, Vec<f64>) {
    let measured = tokio::task::spawn_blocking(move || {
        let mut connection = target.connect();
        // The first request reads the documentation.
        let (page, head) = exchange(&mut connection, &request);
        assert!(page.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&page[..head]));
        let once = |_| {
            let start = Instant::now();
            exchange(&mut connection, &request);
            start.elapsed().as_secs_f64() * 1e3
        };
        (page.len() - head, (0..REQUESTS).map(once).collect())
    });
    measured.await.unwrap()
}
