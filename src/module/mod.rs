//! The Module controller: keeps one Version object for each version that a Module wants.
//!
//! The order of a reconcile: [`client`] reads the Module into a [`view`]; [`select`], [`ledger`], [`plan`] and
//! [`status`] decide (pure); [`client`] writes the status; [`apply`] sends the plan. It sends no request to GitHub or S3.

mod address;
mod addressable;
mod addresses;
mod altered;
mod apply;
mod attempts;
mod batch;
mod client;
mod conflict;
mod context;
mod deletion;
mod digests;
mod edit;
mod file_name;
mod finalizer;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ledger;
mod legacy;
mod memory;
mod pace;
mod pass;
mod patch;
mod permit;
mod plan;
mod rejected_requests;
mod removal;
mod requests;
mod requeue;
mod select;
mod status;
mod summary;
#[cfg(test)]
mod tests;
mod versions;
mod view;

use std::sync::Arc;
use std::time::Instant;

use self::attempts::Attempts;
use self::ledger::Ledger;
use self::pass::Pass;
use self::permit::Permit;
use self::requeue::Unfinished;
use self::status::Facts;
use crate::api::state::{ModuleState, VersionState};
use crate::controller::work_queue::Action;
use crate::observe::metrics::Queue;

pub use self::addresses::Addresses;
pub use self::context::{Context, WaitingModules};
pub use self::finalizer::FinalizerPace;
pub use self::memory::Memories;
pub use self::permit::Permits;
pub use self::versions::Versions;

/// Waits for a permit, reconciles the Module, and decides when to do so again.
pub async fn reconcile(cached: Arc<ModuleState>, ctx: Arc<Context>) -> Action {
    let uid = cached.uid();
    if let Err(pause) = ctx.memories.with(uid, |memory| memory.start(&cached, Instant::now())) {
        return Action::requeue(pause);
    }
    let (failures, mut attempts) =
        ctx.memories.with(uid, |memory| (memory.failures, std::mem::take(&mut memory.attempts)));
    let permit = ctx.permits.acquire(cached.namespace(), attempts.had_refusals() || failures > 0);
    let mut permit = ctx.metrics.queued(Queue::MODULES, permit).await;
    let since = Instant::now();
    // Boxed, and made only now: thousands of Modules may wait above, and a future has the size of all that it awaits.
    let result = Box::pin(reconcile_module(&ctx, &cached, &mut attempts, &mut permit)).await;
    ctx.memories.if_known(uid, |memory| memory.attempts = attempts);
    match result {
        Ok(next) | Err(Unfinished::Again(next)) => {
            ctx.metrics.reconciled("module", "settled", since);
            ctx.memories.if_known(uid, |memory| memory.failures = 0);
            next
        }
        Err(error) => {
            ctx.metrics.reconciled("module", "failed", since);
            ctx.metrics.failed("module", error.reason().as_str());
            tracing::warn!(%error, "the reconcile failed; retrying");
            let (failures, next) = error.retry(failures);
            ctx.memories.if_known(uid, |memory| memory.failures = failures);
            next
        }
    }
}

/// One pass: read, decide, write the status, then the Module, then its Versions.
async fn reconcile_module(
    ctx: &Context,
    cached: &ModuleState,
    attempts: &mut Attempts,
    permit: &mut Permit,
) -> Result<Action, Unfinished> {
    let Some(mut pass) = Pass::read(ctx, cached, attempts, permit).await? else {
        ctx.forget(cached);
        return Ok(Action::await_change());
    };
    let (token, refused) = (pass.new_token(), pass.attempts.refused());
    let own = ctx.versions.of_module(pass.module.namespace(), pass.module.name(), pass.module.uid());
    let mut children: Vec<&VersionState> = own.iter().map(AsRef::as_ref).collect();
    pass.module.deleting = pass.attempts.deleting(&children, Instant::now());

    // These decisions are pure. The status is the last one, in `write_status`.
    let selection = select::select(&pass.module, &children);
    let others = ctx.versions.others(&pass.module, &selection);
    children.extend(others.iter().map(AsRef::as_ref));
    let children = children.as_slice();
    let ledger = Ledger::next(&pass.module, (&selection, children), &refused, pass.is_too_large, token);
    let mut plan = plan::plan(&pass.module, &ledger, &selection, children);

    ctx.waiting.set(pass.module.namespace(), pass.module.name(), plan.conflicts.keys());
    if pass.module.is_terminating() {
        return pass.delete(&plan, children).await;
    }
    pass.decide_address();
    let facts = Facts { selection: &selection, children, ledger: &ledger, plan: &plan, refused: &refused };
    pass.write_status(&facts).await?;
    pass.limit(&mut plan, children);
    pass.write_module(&ledger, &plan, children).await?;
    let mut done = pass.apply(&plan).await?;
    let facts = Facts { selection: &selection, children, ledger: &ledger, plan: &plan, refused: &refused };
    pass.report_refusals(&facts, &mut done).await?;
    match pass.status_refusal {
        Some(words) => Err(Unfinished::StatusRefused(words)),
        None => pass.requeue.finish(&done, pass.attempts),
    }
}
