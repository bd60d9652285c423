use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use kube::client::Body;

use super::*;
use crate::api::state::VersionState;

#[test]
fn pauses_grow_until_the_watch_runs() {
    let mut backoff = DefaultBackoff::default();
    let mut pause = |event| pause_after::<()>(&event, &mut backoff);
    let failed = || Err(watcher::Error::NoResourceVersion);
    for _ in 0..10 {
        assert!(pause(Ok(Event::Init)).is_zero() && pause(Ok(Event::InitApply(()))).is_zero());
        assert!(!pause(failed()).is_zero());
    }
    assert!(pause(Ok(Event::InitDone)).is_zero());
    assert_eq!(pause(failed()), LONGEST_PAUSE, "a list that is complete does not show that the watch runs");
    assert!(pause(Ok(Event::Apply(()))).is_zero());
    assert!(pause(failed()) < Duration::from_secs(2));
}

#[test]
fn a_rejected_resource_version_and_a_long_outage_lead_to_a_new_list() {
    let failed = |code| {
        watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(kube::core::Status {
            code,
            ..kube::core::Status::failure("no", "")
        })))
    };
    let refused = watcher::Error::WatchStartFailed(kube::Error::Service("connection refused".into()));
    assert!(has_to_list(&failed(410), false));
    for (error, after_long) in
        [(failed(503), true), (failed(0), true), (refused, true), (failed(403), false), (failed(429), false)]
    {
        assert!(!has_to_list(&error, false), "{error}: its events may still be known");
        assert_eq!(has_to_list(&error, true), after_long, "{error}");
    }
    // kube lists again by itself.
    assert!(!has_to_list(&watcher::Error::NoResourceVersion, true));
}

#[tokio::test]
async fn a_watch_that_is_rejected_as_expired_lists_again() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let server = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (status, text) = if is_watch {
            (
                410,
                r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}"#,
            )
        } else {
            counted.fetch_add(1, Ordering::Relaxed);
            (
                200,
                r#"{"kind": "VersionList", "apiVersion": "opendepot.defdev.io/v1alpha1", "metadata": {"resourceVersion": "7"}, "items": []}"#,
            )
        };
        ready(Response::builder().status(status).body(Full::new(Bytes::from_static(text.as_bytes()))))
    });
    let api: Api<VersionState> = Api::all(Client::new(server, "default"));
    let events = std::pin::pin!(events_of(api, 50));
    let seen: Vec<bool> = events.take(6).map(|event| event.is_ok()).collect().await;
    // A list and a failed watch, twice.
    assert_eq!(seen, [true, true, false, true, true, false]);
    assert_eq!(lists.load(Ordering::Relaxed), 2);
}

#[test]
fn only_a_complete_list_or_a_change_shows_success() {
    let later = Instant::now() + Duration::from_secs(30);
    for (event, is_success) in [
        (Event::Init, false),
        (Event::InitApply(1), false),
        (Event::InitDone, true),
        (Event::Apply(1), true),
        (Event::Delete(1), true),
    ] {
        let age = WatchAge::default();
        assert!(!report::<u8>(&Err(watcher::Error::NoResourceVersion), &age, "a"));
        assert!(!age.longest(later).is_zero());
        assert_eq!(report(&Ok(event.clone()), &age, "a"), is_success);
        assert_eq!(age.longest(later).is_zero(), is_success);
        assert!(!report(&Ok(event), &age, "a"), "it is reported once");
    }
}

#[test]
fn a_namespace_that_is_named_twice_is_watched_once() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(Vec::from_iter(scopes(&names(&["b", "a", "b"]))), [Some("a"), Some("b")]);
    assert_eq!(Vec::from_iter(scopes(&[])), [None::<&str>]);
}

#[test]
fn missing_kinds_and_missing_permissions_have_fixes_of_their_own() {
    assert!(fix(Some(404)).is_some_and(|fix| fix.contains("opendepot crd")));
    assert!(fix(Some(403)).is_some_and(|fix| fix.contains("rbac.yaml")));
    assert_eq!((fix(Some(500)), fix(None)), (None, None));
}

#[test]
fn only_a_list_without_permission_or_kind_is_rejected() {
    let answer = |code| {
        kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::failure("no", "") }))
    };
    let later = Instant::now() + Duration::from_mins(1);
    for (error, expected) in [
        (watcher::Error::InitialListFailed(answer(403)), 1),
        (watcher::Error::InitialListFailed(answer(404)), 1),
        (watcher::Error::InitialListFailed(answer(401)), 0),
        (watcher::Error::InitialListFailed(answer(503)), 0),
        (watcher::Error::WatchStartFailed(answer(403)), 0),
        (watcher::Error::NoResourceVersion, 0),
    ] {
        let (age, event) = (WatchAge::default(), Err(error));
        report::<u8>(&event, &age, "a");
        assert_eq!(age.rejected(later), expected, "{event:?}");
    }
}

#[test]
fn rejected_lists_are_not_waited_for_if_another_namespace_is_listed() {
    let (read, missing) = (false, true);
    for (lists, rejected, expected) in [
        (vec![missing, missing], 2, false),
        (vec![read, missing], 1, false),
        (vec![read, missing, read, missing], 2, false),
        (vec![read, read, missing, missing], 1, false),
        (vec![read, read, missing, missing], 2, true),
        (vec![read, missing, read, read], 1, true),
        (vec![missing, missing, read, read, missing, missing], 2, false),
    ] {
        assert_eq!(suffices(&lists, rejected), expected, "{lists:?} {rejected}");
    }
}
