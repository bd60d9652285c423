//! Answers as clients get them, with a stand-in for the API server's reviews.

mod answers;
mod comparisons;
mod counts;
mod links;
mod lists;
mod messages;
mod pages;
mod sessions;
mod shown;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::*;
use crate::api::FINALIZER;
use crate::api::object_name::version_object;
use crate::registry::aliases::Aliases;
use crate::registry::archive::DownloadMode;
use crate::registry::auth::AccessSettings;
use crate::registry::auth::tests::doubles::Server;
use crate::registry::docs::Library;
use crate::registry::index::{Fold, States, WatchChange};
use crate::registry::page::SendBudget;
use crate::registry::session::Sessions;
use crate::storage::{Storage, StorageRules};

const ADDRESS: &str = "/v1/modules/platform/eks/aws";
const ANN: (&str, &str) = ("authorization", "Bearer user-ann");
const BOB: (&str, &str) = ("authorization", "Bearer user-bob");
/// The client of all requests.
const PEER: Peer = Peer::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

/// A Module `object` whose address has this name, and its Versions, all stored.
fn module(object: &str, name: &str, versions: &Value) -> (Value, Vec<Value>) {
    let owner = json!({
        "apiVersion": "opendepot.defdev.io/v1alpha1", "kind": "Module", "name": object, "uid": object, "controller": true,
    });
    let stored = |entry: &Value| {
        let text = entry["version"].as_str().unwrap();
        json!({
            "metadata": {
                "namespace": "platform", "name": version_object(object, &Release::parse(text).unwrap()), "uid": text,
                "creationTimestamp": "2026-11-27T05:00:00Z", "finalizers": [FINALIZER], "ownerReferences": [owner],
            },
            "spec": {"type": "Module", "version": text, "moduleConfigRef": {"fileFormat": "zip"}},
            "status": {
                "synced": true, "checksum": STANDARD.encode([7; 32]), "archiveSizeBytes": 1234,
                "storage": {"bucket": "modules", "key": format!("eks/{text}.zip"), "region": "eu-west-1"},
            },
        })
    };
    let all = versions.as_array().unwrap().iter().map(stored).collect();
    let module = json!({
        "metadata": {"namespace": "platform", "name": object, "uid": object},
        "spec": {"moduleConfig": {"name": name, "provider": "aws"}, "versions": versions},
        "status": {"address": format!("platform/{name}/aws")},
    });
    (module, all)
}

struct Registry {
    service: Service,
    server: Server,
}

struct Answer {
    status: StatusCode,
    phrase: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(answer: Response<Body>) -> Self {
        let phrase = answer.extensions().get::<ReasonPhrase>();
        let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes().to_vec();
        Self { status, phrase: phrase.unwrap_or_default(), headers, body }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn is_uncached_text(&self) -> bool {
        self.header("content-type") == "text/plain; charset=utf-8"
            && self.header("cache-control") == "no-store"
            && self.header("x-content-type-options") == "nosniff"
            && self.headers.get("etag").is_none()
    }
}

impl Registry {
    /// It serves `platform/eks/aws`, which `ann` may download.
    fn new() -> Self {
        let versions = json!([
            {"version": "1.0.0"}, {"version": "v1.1.0", "deprecated": "use 1.2"}, {"version": "1.2.0+b1"},
            {"version": "1.3.0", "withdrawn": "CVE-2026-1"}, {"version": "2.0.0-rc.1"},
        ]);
        let registry = Self::of("https://registry.acme.io", AccessSettings::default());
        registry.serve(module("eks", "eks", &versions));
        registry.server.permit("ann", "platform", "eks");
        registry
    }

    fn of(url: &str, settings: AccessSettings) -> Self {
        let server = Server::default();
        let metrics = RegistryMetrics::default();
        let storage = Arc::new(Storage::with_test_keys());
        let keys = CurrentKeys::new(None).unwrap();
        let pages = Pages {
            index: Arc::default(),
            access: server.access(settings),
            aliases: Aliases::new(&["acme=platform".parse().unwrap()], &[]).unwrap(),
            sessions: Sessions::new(keys.clone(), url.parse().ok()),
            library: Library::new(Arc::clone(&storage), std::env::temp_dir(), metrics.clone()),
            host: Some("registry.acme.io".into()),
            send_budget: SendBudget::default(),
        };
        let service = Service {
            pages,
            keys,
            downloads: Downloads::new(storage, DownloadMode::Redirect, Vec::new(), 4, metrics.clone()),
            url: url.to_owned(),
            metrics,
            module_metrics: true,
        };
        Self { service, server }
    }

    fn serve(&self, (module, versions): (Value, Vec<Value>)) {
        let mut fold = Fold::new(StorageRules::default(), Aliases::default());
        fold.module(WatchChange::Applied(serde_json::from_value(module).unwrap()));
        for version in versions {
            fold.version(WatchChange::Applied(serde_json::from_value(version).unwrap()));
        }
        self.service.pages.index.apply(fold.updates(), States::default());
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(HeaderName::from_static(name), value.parse().unwrap());
        }
        Answer::of(self.service.handle(request, PEER).await).await
    }

    async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        self.ask("GET", path, headers).await
    }

    /// The value of `X-Terraform-Get`.
    async fn location(&self, version: &str) -> String {
        let answer = self.get(&format!("{ADDRESS}/{version}/download"), &[ANN]).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0), "{}", answer.text());
        answer.header("x-terraform-get").to_owned()
    }

    /// The path of an archive, with its link.
    async fn link(&self, version: &str) -> String {
        let location = self.location(version).await;
        let path = location.strip_prefix("https://registry.acme.io").unwrap();
        path.split('?').next().unwrap().to_owned()
    }
}
