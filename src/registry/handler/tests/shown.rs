//! What pages show of the request: the host, the words of a search, and what is not found.

use super::pages::{PAGE, has_all, registry as documented};
use super::*;

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
    for words in ["acme/s3", "acme2"] {
        has_all(&registry.get(&format!("/?q={words}"), &[ANN]).await.text(), &["No module matches"]);
    }
}
