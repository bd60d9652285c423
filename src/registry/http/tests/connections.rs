//! Slow and idle connections, and too many of them.

use std::time::Instant;

use super::*;

/// How long the server took to close a connection on which it answered nothing more.
async fn closed_after(stream: &mut TcpStream, start: Instant) -> Duration {
    assert_eq!(rest(stream).await, "");
    start.elapsed()
}

#[tokio::test]
async fn slow_headers_end_the_connection() {
    let served = Served::start(Limits { headers: SHORT, ..LIMITS }).await;
    let start = Instant::now();
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    let dripping = tokio::spawn(async move {
        for byte in get("/").bytes().cycle() {
            if slow.write_all(&[byte.max(b'a')]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let took = closed_after(&mut silent, start).await;
    assert!(took >= SHORT && took < SHORT * 10, "{took:?}");
    tokio::time::timeout(DEADLINE / 2, dripping).await.expect("each byte is no progress").unwrap();
}

#[tokio::test]
async fn a_second_request_has_time_of_its_own() {
    let served = Served::start(Limits { headers: SHORT, ..LIMITS }).await;
    let mut stream = served.connect().await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    answer_ending(&mut stream, "hello").await;
    tokio::time::sleep(SHORT * 2).await;
    let start = Instant::now();
    stream.write_all(b"GET / HTT").await.unwrap();
    let took = closed_after(&mut stream, start).await;
    assert!(took >= SHORT, "{took:?}");
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_used_one_does_not() {
    let served = Served::start(Limits { idle: SHORT, ..LIMITS }).await;
    let mut stream = served.connect().await;
    let mut start = Instant::now();
    for _ in 0..4 {
        tokio::time::sleep(SHORT / 2).await;
        start = Instant::now();
        stream.write_all(get("/").as_bytes()).await.unwrap();
        answer_ending(&mut stream, "hello").await;
    }
    let took = closed_after(&mut stream, start).await;
    assert!(took >= SHORT && took < SHORT * 10, "{took:?}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_and_a_slow_one_is_not() {
    let served = Served::start(Limits { stall: SHORT, ..LIMITS }).await;
    let mut stuck = served.connect().await;
    stuck.write_all(get("/endless").as_bytes()).await.unwrap();
    served.running(1).await;
    served.running(0).await;
    let mut slow = served.connect().await;
    slow.write_all(get("/endless").as_bytes()).await.unwrap();
    let (start, mut buffer) = (Instant::now(), vec![0; 1 << 20]);
    while start.elapsed() < SHORT * 4 {
        slow.read_exact(&mut buffer).await.expect("still served");
        tokio::time::sleep(SHORT / 5).await;
    }
}

#[tokio::test]
async fn an_answer_below_its_rate_is_cut() {
    let served = Served::start(LIMITS).await;
    let start = Instant::now();
    let answer = served.answer(get("/trickle")).await;
    assert!(start.elapsed() >= SHORT && !answer.ends_with("0\r\n\r\n"), "{:?}", start.elapsed());
    served.running(0).await;
}

#[tokio::test]
async fn an_answer_in_one_piece_has_a_rate_until_it_is_sent() {
    let served = Served::start(LIMITS).await;
    let mut stuck = served.connect().await;
    stuck.write_all(get("/page").as_bytes()).await.unwrap();
    let mut reading = served.connect().await;
    reading.write_all(get("/page").as_bytes()).await.unwrap();
    answer_ending(&mut reading, "end").await;
    tokio::time::sleep(SHORT * 2).await;
    reading.write_all(get("/").as_bytes()).await.unwrap();
    answer_ending(&mut reading, "hello").await;
    assert!(!rest(&mut stuck).await.ends_with("end"));
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let served = Served::start(Limits { per_peer: 2, ..LIMITS }).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = served.connect().await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        answer_ending(&mut stream, "hello").await;
        streams.push(stream);
    }
    let mut third = served.connect().await;
    assert_eq!(rest(&mut streams[0]).await, "", "the oldest is closed");
    for stream in [&mut streams[1], &mut third] {
        stream.write_all(get("/wait").as_bytes()).await.unwrap();
    }
    served.running(2).await;
    assert_eq!(rest(&mut served.connect().await).await, "", "busy ones are not closed for others");
    served.paths.go.notify_waiters();
    answer_ending(&mut third, "done").await;
}

#[tokio::test]
async fn connections_whose_bodies_do_not_arrive_make_room() {
    let served = Served::start(Limits { per_peer: 2, ..LIMITS }).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = served.connect().await;
        let request = "POST /login HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        answer_ending(&mut stream, "100 Continue\r\n\r\n").await;
        streams.push(stream);
    }
    let mut third = served.connect().await;
    third.write_all(get("/").as_bytes()).await.unwrap();
    answer_ending(&mut third, "hello").await;
    assert_eq!(rest(&mut streams[0]).await, "", "the oldest is closed");
    streams[1].write_all(b"hello").await.unwrap();
    answer_ending(&mut streams[1], "hello").await;
}

#[tokio::test]
async fn trusted_proxies_have_no_limit_of_their_own() {
    let proxies = TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]);
    let served = Served::with(Limits { per_peer: 1, connections: 3, ..LIMITS }, None, proxies).await;
    let mut streams = Vec::new();
    for count in 1..=3 {
        let mut stream = served.connect().await;
        stream.write_all(get("/wait").as_bytes()).await.unwrap();
        served.running(count).await;
        streams.push(stream);
    }
    assert_eq!(rest(&mut served.connect().await).await, "", "only the limit of all");
}
