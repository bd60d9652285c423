//! What pages show of the request: the host, the words of a search, and what is not found.

use super::pages::{PAGE, has_all, registry as documented};
use super::*;
use crate::registry::docs::{Docs, Folder};

const NET: &str = "/modules/platform/net/aws";

/// A registry with the module `platform/net/aws` of these versions, whose conditions are `conditions`.
fn net(versions: &Value, conditions: &Value) -> Registry {
    let registry = Registry::new();
    let (object, mut stored) = module("net", "net", versions);
    for version in &mut stored {
        version["status"]["conditions"] = conditions.clone();
    }
    registry.serve((object, stored));
    registry.server.permit("ann", "platform", "net");
    let module = registry.service.pages.index.get(&"platform/net/aws".parse().unwrap()).unwrap();
    for version in &module.versions {
        let docs = Docs { folders: vec![Folder::default()], is_cut: false };
        registry.service.pages.library.put(version, docs);
    }
    registry
}

#[tokio::test]
async fn a_block_with_which_clients_install_another_build_says_so() {
    let all = ["1.0.0", "1.0.0+a", "1.0.0+b", "1.1.0-rc.1+a", "1.1.0-rc.1+b"];
    let entries: Vec<Value> = all.iter().map(|version| json!({"version": version})).collect();
    let registry = net(&json!(entries), &json!([]));
    for (version, is_other) in
        [("1.0.0", true), ("1.0.0%2Ba", true), ("1.0.0%2Bb", false), ("1.1.0-rc.1%2Ba", false)]
    {
        let page = registry.get(&format!("{NET}/{version}"), &[ANN]).await.text();
        has_all(&page, &["class=\"snippet\""]);
        let says =
            page.contains("Clients install <a href=\"/modules/platform/net/aws/1.0.0%2Bb\">1.0.0+b</a>");
        assert_eq!(says, is_other, "{version}: {page}");
    }
}

#[tokio::test]
async fn a_page_never_says_that_clients_install_a_withdrawn_version() {
    let changed = json!([{"type": "Ready", "status": "False", "reason": "ImmutableContentChanged", "message": "other"}]);
    let registry =
        net(&json!([{"version": "1.0.0"}, {"version": "1.1.0", "withdrawn": "CVE-2026-1"}]), &changed);
    for (version, is_installed) in [("1.0.0", true), ("1.1.0", false)] {
        let page = registry.get(&format!("{NET}/{version}"), &[ANN]).await.text();
        has_all(&page, &["ImmutableContentChanged"]);
        assert_eq!(page.contains("the tag of an immutable version was moved"), is_installed, "{page}");
        let says = ["Clients still install", "class=\"snippet\""].map(|words| page.contains(words));
        assert_eq!(says, [is_installed; 2], "{version}: {page}");
    }
    let page = registry.get(&format!("{NET}/1.1.0"), &[ANN]).await.text();
    has_all(&page, &["The latest version is <a href=\"/modules/platform/net/aws/1.0.0\">1.0.0</a>."]);
}

#[tokio::test]
async fn a_snippet_names_a_host_that_the_clients_take() {
    let mut registry = documented();
    registry.service.pages.host = None;
    for (host, expected) in [
        ("registry.example:8443", "registry.example:8443"),
        ("localhost:8443", "HOST"),
        ("[::1]:8443", "HOST"),
        ("my_registry:8443", "HOST"),
    ] {
        let page = registry.get(PAGE, &[ANN, ("host", host)]).await.text();
        has_all(&page, &[&format!("&quot;{expected}/platform/eks/aws")]);
    }
}

#[tokio::test]
async fn a_page_that_is_not_found_says_so_in_its_status_line() {
    let registry = documented();
    for path in [
        format!("{PAGE}/1.1.0/modules/none"),
        format!("{PAGE}/9.9.9"),
        "/modules/platform/none/aws".to_owned(),
    ] {
        registry.server.permit("ann", "platform", "none");
        let answer = registry.get(&path, &[ANN]).await;
        assert_eq!((answer.status, &*answer.phrase), (StatusCode::NOT_FOUND, "Not Found"), "{path}");
        // A folder without documentation may not exist: then no client could install it.
        assert!(!answer.text().contains("class=\"snippet\""), "{path}");
    }
    let page = registry.get(&format!("{PAGE}/1.1.0/wrappers/x"), &[ANN]).await.text();
    has_all(&page, &["no documentation of this folder", "href=\"/modules/platform/eks/aws/1.1.0\">Show the"]);
}

#[tokio::test]
async fn the_page_of_a_version_that_is_not_served_says_why() {
    let registry = Registry::new();
    let all = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"];
    let mut entries: Vec<Value> = all.iter().map(|version| json!({"version": version})).collect();
    entries[1]["withdrawn"] = json!("CVE-2026-1");
    let (object, mut stored) = module("net", "net", &json!(entries));
    stored[1]["status"] = json!({});
    let condition =
        json!({"type": "Ready", "status": "False", "reason": "TagNotFound", "message": "of acme"});
    stored[2]["status"] = json!({"conditions": [condition]});
    stored.truncate(3);
    registry.serve((object, stored));
    registry.server.permit("ann", "platform", "net");
    for (path, status, reason) in [
        ("1.1.0", StatusCode::GONE, "CVE-2026-1"),
        ("v1.2.0", StatusCode::NOT_FOUND, "TagNotFound"),
        ("1.2.0/modules/x", StatusCode::NOT_FOUND, "TagNotFound"),
        ("1.3.0", StatusCode::NOT_FOUND, "No Version was created for it yet"),
    ] {
        let path = format!("{NET}/{path}");
        let answer = registry.get(&path, &[ANN]).await;
        assert_eq!(answer.status, status, "{path}");
        has_all(&answer.text(), &[reason, "href=\"/modules/platform/net/aws/versions\""]);
        // A message of a condition is for those who may read the Module.
        assert!(!answer.text().contains("of acme"), "{path}");
        assert_eq!(registry.get(&path, &[BOB]).await.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_page_waits_for_what_another_replica_has_listed() {
    let registry = net(&json!([{"version": "1.0.0"}]), &json!([]));
    let both = json!([{"version": "1.0.0"}, {"version": "1.1.0"}]);
    let (page, comparison) = (format!("{NET}/1.1.0"), format!("{NET}/compare/1.0.0...1.1.0"));
    let (page, comparison, ()) =
        tokio::join!(registry.get(&page, &[ANN]), registry.get(&comparison, &[ANN]), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            registry.serve(module("net", "net", &both));
        });
    assert_eq!((page.status, comparison.status), (StatusCode::OK, StatusCode::OK), "{}", page.text());
}

#[tokio::test]
async fn the_title_of_a_page_begins_with_what_only_this_page_shows() {
    let registry = documented();
    for (path, title) in [
        (format!("{PAGE}/1.1.0"), "platform/eks/aws 1.1.0"),
        (format!("{PAGE}/1.1.0/modules/karpenter"), "modules/karpenter · platform/eks/aws 1.1.0"),
        ("/?q=eks+aws".to_owned(), "eks aws · Modules"),
        ("/".to_owned(), "Modules"),
    ] {
        let page = registry.get(&path, &[ANN]).await.text();
        has_all(&page, &[&format!("<title>{title} · OpenDepot</title>")]);
    }
}

#[tokio::test]
async fn a_search_finds_a_namespace_by_its_aliases() {
    let registry = documented();
    for words in ["acme", "acme/eks", "ACME+eks", "acme/eks/aws", "platform+acme"] {
        let list = registry.get(&format!("/?q={words}"), &[ANN]).await.text();
        has_all(&list, &["href=\"/modules/platform/eks/aws\""]);
        let json = registry.get(&format!("/v1/modules/search?q={words}"), &[ANN]).await.json();
        assert_eq!(json["modules"][0]["namespace"], "platform", "{words}: {json}");
    }
    for (path, list) in [("/modules", "/"), ("/modules/acme/eks/", "/?q=acme/eks")] {
        let answer = registry.get(path, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::FOUND, list), "{path}");
    }
    for words in ["acme/s3", "acme2"] {
        has_all(&registry.get(&format!("/?q={words}"), &[ANN]).await.text(), &["No module matches"]);
    }
}
