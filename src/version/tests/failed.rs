//! Since when, and how often, attempts have failed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::failed::{is_new, keeps_status, new_attempt};
use super::super::memory::{Attempt, ChangeKey, Memories};
use super::{Fixture, at, passing, stored, version};
use crate::api::REQUESTED_AT;
use crate::api::target::Requests;
use crate::controller::failure::{Failure, HOURLY, Reason};

#[test]
fn an_outage_in_between_does_not_make_a_missing_tag_new() {
    let tag = Failure::new(Reason::TagNotFound, "no tag");
    let since = Timestamp::now() - HOURLY * 72;
    let first = new_attempt(None, None, &tag);
    let old = Attempt { since, content: Some((Reason::TagNotFound, since)), failures: 80, ..first };
    let outage = new_attempt(Some(old), None, &passing());
    assert!(outage.since > since);
    let again = new_attempt(Some(outage), None, &tag);
    assert_eq!((again.since, again.failures), (since, 82));
    assert!(again.ends - again.at > HOURLY / 2, "it is looked for hourly");
}

#[test]
fn a_refused_deletion_is_reported_although_the_version_failed_like_that_before() {
    let denied = Failure::retry(Reason::StorageAccessDenied, "denied");
    let is_new = |version: &Fixture| is_new(&version.version(), Reason::StorageAccessDenied);
    let failed = stored().failed(&denied);
    assert!(is_new(&stored()) && !is_new(&failed) && !is_new(&failed.clone().next_generation()));
    let deleted = failed.terminating().next_generation();
    assert!(is_new(&deleted) && !is_new(&deleted.failed(&denied)));
}

#[test]
fn a_new_token_that_is_not_accepted_yet_changes_nothing_in_a_stalled_status() {
    use Reason::{AccessForbidden, CredentialsRefused, NotAnArchive, RepositoryNotFound, TokenNotReady};
    let keeps = |version: &Fixture, is_stored, reason| {
        let version = version.version();
        keeps_status(&version, &Requests::of(&version), is_stored, reason)
    };
    let stalled = |reason| version().failed(&Failure::stalled(reason, "why"));
    for (reason, expected) in [
        (AccessForbidden, true),
        (RepositoryNotFound, true),
        (CredentialsRefused, true),
        (NotAnArchive, false),
    ] {
        assert_eq!(keeps(&stalled(reason), None, TokenNotReady), expected, "{reason}");
        assert!(!keeps(&stalled(reason), None, reason), "{reason}");
    }
    let forbidden = stalled(AccessForbidden);
    assert!(keeps(&forbidden, Some(false), TokenNotReady));
    assert!(!keeps(&forbidden, Some(true), TokenNotReady), "the object is not as the status says");
    for changed in [
        version(),
        version().failed(&passing()),
        forbidden.clone().next_generation(),
        forbidden.annotated(REQUESTED_AT, "now"),
    ] {
        assert!(!keeps(&changed, None, TokenNotReady));
    }
}

#[test]
fn only_the_same_failure_of_an_earlier_spec_counts_after_a_restart() {
    let since =
        |version: &Fixture, failure: &Failure| new_attempt(None, Some(&version.version()), failure).since;
    let long = "a".repeat(1000);
    for what in ["repository net has no tag v1.0.0: push it", "net.zip contains ../a", long.as_str()] {
        for reason in [Reason::TagNotFound, Reason::ArchiveUnsafe] {
            let failure = Failure::new(reason, what);
            let shown = failure.message_with_retry(at(4000), at(200));
            // `failed` says that it failed first at second 200.
            let failed = version().failed(&Failure { message: shown, ..failure.clone() });
            assert_eq!(since(&failed, &failure), at(200));
            let changed = failed.next_generation();
            assert_eq!(since(&changed, &failure), at(200), "{reason}: {what}");
            let other = Failure { message: format!("repository dns: {what}"), ..failure };
            assert_ne!(since(&changed, &other), at(200), "{reason}: {what}");
        }
    }
}

#[test]
fn failures_count_for_one_version_of_one_repository_in_one_store() {
    let subject = |change| ChangeKey::of(&stored().with(change).version()).subject;
    let config = |change: Value| json!({"spec": {"moduleConfigRef": change}});
    let plain = subject(json!({}));
    for same in [
        json!({"metadata": {"generation": 9, "annotations": {REQUESTED_AT: "now"}}}),
        json!({"spec": {"forceSync": true, "fileName": "second.zip"}}),
        config(json!({"repoUrl": "https://github.com/ACME/network.git"})),
        config(json!({"immutable": true, "deletionPolicy": "Retain"})),
    ] {
        assert_eq!(subject(same.clone()), plain, "{same}");
    }
    for other in [
        json!({"spec": {"version": "1.0.1"}}),
        config(json!({"repoUrl": "https://github.com/acme/net"})),
        config(json!({"storageConfig": {"s3": {"bucket": "other"}}})),
        config(json!({"storageConfig": {"s3": {"endpoint": "https://minio.example.com"}}})),
    ] {
        assert_ne!(subject(other.clone()), plain, "{other}");
    }
}

#[test]
fn missing_tags_are_counted_for_one_repository_of_one_namespace() {
    let memories = Memories::default();
    let key = |change| ChangeKey::of(&stored().with(change).version());
    let other_repository = json!({"spec": {"moduleConfigRef": {"repoUrl": "https://github.com/acme/net"}}});
    for (uid, change, content) in [
        ("old", json!({}), Some((Reason::TagNotFound, at(100)))),
        ("new", json!({"spec": {"version": "1.0.1"}}), Some((Reason::TagNotFound, at(200)))),
        ("unusable", json!({}), Some((Reason::ArchiveUnsafe, at(300)))),
        ("outage", json!({}), None),
        ("other repository", other_repository, Some((Reason::TagNotFound, at(300)))),
        (
            "other namespace",
            json!({"metadata": {"namespace": "other"}}),
            Some((Reason::TagNotFound, at(300))),
        ),
    ] {
        // A limit of GitHub in between changes nothing.
        let attempt = Attempt { key: key(change), content, ..new_attempt(None, None, &passing()) };
        memories.with(uid, |memory| memory.attempt = Some(attempt));
    }
    let since = |second| memories.missing_tags(key(json!({})).repository, at(second));
    assert_eq!([100, 101, 200, 201].map(since), [2, 1, 1, 0]);
    memories.forget("new");
    assert_eq!(since(0), 1);
}
