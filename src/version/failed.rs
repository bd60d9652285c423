//! A failed attempt: since when it fails, when it is retried, and what the status and the Events report.

use std::time::Instant;

use jiff::Timestamp;

use super::client::VersionClient;
use super::context::Context;
use super::credentials::awaits_secret;
use super::effect::{Effect, End};
use super::memory::{Attempt, ChangeKey};
use super::outcome::{AttemptError, AttemptFailure};
use crate::api::state::VersionState;
use crate::api::target::Requests;
use crate::controller::events::Event;
use crate::controller::failure::{Class, Failure, LONGEST_DELAY, Reason};
use crate::domain::text::NEXT_ATTEMPT;
use crate::domain::time::time_between;

/// The effect of a failed attempt: the status, an Event if the reason is new, and the reset of a forced sync.
pub(super) fn failed(
    ctx: &Context,
    object: &VersionClient,
    requests: &Requests,
    failed: AttemptFailure,
) -> Effect {
    let AttemptFailure { failure, is_stored, secret, download, fetched } = failed;
    let download = download.map(|sha256| *sha256);
    let version = object.version();
    let before = last_attempt(ctx, version);
    let corrupt = Reason::ArchiveCorrupt.as_str();
    let stalled = version.status.stalled.as_ref().filter(|_| version.is_observed());
    let is_stalled_by_it = stalled.is_some_and(|c| c.is_true && *c.reason == *corrupt);
    let failure = failure.of_download(download, before.as_ref().and_then(|a| a.download), is_stalled_by_it);
    let mut attempt = new_attempt(before, Some(version), &failure);
    if failure.class == Class::RetryTag {
        attempt = delay_missing_tag(attempt, |from| {
            ctx.memories.missing_tags(ChangeKey::of(version).repository, from)
        });
    }
    attempt.download = download.or(attempt.download);
    let now = Timestamp::now();
    let is_known = keeps_status(version, requests, is_stored, failure.reason);
    attempt.secret = secret.filter(|_| awaits_secret(failure.reason, failure.class == Class::Stalled));
    let shown = Failure { message: failure.message_with_retry(attempt.due, now), ..failure.clone() };
    let mut effect = Effect {
        status: (!is_known).then(|| object.current.failed(&shown, requests, is_stored, now)),
        reset_force: requests.force_sync,
        fetched,
        end: Some(End::Failed(Box::new(attempt))),
        ..Effect::default()
    };
    if !is_known && is_new(version, failure.reason) {
        // GitHub usually rejects a new token for some seconds: that is no warning.
        let is_warning = failure.reason != Reason::TokenNotReady;
        let (reason, note) = (failure.reason.as_str().to_owned(), failure.message);
        effect = effect.with_event(Event { is_warning, reason, action: "Publish", note });
    }
    effect
}

/// Whether the status stays as it is: each hourly attempt of a stalled Version has a new token of its App, and shows nothing
/// until GitHub's answers to that token count.
pub(super) fn keeps_status(
    version: &VersionState,
    requests: &Requests,
    is_stored: Option<bool>,
    reason: Reason,
) -> bool {
    let stalled = version.status.stalled.as_ref().filter(|c| c.is_true && version.is_observed());
    let stalled = stalled.and_then(|condition| condition.reason.parse::<Reason>().ok());
    let is_same_object = is_stored.is_none_or(|is_stored| is_stored == version.status.synced);
    reason == Reason::TokenNotReady
        && stalled.is_some_and(Reason::may_be_about_secret)
        && is_same_object
        && !requests.any()
}

/// Whether a failure is reported: its reason is not that of the last status, or it is the first one of a deletion.
pub(super) fn is_new(version: &VersionState, reason: Reason) -> bool {
    version.status.reason() != reason.as_str() || (version.is_terminating() && !version.is_observed())
}

/// Ends a reconcile whose outcome is not written to the status. A failure with a new reason has an Event.
pub(super) fn unwritten(ctx: &Context, version: &VersionState, ended: AttemptError) -> End {
    let AttemptError::Failed(AttemptFailure { failure, fetched, .. }) = ended else { return End::Outdated };
    let before = last_attempt(ctx, version);
    let last = before.as_ref().map(|attempt| (attempt.reason, attempt.failures));
    let failure = after_fetch(failure, fetched, last);
    if last.is_none_or(|(reason, _)| reason != failure.reason) {
        let event = Event::warning(failure.reason.as_str(), "Reconcile", &failure.message);
        ctx.events.send(version, &(), event);
    }
    End::Failed(Box::new(new_attempt(before, None, &failure)))
}

/// The last attempt, if it was for the same version from the same repository, and for the same store.
fn last_attempt(ctx: &Context, version: &VersionState) -> Option<Attempt> {
    let subject = ChangeKey::of(version).subject;
    let attempt = ctx.memories.with(version.uid(), |memory| memory.attempt.clone());
    attempt.filter(|attempt| attempt.key.subject == subject)
}

/// Refusals in a row, over about five minutes, after which the pause is that of a stall.
const REFUSALS: u32 = 7;

/// The failure of an attempt that had `fetched` the archive. If the API server has rejected writes many times in a row, the pause
/// is that of a stall, because each attempt downloads the archive. A webhook that is unavailable for some minutes does not cause
/// that pause.
fn after_fetch(failure: Failure, fetched: bool, before: Option<(Reason, u32)>) -> Failure {
    let again = failure.reason == Reason::VersionRefused
        && before.is_some_and(|(reason, failures)| reason == Reason::VersionRefused && failures >= REFUSALS);
    if fetched && again { Failure { class: Class::Stalled, ..failure } } else { failure }
}

/// If more tags of one repository are missing, each is looked for after the longest pause only.
const FEW: usize = 50;

/// The attempt for a missing tag, with a longer pause if many others are missing: each attempt uses a quota of GitHub that other
/// repositories share. `missing`: how many have been missing since a time or later. Those that were missing long before do not
/// delay a tag that is about to be pushed.
fn delay_missing_tag(attempt: Attempt, missing: impl FnOnce(Timestamp) -> usize) -> Attempt {
    let missing = missing(attempt.since.checked_sub(LONGEST_DELAY).unwrap_or(attempt.since));
    if missing <= FEW {
        return attempt;
    }
    let pause = LONGEST_DELAY.mul_f64(0.9 + 0.1 * rand::random::<f64>());
    let more = pause.saturating_sub(attempt.ends - attempt.at);
    let due = attempt.due.checked_add(more).unwrap_or(attempt.due);
    Attempt { ends: attempt.ends + more, due, ..attempt }
}

/// A failed attempt, after the one `before`. `version`: if the failure is written to its status.
pub(super) fn new_attempt(
    before: Option<Attempt>,
    version: Option<&VersionState>,
    failure: &Failure,
) -> Attempt {
    let now = Timestamp::now();
    let failures = before.as_ref().map_or(0, |a| a.failures).saturating_add(1);
    let download = before.as_ref().and_then(|a| a.download);
    let reason = failure.reason;
    let since = match &before {
        Some(before) => before.failing_since(reason),
        None => version.and_then(|version| failing_since(version, failure)),
    };
    let since = since.unwrap_or(now);
    let is_of_tag = reason.is_about_content() || reason == Reason::TagNotFound;
    let content = is_of_tag.then_some((reason, since)).or_else(|| before.and_then(|before| before.content));
    let delay = failure.delay(failures, time_between(since, now), rand::random(), now);
    let (at, due) = (Instant::now(), now.checked_add(delay).unwrap_or(Timestamp::MAX));
    let ends = at.checked_add(delay).unwrap_or(at);
    tracing::debug!(%reason, %due, cause = failure.message, "attempt failed");
    Attempt {
        failures,
        reason,
        since,
        content,
        at,
        ends,
        due,
        key: ChangeKey::default(),
        secret: None,
        download,
        account: None,
    }
}

/// Since when this failure has stood according to the status. If that is about another generation, it has to name the same failure,
/// in the same words: a message about a tag contains the repository. A condition's time changes with its status, not with its
/// reason, which is accurate enough after a restart, when nothing else is known.
fn failing_since(version: &VersionState, failure: &Failure) -> Option<Timestamp> {
    let status = &version.status;
    let condition = if failure.class == Class::Stalled { &status.stalled } else { &status.ready };
    // The message as it is cached: a long one without its middle. The time of the next attempt is no part of the failure's.
    let said = status.message.split(NEXT_ATTEMPT).next().unwrap_or_default();
    let said = said.split_once('…').map_or(said, |(start, _)| start);
    let is_said = || failure.message.starts_with(said.trim_end_matches([' ', '.']));
    let condition = condition.as_ref().filter(|_| version.is_observed() || is_said());
    condition.filter(|condition| *condition.reason == *failure.reason.as_str())?.since
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn many_missing_tags_of_one_repository_are_looked_for_after_the_longest_pause() {
        let failure = Failure::new(Reason::TagNotFound, "no tag");
        for (missing, seconds) in [(0, 5), (50, 5), (51, 600), (5_000, 600)] {
            let before = new_attempt(None, None, &failure);
            let attempt = delay_missing_tag(before.clone(), |from| {
                assert_eq!(time_between(from, before.since), LONGEST_DELAY);
                missing
            });
            let pause = (attempt.ends - attempt.at).as_secs_f64();
            let (least, most) = (f64::from(seconds) * 0.9, f64::from(seconds) * 1.25);
            assert!((least..=most).contains(&pause), "{pause} s for {missing}");
            let later = time_between(before.due, attempt.due);
            assert_eq!(later, attempt.ends - before.ends, "the status names the same time");
        }
        // One that has been missing for hours is looked for hourly as before.
        let since = Timestamp::now() - Duration::from_hours(7);
        let old = Attempt {
            since,
            content: Some((Reason::TagNotFound, since)),
            ..new_attempt(None, None, &failure)
        };
        let old = new_attempt(Some(old), None, &failure);
        let beside = delay_missing_tag(old.clone(), |_| 100);
        assert_eq!((beside.ends, beside.due), (old.ends, old.due));
    }

    #[test]
    fn what_is_refused_for_minutes_after_downloads_waits_as_after_a_stall() {
        use Reason::{ApiUnavailable, VersionRefused};
        for (reason, fetched, before, class) in [
            (VersionRefused, true, Some((VersionRefused, REFUSALS)), Class::Stalled),
            (VersionRefused, true, Some((VersionRefused, REFUSALS - 1)), Class::Retry),
            (VersionRefused, true, None, Class::Retry),
            (VersionRefused, true, Some((ApiUnavailable, 9)), Class::Retry),
            (VersionRefused, false, Some((VersionRefused, 9)), Class::Retry),
            (ApiUnavailable, true, Some((VersionRefused, 9)), Class::Retry),
            (ApiUnavailable, true, Some((ApiUnavailable, 9)), Class::Retry),
        ] {
            let failure = after_fetch(Failure::retry(reason, "not on a Friday"), fetched, before);
            assert_eq!(failure.class, class, "{reason} after {before:?}, fetched: {fetched}");
        }
    }
}
