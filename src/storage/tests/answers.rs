//! Stores that answer differently: conditions that they reject, and bodies that are no S3 error documents.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

/// What a store answers, given the method, whether the request has a condition, and how many came before.
type Answers = fn(&str, bool, usize) -> &'static str;

/// A server that answers each request on a connection of its own, as `answer` says to its method and headers; and what
/// it was asked: the method, and with `if` the condition.
async fn store(answer: Answers) -> (ObjectLocation, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            let length = loop {
                stream.read_buf(&mut request).await.expect("a request");
                let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let expected = if head.starts_with("put") { "archive".len() } else { 0 };
                if body.len() >= expected {
                    break head.len();
                }
            };
            let head = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let method = head.split(' ').next().unwrap_or_default().to_owned();
            let conditional = head.contains("if-none-match");
            let before = seen.lock().expect("a list").len();
            seen.lock().expect("a list").push(format!("{method}{}", if conditional { " if" } else { "" }));
            stream.write_all(answer(&method, conditional, before).as_bytes()).await.expect("an answer");
        }
    });
    (location(format!("http://{address}")), asked)
}

const UNCONDITIONAL: &str = "HTTP/1.1 501 Not Implemented\r\ncontent-length: 72\r\nconnection: close\r\n\r\n\
    <Error><Code>NotImplemented</Code><Message>If-None-Match</Message></Error>";
const DONE: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const DELETED: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>";
/// As a web server sends its start page, whatever is requested.
const FILE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\netag: \"65f2-264\"\r\n\
    last-modified: Tue, 19 Mar 2024 14:36:50 GMT\r\ncontent-length: 6\r\nconnection: close\r\n\r\n";
const NO_PAGE: &str =
    "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>";
const NO_KEY: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
    <Error><Code>NoSuchKey</Code><Message>There is none</Message></Error>";
const NO_BUCKET: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
    <Error><Code>NoSuchBucket</Code><Message>There is none</Message></Error>";
const MISSING: &str = "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n";
const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\n";

/// Two PUTs of one file, each with the condition or without, and what the store was asked.
async fn puts(answer: Answers, create_only: bool) -> (Vec<Result<PutOutcome, Cause>>, Vec<String>) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"archive").expect("written");
    let (ownership, encryption) = (Ownership::default(), Encryption::default());
    let upload = Upload {
        body: Body::File(file.path()),
        size: 7,
        sha256: "c2hh",
        ownership: &ownership,
        encryption: &encryption,
        create_only,
    };
    let (location, asked) = store(answer).await;
    let storage = storage_with_keys();
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(storage.put(&location, &upload, &always).await.map_err(|error| error.cause));
    }
    let asked = asked.lock().expect("a list").clone();
    (outcomes, asked)
}

#[tokio::test]
async fn where_the_condition_is_refused_a_look_right_before_the_put_takes_its_location() {
    type Case = (&'static str, bool, Answers, [PutOutcome; 2], &'static [&'static str]);
    use PutOutcome::{AlreadyExists, Stored};
    let cases: [Case; 5] = [
        (
            "nothing is there at first",
            true,
            |method, conditional, before| match (method, conditional) {
                ("head", _) if before < 2 => MISSING,
                ("put", true) => UNCONDITIONAL,
                _ => DONE,
            },
            [Stored, AlreadyExists],
            &["put if", "head", "put", "head"],
        ),
        (
            "another writer was faster",
            true,
            |method, conditional, _| {
                if (method, conditional) == ("put", true) { UNCONDITIONAL } else { DONE }
            },
            [AlreadyExists, AlreadyExists],
            &["put if", "head", "put if", "head"],
        ),
        (
            "it may be overwritten",
            false,
            |_, conditional, _| if conditional { UNCONDITIONAL } else { DONE },
            [Stored, Stored],
            &["put", "put"],
        ),
        ("the condition is heeded", true, |_, _, _| DONE, [Stored, Stored], &["put if", "put if"]),
        (
            "and says that one is there",
            true,
            |_, _, _| "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            [AlreadyExists, AlreadyExists],
            &["put if", "put if"],
        ),
    ];
    for (what, create_only, answer, expected, requests) in cases {
        let (outcomes, asked) = puts(answer, create_only).await;
        assert_eq!(outcomes, expected.map(Ok), "{what}");
        assert_eq!(asked, requests, "{what}");
    }
    // What cannot be looked at is not overwritten either.
    let (outcomes, asked) = puts(
        |method, conditional, _| match (method, conditional) {
            ("put", true) => UNCONDITIONAL,
            ("head", _) => DENIED,
            _ => DONE,
        },
        true,
    )
    .await;
    assert!(outcomes.iter().all(|o| matches!(o, Err(Cause::AccessDenied { .. }))), "{outcomes:?}");
    assert!(!asked.contains(&"put".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn an_answer_means_the_same_in_whatever_body_it_comes() {
    type Is = fn(&Result<PutOutcome, Cause>) -> bool;
    let cases: [(&str, Answers, Is); 7] = [
        (
            "a document with a namespace",
            |_, _, _| {
                "HTTP/1.1 409 Conflict\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
                 <?xml version=\"1.0\"?>\n<Error xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Code>ConditionalRequestConflict</Code><Message>Try again</Message></Error>"
            },
            |result| *result == Err(Cause::Conflict),
        ),
        (
            "no body",
            |_, _, _| "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            |result| *result == Ok(PutOutcome::AlreadyExists),
        ),
        (
            "a page: there is an object already",
            |_, _, _| "HTTP/1.1 412 Nope\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>",
            |result| *result == Ok(PutOutcome::AlreadyExists),
        ),
        (
            "a page: too many requests",
            |_, _, _| "HTTP/1.1 429 Slow\r\nretry-after: 7\r\nconnection: close\r\n\r\n<html></html>",
            |result| matches!(result, Err(Cause::SlowDown { retry_after: Some(pause), .. }) if pause.as_secs() == 7),
        ),
        (
            "a page: not allowed",
            |_, _, _| "HTTP/1.1 403 No\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>",
            |result| matches!(result, Err(Cause::AccessDenied { .. })),
        ),
        (
            "another region, for now",
            |_, _, _| {
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/elsewhere\r\n\
                 connection: close\r\n\r\n<Error><Code>TemporaryRedirect</Code></Error>"
            },
            |result| matches!(result, Err(Cause::Unavailable { status: 307, .. })),
        ),
        (
            "another region",
            |_, _, _| {
                "HTTP/1.1 301 Moved Permanently\r\nlocation: http://127.0.0.1:1/elsewhere\r\n\
                 connection: close\r\n\r\n<Error><Code>PermanentRedirect</Code></Error>"
            },
            |result| matches!(result, Err(Cause::WrongRegion { right: None, .. })),
        ),
    ];
    for (what, answer, is) in cases {
        let (outcomes, _) = puts(answer, true).await;
        assert!(is(&outcomes[0]), "{what}: {:?}", outcomes[0]);
    }
}

#[tokio::test]
async fn a_get_shows_why_a_head_was_rejected() {
    const WRONG_KEY: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
        <Error><Code>InvalidAccessKeyId</Code><Message></Message></Error>";
    const NO_RIGHT: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
        <Error><Code>AccessDenied</Code></Error>";
    const WRONG_REGION: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
        <Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-1'</Message></Error>";
    const BAD: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
    const PAGE_403: &str =
        "HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html></html>";
    let denied = |detail: &str| Cause::AccessDenied { detail: detail.into() };
    let wrong_key = Cause::CredentialsInvalid { code: "InvalidAccessKeyId".into() };
    let detail = "AuthorizationHeaderMalformed: expecting 'eu-west-1'".to_owned();
    let wrong_region = Cause::WrongRegion { right: Some("eu-west-1".into()), detail };
    let cases: [(&str, Answers, Cause, &[&str]); 6] = [
        ("keys", |m, _, _| if m == "get" { WRONG_KEY } else { DENIED }, wrong_key, &["head", "get"]),
        ("region", |m, _, _| if m == "get" { WRONG_REGION } else { BAD }, wrong_region, &["head", "get"]),
        (
            "right",
            |m, _, _| if m == "get" { NO_RIGHT } else { DENIED },
            denied("AccessDenied"),
            &["head", "get"],
        ),
        (
            "nothing is there",
            |m, _, _| if m == "get" { NO_KEY } else { DENIED },
            denied(""),
            &["head", "get", "head"],
        ),
        (
            "something is",
            |m, _, _| if m == "get" { DONE } else { DENIED },
            denied(""),
            &["head", "get", "head"],
        ),
        (
            "a firewall",
            |m, _, _| if m == "get" { PAGE_403 } else { DENIED },
            denied(""),
            &["head", "get", "head"],
        ),
    ];
    for (what, answer, cause, requests) in cases {
        let (location, asked) = store(answer).await;
        let failed = storage_with_keys().head(&location).await.expect_err(what);
        assert_eq!(failed.cause, cause, "{what}");
        assert_eq!(*asked.lock().expect("a list"), requests, "{what}");
        let (location, asked) = store(answer).await;
        let failed = storage_with_keys().bucket_exists(&location).await.expect_err(what);
        assert_eq!(failed.cause, cause, "{what}, of the bucket");
        assert_eq!(*asked.lock().expect("a list"), ["head", "get"], "{what}, of the bucket");
    }
}

#[tokio::test]
async fn an_empty_message_is_none() {
    let (outcomes, _) = puts(
        |_, _, _| {
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\nconnection: close\r\n\r\n\
             <Error><Code>QuotaExceeded</Code><Message></Message></Error>"
        },
        true,
    )
    .await;
    let code = "QuotaExceeded".to_owned();
    let full = Cause::Other { status: Some(403), code: Some(code.clone()), detail: code };
    assert_eq!(outcomes[0], Err(full));
}

#[tokio::test]
async fn a_delay_that_the_store_requests_is_left_to_the_caller() {
    const BUSY: &str =
        "HTTP/1.1 503 Slow Down\r\nretry-after: 30\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const FAILED: &str = "HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for (answer, times) in [((|_, _, _| BUSY) as Answers, 1), (|_, _, _| FAILED, 3)] {
        let (location, asked) = store(answer).await;
        let storage = storage_with_keys();
        assert!(storage.head(&location).await.is_err() && storage.delete(&location, &always).await.is_err());
        let asked = asked.lock().expect("a list").clone();
        let sent = |method: &str| asked.iter().filter(|sent| *sent == method).count();
        assert_eq!((sent("head"), sent("delete")), (times, times), "{asked:?}");
    }
}

/// As if one of several servers behind an address were out of order.
#[tokio::test]
async fn a_request_that_fails_is_repeated_on_another_connection() {
    const FOUND: &str = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 7\r\n\r\n";
    const FAILED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let location = location(format!("http://{}", listener.local_addr().expect("an address")));
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let answer = if counted.fetch_add(1, Ordering::SeqCst) == 0 { FAILED } else { FOUND };
            tokio::spawn(async move {
                let mut request = Vec::new();
                while stream.read_buf(&mut request).await.is_ok_and(|length| length > 0) {
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        stream.write_all(answer.as_bytes()).await.expect("an answer");
                    }
                }
            });
        }
    });
    storage_with_keys().head(&location).await.expect("an answer").expect("an object");
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_object_is_deleted_only_if_s3_itself_answers_so() {
    // Some stores answer 200, and so does a page: the second request confirms it.
    let cases: [(&str, Answers, bool, &[&str]); 6] = [
        ("as S3", |_, _, _| DELETED, true, &["delete"]),
        ("nothing there", |_, _, _| NO_KEY, true, &["delete"]),
        (
            "nothing there, without a document",
            |method, _, _| if method == "get" { NO_KEY } else { MISSING },
            true,
            &["delete", "get"],
        ),
        (
            "as some stores",
            |method, _, _| if method == "get" { NO_KEY } else { DONE },
            true,
            &["delete", "get"],
        ),
        ("pages only", |_, _, _| PAGE, false, &["delete", "get"]),
        (
            "a page for what is there, and one for what is not",
            |method, _, _| if method == "get" { NO_PAGE } else { PAGE },
            false,
            &["delete", "get"],
        ),
    ];
    for (what, answer, is_deleted, first) in cases {
        let (location, asked) = store(answer).await;
        let deleted = storage_with_keys().delete(&location, &always).await.map_err(|error| error.cause);
        let transient = matches!(deleted, Err(Cause::Unavailable { .. }));
        assert_eq!((deleted.is_ok(), transient), (is_deleted, !is_deleted), "{what}: {deleted:?}");
        let asked = asked.lock().expect("a list").clone();
        assert_eq!(asked[..first.len()], *first, "{what}");
    }
}

/// Whether an upload is verified, and how many requests that takes.
async fn verified(answer: Answers) -> (Result<(), String>, usize) {
    let (location, asked) = store(answer).await;
    let verified = storage_with_keys().verify(&location, &Encryption::default(), "c2hh", 7).await;
    let asked = asked.lock().expect("a list").len();
    (verified.map(drop).map_err(|error| error.to_string()), asked)
}

#[tokio::test]
async fn an_upload_that_a_head_does_not_find_is_looked_up_again() {
    const FOUND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\netag: \"1\"\r\nx-amz-checksum-sha256: c2hh\r\nconnection: close\r\n\r\n";
    let late = verified(|_, _, before| if before < 2 { MISSING } else { FOUND });
    let (late, missing) = futures::future::join(late, verified(|_, _, _| MISSING)).await;
    assert_eq!(late, (Ok(()), 3));
    assert_eq!(missing.1, 3);
    assert!(
        missing.0.expect_err("there is none").contains("S3 accepted the object, but then reports no object")
    );
}

#[tokio::test]
async fn an_object_is_missing_or_there_only_if_s3_itself_answers_so() {
    for (answer, is_confirmed) in [
        ((|_, _, _| NO_KEY) as Answers, true),
        (|_, _, _| NO_BUCKET, true),
        (|_, _, _| "HTTP/1.1 404 Not Found\r\nx-amz-request-id: 1\r\nconnection: close\r\n\r\n", true),
        (|_, _, _| NO_PAGE, false),
        (|_, _, _| PAGE, false),
        (|_, _, _| DONE, false),
        (|_, _, _| MISSING, false),
    ] {
        let (location, asked) = store(answer).await;
        let confirmed = storage_with_keys().confirm_missing(&location).await.map_err(|error| error.cause);
        assert_eq!(confirmed.is_ok(), is_confirmed, "{confirmed:?}");
        assert!(is_confirmed || matches!(confirmed, Err(Cause::Unavailable { .. })), "{confirmed:?}");
        assert_eq!(*asked.lock().expect("a list"), ["get"]);
    }
    for answer in [(|_, _, _| PAGE) as Answers, |_, _, _| FILE] {
        let (location, _) = store(answer).await;
        let found = storage_with_keys().head(&location).await.map_err(|error| error.cause);
        assert!(matches!(found, Err(Cause::Unavailable { status: 200, .. })), "{found:?}");
    }
    // A user may store a page.
    let (location, _) = store(|_, _, _| {
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: x\r\nx-amz-request-id: 1\r\nconnection: close\r\n\r\n"
    })
    .await;
    assert!(storage_with_keys().head(&location).await.expect("an answer").is_some());
}

#[tokio::test]
async fn a_head_is_explained_by_the_headers_of_its_answer() {
    for (answer, words) in [
        (
            (|_, _, _| {
                "HTTP/1.1 503 Service Unavailable\r\nretry-after: 60\r\nconnection: close\r\n\
                 x-minio-error-code: XMinioServerNotInitialized\r\nx-minio-error-desc: \"Not initialized yet.\"\r\n\r\n"
            }) as Answers,
            "S3 failed (HTTP 503, XMinioServerNotInitialized: Not initialized yet.)",
        ),
        (
            |_, _, _| {
                "HTTP/1.1 308 Permanent Redirect\r\nlocation: https://s3.example.com/a?token=x\r\n\
                 connection: close\r\n\r\n"
            },
            "S3 answered HTTP 308, a redirect to https://s3.example.com; set the endpoint",
        ),
        (
            |_, _, _| "HTTP/1.1 200 OK\r\netag: x\r\nlast-modified: 2026-11-29T00:00:00.000Z\r\nconnection: close\r\n\r\n",
            "Failed to parse LastModified",
        ),
    ] {
        let (location, asked) = store(answer).await;
        let error = storage_with_keys().head(&location).await.expect_err(words).to_string();
        assert!(error.contains(words) && !error.contains("HEAD has no details"), "{error}");
        assert_eq!(*asked.lock().expect("a list"), ["head"]);
    }
}
