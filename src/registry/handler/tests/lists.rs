//! Lists of more modules than can be reviewed for one request.

use super::pages::{has_all, registry};
use super::*;

#[tokio::test]
async fn a_long_list_stays_within_the_limits_of_reviews() {
    let registry = registry();
    for number in 0..700 {
        let (mut module, _) = module(&format!("m{number}"), "m", &json!([]));
        module["metadata"]["namespace"] = json!(format!("team-{}", number / 30));
        registry.serve((module, Vec::new()));
    }
    registry.server.permit("ann", "team-9", "*");
    for _ in 0..3 {
        let list = registry.get("/", &[ANN]).await;
        assert_eq!(list.status, StatusCode::OK, "{}", list.text());
        has_all(&list.text(), &["/modules/platform/eks/aws", "team-9/", "modules may be missing here"]);
    }
    assert_eq!(registry.get("/v1/modules", &[ANN]).await.json()["meta"]["is_incomplete"], true);
}

#[tokio::test]
async fn a_list_that_is_a_part_does_not_say_that_there_is_nothing_else() {
    let registry = registry();
    let whole = registry.get("/v1/modules", &[ANN]).await.json();
    assert!(whole["meta"].get("is_incomplete").is_none(), "{whole}");
    for number in 0..130 {
        let (mut module, _) = module(&format!("m{number}"), &format!("m{number}"), &json!([]));
        module["metadata"]["namespace"] = json!("team");
        registry.serve((module, Vec::new()));
    }
    registry.server.permit("bob", "team", "m99");
    // In the order of their names, this is the last one, which is not reviewed.
    let all = registry.get("/", &[BOB]).await.text();
    assert!(all.contains("modules may be missing here") && !all.contains("There is no module"), "{all}");
    assert_eq!(registry.get("/v1/modules", &[BOB]).await.json()["meta"]["is_incomplete"], true);
    let found = registry.get("/?q=team+m99", &[BOB]).await.text();
    assert!(found.contains("team/") && !found.contains("may be missing"), "{found}");
    let past = registry.get("/?q=team+m99&offset=5000", &[BOB]).await.text();
    assert!(past.contains("team/") && !past.contains("Previous"), "{past}");
}
