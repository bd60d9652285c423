//! What the lean Version tells, without any request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::super::triage::{Attempt, Seen, Times, Triage, forced, triage};
use super::{Fixture, at, inline, passing, stored, version};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::failure::{Failure, Reason};
use crate::github::FetchError;

const DAY: Duration = Duration::from_hours(24);
const NOW: i64 = 1_000_000;

/// Triage at [`NOW`] by a process that has just begun to lead and remembers nothing.
fn of(version: &Fixture) -> Triage {
    let times = Times { now: at(NOW), leading_since: at(NOW), verified: None };
    triage(&version.lean(), None, Some(DAY), times)
}

#[test]
fn the_gates_in_their_order() {
    let original = json!({"metadata": {"finalizers": ["opendepot.defdev.io/finalizer"]}});
    let unfinalized = json!({"metadata": {"finalizers": null}});
    let suspended = json!({"spec": {"suspend": true}});
    let by_module = json!({"spec": {"moduleSuspended": true}});
    let table = [
        ("a Provider", version().with(json!({"spec": {"type": "Provider"}})), Triage::Ignore),
        ("another's, without our finalizer", version().with(unfinalized.clone()), Triage::Ignore),
        ("the original's", inline().with(original), Triage::Ignore),
        ("let go already", inline().terminating(), Triage::Ignore),
        ("inline and new", inline(), Triage::Light),
        ("going", stored().terminating(), Triage::Light),
        (
            "going while suspended and forced",
            stored().with(suspended.clone()).forced().terminating(),
            Triage::Light,
        ),
        ("to be suspended", stored().with(suspended.clone()).next_generation(), Triage::Light),
        ("to be suspended by its Module", stored().with(by_module).next_generation(), Triage::Light),
        ("suspended before it was stored", version().with(suspended), Triage::Light),
        ("new", version(), Triage::Publish),
        ("of a new generation", stored().next_generation(), Triage::Publish),
        ("with something left behind", left_behind(), Triage::Publish),
        ("failed for a passing reason", version().failed(&passing()), Triage::Publish),
        ("stored, but a refetch failed", stored().forced().failed(&passing()), Triage::Publish),
    ];
    for (what, version, expected) in table {
        assert_eq!(of(&version), expected, "{what}");
    }
}

fn left_behind() -> Fixture {
    let elsewhere = json!({"bucket": "shelf", "key": "network/old.zip", "region": "us-west-2"});
    let here = stored().0["status"]["storage"].clone();
    stored().with(json!({"status": {"objects": [elsewhere, here]}}))
}

#[test]
fn what_is_stored_and_said_waits_for_its_verification() {
    assert!(matches!(of(&stored()), Triage::Settled(Some(due)) if due > at(NOW)));
    let times = Times { now: at(NOW), leading_since: at(NOW), verified: None };
    assert_eq!(triage(&stored().lean(), None, None, times), Triage::Settled(None));
    let late = Times { now: at(NOW), leading_since: at(0), verified: None };
    assert_eq!(triage(&stored().lean(), None, Some(DAY), late), Triage::Light);
}

#[test]
fn suspension_is_said_once_and_holds_back_every_request() {
    for field in ["suspend", "moduleSuspended"] {
        let version = stored().with(json!({"spec": {field: true}})).next_generation().forced();
        let said = version.view().suspended("somebody", at(300));
        assert_eq!(of(&version.with_status(&said)), Triage::Settled(None), "{field}");
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
        stored().with(json!({"status": {"pendingForce": "done:4"}})),
    ] {
        assert_eq!(of(&version), Triage::Publish, "{:?}", version.0);
    }
    for version in [version().annotated(REQUESTED_AT, "now"), version().annotated(MODULE_REQUEST, "token")] {
        assert!(matches!(of(&version.published()), Triage::Settled(Some(_))));
    }
}

#[test]
fn a_failed_attempt_waits_until_it_is_due_or_something_changes() {
    let failed = version().failed(&passing());
    let attempt = |due| Attempt {
        failures: 1,
        reason: Reason::TagNotFound,
        since: at(0),
        at: Instant::now(),
        ends: Instant::now(),
        due: at(due),
        seen: Seen::of(&failed.lean().metadata),
        secret: None,
        download: None,
        account: None,
    };
    let times = Times { now: at(NOW), leading_since: at(0), verified: None };
    let judge = |version: &Fixture, due| triage(&version.lean(), Some(&attempt(due)), Some(DAY), times);
    assert_eq!(judge(&failed, NOW + 60), Triage::Waiting(at(NOW + 60)));
    assert_eq!(judge(&failed, NOW), Triage::Publish);
    for changed in [
        failed.clone().next_generation(),
        failed.clone().annotated(REQUESTED_AT, "now"),
        failed.clone().annotated(MODULE_REQUEST, "token"),
    ] {
        assert_eq!(judge(&changed, NOW + 60), Triage::Publish);
    }
    assert_eq!(judge(&failed.clone().terminating().next_generation(), NOW + 60), Triage::Light);
    // What others write beside it is no change.
    assert_eq!(
        judge(&failed.clone().annotated("kubectl", "was here"), NOW + 60),
        Triage::Waiting(at(NOW + 60))
    );
}

#[test]
fn after_a_restart_what_waits_for_a_person_still_does() {
    let stalled = Failure::stalled(Reason::RepositoryNotFound, "");
    for version in [version().failed(&stalled), stored().failed(&stalled)] {
        let Triage::Waiting(due) = of(&version) else { panic!("{:?}", of(&version)) };
        assert!(due > at(NOW) && due <= at(NOW + 3600));
        assert_eq!(of(&version.next_generation()), Triage::Publish, "a change is looked at");
    }
    // A restart may have brought the flag, and finding out costs nothing.
    let flag = Failure::stalled(Reason::StorageNotAllowed, "");
    assert_eq!(of(&version().failed(&flag)), Triage::Publish);
}

#[test]
fn after_a_restart_what_its_content_stalls_for_more_than_a_day_waits_for_its_time_of_day() {
    // `failed` says that it stalled at second 200.
    let waits = |reason, uid: &str, now: i64| {
        let stalled = version().failed(&Failure::stalled(reason, ""));
        let version = stalled.with(json!({"metadata": {"uid": uid}})).lean();
        let times = Times { now: at(now), leading_since: at(now), verified: None };
        match triage(&version, None, Some(DAY), times) {
            Triage::Waiting(due) => due.as_second() - now,
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
    assert_eq!(of(&asked), Triage::Publish, "a change is looked at");
}

#[test]
fn after_a_restart_what_waited_for_github_still_does_unless_somebody_asks_again() {
    let until = at(NOW + 600);
    let limit = FetchError::RateLimited { host: "api.github.com".into(), until, secondary: false };
    let limited = |version: Fixture| version.failed(&limit.clone().into());
    for version in [version(), stored(), stored().forced()] {
        let asked_before = version.0["spec"]["forceSync"] == true;
        let version = limited(version).with(json!({"spec": {"forceSync": false}}));
        assert_eq!(version.lean().status.pending_force.is_some(), asked_before);
        assert_eq!(of(&version), Triage::Waiting(until));
        assert_eq!(of(&version.clone().annotated(REQUESTED_AT, "now")), Triage::Publish);
        assert_eq!(of(&version.clone().annotated(MODULE_REQUEST, "now")), Triage::Publish);
        assert_eq!(of(&version.next_generation()), Triage::Publish, "a change is looked at");
    }
    let over = FetchError::RateLimited { host: "api.github.com".into(), until: at(NOW), secondary: false };
    assert_eq!(of(&version().failed(&over.into())), Triage::Publish);
}

#[test]
fn a_force_has_one_name_until_it_is_handled() {
    let name = |version: Fixture| forced(&version.lean());
    assert_eq!(name(stored()), None);
    assert_eq!(name(stored().forced()).as_deref(), Some("forceSync/5"));
    assert_eq!(name(stored().annotated(REQUESTED_AT, "now")).as_deref(), Some("requestedAt/now"));
    assert_eq!(name(version().annotated(REQUESTED_AT, "now").published()), None);
    assert_eq!(name(stored().annotated(MODULE_REQUEST, "token")), None, "the Module has counted it");
    assert_eq!(name(stored().forced().annotated(MODULE_REQUEST, "token")), None, "done along with that");
    assert_eq!(name(stored().forced().failed(&passing())), None, "a retry is no new force");
    let again = stored().forced().failed(&passing()).next_generation();
    assert_eq!(name(again).as_deref(), Some("forceSync/6"), "a loop of forces that fail is a loop too");
}

fn due(uid: &str, interval: Duration, verified: i64) -> i64 {
    let version = stored().with(json!({"metadata": {"uid": uid}}));
    let times = Times { now: at(verified), leading_since: at(0), verified: Some(at(verified)) };
    match triage(&version.lean(), None, Some(interval), times) {
        Triage::Settled(Some(due)) => due.as_millisecond(),
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
