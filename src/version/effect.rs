//! The effect of one action on a Version: what to write and which Events to send. One function applies it.

use super::api_failure::api_failure;
use super::client::VersionClient;
use super::decide::Lane;
use super::memory::Attempt;
use crate::api::VersionStatus;
use crate::api::state::VersionState;
use crate::api::target::{Target, force_is_handled, left_behind};
use crate::controller::client::is_outdated;
use crate::controller::events::{Event, Events};
use crate::controller::failure::Failure;

/// What an action results in. Parts are applied in the order of the fields; Events are sent only after the writes succeeded.
#[derive(Default)]
pub(crate) struct Effect {
    /// Add (true) or remove (false) our finalizer.
    pub finalizer: Option<bool>,
    pub status: Option<VersionStatus>,
    /// Whether to reset `spec.forceSync`, whose outcome is in the status.
    pub reset_force: bool,
    pub events: Vec<Event>,
    /// Whether the archive was fetched by the attempt that has failed.
    pub fetched: bool,
    /// How the reconcile ends; `None`: it continues with the Version as it is then.
    pub end: Option<End>,
}

/// How a reconcile ends.
pub(crate) enum End {
    /// Everything is as wanted.
    Settled,
    /// The next action needs a permit of another queue.
    Needs(Lane),
    /// The attempt is retried at once: the cache is behind.
    Later,
    /// The Module has to be reconciled first, and then queues the Version.
    AwaitModule,
    /// The Version has changed since it was read, which is no failure. It is read again.
    Outdated,
    Failed(Box<Attempt>),
    /// The Version no longer exists, or is not ours.
    Gone,
}

impl End {
    /// Whether the Version keeps its trial of a Secret: it continues, or it has failed on GitHub or the Secret, and waits for them.
    pub(crate) fn keeps_trial(&self) -> bool {
        matches!(self, Self::Needs(_)) || matches!(self, Self::Failed(last) if last.reason.is_about_source())
    }

    /// The same, repeated no sooner than the `other` failure of this attempt.
    #[must_use]
    pub(crate) fn no_sooner_than(self, other: Option<Box<Attempt>>) -> Self {
        match (self, other) {
            (Self::Failed(mut attempt), Some(other)) => {
                attempt.ends = attempt.ends.max(other.ends);
                attempt.due = attempt.due.max(other.due);
                attempt.download = other.download.or(attempt.download);
                Self::Failed(attempt)
            }
            (end, _) => end,
        }
    }
}

impl Effect {
    /// Writes a status and continues.
    pub(crate) fn status(status: VersionStatus) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Ends the reconcile without a write.
    pub(crate) fn end(end: End) -> Self {
        Self { end: Some(end), ..Self::default() }
    }

    /// The same with an Event.
    #[must_use]
    pub(crate) fn with_event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// The same, with Events that name this action.
    #[must_use]
    pub(crate) fn during(mut self, action: &'static str) -> Self {
        self.events.iter_mut().for_each(|event| event.action = action);
        self
    }

    /// A failure that is about the content of an archive. Its pause counts even if the status cannot be written: each attempt
    /// downloads the archive.
    pub(crate) fn content_failure(&self) -> Option<Box<Attempt>> {
        let Some(End::Failed(attempt)) = &self.end else { return None };
        attempt.reason.is_about_content().then(|| attempt.clone())
    }

    /// Applies the effect. Returns how the reconcile ends, if it does.
    ///
    /// # Errors
    /// The error of the first write that failed. A failed attempt whose status was written stays one if only the reset of
    /// `forceSync` failed: the next reconcile resets it.
    pub(crate) async fn apply(
        self,
        client: &mut VersionClient,
        events: &Events,
    ) -> Result<Option<End>, kube::Error> {
        match self.finalizer {
            Some(true) => client.add_finalizer().await?,
            Some(false) => client.remove_finalizer().await?,
            None => {}
        }
        if let Some(status) = &self.status {
            client.write_status(status).await?;
        }
        self.events.into_iter().for_each(|event| events.send(client.version(), &(), event));
        if self.reset_force {
            let has_failed = matches!(self.end, Some(End::Failed(_)));
            match reset_force(client, has_failed).await {
                Err(error) if has_failed => report_unreset(client, events, &error),
                result => result?,
            }
        }
        Ok(self.end)
    }
}

/// Resets `spec.forceSync`, and writes the resulting generation into the status.
async fn reset_force(client: &mut VersionClient, has_failed: bool) -> Result<(), kube::Error> {
    if !force_is_handled(client.version()) {
        // It was reset and set again meanwhile: another request.
        return Ok(());
    }
    client.reset_force().await?;
    if !has_failed && has_left_behind(client.version()) {
        // The status of the clean-up that follows contains this generation too.
        return Ok(());
    }
    client.write_status(&client.current.observed()).await
}

/// Reports that `spec.forceSync` stays true although its outcome is in the status; not if the Version has changed, and is read
/// again.
fn report_unreset(client: &VersionClient, events: &Events, error: &kube::Error) {
    if is_outdated(error) || !client.version().force_sync {
        return;
    }
    let Failure { reason, message, .. } = api_failure(error);
    let note = format!("spec.forceSync could not be reset; the next attempt resets it. {message}");
    events.send(client.version(), &(), Event::warning(reason.as_str(), "Reconcile", note));
}

fn has_left_behind(version: &VersionState) -> bool {
    let target = Target::of(version).ok().filter(|target| target.is_satisfied_by(version));
    target.is_some_and(|target| !left_behind(version, &target.location).is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use jiff::Timestamp;

    use super::*;
    use crate::controller::failure::Reason;
    use crate::version::memory::ChangeKey;

    fn failed(reason: Reason, pause: Duration, download: Option<[u8; 32]>) -> End {
        let (at, now) = (Instant::now(), Timestamp::UNIX_EPOCH);
        End::Failed(Box::new(Attempt {
            reason,
            key: ChangeKey::default(),
            secret: None,
            account: None,
            failures: 1,
            since: now,
            content: None,
            at,
            ends: at + pause,
            due: now + pause,
            download,
        }))
    }

    #[test]
    fn a_failure_about_content_keeps_its_pause_though_its_status_is_refused() {
        const SHORT: Duration = Duration::from_secs(5);
        const HOUR: Duration = Duration::from_hours(1);
        for (reason, due) in [(Reason::ArchiveUnsafe, HOUR), (Reason::RepositoryNotFound, SHORT)] {
            let other = Effect::end(failed(reason, HOUR, Some([1; 32]))).content_failure();
            let end = failed(Reason::VersionRefused, SHORT, None).no_sooner_than(other);
            let End::Failed(attempt) = end else { panic!("no failure") };
            assert_eq!(attempt.reason, Reason::VersionRefused);
            assert_eq!(attempt.due, Timestamp::UNIX_EPOCH + due, "{reason}");
            assert!(attempt.ends >= attempt.at + due.saturating_sub(SHORT), "{reason}");
            assert_eq!(attempt.download.is_some(), due == HOUR);
        }
        let other = Effect::end(failed(Reason::ArchiveUnsafe, HOUR, None)).content_failure();
        assert!(matches!(End::Outdated.no_sooner_than(other), End::Outdated), "it is read again at once");
        assert_eq!(Effect::end(End::Settled).content_failure(), None);
    }

    #[test]
    fn a_failure_of_another_kind_leaves_the_secret_to_another_version() {
        for (reason, expected) in [
            (Reason::CredentialsRefused, true),
            (Reason::SecretNotFound, true),
            (Reason::GitHubUnavailable, true),
            (Reason::RateLimited, true),
            (Reason::StorageNotAllowed, false),
            (Reason::StorageUnavailable, false),
            (Reason::HostNotAllowed, false),
            (Reason::ApiUnavailable, false),
        ] {
            assert_eq!(failed(reason, Duration::ZERO, None).keeps_trial(), expected, "{reason}");
        }
        assert!(End::Needs(Lane::Publish).keeps_trial());
        assert!(!End::Outdated.keeps_trial() && !End::Settled.keeps_trial());
    }

    #[test]
    fn an_event_names_what_was_attempted() {
        let event = |note: &str| Event::warning("StorageRefused", "Publish", note);
        let effect = Effect::default().with_event(event("one")).with_event(event("two")).during("Delete");
        assert_eq!(effect.events.iter().map(|event| event.action).collect::<Vec<_>>(), ["Delete"; 2]);
    }
}
