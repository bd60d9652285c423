//! Which Module holds an address: a table of situations, and any order of events on a model of the API server and its watch.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::address::{Addressing, ClaimOutcome};
use super::super::addressable;
use super::super::addresses::{Addresses, StatusWrite};
use super::super::select::Selection;
use super::{at, merge, module};
use crate::api::condition;
use crate::api::state::{AddressState, ModuleListing, ModuleState};
use crate::api::{CLAIM_ADDRESS, REGISTRY_NAME};
use crate::domain::Address;

const NAMESPACE: &str = "acme";

fn address(name: &str) -> Address {
    Address { namespace: NAMESPACE.into(), name: name.into(), system: "aws".into() }
}

/// A Module as it is stored.
fn stored(name: &str, claim: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"moduleConfig": {"name": claim, "provider": "aws"}},
        "status": {},
    })
}

fn with(mut object: Value, change: Value) -> Value {
    merge(&mut object, change);
    object
}

fn state(object: &Value) -> ModuleState {
    serde_json::from_value(object.clone()).unwrap()
}

fn read(object: &Value) -> AddressState {
    state(object).address
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn claiming(name: &str) -> Value {
    json!({"spec": {"moduleConfig": {"name": name}}})
}

fn asking(name: &str) -> Value {
    json!({"metadata": {"annotations": {CLAIM_ADDRESS: address(name).to_string()}}})
}

/// The decision on the first of these Modules.
fn decide(all: &[Value]) -> Addressing {
    let addresses = Addresses::default();
    for object in all {
        addresses.observe(&state(object), |_, _, _| true);
    }
    let uid = all[0]["metadata"]["uid"].as_str().unwrap();
    addresses.decide((NAMESPACE, uid), (&read(&all[0]), None), |_, _| true).unwrap().0
}

fn holder(name: &str, claim: &str) -> Value {
    with(stored(name, claim), json!({"status": {"address": address("x").to_string()}}))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn an_address_is_held_until_its_holder_claims_another() {
    let x = || address("x");
    let refused = json!({"status": {"refusedAddress": x().to_string()}});
    let void = json!({"status": {"claimVoid": true}});
    let asks = json!({"metadata": {"annotations": {CLAIM_ADDRESS: x().to_string()}}});
    let older = json!({"metadata": {"creationTimestamp": "2025-01-01T00:00:00Z"}});
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let no_provider = json!({"spec": {"moduleConfig": {"provider": ""}}});
    let me = || stored("me", "x");
    let taken = |holder: &str| ClaimOutcome::Taken { address: x(), holder: holder.into() };
    let first = |name: &str| ClaimOutcome::Contended { address: x(), first: name.into() };
    let held = ClaimOutcome::Held(x());
    // What, the Modules, the outcome for the first, and whether it is then refused, and its annotation void.
    let table: Vec<(&str, Vec<Value>, ClaimOutcome, bool, bool)> = vec![
        ("free", vec![me()], held.clone(), false, false),
        ("another address is held", vec![me(), stored("other", "y")], held.clone(), false, false),
        ("held by itself", vec![holder("me", "x"), stored("other", "x")], held.clone(), false, false),
        (
            "held by itself, an older one claims it",
            vec![holder("me", "x"), with(stored("other", "x"), older.clone())],
            held.clone(),
            false,
            false,
        ),
        ("held", vec![me(), holder("other", "x")], taken("other"), true, false),
        (
            "an older one claims what is held",
            vec![with(me(), older.clone()), holder("other", "x")],
            taken("other"),
            true,
            false,
        ),
        (
            "held by one that is deleted",
            vec![me(), with(holder("other", "x"), deleted.clone())],
            taken("other"),
            true,
            false,
        ),
        (
            "held by one that claims nothing",
            vec![me(), with(holder("other", "x"), no_provider)],
            taken("other"),
            true,
            false,
        ),
        (
            "asked for too early",
            vec![with(me(), asks.clone()), holder("other", "x")],
            taken("other"),
            true,
            true,
        ),
        (
            "held by one that claims another",
            vec![me(), holder("other", "y")],
            ClaimOutcome::Leaving { address: x(), holder: "other".into() },
            false,
            false,
        ),
        ("refused", vec![with(me(), refused.clone())], ClaimOutcome::Refused(x()), true, false),
        (
            "refused before, and asked for",
            vec![with(with(me(), refused.clone()), asks.clone())],
            held.clone(),
            false,
            false,
        ),
        (
            "refused before, and asked for too early",
            vec![with(with(with(me(), refused.clone()), asks.clone()), void.clone())],
            ClaimOutcome::Refused(x()),
            true,
            true,
        ),
        (
            "refused before, and not asked for any more",
            vec![with(with(me(), refused.clone()), void)],
            ClaimOutcome::Refused(x()),
            true,
            false,
        ),
        (
            "refused another",
            vec![with(stored("me", "y"), refused.clone())],
            ClaimOutcome::Held(address("y")),
            false,
            false,
        ),
        (
            "two at once, the older",
            vec![with(me(), older.clone()), stored("other", "x")],
            held.clone(),
            false,
            false,
        ),
        (
            "two at once, the younger",
            vec![me(), with(stored("other", "x"), older.clone())],
            first("other"),
            false,
            false,
        ),
        ("two in one second", vec![me(), stored("a", "x")], first("a"), false, false),
        (
            "one that is deleted claims it too",
            vec![me(), with(with(stored("a", "x"), older.clone()), deleted)],
            held.clone(),
            false,
            false,
        ),
        (
            "one that was refused claims it too",
            vec![me(), with(with(stored("a", "x"), older.clone()), refused.clone())],
            held.clone(),
            false,
            false,
        ),
        (
            "one that was refused asks for it, and another was not",
            vec![with(with(with(me(), older), refused), asks), stored("other", "x")],
            first("other"),
            true,
            false,
        ),
    ];
    for (what, modules, outcome, is_refused, is_void) in table {
        let decision = decide(&modules);
        assert_eq!(decision.outcome, outcome, "{what}");
        let has = matches!(outcome, ClaimOutcome::Held(_)).then(|| read(&modules[0]).claim.unwrap());
        assert_eq!(decision.held, has, "{what}");
        assert_eq!((decision.refused.is_some(), decision.claim_void), (is_refused, is_void), "{what}");
    }
}

#[test]
fn what_claims_no_address_keeps_the_one_that_it_has() {
    let decision = decide(&[with(holder("me", "x.y"), json!({})), stored("other", "x")]);
    assert_eq!((decision.held, decision.refused), (Some(address("x")), None));
    let renamed = with(holder("me", "x.y"), json!({"metadata": {"annotations": {REGISTRY_NAME: "z"}}}));
    assert_eq!(decide(&[renamed]).held, Some(address("z")));
}

#[test]
fn two_that_swap_their_addresses_do_not_block_each_other() {
    let mut world = World::default();
    world.create("a", "x");
    world.create("b", "y");
    world.settle();
    world.edit(0, &claiming("y"));
    world.edit(1, &claiming("x"));
    world.settle();
    assert_eq!(world.held(), [("a", "acme/y/aws"), ("b", "acme/x/aws")]);
}

/// A list shows the Modules one after the other, here `b` first. Those that are gone are forgotten after it.
#[test]
fn after_a_gap_of_the_watch_a_claim_is_void_only_if_the_list_shows_the_holder() {
    type Gap = (&'static str, fn(&mut World), bool);
    let gaps: [Gap; 3] = [
        ("the holder was deleted", |world| world.delete(1), true),
        ("the holder claims another", |world| world.edit(1, &claiming("z")), true),
        ("the holder changed and stays", |world| world.edit(1, &asking("z")), false),
    ];
    for (gap, change, is_given) in gaps {
        let mut world = World::default();
        world.create("b", "y");
        world.create("a", "x");
        world.settle();
        world.edit(0, &claiming("x"));
        world.settle();
        assert_eq!(world.held(), [("a", "acme/x/aws")], "{gap}");
        change(&mut world);
        world.edit(0, &asking("x"));
        world.relist();
        world.settle();
        let found = read(&world.objects["uid-1"]);
        assert_eq!((found.held, found.claim_void), (is_given.then(|| address("x")), !is_given), "{gap}");
    }
}

#[test]
fn a_module_that_is_not_as_the_watch_has_it_waits_for_the_watch() {
    let addresses = Addresses::default();
    let (before, after) = (stored("me", "x"), stored("me", "y"));
    assert_eq!(addresses.decide((NAMESPACE, "uid-of-me"), (&read(&before), None), |_, _| true), None);
    addresses.observe(&state(&before), |_, _, _| true);
    assert_eq!(addresses.decide((NAMESPACE, "uid-of-me"), (&read(&after), None), |_, _| true), None);
    assert!(addresses.decide((NAMESPACE, "uid-of-me"), (&read(&before), None), |_, _| true).is_some());
}

#[test]
fn the_condition_says_what_to_do_and_moves_its_time_on_a_flip_only() {
    let claim = "kubectl annotate --field-manager=opendepot-release --overwrite -n acme modules.opendepot.defdev.io/network \
                 opendepot.defdev.io/claim-address=acme/x/aws";
    let x = || address("x");
    let explain = |outcome: &ClaimOutcome, claim_void: bool, versions: &[&str]| {
        let asks = claim_void.then(|| x().to_string());
        let module = module().with_versions(versions.iter().copied());
        let module =
            module.with(json!({"metadata": {"annotations": {CLAIM_ADDRESS: asks.unwrap_or_default()}}}));
        let addressing = Addressing { held: None, refused: None, claim_void, outcome: outcome.clone() };
        let selection = module.decide(&[]).0;
        let found = addressable::condition(&module.view(), &addressing, &selection, at(100));
        (found.status, found.reason, found.message)
    };
    let taken = ClaimOutcome::Taken { address: x(), holder: "eks".into() };
    let (status, reason, message) = explain(&taken, false, &[]);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "AddressTaken"));
    assert!(message.contains("Module eks has") && message.ends_with(claim), "{message}");
    assert!(!message.contains("is void") && message.contains(REGISTRY_NAME), "{message}");
    assert!(explain(&taken, true, &[]).2.contains("is void"));
    let (_, _, message) = explain(&ClaimOutcome::Refused(x()), false, &[]);
    assert!(message.contains("No Module has it now") && message.ends_with(claim), "{message}");
    let (_, _, message) = explain(&ClaimOutcome::Refused(x()), true, &[]);
    assert!(message.contains("is void") && message.ends_with(claim), "{message}");
    let (status, reason, message) = explain(&ClaimOutcome::Held(x()), false, &["1.0.0"]);
    assert_eq!((&*status, &*reason, &*message), ("True", "Addressable", "acme/x/aws"));
    let large = "9999999999999999999.0.0";
    let (status, _, message) = explain(&ClaimOutcome::Held(x()), false, &["1.0.0", large]);
    assert!(status == "True" && message.contains(large) && !message.contains("1.0.0,"), "{message}");

    let selection = Selection::default();
    let mut view = module().view();
    let mut set = |outcome: ClaimOutcome, second| {
        let addressing = Addressing { held: None, refused: None, claim_void: false, outcome };
        let found = addressable::condition(&view, &addressing, &selection, at(second));
        view.status.conditions = vec![found.clone()];
        found.last_transition_time.0
    };
    assert_eq!(set(ClaimOutcome::Held(x()), 1), at(1));
    assert_eq!(set(ClaimOutcome::Held(x()), 2), at(1));
    assert_eq!(set(taken, 3), at(3));
    assert_eq!(set(ClaimOutcome::Refused(x()), 4), at(3));
}

#[test]
fn the_command_is_whole_however_long_the_names_are() {
    for length in [30, 64, 150, 253] {
        let name = "n".repeat(length);
        let part = "a".repeat(length.min(64));
        let address: Address = format!("{part}/{part}/{part}").parse().unwrap();
        let metadata = json!({"name": name, "namespace": "s".repeat(length.min(63)),
            "annotations": {CLAIM_ADDRESS: address.to_string()}});
        let view = module().with(json!({"metadata": metadata})).view();
        let command = view.annotate(&format!("{CLAIM_ADDRESS}={address}"));
        for claim_void in [false, true] {
            for outcome in [
                ClaimOutcome::Taken { address: address.clone(), holder: name.clone() },
                ClaimOutcome::Refused(address.clone()),
            ] {
                let addressing = Addressing { held: None, refused: None, claim_void, outcome };
                let found = addressable::condition(&view, &addressing, &Selection::default(), at(100));
                let stored = json!({"status": {"conditions": [found]}});
                let listing: ModuleListing = serde_json::from_value(stored).unwrap();
                for message in [found.message.as_str(), listing.refusal.as_deref().unwrap()] {
                    assert!(message.ends_with(&command), "{length}: {message}");
                }
            }
        }
    }
}

#[test]
fn a_status_without_a_decision_keeps_its_address() {
    let kept = json!({"status": {"address": "acme/network/aws", "conditions": [{
        "type": "Addressable", "status": "True", "reason": "Addressable", "message": "acme/network/aws",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    let status = module().with(kept).status(&[], None);
    assert_eq!(status.address.as_deref(), Some("acme/network/aws"));
    assert!(condition::find(&status.conditions, "Addressable").is_some());
}

/// The API server, its watch, which is behind, and this process.
#[derive(Default)]
struct World {
    /// The Modules that exist, by UID.
    objects: BTreeMap<String, Value>,
    /// The Modules whose annotation was there while another had the address, with the revision from which on.
    early: BTreeMap<String, u64>,
    revision: u64,
    /// Events that the watch has not delivered: the object, and whether it was deleted.
    events: std::collections::VecDeque<(Value, bool)>,
    /// The resourceVersions of the Modules in the cache, by UID.
    cached: BTreeMap<String, String>,
    addresses: Addresses,
    queue: BTreeSet<String>,
    /// Decisions that are not written yet, with the resourceVersion on which they were made.
    decided: BTreeMap<String, (String, Addressing)>,
    /// The outcome that the condition of a Module shows.
    shown: BTreeMap<String, ClaimOutcome>,
    created: u64,
}

/// How a write ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Answered,
    /// It was stored, but the answer was lost.
    Lost,
    Refused,
}

impl World {
    fn create(&mut self, name: &str, claim: &str) {
        if self.objects.values().any(|object| object["metadata"]["name"] == name) {
            return;
        }
        self.created += 1;
        let uid = format!("uid-{}", self.created);
        let second = self.created / 2;
        let meta = json!({"uid": uid, "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60)});
        self.store(&uid, with(stored(name, claim), json!({"metadata": meta})));
    }

    fn store(&mut self, uid: &str, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push_back((object.clone(), false));
        let before = self.objects.insert(uid.to_owned(), object.clone());
        let asks = |object: &Value| read(object).annotation;
        if before.as_ref().and_then(asks) != asks(&object) {
            self.early.remove(uid);
        }
        self.note_early();
    }

    /// An annotation is early if it is there while another Module has the address.
    fn note_early(&mut self) {
        for (uid, object) in &self.objects {
            let state = read(object);
            let Some(asked) = &state.annotation else { continue };
            let keeps = |other: &Value| {
                let other = read(other);
                other.held.as_ref() == Some(asked)
                    && other.claim.as_ref().map_or(true, |claim| claim == asked)
            };
            if self.objects.iter().any(|(other, object)| other != uid && keeps(object)) {
                self.early.entry(uid.clone()).or_insert(self.revision);
            }
        }
    }

    fn uid(&self, index: usize) -> Option<String> {
        self.objects.keys().nth(index % self.objects.len().max(1)).cloned()
    }

    fn edit(&mut self, index: usize, change: &Value) {
        let Some(uid) = self.uid(index) else { return };
        let object = with(self.objects[&uid].clone(), change.clone());
        self.store(&uid, object);
    }

    fn delete(&mut self, index: usize) {
        let Some(uid) = self.uid(index) else { return };
        let object = self.objects.remove(&uid).unwrap();
        self.revision += 1;
        self.events.push_back((object, true));
    }

    fn deliver(&mut self) {
        let Some((object, deleted)) = self.events.pop_front() else { return };
        let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
        let names = if deleted {
            self.cached.remove(&uid);
            self.addresses.gone(&state(&object))
        } else {
            self.cached.insert(uid.clone(), version(&object));
            self.observe(&object)
        };
        self.queue.insert(uid);
        self.wake(names);
    }

    fn observe(&self, object: &Value) -> Vec<String> {
        self.addresses.observe(&state(object), |_, uid, version| {
            self.cached.get(uid).is_some_and(|cached| Some(cached.as_str()) == version)
        })
    }

    /// The watch was interrupted, and lists all Modules. What was undone before the list is not seen.
    fn relist(&mut self) {
        let seen = self.revision - self.events.len() as u64;
        self.events.clear();
        self.early.retain(|_, since| *since <= seen);
        self.note_early();
        self.cached = self.objects.iter().map(|(uid, object)| (uid.clone(), version(object))).collect();
        let mut names: Vec<String> = self.objects.values().flat_map(|object| self.observe(object)).collect();
        let uids: HashSet<&str> = self.objects.keys().map(String::as_str).collect();
        names.extend(self.addresses.keep_only(&uids).into_iter().map(|(_, name)| name));
        self.queue.extend(self.objects.keys().cloned());
        self.wake(names);
    }

    fn wake(&mut self, names: Vec<String>) {
        for name in names {
            let module = self.objects.iter().find(|(_, object)| object["metadata"]["name"] == name);
            self.queue.extend(module.map(|(uid, _)| uid.clone()));
        }
    }

    fn decide(&mut self, uid: &str) {
        let Some(object) = self.objects.get(uid) else { return };
        let cached = |_: &str, uid: &str| self.cached.contains_key(uid);
        let version = object["metadata"]["resourceVersion"].as_str();
        let decision = self.addresses.decide((NAMESPACE, uid), (&read(object), version), cached);
        self.queue.remove(uid);
        let Some((decision, names)) = decision else { return };
        let version = version.unwrap().to_owned();
        self.wake(names);
        self.decided.insert(uid.to_owned(), (version, decision));
    }

    fn write(&mut self, uid: &str, end: End) {
        let Some((version, decision)) = self.decided.remove(uid) else { return };
        let is_current =
            self.objects.get(uid).is_some_and(|object| object["metadata"]["resourceVersion"] == version);
        if is_current && !matches!(end, End::Refused) {
            self.check(uid, &decision);
            let object = &self.objects[uid];
            let mut next = object.clone();
            next["status"] = json!({
                "address": decision.held.as_ref().map(ToString::to_string),
                "refusedAddress": decision.refused.as_ref().map(ToString::to_string),
                "claimVoid": decision.claim_void,
            });
            self.shown.insert(uid.to_owned(), decision.outcome);
            if read(&next) != read(object) {
                self.store(uid, next);
            }
        }
        let version = self.objects.get(uid).and_then(|object| object["metadata"]["resourceVersion"].as_str());
        let end = match end {
            _ if !is_current => StatusWrite::None,
            End::Refused => StatusWrite::None,
            End::Answered => StatusWrite::Done(version),
            End::Lost => StatusWrite::Unknown,
        };
        if !matches!(end, StatusWrite::Done(_)) {
            self.queue.insert(uid.to_owned());
        }
        let names = self.addresses.written((NAMESPACE, uid), end);
        self.wake(names);
    }

    /// What must hold of a status before it is written.
    fn check(&self, uid: &str, decision: &Addressing) {
        let before = read(&self.objects[uid]);
        let Some(held) = decision.held.as_ref().filter(|held| before.held.as_ref() != Some(held)) else {
            return;
        };
        let others = self.objects.iter().filter(|(other, _)| other.as_str() != uid);
        let holders: Vec<&String> = others
            .filter(|(_, object)| read(object).held.as_ref() == Some(held))
            .map(|(other, _)| other)
            .collect();
        assert!(holders.is_empty(), "{held} is given to {uid}, and {holders:?} have it");
        if before.refused.as_ref() == Some(held) {
            assert_eq!(before.annotation.as_ref(), Some(held), "{uid} inherits");
            assert!(!self.early.contains_key(uid), "{uid} asked for {held} while another had it");
        }
    }

    /// Delivers and reconciles until nothing is left to do.
    fn settle(&mut self) {
        for uid in self.decided.keys().cloned().collect::<Vec<_>>() {
            self.write(&uid, End::Answered);
        }
        for _ in 0..200 {
            while !self.events.is_empty() {
                self.deliver();
            }
            let Some(uid) = self.queue.pop_first() else { return };
            self.decide(&uid);
            self.write(&uid, End::Answered);
        }
        panic!("no rest");
    }

    fn held(&self) -> Vec<(&str, &str)> {
        self.objects
            .values()
            .filter_map(|object| {
                Some((object["metadata"]["name"].as_str()?, object["status"]["address"].as_str()?))
            })
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(&'static str, &'static str),
    Delete(usize),
    Claim(usize, &'static str),
    Annotate(usize, Option<&'static str>),
    Deliver(usize),
    Relist,
    Decide(usize),
    Write(usize, End),
}

fn step() -> impl Strategy<Value = Step> {
    use Step::{Annotate, Claim, Create, Decide, Delete, Deliver, Relist, Write};
    let names = || prop::sample::select(vec!["a", "b", "c"]);
    // `x.` is no name that clients accept.
    let claims = || prop::sample::select(vec!["x", "x", "y", "x."]);
    let asked = prop::sample::select(vec![None, Some("x"), Some("x"), Some("y")]);
    let end = prop::sample::select(vec![End::Answered, End::Answered, End::Lost, End::Refused]);
    prop_oneof![
        2 => (names(), claims()).prop_map(|(name, claim)| Create(name, claim)),
        1 => (0..3_usize).prop_map(Delete),
        2 => (0..3_usize, claims()).prop_map(|(at, claim)| Claim(at, claim)),
        3 => (0..3_usize, asked).prop_map(|(at, asked)| Annotate(at, asked)),
        5 => (1..4_usize).prop_map(Deliver),
        1 => Just(Relist),
        6 => (0..3_usize).prop_map(Decide),
        5 => (0..3_usize, end).prop_map(|(at, end)| Write(at, end)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn in_any_order_of_events_an_address_has_one_holder_and_is_never_inherited_unasked(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Create(name, claim) => world.create(name, claim),
                Step::Delete(at) => world.delete(at),
                Step::Claim(at, claim) => world.edit(at, &claiming(claim)),
                Step::Annotate(at, Some(asked)) => world.edit(at, &asking(asked)),
                Step::Annotate(at, None) => {
                    world.edit(at, &json!({"metadata": {"annotations": {}}}));
                    if let Some(uid) = world.uid(at) {
                        let mut object = world.objects[&uid].clone();
                        object["metadata"]["annotations"] = json!({});
                        world.store(&uid, object);
                    }
                }
                Step::Deliver(count) => (0..count).for_each(|_| world.deliver()),
                Step::Relist => world.relist(),
                Step::Decide(at) => {
                    if let Some(uid) = world.uid(at).filter(|uid| !world.decided.contains_key(uid)) {
                        world.decide(&uid);
                    }
                }
                Step::Write(at, end) => {
                    if let Some(uid) = world.uid(at) {
                        world.write(&uid, end);
                    }
                }
            }
        }
        world.settle();
        // At rest, each condition shows what holds, and what may be given was given.
        for (uid, object) in world.objects.clone() {
            let now = world.addresses.decide((NAMESPACE, &uid), (&read(&object), None), |_, _| true).unwrap().0;
            prop_assert_eq!(Some(&now.outcome), world.shown.get(&uid), "{}", object);
            prop_assert!(!matches!(now.outcome, ClaimOutcome::Leaving { .. } | ClaimOutcome::Contended { .. }), "{:?}", now);
            prop_assert_eq!(now.held, read(&object).held);
        }
        let held = world.held();
        let distinct: BTreeSet<&str> = held.iter().map(|(_, address)| *address).collect();
        prop_assert_eq!(held.len(), distinct.len());
    }
}
