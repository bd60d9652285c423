//! Which requests are sent again, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::attempts::Attempts;
use super::super::batch::{Batch, Due, Planned, RequestOutcome, Verb};
use super::super::edit::{Change, Edit, VersionRef};
use super::super::finalizer::{FinalizerRemoval, removal};
use super::super::plan::{Create, Plan};
use super::super::rejected_requests::RejectedRequests;
use super::{module, stored_child};
use crate::api::state::VersionState;

/// A moment, in seconds since the tests began.
fn at(second: u64) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(second)
}

/// The whole seconds of a moment.
fn second(moment: Instant) -> u64 {
    moment.duration_since(at(0)).as_secs()
}

fn creates(names: &[&str]) -> Plan {
    let create = |name: &&str| Create {
        name: (*name).into(),
        version: "1.0.0".into(),
        expected_digest: None,
        request: None,
    };
    Plan { create: names.iter().map(create).collect(), ..Plan::default() }
}

fn deletes(name: &str, version: &str) -> Plan {
    let target = VersionRef { name: name.into(), uid: "uid".into(), resource_version: version.into() };
    Plan { delete: vec![target], ..Plan::default() }
}

/// Gives each of these Versions the policy.
fn policies(names: &[&str], retain: bool) -> Plan {
    let target =
        |name: &str| VersionRef { name: name.into(), uid: "uid".into(), resource_version: "1".into() };
    let change = |name: &&str| Change { target: target(name), edits: vec![Edit::SetPolicy { retain }] };
    Plan { change: names.iter().map(change).collect(), ..Plan::default() }
}

fn names<'a>(due: &Due<'a>) -> Vec<&'a str> {
    let creates = due.create.iter().map(|create| create.name.as_str());
    let changes = due.change.iter().map(|change| change.target.name.as_str());
    creates.chain(changes).chain(due.delete.iter().map(|target| target.name.as_str())).collect()
}

/// Sends what is due, as the driver does it, and gives what was sent. At most so many requests are under way.
fn send<T: Planned>(
    attempts: &mut Attempts,
    due: &[&T],
    now: Instant,
    mut answer: impl FnMut(&str) -> RequestOutcome,
) -> Vec<String> {
    if due.is_empty() {
        return Vec::new();
    }
    let mut run: Batch = attempts.start(T::VERB);
    let (mut sent, mut under_way, mut left) = (Vec::new(), Vec::new(), due.iter());
    loop {
        while under_way.len() < run.max_in_flight(Duration::ZERO)
            && let Some(item) = left.next()
        {
            sent.push(item.name().to_owned());
            under_way.push(item);
        }
        if under_way.is_empty() {
            break;
        }
        let item = under_way.remove(0);
        attempts.ended(&mut run, (item.name(), item.planned_on()), answer(item.name()), (now, 0.5));
    }
    attempts.finish(&run, (now, 0.5));
    sent
}

/// Sends what is due of a plan.
fn run(
    attempts: &mut Attempts,
    plan: &Plan,
    now: Instant,
    mut answer: impl FnMut(&str) -> RequestOutcome,
) -> Vec<String> {
    let due = attempts.due(plan, now);
    let mut sent = send(attempts, &due.create, now, &mut answer);
    sent.extend(send(attempts, &due.change, now, &mut answer));
    sent.extend(send(attempts, &due.delete, now, &mut answer));
    sent
}

fn refused(name: &str) -> RequestOutcome {
    RequestOutcome::Refused(format!("no {name}"))
}

#[test]
fn what_was_made_a_moment_ago_is_not_made_twice_while_the_watch_is_behind() {
    let (mut attempts, plan) = (Attempts::default(), creates(&["a", "b"]));
    run(&mut attempts, &creates(&["a"]), at(100), |_| RequestOutcome::Done);
    assert_eq!(names(&attempts.due(&plan, at(101))), ["b"]);
    assert_eq!(attempts.next(at(101)), Some(at(110)));
    attempts.due(&creates(&["b"]), at(102));
    assert_eq!(
        names(&attempts.due(&plan, at(103))),
        ["a", "b"],
        "once it was seen, it is missing when it is not there"
    );
    run(&mut attempts, &creates(&["a"]), at(103), |_| RequestOutcome::Done);
    assert_eq!(names(&attempts.due(&plan, at(114))), ["b", "a"], "it must have gone");
}

#[test]
fn what_is_refused_waits_longer_each_time_and_holds_up_no_other() {
    let (mut attempts, plan) = (Attempts::default(), creates(&["a", "b", "c"]));
    let (mut now, mut times) = (at(0), Vec::new());
    for _ in 0..12 {
        let sent = run(&mut attempts, &plan, now, |name| match name {
            "b" => refused(name),
            _ => RequestOutcome::Done,
        });
        assert!(sent.contains(&"b".to_owned()));
        times.push(second(now));
        // The other two were made; changes of theirs in between send nothing.
        assert_eq!(names(&attempts.due(&creates(&["b"]), now)), [""; 0]);
        now = attempts.next(now).unwrap();
    }
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    let expected = RejectedRequests {
        names: ["b".to_owned()].into(),
        words: "no b".into(),
        ..RejectedRequests::default()
    };
    assert_eq!(attempts.refused(), expected);
    attempts.retry_refused(now);
    assert_eq!(names(&attempts.due(&creates(&["b"]), now)), ["b"], "a user changed something");
    assert_eq!(names(&attempts.due(&Plan::default(), now)), [""; 0]);
    assert_eq!(attempts.refused(), RejectedRequests::default(), "what is not wanted is forgotten");
}

#[test]
fn a_quota_costs_few_requests_and_once_it_is_raised_all_are_made() {
    let all: Vec<String> = (0..1_000).map(|n| format!("v{n:04}")).collect();
    let (mut attempts, mut made, mut quota) = (Attempts::default(), BTreeSet::new(), 50);
    let (mut sent, mut now, mut counts) = (0, at(0), BTreeMap::new());
    while made.len() < all.len() {
        let missing: Vec<&str> = all.iter().filter(|n| !made.contains(*n)).map(String::as_str).collect();
        let plan = creates(&missing);
        sent += run(&mut attempts, &plan, now, |name| {
            if made.len() < quota {
                made.insert(name.to_owned());
                RequestOutcome::Done
            } else {
                refused(name)
            }
        })
        .len();
        counts.insert(second(now), sent);
        // Versions that are published wake their Module all the time.
        now += Duration::from_secs(1);
        if now == at(3_600) {
            assert!(attempts.refused().creates, "the others wait as well");
            quota = 2_000;
        }
        assert!(now < at(3_730), "{} made", made.len());
    }
    let at_second = |second: u64| counts.range(..=second).next_back().map(|(_, sent)| *sent).unwrap();
    assert!(at_second(0) <= 60 && at_second(32) <= 80 && at_second(3_599) <= 200, "{counts:?}");
    assert!(sent <= 1_000 + 200);
    assert!(!attempts.refused().creates);
}

#[test]
fn names_that_are_refused_for_their_own_sake_do_not_stand_before_the_others_for_ever() {
    let all: Vec<String> = (0..600).map(|n| format!("{}{n:04}", if n < 300 { "rc" } else { "v" })).collect();
    let (mut attempts, mut made, mut now) = (Attempts::default(), BTreeSet::new(), at(0));
    while made.len() < 300 {
        let missing: Vec<&str> = all.iter().filter(|n| !made.contains(*n)).map(String::as_str).collect();
        let plan = creates(&missing);
        run(&mut attempts, &plan, now, |name| {
            if name.starts_with("rc") {
                return refused(name);
            }
            made.insert(name.to_owned());
            RequestOutcome::Done
        });
        now += Duration::from_secs(1);
        assert!(now < at(1_800), "{} of 300 after half an hour", made.len());
    }
}

#[test]
fn while_the_watch_is_behind_few_requests_are_sent() {
    let all: Vec<String> = (0..1_000).map(|n| format!("v{n:04}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let (mut attempts, plan) = (Attempts::default(), creates(&all));
    let mut sent = 0;
    for second in 0..300 {
        sent += run(&mut attempts, &plan, at(second), |_| RequestOutcome::Outdated).len();
    }
    assert!(sent <= 60, "{sent} in five minutes");
    assert_eq!(attempts.refused(), RejectedRequests::default(), "nothing is refused");
}

#[test]
fn a_change_that_came_too_late_is_tried_again_as_soon_as_the_watch_has_news() {
    let mut attempts = Attempts::default();
    run(&mut attempts, &deletes("a", "1"), at(0), |_| RequestOutcome::Outdated);
    assert_eq!(names(&attempts.due(&deletes("a", "1"), at(0))), [""; 0]);
    assert_eq!(names(&attempts.due(&deletes("a", "1"), at(1))), ["a"]);
    assert_eq!(names(&attempts.due(&deletes("a", "2"), at(0))), ["a"]);
    // What was refused is refused whatever the object looks like.
    run(&mut attempts, &deletes("a", "2"), at(2), refused);
    assert_eq!(names(&attempts.due(&deletes("a", "3"), at(2))), [""; 0]);
    // And a delete that was taken is not sent again before the watch shows it.
    run(&mut attempts, &deletes("b", "1"), at(9), |_| RequestOutcome::Done);
    assert_eq!(names(&attempts.due(&deletes("b", "1"), at(12))), [""; 0]);
}

#[test]
fn a_run_that_failed_is_followed_by_one_request_at_a_time() {
    let (mut attempts, plan) = (Attempts::default(), creates(&["a", "b", "c", "d", "e"]));
    let first = attempts.start(Verb::Create);
    assert_eq!(first.max_in_flight(Duration::ZERO), 8);
    run(&mut attempts, &plan, at(0), refused);
    assert!(attempts.expects_refusal(&plan.create.iter().collect::<Vec<_>>()));
    assert_eq!(names(&attempts.due(&plan, at(1))), [""; 0]);
    let mut run = attempts.start(Verb::Create);
    assert_eq!(run.max_in_flight(Duration::ZERO), 1);
    attempts.ended(&mut run, ("a", None), RequestOutcome::Done, (at(2), 0.5));
    assert_eq!(run.max_in_flight(Duration::ZERO), 8, "it is over");
    let mut run = attempts.start(Verb::Create);
    attempts.ended(&mut run, ("b", None), RequestOutcome::Failed, (at(2), 0.5));
    assert_eq!(run.max_in_flight(Duration::ZERO), 0, "the API server as a whole");
}

#[test]
fn a_run_that_takes_long_ends_and_the_rest_need_not_wait() {
    let (mut attempts, limit) = (Attempts::default(), Duration::from_secs(5));
    let mut run = attempts.start(Verb::Create);
    attempts.ended(&mut run, ("a", None), RequestOutcome::Done, (at(1), 0.5));
    attempts.ended(&mut run, ("b", None), refused("b"), (at(5), 0.5));
    let before = limit.checked_sub(Duration::from_millis(1)).unwrap();
    assert_eq!((run.max_in_flight(before), run.max_in_flight(limit)), (8, 0));
    attempts.finish(&run, (at(5), 0.5));
    assert!(!attempts.is_paused(Verb::Create));
    assert_eq!(names(&attempts.due(&creates(&["a", "b", "c"]), at(5))), ["c"]);
}

#[test]
fn another_change_of_the_same_object_is_not_done_by_the_first_one() {
    let (mut attempts, keep, drop) = (Attempts::default(), policies(&["a"], true), policies(&["a"], false));
    run(&mut attempts, &keep, at(0), |_| RequestOutcome::Done);
    assert!(attempts.is_done(&keep.change[0]) && !attempts.is_done(&drop.change[0]));
    assert_eq!(names(&attempts.due(&keep, at(1))), [""; 0]);
    assert_eq!(names(&attempts.due(&drop, at(1))), ["a"]);
    run(&mut attempts, &drop, at(1), |_| RequestOutcome::Outdated);
    assert!(!attempts.is_done(&drop.change[0]), "the object is other than it was seen");
    assert_eq!(names(&attempts.due(&drop, at(1))), [""; 0]);
    assert_eq!(names(&attempts.due(&drop, at(2))), ["a"]);
}

#[test]
fn a_deletion_is_remembered_until_the_cache_shows_it() {
    let stored = stored_child("1.0.0");
    let (mut attempts, plan) = (Attempts::default(), module().plan(std::slice::from_ref(&stored)));
    assert_eq!(run(&mut attempts, &plan, at(0), |_| RequestOutcome::Done), ["network-1.0.0"]);
    // Its version is wanted again.
    assert_eq!(names(&attempts.due(&Plan::default(), at(1))), [""; 0]);
    let unseen = |children: &[&VersionState], now| attempts.clone().deleting(children, now).len();
    let (before, after) = (stored.lean(), stored.with(json!({"metadata": {"resourceVersion": "11"}})).lean());
    assert_eq!(unseen(&[&before], at(9)), 1);
    assert_eq!(unseen(&[&before], at(10)), 0, "the watch would have shown it");
    assert_eq!((unseen(&[&after], at(1)), unseen(&[], at(1))), (0, 0));
    assert_eq!(attempts.deleting(&[&after], at(1)).len(), 0);
    assert_eq!(attempts, Attempts::default(), "nothing is left of it");
    run(&mut attempts, &plan, at(2), refused);
    assert_eq!(attempts.deleting(&[&before], at(3)).len(), 0);
}

/// What becomes of a Module that is being deleted, after one run for these Versions.
fn left(
    retain: bool,
    names: &[&str],
    attempts: &mut Attempts,
    answer: fn(&str) -> RequestOutcome,
) -> FinalizerRemoval {
    let policy = if retain { "Retain" } else { "Delete" };
    let module = module().with_config(json!({"deletionPolicy": policy})).view();
    let plan = policies(names, retain);
    run(attempts, &plan, at(0), answer);
    removal(&module, &plan, attempts, false)
}

#[test]
fn a_refused_patch_holds_a_module_that_is_deleted_only_under_retain() {
    let many: Vec<String> = (0..40).map(|n| format!("v{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for versions in [&many[..1], &many[..]] {
        assert_eq!(left(false, versions, &mut Attempts::default(), refused), FinalizerRemoval::Now);
        let FinalizerRemoval::Refused(refused) = left(true, versions, &mut Attempts::default(), refused)
        else {
            panic!("{} Versions: the Module does not stay, or does not name one", versions.len())
        };
        assert_eq!(refused.words, "no v00");
        for retain in [true, false] {
            assert_eq!(
                left(retain, versions, &mut Attempts::default(), |_| RequestOutcome::Done),
                FinalizerRemoval::Now
            );
            assert_eq!(
                left(retain, versions, &mut Attempts::default(), |_| RequestOutcome::Outdated),
                FinalizerRemoval::Later
            );
            assert_eq!(
                left(retain, versions, &mut Attempts::default(), |_| RequestOutcome::Failed),
                FinalizerRemoval::Later
            );
        }
    }
}

#[test]
fn a_refused_create_holds_no_module_that_is_deleted() {
    for retain in [true, false] {
        let mut attempts = Attempts::default();
        run(&mut attempts, &creates(&["a", "b", "c", "d"]), at(0), refused);
        assert_eq!(attempts.refused().names.len(), 4);
        let policy = if retain { "Retain" } else { "Delete" };
        let module = module().with_config(json!({"deletionPolicy": policy})).view();
        attempts.due_of_existing(&Plan::default(), at(1));
        assert_eq!(removal(&module, &Plan::default(), &attempts, false), FinalizerRemoval::Now);
        assert_eq!(
            removal(&module, &Plan::default(), &attempts, true),
            FinalizerRemoval::Later,
            "one is not known yet"
        );
    }
}
