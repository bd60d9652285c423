//! Tests of work during and after leadership.

use std::sync::Arc;

use base64::Engine as _;

use super::*;

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
            (own.is_lost_race(), own.kind() == Refusal::Outdated),
            (is_faster, is_old),
            "{code} {reason}"
        );
        let denial = answer(code, reason, denied);
        assert!(!denial.is_lost_race() && denial.kind() == Refusal::Other, "{code} {reason}");
    }
    assert!(!Failed::Late.is_lost_race() && Failed::Late.kind() == Refusal::Late);
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
