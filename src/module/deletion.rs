//! The deletion of a Module: its Versions are given its deletion policy, and then its finalizer is removed.

use std::collections::HashSet;
use std::time::Instant;

use jiff::Timestamp;

use super::apply;
use super::attempts::{Attempts, FINALIZER};
use super::client::{ModuleClient, Written};
use super::context::Context;
use super::finalizer::{self, Removal};
use super::pace::Urgency;
use super::permit::Permit;
use super::plan::Plan;
use super::requeue::{Requeue, Unfinished};
use super::retry::MODULE_DEBOUNCE;
use super::view::ModuleView;
use crate::api::state::VersionState;
use crate::controller::work_queue::Action;

/// Reconciles a Module that is being deleted.
pub(super) async fn finalize(
    ctx: &Context,
    mut client: ModuleClient<'_>,
    (module, plan, children): (&ModuleView, &Plan, &[&VersionState]),
    (attempts, permit): (&mut Attempts, &mut Permit),
) -> Result<Action, Unfinished> {
    let now = Instant::now();
    let cached: HashSet<&str> = children.iter().map(|child| child.name()).collect();
    // A Version that was just created may have an older policy.
    let has_uncached = attempts.created_uncached(&cached, now);
    let due = attempts.due_of_existing(plan, now);
    let is_outdated = || client.is_outdated();
    let mut done = apply::apply(&ctx.client, module, &due, is_outdated, (&mut *attempts, permit)).await?;
    let mut requeue = Requeue::default();
    if has_uncached {
        requeue.after(MODULE_DEBOUNCE);
    }
    match finalizer::removal(module, plan, attempts, has_uncached) {
        Removal::Now => {}
        Removal::Later => return requeue.finish(&done, attempts),
        Removal::Refused(refused) => {
            let after =
                finalizer::blocked_status(module, &finalizer::without_policy(&refused), Timestamp::now());
            client.write_status(&module.status, &after, Urgency::Urgent).await?;
            return requeue.finish(&done, attempts);
        }
    }
    if !module.has_finalizer() {
        return Ok(Action::await_change());
    }
    if attempts.refusal(FINALIZER, now).is_some() {
        return Requeue::default().finish(&done, attempts);
    }
    match client.write_finalizers(&finalizer::removed(module)).await? {
        Written::Done => Ok(Action::await_change()),
        Written::Refused(words) => {
            let message =
                format!("The Module is being deleted, and stays until its finalizer is removed. {words}");
            let after = finalizer::blocked_status(module, &message, Timestamp::now());
            attempts.refuse(FINALIZER, words, (Instant::now(), rand::random()));
            client.write_status(&module.status, &after, Urgency::Urgent).await?;
            done.refused += 1;
            Requeue::default().finish(&done, attempts)
        }
        _ => Ok(Action::requeue(MODULE_DEBOUNCE)),
    }
}
