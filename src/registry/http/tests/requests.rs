//! What requests may look like, and what answers do.

use std::time::Instant;

use hyper::ext::ReasonPhrase;

use super::*;

#[tokio::test]
async fn a_reason_phrase_reaches_the_client() {
    let served = Served::start(LIMITS).await;
    let mut stream = served.connect().await;
    stream.write_all(get("/refused").as_bytes()).await.unwrap();
    let answer = answer_ending(&mut stream, "No.\n").await;
    assert!(answer.starts_with("HTTP/1.1 401 token expired: get a new one\r\n"), "{answer}");
    for header in ["content-type: text/plain; charset=utf-8", "cache-control: no-store", "content-length: 4"]
    {
        assert!(answer.contains(&format!("{header}\r\n")), "{header} in {answer}");
    }
    stream.write_all(get("/").as_bytes()).await.unwrap();
    assert!(answer_ending(&mut stream, "hello").await.starts_with("HTTP/1.1 200 OK\r\n"), "kept alive");
}

#[test]
fn a_phrase_that_would_be_a_header_is_left_out() {
    let phrase =
        |text| answer(StatusCode::OK, text, Body::empty()).extensions().get::<ReasonPhrase>().cloned();
    assert!(phrase("fine").is_some());
    assert_eq!(phrase("two\r\nset-cookie: a=b"), None);
}

#[tokio::test]
async fn the_answer_to_a_head_has_the_length_of_the_body_that_it_lacks() {
    let served = Served::start(LIMITS).await;
    let answer = served.answer("HEAD /size HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("content-length: 12345\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn headers_of_more_than_the_limit_are_431_and_the_client_can_read_that() {
    let served = Served::start(LIMITS).await;
    let with = |bytes: usize| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-long: {}\r\n\r\n", "x".repeat(bytes))
    };
    assert!(served.answer(with(31 << 10)).await.starts_with("HTTP/1.1 200 OK\r\n"));
    for bytes in [33 << 10, 200 << 10] {
        let answer = served.answer(with(bytes)).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{bytes}: {answer}");
    }
    let many = "x-a: 1\r\n".repeat(200);
    let answer = served.answer(format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn bodies_and_second_authorizations_are_refused_before_the_handler() {
    let served = Served::start(LIMITS).await;
    let body = "y".repeat(1 << 20);
    for (headers, body, status) in [
        ("content-length: 5", "hello", "400 Bad Request: unexpected body"),
        ("content-length: 1048576", &body, "400 Bad Request: unexpected body"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", "400 Bad Request: unexpected body"),
        (
            "authorization: Bearer a\r\nauthorization: Bearer b",
            "",
            "400 Bad Request: two Authorization headers",
        ),
    ] {
        let answer = served.answer(format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n{body}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{headers}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{headers}: {answer}");
    }
    assert_eq!(*served.paths.refused.lock().unwrap(), [400; 4], "each is counted");
    let none = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert!(served.answer(none).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(served.paths.running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_host_of_a_request_is_certain() {
    let served = Served::start(LIMITS).await;
    for (version, hosts, status) in [
        ("1.1", "", 400),
        ("1.1", "host: a\r\nhost: a\r\n", 400),
        ("1.1", "host: a\r\n", 200),
        ("1.0", "", 200),
    ] {
        let request = format!("GET / HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        let answer = served.answer(request).await;
        assert!(answer.contains(&format!(" {status} ")), "HTTP/{version} {hosts}: {answer}");
    }
}

#[tokio::test]
async fn a_handler_may_expect_a_body_of_bounded_size() {
    let served = Served::start(Limits { headers: SHORT, ..LIMITS }).await;
    let post = |headers: &str, body: &str| {
        format!("POST /login HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
    };
    let answer = served.answer(post("content-length: 5", "hello")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
    let largest = "z".repeat(16 << 10);
    let answer = served.answer(post("content-length: 16384", &largest)).await;
    assert!(answer.ends_with(&largest));
    for (headers, body, status) in [
        ("content-length: 16385", "", "413"),
        ("transfer-encoding: chunked", "0\r\n\r\n", "411"),
        ("content-length: 5", "hel", "408"),
    ] {
        let answer = served.answer(post(headers, body)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let served = Served::start(LIMITS).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    let answer = served.answer(preface).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    assert!(served.answer(upgrade).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn a_panic_is_500_and_counted_and_the_next_request_is_answered() {
    let served = Served::start(LIMITS).await;
    let answer = served.answer(get("/panic")).await;
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(served.paths.panics.load(Ordering::SeqCst), 1);
    assert!(served.answer("GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 OK"));
}

#[tokio::test]
async fn the_peer_is_found_behind_a_trusted_proxy() {
    let from =
        "GET /peer HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6, 192.0.2.1\r\nconnection: close\r\n\r\n";
    let proxies = TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]);
    let served = Served::with(LIMITS, None, proxies).await;
    assert!(served.answer(from).await.ends_with("\r\n\r\nPeer(192.0.2.1)"));
    let served = Served::start(LIMITS).await;
    assert!(served.answer(from).await.ends_with("\r\n\r\nPeer(127.0.0.1)"));
}

#[tokio::test]
async fn a_request_whose_client_is_gone_ends() {
    let served = Served::start(LIMITS).await;
    let mut stream = served.connect().await;
    stream.write_all(get("/wait").as_bytes()).await.unwrap();
    served.running(1).await;
    let start = Instant::now();
    drop(stream);
    served.running(0).await;
    assert!(start.elapsed() < DEADLINE / 2);
}
