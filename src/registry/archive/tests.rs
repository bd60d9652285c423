//! Answers to links, with a store of the test's that is asked by the real client.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::domain::ObjectLocation;
use crate::domain::text::hex;
use crate::registry::http::answer::error;
use crate::registry::http::{Body, MinimumRate, Peer};
use crate::registry::metrics::RegistryMetrics;
use crate::storage::Storage;

const BYTES: &str = "archive";

/// A store that gives one of these answers per request, in order, and then none.
struct Store {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Store {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                seen.lock().unwrap().push(String::from_utf8_lossy(&request).to_ascii_lowercase());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.ok();
            }
        });
        Self { endpoint, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn archive(&self) -> Archive {
        let location = ObjectLocation {
            bucket: "modules".into(),
            key: "vpc/a.zip".into(),
            region: "us-west-2".into(),
            endpoint: Some(self.endpoint.clone()),
            force_path_style: Some(true),
        };
        Archive {
            location: StoredLocation::from(&location),
            sha256: digest(&SHA256, BYTES.as_bytes()).as_ref().try_into().unwrap(),
            size: BYTES.len() as u64,
        }
    }
}

fn sha256() -> String {
    STANDARD.encode(digest(&SHA256, BYTES.as_bytes()))
}

fn found(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
}

fn whole() -> String {
    found(&format!("content-length: 7\r\nx-amz-checksum-sha256: {}", sha256()), BYTES)
}

fn refused(status: &str, code: &str) -> String {
    let body = format!("<Error><Code>{code}</Code><Message>No</Message></Error>");
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

struct Answered {
    answer: Response<Body>,
    outcome: Arc<Mutex<Option<DownloadOutcome>>>,
    metrics: RegistryMetrics,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, or what the connection fails with.
    async fn body(self) -> (Result<String, String>, Option<DownloadOutcome>) {
        let body = self.answer.into_body().collect().await;
        let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        let outcome = self.outcome.lock().unwrap().take();
        (text.map_err(|error| error.to_string()), outcome)
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics().lines().any(|found| found == line)
    }

    /// Whether failures of the store were counted.
    fn counts_errors(&self) -> bool {
        self.metrics()
            .lines()
            .any(|line| line.starts_with("opendepot_registry_s3_errors_total{") && !line.ends_with(" 0"))
    }

    fn metrics(&self) -> String {
        self.metrics.text().unwrap()
    }
}

async fn asked(
    store: &Store,
    way: (DownloadMode, &[&str]),
    method: Method,
    headers: &[(&'static str, &str)],
) -> Answered {
    asked_while(store, way, method, headers, None).await
}

async fn asked_while(
    store: &Store,
    (mode, public): (DownloadMode, &[&str]),
    method: Method,
    headers: &[(&'static str, &str)],
    superseded: Option<Permitted>,
) -> Answered {
    let metrics = RegistryMetrics::default();
    let public = public.iter().map(|pair| pair.parse().unwrap()).collect();
    let storage = Arc::new(Storage::with_test_keys());
    let downloads = Downloads::new(storage, mode, public, 4, metrics.clone());
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    let outcome = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&outcome);
    let archive = store.archive();
    let peer = Peer::of([192, 0, 2, 1].into());
    let download = Download { archive: &archive, method: &method, headers: &headers, link: "link", peer };
    let done = move |outcome| *seen.lock().unwrap() = Some(outcome);
    let answer = downloads.answer(download, ready(superseded), done).await;
    Answered { answer, outcome, metrics }
}

async fn streamed(answers: &[String], headers: &[(&'static str, &str)]) -> (Store, Answered) {
    let store = Store::start(answers.to_vec()).await;
    let answered = asked(&store, (DownloadMode::Stream, &[]), Method::GET, headers).await;
    (store, answered)
}

#[tokio::test]
async fn a_head_is_answered_from_memory() {
    let store = Store::start(Vec::new()).await;
    for mode in [DownloadMode::Stream, DownloadMode::Redirect] {
        let answered = asked(&store, (mode, &[]), Method::HEAD, &[("range", "bytes=0-1")]).await;
        assert_eq!(answered.answer.status(), StatusCode::OK);
        let digest = format!("sha-256=:{}:", sha256());
        let hex = hex(&store.archive().sha256);
        for (name, value) in [
            ("content-length", "7"),
            ("etag", &format!("\"sha256-{hex}\"")),
            ("accept-ranges", "bytes"),
            ("content-type", "application/zip"),
            ("repr-digest", &digest),
            ("cache-control", "no-store, no-transform"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answered.header(name), value, "{name}");
        }
        let etag = answered.header("etag").to_owned();
        let cached = asked(&store, (mode, &[]), Method::GET, &[("if-none-match", &etag)]).await;
        assert_eq!(
            (cached.answer.status(), cached.header("etag")),
            (StatusCode::NOT_MODIFIED, etag.as_str())
        );
    }
    assert_eq!(store.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_redirect_is_signed_without_a_request() {
    let store = Store::start(Vec::new()).await;
    let pair = format!("{}=https://s3.acme.io", store.endpoint);
    for (mode, public, start) in [
        (DownloadMode::Redirect, &[][..], store.endpoint.as_str()),
        (DownloadMode::Auto, &[pair.as_str()], "https://s3.acme.io"),
    ] {
        let answered = asked(&store, (mode, public), Method::GET, &[("range", "bytes=0-1")]).await;
        assert_eq!(answered.answer.status(), StatusCode::FOUND);
        let url = answered.header("location");
        assert!(url.starts_with(&format!("{start}/modules/vpc/a.zip?")), "{url}");
        // Valid for two minutes from now on, and from a minute ago on: the store's clock may be behind.
        for part in ["X-Amz-Expires=180&", "X-Amz-SignedHeaders=host&", "X-Amz-Signature="] {
            assert!(url.contains(part), "{part} in {url}");
        }
        let date = url.split("X-Amz-Date=").nth(1).unwrap().split('&').next().unwrap();
        let start = DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap().to_zoned(TimeZone::UTC).unwrap();
        let age = Timestamp::now().duration_since(start.timestamp()).as_secs();
        assert!((59..75).contains(&age), "signed for {age} s ago");
        assert_eq!(answered.header("cache-control"), "no-store, no-transform");
        assert!(!format!("{:?}", answered.answer.headers()).contains("Signature"), "it is not printed");
        let (_, outcome) = answered.body().await;
        assert_eq!(outcome, Some(DownloadOutcome { mode: "redirect", status: 302, bytes: 0 }));
    }
    assert_eq!(store.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_has_fixed_headers_and_asks_for_the_checksum() {
    let odd = found(
        &format!(
            "content-length: 7\r\nx-amz-checksum-sha256: {}\r\nset-cookie: a=b\r\ncontent-type: text/html",
            sha256()
        ),
        BYTES,
    );
    let (store, answered) = streamed(&[odd], &[]).await;
    assert_eq!(answered.answer.status(), StatusCode::OK);
    assert_eq!((answered.header("content-type"), answered.header("set-cookie")), ("application/zip", ""));
    assert!(answered.answer.extensions().get::<MinimumRate>().is_some());
    assert!(answered.counted("opendepot_registry_streams 1"));
    let metrics = answered.metrics.clone();
    let (body, outcome) = answered.body().await;
    assert_eq!(body.as_deref(), Ok(BYTES));
    assert_eq!(outcome, Some(DownloadOutcome { mode: "stream", status: 200, bytes: 7 }));
    assert_eq!((metrics.streams.get(), metrics.stream_bytes.get()), (0, 7));
    let request = &store.requests()[0];
    assert!(request.starts_with("get /modules/vpc/a.zip?x-id=getobject http/1.1"), "{request}");
    assert!(request.contains("x-amz-checksum-mode: enabled\r\n") && !request.contains("range:"), "{request}");
    let signed = request.split("signedheaders=").nth(1).unwrap().split(',').next().unwrap();
    assert!(signed.contains("x-amz-checksum-mode"), "{signed}");
}

#[tokio::test]
async fn a_store_without_checksums_is_streamed_and_other_content_is_not() {
    let with = |headers: &str, body: &str| found(headers, body);
    let other = format!("content-length: 7\r\nx-amz-checksum-sha256: {}", STANDARD.encode([1; 32]));
    let parts = format!("content-length: 7\r\nx-amz-checksum-sha256: {}-2", sha256());
    for (answer, status) in [
        (with("content-length: 7", BYTES), 200),
        (with("x-other: 1", BYTES), 200),
        (with(&other, BYTES), 503),
        // That of a copy made in parts is no checksum of the content.
        (with(&parts, BYTES), 200),
        (with("content-length: 8", "archive!"), 503),
    ] {
        let (store, answered) = streamed(std::slice::from_ref(&answer), &[]).await;
        assert_eq!(answered.answer.status(), status, "{answer}");
        assert_eq!(answered.counted("opendepot_registry_s3_errors_total{kind=\"differs\"} 1"), status == 503);
        let (body, _) = answered.body().await;
        assert_eq!(body.unwrap().contains(BYTES), status == 200, "{answer}");
        assert_eq!(store.requests().len(), 1, "no second attempt: {answer}");
    }
}

#[tokio::test]
async fn one_range_is_passed_on() {
    let part = |range: &str, body: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nconnection: close\r\ncontent-range: bytes {range}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let (store, answered) = streamed(&[part("2-4/7", "chi")], &[("range", "bytes=2-4")]).await;
    assert_eq!(answered.answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answered.header("content-range"), "bytes 2-4/7");
    assert_eq!(answered.body().await.0.as_deref(), Ok("chi"));
    let request = &store.requests()[0];
    assert!(request.contains("range: bytes=2-4\r\n") && !request.contains("checksum-mode"), "{request}");

    let (store, answered) = streamed(&[part("4-6/7", "ive")], &[("range", "bytes=-3")]).await;
    assert_eq!(answered.body().await.0.as_deref(), Ok("ive"));
    assert!(store.requests()[0].contains("range: bytes=4-6\r\n"));

    let truncated = refused("416 Range Not Satisfiable", "InvalidRange");
    for (answer, status) in
        [(whole(), 200), (part("0-2/7", "arc"), 503), (part("2-4/8", "chi"), 503), (truncated, 503)]
    {
        let (_, answered) = streamed(std::slice::from_ref(&answer), &[("range", "bytes=2-4")]).await;
        assert_eq!(answered.answer.status(), status, "{answer}");
        assert_eq!(answered.counted("opendepot_registry_s3_errors_total{kind=\"differs\"} 1"), status == 503);
    }
    let (store, answered) = streamed(&[], &[("range", "bytes=7-")]).await;
    assert_eq!(answered.answer.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answered.header("content-range"), "bytes */7");
    assert_eq!(store.requests().len(), 0);
}

#[tokio::test]
async fn a_failure_before_the_first_byte_is_tried_once_more() {
    let cut = found("content-length: 7", "");
    for first in [
        refused("503 Slow Down", "SlowDown"),
        refused("500 Error", "InternalError"),
        cut.clone(),
        String::new(),
    ] {
        let (store, answered) = streamed(&[first.clone(), whole()], &[]).await;
        assert_eq!(answered.body().await.0.as_deref(), Ok(BYTES), "{first}");
        assert_eq!(store.requests().len(), 2, "{first}");
    }
    for (answer, kind) in [
        (refused("503 Slow Down", "SlowDown"), "throttled"),
        (refused("500 Error", "InternalError"), "unavailable"),
        (cut, "network"),
    ] {
        let (store, answered) = streamed(&[answer.clone(), answer.clone(), whole()], &[]).await;
        assert_eq!(answered.answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert_eq!(answered.header("retry-after"), "60", "{answer}");
        assert!(
            answered.counted(&format!("opendepot_registry_s3_errors_total{{kind=\"{kind}\"}} 2")),
            "{answer}"
        );
        assert_eq!(store.requests().len(), 2, "{answer}");
    }
}

#[tokio::test]
async fn missing_and_refused_objects_are_told_apart() {
    for (answer, kind, phrase) in [
        (refused("404 Not Found", "NoSuchKey"), "missing", "archive is being restored"),
        (
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into(),
            "missing",
            "archive is being restored",
        ),
        (refused("403 Forbidden", "AccessDenied"), "denied", "the store refused"),
        (refused("403 Forbidden", "InvalidAccessKeyId"), "credentials", "the store refused"),
        (refused("404 Not Found", "NoSuchBucket"), "missing", "archive is being restored"),
        (refused("301 Moved Permanently", "PermanentRedirect"), "other", "the store refused"),
        (refused("405 Method Not Allowed", "MethodNotAllowed"), "other", "the store refused"),
    ] {
        let (store, answered) = streamed(std::slice::from_ref(&answer), &[]).await;
        assert_eq!(answered.answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let found = answered.answer.extensions().get::<hyper::ext::ReasonPhrase>().unwrap().clone();
        assert_eq!(found.as_bytes(), phrase.as_bytes(), "{answer}");
        assert!(
            answered.counted(&format!("opendepot_registry_s3_errors_total{{kind=\"{kind}\"}} 1")),
            "{answer}"
        );
        assert_eq!(store.requests().len(), 1, "{answer}");
        let (_, outcome) = answered.body().await;
        assert_eq!(outcome, Some(DownloadOutcome { mode: "stream", status: 503, bytes: 0 }));
    }
}

#[tokio::test]
async fn a_cut_body_does_not_end_well() {
    let short = found("content-length: 7", "arc");
    let without_length = found("x-other: 1", "arc");
    let long = found("x-other: 1", "archive and more");
    for answer in [short, without_length, long] {
        let (_, answered) = streamed(std::slice::from_ref(&answer), &[]).await;
        assert_eq!(answered.answer.status(), StatusCode::OK);
        let metrics = answered.metrics.clone();
        let (body, outcome) = answered.body().await;
        assert!(body.is_err(), "{answer}: {body:?}");
        assert!(outcome.is_some_and(|outcome| outcome.bytes < 7), "{answer}");
        assert_eq!(metrics.streams.get(), 0);
    }
}

#[tokio::test]
async fn a_store_that_stops_is_counted_and_a_client_that_stops_is_not() {
    // What else the store sends after the client has asked for it.
    for (rest, stopped) in [("", true), ("hive", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (asks, is_asked) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(found("content-length: 7", "arc").as_bytes()).await.unwrap();
            is_asked.await.unwrap();
            stream.write_all(rest.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let store = Store { endpoint, requests: Arc::default() };
        let mut answered = asked(&store, (DownloadMode::Stream, &[]), Method::GET, &[]).await;
        let mut body = std::mem::take(answered.answer.body_mut());
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "arc");
        assert!(futures::poll!(body.frame()).is_pending());
        asks.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        drop(body);
        let cut = "opendepot_registry_s3_errors_total{kind=\"cut\"} 1";
        assert_eq!(answered.counted(cut), stopped, "{rest}");
        let outcome = answered.outcome.lock().unwrap().take();
        assert_eq!(outcome, Some(DownloadOutcome { mode: "stream", status: 200, bytes: 3 }));
    }
}

#[tokio::test]
async fn a_store_that_refuses_the_checksum_header_is_asked_without() {
    let refusal = refused("400 Bad Request", "UnsupportedHeader: x-amz-checksum-mode");
    let (store, answered) = streamed(&[refusal, found("content-length: 7", BYTES)], &[]).await;
    assert_eq!(answered.body().await.0.as_deref(), Ok(BYTES));
    let requests = store.requests();
    assert!(
        requests[0].contains("checksum-mode: enabled") && !requests[1].contains("checksum-mode"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn an_archive_that_was_moved_a_moment_ago_is_read_at_its_new_location() {
    let other = found("content-length: 9", "something");
    for first in [refused("404 Not Found", "NoSuchKey"), other] {
        let store = Store::start(vec![first, whole()]).await;
        let mut moved = store.archive();
        let location = ObjectLocation { key: "vpc/b.zip".into(), ..moved.location.location() };
        moved.location = StoredLocation::from(&location);
        let superseded = Some(Ok(moved));
        let answered = asked_while(&store, (DownloadMode::Stream, &[]), Method::GET, &[], superseded).await;
        assert!(!answered.counts_errors(), "nothing has failed");
        assert_eq!(answered.body().await.0.as_deref(), Ok(BYTES));
        assert!(store.requests()[1].starts_with("get /modules/vpc/b.zip"), "{:?}", store.requests());
    }
}

#[tokio::test]
async fn a_link_to_replaced_content_is_refused_and_is_no_fault_of_the_store() {
    let store = Store::start(vec![refused("404 Not Found", "NoSuchKey")]).await;
    let gone = Some(Err(Box::new(error(StatusCode::FORBIDDEN, "Forbidden: link not valid", ""))));
    let answered = asked_while(&store, (DownloadMode::Stream, &[]), Method::GET, &[], gone).await;
    assert_eq!(answered.answer.status(), StatusCode::FORBIDDEN);
    assert!(!answered.counts_errors());
    let outcome = answered.body().await.1;
    assert_eq!(outcome, Some(DownloadOutcome { mode: "stream", status: 403, bytes: 0 }));
}

#[tokio::test]
async fn many_streams_of_one_link_keep_no_other_link_waiting() {
    let store = Store::start(vec![whole(); 9]).await;
    let storage = Arc::new(Storage::with_test_keys());
    let downloads = Downloads::new(storage, DownloadMode::Stream, Vec::new(), 20, RegistryMetrics::default());
    let (archive, headers) = (store.archive(), HeaderMap::new());
    let ask = |link: &'static str, last: u8| {
        let peer = Peer::of([192, 0, 2, last].into());
        let download = Download { archive: &archive, method: &Method::GET, headers: &headers, link, peer };
        downloads.answer(download, ready(None), |_| {})
    };
    let mut held = Vec::new();
    for last in 0..8 {
        held.push(ask("one", last).await);
    }
    let ninth = tokio::time::timeout(Duration::from_millis(100), ask("one", 8)).await;
    assert!(ninth.is_err(), "eight of one link at once");
    let other = ask("other", 9).await;
    assert!(held.iter().chain([&other]).all(|answer| answer.status() == StatusCode::OK));
}
