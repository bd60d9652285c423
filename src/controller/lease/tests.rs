//! Tests of work during and after leadership.

use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use kube::client::{AuthError, Body};
use kube::core::Status;
use serde_json::{Value, json};

use super::*;
use crate::domain::Mutex;

/// A client of an API server that has this Lease. It executes writes at once, and answers the first one after `delay`.
fn client_of(lease: &Arc<Mutex<Value>>, delay: Duration) -> Client {
    let (lease, mut delay) = (Arc::clone(lease), Some(delay));
    let server = tower::service_fn(move |request: Request<Body>| {
        let lease = Arc::clone(&lease);
        let is_write = request.method() != Method::GET;
        let pause = if is_write { delay.take() } else { None };
        async move {
            let sent = request.into_body().collect_bytes().await?;
            if is_write {
                *lease.lock() = serde_json::from_slice(&sent)?;
            }
            let text = lease.lock().to_string();
            tokio::time::sleep(pause.unwrap_or_default()).await;
            Ok::<_, tower::BoxError>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    Client::new(server, "acme")
}

#[tokio::test]
async fn a_process_that_stops_keeps_no_lease() {
    for (what, holder, answered_after, is_won, left) in [
        ("another process holds it", "other", Duration::ZERO, false, "other"),
        ("the answer to its write is on the way", "", Duration::from_millis(300), true, ""),
        ("the answer to its write was lost", "", Duration::from_mins(1), false, ""),
    ] {
        let lease = Arc::new(Mutex::new(json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "opendepot"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15},
        })));
        let election = Election::new(client_of(&lease, answered_after), "acme", "opendepot");
        let stop = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        let own = election.acquire(stop, |_| {}).await;
        assert_eq!(own.is_some(), is_won, "{what}");
        if let Some(own) = own {
            own.release().await;
        }
        assert_eq!(lease.lock()["spec"]["holderIdentity"], left, "{what}");
    }
}

#[tokio::test]
async fn work_is_dropped_where_it_stands_when_the_term_ends() {
    let leadership = Leadership::until(Instant::now() + Duration::from_millis(50));
    assert_eq!(leadership.during(async { "done" }).await, "done");
    let witness = Arc::new(());
    let held = Arc::clone(&witness);
    let mut work = std::pin::pin!(leadership.during(async move {
        std::future::pending::<()>().await;
        drop(held);
    }));
    while Arc::strong_count(&witness) > 1 {
        // It never gives anything: nothing is true of work that was dropped.
        assert!(tokio::time::timeout(Duration::from_millis(10), work.as_mut()).await.is_err());
    }
    assert!(leadership.end().is_some_and(|end| end <= Instant::now()), "not before the end");
}

#[tokio::test]
async fn nothing_starts_after_the_end_of_the_term() {
    let mut started = false;
    let over = Leadership::until(Instant::now());
    let late = over.during(async { started = true });
    assert!(tokio::time::timeout(Duration::from_millis(20), late).await.is_err());
    assert!(!started);
}

#[tokio::test]
async fn a_renewal_lets_work_in_flight_go_on() {
    let leadership = Leadership::until(Instant::now() + Duration::from_millis(30));
    leadership.clone().extend(Instant::now() + Duration::from_mins(1));
    leadership.during(tokio::time::sleep(Duration::from_millis(100))).await;
    Leadership::without_end().during(async {}).await;
}

#[test]
fn a_denial_is_no_conflict_whatever_its_code() {
    let answer = |code, reason: &str, message: &str| {
        Failed::Api(kube::Error::Api(Box::new(Status { code, ..Status::failure(message, reason) })))
    };
    let denied = "admission webhook \"guard.example\" denied the request: no";
    // Code and reason, what the API server's own answer is: another replica was faster, our copy is old.
    for (code, reason, is_faster, is_old) in [
        (409, "Conflict", true, true),
        (409, "AlreadyExists", true, false),
        (404, "NotFound", false, true),
        (403, "Forbidden", false, false),
    ] {
        let own = answer(code, reason, "the Lease has changed");
        assert_eq!(
            (own.is_lost_race(), own.kind() == RenewalFailure::Outdated),
            (is_faster, is_old),
            "{code} {reason}"
        );
        let denial = answer(code, reason, denied);
        assert!(!denial.is_lost_race() && denial.kind() == RenewalFailure::Other, "{code} {reason}");
    }
    assert!(!Failed::Late.is_lost_race() && Failed::Late.kind() == RenewalFailure::Late);
}

#[test]
fn missing_permissions_are_advised_only_if_the_api_server_says_so() {
    let answer = |code| Failed::Api(kube::Error::Api(Status::failure("no", "").with_code(code).boxed()));
    let unreachable = Failed::Api(kube::Error::Service("connection refused".into()));
    assert_eq!(unreachable.to_string(), "connection refused");
    let denied = Status::failure("admission webhook \"guard.example\" denied the request: no", "Forbidden");
    let denied = Failed::Api(kube::Error::Api(denied.with_code(403).boxed()));
    let unauthenticated = Failed::Api(kube::Error::Service(Box::new(AuthError::ExecPluginFailed)));
    for (failed, expected) in [
        (answer(401), Some("renew")),
        (answer(403), Some("allow")),
        (answer(404), Some("allow")),
        (answer(503), None),
        (unreachable, Some("check")),
        (Failed::Late, Some("check")),
        (denied, None),
        (unauthenticated, None),
    ] {
        assert_eq!(failed.fix().and_then(|fix| fix.split(' ').next()), expected, "{failed}");
    }
}

#[test]
fn the_own_namespace_is_in_the_service_accounts_token() {
    let token = |claims: &str| {
        format!("e30.{}.signature", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    };
    let subject = r#"{"sub":"system:serviceaccount:tools:opendepot"}"#;
    assert_eq!(service_account(&token(subject)).as_deref(), Some("tools"));
    for other in [&token(r#"{"sub":"system:admin"}"#), &token("no json"), "opaque", "", "a.!.c"] {
        assert_eq!(service_account(other), None, "{other}");
    }
}
