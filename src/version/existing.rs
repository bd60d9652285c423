//! The object that exists at a location: whether it is this Version's, intact, and an answer to open requests.

use super::content::{Content, other_bytes};
use super::context::{Context, classified};
use super::outcome::{AttemptFailure, Published};
use super::status::{fetch_reason, standing};
use crate::api::state::VersionState;
use crate::api::target::Target;
use crate::api::version::Source;
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::domain::text::shown;
use crate::storage::{Found, Ownership};

/// What HEAD found at a location.
pub(super) enum Existing {
    None,
    Ours(Box<Found>),
}

/// Looks up an object that has to be this Version's, if flags allow its location.
pub(super) async fn find_ours(
    ctx: &Context,
    version: &VersionState,
    location: &ObjectLocation,
) -> Result<Existing, AttemptFailure> {
    match find(ctx, version, location).await? {
        None => Ok(Existing::None),
        Some(found) if is_ours(version, location, &found) => Ok(Existing::Ours(Box::new(found))),
        // At the recorded location, our object is no longer there.
        Some(found) => {
            let is_stored = version.status.is_recorded_at(location).then_some(false);
            let mut failure = not_ours(location, &found);
            if found.ownership.is_none()
                && version.status.objects().any(|other| other.location() == *location)
            {
                failure.message.push_str(WITHOUT_METADATA);
            }
            Err(AttemptFailure { is_stored, ..failure.into() })
        }
    }
}

/// Advice for an object at a location where this Version may have stored one.
const WITHOUT_METADATA: &str = " If OpenDepot stored it, the store keeps no metadata of objects. OpenDepot needs that: use another store.";

/// Looks up an object, if flags allow its location: any client with the right may write another one into the status. Before the
/// recorded object counts as missing, S3 has to confirm that: a 404 to a HEAD has no body, so it may be from a proxy, and a loss
/// costs a download and removes the version from the registry.
pub(super) async fn find(
    ctx: &Context,
    version: &VersionState,
    location: &ObjectLocation,
) -> Result<Option<Found>, Failure> {
    ctx.rules.check(version.namespace(), location)?;
    let found = ctx.storage.head(location).await.map_err(classified)?;
    if found.is_none() && version.status.synced && version.status.is_recorded_at(location) {
        ctx.storage.confirm_missing(location).await.map_err(classified)?;
    }
    Ok(found)
}

/// Whether an object is this Version's: its metadata names this namespace and Version, or it has no metadata of ours and is at
/// the recorded location. The UID does not count, so that a restore from a backup keeps its objects.
pub(crate) fn is_ours(version: &VersionState, location: &ObjectLocation, found: &Found) -> bool {
    match &found.ownership {
        Some(owner) => owner.names(version.namespace(), version.name()),
        None => version.status.is_recorded_at(location),
    }
}

pub(super) fn not_ours(location: &ObjectLocation, found: &Found) -> Failure {
    let owner = match &found.ownership {
        // Any client that can write to the bucket chooses these names.
        Some(owner) => format!(
            "belongs to Version {} in namespace {}",
            shown(owner.version_name.as_bytes()),
            shown(owner.namespace.as_bytes())
        ),
        None => "was not stored by OpenDepot for this Version".to_owned(),
    };
    Failure::new(
        Reason::ObjectNotOurs,
        format!(
            "{location} exists and {owner}: it is neither overwritten nor deleted. Choose another key prefix, name or \
             fileName. Remove that object only if nothing uses it."
        ),
    )
}

/// Adopts an object of this version that the status does not record: the process ended between PUT and status, or the status is
/// lost. An object that does not answer a requested sync is adopted only by a Version without a checksum: the sync that follows
/// compares with it.
pub(super) fn adopt(version: &VersionState, target: &Target, found: &Found) -> Option<Published> {
    let owner = found.ownership.as_ref()?;
    let repository = target.source_url();
    let content = Content::found(found);
    let status = &version.status;
    let answered = answered(version, target, found, owner);
    let answers = answered || !target.requests.any();
    // An object that an earlier move left here may have the former content of the tag.
    let is_content_of_tag = || status.content_digest.as_deref().is_none_or(|now| now == owner.digest);
    let is_unrecorded = || !target.is_satisfied_by(version) && !stalls_across_move(version, target);
    let is_news = answered || (is_unrecorded() && is_content_of_tag());
    let is_expected = |expected: &str| owner.digest == expected && !other_bytes(version, target, &content);
    let is_wanted = owner.version == target.release.to_string()
        && owner.is_from(&repository)
        && !other_format(target, found)
        && target.expected_digest.as_deref().is_none_or(is_expected);
    let is_known = found.sha256.is_some() && !owner.digest.is_empty() && !damaged(version, target, found);
    let fits = is_news && is_wanted && is_known && (answers || status.checksum.is_none());
    fits.then(|| Published {
        location: target.location.clone(),
        content,
        source: Some(Source {
            url: repository,
            ref_: owner.git_ref.clone(),
            commit: Some(owner.commit.clone()).filter(|c| !c.is_empty()),
        }),
        stored_now: false,
        answers,
        stored_at: found.stored_at,
        identity: found.identity,
        replaced: None,
    })
}

/// Whether a stored Version moves while it is stalled by the content of its tag: only a fetch shows whether that has changed.
fn stalls_across_move(version: &VersionState, target: &Target) -> bool {
    let status = &version.status;
    let is_move = status.checksum.is_some() && !status.is_recorded_at(&target.location);
    // A failure at another generation may be for a third object.
    let reason = if version.is_observed() { standing(version) } else { fetch_reason(version) };
    is_move && reason.is_some_and(|reason| reason.parse().is_ok_and(Reason::is_about_content))
}

/// Whether the status records another checksum or size for the object at this location. Its metadata proves nothing then: it
/// stays when the bytes are damaged, and can be copied. New content is never stored at a recorded location.
fn damaged(version: &VersionState, target: &Target, found: &Found) -> bool {
    let status = &version.status;
    status.checksum.is_some() && status.has_same_key(&target.location) && !matches_status(version, found)
}

/// Whether an object has the checksum and the size that the status records. Where S3 shows no SHA-256, it must also have our
/// metadata: another client's object may have the same size.
pub(super) fn matches_status(version: &VersionState, found: &Found) -> bool {
    let status = &version.status;
    let size = u64::try_from(status.archive_size_bytes.unwrap_or_default()).unwrap_or_default();
    let owner = found.ownership.as_ref();
    let is_proven =
        found.sha256.is_some() || owner.is_some_and(|owner| owner.names(version.namespace(), version.name()));
    is_proven && found.is_intact(status.checksum.as_deref().unwrap_or_default(), size)
}

/// Whether the object was stored for every open request. An object that the status records was stored before them, whatever
/// tokens it has: a user may write the same token twice.
fn answered(version: &VersionState, target: &Target, found: &Found, owner: &Ownership) -> bool {
    let requests = &target.requests;
    requests.any()
        && !requests.pending
        && !is_recorded_object(version, target, found)
        && user_request(version, target).is_none_or(|token| owner.has_request(&token))
        && requests.module_request.as_ref().is_none_or(|token| owner.has_module_request(token))
}

/// Whether this is the object that the status records, not one that was stored there later. Both times are of S3's clock.
fn is_recorded_object(version: &VersionState, target: &Target, found: &Found) -> bool {
    let status = &version.status;
    let is_newer = found.stored_at.zip(status.last_sync_time).is_some_and(|(stored, since)| stored > since);
    status.has_same_key(&target.location) && status.checksum.is_some() && !is_newer
}

/// The token of the user's requests that an object made now answers. It contains all of them (the annotation, this generation's
/// forceSync, or both), so that an object answers no later request.
pub(super) fn user_request(version: &VersionState, target: &Target) -> Option<String> {
    let (uid, generation) = (version.uid(), version.generation());
    let forced = target.requests.force_sync.then(|| format!("forceSync/{uid}/{generation}"));
    match (forced, target.requests.requested_at.clone()) {
        (Some(forced), Some(at)) => Some(format!("{forced} {at}")),
        (forced, at) => forced.or(at),
    }
}

/// Whether the object is stored as recorded, if that is known: a result from another store shows nothing. A lost object may have
/// been brought back.
pub(super) fn is_stored_as_recorded(
    version: &VersionState,
    target: &Target,
    existing: &Existing,
) -> Option<bool> {
    let status = &version.status;
    match existing {
        _ if !status.is_recorded_at(&target.location) => None,
        Existing::Ours(_) if status.checksum.is_none() => None,
        Existing::Ours(found) if matches_status(version, found) => Some(true),
        _ => status.synced.then_some(false),
    }
}

/// The format to record with an object whose key does not show it.
pub(super) fn archive_of(target: &Target, location: &ObjectLocation) -> String {
    let format = target.format();
    if format.is_extension_of(&location.key) { String::new() } else { format.extension().to_owned() }
}

/// Whether an object is known to be an archive of another format than is wanted now.
pub(crate) fn other_format(target: &Target, found: &Found) -> bool {
    let wanted = archive_of(target, &target.location);
    let written = found.ownership.as_ref().map(|owner| owner.archive.as_str()).unwrap_or_default();
    !wanted.is_empty() && !written.is_empty() && wanted != written
}
