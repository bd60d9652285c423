use std::fmt::Debug;
use std::pin::pin;

use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::*;
use crate::api::Version;
use crate::api::state::{ModuleListing, ModuleState, VersionState};
use crate::controller::client;
use crate::domain::Mutex;

const KB: usize = 1 << 10;

/// A bounded client whose requests this function answers.
fn answered(answer: impl Fn(&Uri) -> (u16, String) + Send + 'static) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (status, text) = answer(request.uri());
        std::future::ready(Response::builder().status(status).body(Full::new(Bytes::from(text))))
    });
    bounded(Client::new(service, "default"))
}

/// An object with this many levels wherever any JSON is accepted. The API server derives `managedFields` from the rest.
fn deep(levels: usize) -> String {
    let value = format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    format!(
        r#"{{"apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Version", "other": {value},
        "metadata": {{"name": "deep", "namespace": "acme", "resourceVersion": "7",
            "managedFields": [{{"manager": "kubectl", "operation": "Update", "fieldsV1": {value}}}]}},
        "spec": {{"type": "Provider", "version": "1.0.0", "providerConfigRef": {value}}},
        "status": {{"synced": true, "moduleVersionRefs": {value}}}}}"#
    )
    .replace('\n', "")
}

async fn is_read<K: Resource + Clone + DeserializeOwned + Debug>(api: Api<K>) {
    assert_eq!(api.get("deep").await.unwrap().name_any(), "deep");
    assert_eq!(api.list(&ListParams::default().limit(50)).await.unwrap().items.len(), 2);
    let mut events = pin!(api.watch(&WatchParams::default(), "0").await.unwrap());
    let event = events.next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(object) if object.name_any() == "deep"));
}

#[tokio::test]
async fn an_object_of_any_depth_is_read() {
    for levels in [0, 200, 5_000] {
        let client = answered(move |uri| {
            let (object, query) = (deep(levels), uri.query().unwrap_or_default());
            let text = match query {
                "" => object,
                query if query.contains("watch=true") => {
                    format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n")
                }
                _ => format!(
                    r#"{{"kind": "VersionList", "apiVersion": "opendepot.defdev.io/v1alpha1", "metadata": {{}}, "items": [{object}, {object}]}}"#
                ),
            };
            (200, text)
        });
        is_read::<VersionState>(Api::namespaced(client.clone(), "acme")).await;
        is_read::<ModuleState>(Api::namespaced(client.clone(), "acme")).await;
        is_read::<ModuleListing>(Api::namespaced(client.clone(), "acme")).await;
        is_read(client::objects::<Version>(&client, "acme")).await;
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_is_read_in_parts() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&requests);
    let client = answered(move |uri| {
        let query = uri.query().unwrap_or_default();
        log.lock().push(query.to_owned());
        let objects = if query.contains("limit=50") { 50 } else { 5 };
        (200, " ".repeat(KB * objects * if query.contains("large") { 200 } else { 10 }))
    });
    for (page, length) in
        [("large", 1000 * KB), ("larger", 1000 * KB), ("small", 50 * KB), ("next", 500 * KB)]
    {
        let request = Request::get(format!("/apis/x/versions?&limit=50&continue={page}")).body(Vec::new());
        assert_eq!(client.request_text(request.unwrap()).await.unwrap().len(), length, "{page}");
    }
    assert_eq!(
        *requests.lock(),
        [(50, "large"), (5, "large"), (5, "larger"), (5, "small"), (50, "next")]
            .map(|(limit, page)| format!("&limit={limit}&continue={page}"))
    );
}

#[test]
fn only_lists_of_many_objects_are_split() {
    let few = |request: http::request::Builder| {
        with_few(&request.body(Body::empty()).unwrap()).map(|uri| uri.to_string())
    };
    let expected = Some("/versions?&limit=5&continue=a".to_owned());
    assert_eq!(few(Request::get("/versions?&limit=50&continue=a")), expected);
    for other in ["/versions?&limit=5", "/versions?&watch=true", "/versions/limit", "/versions?limit=x"] {
        assert_eq!(few(Request::get(other)), None, "{other}");
    }
    assert_eq!(few(Request::delete("/versions?&limit=50")), None);
}

#[tokio::test]
async fn a_watch_that_ends_at_once_has_failed_and_one_that_is_refused_says_why() {
    let watch = async |status, text: &'static str| {
        let client = answered(move |_| (status, text.to_owned()));
        let api: Api<VersionState> = Api::namespaced(client, "acme");
        let events =
            api.watch(&WatchParams::default(), "7").await.map_err(|error| client::explain(&error))?;
        pin!(events).next().await.unwrap().map(drop).map_err(|error| client::explain(&error))
    };
    let ended = watch(200, "").await.unwrap_err();
    assert!(ended.contains("ended in less than a second"), "{ended}");
    let refused = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Forbidden", "code": 403}"#;
    assert_eq!(watch(403, refused).await.unwrap_err(), "no");
}

/// A gateway answers so, and an API server without the kind.
#[tokio::test]
async fn a_page_with_the_code_404_does_not_show_that_an_object_is_gone() {
    let client = answered(|_| (404, "404 page not found\n".to_owned()));
    let versions = client::objects::<Version>(&client, "acme");
    let error = versions.get("net-1.0.0").await.unwrap_err();
    assert!(!client::is_gone(&error) && !client::is_outdated(&error), "{error}");
    assert!(versions.get_opt("net-1.0.0").await.is_err());
}
