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
async fn one_right_among_many_namespaces_is_found_and_leaves_reviews_to_downloads() {
    let registry = registry();
    for number in 0..=700 {
        let (mut module, _) = module(&format!("m{number}"), "net", &json!([]));
        // It is the last one in the order of the names.
        let namespace = if number == 700 { "zeta".to_owned() } else { format!("n{number}") };
        module["metadata"]["namespace"] = json!(namespace);
        registry.serve((module, Vec::new()));
    }
    registry.server.permit("ann", "zeta", "*");
    let list = registry.get("/?namespace=zeta", &[ANN]).await.text();
    has_all(&list, &["zeta/", ">1 module<"]);
    assert_eq!(registry.server.counts().1, 1);
    for path in ["/?q=zeta", "/?q=Zeta/net", "/", "/?q=net"] {
        let list = registry.get(path, &[ANN]).await;
        assert_eq!(list.status, StatusCode::OK, "{path}: {}", list.text());
        has_all(&list.text(), &["zeta/", "modules may be missing here"]);
    }
    let nothing = registry.get("/", &[BOB]).await;
    assert_eq!((nothing.status, nothing.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "30"));
    assert_eq!(registry.get(&format!("{ADDRESS}/versions"), &[ANN]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_follows_the_urls_of_a_list_gets_all_of_it() {
    let registry = registry();
    for name in ["net", "vpc"] {
        registry.serve(module(name, name, &json!([{"version": "1.0.0"}])));
        registry.server.permit("ann", "platform", name);
    }
    for first in [
        "/v1/modules?limit=1",
        "/v1/modules/acme?limit=2",
        "/v1/modules/search?q=aws+platform&limit=1&provider=aws&namespace=platform",
    ] {
        let (mut next, mut found) = (Some(first.to_owned()), Vec::new());
        while let Some(path) = next {
            let list = registry.get(&path, &[ANN]).await.json();
            let modules = list["modules"].as_array().unwrap();
            found.extend(modules.iter().map(|module| module["name"].as_str().unwrap().to_owned()));
            next = list["meta"]["next_url"].as_str().map(str::to_owned);
        }
        assert_eq!(found, ["eks", "net", "vpc"], "{first}");
    }
    for (path, meta) in [
        (
            "/v1/modules?offset=1&limit=1",
            json!({
                "limit": 1, "current_offset": 1, "next_offset": 2, "prev_offset": 0,
                "next_url": "/v1/modules?limit=1&offset=2", "prev_url": "/v1/modules?limit=1&offset=0",
            }),
        ),
        (
            "/v1/modules/platform/eks?offset=20",
            json!({
                "limit": 15, "current_offset": 20, "prev_offset": 5,
                "prev_url": "/v1/modules/platform/eks?limit=15&offset=5",
            }),
        ),
    ] {
        assert_eq!(registry.get(path, &[ANN]).await.json()["meta"], meta, "{path}");
    }
}

#[tokio::test]
async fn a_module_that_an_alias_hides_is_no_link() {
    let registry = registry();
    let (mut hidden, _) = module("hidden", "eks", &json!([]));
    (hidden["metadata"]["namespace"], hidden["status"]) = (json!("acme"), json!({}));
    let mut fold = Fold::new(StorageRules::default(), registry.service.pages.aliases.clone());
    fold.module(WatchChange::Applied(serde_json::from_value(hidden).unwrap()));
    registry.service.pages.index.apply(fold.updates(), States::default());
    registry.server.permit("ann", "acme", "*");
    let list = registry.get("/", &[ANN]).await.text();
    has_all(&list, &["<span>acme/<wbr>eks</span>", "hidden by an alias", "/modules/platform/eks/aws"]);
    assert!(!list.contains("/modules/acme"), "{list}");
}

#[tokio::test]
async fn a_list_that_is_a_part_does_not_say_that_there_is_nothing_else() {
    let registry = registry();
    let whole = registry.get("/v1/modules", &[ANN]).await.json();
    assert!(whole["meta"].get("is_incomplete").is_none(), "{whole}");
    serve_team(&registry, 130);
    registry.server.permit("bob", "team", "m99");
    // In the order of their names, this is the last one, which is not reviewed.
    let all = registry.get("/", &[BOB]).await.text();
    assert!(all.contains("modules may be missing here") && !all.contains("There is no module"), "{all}");
    assert_eq!(registry.get("/v1/modules", &[BOB]).await.json()["meta"]["is_incomplete"], true);
    let found = registry.get("/?q=team+m99", &[BOB]).await.text();
    assert!(found.contains("team/") && found.contains(">1 module<"), "{found}");
    assert_eq!(registry.get("/v1/modules/team/m99", &[BOB]).await.json()["meta"]["is_incomplete"], true);
    // Of several with one name, the one with the system of the query. A denial counts for that one only.
    let systems = [("aws", false), ("azure", true), ("gcp", false)];
    for (provider, _) in systems {
        let (mut module, _) = module(&format!("net-{provider}"), "net", &json!([]));
        module["metadata"]["namespace"] = json!("team");
        module["spec"]["moduleConfig"]["provider"] = json!(provider);
        registry.serve((module, Vec::new()));
    }
    registry.server.permit("bob", "team", "net-azure");
    for (provider, is_found) in systems {
        let found = registry.get(&format!("/?q=Team/net/{provider}"), &[BOB]).await.text();
        assert_eq!(found.contains("team/") && found.contains(">1 module<"), is_found, "{provider}: {found}");
    }
    let past = registry.get("/?q=team+m99&offset=5000", &[BOB]).await.text();
    assert!(past.contains("team/") && !past.contains("Previous"), "{past}");
}

/// Serves Modules `m0`, `m1` and so on in the namespace `team`.
fn serve_team(registry: &Registry, count: usize) {
    for number in 0..count {
        let (mut module, _) = module(&format!("m{number}"), &format!("m{number}"), &json!([]));
        module["metadata"]["namespace"] = json!("team");
        registry.serve((module, Vec::new()));
    }
}

/// Neither by the number of reviews, which takes time, nor by bytes.
#[tokio::test]
async fn no_list_shows_what_others_have() {
    let registry = registry();
    serve_team(&registry, 101);
    for (number, (there, none)) in [
        ("/search?q=eks", "/search?q=ekx"),
        ("/team", "/tean"),
        ("?namespace=team", "?namespace=tean"),
        // It is the last one in the order of the names, which a list does not review.
        ("/team/m99", "/team/none"),
        ("/team/m0", "/team/none"),
        ("/search?q=team+m99", "/search?q=team+none"),
    ]
    .into_iter()
    .enumerate()
    {
        for is_list_known in [false, true] {
            let mut seen = Vec::new();
            for path in [there, none] {
                let token = format!("Bearer user-{number}-{is_list_known}-{}", path == there);
                let stranger = [("authorization", token.as_str())];
                if is_list_known {
                    registry.get("/v1/modules", &stranger).await;
                }
                let before = registry.server.counts().1;
                let answer = registry.get(&format!("/v1/modules{path}"), &stranger).await;
                seen.push((registry.server.counts().1 - before, answer.status, answer.text()));
            }
            assert_eq!(seen[0], seen[1], "{there} {is_list_known}");
        }
    }
    // Nor while reviews fail.
    assert_eq!(registry.get(&format!("{ADDRESS}/versions"), &[BOB]).await.status, StatusCode::FORBIDDEN);
    registry.server.set_away(true);
    for word in ["m1", "none"] {
        let answer = registry.get(&format!("/v1/modules/search?q={word}"), &[BOB]).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{word}");
    }
}

#[tokio::test]
async fn a_module_that_lists_no_version_says_why() {
    let registry = registry();
    let (moved, mut versions) = module("moved", "moved", &json!([{"version": "1.0.0"}]));
    versions[0]["status"]["storage"]["endpoint"] = json!("https://s3.acme.io");
    let (new, _) = module("new", "new", &json!([{"version": "1.0.0"}]));
    let withdrawn = json!([{"version": "1.0.0", "withdrawn": "all bad"}]);
    let (never, _) = module("never", "never", &withdrawn);
    let old = module("old", "old", &withdrawn);
    for served in [(moved, versions), (new, Vec::new()), (never, Vec::new()), old] {
        registry.serve(served);
    }
    registry.server.permit("ann", "platform", "*");
    let list = registry.get("/", &[ANN]).await.text();
    for (name, words) in [
        ("moved", "<span class=\"state bad\">not served</span>"),
        ("new", "<span class=\"state\">nothing stored yet</span>"),
        ("never", "<span class=\"state bad\">withdrawn</span>"),
        ("old", "<span class=\"state bad\">withdrawn</span>"),
    ] {
        let start = list.find(&format!("/modules/platform/{name}/aws")).unwrap();
        has_all(list[start..].split("</li>").next().unwrap(), &[words]);
    }
}
