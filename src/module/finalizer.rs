//! The finalizer of a Module: as long as it is there, the Module's Versions can still be given its deletion policy.
//!
//! A Module that is deleted is gone at once, and then Kubernetes removes its Versions. Each has its own copy of the policy,
//! which may be older than the Module's. So a Module that has Versions stays until their copies agree. It waits for nothing
//! else: neither for S3 nor for the end of its Versions.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Api, DynamicObject};
use serde_json::json;

use super::apply;
use super::attempts::{Attempts, Refused};
use super::plan::{Change, Plan};
use super::select::{ModuleView, ours};
use crate::api::condition::{self, Outcome};
use crate::api::state::VersionState;
use crate::api::{MODULE_FINALIZER, ModuleStatus};
use crate::controller::client;
use crate::controller::failure::Reason;
use crate::domain::text::cut;

/// Pause between two Modules that get the finalizer although they had Versions before: ten a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a Module needs the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It has it, or has no Versions.
    None,
    /// It has Versions already, as after an upgrade: soon.
    Soon,
    /// It is about to get its first one: before that.
    First,
}

/// Whether `module` needs the finalizer before `plan` is run.
pub fn need(module: &ModuleView, plan: &Plan, children: &[&VersionState]) -> Need {
    if module.terminating() || has(module) {
        return Need::None;
    }
    if children.iter().any(|child| ours(module, child)) {
        return Need::Soon;
    }
    let first = !plan.create.is_empty() || plan.change.iter().any(|change| change.adopt);
    if first { Need::First } else { Need::None }
}

/// Whether the finalizer is on it.
pub fn has(module: &ModuleView) -> bool {
    module.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == MODULE_FINALIZER)
}

/// Hands out moments, [`PAUSE`] apart: an upgrade with thousands of Modules is no storm of writes.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Moments>);

#[derive(Debug, Default)]
struct Moments {
    /// The next that is free.
    free: Option<Instant>,
    /// The last that was used.
    used: Option<Instant>,
}

impl Pace {
    /// Whether it is the turn of one that holds the moment `due`, or none yet; else the moment that it holds from now on.
    /// One that comes late does not go together with others that are late: it takes another moment.
    pub fn turn(&self, due: Option<Instant>, now: Instant) -> Result<(), Instant> {
        let mut moments = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(later) = due.filter(|due| *due > now) {
            return Err(later);
        }
        let rested = moments.used.is_none_or(|used| used + PAUSE <= now);
        let free = moments.free.is_none_or(|free| free <= now);
        if rested && (free || due.is_some()) {
            moments.used = Some(now);
            moments.free = Some(moments.free.map_or(now, |free| free.max(now)).max(now + PAUSE));
            return Ok(());
        }
        let at = moments.free.map_or(now, |free| free.max(now));
        moments.free = Some(at + PAUSE);
        Err(at)
    }
}

/// What came of a write of the finalizer.
pub enum Written {
    /// It was written; the resourceVersion that is current then.
    Done(Option<String>),
    /// The object has changed since it was read.
    Outdated,
    /// The API server refuses, in words for the status.
    Refused(String),
}

/// Puts the finalizer on, beside those of others.
pub async fn add(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    resource_version: Option<&str>,
) -> Result<Written, kube::Error> {
    let mut all = module.metadata.finalizers.clone().unwrap_or_default();
    all.push(MODULE_FINALIZER.to_owned());
    write(api, module, resource_version, &all).await
}

/// Takes the finalizer off, wherever it is in the list; those of others stay.
pub async fn remove(api: &Api<DynamicObject>, module: &ModuleView) -> Result<Written, kube::Error> {
    let mut all = module.metadata.finalizers.clone().unwrap_or_default();
    all.retain(|finalizer| finalizer != MODULE_FINALIZER);
    write(api, module, module.metadata.resource_version.as_deref(), &all).await
}

async fn write(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    resource_version: Option<&str>,
    finalizers: &[String],
) -> Result<Written, kube::Error> {
    let name = module.metadata.name.as_deref().unwrap_or_default();
    let change = json!({"metadata": {"finalizers": finalizers}});
    match client::patch(api, name, resource_version, change).await {
        Ok(written) => Ok(Written::Done(written.metadata.resource_version)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
            Ok(Written::Outdated)
        }
        Err(kube::Error::Api(status)) if apply::is_refusal(&status) => Ok(Written::Refused(format!(
            "The finalizer {MODULE_FINALIZER} cannot be written, the API server refuses: {}",
            cut(&status.message, apply::MOST_WORDS)
        ))),
        Err(error) => Err(error),
    }
}

/// Whether a Module that is being deleted may go.
#[derive(Clone, Debug, PartialEq)]
pub enum Leave {
    /// It may.
    Now,
    /// Some of its Versions are still to be given its policy.
    Later,
    /// It stays, since these cannot be given its policy.
    Refused(Refused),
}

/// Whether `module`, which is being deleted, may go after `plan` was run. `unseen`: it made Versions that the watch does not
/// know yet. A refused patch holds it only under `Retain`: otherwise nothing is lost that it says is to be kept.
pub fn leave(module: &ModuleView, plan: &Plan, attempts: &Attempts, unseen: bool) -> Leave {
    let refused = attempts.refused_changes();
    // After a few refusals in a row the rest is not tried.
    let all_wait = attempts.refuses_changes();
    let open = |change: &Change| !attempts.is_done(change) && !refused.names.contains(&change.target.name);
    let open = !all_wait && plan.change.iter().any(open);
    match (module.policy.retain, refused.names.is_empty()) {
        _ if open => Leave::Later,
        (true, false) => Leave::Refused(refused),
        _ if unseen => Leave::Later,
        _ => Leave::Now,
    }
}

/// The status of a Module that stays because some of its Versions cannot be given its policy.
pub fn held(module: &ModuleView, refused: &Refused, now: Timestamp) -> ModuleStatus {
    let first = &refused.words;
    let more = match refused.names.len() {
        0 | 1 => String::new(),
        n => format!(" The same of {} more.", n - 1),
    };
    let message = format!(
        "The Module is being deleted, and stays until each of its Versions has deletionPolicy: Retain. {first}{more}"
    );
    let before = &module.status;
    let mut after = before.clone();
    let generation = module.metadata.generation;
    let reason = Reason::VersionRefused.as_str();
    after.observed_generation = generation;
    after.conditions =
        condition::set(&before.conditions, &Outcome::Stalled, reason, &message, generation, now);
    after.sync_status = Some(cut(&message, condition::MAX_MESSAGE));
    after
}
