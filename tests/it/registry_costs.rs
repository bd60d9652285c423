//! What the registry costs others: the API server, from its audit log, and S3, from its request log.

use futures::future::join_all;
use http::Method;
use opendepot_testbed::control_plane::AuditMark;

use crate::support::registry::{Depot, SYSTEM, archive};
use crate::support::token_registry::{REGISTRY, Registry};
use crate::support::{World, whole_cluster};

/// Clients that ask at once.
const CLIENTS: usize = 64;

/// What the registry asked the API server for since then, in order.
async fn asked(world: &World, since: AuditMark) -> Vec<String> {
    let all = world.bed.kubernetes.audit().since(since, &world.client).await.unwrap();
    let own = all.into_iter().filter(|entry| entry.user == REGISTRY);
    let mut asked: Vec<String> = own.map(|entry| format!("{} {}", entry.verb, entry.resource)).collect();
    asked.sort_unstable();
    asked
}

/// The path of the archive link that `download` gives.
async fn link(registry: &Registry, module: &str, token: &str) -> String {
    let answer = registry.get(&format!("{module}/1.0.0/download"), Some(token)).await;
    assert_eq!(answer.status(), 204);
    let location = answer.headers()["x-terraform-get"].to_str().unwrap();
    let host = format!("https://{}", registry.host);
    location.strip_prefix(&host).unwrap().split('?').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_cost_neither_the_api_server_nor_s3_a_request() {
    // No other registry is in this audit log.
    let (_turn, bed) = whole_cluster().await;
    let depot = Depot::of(World::on(bed, "reg-costs").await);
    let (world, s3) = (&depot.world, &bed.s3);
    let bytes = archive("# net\n", 100_000);
    depot.publish("net", &[("1.0.0", bytes.clone())]).await;
    let module = format!("/v1/modules/{}/net/{SYSTEM}", world.name);
    let start = bed.kubernetes.audit().mark(&world.client).await.unwrap();
    s3.forget_requests(&world.name);

    let redirecting = world.registry_with(&["--download", "redirect"]).await;
    let token = world.consumer(&redirecting, "ci");
    let versions = format!("{module}/versions");
    let answers = join_all((0..CLIENTS).map(|_| redirecting.get(&versions, Some(&token)))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let path = link(&redirecting, &module, &token).await;
    let expected = [
        "create subjectaccessreviews",
        "create tokenreviews",
        "list modules",
        "list versions",
        "watch modules",
        "watch versions",
    ];
    assert_eq!(asked(world, start).await, expected, "for {CLIENTS} clients at once with one new token");

    // From here on everything is known, for a minute.
    let known = bed.kubernetes.audit().mark(&world.client).await.unwrap();
    for _ in 0..5 {
        assert_eq!(redirecting.get(&versions, Some(&token)).await.status(), 200);
        assert_eq!(redirecting.get(&module, Some(&token)).await.status(), 200);
        link(&redirecting, &module, &token).await;
        let moved = redirecting.get(&path, None).await;
        assert_eq!(moved.status(), 302);
        assert!(moved.headers()["location"].to_str().unwrap().starts_with(&s3.endpoint()));
        let head = redirecting.client.head(format!("https://{}{path}", redirecting.host));
        assert_eq!(head.send().await.unwrap().status(), 200);
    }
    assert_eq!(asked(world, known).await, [""; 0]);
    assert!(s3.requests(&world.name).is_empty(), "{:?}", s3.requests(&world.name));

    let streaming = world.registry_with(&["--download", "stream"]).await;
    let token = world.token(&streaming.host, "ci");
    let path = link(&streaming, &module, &token).await;
    let known = bed.kubernetes.audit().mark(&world.client).await.unwrap();
    for times in 1..=3 {
        let whole = streaming.get(&path, None).await;
        assert_eq!(whole.bytes().await.unwrap(), bytes);
        let requests = s3.requests(&world.name);
        assert!(requests.iter().all(|request| request.method == Method::GET), "{requests:?}");
        assert_eq!(requests.len(), times, "{requests:?}");
    }
    assert_eq!(asked(world, known).await, [""; 0]);
    world.kubectl(&["delete", "modules", "--all", "--wait=false"]);
}
