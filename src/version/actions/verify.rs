//! Verifies stored objects: that of a Version whose object is as wanted, and the recorded one of a Version that waits after a
//! failure, which may be wanted elsewhere.

use std::time::Instant;

use jiff::Timestamp;

use super::Run;
use crate::api::state::StoredLocation;
use crate::api::target::Target;
use crate::controller::client::explain;
use crate::controller::events::Event;
use crate::controller::failure::{Failure, Reason};
use crate::version::decide::Seen;
use crate::version::effect::Effect;
use crate::version::existing::{find, is_ours, matches_status, not_ours, other_format};
use crate::version::outcome::AttemptFailure;

impl Run<'_> {
    /// Checks whether the object is still as recorded. Nothing is written if it is.
    pub(super) async fn verify(&mut self, target: &Target) -> Effect {
        let version = self.client.version();
        let found = match find(self.ctx, version, &target.location).await {
            Ok(found) => found,
            Err(failure) => return self.failed(&target.requests, failure.into()).during("Verify"),
        };
        let what = match &found {
            Some(found) if !is_ours(version, &target.location, found) => {
                // A copy of a Version, or of its namespace, records the object of the original.
                let failed =
                    AttemptFailure { is_stored: Some(false), ..not_ours(&target.location, found).into() };
                return self.failed(&target.requests, failed).during("Verify");
            }
            Some(found) if matches_status(version, found) => {
                self.mark_seen(other_format(target, found), found.identity);
                return Effect::default();
            }
            Some(_) => "The stored object was changed",
            None => "The stored object is missing",
        };
        let note = format!("{what}: {} is being restored.", target.location);
        // A lost object is restored at once, even while the retry of an earlier failure waits.
        self.attempt = None;
        self.ctx.memories.with(version.uid(), |memory| memory.attempt = None);
        let restoring = self.client.current.restoring(&note, Timestamp::now());
        Effect::status(restoring).with_event(Event::warning(Reason::Restoring.as_str(), "Verify", note))
    }

    /// Checks whether the recorded object is still as recorded, and writes `synced`, nothing else. If a request fails, the next
    /// check is that of the next interval.
    pub(super) async fn verify_recorded(&mut self) {
        self.remember_verification();
        let version = self.client.version();
        let Some(location) = version.status.storage.as_ref().map(StoredLocation::location) else { return };
        let found = match find(self.ctx, version, &location).await {
            Ok(found) => found,
            Err(Failure { reason, message: cause, .. }) => {
                tracing::debug!(%reason, cause, "the recorded object was not verified");
                return;
            }
        };
        let is_stored =
            found.is_some_and(|found| is_ours(version, &location, &found) && matches_status(version, &found));
        if version.status.synced && !is_stored {
            tracing::warn!(%location, "the stored object is missing or damaged");
        }
        let verified = self.client.current.verified(is_stored);
        if let Err(error) = self.client.write_status(&verified).await {
            tracing::debug!(error = explain(&error), "the result of the verification was not written");
        }
    }

    /// Remembers that this reconcile has seen the intact object in the bucket.
    pub(super) fn mark_seen(&mut self, other_format: bool, identity: Option<u64>) {
        let seen = Seen { other_format };
        (self.seen, self.identity) = (Some(seen), identity);
        if seen.is_verification(self.client.version()) {
            self.remember_verification();
        }
    }

    fn remember_verification(&self) {
        let now = Some(Instant::now());
        self.ctx.memories.with(self.client.version().uid(), |memory| memory.verified = now);
    }
}
