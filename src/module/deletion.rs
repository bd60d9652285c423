//! The deletion of a Module: its Versions are given its deletion policy, and then its finalizer is removed.

use std::collections::HashSet;
use std::time::Instant;

use jiff::Timestamp;

use super::apply;
use super::attempts::FINALIZER;
use super::client::Written;
use super::finalizer::{self, FinalizerRemoval};
use super::memory::MODULE_DEBOUNCE;
use super::pace::{self, Urgency};
use super::pass::Pass;
use super::plan::Plan;
use super::requeue::{Requeue, Unfinished};
use crate::api::condition::Outcome;
use crate::api::state::VersionState;
use crate::controller::failure::Reason;
use crate::controller::work_queue::Action;

impl Pass<'_> {
    /// Ends the reconcile of a Module that is being deleted.
    pub(super) async fn delete(
        mut self,
        plan: &Plan,
        children: &[&VersionState],
    ) -> Result<Action, Unfinished> {
        self.ctx.answer(&self.module, &self.deletions);
        let now = Instant::now();
        let cached: HashSet<&str> = children.iter().map(|child| child.name()).collect();
        // A Version that was just created may have an older policy.
        let has_uncached = self.attempts.created_uncached(&cached, now);
        // Not `self.requeue`: a throttled request is not part of a deletion.
        let mut requeue = Requeue::default();
        if has_uncached {
            requeue.after(MODULE_DEBOUNCE);
        }
        let due = self.attempts.due_of_existing(plan, now);
        let progress = (&mut *self.attempts, &mut *self.permit);
        let mut done = apply::apply(&self.client, &self.module, &due, progress).await?;
        let message = match finalizer::removal(&self.module, plan, self.attempts, has_uncached) {
            FinalizerRemoval::Later => return requeue.finish(&done, self.attempts),
            FinalizerRemoval::Refused(refused) => finalizer::without_policy(&refused),
            FinalizerRemoval::Now if !self.module.has_finalizer() => {
                return self.report_undeletable(children).await;
            }
            FinalizerRemoval::Now if self.attempts.is_refused(FINALIZER, now) => {
                return requeue.finish(&done, self.attempts);
            }
            FinalizerRemoval::Now => {
                match self.client.write_finalizers(&finalizer::removed(&self.module)).await? {
                    Written::Done => return Ok(Action::await_change()),
                    Written::Refused(words) => {
                        done.refused += 1;
                        self.refuse(FINALIZER, words.clone());
                        format!(
                            "The Module is being deleted, and stays until its finalizer is removed. {words}"
                        )
                    }
                    _ => return Ok(Action::requeue(MODULE_DEBOUNCE)),
                }
            }
        };
        let blocked = (Outcome::Stalled, Reason::VersionRefused, message);
        let after = finalizer::blocked_status(&self.module, &blocked, Timestamp::now());
        self.client.write_status(&self.module.status, &after, Urgency::Urgent).await?;
        requeue.finish(&done, self.attempts)
    }

    /// Ends the reconcile of a Module without our finalizer, which another finalizer keeps. Reports Versions that cannot be
    /// deleted.
    async fn report_undeletable(mut self, children: &[&VersionState]) -> Result<Action, Unfinished> {
        let Some(blocked) = finalizer::undeletable(&self.module, children) else {
            return Ok(Action::await_change());
        };
        let before = &self.module.status;
        let after = finalizer::blocked_status(&self.module, &blocked, Timestamp::now());
        let urgency = pace::urgency(before, &after, false);
        Ok(match self.client.write_status(before, &after, urgency).await? {
            Written::Later(wait) => Action::requeue(wait),
            _ => Action::await_change(),
        })
    }
}
