//! A Module's whole life against the model of the API server: whatever its users do and whatever fails, it comes to rest,
//! what it says then is true, and on the way nothing was lost.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::super::plan::Plan;
use super::super::rejected_requests::RejectedRequests;
use super::super::requests::{open_token, resets_force_sync, unopened};
use super::model::run;
use super::{ChildFixture, ModuleFixture, module, pass, with_key};
use crate::api::module::RemovalPolicy;
use crate::api::target::satisfies_spec;
use crate::api::{CONFIRM_REMOVAL, MODULE_REQUEST, REQUESTED_AT, condition};
use crate::domain::Release;

/// What happens between two times of rest.
#[derive(Clone, Debug)]
enum Act {
    /// `spec.versions` is replaced.
    List(Vec<u8>),
    Limit(usize),
    Suspend(bool),
    Immutable(bool),
    Force,
    Annotate(u8),
    Move(bool),
    /// Tags with this remainder do not exist, or do again.
    Break(Option<u8>),
    /// The objects of these Versions are lost.
    Lose(u8),
    /// All tags are moved to another commit.
    Retag,
    Retain(bool),
    /// `spec.removal` is Confirm, or not.
    Guard(bool),
    /// The present generation is confirmed.
    Confirm,
    /// The Module is deleted, and made again once it is gone.
    Remove,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(0..10_u8, 0..8).prop_map(Act::List),
        2 => (0..4_usize).prop_map(Act::Limit),
        1 => any::<bool>().prop_map(Act::Suspend),
        1 => any::<bool>().prop_map(Act::Immutable),
        2 => Just(Act::Force),
        1 => (0..3_u8).prop_map(Act::Annotate),
        1 => any::<bool>().prop_map(Act::Move),
        2 => prop::option::of(0..3_u8).prop_map(Act::Break),
        1 => (0..3_u8).prop_map(Act::Lose),
        1 => Just(Act::Retag),
        2 => any::<bool>().prop_map(Act::Retain),
        2 => any::<bool>().prop_map(Act::Guard),
        1 => Just(Act::Confirm),
        1 => Just(Act::Remove),
    ]
}

/// An entry of the list: one of them is no version.
fn spelled(number: u8) -> String {
    match number {
        9 => "latest".to_owned(),
        even if even.is_multiple_of(2) => format!("1.{even}.0"),
        odd => format!("v1.{odd}.0-rc.1"),
    }
}

struct World {
    module: ModuleFixture,
    children: Vec<ChildFixture>,
    broken: Option<u8>,
    content: usize,
    tokens: usize,
}

impl World {
    fn act(&mut self, act: &Act) {
        let module = self.module.clone();
        let change = match act {
            Act::List(numbers) => {
                let mut numbers = numbers.clone();
                numbers.dedup();
                let entries: Vec<_> = numbers.iter().map(|n| json!({"version": spelled(*n)})).collect();
                json!({"spec": {"versions": entries}})
            }
            Act::Limit(limit) => json!({"spec": {"moduleConfig": {"versionHistoryLimit": limit}}}),
            Act::Suspend(on) => json!({"spec": {"suspend": on}}),
            Act::Immutable(on) => json!({"spec": {"moduleConfig": {"immutable": on}}}),
            Act::Force => json!({"spec": {"forceSync": true}}),
            Act::Annotate(at) => json!({"metadata": {"annotations": {REQUESTED_AT: at.to_string()}}}),
            Act::Move(there) => {
                json!({"spec": {"moduleConfig": {"name": if *there { "net" } else { "network" }}}})
            }
            Act::Guard(on) => json!({"spec": {"removal": if *on { "Confirm" } else { "Immediate" }}}),
            Act::Confirm => {
                let generation = module.0["metadata"]["generation"].to_string();
                self.module = module.with(with_key(CONFIRM_REMOVAL, &generation));
                return;
            }
            Act::Retain(on) => {
                let policy = if *on { "Retain" } else { "Delete" };
                json!({"spec": {"moduleConfig": {"deletionPolicy": policy}}})
            }
            Act::Remove => json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            Act::Break(broken) => {
                self.broken = *broken;
                return;
            }
            Act::Retag => {
                self.content += 1;
                return;
            }
            Act::Lose(rest) => {
                for child in &mut self.children {
                    if minor(child) % 3 == *rest && child.lean().status.synced {
                        *child = child.clone().with(json!({"status": {"synced": false}}));
                    }
                }
                return;
            }
        };
        self.module = module.with(change).next_generation();
    }

    /// What each Version's own controller does: it stores its object, or fails.
    fn publish(&mut self) {
        self.children.retain(|child| !child.lean().is_terminating());
        let listed = self.module.decide(&self.children).0.wanted;
        for child in &mut self.children {
            let lean = child.lean();
            // What is left only because an entry of the list cannot be read receives no request.
            if lean.suspend || lean.module_suspended || !listed.iter().any(|w| w.name == child.name()) {
                continue;
            }
            let request = lean.annotation(MODULE_REQUEST).map(str::to_owned);
            let broken = self.broken == Some(minor(child) % 3);
            let fixture = child.clone().with(json!({"status": {"lastModuleRequest": request}}));
            *child = if broken {
                fixture.ready("False", "TagNotFound", "no such tag")
            } else {
                // What is pinned does not change with the tag.
                let immutable = child.0["spec"]["moduleConfigRef"]["immutable"] == true;
                let pinned = lean.status.content_digest.filter(|_| immutable).or(lean.expected_digest);
                let digest = pinned.unwrap_or_else(|| format!("h1:{}-{}", lean.version, self.content).into());
                fixture
                    .with(json!({"status": {"synced": true, "checksum": "c3Vt", "contentDigest": digest}}))
                    .stored_as_wanted()
                    .ready("True", "Synced", "")
            };
        }
    }

    /// One reconcile, as the driver does it. Whether it changed anything.
    fn reconcile(&mut self) -> Result<bool, TestCaseError> {
        let before = (self.module.0.clone(), self.children.iter().map(|c| c.0.clone()).collect::<Vec<_>>());
        let view = self.module.view();
        if view.is_terminating() {
            let plan = self.module.plan(&self.children);
            self.let_go(&plan)?;
            return Ok(true);
        }
        let token = unopened(&view).map(|_| {
            self.tokens += 1;
            format!("token-{}", self.tokens)
        });
        let decided = pass(&view, &self.children, &RejectedRequests::default(), token.as_deref());
        let (plan, status) = (decided.plan, decided.status);
        if let Some(old) = view.status.published.filter(|_| view.spec.module_config.immutable == Some(true)) {
            let new = status.published.clone().unwrap_or_default();
            prop_assert!(
                old.iter().all(|(version, digest)| new.get(version) == Some(digest)),
                "{old:?} {new:?}"
            );
        }
        self.module = self.module.clone().with_status(&status);
        if resets_force_sync(&self.module.view(), decided.ledger.force_token.as_deref()) {
            self.module = self.module.clone().with(json!({"spec": {"forceSync": false}})).next_generation();
        } else {
            self.assert_nothing_good_goes(&plan)?;
            self.children = run(&self.module, &plan, std::mem::take(&mut self.children));
        }
        self.publish();
        Ok(before != (self.module.0.clone(), self.children.iter().map(|c| c.0.clone()).collect()))
    }

    /// One reconcile of a Module that is deleted. Kubernetes removes its Versions when it is gone, and each does with its
    /// object what its own copy of the policy says.
    fn let_go(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        prop_assert!(plan.create.is_empty() && plan.delete.is_empty(), "{plan:?}");
        if !plan.change.is_empty() {
            self.children = run(&self.module, plan, std::mem::take(&mut self.children));
            return Ok(());
        }
        let retain = self.module.view().policy.retain;
        for child in self.children.drain(..) {
            prop_assert_eq!(child.lean().retain, retain, "{}", child.name());
        }
        let spec = self.module.0["spec"].clone();
        self.module = module().with(json!({"spec": spec}));
        Ok(())
    }

    /// What is deleted is not listed any more, or so many newer ones are stored and stay as are to be kept.
    fn assert_nothing_good_goes(&self, plan: &Plan) -> Result<(), TestCaseError> {
        let view = self.module.view();
        let listed: Vec<Release> =
            view.spec.versions.iter().filter_map(|entry| Release::parse(&entry.version).ok()).collect();
        let limit = view.spec.module_config.version_history_limit.unwrap_or(0);
        let is_deleted = |child: &ChildFixture| plan.delete.iter().any(|target| target.name == child.name());
        let removed = self.children.iter().filter(|child| is_deleted(child)).map(ChildFixture::lean);
        let removed = removed.filter(|child| {
            child.status.synced && !listed.contains(&Release::parse(&child.version).unwrap())
        });
        let generation = view.metadata.generation.unwrap_or_default().to_string();
        let confirmed = view.metadata.annotations.as_ref().and_then(|all| all.get(CONFIRM_REMOVAL));
        let is_confirmed = view.spec.removal == RemovalPolicy::Immediate || confirmed == Some(&generation);
        prop_assert!(is_confirmed || removed.count() <= 1, "{plan:?}");
        for child in self.children.iter().filter(|child| is_deleted(child)) {
            let lean = child.lean();
            let release = Release::parse(&lean.version).unwrap();
            prop_assert!(view.manages(&lean) && lean.has_finalizer);
            if listed.contains(&release) && lean.status.synced {
                let newer = self.children.iter().filter(|other| {
                    let newer = Release::parse(&other.lean().version).unwrap().precedence(&release).is_gt();
                    newer && other.lean().status.synced && !is_deleted(other)
                });
                prop_assert!(
                    limit > 0 && newer.count() >= usize::try_from(limit).unwrap(),
                    "{release} is deleted"
                );
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..12 {
            if !self.reconcile()? {
                return self.assert_true();
            }
        }
        Err(TestCaseError::fail(format!("it finds no rest: {}", self.module.0)))
    }

    /// What the Module says at rest is what there is.
    fn assert_true(&self) -> Result<(), TestCaseError> {
        let view = self.module.view();
        let stored: BTreeMap<String, bool> =
            self.children.iter().map(|c| (c.name().to_owned(), satisfies_spec(&c.lean()))).collect();
        let (selection, plan) = self.module.decide(&self.children);
        let waits = plan.removal.waits;
        prop_assert!(waits || plan.removal.stored.is_empty());
        prop_assert_eq!(&plan, &Plan { removal: plan.removal.clone(), ..Plan::default() });
        let wanted: Vec<&str> = selection.wanted.iter().map(|w| w.name.as_str()).collect();
        let all = wanted.iter().all(|name| stored.get(*name) == Some(&true));
        if view.spec.module_config.immutable == Some(true) {
            let published = view.status.published.clone().unwrap_or_default();
            for child in self.children.iter().map(ChildFixture::lean) {
                let release = Release::parse(&child.version).unwrap().to_string();
                let published = published.get(&release).map(String::as_str);
                prop_assert_eq!(child.status.content_digest.as_deref(), published, "{}", release);
            }
        }
        let readable = selection.invalid.is_empty();
        prop_assert_eq!(view.status.observed_generation, view.metadata.generation);
        if view.spec.suspend {
            // What was to be moved meanwhile is not stored where it should be.
            prop_assert!(view.status.synced == Some(false) || (all && readable));
            return Ok(());
        }
        prop_assert_eq!(view.status.synced, Some(all && readable));
        prop_assert!(open_token(&view).is_none() && !view.spec.force_sync, "{:?}", view.status.force_token);
        // With an entry that cannot be read, or without a confirmation, nothing is removed.
        prop_assert!(stored.len() == wanted.len() || !readable || waits, "what is not wanted is gone");
        let due =
            |child: &&ChildFixture| wanted.contains(&child.name()) && self.broken != Some(minor(child) % 3);
        prop_assert!(
            self.children.iter().filter(due).all(|c| c.lean().status.synced),
            "what can be stored is"
        );
        let failed = self.children.iter().any(|c| c.lean().status.is_ready() == Some(false));
        let ready = condition::find(&view.status.conditions, "Ready").unwrap();
        prop_assert_eq!(
            &*ready.status,
            if failed || !all || !readable || waits { "False" } else { "True" },
            "{}",
            ready.message
        );
        Ok(())
    }
}

/// The number that a Version was made from.
fn minor(child: &ChildFixture) -> u8 {
    child.lean().version.split('.').nth(1).unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn it_comes_to_rest_and_says_what_is_true(acts in prop::collection::vec((act(), 0..3_usize), 1..8)) {
        let mut world = World { module: module(), children: Vec::new(), broken: None, content: 0, tokens: 0 };
        for (act, reconciles) in acts {
            world.act(&act);
            // The next thing may happen before it has come to rest.
            if reconciles == 0 {
                world.settle()?;
            }
            for _ in 0..reconciles {
                world.reconcile()?;
            }
        }
        world.settle()?;
    }
}
