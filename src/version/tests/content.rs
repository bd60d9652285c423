//! Whether fetched content may be stored, with what kind of PUT, and what stops a PUT or DELETE at the last moment.

use serde_json::{Value, json};

use super::super::basis::{DeleteBasis, PutBasis};
use super::super::compare::{PutKind, changed_back, compare, file_name_before, leaves_stored, replaced};
use super::super::content::{Content, other_bytes};
use super::super::existing::Existing;
use super::{Fixture, at, passing, stored, version};
use crate::api::REQUESTED_AT;
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::storage::{Found, Ownership};

/// What the fixtures have published.
fn same() -> Content {
    Content { checksum: "c3Vt".into(), size: 100, digest: "h1:first".into(), commit: Some("c0ffee".into()) }
}

/// What a moved tag gives.
fn moved() -> Content {
    Content { checksum: "bmV3".into(), size: 100, digest: "h1:second".into(), commit: Some("decade".into()) }
}

/// The same files, others of them executable.
fn other_modes() -> Content {
    Content { digest: "h1:first".into(), ..moved() }
}

fn ours(content: &Content) -> Found {
    Found {
        size: Some(content.size),
        sha256: Some(content.checksum.clone()),
        sha256_returned: true,
        sent_sha256: Some(content.checksum.clone()),
        ownership: Some(Ownership { digest: content.digest.clone(), revision: 1, ..Ownership::default() }),
        stored_at: None,
        identity: None,
    }
}

fn put_kind(version: &Fixture, found: Option<Found>, content: &Content) -> PutKind {
    let view = version.version();
    let location = version.target().location;
    let existing = found.map_or(Existing::None, |found| Existing::Ours(Box::new(found)));
    PutKind::of(&view, &location, &existing, content)
}

#[test]
fn no_put_replaces_other_content() {
    let damaged = || Found { size: Some(7), ..ours(&same()) };
    let without_sum = |content| Found { sha256: None, ..ours(content) };
    let unnoted = || Found { sent_sha256: None, ..damaged() };
    let unmeasured = || Found { sent_sha256: None, size: None, ..ours(&same()) };
    let unlabelled = || Found { ownership: None, sha256: None, sent_sha256: None, ..ours(&same()) };
    let elsewhere = || stored().with(json!({"spec": {"fileName": "second.zip"}}));
    let other_store = json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"endpoint": "https://s3.example.com"}}}}});
    let table = [
        ("new", version(), None, same(), PutKind::Create),
        ("new, and it is there", version(), Some(ours(&same())), same(), PutKind::Overwrite),
        ("new, and other content is there", version(), Some(ours(&moved())), same(), PutKind::FreshKey),
        ("new, and what is there was cut", version(), Some(damaged()), same(), PutKind::Overwrite),
        ("new, and other content was cut", version(), Some(damaged()), moved(), PutKind::FreshKey),
        ("new, and what was sent is unknown", version(), Some(unnoted()), same(), PutKind::FreshKey),
        ("new, and what is there has no length", version(), Some(unmeasured()), same(), PutKind::Overwrite),
        (
            "new, the store has no checksums",
            version(),
            Some(without_sum(&same())),
            same(),
            PutKind::Overwrite,
        ),
        ("new, other, without checksums", version(), Some(without_sum(&moved())), same(), PutKind::FreshKey),
        ("new, nothing known", version(), Some(unlabelled()), same(), PutKind::FreshKey),
        ("stored", stored(), Some(ours(&same())), same(), PutKind::Overwrite),
        ("damaged", stored(), Some(damaged()), same(), PutKind::Overwrite),
        ("overwritten", stored(), Some(ours(&moved())), same(), PutKind::Overwrite),
        ("lost", stored(), None, same(), PutKind::Create),
        ("moved", stored(), Some(ours(&same())), moved(), PutKind::FreshKey),
        ("moved and damaged", stored(), Some(damaged()), moved(), PutKind::FreshKey),
        ("moved and lost", stored(), None, moved(), PutKind::FreshKey),
        ("moved, and it is there", stored(), Some(ours(&moved())), moved(), PutKind::FreshKey),
        ("other modes", stored(), Some(ours(&same())), other_modes(), PutKind::FreshKey),
        ("to another location", elsewhere(), None, moved(), PutKind::Create),
        ("to where an older one is", elsewhere(), Some(ours(&same())), moved(), PutKind::FreshKey),
        ("to another store", stored().with(other_store.clone()), None, moved(), PutKind::Create),
        (
            "to another store, with other content",
            stored().with(other_store),
            Some(ours(&moved())),
            same(),
            PutKind::FreshKey,
        ),
    ];
    for (what, version, found, content, expected) in table {
        assert_eq!(put_kind(&version, found, &content), expected, "{what}");
    }
}

#[test]
fn a_file_name_that_was_changed_back_is_told_from_a_move() {
    let back = |patch: Value| stored().with(json!({"spec": {"fileName": "older.zip"}})).with(patch);
    let s3 = |change: Value| json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": change}}}});
    let table = [
        ("changed back", back(json!({})), same(), true),
        (
            "in another spelling",
            back(s3(json!({"endpoint": "https://s3.us-west-2.amazonaws.com/"}))),
            same(),
            true,
        ),
        ("but the tag was moved", back(json!({})), moved(), false),
        ("not changed", stored(), same(), false),
        ("new", version(), same(), false),
        ("but its object is lost", back(json!({"status": {"synced": false}})), same(), false),
        ("to another folder", back(s3(json!({"key": "team"}))), same(), false),
        ("to another bucket", back(s3(json!({"bucket": "cellar"}))), same(), false),
        ("to another store", back(s3(json!({"endpoint": "https://s3.example.com"}))), same(), false),
    ];
    for (what, version, content, expected) in table {
        let view = version.version();
        let location = version.target().location;
        assert_eq!(changed_back(&view, &location, &content).is_some(), expected, "{what}");
    }
}

#[test]
fn a_new_place_is_in_another_bucket_only_if_each_old_one_holds_the_object() {
    let alias = json!({"spec": {"moduleConfigRef": {"storageConfig": {"s3": {"bucket": "alias"}}}}});
    let moved = || stored().with(alias.clone());
    let first = version().target().location;
    let cellar = ObjectLocation { bucket: "cellar".into(), ..first.clone() };
    let publishing = |version: Fixture, location: &ObjectLocation| {
        let status = version.current().publishing(location, at(300));
        version.with_status(&status)
    };
    for (what, version, expected) in [
        ("stored", moved(), true),
        ("lost", moved().with(json!({"status": {"synced": false}})), false),
        ("on the way to a third place before", publishing(moved(), &cellar), false),
        ("never stored", publishing(version(), &first), false),
    ] {
        let location = ObjectLocation { bucket: "alias".into(), ..first.clone() };
        assert_eq!(leaves_stored(&version.version(), &location), expected, "{what}");
    }
}

fn compared(version: &Fixture, content: &Content, found: Option<Found>, lost: bool) -> Result<(), Failure> {
    let view = version.version();
    let work = version.target();
    let existing = found.map_or(Existing::None, |found| Existing::Ours(Box::new(found)));
    compare(&view, &work, content, other_bytes(&view, &work, content), &existing, lost)
}

fn pinned() -> Fixture {
    stored().with(json!({"spec": {"moduleConfigRef": {"immutable": true}}}))
}

#[test]
fn bytes_have_to_be_equal_in_the_same_format() {
    assert_eq!(compared(&pinned(), &same(), None, false), Ok(()));
    assert_eq!(compared(&stored(), &moved(), None, false), Ok(()), "it is not immutable");
    assert_eq!(compared(&stored(), &other_modes(), None, false), Ok(()), "it is not immutable");
    for content in [moved(), other_modes()] {
        let failure = compared(&pinned(), &content, Some(ours(&same())), false).unwrap_err();
        assert_eq!(failure.reason, Reason::ImmutableContentChanged);
        for word in ["was moved", "commit decade", "The stored object is unchanged."] {
            assert!(failure.message.contains(word), "{word} is not in: {}", failure.message);
        }
        let again = Content { commit: Some("c0ffee".into()), ..content };
        let failure = compared(&pinned(), &again, None, false).unwrap_err();
        assert_eq!(failure.reason, Reason::SameCommitOtherContent);
    }
    let other = compared(&pinned(), &other_modes(), None, false).unwrap_err().message;
    assert!(
        other.contains("SHA-256 bmV3") && other.contains("SHA-256 c3Vt") && other.contains("executable"),
        "{other}"
    );
    let tar = json!({"spec": {"fileName": "second.tar.gz", "moduleConfigRef": {"fileFormat": "tar"}}});
    assert_eq!(compared(&pinned().with(tar), &other_modes(), None, false), Ok(()), "another format");
    let again = version().with(json!({"spec": {"expectedDigest": "h1:first"}}));
    assert_eq!(compared(&again, &other_modes(), None, false), Ok(()), "the Module keeps digests only");
}

#[test]
fn an_expected_digest_counts_as_it_is_spelled() {
    for (expected, fits) in [
        ("h1:first", true),
        ("H1:FIRST", false),
        ("first", false),
        ("sha256:h1:first", false),
        ("h1:first ", false),
        ("", false),
    ] {
        let version = version().with(json!({"spec": {"expectedDigest": expected}}));
        assert_eq!(compared(&version, &same(), None, false).is_ok(), fits, "{expected:?}");
    }
}

#[test]
fn nothing_was_stored_is_said_only_where_it_is_so() {
    let says = |version: &Fixture, found: Option<Found>, lost| {
        let message = compared(version, &moved(), found, lost).unwrap_err().message;
        ["The stored object is unchanged.", "The objects in the bucket are unchanged.", "Nothing was stored."]
            .map(|words| message.contains(words))
    };
    let again = || version().with(json!({"spec": {"expectedDigest": "h1:first"}}));
    assert_eq!(says(&pinned(), Some(ours(&same())), false), [true, false, false]);
    assert_eq!(says(&pinned(), Some(ours(&moved())), true), [false, true, false]);
    assert_eq!(says(&pinned(), None, true), [false, false, true]);
    assert_eq!(says(&again(), None, false), [false, false, true]);
    assert_eq!(says(&again(), Some(ours(&moved())), false), [false, true, false]);
    let elsewhere = ObjectLocation {
        key: "network/other.zip".into(),
        bucket: "shelf".into(),
        ..ObjectLocation::default()
    };
    let attempted = again().with_status(&again().current().publishing(&elsewhere, at(50)));
    assert_eq!(says(&attempted, None, false), [false, true, false]);
}

#[test]
fn what_replaces_content_is_told_from_what_does_not() {
    let view = stored().version();
    let noted = |content: &Content| {
        let bytes_changed = other_bytes(&view, &stored().target(), content);
        replaced(&view, &content.digest, bytes_changed)
    };
    assert_eq!(noted(&same()), None);
    assert!(noted(&moved()).is_some_and(|note| note.contains("h1:first") && note.contains("h1:second")));
    assert!(noted(&other_modes()).is_some_and(|note| note.contains("executable")));
    assert_eq!(replaced(&view, "h1:first", false), None, "an older revision wrote it");
    assert_eq!(replaced(&version().version(), "h1:first", false), None, "it is the first");
}

/// Changes of a Version, and whether each stops a PUT, and a DELETE of what a move left behind.
fn changes() -> Vec<(Value, bool, bool)> {
    let config = |change: Value| json!({"spec": {"moduleConfigRef": change}});
    vec![
        (json!({"spec": {"suspend": true}}), true, true),
        (json!({"spec": {"moduleSuspended": true}}), true, true),
        (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), true, true),
        (json!({"metadata": {"uid": "another"}}), true, true),
        (json!({"spec": {"fileName": "second.zip"}}), true, true),
        (config(json!({"storageConfig": {"s3": {"bucket": "other"}}})), true, true),
        (config(json!({"storageConfig": {"s3": {"endpoint": "https://s3.example.com"}}})), true, true),
        (config(json!({"name": "other"})), true, true),
        (config(json!({"repoUrl": "https://github.com/acme/net"})), true, false),
        (config(json!({"fileFormat": "tar"})), true, false),
        (config(json!({"storageConfig": {"s3": {"serverSideEncryption": "aws:kms"}}})), true, false),
        (config(json!({"immutable": true})), true, false),
        (json!({"spec": {"expectedDigest": "h1:first"}}), true, false),
        (json!({"spec": {"version": "broken"}}), true, true),
        (config(json!({"deletionPolicy": "Retain"})), false, true),
        (config(json!({"provider": "google"})), false, false),
        (config(json!({"githubClientConfig": {"useAuthenticatedClient": true}})), false, false),
        (json!({"spec": {"forceSync": true}}), false, false),
        (json!({"metadata": {"annotations": {REQUESTED_AT: "now"}, "generation": 6}}), false, false),
    ]
}

#[test]
fn a_put_or_delete_ends_when_what_it_rests_on_changes_and_for_nothing_else() {
    for (change, put, delete) in changes() {
        let (before, after) = (stored().version(), stored().with(change.clone()).version());
        assert_eq!(PutBasis::of(&before) != PutBasis::of(&after), put, "a PUT: {change}");
        assert_eq!(DeleteBasis::of(&before) != DeleteBasis::of(&after), delete, "a DELETE: {change}");
    }
    // Of one that is deleted, only the policy counts, and who it is.
    for (change, ..) in changes() {
        let (before, after) =
            (stored().terminating().version(), stored().terminating().with(change.clone()).version());
        let stops = change.pointer("/metadata/uid").is_some()
            || change.pointer("/spec/moduleConfigRef/deletionPolicy").is_some();
        assert_eq!(DeleteBasis::of(&before) != DeleteBasis::of(&after), stops, "{change}");
    }
    let failed = stored().failed(&passing());
    assert_eq!(
        PutBasis::of(&stored().version()),
        PutBasis::of(&failed.version()),
        "its own status is no change"
    );
}

#[test]
fn bytes_are_compared_whatever_the_key_shows_unless_that_is_another_format() {
    let key = |version: Fixture, file_name: &str| {
        let key = format!("network/{file_name}");
        version.with(json!({"spec": {"fileName": file_name}, "status": {"storage": {"key": key}}}))
    };
    let tar = json!({"spec": {"fileName": null, "moduleConfigRef": {"fileFormat": "tar"}}});
    for (version, file_name, compares) in [
        (pinned(), "first.zip", true),
        (pinned(), "VPC.ZIP", true),
        (pinned(), "vpc", true),
        (pinned(), "vpc.zip.1", true),
        (pinned().with(tar.clone()), "vpc.tgz", true),
        (pinned().with(tar.clone()), "VPC.Tar.Gz", true),
        (pinned().with(tar), "vpc", true),
    ] {
        let version = key(version, file_name);
        let differs = other_bytes(&version.version(), &version.target(), &other_modes());
        assert_eq!(differs, compares, "{file_name}");
        assert_eq!(
            compared(&version, &other_modes(), None, false).is_err(),
            compares,
            "{file_name} of an immutable version"
        );
    }
    for (file_name, format) in [("old.tgz", "zip"), ("OLD.ZIP", "tar")] {
        let version = pinned().with(json!({"status": {"storage": {"key": format!("network/{file_name}")}}}));
        let version =
            version.with(json!({"spec": {"fileName": null, "moduleConfigRef": {"fileFormat": format}}}));
        assert!(
            !other_bytes(&version.version(), &version.target(), &other_modes()),
            "{file_name} was {format}"
        );
    }
}

#[test]
fn a_file_name_of_refused_content_is_given_back_and_no_other() {
    const OURS: &str = "0197f3c2-9d5e-7cc3-98c4-dc0c0c07398f.zip";
    let named = |file_name: &str| stored().with(json!({"spec": {"fileName": file_name}}));
    let config = |change: Value| json!({"spec": {"moduleConfigRef": change}});
    let s3 = |change: Value| config(json!({"storageConfig": {"s3": change}}));
    let table = [
        ("for new content", named(OURS), Some("first.zip")),
        ("by a user", named("second.zip"), None),
        ("for nothing", stored(), None),
        ("by a user, without a time", named("f81d4fae-7dec-41d0-a765-00a0c91e6bf6.zip"), None),
        ("in a move to another prefix", named(OURS).with(s3(json!({"key": "team"}))), None),
        ("in a move to another bucket", named(OURS).with(s3(json!({"bucket": "cellar"}))), None),
        (
            "in a move to another repository",
            named(OURS).with(config(json!({"repoUrl": "https://github.com/acme/net"}))),
            None,
        ),
        (
            "for another format",
            named(&OURS.replace(".zip", ".tar.gz")).with(config(json!({"fileFormat": "tar"}))),
            None,
        ),
        ("and the object is lost", named(OURS).with(json!({"status": {"synced": false}})), None),
    ];
    for (what, version, expected) in table {
        let given = file_name_before(&version.version(), &version.target());
        assert_eq!(given.as_deref(), expected, "{what}");
    }
}
