//! The effects of success: the status and the Events after a publish or a check.

use jiff::Timestamp;

use super::client::VersionClient;
use super::context::Context;
use super::effect::Effect;
use super::outcome::Published;
use crate::api::VersionStatus;
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::controller::events::Event;
use crate::controller::failure::Reason;

pub(super) fn published(
    client: &VersionClient,
    before: &VersionState,
    target: &Target,
    published: &Published,
) -> Effect {
    let status = client.current.published(published, &target.requests, Timestamp::now());
    let note = stored_note(published, &status);
    let is_news = published.stored_now || !before.status.synced || has_failed(before);
    let mut effect = Effect::status(status);
    if is_news {
        effect = effect.with_event(Event::normal(Reason::Synced.as_str(), "Publish", note));
    }
    if let Some(text) = &published.replaced {
        effect.events.push(Event::warning(Reason::ContentReplaced.as_str(), "Publish", text));
    }
    effect
}

fn stored_note(published: &Published, status: &VersionStatus) -> String {
    let how = if published.stored_now { "Stored" } else { "Found" };
    let source = status.source.as_ref();
    format!(
        "{how} {}, {} bytes, SHA-256 {}, {}",
        status.storage.as_ref().map(ToString::to_string).unwrap_or_default(),
        status.archive_size_bytes.unwrap_or_default(),
        status.checksum.as_deref().unwrap_or_default(),
        source
            .map(|s| format!("from {} {}", s.url, s.commit.as_deref().unwrap_or(&s.ref_)))
            .unwrap_or_default(),
    )
}

/// Sends the Event about a repository that has moved: once per namespace, not once per version.
pub(super) fn moved(ctx: &Context, version: &VersionState, from: &str, to: &str) {
    if ctx.moves.is_new(version.namespace(), from, to) {
        let text = format!(
            "The repository {from} has moved to {to}; change repoUrl. GitHub redirects the old name only until \
             another owner takes it, whose content would then be published."
        );
        ctx.events.send(version, &(), Event::warning("RepositoryMoved", "Publish", text));
    }
}

/// After the object was found as wanted, with an Event if that ends a failure.
pub(super) fn recorded(client: &VersionClient, target: &Target, now: Timestamp) -> Effect {
    let after = client.current.recorded(target, now);
    let is_ready = after.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let note = after.sync_status.clone().unwrap_or_default();
    let effect = Effect::status(after);
    if has_failed(client.version()) && is_ready {
        return effect.with_event(Event::normal(Reason::Synced.as_str(), "Verify", note));
    }
    effect
}

/// Whether the last reconcile ended with a failure.
fn has_failed(version: &VersionState) -> bool {
    version.status.is_ready() == Some(false) && !Reason::is_progress(version.status.reason())
}
