//! The line of awaits from a tag to an object: look, fetch, normalise, compare, record, store, verify.
//!
//! In: [`Work`] that [`super::plan`] decided on. Out: [`Published`], which nothing else can make, or a failure. Writes the
//! status before a PUT, so that the place of every object is on record before the object exists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::content::{Content, compare, other_bytes, replaced};
use super::context::{Context, api_failure};
use super::fetch::{fetch, normalise};
use super::notes::{self, Remark};
use super::object::Object;
use super::plan::{VersionView, Work};
use super::record::Published;
use super::slots::Turn;
use super::store::{intact, other_format, store};
use crate::api::condition;
use crate::api::version::Source;
use crate::archive;
use crate::controller::client;
use crate::controller::failure::{Failure, Reason};
use crate::domain::ObjectLocation;
use crate::github::FetchError;
use crate::storage::{Found, Ownership};

/// Why nothing was published.
pub struct NotPublished {
    /// For the status.
    pub failure: Failure,
    /// Whether the recorded object is known to be missing or damaged.
    pub lost: bool,
    /// The Secret that the attempt read: its name and resourceVersion.
    pub secret: Option<(String, Option<String>)>,
    /// SHA-256 of the download, where that was corrupt.
    pub download: Option<Box<[u8; 32]>>,
}

impl From<Failure> for NotPublished {
    fn from(failure: Failure) -> Self {
        Self { failure, lost: false, secret: None, download: None }
    }
}

/// How an attempt ended that published nothing.
pub enum Ended {
    /// What it was made from has changed meanwhile: nothing more is sent, and the Version is read again.
    Outdated,
    /// It failed.
    Failed(NotPublished),
}

impl<T: Into<NotPublished>> From<T> for Ended {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// After a write to the Version, or a look at it.
impl From<kube::Error> for Ended {
    fn from(error: kube::Error) -> Self {
        if client::is_outdated(&error) { Self::Outdated } else { Self::Failed(api_failure(&error).into()) }
    }
}

/// What lies at the place where an object shall be.
pub(super) enum Lying {
    Nothing,
    Ours(Box<Found>),
}

/// Something a person may want to know although all went well.
pub enum Note {
    /// What was left out of the archive, or is not in it.
    Archive(Remark),
    /// The content of a version that is not immutable was replaced.
    ContentReplaced(String),
    /// The repository has another name now: from where to where.
    RepositoryMoved(String, String),
}

/// What came of an attempt that did not fail.
pub struct Outcome {
    /// The proof.
    pub published: Published,
    /// What to tell besides.
    pub notes: Vec<Note>,
}

/// Publishes one version.
pub async fn publish(
    ctx: &Context,
    object: &mut Object,
    work: &Work<'_>,
    turn: &Turn,
) -> Result<Outcome, Ended> {
    permitted(ctx, object.view(), work)?;
    let lying = look(ctx, object.view(), &work.place)
        .await
        .map_err(|not| NotPublished { failure: held_back(ctx, work, not.failure), ..not })?;
    let lost = is_lost(object.view(), work, &lying);
    prepare_and_store(ctx, object, work, turn, &lying, lost).await.map_err(|ended| match ended {
        Ended::Outdated => Ended::Outdated,
        Ended::Failed(not) => {
            let failure = held_back(ctx, work, not.failure);
            Ended::Failed(NotPublished { failure, lost: not.lost || lost, ..not })
        }
    })
}

async fn prepare_and_store(
    ctx: &Context,
    object: &mut Object,
    work: &Work<'_>,
    turn: &Turn,
    lying: &Lying,
    lost: bool,
) -> Result<Outcome, Ended> {
    if let Lying::Ours(found) = lying
        && let Some(published) = take_over(object.view(), work, found)
    {
        let bytes_changed = bytes_changed(ctx, object.view(), work, lying, &Content::found(found)).await;
        let replaced = replaced(object.view(), &published.digest, bytes_changed);
        return Ok(Outcome { published, notes: replaced.map(Note::ContentReplaced).into_iter().collect() });
    }
    bucket_is_back(ctx, object.view(), &work.place, lying).await?;
    record(object, &work.place).await?;
    drop(ctx.may_store(work)?);
    let Some(_slot) = turn.slot().await else {
        return Err(Failure::retry(Reason::InternalError, "The operator is shutting down.").into());
    };
    // Once more: while this one waited, the store may have refused another.
    let _attempt = ctx.may_store(work)?;
    let (fetched, raw) = fetch(ctx, object.view(), work).await?;
    let made = normalise(ctx, raw, work.module.file_format).await?;
    let content = Content {
        checksum: STANDARD.encode(made.sha256),
        size: made.size,
        digest: made.digest.to_string(),
        commit: made.commit.clone(),
    };
    let bytes_changed = bytes_changed(ctx, object.view(), work, lying, &content).await;
    compare(object.view(), work, &content, bytes_changed, lying, lost)?;
    let source = Source {
        url: work.config.repository.to_string(),
        ref_: format!("refs/tags/{}", fetched.tag),
        commit: made.commit.clone(),
    };
    let replaced = replaced(object.view(), &content.digest, bytes_changed);
    let mut notes: Vec<Note> = replaced.map(Note::ContentReplaced).into_iter().collect();
    notes.extend(fetched.moved_to.map(|to| Note::RepositoryMoved(source.url.clone(), to)));
    let published = store(ctx, object, work, lying, (&made.file, &content), source).await?;
    if published.stored_now {
        notes.extend(notes::of_archive(&made.report).into_iter().map(Note::Archive));
    }
    Ok(Outcome { published, notes })
}

/// A store that hangs holds its turn as long as a repository that does, and is held back in the same way.
fn held_back(ctx: &Context, work: &Work<'_>, failure: Failure) -> Failure {
    if failure.reason == Reason::StorageUnavailable {
        ctx.slots.failed(&work.lane());
    }
    failure
}

/// Whether flags allow host and place; nothing is sent where they do not.
fn permitted(ctx: &Context, view: &VersionView, work: &Work<'_>) -> Result<(), Failure> {
    if !ctx.github.host_allowed(&work.config.repository) {
        let host = work.config.repository.host();
        return Err(FetchError::HostNotAllowed { host }.into());
    }
    ctx.rules.check(view.namespace(), &work.place)?;
    Ok(())
}

pub(super) async fn look(
    ctx: &Context,
    view: &VersionView,
    place: &ObjectLocation,
) -> Result<Lying, NotPublished> {
    match ctx.head(place).await? {
        None => Ok(Lying::Nothing),
        Some(found) if is_ours(view, place, &found) => Ok(Lying::Ours(Box::new(found))),
        // At the recorded place, what was stored there is not there any more.
        Some(found) => {
            let lost = recorded_at(view, place);
            Err(NotPublished { lost, ..not_ours(place, &found).into() })
        }
    }
}

/// Where the last attempt found no bucket, a look at the bucket saves fetching archives for nothing.
async fn bucket_is_back(
    ctx: &Context,
    view: &VersionView,
    place: &ObjectLocation,
    lying: &Lying,
) -> Result<(), Failure> {
    let missed = condition::find(&view.status.conditions, "Ready")
        .is_some_and(|ready| ready.reason == Reason::BucketNotFound.as_str());
    if missed && matches!(lying, Lying::Nothing) { ctx.bucket(place).await } else { Ok(()) }
}

/// Puts the place on record before anything can be stored there, so that no crash orphans an object. It goes before the
/// slot: while others transfer, this write costs no time.
pub(super) async fn record(object: &mut Object, place: &ObjectLocation) -> Result<(), kube::Error> {
    if object.view().status.objects.contains(place) {
        return Ok(());
    }
    let status = object.view().publishing(place, jiff::Timestamp::now());
    object.write_status(&status).await
}

/// Whether the same files have other bytes than the recorded object, although the same revision of the normaliser wrote
/// both. Only where the bytes differ is the revision of the recorded object looked up; where that cannot be known, it is
/// taken to be the same.
async fn bytes_changed(
    ctx: &Context,
    view: &VersionView,
    work: &Work<'_>,
    lying: &Lying,
    content: &Content,
) -> bool {
    let Some(recorded) = view.status.storage.as_ref().filter(|_| other_bytes(view, work, content)) else {
        return false;
    };
    let owner = match lying {
        Lying::Ours(found) if recorded_at(view, &work.place) => found.ownership.clone(),
        _ => match look(ctx, view, recorded).await {
            Ok(Lying::Ours(found)) => found.ownership,
            _ => None,
        },
    };
    owner.is_none_or(|owner| owner.revision == archive::REVISION)
}

/// Ours is what names this namespace and Version, or what lies where the status says that we stored, unless it names
/// another Version. No UID: a restore from a backup keeps its objects.
pub fn is_ours(view: &VersionView, place: &ObjectLocation, found: &Found) -> bool {
    match &found.ownership {
        Some(owner) => owner.names(view.namespace(), view.name()),
        None => recorded_at(view, place),
    }
}

/// Whether the status says that the object is at just this place, the endpoint counted, in its canonical form: what another
/// store holds under the same key may be anybody's.
pub fn recorded_at(view: &VersionView, place: &ObjectLocation) -> bool {
    view.status.storage.as_ref().is_some_and(|stored| stored.is_same(place))
}

fn not_ours(place: &ObjectLocation, found: &Found) -> Failure {
    let owner = match &found.ownership {
        Some(owner) => format!("belongs to Version {} in namespace {}", owner.version_name, owner.namespace),
        None => "was not stored by OpenDepot for this Version".to_owned(),
    };
    Failure::stalled(
        Reason::ObjectNotOurs,
        format!(
            "s3://{}/{} exists and {owner}: it is neither overwritten nor deleted. Choose another key prefix, name or \
             fileName, or remove that object.",
            place.bucket, place.key
        ),
    )
}

/// An object of this very version that the status does not know of: a crash came between PUT and status, or the status
/// is lost. It is taken as it is, unless a sync is asked for that it does not answer.
pub(super) fn take_over(view: &VersionView, work: &Work<'_>, found: &Found) -> Option<Published> {
    let owner = found.ownership.as_ref()?;
    let repository = work.config.repository.to_string();
    let answered = answered(view, work, found, owner);
    let known = view.stored_as_wanted(work) && !answered;
    // One that an earlier move left here may hold what the tag was before.
    let outdated = !answered && view.status.content_digest.as_ref().is_some_and(|now| *now != owner.digest);
    let unlike = work.expected_digest.is_some() && other_bytes(view, work, &Content::found(found));
    let fits = !known
        && !outdated
        && !unlike
        && !other_format(work, found)
        && (!damaged(view, work, found) || answered)
        && owner.version == work.release.to_string()
        && owner.source.eq_ignore_ascii_case(&repository)
        && !owner.digest.is_empty()
        && work.expected_digest.as_ref().is_none_or(|expected| *expected == owner.digest)
        && (!work.requests.any() || answered);
    fits.then_some(())?;
    Some(Published {
        place: work.place.clone(),
        checksum: found.sha256.clone()?,
        digest: owner.digest.clone(),
        size: i64::try_from(found.size).unwrap_or(i64::MAX),
        source: Some(Source {
            url: repository,
            ref_: owner.git_ref.clone(),
            commit: Some(owner.commit.clone()).filter(|c| !c.is_empty()),
        }),
        stored_now: false,
        stored_at: found.stored_at.and_then(|at| jiff::Timestamp::from_second(at).ok()),
    })
}

/// Whether the status knows the object at this place by another checksum or size. Its metadata says nothing then: it
/// survives what happened to the bytes.
fn damaged(view: &VersionView, work: &Work<'_>, found: &Found) -> bool {
    let status = &view.status;
    let recorded = view.stored_as(&work.place);
    let size = u64::try_from(status.archive_size_bytes.unwrap_or_default()).unwrap_or_default();
    status.checksum.as_ref().is_some_and(|checksum| recorded && !intact(found, checksum, size))
}

/// Whether the object was made in answer to every request that is open. One that the status records already was made
/// before them, whatever it carries: a user may write the same token twice.
fn answered(view: &VersionView, work: &Work<'_>, found: &Found, owner: &Ownership) -> bool {
    let requests = &work.requests;
    let (user, module) = requested(view, work);
    requests.any()
        && !requests.pending
        && !recorded(view, work, found)
        && user.is_none_or(|token| owner.has_request(&token))
        && module.is_none_or(|token| owner.has_module_request(&token))
}

/// Whether this is the object that the status speaks of, not one that was stored there since. Both times are the store's.
fn recorded(view: &VersionView, work: &Work<'_>, found: &Found) -> bool {
    let status = &view.status;
    let here = view.stored_as(&work.place);
    let stored_at = found.stored_at.and_then(|at| jiff::Timestamp::from_second(at).ok());
    let since = status.last_sync_time.as_ref().map(|time| time.0);
    let newer = stored_at.zip(since).is_some_and(|(stored_at, since)| stored_at > since);
    here && status.checksum.is_some() && !damaged(view, work, found) && !newer
}

/// The tokens that an object made now answers: the user's and the Module's. The user's names all that the user asks for
/// (the annotation, this generation's forceSync, or both), so that an object answers nothing that was asked for later.
pub(super) fn requested(view: &VersionView, work: &Work<'_>) -> (Option<String>, Option<String>) {
    let generation = view.metadata.generation.unwrap_or_default();
    let uid = view.metadata.uid.as_deref().unwrap_or_default();
    let forced = work.requests.force_sync.then(|| format!("forceSync/{uid}/{generation}"));
    let user = match (forced, work.requests.requested_at.clone()) {
        (Some(forced), Some(at)) => Some(format!("{forced} {at}")),
        (forced, at) => forced.or(at),
    };
    (user, work.requests.module_request.clone())
}

/// Whether the object that the status speaks of turned out to be missing or damaged.
pub(super) fn is_lost(view: &VersionView, work: &Work<'_>, lying: &Lying) -> bool {
    let gone = match lying {
        Lying::Nothing => true,
        Lying::Ours(found) => damaged(view, work, found),
    };
    view.status.synced == Some(true) && view.stored_as(&work.place) && gone
}
