//! Shutdown under load.

use super::*;

#[tokio::test]
async fn a_draining_listener_serves_on_and_sends_its_clients_elsewhere() {
    let served = Served::start(LIMITS).await;
    let mut old = served.connect().await;
    old.write_all(get("/").as_bytes()).await.unwrap();
    assert!(!answer_ending(&mut old, "hello").await.contains("connection: close"));
    served.stopper.drain();
    old.write_all(get("/").as_bytes()).await.unwrap();
    let last = rest(&mut old).await;
    assert!(last.starts_with("HTTP/1.1 200 OK") && last.contains("connection: close\r\n"), "{last}");
    let new = served.answer(get("/")).await;
    assert!(new.ends_with("hello") && new.contains("connection: close\r\n"), "{new}");
    assert!(!served.task.is_finished());
}

#[tokio::test]
async fn closing_ends_idle_connections_and_lets_requests_end() {
    let served = Served::start(LIMITS).await;
    let mut idle = served.connect().await;
    idle.write_all(get("/").as_bytes()).await.unwrap();
    answer_ending(&mut idle, "hello").await;
    let mut busy = served.connect().await;
    busy.write_all(get("/wait").as_bytes()).await.unwrap();
    served.running(1).await;
    // This one has not sent its request yet, and cannot know.
    let mut fresh = served.connect().await;
    served.stopper.close();
    assert_eq!(rest(&mut idle).await, "");
    fresh.write_all(get("/").as_bytes()).await.unwrap();
    assert!(rest(&mut fresh).await.ends_with("hello"));
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing new is accepted");
    served.paths.go.notify_waiters();
    let last = rest(&mut busy).await;
    assert!(last.ends_with("done") && last.contains("connection: close\r\n"), "{last}");
    tokio::time::timeout(DEADLINE / 2, served.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_connection_without_a_request_delays_the_end_for_a_moment() {
    // Longer than the end may take.
    let served = Served::start(Limits { headers: SHORT * 40, ..LIMITS }).await;
    let mut silent = served.connect().await;
    served.stopper.close();
    assert_eq!(rest(&mut silent).await, "");
    tokio::time::timeout(DEADLINE / 2, served.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_aborted() {
    let served = Served::start(Limits { finish: SHORT, ..LIMITS }).await;
    let mut busy = served.connect().await;
    busy.write_all(get("/wait").as_bytes()).await.unwrap();
    served.running(1).await;
    served.stopper.close();
    assert_eq!(rest(&mut busy).await, "");
    tokio::time::timeout(DEADLINE / 2, served.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn no_request_fails_while_the_listener_stops() {
    let served = Served::start(LIMITS).await;
    let address = served.address;
    let clients: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn(async move {
                // As a client that is sent elsewhere once connections are refused.
                while let Ok(mut stream) = TcpStream::connect(address).await {
                    stream.write_all(get("/").as_bytes()).await.unwrap();
                    answer_ending(&mut stream, "hello").await;
                }
            })
        })
        .collect();
    tokio::time::sleep(SHORT).await;
    served.stopper.drain();
    tokio::time::sleep(SHORT).await;
    served.stopper.close();
    for client in clients {
        tokio::time::timeout(DEADLINE, client).await.expect("an end").expect("every request is answered");
    }
}
