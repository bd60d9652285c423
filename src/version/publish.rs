//! Publishes one version: check the location, fetch, normalise, compare, record, store, verify.
//!
//! The location is recorded in the status before the first PUT, so that no crash orphans an object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::NamedTempFile;

use super::basis::encryption;
use super::client::VersionClient;
use super::compare::{compare, file_name_before, replaced};
use super::content::{Content, other_bytes};
use super::context::{Context, classified};
use super::existing::{Existing, adopt, find_ours, is_stored_as_recorded};
use super::fetch::{fetch, normalise};
use super::outcome::{AttemptError, Published};
use super::report;
use super::scheduler::{FetchPermit, StagingPermit};
use super::store::{Store, record};
use crate::api::state::StoredLocation;
use crate::api::target::Target;
use crate::api::version::Source;
use crate::archive;
use crate::controller::failure::{Failure, Reason};
use crate::github::FetchError;

pub(crate) async fn publish(
    ctx: &Context,
    object: &mut VersionClient,
    target: &Target,
    staging: &StagingPermit,
) -> Result<Published, AttemptError> {
    // Nothing is sent to a host that flags do not allow. `find_ours` checks each location.
    if !ctx.github.host_allowed(&target.repository) {
        let host = target.repository.host();
        return Err(Failure::from(FetchError::HostNotAllowed { host }).into());
    }
    let existing = find_ours(ctx, object.version(), &target.location).await?;
    let is_stored = is_stored_as_recorded(object.version(), target, &existing);
    let mut publish = Publish { ctx, object, target, existing, lost: is_stored == Some(false) };
    let result = publish.prepare_and_store(staging).await;
    result.map_err(|ended| ended.with(|failed| failed.is_stored = failed.is_stored.or(is_stored)))
}

/// A publish, after the HEAD of its location.
struct Publish<'a> {
    ctx: &'a Context,
    object: &'a mut VersionClient,
    target: &'a Target,
    existing: Existing,
    /// Whether the recorded object is missing or damaged.
    lost: bool,
}

impl Publish<'_> {
    async fn prepare_and_store(&mut self, staging: &StagingPermit) -> Result<Published, AttemptError> {
        let Self { ctx, target, .. } = *self;
        if let Existing::Ours(found) = &self.existing
            && let Some(published) = adopt(self.object.version(), target, found)
        {
            ctx.storage.verified(&target.location, &encryption(target));
            let bytes_changed = self.bytes_changed(&published.content).await;
            let replaced = replaced(self.object.version(), &published.content.digest, bytes_changed);
            return Ok(Published { replaced, ..published });
        }
        self.bucket_is_back().await?;
        record(self.object, &target.location).await?;
        drop(ctx.may_store(target)?);
        let permit = staging.fetch().await;
        // Checked again: during the wait, the store may have rejected another PUT.
        let _attempt = ctx.may_store(target)?;
        let (fetched, raw) = fetch(ctx, self.object, target, &permit).await?;
        if let Some(to) = &fetched.moved_to {
            report::moved(ctx, self.object.version(), &target.source_url(), to);
        }
        let result = self.store_fetched(&fetched.tag, raw, permit).await;
        result.map_err(|ended| ended.with(|failed| failed.fetched = true))
    }

    /// Normalises, compares and stores what was fetched.
    async fn store_fetched(
        &mut self,
        tag: &str,
        raw: NamedTempFile,
        permit: FetchPermit,
    ) -> Result<Published, AttemptError> {
        let Self { ctx, target, lost, .. } = *self;
        let (made, permit) = normalise(ctx, raw, target.format(), permit).await?;
        let content = Content {
            checksum: STANDARD.encode(made.sha256),
            size: made.size,
            digest: made.digest.to_string(),
            commit: made.commit.clone(),
        };
        let bytes_changed = self.bytes_changed(&content).await;
        let version = self.object.version();
        if let Err(refused) = compare(version, target, &content, bytes_changed, &self.existing, lost) {
            if let Some(file_name) = file_name_before(version, target) {
                // Webhooks may be slow: others may fetch meanwhile.
                drop((made, permit));
                self.object.write_file_name(&file_name).await?;
            }
            return Err(refused.into());
        }
        let source = Source {
            url: target.source_url(),
            ref_: format!("refs/tags/{tag}"),
            commit: made.commit.clone(),
        };
        let replaced = replaced(version, &content.digest, bytes_changed);
        let object = &mut *self.object;
        let mut store = Store { ctx, object, target, made: &made, content: &content, source: &source };
        Ok(Published { replaced, ..store.store(&self.existing).await? })
    }

    /// Checks the bucket first if the last attempt did not find it, which saves useless downloads.
    async fn bucket_is_back(&self) -> Result<(), Failure> {
        let missed = self.object.version().status.reason() == Reason::BucketNotFound.as_str();
        if missed && matches!(self.existing, Existing::None) {
            self.ctx.storage.bucket_exists(&self.target.location).await.map_err(classified)?;
        }
        Ok(())
    }

    /// Whether the same files have other bytes than the recorded object, although the same revision of the normaliser wrote both.
    /// The recorded object's revision is read only if the bytes differ, and assumed to be the same if it is unknown.
    async fn bytes_changed(&self, content: &Content) -> bool {
        let (version, target) = (self.object.version(), self.target);
        let recorded = version.status.storage.as_ref().filter(|_| other_bytes(version, target, content));
        let Some(recorded) = recorded.map(StoredLocation::location) else { return false };
        let owner = match &self.existing {
            Existing::Ours(found) if version.status.is_recorded_at(&target.location) => {
                found.ownership.clone()
            }
            _ => match find_ours(self.ctx, version, &recorded).await {
                Ok(Existing::Ours(found)) => found.ownership,
                _ => None,
            },
        };
        owner.is_none_or(|owner| {
            let may_be_same_format = owner.archive.is_empty() || owner.archive == target.format().extension();
            owner.revision == archive::REVISION && may_be_same_format
        })
    }
}
