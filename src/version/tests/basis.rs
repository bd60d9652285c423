//! Which changes of a Version end the work that was begun on it.

use serde_json::{Value, json};

use super::{Fixture, passing, stored, version};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::version::basis::is_superseded;

fn config(change: &Value) -> Value {
    json!({"spec": {"moduleConfigRef": change}})
}

/// Whether a change ends a publish, and whether it ends other work.
fn ends(before: &Fixture, change: Value) -> (bool, bool) {
    let now = before.clone().with(change).next_generation().version();
    let ends = |publishes| is_superseded(&before.version(), &now, publishes, &[]);
    (ends(true), ends(false))
}

fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

#[test]
fn a_change_that_asks_for_something_else_ends_all_work() {
    for change in [
        deleted(),
        json!({"spec": {"suspend": true}}),
        json!({"spec": {"moduleSuspended": true}}),
        json!({"metadata": {"uid": "another"}}),
        json!({"spec": {"fileName": "other.zip"}}),
        json!({"spec": {"fileName": null}}),
        json!({"spec": {"expectedDigest": "h1:expected"}}),
        json!({"spec": {"moduleConfigRef": null}}),
        config(&json!({"repoUrl": "https://github.com/acme/net"})),
        config(&json!({"name": "net"})),
        config(&json!({"fileFormat": "tar"})),
        config(&json!({"immutable": true})),
        config(&json!({"storageConfig": {"s3": {"bucket": "attic"}}})),
        config(&json!({"storageConfig": {"s3": {"key": "below"}}})),
        config(&json!({"storageConfig": {"s3": {"region": "eu-central-1"}}})),
        config(&json!({"storageConfig": {"s3": {"endpoint": "https://s3.example"}}})),
        config(&json!({"storageConfig": {"s3": {"serverSideEncryption": "AES256"}}})),
        config(&json!({"githubClientConfig": {"useAuthenticatedClient": true}})),
    ] {
        assert_eq!(ends(&version(), change.clone()), (true, true), "{change}");
    }
    let authenticated = json!({"githubClientConfig": {"useAuthenticatedClient": true, "secretName": "one"}});
    let authenticated = version().with(config(&authenticated));
    let other_secret = config(&json!({"githubClientConfig": {"secretName": "two"}}));
    assert_eq!(ends(&authenticated, other_secret), (true, true));
}

#[test]
fn the_deletion_policy_ends_a_deletion_and_no_publish() {
    let retain = config(&json!({"deletionPolicy": "Retain"}));
    assert_eq!(ends(&version(), retain.clone()), (false, true));
    let terminating = stored().with(deleted());
    assert!(is_superseded(
        &terminating.version(),
        &terminating.with(retain).next_generation().version(),
        false,
        &[]
    ));
}

#[test]
fn what_asks_for_the_same_ends_no_work() {
    for change in [
        json!({"spec": {"forceSync": true}}),
        json!({"metadata": {"resourceVersion": "11", "labels": {"team": "a"}}}),
        json!({"metadata": {"finalizers": null}}),
        config(&json!({"provider": "google"})),
        config(&json!({"repoUrl": "https://github.com/acme/network.git"})),
        config(&json!({"githubClientConfig": {"secretName": "unused"}})),
    ] {
        assert_eq!(ends(&version(), change.clone()), (false, false), "{change}");
    }
    for now in [
        version().failed(&passing()),
        version().published(),
        version().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token"),
    ] {
        assert!(!is_superseded(&version().version(), &now.version(), true, &[]));
    }
    let corrected = config(&json!({"repoUrl": "https://github.com/acme/net"}));
    assert_eq!(
        ends(&stored().with(deleted()), corrected),
        (false, false),
        "a deletion needs no spec that can be used"
    );
}

#[test]
fn a_fresh_file_name_of_the_work_itself_ends_it_only_along_with_another_change() {
    let own = ["second.zip".into(), "third.zip".into()];
    for (file_name, repository, ends) in
        [("third.zip", "network", false), ("second.zip", "net", true), ("other.zip", "network", true)]
    {
        let mut change = config(&json!({"repoUrl": format!("https://github.com/acme/{repository}")}));
        change["spec"]["fileName"] = json!(file_name);
        let now = version().with(change).next_generation().version();
        assert_eq!(
            is_superseded(&version().version(), &now, true, &own),
            ends,
            "{file_name} of {repository}"
        );
    }
}
