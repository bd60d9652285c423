//! Tests of the order, the pace and the size of Events.

use std::future::{pending, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use kube::api::{ApiResource, DynamicObject};
use kube::client::Body;
use tokio::sync::mpsc;

use super::waiting::QUEUE;
use super::*;
use crate::api::{Module, Version};

#[test]
fn an_event_that_may_be_repeated_takes_little_memory() {
    assert!(size_of::<(u64, WrittenEvent)>() <= 64, "thousands are kept: an Event itself has some kilobytes");
    let object = |length| ObjectReference { name: Some("a".repeat(length)), ..ObjectReference::default() };
    for length in [1, LONGEST_NAME, LONGEST_NAME + 1, 253] {
        let name = event_name(&object(length), Timestamp::now());
        assert!(name.len() <= 253 && (length > LONGEST_NAME) != name.contains("a."), "{length}: {name}");
    }
}

#[test]
fn an_event_that_a_webhook_keeps_out_is_dropped_and_an_outage_loses_none() {
    let error = |code, message: &str| {
        kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::failure(message, "") }))
    };
    assert!(is_transient(&error(503, "apiserver is starting")));
    assert!(is_transient(&error(500, "etcdserver: leader changed")));
    assert!(!is_transient(&error(500, "failed calling webhook \"a.b\": connection refused")));
    assert!(!is_transient(&error(403, "forbidden")));
}

#[test]
fn a_burst_is_written_at_once_and_the_rest_at_intervals() {
    let start = Instant::now() + Duration::from_hours(1);
    let mut pace = EventPace(start - Duration::from_mins(30));
    for _ in 0..BURST {
        assert!(pace.next(start) <= start);
    }
    assert_eq!(pace.next(start), start + STEP);
    assert_eq!(pace.next(start), start + STEP * 2);
    // A pause allows no more than one burst.
    let later = start + Duration::from_mins(1);
    let at_once = (0..=BURST).filter(|_| pace.next(later) <= later).count();
    assert_eq!(at_once, BURST as usize);
}

fn warn<K: Resource<DynamicType = ()>>(events: &Events, namespace: &str) {
    let kind = ApiResource::erase::<K>(&());
    let object = DynamicObject::new("net", &kind).within(namespace);
    events.send(&object, &kind, Event::warning("BucketNotFound", "Reconcile", ""));
}

#[tokio::test]
async fn a_warning_about_a_module_waits_for_none_about_versions() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let server = tower::service_fn(move |request: Request<Body>| {
        let _ = sender.send(request.uri().path().to_owned());
        ready(Response::builder().status(403).body(Full::new(Bytes::from_static(b"{}"))))
    });
    let events = Events::start(Client::new(server, "default"));
    // More than there is room for.
    for _ in 0..=QUEUE {
        warn::<Version>(&events, "version");
    }
    warn::<Module>(&events, "module");
    let first = requests.recv().await.unwrap();
    assert!(first.contains("/namespaces/module/"), "{first}");
}

#[tokio::test]
async fn a_namespace_whose_webhook_hangs_delays_no_event_of_another_one() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let server = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let hangs = path.contains("/namespaces/hung/");
        let _ = sender.send(path);
        async move {
            if hangs {
                pending::<()>().await;
            }
            Response::builder().status(403).body(Full::new(Bytes::from_static(b"{}")))
        }
    });
    let events = Events::start(Client::new(server, "default"));
    for _ in 0..=QUEUE {
        warn::<Module>(&events, "hung");
    }
    for _ in 0..2 {
        warn::<Module>(&events, "other");
    }
    for namespace in ["hung", "other", "other"] {
        let path = tokio::time::timeout(Duration::from_secs(30), requests.recv()).await.unwrap().unwrap();
        assert!(path.contains(&format!("/namespaces/{namespace}/")), "{path}");
    }
}
