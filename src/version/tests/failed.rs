//! Since when, and how often, attempts have failed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::failed::new_attempt;
use super::super::retry::{Attempt, ChangeKey};
use super::{Fixture, at, passing, stored, version};
use crate::api::REQUESTED_AT;
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
fn a_failure_of_an_earlier_spec_does_not_count_after_a_restart() {
    let since =
        |version: &Fixture, failure: &Failure| new_attempt(None, Some(&version.version()), failure).since;
    for failure in [Failure::new(Reason::TagNotFound, ""), Failure::new(Reason::ArchiveUnsafe, "")] {
        // `failed` says that it failed first at second 200.
        let failed = version().failed(&failure);
        assert_eq!(since(&failed, &failure), at(200));
        assert_ne!(since(&failed.next_generation(), &failure), at(200));
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
