//! Which objects are taken for this Version's without a fetch.

use serde_json::json;

use super::super::publish::{is_ours, take_over};
use super::{Fixture, at, stored, version};
use crate::crd::{MODULE_REQUEST, Place, REQUESTED_AT};
use crate::storage::{Found, Ownership};

/// The object that a publish of the fixtures leaves in the bucket.
fn object() -> Found {
    Found {
        size: 100,
        sha256: Some("c3Vt".into()),
        ownership: Some(Ownership {
            namespace: "acme".into(),
            version_name: "network-1.0.0".into(),
            version: "1.0.0".into(),
            source: "https://github.com/acme/network".into(),
            digest: "h1:first".into(),
            revision: 1,
            ..Ownership::default()
        }),
        stored_at: Some(60),
    }
}

fn owned(change: impl FnOnce(&mut Ownership)) -> Found {
    let mut found = object();
    change(found.ownership.as_mut().unwrap());
    found
}

fn taken(version: &Fixture, found: &Found) -> bool {
    let view = version.view();
    let work = view.work().unwrap();
    take_over(&view, &work, found).is_some()
}

#[test]
fn an_object_that_the_status_forgot_is_taken_as_it_is() {
    assert!(taken(&version(), &object()));
    let pinned = |digest: &str| version().with(json!({"spec": {"expectedDigest": digest}}));
    assert!(taken(&pinned("h1:first"), &object()) && !taken(&pinned("h1:other"), &object()));
    for other in [
        owned(|o| o.version = "1.0.1".into()),
        owned(|o| o.source = "https://github.com/acme/net".into()),
        owned(|o| o.digest = String::new()),
        Found { ownership: None, ..object() },
        Found { sha256: None, ..object() },
    ] {
        assert!(!taken(&version(), &other), "{other:?}");
    }
}

#[test]
fn what_an_earlier_move_left_is_taken_only_with_the_content_that_is_published() {
    let moved = json!({"spec": {"fileName": "second.zip"}});
    assert!(taken(&stored().with(moved.clone()), &object()));
    let older = owned(|o| o.digest = "h1:older".into());
    assert!(!taken(&stored().with(moved), &older));
}

#[test]
fn what_has_other_bytes_than_an_immutable_version_published_is_not_taken() {
    let moved = json!({"spec": {"fileName": "second.zip"}});
    let pinned = json!({"spec": {"moduleConfigRef": {"immutable": true}}});
    let other = Found { sha256: Some("bW9kZXM=".into()), ..object() };
    assert!(taken(&stored().with(moved.clone()), &other));
    assert!(!taken(&stored().with(moved.clone()).with(pinned.clone()), &other));
    assert!(taken(&stored().with(moved).with(pinned), &object()));
}

#[test]
fn a_damaged_object_is_not_taken_for_what_its_metadata_says() {
    let restoring = stored().with_status(&stored().view().restoring("changed", at(300)));
    assert!(!taken(&restoring, &Found { size: 7, ..object() }), "cut short");
    assert!(!taken(&restoring, &Found { sha256: Some("b3RoZXI=".into()), ..object() }), "other bytes");
    assert!(taken(&restoring, &object()), "it was put back");
}

#[test]
fn a_request_is_answered_only_by_an_object_that_carries_it() {
    let forced = stored().forced();
    let token = || Some("forceSync/uid-of-network-1.0.0/5".to_owned());
    assert!(!taken(&forced, &object()));
    assert!(taken(&forced, &owned(|o| o.request = token())));
    let replaced = Found { sha256: Some("bmV3".into()), ..owned(|o| o.request = token()) };
    assert!(taken(&forced, &replaced), "stored in answer, before a crash");
    let both = stored().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token");
    assert!(!taken(&both, &owned(|o| o.request = Some("now".into()))));
    assert!(taken(
        &both,
        &owned(|o| (o.request, o.module_request) = (Some("now".into()), Some("token".into())))
    ));
    let pending = stored().with(json!({"status": {"pendingForce": "retry:5"}}));
    assert!(!taken(&pending, &owned(|o| o.request = token())), "a retry is a full sync");
}

#[test]
fn ours_is_what_names_this_version_or_lies_where_it_was_stored_unnamed() {
    let view = stored().view();
    let place = view.status.storage.clone().unwrap();
    assert!(is_ours(&view, &place, &object()));
    assert!(is_ours(&view, &place, &Found { ownership: None, ..object() }));
    assert!(!is_ours(&version().view(), &place, &Found { ownership: None, ..object() }));
    let unnamed = Found { ownership: None, ..object() };
    for other in [
        Place { endpoint: Some("https://s3.example.com".into()), ..place.clone() },
        Place { bucket: "other".into(), ..place.clone() },
        Place { key: "network/second.zip".into(), ..place.clone() },
    ] {
        assert!(!is_ours(&view, &other, &unnamed), "anybody's: {other:?}");
        assert!(is_ours(&view, &other, &object()), "it names this Version: {other:?}");
    }
    let elsewhere = |endpoint: &str| json!({"status": {"storage": {"endpoint": endpoint}}});
    let view_of = |endpoint: &str| stored().with(elsewhere(endpoint)).view();
    for (recorded, now, ours) in [
        ("https://s3.example.com", "HTTPS://S3.Example.com:443/", true),
        ("https://s3.example.com", "https://s3.example.com:9000", false),
        ("https://s3.example.com", "http://s3.example.com", false),
        ("no URL", "no URL", true),
        ("no URL", "none either", false),
    ] {
        let place = Place { endpoint: Some(now.into()), ..place.clone() };
        assert_eq!(is_ours(&view_of(recorded), &place, &unnamed), ours, "{recorded} {now}");
    }
    for other in [owned(|o| o.namespace = "beta".into()), owned(|o| o.version_name = "network-2.0.0".into())]
    {
        assert!(!is_ours(&view, &place, &other), "another Version's, even where this one stored");
    }
}
