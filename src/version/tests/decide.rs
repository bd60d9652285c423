//! What a decision is, with and without a failed attempt, after a restart, and that every Version settles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::decide::{Facts, Lane, NextAction, Seen, decide};
use super::super::memory::{Attempt, ChangeKey};
use super::super::publish_delay::account_in_status;
use super::super::rate_limits::{RateLimits, account};
use super::{Fixture, at, inline, passing, proof, stalled, stored, version};
use crate::api::target::{Requests, satisfies_spec};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::text::NEXT_ATTEMPT;
use crate::github::FetchError;

const DAY: Duration = Duration::from_hours(24);
const NOW: i64 = 1_000_000;

/// A process that has just become leader and remembers nothing.
fn facts() -> Facts<'static> {
    Facts {
        attempt: None,
        verify_interval: Some(DAY),
        now: at(NOW),
        leading_since: at(NOW),
        verified: None,
        seen: None,
        fate: Fate::Delete,
        awaits_digest: false,
        tries_now: false,
    }
}

fn word(action: &NextAction) -> &'static str {
    match action {
        NextAction::Ignore => "ignore",
        NextAction::Rest(_) => "rest",
        NextAction::Wait(_) => "wait",
        NextAction::AwaitModule => "await Module",
        NextAction::AddFinalizer => "finalizer",
        NextAction::Delete => "delete",
        NextAction::Release => "release",
        NextAction::Suspend => "suspend",
        NextAction::Reject(_) => "reject",
        NextAction::ResetForce => "reset",
        NextAction::Publish(_) => "publish",
        NextAction::Verify(_) => "verify",
        NextAction::VerifyRecorded => "verify recorded",
        NextAction::CleanUp(_) => "clean up",
        NextAction::Record(_) => "record",
    }
}

fn decision(version: &Fixture) -> NextAction {
    decide(&version.version(), &facts())
}

/// The decision of a process that remembers an attempt for another change, so that nothing is spread after a restart.
fn with_seen(version: &Fixture, seen: Option<Seen>) -> NextAction {
    let attempt = attempt_for(ChangeKey::of(&inline().annotated(REQUESTED_AT, "elsewhere").version()), NOW);
    decide(&version.version(), &Facts { attempt: Some(&attempt), seen, verify_interval: None, ..facts() })
}

fn of(version: &Fixture) -> &'static str {
    word(&with_seen(version, None))
}

fn after_a_look(version: &Fixture) -> &'static str {
    word(&with_seen(version, Some(Seen { other_format: false })))
}

fn attempt_for(key: ChangeKey, due: i64) -> Attempt {
    Attempt {
        failures: 1,
        reason: Reason::TagNotFound,
        since: at(0),
        content: None,
        at: Instant::now(),
        ends: Instant::now(),
        due: at(due),
        key,
        secret: None,
        download: None,
        account: None,
    }
}

fn moved(version: Fixture) -> Fixture {
    version.with(json!({"spec": {"fileName": "second.zip"}})).next_generation()
}

#[test]
fn a_failed_move_that_is_undone_needs_a_look_and_no_fetch() {
    let missing = Failure::retry(Reason::TagNotFound, "no tag");
    let failed = moved(stored()).failed(&missing);
    assert_eq!(of(&failed), "publish", "it is still to be moved");
    let back = failed.with(json!({"spec": {"fileName": "first.zip"}})).next_generation();
    // A new process decides in the same way.
    assert_eq!((of(&back), word(&decision(&back))), ("verify", "verify"));
    // A refetch of what is stored failed: the change of the spec concerns something else, and it is still to be fetched.
    assert_eq!(of(&stored().failed(&missing).next_generation()), "publish");
    // Nothing was changed back.
    assert_eq!(of(&stored().failed(&missing)), "publish");
}

/// As suspended by a user, and resumed.
fn paused(version: Fixture) -> Fixture {
    let version = version.with(json!({"spec": {"suspend": true}})).next_generation();
    let status = version.current().suspended("a user", at(250));
    version.with_status(&status).with(json!({"spec": {"suspend": false}})).next_generation()
}

#[test]
fn a_failure_of_what_is_stored_outlasts_failed_detours_that_are_undone() {
    let stall = || Failure::stalled(Reason::ImmutableContentChanged, "another digest");
    let config = |change: Value| json!({"spec": {"moduleConfigRef": change}});
    let bucket = |name: &str| config(json!({"storageConfig": {"s3": {"bucket": name}}}));
    let url = |host: &str| config(json!({"repoUrl": format!("https://{host}/acme/network")}));
    let missing = || Failure::retry(Reason::TagNotFound, "no tag");
    let back = |version: Fixture, change: &Value| {
        version.with(change.clone()).with(json!({"spec": {"fileName": "first.zip"}})).next_generation()
    };
    let stalled_later = back(moved(stored()).failed(&missing()), &json!({})).failed(&stall());
    let starts = [
        (stored(), "verify"),
        (stored().failed(&stall()), "publish"),
        (paused(stored().failed(&stall())), "publish"),
        (stalled_later, "publish"),
    ];
    let more: [fn(Fixture, &Failure) -> Fixture; 6] = [
        |version, _| version,
        |version, failure| moved(version).failed(failure),
        |version, _| paused(version),
        |version, failure| moved(paused(version)).failed(failure),
        |version, failure| paused(moved(version).failed(failure)),
        |version, failure| {
            let status = version.current().publishing(&version.target().location, at(300));
            version.with_status(&status).failed(failure).failed(failure)
        },
    ];
    for (there, here, failure) in [
        (bucket("other"), bucket("shelf"), Failure::stalled(Reason::StorageNotAllowed, "")),
        (bucket("other"), bucket("shelf"), stall()),
        (url("git.example.com"), url("github.com"), Failure::stalled(Reason::HostNotAllowed, "")),
        (url("git.example.com"), url("github.com"), missing()),
    ] {
        for (start, (begins, expected)) in starts.iter().enumerate() {
            for (detour, more) in more.iter().enumerate() {
                let case = format!("{}, start {start}, detour {detour}", failure.reason);
                let away = begins.clone().with(there.clone()).next_generation();
                let back = back(more(away.failed(&failure), &failure), &here);
                assert_eq!(of(&back), *expected, "{case}");
                let outage = back.failed(&storage_failure());
                assert_eq!(of(&outage), *expected, "{case}, and an outage of the store");
            }
        }
    }
}

fn storage_failure() -> Failure {
    Failure::retry(Reason::StorageUnavailable, "S3 is away")
}

fn secret(name: &str) -> Value {
    json!({"spec": {"moduleConfigRef": {"githubClientConfig": {"secretName": name}}}})
}

#[test]
fn the_steps_in_their_order() {
    let suspended = json!({"spec": {"suspend": true}});
    let broken = json!({"spec": {"version": "latest"}});
    let kept = Failure::retry(Reason::OldObjectKept, "");
    let done = version().forced().published();
    let table = [
        ("going", stored().with(broken.clone()).terminating(), "delete"),
        ("gone", inline().terminating(), "ignore"),
        ("without finalizer", inline(), "finalizer"),
        ("suspended", stored().with(suspended.clone()), "suspend"),
        ("suspended and forced", stored().with(suspended).forced(), "suspend"),
        ("suspended by its Module", stored().with(json!({"spec": {"moduleSuspended": true}})), "suspend"),
        ("broken", version().with(broken.clone()), "reject"),
        ("broken after it was stored", stored().with(broken).next_generation(), "reject"),
        ("without configuration", version().with(json!({"spec": {"moduleConfigRef": null}})), "reject"),
        ("with a Secret without a name", version().with(secret("")), "reject"),
        ("with a Secret's longest name", version().with(secret(&"a".repeat(253))), "publish"),
        ("with a Secret's name that is too long", version().with(secret(&"a".repeat(254))), "reject"),
        ("unreadable", version().with(json!({"spec": {"version": 1}})), "reject"),
        ("named as the other format", version().with(json!({"spec": {"fileName": "a.tar.gz"}})), "reject"),
        (
            "of a format that its name contradicts",
            stored().with(json!({"spec": {"moduleConfigRef": {"fileFormat": "tar"}}})).next_generation(),
            "reject",
        ),
        ("named as neither format", version().with(json!({"spec": {"fileName": "a.bin"}})), "publish"),
        ("new", version(), "publish"),
        ("stored", stored(), "rest"),
        ("forced", stored().forced(), "publish"),
        ("asked", stored().annotated(REQUESTED_AT, "now"), "publish"),
        ("asked by its Module", stored().annotated(MODULE_REQUEST, "token"), "publish"),
        ("forced and done", done.clone(), "reset"),
        ("forced and done, and written since", done.next_generation(), "publish"),
        ("to be moved", moved(stored()), "publish"),
        ("moved", moved(stored()).published(), "verify"),
        ("moved, the clean-up failed", moved(stored()).published().failed(&kept), "verify"),
        (
            "of another repository",
            stored()
                .with(json!({"spec": {"moduleConfigRef": {"repoUrl": "https://github.com/acme/net"}}}))
                .next_generation(),
            "publish",
        ),
        ("failed", version().failed(&passing()), "publish"),
        ("stored, the refetch refused", stored().failed(&stalled()), "publish"),
        ("stored, the bucket out of reach", stored().failed(&storage_failure()), "verify"),
        ("not stored, the bucket out of reach", version().failed(&storage_failure()), "publish"),
        ("forced, the bucket out of reach", stored().forced().failed(&storage_failure()), "reset"),
        ("given what it holds", stored().with(json!({"spec": {"expectedDigest": "h1:first"}})), "rest"),
        ("given another content", stored().with(json!({"spec": {"expectedDigest": "h1:other"}})), "publish"),
        ("of a new generation", stored().next_generation(), "record"),
        ("restored from a backup", stored().restored(), "verify"),
        ("done, the reset seen", stored().with(json!({"status": {"pendingForce": "done:4"}})), "record"),
    ];
    for (what, version, expected) in table {
        assert_eq!(of(&version), expected, "{what}");
    }
    for moved in [moved(stored()).published(), moved(stored()).published().failed(&kept)] {
        assert_eq!(after_a_look(&moved), "clean up", "only once the object itself was seen");
    }
    assert_eq!(after_a_look(&stored().failed(&storage_failure())), "record");
    let other_format = Some(Seen { other_format: true });
    assert_eq!(word(&with_seen(&stored().next_generation(), other_format)), "publish");
    let extensionless = version().with(json!({"spec": {"fileName": "module"}})).published();
    assert_eq!((of(&extensionless), of(&extensionless.next_generation())), ("rest", "verify"));
    let restoring = stored().current().restoring("lost", at(300));
    assert_eq!(of(&stored().with_status(&restoring)), "publish");
    let resumed = stored().current().suspended("a user", at(300));
    assert_eq!(of(&stored().with_status(&resumed)), "record", "resuming costs no fetch");
    let resumed = stored().restored().current().suspended("a user", at(1200));
    assert_eq!(of(&stored().restored().with_status(&resumed)), "verify", "it is not verified yet");
    for (failure, expected) in
        [(stalled(), "publish"), (passing(), "publish"), (storage_failure(), "verify"), (kept, "verify")]
    {
        let failed = stored().failed(&failure);
        let resumed = failed.current().suspended("a user", at(300));
        assert_eq!(
            of(&failed.with_status(&resumed)),
            expected,
            "{}: what failed is looked into",
            failure.reason
        );
        let outage = stored().failed(&failure).failed(&storage_failure());
        assert_eq!(of(&outage), expected, "{}, then an outage of the store", failure.reason);
    }
    let moving = moved(stored());
    let moving = moving.clone().with_status(&moving.current().publishing(&moving.target().location, at(300)));
    let back = moving.with(json!({"spec": {"fileName": "first.zip"}})).next_generation();
    assert_eq!(
        (of(&back), after_a_look(&back)),
        ("verify", "clean up"),
        "what was begun at the other location is taken away again"
    );
    let unsaid = stored().with(json!({"status": {"conditions": null}}));
    assert_eq!(of(&unsaid), "verify", "nothing is said of it: it is looked at first");
}

#[test]
fn a_force_lives_until_its_outcome_is_written() {
    for (failure, pending, left) in [(passing(), "retry:5", Some("retry:5")), (stalled(), "done:5", None)] {
        let failed = stored().forced().failed(&failure);
        assert_eq!(failed.status().pending_force.as_deref(), Some(pending));
        assert_eq!(of(&failed), "reset");
        let reset = failed.with(json!({"spec": {"forceSync": false}})).next_generation();
        let observed = reset.current().observed();
        assert_eq!(observed.pending_force.as_deref(), left);
        let reset = reset.with_status(&observed);
        assert_eq!(of(&reset), "publish");
        assert_eq!(
            Requests::of(&reset.version()).any(),
            left.is_some(),
            "only a force that is pending is a full sync"
        );
        assert!(
            Requests::of(&reset.clone().next_generation().forced().version()).force_sync,
            "it works again"
        );
        let after = reset.published();
        assert_eq!((after.status().pending_force, of(&after)), (None, "rest"));
    }
}

#[test]
fn an_archive_under_another_format_s_name_is_made_anew_once_that_is_corrected() {
    let format = |format: &str| json!({"spec": {"moduleConfigRef": {"fileFormat": format}}});
    let misnamed = stored().with(format("tar")).next_generation();
    let NextAction::Reject(failure) = decision(&misnamed) else { panic!("{:?}", decision(&misnamed)) };
    let start = r#"spec.fileName is "first.zip", and moduleConfigRef.fileFormat is tar"#;
    assert!(failure.message.starts_with(start), "{}", failure.message);
    let rejected = misnamed.failed(&failure);
    // The bytes may be those of either format: an early release stored a tar under this name.
    assert_eq!(of(&rejected.clone().with(format("zip")).next_generation()), "publish");
    let renamed = json!({"spec": {"fileName": "first.tar.gz"}});
    assert_eq!(of(&rejected.with(renamed).next_generation()), "publish", "to another location");
    let other = Failure::stalled(Reason::InvalidSpec, "moduleConfig.repoUrl: no");
    assert_eq!(
        of(&stored().failed(&other).next_generation()),
        "verify",
        "what was wrong does not touch the bytes"
    );
}

fn lane(action: &NextAction) -> Option<Lane> {
    action.lane()
}

#[test]
fn which_queue_each_decision_waits_in() {
    let original = json!({"metadata": {"finalizers": ["opendepot.defdev.io/finalizer"]}});
    let unfinalized = json!({"metadata": {"finalizers": null}});
    let suspended = json!({"spec": {"suspend": true}});
    let by_module = json!({"spec": {"moduleSuspended": true}});
    let table = [
        ("a Provider", version().with(json!({"spec": {"type": "Provider"}})), None),
        ("another's, without our finalizer", version().with(unfinalized.clone()), None),
        ("the original's", inline().with(original), None),
        ("let go already", inline().terminating(), None),
        ("inline and new", inline(), Some(Lane::Api)),
        ("going", stored().terminating(), Some(Lane::Light)),
        (
            "going while suspended and forced",
            stored().with(suspended.clone()).forced().terminating(),
            Some(Lane::Light),
        ),
        ("to be suspended", stored().with(suspended.clone()).next_generation(), Some(Lane::Api)),
        ("to be suspended by its Module", stored().with(by_module).next_generation(), Some(Lane::Api)),
        ("suspended before it was stored", version().with(suspended), Some(Lane::Api)),
        ("new", version(), Some(Lane::Publish)),
        ("of a new generation", stored().next_generation(), Some(Lane::Api)),
        ("with something left behind", left_behind(), Some(Lane::Light)),
        ("failed for a passing reason", version().failed(&passing()), Some(Lane::Publish)),
        ("stored, but a refetch failed", stored().failed(&passing()), Some(Lane::Publish)),
        ("its force to be reset", stored().forced().failed(&passing()), Some(Lane::Api)),
    ];
    for (what, version, expected) in table {
        // Whatever pause there is after a restart.
        let action = decide(&version.version(), &Facts { tries_now: true, ..facts() });
        assert_eq!(lane(&action), expected, "{what}");
    }
}

#[test]
fn a_deletion_that_keeps_the_objects_needs_no_store() {
    let going = stored().terminating().version();
    for (fate, expected) in
        [(Fate::Delete, "delete"), (Fate::Keep, "release"), (Fate::Undecided, "await Module")]
    {
        assert_eq!(word(&decide(&going, &Facts { fate, ..facts() })), expected);
    }
    let keep = decide(&going, &Facts { fate: Fate::Keep, ..facts() });
    assert_eq!(keep.lane(), Some(Lane::Api));
}

fn left_behind() -> Fixture {
    let elsewhere = json!({"bucket": "shelf", "key": "network/old.zip", "region": "us-west-2"});
    let here = stored().0["status"]["storage"].clone();
    stored().with(json!({"status": {"objects": [elsewhere, here]}}))
}

#[test]
fn what_is_stored_and_said_waits_for_its_verification() {
    assert!(matches!(decision(&stored()), NextAction::Rest(Some(due)) if due > at(NOW)));
    let lost = stored().with(json!({"status": {"checksum": null}}));
    assert_eq!(word(&decision(&lost)), "publish", "without a checksum it is not known what is stored");
    let never = Facts { verify_interval: None, ..facts() };
    assert!(matches!(decide(&stored().version(), &never), NextAction::Rest(None)));
    let late = Facts { leading_since: at(0), ..facts() };
    assert_eq!(word(&decide(&stored().version(), &late)), "verify");
    let seen = Facts { verified: Some(at(NOW)), seen: Some(Seen { other_format: false }), ..late };
    assert_eq!(word(&decide(&stored().version(), &seen)), "rest");
}

#[test]
fn a_version_that_was_restored_with_its_status_is_verified_once() {
    let restored = stored().restored();
    assert_eq!(word(&decision(&restored)), "verify");
    assert_eq!(after_a_look(&restored), "record");
    let verified = restored.current().settled(at(NOW));
    let verified = restored.with_status(&verified);
    assert!(
        matches!(decision(&verified), NextAction::Rest(Some(due)) if due > at(NOW)),
        "after a restart too"
    );
    // Its clock may be behind that of the API server.
    assert_eq!(of(&version().restored().published()), "rest");
}

#[test]
fn suspension_is_said_once_and_holds_back_every_request() {
    for field in ["suspend", "moduleSuspended"] {
        let version = stored().with(json!({"spec": {field: true}})).next_generation().forced();
        let said = version.current().suspended("a user", at(300));
        assert!(matches!(decision(&version.with_status(&said)), NextAction::Rest(None)), "{field}");
    }
}

#[test]
fn requests_are_work_until_they_are_handled() {
    for version in [
        stored().forced(),
        stored().annotated(REQUESTED_AT, "now"),
        stored().annotated(REQUESTED_AT, ""),
        stored().annotated(MODULE_REQUEST, "token"),
        stored().with(json!({"status": {"pendingForce": "retry:4"}})),
    ] {
        assert_eq!(word(&decision(&version)), "publish", "{:?}", version.0);
    }
    for version in [version().annotated(REQUESTED_AT, "now"), version().annotated(MODULE_REQUEST, "token")] {
        assert!(matches!(decision(&version.published()), NextAction::Rest(Some(_))));
    }
}

#[test]
fn a_failed_attempt_waits_until_it_is_due_or_something_changes() {
    let failed = version().failed(&passing());
    let judge = |version: &Fixture, due| {
        let attempt = attempt_for(ChangeKey::of(&failed.version()), due);
        decide(&version.version(), &Facts { attempt: Some(&attempt), leading_since: at(0), ..facts() })
    };
    assert!(matches!(judge(&failed, NOW + 60), NextAction::Wait(due) if due == at(NOW + 60)));
    assert_eq!(word(&judge(&failed, NOW)), "publish");
    for changed in [
        failed.clone().next_generation(),
        failed.clone().annotated(REQUESTED_AT, "now"),
        failed.clone().annotated(MODULE_REQUEST, "token"),
    ] {
        assert_eq!(word(&judge(&changed, NOW + 60)), "publish");
    }
    assert_eq!(word(&judge(&failed.clone().terminating().next_generation(), NOW + 60)), "delete");
    // Other annotations are no change.
    assert_eq!(word(&judge(&failed.clone().annotated("kubectl", "was here"), NOW + 60)), "wait");
}

/// The decision about a Version that waits after a failure for ten days.
fn while_waiting(version: &Fixture, reason: Reason, leading_since: i64, seen: Option<Seen>) -> NextAction {
    let version = version.version();
    let attempt = Attempt { reason, ..attempt_for(ChangeKey::of(&version), NOW + 10 * 24 * 3600) };
    decide(&version, &Facts { attempt: Some(&attempt), leading_since: at(leading_since), seen, ..facts() })
}

#[test]
fn an_object_is_verified_while_its_version_waits_after_a_failure() {
    let failed = || stored().failed(&stalled());
    let seen = Some(Seen { other_format: false });
    let suspended = json!({"spec": {"suspend": true}});
    let lost = || failed().with(json!({"status": {"synced": false}}));
    let misnamed = json!({"spec": {"fileName": "first.tar.gz"}});
    let other_repository = json!({"spec": {"moduleConfigRef": {"repoUrl": "https://github.com/acme/net"}}});
    for (what, version, reason, seen, expected) in [
        ("stalled", failed(), Reason::ImmutableContentChanged, None, "verify"),
        ("limited", failed(), Reason::RateLimited, None, "verify"),
        ("just seen", failed(), Reason::RateLimited, seen, "wait"),
        ("the store failed", failed(), Reason::StorageThrottled, None, "wait"),
        ("never stored", version().failed(&stalled()), Reason::NotAnArchive, None, "wait"),
        ("suspended", failed().with(suspended), Reason::RateLimited, None, "wait"),
        ("being deleted", failed().terminating(), Reason::RateLimited, None, "wait"),
        ("lost, perhaps with its bucket", lost(), Reason::TagNotFound, None, "verify recorded"),
        ("lost, and each attempt looks for it", lost(), Reason::BucketNotFound, None, "wait"),
        ("the failure is not in the status", stored(), Reason::ApiUnavailable, None, "wait"),
        // No attempt looks at the recorded object.
        ("of a host that is not allowed", failed(), Reason::HostNotAllowed, None, "verify recorded"),
        ("of such a host, and lost", lost(), Reason::HostNotAllowed, None, "verify recorded"),
        ("wanted elsewhere", moved(failed()), Reason::NotAnArchive, None, "verify recorded"),
        ("wanted in a failing store", moved(failed()), Reason::BucketNotFound, None, "verify recorded"),
        ("wanted elsewhere and just seen", moved(failed()), Reason::BucketNotFound, seen, "wait"),
        ("wanted elsewhere and lost", moved(lost()), Reason::BucketNotFound, None, "verify recorded"),
        (
            "of another repository",
            failed().with(other_repository),
            Reason::TagNotFound,
            None,
            "verify recorded",
        ),
        ("of an invalid spec", failed().with(misnamed.clone()), Reason::InvalidSpec, None, "verify recorded"),
        ("of an invalid spec, never stored", version().with(misnamed), Reason::InvalidSpec, None, "wait"),
    ] {
        assert_eq!(word(&while_waiting(&version, reason, 0, seen)), expected, "{what}");
    }
    for version in [failed(), moved(failed())] {
        let later = while_waiting(&version, Reason::RateLimited, NOW, None);
        assert!(
            matches!(later, NextAction::Wait(due) if due > at(NOW) && due <= at(NOW + 24 * 3600)),
            "{later:?}"
        );
    }
    let soon = while_waiting(&lost(), Reason::TagNotFound, NOW, None);
    assert!(matches!(soon, NextAction::Wait(due) if due > at(NOW) && due <= at(NOW + 600)), "{soon:?}");
    let never = Facts { verify_interval: None, ..facts() };
    let version = moved(failed()).version();
    let attempt = attempt_for(ChangeKey::of(&version), NOW + 60);
    assert_eq!(
        word(&decide(&version, &Facts { attempt: Some(&attempt), leading_since: at(0), ..never })),
        "wait"
    );
    assert_eq!(NextAction::VerifyRecorded.lane(), Some(Lane::Light));
    let config =
        json!({"storageConfig": {"s3": {"bucket": "another", "endpoint": "https://minio.example.com"}}});
    let elsewhere = stored().with(json!({"spec": {"moduleConfigRef": config}})).version();
    let (here, there) = (stored().version().store_key(), elsewhere.store_key());
    assert_ne!(here, there);
    assert_eq!(
        (NextAction::VerifyRecorded.store(&elsewhere), NextAction::Suspend.store(&elsewhere)),
        (here, there)
    );
}

#[test]
fn an_archive_of_another_format_counts_as_verified_only_while_its_version_cannot_rest() {
    let is_verification =
        |version: &Fixture, other_format| Seen { other_format }.is_verification(&version.version());
    let (ready, failed) = (stored(), stored().failed(&passing()));
    assert_eq!((is_verification(&ready, false), is_verification(&ready, true)), (true, false));
    assert_eq!((is_verification(&failed, false), is_verification(&failed, true)), (true, true));
}

#[test]
fn after_a_restart_what_waits_for_a_person_still_does() {
    let stalled = Failure::stalled(Reason::RepositoryNotFound, "");
    for version in [version().failed(&stalled), stored().failed(&stalled)] {
        let NextAction::Wait(due) = decision(&version) else { panic!("{:?}", decision(&version)) };
        assert!(due > at(NOW) && due <= at(NOW + 3600));
        assert_eq!(word(&decision(&version.next_generation())), "publish", "a change is looked at");
    }
    // A restart may have brought the flag, and finding out costs nothing.
    let flag = Failure::stalled(Reason::StorageNotAllowed, "");
    assert_eq!(word(&decision(&version().failed(&flag))), "publish");
}

#[test]
fn an_object_is_verified_while_its_version_waits_after_a_restart() {
    let interval = Duration::from_secs(2);
    let decided = |version: &Fixture, verified: Option<i64>, seen| {
        let now = at(NOW + 3);
        let verified = verified.map(at);
        let facts = Facts { verify_interval: Some(interval), now, verified, seen, ..facts() };
        decide(&version.version(), &facts)
    };
    let stalled = Failure::stalled(Reason::RepositoryNotFound, "");
    let failed = stored().failed(&stalled);
    assert_eq!(word(&decided(&failed, None, None)), "verify");
    let elsewhere = moved(stored()).failed(&stalled);
    assert_eq!(word(&decided(&elsewhere, None, None)), "verify recorded");
    // The intact object is no reason to ask GitHub.
    assert_eq!(word(&decided(&failed, None, Some(Seen { other_format: false }))), "wait");
    let next = decided(&failed, Some(NOW + 3), None);
    assert!(matches!(next, NextAction::Wait(due) if due <= at(NOW + 5)), "{next:?}");
    assert_eq!(word(&decided(&failed.next_generation(), None, None)), "publish");
}

#[test]
fn after_a_restart_what_its_content_stalls_for_more_than_a_day_waits_for_its_time_of_day() {
    // `failed` says that it stalled at second 200.
    let waits = |reason, uid: &str, now: i64| {
        let stalled = version().failed(&Failure::stalled(reason, ""));
        let version = stalled.with(json!({"metadata": {"uid": uid}})).version();
        match decide(&version, &Facts { now: at(now), leading_since: at(now), ..facts() }) {
            NextAction::Wait(due) => due.as_second() - now,
            other => panic!("{other:?}"),
        }
    };
    let longest = |reason, now| (0..200).map(|n| waits(reason, &format!("uid-{n}"), now)).max().unwrap();
    let day = 24 * 3600;
    for reason in [Reason::ArchiveUnsafe, Reason::ImmutableContentChanged, Reason::ArchiveCorrupt] {
        assert!(longest(reason, 200 + day - 1) <= 3600, "{reason} on the first day");
        assert!((day / 2..=day).contains(&longest(reason, 200 + day)), "{reason} after it");
    }
    // A restart may have brought the limit.
    for reason in [Reason::ArchiveTooLarge, Reason::RepositoryNotFound, Reason::ObjectNotOurs] {
        assert!(longest(reason, 200 + 30 * day) <= 3600, "{reason}");
    }
    // Restarts that come often do not bring it forward: the time of day is fixed by the UID.
    let due = |now| now + waits(Reason::ArchiveUnsafe, "uid", now);
    let first = due(10 * day);
    assert!((10 * day..first).step_by(600).all(|now| due(now) == first));
    let asked = version().failed(&Failure::stalled(Reason::ArchiveUnsafe, "")).next_generation();
    assert_eq!(word(&decision(&asked)), "publish", "a change is looked at");
}

#[test]
fn after_a_restart_what_waited_for_github_still_does_unless_somebody_asks_again() {
    let until = at(NOW + 600);
    let limit = FetchError::RateLimited { host: "api.github.com".into(), until, secondary: false };
    let limited = |version: Fixture| version.failed(&limit.clone().into());
    for version in [version(), stored(), stored().forced()] {
        let asked_before = version.0["spec"]["forceSync"] == true;
        let version = limited(version).with(json!({"spec": {"forceSync": false}}));
        assert_eq!(version.version().status.pending_force.is_some(), asked_before);
        let shortly_after = until + Duration::from_secs(1)..=until + Duration::from_secs(6);
        let mut times = BTreeSet::new();
        for n in 0..100 {
            let version = version.clone().with(json!({"metadata": {"uid": format!("uid-{n}")}}));
            let action = decide(&version.version(), &Facts { verify_interval: None, ..facts() });
            let NextAction::Wait(due) = action else { panic!("{action:?}") };
            assert!(shortly_after.contains(&due), "{due}");
            times.insert(due);
        }
        assert!(times.len() > 90, "thousands that wait for one limit do not come at once: {times:?}");
        assert_eq!(word(&decision(&version.clone().annotated(REQUESTED_AT, "now"))), "publish");
        assert_eq!(word(&decision(&version.clone().annotated(MODULE_REQUEST, "now"))), "publish");
        assert_eq!(word(&decision(&version.next_generation())), "publish", "a change is looked at");
    }
    let known = |version: &Fixture, now| {
        account_in_status(&version.version(), at(NOW), at(now)).map(|account| account == account_of(version))
    };
    let version = limited(version());
    assert_eq!(known(&version, NOW + 700), Some(true), "it may be limited again");
    assert_eq!(known(&version, NOW + 3600), None, "its status names the current limit");
    assert_eq!(known(&version.clone().annotated(REQUESTED_AT, "now"), NOW + 700), None);
    assert_eq!(known(&version.clone().next_generation(), NOW + 700), None);
    assert_eq!(known(&stored().failed(&passing()), NOW + 700), None);
}

fn account_of(version: &Fixture) -> u64 {
    account(&version.version(), &version.target())
}

#[test]
fn a_limit_in_a_status_applies_to_all_versions_of_its_account_until_its_time() {
    let now = jiff::Timestamp::now().as_second();
    let limit = |second| {
        let until = at(now + second);
        FetchError::RateLimited { host: "api.github.com".into(), until, secondary: true }
    };
    let limited = |second| version().failed(&limit(second).into());
    let account = account_of(&version());
    let limits = RateLimits::default();
    limits.recall(&[limited(600), limited(300)].map(|fixture| Arc::new(fixture.version())));
    // The Versions have resourceVersion 10, and are not ready since second 200, whenever they met the limit.
    let recalled = |secret: Option<&str>, second| {
        limits.recalled(account, secret, at(now + second)).map(|error| error.to_string())
    };
    let limited_until = Some(limit(600).to_string());
    assert_eq!(recalled(Some("9"), 599), limited_until);
    assert_eq!(
        recalled(Some("11"), 599),
        None,
        "a Secret that was written since may contain another credential"
    );
    let later = limited(600).with(json!({"metadata": {"resourceVersion": "12"}}));
    limits.recall(&[later, limited(600)].map(|fixture| Arc::new(fixture.version())));
    assert_eq!(recalled(Some("11"), 599), limited_until, "its credential met the limit too");
    assert_eq!(recalled(None, 599), limited_until, "requests without a credential");
    assert!(limits.recalled(!account, None, at(now)).is_none());
    assert_eq!(recalled(None, 600), None);

    let (host, until) = ("github.com".to_owned(), at(now + 600));
    let repository = Some("https://github.com/acme/net".into());
    let page = FetchError::Blocked { host, until, repository, authenticated: false };
    let others = [version().failed(&page.into()), limited(-1), limited(600).next_generation(), stored()];
    limits.recall(&others.map(|fixture| Arc::new(fixture.version())));
    assert_eq!(
        recalled(None, 0),
        None,
        "a page for one repository, a limit that is over, and a changed Version"
    );
}

#[test]
fn a_restart_keeps_to_the_time_of_the_next_attempt_that_the_status_names() {
    let waits = |named: i64, failing_for: i64| {
        let message = format!("no tag. {NEXT_ATTEMPT}{}.", at(NOW + named));
        let tag = Failure::new(Reason::TagNotFound, message);
        let began = (at(NOW) - Duration::from_secs(failing_for.unsigned_abs())).to_string();
        let mut version = version().failed(&tag);
        for condition in version.0["status"]["conditions"].as_array_mut().unwrap() {
            condition["lastTransitionTime"] = json!(began);
        }
        match decision(&version) {
            NextAction::Wait(due) => due.as_second() - NOW,
            other => panic!("{other:?}"),
        }
    };
    let hour = 3600;
    assert_eq!(waits(1234, 7 * hour), 1234);
    assert_eq!(waits(400, hour), 400);
    // One that is over, or of another release, counts as none.
    for (named, failing_for, longest) in
        [(0, 7 * hour, hour), (-60, 7 * hour, hour), (5 * hour, 7 * hour, hour), (hour, hour, 600)]
    {
        let wait = waits(named, failing_for);
        assert!((0..=longest).contains(&wait) && wait != named, "{wait} s for {named}");
    }
}

/// The pauses of 200 Versions that failed so, and for so long, when another process becomes leader.
fn pauses(failure: &Failure, failing_for: i64) -> BTreeSet<i64> {
    // `failed` says that it failed first at second 200.
    let leading_since = at(200 + failing_for);
    let pause = |n| {
        let version = version().with(json!({"metadata": {"uid": format!("uid-{n}")}})).failed(failure);
        let facts = Facts { now: leading_since, leading_since, ..facts() };
        match decide(&version.version(), &facts) {
            NextAction::Wait(due) => (due.as_millisecond() - leading_since.as_millisecond() + 999) / 1000,
            other => panic!("{other:?}"),
        }
    };
    (0..200).map(pause).collect()
}

#[test]
fn after_a_restart_what_fails_is_spread_over_the_pause_that_it_had() {
    let tag = Failure::new(Reason::TagNotFound, "");
    let hour = 3600;
    for (failure, failing_for, longest) in [
        (passing(), 0, 5),
        (passing(), 60, 60),
        (passing(), 10 * hour, 600),
        (Failure::retry(Reason::UnexpectedAnswer, ""), 10 * hour, 600),
        (Failure::retry(Reason::ArchiveCorrupt, ""), 300, 300),
        (storage_failure(), 10 * hour, 600),
        (tag.clone(), 5 * hour, 600),
        (tag, 6 * hour, hour),
        // The Secret may have been corrected, which one Version finds out for all.
        (Failure::stalled(Reason::CredentialsRefused, ""), 60, hour),
    ] {
        let pauses = pauses(&failure, failing_for);
        let (first, last) = (*pauses.first().unwrap(), *pauses.last().unwrap());
        assert!(last <= longest && last > longest * 9 / 10, "{failure:?} for {failing_for} s: {last} s");
        assert!(first >= 0 && first <= longest / 4, "{failure:?} for {failing_for} s: {first} s");
    }
    let refused = version().failed(&Failure::stalled(Reason::CredentialsRefused, "")).version();
    assert_eq!(word(&decide(&refused, &facts())), "wait");
    assert_eq!(word(&decide(&refused, &Facts { tries_now: true, ..facts() })), "publish");
    // It was not made to wait: a crash ended its attempt.
    let location = version().target().location;
    let interrupted = version().with_status(&version().current().publishing(&location, at(200)));
    assert_eq!(word(&decision(&interrupted)), "publish");
    for asks in [passing(), Failure::stalled(Reason::CredentialsRefused, "")] {
        let version = version().failed(&asks);
        for asked in [
            version.clone().next_generation(),
            version.clone().annotated(REQUESTED_AT, "now"),
            version.clone().annotated(MODULE_REQUEST, "token"),
        ] {
            assert_eq!(word(&decision(&asked)), "publish");
        }
    }
}

fn due(uid: &str, interval: Duration, verified: i64) -> i64 {
    let version = stored().with(json!({"metadata": {"uid": uid}}));
    let (now, verified) = (at(verified), Some(at(verified)));
    let facts = Facts { now, leading_since: at(0), verified, verify_interval: Some(interval), ..facts() };
    match decide(&version.version(), &facts) {
        NextAction::Rest(Some(due)) => due.as_millisecond(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn verifications_spread_over_the_interval() {
    let mut hours = BTreeMap::new();
    for n in 0..1000 {
        *hours.entry(due(&format!("uid-{n}"), DAY, NOW) / 3_600_000).or_insert(0) += 1;
    }
    assert!(hours.len() >= 24 && hours.values().all(|n| *n < 90), "{hours:?}");
}

proptest! {
    #[test]
    fn a_verification_is_due_within_one_interval(uid in "[a-f0-9-]{0,36}", from in 0..4_000_000_000_i64, every in 1..10_000_000_u64) {
        let due = due(&uid, Duration::from_secs(every), from);
        let from = from * 1000;
        prop_assert!(due > from && due <= from + i64::try_from(every).unwrap() * 1000);
    }
}

/// One of the many things that may have happened to a Version.
fn happen(version: Fixture, what: usize) -> Fixture {
    match what {
        0 => version.forced(),
        1 => version.annotated(REQUESTED_AT, "now"),
        2 => version.annotated(MODULE_REQUEST, "token"),
        3 => version.next_generation(),
        4 => moved(version),
        5 => version.failed(&passing()),
        6 => version.failed(&stalled()),
        7 => version.failed(&storage_failure()),
        8 => version.published(),
        9 => version.with(json!({"spec": {"suspend": true}})),
        10 => version.with(json!({"spec": {"suspend": false, "forceSync": false}})),
        11 => {
            let status = version.current().restoring("lost", at(300));
            version.with_status(&status)
        }
        12 => {
            let status = version.current().suspended("its Module", at(300));
            version.with_status(&status)
        }
        13 => version.with(json!({"status": {"conditions": null}})),
        14 => version.terminating(),
        15 => version.with(json!({"spec": {"expectedDigest": "h1:first"}})),
        16 => left_behind_at(version),
        17 => version.restored(),
        _ => version.with(json!({"metadata": {"finalizers": null}})),
    }
}

fn left_behind_at(mut version: Fixture) -> Fixture {
    let elsewhere = json!({"bucket": "shelf", "key": "network/old.zip", "region": "us-west-2"});
    if let Some(objects) = version.0["status"]["objects"].as_array_mut() {
        objects.push(elsewhere);
    }
    version
}

/// What the action does where everything succeeds; `None` at its end.
fn perform(version: Fixture, action: &NextAction, seen: &mut Option<Seen>) -> Option<Fixture> {
    let current = version.current();
    let status = match action {
        NextAction::Ignore | NextAction::Rest(_) | NextAction::Delete | NextAction::Release => return None,
        NextAction::Wait(_)
        | NextAction::AwaitModule
        | NextAction::Reject(_)
        | NextAction::VerifyRecorded => {
            panic!("{action:?}")
        }
        NextAction::AddFinalizer => {
            return Some(version.with(json!({"metadata": {"finalizers": [crate::api::FINALIZER]}})));
        }
        NextAction::ResetForce => {
            let reset = version.with(json!({"spec": {"forceSync": false}})).next_generation();
            let observed = reset.current().observed();
            return Some(reset.with_status(&observed));
        }
        NextAction::Verify(_) => {
            *seen = Some(Seen { other_format: false });
            return Some(version);
        }
        NextAction::Publish(target) => {
            *seen = Some(Seen { other_format: false });
            current.published(&proof(target), &target.requests, at(NOW))
        }
        NextAction::Suspend => current.suspended("spec.suspend", at(NOW)),
        NextAction::CleanUp(_) => current.cleaned_up(at(NOW)),
        NextAction::Record(target) => current.recorded(target, at(NOW)),
    };
    assert_ne!(status, current.status, "{action:?} changes nothing, and would be repeated without end");
    Some(version.with_status(&status))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// A decision to rest about a Version that needs work would leave it so; one that repeats itself would never end.
    #[test]
    fn every_version_settles_in_a_few_actions(events in prop::collection::vec(0..19_usize, 0..7)) {
        let mut version = events.iter().fold(version(), |version, what| happen(version, *what));
        let attempt = attempt_for(ChangeKey::of(&inline().annotated(REQUESTED_AT, "elsewhere").version()), NOW);
        let mut seen = None;
        for _ in 0..8 {
            let facts = Facts { attempt: Some(&attempt), seen, verify_interval: None, ..facts() };
            let action = decide(&version.version(), &facts);
            let Some(next) = perform(version.clone(), &action, &mut seen) else { break };
            version = next;
        }
        let after = version.version();
        let facts = Facts { attempt: Some(&attempt), verify_interval: None, ..facts() };
        match decide(&after, &facts) {
            NextAction::Ignore | NextAction::Delete | NextAction::Release => {}
            NextAction::Rest(None) if after.is_suspended() => prop_assert_eq!(after.status.reason(), "Suspended"),
            NextAction::Rest(None) => {
                prop_assert!(satisfies_spec(&after) && after.status.is_ready() == Some(true) && after.is_observed());
                prop_assert!(!Requests::of(&after).any() && !after.force_sync);
                prop_assert_eq!(after.status.objects().count(), 1, "nothing is left behind");
            }
            action => prop_assert!(false, "{action:?}"),
        }
    }
}
