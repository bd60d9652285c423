//! What the status says after each step.

use serde_json::json;

use super::super::delete::{all_locations, blocks_deletion};
use super::super::outcome::{AttemptFailure, Published};
use super::super::status::{at_generation, standing};
use super::{Fixture, at, inline, passing, proof, stalled, stored, version};
use crate::api::state::VersionState;
use crate::api::target::{Requests, Target, left_behind};
use crate::api::{FINALIZER, MODULE_REQUEST, REQUESTED_AT, VersionStatus, condition};
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;

fn conditions(status: &VersionStatus) -> [&str; 3] {
    ["Ready", "Reconciling", "Stalled"]
        .map(|t| condition::find(&status.conditions, t).unwrap().status.as_str())
}

fn location(key: &str) -> ObjectLocation {
    ObjectLocation {
        bucket: "shelf".into(),
        key: key.into(),
        region: "us-west-2".into(),
        ..ObjectLocation::default()
    }
}

#[test]
fn a_place_is_on_record_before_anything_is_stored_there() {
    let publishing = version().current().publishing(&location("network/first.zip"), at(50));
    assert_eq!(publishing.objects, [location("network/first.zip")]);
    assert_eq!((publishing.synced, conditions(&publishing)), (Some(false), ["False", "True", "False"]));
    let moving = stored().current().publishing(&location("network/second.zip"), at(50));
    assert_eq!(moving.objects, [location("network/first.zip"), location("network/second.zip")]);
    assert_eq!(moving.synced, Some(true), "the old object is still stored as recorded");
}

#[test]
fn a_status_follows_to_a_generation_that_differs_in_nothing_it_describes() {
    let forced = stored().forced();
    let done = forced.current().published(&proof(&forced.target()), &forced.target().requests, at(200));
    assert_eq!(done.pending_force.as_deref(), Some("done:5"));
    let after = at_generation(&done, 5, 6);
    assert_eq!((after.observed_generation, after.pending_force.as_deref()), (Some(6), Some("done:6")));
    assert!(after.conditions.iter().all(|condition| condition.observed_generation == Some(6)));
    assert_eq!(at_generation(&after, 5, 7), after, "it is about another one");
    let failed = forced.failed(&passing());
    let retried = at_generation(&failed.status(), 5, 6);
    assert_eq!(retried.pending_force.as_deref(), Some("retry:6"));
    let asked = VersionStatus { pending_force: Some("retry:0".into()), ..retried };
    assert_eq!(at_generation(&asked, 6, 7).pending_force.as_deref(), Some("retry:0"));
}

#[test]
fn what_is_published_is_said_in_full() {
    let status = stored().status();
    assert_eq!((status.synced, conditions(&status)), (Some(true), ["True", "False", "False"]));
    assert_eq!(status.observed_generation, Some(5));
    assert_eq!(status.checksum.as_deref(), Some("c3Vt"));
    assert_eq!(status.content_digest.as_deref(), Some("h1:first"));
    assert_eq!(status.archive_size_bytes, Some(100));
    assert_eq!(status.storage, Some(location("network/first.zip")));
    assert_eq!(status.objects, [location("network/first.zip")]);
    assert_eq!(status.last_sync_time.unwrap().0, at(100));
}

#[test]
fn the_time_of_the_last_sync_moves_only_when_something_was_stored() {
    let view = stored().current();
    let sync = |stored_now, now| {
        let published = Published { stored_now, ..proof(&Target::of(&view.version).unwrap()) };
        view.published(&published, &Requests::default(), at(now)).last_sync_time.unwrap().0
    };
    assert_eq!((sync(false, 900), sync(true, 900)), (at(100), at(900)));
    // The store's own clock counts, since what is found later is compared with it.
    let published = Published { stored_at: Some(at(890)), ..proof(&Target::of(&view.version).unwrap()) };
    let after = view.published(&published, &Requests::default(), at(900));
    assert_eq!(after.last_sync_time.unwrap().0, at(890));
    // What a crash left unsaid is read off the object, and an older one says nothing new.
    let found = |stored_at| {
        let published = Published {
            stored_now: false,
            stored_at: Some(at(stored_at)),
            ..proof(&Target::of(&view.version).unwrap())
        };
        view.published(&published, &Requests::default(), at(900)).last_sync_time.unwrap().0
    };
    assert_eq!((found(700), found(50)), (at(700), at(100)));
}

#[test]
fn one_place_is_recorded_once_however_its_endpoint_is_spelled() {
    let spelled =
        ObjectLocation { endpoint: Some("https://s3.example.com".into()), ..location("network/first.zip") };
    let view = version().current();
    let recorded = version().with_status(&view.publishing(&spelled, at(50)));
    assert_eq!(recorded.published().status().objects, [location("network/first.zip")]);
}

#[test]
fn one_object_is_recognised_under_any_endpoint() {
    let here = location("network/first.zip");
    let spelled = ObjectLocation {
        endpoint: Some("http://minio:9000/".into()),
        region: "eu-west-1".into(),
        ..here.clone()
    };
    assert!(here.is_same_object(&spelled) && !here.is_same_location(&spelled));
    assert!(!here.is_same_object(&location("network/second.zip")));
    assert!(!here.is_same_object(&ObjectLocation { bucket: "other".into(), ..here.clone() }));
    // The object there is the only copy: no spelling makes it one that a move left behind.
    assert_eq!(left_behind(&stored().version(), &spelled), []);
    assert!(
        stored().version().status.has_same_key(&spelled) && !version().version().status.has_same_key(&here)
    );
}

#[test]
fn a_deletion_looks_at_every_spelling_of_a_place_once() {
    let spelled =
        ObjectLocation { endpoint: Some("https://s3.example.com".into()), ..location("network/first.zip") };
    let moving = stored().with_status(&stored().current().publishing(&spelled, at(50)));
    assert_eq!(all_locations(&moving.version()), [location("network/first.zip"), spelled]);
    assert_eq!(all_locations(&stored().version()), [location("network/first.zip")]);
    assert_eq!(all_locations(&version().version()), [location("network/first.zip")], "its status is lost");
    let odd = version().with(json!({"spec": {"moduleConfigRef": {"fileFormat": "tar"}}}));
    assert_eq!(
        all_locations(&odd.version()),
        [location("network/first.zip")],
        "though its name contradicts its format"
    );
}

/// `seen`: whether HEAD has found the object.
fn blocks(version: &VersionState, failure: &Failure, seen: bool) -> bool {
    let failed = AttemptFailure { is_stored: seen.then_some(true), ..failure.clone().into() };
    blocks_deletion(version, &all_locations(version)[0], &failed)
}

#[test]
fn a_version_that_never_stored_anything_is_let_go_without_the_store() {
    let denied = Failure::retry(Reason::StorageAccessDenied, "denied");
    let made = |second: i64| {
        let at = uuid::Timestamp::from_unix_time(second.unsigned_abs(), 0, 0, 0);
        json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"fileName": format!("{}.zip", uuid::Uuid::new_v7(at))}})
    };
    let created = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    let publishing =
        version().with_status(&version().current().publishing(&location("network/first.zip"), at(50)));
    let table = [
        ("its status is lost", version(), true),
        ("no attempt came as far as the bucket", version().failed(&denied), false),
        ("made for this object", version().with(made(created - 30)).failed(&denied), false),
        ("of another clock", version().with(made(created + 3600)).failed(&denied), false),
        ("made long before this object", version().with(made(created - 86_400)).failed(&denied), true),
        ("about to store", publishing, true),
        ("stored", stored(), true),
        ("stored, and failing", stored().failed(&denied), true),
        (
            "suspended before its first attempt",
            version().with_status(&version().current().suspended("", at(9))),
            true,
        ),
    ];
    for (what, version, expected) in table {
        let view = version.terminating().version();
        assert_eq!(blocks(&view, &denied, false), expected, "{what}");
        assert!(blocks(&view, &denied, true), "{what}, and it is there");
    }
    // A name that shows no time may be older than this object: an outage passes, and a look is owed until then.
    for reason in [Reason::StorageUnavailable, Reason::StorageThrottled] {
        let away = Failure::retry(reason, "no answer");
        let inline = inline().with(json!({"metadata": {"finalizers": [FINALIZER]}}));
        let named = inline.clone().with(json!({"spec": {"fileName": "net-1.0.0.zip"}}));
        for (what, version, expected) in [
            ("restored, or not", named.failed(&away), true),
            ("its name is derived", inline.failed(&away), true),
            ("made for this object", version().with(made(created - 30)).failed(&away), false),
            ("made long before this object", version().with(made(created - 86_400)).failed(&away), true),
        ] {
            let view = version.terminating().version();
            assert_eq!(blocks(&view, &away, false), expected, "{what}");
            for reason in [Reason::StorageAccessDenied, Reason::VersionRefused, Reason::ApiUnavailable] {
                let failure = Failure::retry(reason, "");
                assert!(blocks(&view, &failure, true), "{what}, and it is there: {reason}");
            }
        }
    }
    // Where an object is on record, or was seen, no failure lets it go.
    let stalled = |reason| Failure::stalled(reason, "");
    let recorded = stored().version();
    for reason in [Reason::StorageNotAllowed, Reason::BucketMisconfigured, Reason::StorageRefused] {
        assert!(blocks(&recorded, &stalled(reason), false), "{reason}");
    }
    assert!(blocks(&version().version(), &stalled(Reason::StorageRefused), true));
    let refused = stalled(Reason::StorageNotAllowed);
    assert!(!blocks(&version().version(), &refused, false), "no flag lets it store there");
}

#[test]
fn synced_follows_the_object_and_ready_the_attempt() {
    for (failure, expected) in
        [(passing(), ["False", "True", "False"]), (stalled(), ["False", "False", "True"])]
    {
        let (before, after) = (stored().status(), stored().failed(&failure).status());
        assert_eq!((after.synced, conditions(&after)), (Some(true), expected));
        assert_eq!(
            (&after.checksum, &after.storage, &after.objects, &after.last_sync_time),
            (&before.checksum, &before.storage, &before.objects, &before.last_sync_time)
        );
        let lost = stored().current().failed(&failure, &Requests::default(), Some(false), at(200));
        let back = stored().with_status(&lost).current();
        let back = back.failed(&failure, &Requests::default(), Some(true), at(300));
        assert_eq!(back.synced, Some(true), "the object was put back");
        assert_eq!((lost.synced, lost.checksum), (Some(false), before.checksum));
        assert_eq!(version().failed(&failure).status().synced, Some(false));
    }
    let restoring = stored().current().restoring("lost", at(200));
    assert_eq!((restoring.synced, conditions(&restoring)), (Some(false), ["False", "True", "False"]));
    let suspended = stored().current().suspended("spec.suspend", at(200));
    assert_eq!((suspended.synced, conditions(&suspended)), (Some(true), ["False", "False", "False"]));
}

#[test]
fn locations_are_struck_one_by_one() {
    let moved = stored().with(json!({"spec": {"fileName": "second.zip"}})).published();
    let (old, new) = (location("network/first.zip"), location("network/second.zip"));
    assert_eq!(moved.status().objects, [old.clone(), new.clone()]);
    assert_eq!(left_behind(&moved.version(), &new), std::slice::from_ref(&old));
    assert_eq!(moved.current().struck(&[old]).objects, [new]);
    assert_eq!(moved.current().struck(&[location("network/third.zip")]), moved.status());
    // When all are gone, a Version that another client keeps no longer says that it is stored.
    let held = moved.current().held(false, at(900));
    assert_eq!((held.synced, conditions(&held)), (Some(false), ["False", "True", "False"]));
    assert!(held.objects.is_empty() && held.storage == moved.status().storage, "{held:?}");
    // What stays in the bucket stays in its status, and a failure is over.
    let retained = moved.clone().failed(&stalled()).current().held(true, at(900));
    assert_eq!((retained.synced, conditions(&retained)), (Some(true), ["False", "True", "False"]));
    assert_eq!(retained.objects, moved.status().objects);
}

#[test]
fn ready_only_when_what_the_move_left_behind_is_off_the_record() {
    let moved = stored().with(json!({"spec": {"fileName": "second.zip"}})).published();
    let status = moved.status();
    assert_eq!((status.synced, conditions(&status)), (Some(true), ["False", "True", "False"]));
    let cleaned = moved.current().cleaned_up(at(900));
    assert_eq!((cleaned.synced, conditions(&cleaned)), (Some(true), ["True", "False", "False"]));
    assert_eq!(cleaned.objects, [location("network/second.zip")]);
    assert_eq!(cleaned.last_sync_time, status.last_sync_time);
}

#[test]
fn every_outcome_answers_the_requests_that_it_saw() {
    let asked = || stored().forced().annotated(REQUESTED_AT, "now").annotated(MODULE_REQUEST, "token");
    for (after, pending) in [
        (asked().published(), "done:5"),
        (asked().failed(&stalled()), "done:5"),
        (asked().failed(&passing()), "retry:5"),
    ] {
        let status = after.status();
        assert_eq!(status.last_handled_request.as_deref(), Some("now"));
        assert_eq!(status.last_module_request.as_deref(), Some("token"));
        assert_eq!(status.pending_force.as_deref(), Some(pending));
    }
    let by_annotation = stored().annotated(REQUESTED_AT, "now").failed(&passing());
    assert_eq!(by_annotation.status().pending_force.as_deref(), Some("retry:0"));
    assert_eq!(stored().failed(&passing()).status().pending_force, None, "not requested");
    let pending = by_annotation.failed(&passing());
    assert_eq!(pending.status().pending_force.as_deref(), Some("retry:0"), "it stays until an attempt ends");
    assert_eq!(pending.failed(&stalled()).status().pending_force, None);
}

#[test]
fn conditions_of_others_speak_of_the_generation_that_those_saw() {
    let foreign = json!({"type": "Scanned", "status": "True", "reason": "Clean", "message": "",
        "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let mut version = stored();
    version.0["status"]["conditions"].as_array_mut().unwrap().push(foreign.clone());
    let observed = version.next_generation().current().observed();
    let seen = |type_: &str| condition::find(&observed.conditions, type_).unwrap().observed_generation;
    assert_eq!(condition::OURS.map(seen), [Some(6); 3]);
    assert_eq!(seen("Scanned"), Some(3));
}

#[test]
fn what_failed_stands_through_suspension_outage_and_move_until_it_was_looked_into() {
    let denied = || Failure::retry(Reason::StorageAccessDenied, "denied");
    let broken = || Failure::stalled(Reason::InvalidSpec, "broken");
    let step = |version: &Fixture, what: &str| {
        let view = version.current();
        let status = match what {
            "suspend" => view.suspended("spec.suspend", at(300)),
            "publishing" => view.publishing(&location("network/first.zip"), at(300)),
            "restoring" => view.restoring("lost", at(300)),
            "denied" => view.failed(&denied(), &Requests::of(&view.version), None, at(300)),
            "broken" => view.failed(&broken(), &Requests::of(&view.version), None, at(300)),
            "refused" => view.failed(&stalled(), &Requests::of(&view.version), None, at(300)),
            "settled" => view.settled(at(300)),
            _ => view.published(&proof(&Target::of(&view.version).unwrap()), &Requests::default(), at(300)),
        };
        version.clone().with_status(&status)
    };
    let table = [
        ("", None),
        ("suspend", None),
        ("refused", Some("NotAnArchive")),
        ("refused suspend", Some("NotAnArchive")),
        ("refused suspend suspend", Some("NotAnArchive")),
        ("refused denied", Some("NotAnArchive")),
        ("refused denied broken suspend", Some("NotAnArchive")),
        ("refused broken denied", Some("NotAnArchive")),
        ("refused publishing", Some("NotAnArchive")),
        ("refused publishing suspend", Some("NotAnArchive")),
        ("refused restoring denied", Some("NotAnArchive")),
        ("refused suspend published", None),
        ("refused denied published", None),
        ("denied", Some("StorageAccessDenied")),
        ("denied suspend", Some("StorageAccessDenied")),
        ("denied suspend settled", None),
        ("denied refused suspend", Some("NotAnArchive")),
        ("publishing suspend", Some("Publishing")),
        ("publishing suspend published suspend", None),
    ];
    for (steps, expected) in table {
        let after = steps.split_whitespace().fold(stored(), |version, what| step(&version, what));
        assert_eq!(standing(&after.version()), expected, "{steps}");
    }
    let suspended = step(&step(&stored(), "refused"), "suspend").status();
    assert_eq!(conditions(&suspended), ["False"; 3]);
    let message = condition::find(&suspended.conditions, "Ready").unwrap().message.clone();
    assert!(message.contains("NotAnArchive"), "{message}");
}

#[test]
fn a_failure_for_another_object_leaves_the_stored_one_synced() {
    let elsewhere = stored().with(json!({"spec": {"fileName": "second.zip"}})).next_generation();
    let failed = elsewhere.failed(&stalled());
    let status = failed.status();
    let reason = |type_| condition::find(&status.conditions, type_).unwrap().reason.as_str();
    assert_eq!(["Ready", "Reconciling"].map(reason), ["NotAnArchive", "Synced"]);
    assert_eq!(standing(&failed.version()), Some("NotAnArchive"));
    let suspended = failed.current().suspended("spec.suspend", at(300));
    let message = &condition::find(&suspended.conditions, "Ready").unwrap().message;
    assert!(message.contains("NotAnArchive"), "{message}");
    assert_eq!(standing(&failed.with_status(&suspended).version()), Some("Synced"));
}

#[test]
fn the_same_outcome_twice_changes_nothing() {
    let same = |version: &Fixture, step: &dyn Fn(&Fixture, i64) -> VersionStatus| {
        let once = version.clone().with_status(&step(version, 300));
        assert_eq!(step(&once, 900), once.status(), "{}", version.0);
    };
    let others = [stored().restored(), stored().failed(&stalled()), stored().next_generation()];
    for version in [version(), stored()].into_iter().chain(others) {
        same(&version, &|v, now| v.current().publishing(&location("network/first.zip"), at(now)));
        same(&version, &|v, now| {
            let published = Published { stored_now: false, ..proof(&v.target()) };
            v.current().published(&published, &Requests::default(), at(now))
        });
        let denied = Failure::retry(Reason::StorageAccessDenied, "denied");
        for failure in [passing(), stalled(), denied] {
            same(&version, &|v, now| {
                v.current().failed(&failure, &Requests::default(), Some(false), at(now))
            });
        }
        same(&version, &|v, now| v.current().restoring("lost", at(now)));
        same(&version, &|v, now| v.current().suspended("spec.suspend", at(now)));
        same(&version, &|v, now| v.current().settled(at(now)));
        same(&version, &|v, _| v.current().observed());
    }
    assert_eq!(stored().current().settled(at(900)), stored().status(), "a clean verification writes nothing");
}
