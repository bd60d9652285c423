//! What is to be done with the full Version, and that the lean one never says otherwise.

use proptest::prelude::*;
use serde_json::json;

use super::super::plan::{Next, next};
use super::super::triage::{Times, Triage, triage};
use super::{Fixture, at, inline, passing, stalled, stored, version};
use crate::api::{MODULE_REQUEST, REQUESTED_AT};
use crate::controller::failure::{Failure, Reason};
use crate::domain::object_key::derived_file_name;
use crate::domain::{ArchiveFormat, Release};

fn word(next: &Next<'_>) -> &'static str {
    match next {
        Next::Nothing => "nothing",
        Next::AddFinalizer => "finalizer",
        Next::Delete => "delete",
        Next::Suspend => "suspend",
        Next::Reject(_) => "reject",
        Next::ResetForce => "reset",
        Next::Publish(_) => "publish",
        Next::Verify(_) => "verify",
        Next::CleanUp(_) => "clean up",
        Next::Record(_) => "record",
    }
}

fn of(version: &Fixture) -> &'static str {
    word(&next(&version.view(), false))
}

fn moved(version: Fixture) -> Fixture {
    version.with(json!({"spec": {"fileName": "second.zip"}})).next_generation()
}

fn storage_failure() -> Failure {
    Failure::retry(Reason::StorageUnavailable, "S3 is away")
}

#[test]
fn the_steps_in_their_order() {
    let suspended = json!({"spec": {"suspend": true}});
    let broken = json!({"spec": {"version": "latest"}});
    let kept = Failure::retry(Reason::OldObjectKept, "");
    let done = version().forced().published();
    let table = [
        ("going", stored().with(broken.clone()).terminating(), "delete"),
        ("gone", inline().terminating(), "nothing"),
        ("without finalizer", inline(), "finalizer"),
        ("suspended", stored().with(suspended.clone()), "suspend"),
        ("suspended and forced", stored().with(suspended).forced(), "suspend"),
        ("suspended by its Module", stored().with(json!({"spec": {"moduleSuspended": true}})), "suspend"),
        ("broken", version().with(broken.clone()), "reject"),
        ("broken after it was stored", stored().with(broken), "reject"),
        ("without configuration", version().with(json!({"spec": {"moduleConfigRef": null}})), "reject"),
        ("unreadable", version().with(json!({"spec": {"version": 1}})), "reject"),
        ("named as the other format", version().with(json!({"spec": {"fileName": "a.tar.gz"}})), "reject"),
        (
            "of a format that its name contradicts",
            stored().with(json!({"spec": {"moduleConfigRef": {"fileFormat": "tar"}}})).next_generation(),
            "reject",
        ),
        ("named as neither format", version().with(json!({"spec": {"fileName": "a.bin"}})), "publish"),
        ("new", version(), "publish"),
        ("stored", stored(), "nothing"),
        ("forced", stored().forced(), "publish"),
        ("asked", stored().annotated(REQUESTED_AT, "now"), "publish"),
        ("asked by its Module", stored().annotated(MODULE_REQUEST, "token"), "publish"),
        ("forced and done", done.clone(), "reset"),
        ("forced and done, and written since", done.next_generation(), "publish"),
        ("to be moved", moved(stored()), "publish"),
        ("moved", moved(stored()).published(), "clean up"),
        ("moved, the clean-up failed", moved(stored()).published().failed(&kept), "clean up"),
        (
            "of another repository",
            stored().with(json!({"spec": {"moduleConfigRef": {"repoUrl": "https://github.com/acme/net"}}})),
            "publish",
        ),
        ("failed", version().failed(&passing()), "publish"),
        ("stored, the refetch refused", stored().failed(&stalled()), "publish"),
        ("stored, the bucket out of reach", stored().failed(&storage_failure()), "verify"),
        ("not stored, the bucket out of reach", version().failed(&storage_failure()), "publish"),
        ("forced, the bucket out of reach", stored().forced().failed(&storage_failure()), "reset"),
        ("told what it holds", stored().with(json!({"spec": {"expectedDigest": "h1:first"}})), "nothing"),
        ("told another content", stored().with(json!({"spec": {"expectedDigest": "h1:other"}})), "publish"),
        ("of a new generation", stored().next_generation(), "record"),
        ("done, the reset seen", stored().with(json!({"status": {"pendingForce": "done:4"}})), "record"),
    ];
    for (what, version, expected) in table {
        assert_eq!(of(&version), expected, "{what}");
    }
    assert_eq!(word(&next(&stored().view(), true)), "verify");
    let restoring = stored().view().restoring("lost", at(300));
    assert_eq!(of(&stored().with_status(&restoring)), "publish");
    let resumed = stored().view().suspended("somebody", at(300));
    assert_eq!(of(&stored().with_status(&resumed)), "record", "resuming costs no fetch");
    for (failure, expected) in
        [(stalled(), "publish"), (passing(), "publish"), (storage_failure(), "verify"), (kept, "verify")]
    {
        let failed = stored().failed(&failure);
        let resumed = failed.view().suspended("somebody", at(300));
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
    let moving =
        moving.clone().with_status(&moving.view().publishing(&moving.view().work().unwrap().place, at(300)));
    let back = moving.with(json!({"spec": {"fileName": "first.zip"}})).next_generation();
    assert_eq!(of(&back), "clean up", "what was begun at the other place is taken away again");
    let unsaid = stored().with(json!({"status": {"conditions": null}}));
    assert_eq!(of(&unsaid), "verify", "nothing is said of it: it is looked at first");
}

#[test]
fn a_force_lives_until_its_outcome_is_written() {
    for (failure, pending, left) in [(passing(), "retry:5", Some("retry:5")), (stalled(), "done:5", None)] {
        let failed = stored().forced().failed(&failure);
        assert_eq!(failed.view().status.pending_force.as_deref(), Some(pending));
        assert_eq!(of(&failed), "reset");
        let reset = failed.with(json!({"spec": {"forceSync": false}})).next_generation();
        let observed = reset.view().observed();
        assert_eq!(observed.pending_force.as_deref(), left);
        let reset = reset.with_status(&observed);
        assert_eq!(of(&reset), "publish");
        assert_eq!(
            reset.view().requests().any(),
            left.is_some(),
            "only a force that is pending is a full sync"
        );
        assert!(reset.clone().next_generation().forced().view().requests().force_sync, "it works again");
        let after = reset.published();
        assert_eq!((after.view().status.pending_force, of(&after)), (None, "nothing"));
    }
}

#[test]
fn an_archive_under_another_format_s_name_is_made_anew_once_that_is_corrected() {
    let format = |format: &str| json!({"spec": {"moduleConfigRef": {"fileFormat": format}}});
    let misnamed = stored().with(format("tar")).next_generation();
    let view = misnamed.view();
    let Next::Reject(failure) = next(&view, false) else { panic!("{:?}", next(&view, false)) };
    assert!(failure.message.contains("first.zip") && failure.message.contains("tar"), "{}", failure.message);
    let rejected = misnamed.failed(&failure);
    // The bytes may be those of either format: an early release stored a tar under this name.
    assert_eq!(of(&rejected.clone().with(format("zip")).next_generation()), "publish");
    let renamed = json!({"spec": {"fileName": "first.tar.gz"}});
    assert_eq!(of(&rejected.with(renamed).next_generation()), "publish", "to another place");
    let other = Failure::stalled(Reason::InvalidSpec, "moduleConfig.repoUrl: no");
    assert_eq!(
        of(&stored().failed(&other).next_generation()),
        "verify",
        "what was wrong does not touch the bytes"
    );
}

#[test]
fn tags_of_a_later_sync_begin_with_the_one_that_was_found() {
    let tags = |version: &Fixture| version.view().work().unwrap().tags;
    assert_eq!(tags(&version()), ["1.0.0", "v1.0.0"]);
    assert_eq!(tags(&stored()), ["v1.0.0", "1.0.0"]);
    let other = json!({"spec": {"moduleConfigRef": {"repoUrl": "https://github.com/acme/net"}}});
    assert_eq!(tags(&stored().with(other)), ["1.0.0", "v1.0.0"]);
}

#[test]
fn content_is_pinned_by_the_module_or_by_what_is_stored() {
    let pinned = |version: &Fixture| version.view().work().unwrap().expected_digest;
    let immutable = json!({"spec": {"moduleConfigRef": {"immutable": true}}});
    let told = json!({"spec": {"expectedDigest": "h1:told"}});
    assert_eq!(pinned(&stored()), None);
    assert_eq!(pinned(&version().with(immutable.clone())), None);
    assert_eq!(pinned(&stored().with(immutable.clone())).as_deref(), Some("h1:first"));
    assert_eq!(pinned(&stored().with(immutable).with(told)).as_deref(), Some("h1:told"));
}

#[test]
fn a_derived_file_name_depends_on_all_that_tells_versions_apart() {
    let name = |ns: &str, name: &str, version: &str, format| {
        derived_file_name(ns, name, &Release::parse(version).unwrap(), format)
    };
    let one = name("acme", "a", "1.0.0", ArchiveFormat::Zip);
    assert_eq!(one, name("acme", "a", "v1.0.0", ArchiveFormat::Zip));
    for other in [
        name("beta", "a", "1.0.0", ArchiveFormat::Zip),
        name("acme", "b", "1.0.0", ArchiveFormat::Zip),
        name("acme", "a", "1.0.1", ArchiveFormat::Zip),
        name("acme", "a", "1.0.0", ArchiveFormat::Tar),
    ] {
        assert_ne!(one, other);
    }
    assert!(name("acme", "a", "1.0.0", ArchiveFormat::Tar).ends_with(".tar.gz"));
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
            let status = version.view().restoring("lost", at(300));
            version.with_status(&status)
        }
        12 => {
            let status = version.view().suspended("somebody", at(300));
            version.with_status(&status)
        }
        13 if matches!(next(&version.view(), false), Next::ResetForce) => {
            let version = version.with(json!({"spec": {"forceSync": false}})).next_generation();
            let status = version.view().observed();
            version.with_status(&status)
        }
        13 => version,
        14 => version.terminating(),
        15 => version.with(json!({"spec": {"expectedDigest": "h1:other"}})),
        _ => version.with(json!({"metadata": {"finalizers": null}})),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// A lean Version that says "nothing to do" about one that needs work would leave it so for ever.
    #[test]
    fn nothing_is_left_undone(events in prop::collection::vec(0..17_usize, 0..7)) {
        let version = events.iter().fold(version(), |version, what| happen(version, *what));
        let times = Times { now: at(1000), leading_since: at(1000), verified: None };
        let triage = triage(&version.lean(), None, None, times);
        let view = version.view();
        let next = next(&view, false);
        let idle = match &next {
            // Without our finalizer it is its Module's to restore, or the original's.
            Next::Nothing | Next::AddFinalizer => true,
            Next::Suspend => view.suspended("somebody", at(2000)) == view.status,
            _ => false,
        };
        let stored = view.work().is_ok_and(|work| view.stored_as_wanted(&work));
        prop_assert_eq!(version.lean().stored_as_wanted, stored, "the lean copy says the same");
        let waits = matches!(triage, Triage::Waiting(_)) && view.status.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True");
        prop_assert_eq!(matches!(triage, Triage::Settled(_) | Triage::Ignore), idle && !waits, "{:?} {}", triage, word(&next));
    }
}
