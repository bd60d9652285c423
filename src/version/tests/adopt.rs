//! Which objects are taken for this Version's without a fetch.

use serde_json::json;

use super::super::existing::{Existing, adopt, is_ours, is_stored_as_recorded, not_ours};
use super::{Fixture, at, passing, stalled, stored, version};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::storage::{Found, Ownership};

/// The object that a publish of the fixtures leaves in the bucket.
fn object() -> Found {
    Found {
        size: Some(100),
        sha256: Some("c3Vt".into()),
        sha256_returned: true,
        ownership: Some(Ownership {
            namespace: "acme".into(),
            version_name: "network-1.0.0".into(),
            version: "1.0.0".into(),
            source: "https://github.com/acme/network".into(),
            digest: "h1:first".into(),
            revision: 1,
            ..Ownership::default()
        }),
        sent_sha256: None,
        stored_at: Some(at(60)),
        identity: None,
    }
}

fn owned(change: impl FnOnce(&mut Ownership)) -> Found {
    let mut found = object();
    change(found.ownership.as_mut().unwrap());
    found
}

fn taken(version: &Fixture, found: &Found) -> bool {
    adopt(&version.version(), &version.target(), found).is_some()
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
fn an_object_of_another_format_is_not_taken_where_its_key_does_not_tell() {
    let version = version().with(json!({"spec": {"fileName": "first.bin"}}));
    for (written, expected) in [("zip", true), ("tar.gz", false), ("", true)] {
        assert_eq!(taken(&version, &owned(|o| o.archive = written.into())), expected, "{written:?}");
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
fn a_copy_at_another_place_ends_no_stall_about_content() {
    let changed = || Failure::new(Reason::ImmutableContentChanged, "another digest");
    let missing = Failure::new(Reason::TagNotFound, "no tag");
    let second = json!({"spec": {"fileName": "second.zip"}});
    let moved = |version: Fixture| version.with(second.clone()).next_generation();
    let of = |url: &str| json!({"spec": {"moduleConfigRef": {"repoUrl": url}}});
    let of_other = stored().with(of("https://github.com/acme/net")).next_generation().failed(&stalled());
    let suspended = |version: Fixture| {
        let status = version.current().suspended("spec.suspend", at(300));
        version.with_status(&status)
    };
    for (what, version, expected) in [
        ("stalled, then moved", moved(stored().failed(&changed())), false),
        ("suspended meanwhile", moved(suspended(stored().failed(&changed()))), false),
        ("and GitHub is away", moved(stored().failed(&changed())).failed(&passing()), false),
        ("noticed by the move", moved(stored()).failed(&changed()), false),
        ("stalled for another repository", moved(of_other.with(of("https://github.com/acme/network"))), true),
        ("the tag is gone", moved(stored().failed(&missing)), true),
        ("never stored", moved(version().failed(&changed())), true),
        ("put back", stored().failed(&changed()).with(json!({"status": {"synced": false}})), true),
    ] {
        assert_eq!(taken(&version, &object()), expected, "{what}");
    }
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
    let restoring = stored().with_status(&stored().current().restoring("changed", at(300)));
    assert!(!taken(&restoring, &Found { size: Some(7), ..object() }), "cut short");
    assert!(!taken(&restoring, &Found { sha256: Some("b3RoZXI=".into()), ..object() }), "other bytes");
    assert!(taken(&restoring, &object()), "it was put back");
}

#[test]
fn what_is_missing_or_damaged_at_the_recorded_place_is_lost() {
    let there = || Existing::Ours(Box::new(object()));
    let cut = || Existing::Ours(Box::new(Found { size: Some(7), ..object() }));
    let other = || Existing::Ours(Box::new(Found { sha256: Some("bmV3".into()), ..object() }));
    let moved = || stored().with(json!({"spec": {"fileName": "second.zip"}}));
    let lost = || stored().with(json!({"status": {"synced": false}}));
    let other_store = json!({"storageConfig": {"s3": {"endpoint": "https://s3.example.com"}}});
    let elsewhere = || stored().with(json!({"spec": {"moduleConfigRef": other_store.clone()}}));
    for (what, version, existing, expected) in [
        ("as recorded", stored(), there(), Some(true)),
        ("missing", stored(), Existing::None, Some(false)),
        ("cut", stored(), cut(), Some(false)),
        ("other bytes", stored(), other(), Some(false)),
        ("not there yet", moved(), Existing::None, None),
        ("an older one is there", moved(), other(), None),
        ("never stored", version(), Existing::None, None),
        ("known to be lost", lost(), Existing::None, None),
        ("put back", lost(), there(), Some(true)),
        ("put back, but cut", lost(), cut(), None),
        ("not in another store", elsewhere(), Existing::None, None),
        ("cut in another store", elsewhere(), cut(), None),
    ] {
        let (view, target) = (version.version(), version.target());
        assert_eq!(is_stored_as_recorded(&view, &target, &existing), expected, "{what}");
    }
}

#[test]
fn a_request_is_answered_only_by_an_object_that_carries_it() {
    const FORCE: &str = "forceSync/uid-of-network-1.0.0/5";
    // Stored after what the status says, in answer to these requests, and before a crash.
    let carrying = |user: &str, module: &str| Found {
        stored_at: Some(at(160)),
        ..owned(|o| {
            o.request = Some(user.to_owned()).filter(|token| !token.is_empty());
            o.module_request = Some(module.to_owned()).filter(|token| !token.is_empty());
        })
    };
    let table = [
        (stored().forced(), "", "", false),
        (stored().forced(), FORCE, "", true),
        (stored().forced(), "now", "", false),
        (stored().annotated(REQUESTED_AT, "now"), "now", "", true),
        (stored().annotated(REQUESTED_AT, "now"), FORCE, "", false),
        // Both are open: one that was made before the second came answers neither.
        (stored().forced().annotated(REQUESTED_AT, "now"), FORCE, "", false),
        (stored().forced().annotated(REQUESTED_AT, "now"), "now", "", false),
        (stored().forced().annotated(REQUESTED_AT, "now"), &format!("{FORCE} now"), "", true),
        (stored().forced().annotated(REQUESTED_AT, "later"), &format!("{FORCE} now"), "", false),
        (stored().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token"), "now", "", false),
        (stored().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token"), "", "token", false),
        (stored().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token"), "now", "token", true),
        (stored().with(json!({"status": {"pendingForce": "retry:5"}})), FORCE, "", false),
    ];
    for (version, user, module, expected) in table {
        let asked = version.0["metadata"]["annotations"].to_string();
        assert_eq!(taken(&version, &carrying(user, module)), expected, "{asked}: {user:?} {module:?}");
    }
}

#[test]
fn other_bytes_at_the_recorded_place_are_not_taken_whatever_request_they_carry() {
    let replaced = |token: &str| Found {
        sha256: Some("bmV3".into()),
        stored_at: Some(at(160)),
        ..owned(|o| {
            o.request = Some(token.into());
            o.digest = "h1:second".into();
        })
    };
    let asked = |version: Fixture| version.annotated(REQUESTED_AT, "now");
    assert!(!taken(&asked(stored()), &replaced("now")), "the operator writes other content elsewhere");
    assert!(!taken(&stored().forced(), &replaced("forceSync/uid-of-network-1.0.0/5")));
    // As a crash leaves it: stored under a fresh name, and not yet in the status.
    let renamed = asked(stored()).with(json!({"spec": {"fileName": "second.zip"}}));
    assert!(taken(&renamed, &replaced("now")) && !taken(&renamed, &replaced("before")));
}

#[test]
fn a_token_on_the_object_that_the_status_records_answers_nothing() {
    // The token was used before; an attempt for another one has failed since.
    let again = stored().with(json!({"status": {"lastHandledRequest": "2"}})).annotated(REQUESTED_AT, "1");
    let carrying =
        |second: Option<i64>| Found { stored_at: second.map(at), ..owned(|o| o.request = Some("1".into())) };
    for (second, expected) in [(None, false), (Some(60), false), (Some(100), false), (Some(101), true)] {
        assert_eq!(taken(&again, &carrying(second)), expected, "{second:?}, recorded at 100");
    }
    let lost = version().annotated(REQUESTED_AT, "1");
    assert!(taken(&lost, &carrying(Some(60))), "without a status, what it carries is all that is known");
}

#[test]
fn a_version_without_a_checksum_takes_its_object_over_and_answers_only_what_that_carries() {
    let carrying = owned(|o| o.request = Some("1".into()));
    let answers = |version: &Fixture, found: &Found| {
        adopt(&version.version(), &version.target(), found).map(|published| published.answers)
    };
    let unmarked = version().with(json!({"status": {"pendingForce": "retry:0"}}));
    for (version, expected) in [
        (version(), true),
        (version().annotated(REQUESTED_AT, "1"), true),
        (version().annotated(REQUESTED_AT, "2"), false),
        (version().annotated(REQUESTED_AT, "1").annotated(MODULE_REQUEST, "token"), false),
        (version().forced(), false),
        (stored().annotated(REQUESTED_AT, "2").with(json!({"status": {"checksum": null}})), false),
        (unmarked, false),
    ] {
        assert_eq!(answers(&version, &carrying), Some(expected), "{}", version.0);
        let view = version.version();
        let published = adopt(&view, &version.target(), &carrying).unwrap();
        let target = version.target();
        let after =
            version.clone().with_status(&version.current().published(&published, &target.requests, at(200)));
        assert_eq!(
            after.target().requests.any(),
            !expected,
            "what it does not answer stays open: {}",
            after.0
        );
    }
    let pinned = version().forced().with(json!({"spec": {"expectedDigest": "h1:other"}}));
    assert_eq!(answers(&pinned, &carrying), None);
}

#[test]
fn the_names_on_a_foreign_object_are_shown_as_they_are() {
    let found = owned(|o| {
        o.version_name = "net\u{202e}\u{1b}[31m".into();
        o.namespace = "a\nb".into();
    });
    let message = not_ours(&stored().status().storage.unwrap(), &found).message;
    assert!(message.contains(r"Version net\u{202e}\u{1b}[31m in namespace a\nb:"), "{message}");
}

#[test]
fn ours_is_what_names_this_version_or_lies_where_it_was_stored_unnamed() {
    let view = stored().version();
    let location = stored().status().storage.unwrap();
    assert!(is_ours(&view, &location, &object()));
    assert!(is_ours(&view, &location, &Found { ownership: None, ..object() }));
    assert!(!is_ours(&version().version(), &location, &Found { ownership: None, ..object() }));
    let unnamed = Found { ownership: None, ..object() };
    for other in [
        ObjectLocation { endpoint: Some("https://s3.example.com".into()), ..location.clone() },
        ObjectLocation { bucket: "other".into(), ..location.clone() },
        ObjectLocation { key: "network/second.zip".into(), ..location.clone() },
    ] {
        assert!(!is_ours(&view, &other, &unnamed), "not ours: {other:?}");
        assert!(is_ours(&view, &other, &object()), "it names this Version: {other:?}");
    }
    let elsewhere = |endpoint: &str| json!({"status": {"storage": {"endpoint": endpoint}}});
    let view_of = |endpoint: &str| stored().with(elsewhere(endpoint)).version();
    for (recorded, now, ours) in [
        ("https://s3.example.com", "HTTPS://S3.Example.com:443/", true),
        ("https://s3.example.com", "https://s3.example.com:9000", false),
        ("https://s3.example.com", "http://s3.example.com", false),
        ("no URL", "no URL", true),
        ("no URL", "none either", false),
    ] {
        let location = ObjectLocation { endpoint: Some(now.into()), ..location.clone() };
        assert_eq!(is_ours(&view_of(recorded), &location, &unnamed), ours, "{recorded} {now}");
    }
    for other in [owned(|o| o.namespace = "beta".into()), owned(|o| o.version_name = "network-2.0.0".into())]
    {
        assert!(!is_ours(&view, &location, &other), "another Version's, even where this one stored");
    }
}
