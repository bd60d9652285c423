//! Who may install from the registry, and what the API server is asked for that.

use serde_json::json;

use crate::support::World;
use crate::support::token_registry::REGISTRY;

#[tokio::test]
async fn rbac_decides_and_one_review_of_each_kind_serves_many_requests() {
    let world = World::new("registry-access").await;
    let _operator = world.operator().await;
    world.apply(&world.module("net"));
    let address = world.address("net").await;
    let registry = world.registry().await;
    let token = world.consumer(&registry, "ci");
    let versions = |address: &str| format!("/v1/modules/{address}/versions");
    let audit = world.bed.kubernetes.audit();
    let mark = audit.mark(&world.client).await.unwrap();

    // The right is there, the module has no stored version yet.
    for _ in 0..5 {
        assert_eq!(registry.get(&versions(&address), Some(&token)).await.status(), 404);
    }
    // Other registries have the same user in the audit log.
    let metrics = registry.process.metrics().await.unwrap();
    let reviews: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("opendepot_registry_reviews_total{")).collect();
    assert!(reviews.len() == 2 && reviews.iter().all(|line| line.ends_with(" 1")), "{reviews:?}");

    // No token, and tokens for another audience or of an account without the right.
    world.kubectl(&["create", "serviceaccount", "other"]);
    let other = world.token(&registry.host, "other");
    let foreign = world.token("elsewhere", "ci");
    for (token, status) in
        [(None, 401), (Some("odt_wrong"), 401), (Some(&*foreign), 401), (Some(&*other), 403)]
    {
        for name in [&*address, &format!("{}/unknown/aws", world.name), "elsewhere/unknown/aws"] {
            let answer = registry.get(&versions(name), token).await;
            assert_eq!(answer.status(), status, "{name}");
            assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401);
        }
    }
    // Discovery never looks at the token, and a malformed address is no question of rights.
    let discovery = registry.get("/.well-known/terraform.json", Some("expired")).await;
    assert_eq!(
        (discovery.status().as_u16(), discovery.headers()["cache-control"].to_str().unwrap()),
        (200, "max-age=60")
    );
    assert_eq!(discovery.text().await.unwrap(), json!({"modules.v1": "/v1/modules/"}).to_string());
    assert_eq!(registry.get("/v1/modules/a/b/google-beta/versions", None).await.status(), 404);

    // It writes nothing, and no token is in its log, but whom to bind.
    let all = audit.since(mark, &world.client).await.unwrap();
    let writes =
        all.iter().filter(|e| e.user == REGISTRY && e.is_write() && !e.resource.ends_with("reviews"));
    assert_eq!(writes.count(), 0);
    let log = registry.process.log();
    let group = format!("system:serviceaccounts:{}", world.name);
    let whom = ["refused;", ":other", &*group];
    assert!(log.lines().any(|line| whom.iter().all(|name| line.contains(name))), "{log}");
    for secret in [&token, &other, &foreign] {
        assert!(!log.contains(secret.as_str()), "a token is in the log");
    }
}
