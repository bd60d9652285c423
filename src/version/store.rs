//! Stores a normalised archive, and verifies that S3 has it.

use futures::FutureExt as _;
use jiff::Timestamp;

use super::basis::{PutBasis, encryption};
use super::client::VersionClient;
use super::compare::{PutKind, changed_back, leaves_stored};
use super::content::Content;
use super::context::{Context, classified};
use super::existing::{Existing, archive_of, find_ours, user_request};
use super::outcome::{AttemptError, AttemptFailure, Published, Unwanted};
use super::warnings;
use crate::api::target::Target;
use crate::api::version::Source;
use crate::archive::{self, Normalised};
use crate::controller::failure::{Failure, Reason};
use crate::controller::owners::Fate;
use crate::domain::ObjectLocation;
use crate::domain::object_key::fresh_file_name;
use crate::storage::{Body, Cause, Found, Ownership, PutOutcome, Upload};

/// Records a location in the status before anything is stored there, so that no crash orphans an object. This precedes the
/// wait for the download permit: while others transfer, the write costs no time.
pub(super) async fn record(object: &mut VersionClient, location: &ObjectLocation) -> Result<(), kube::Error> {
    if object.current.status.objects.contains(location) {
        return Ok(());
    }
    let status = object.current.publishing(location, Timestamp::now());
    object.write_status(&status).await
}

/// Locations that are tried. A fresh one is free unless the store misbehaves.
const MAX_LOCATIONS: usize = 3;

/// An archive that is to be stored for a target.
pub(super) struct Store<'a> {
    pub ctx: &'a Context,
    pub object: &'a mut VersionClient,
    pub target: &'a Target,
    pub made: &'a Normalised,
    pub content: &'a Content,
    pub source: &'a Source,
}

impl Store<'_> {
    /// Stores the content and verifies it. If the location contains, or contained, other content, a fresh `fileName` is used.
    pub(super) async fn store(&mut self, existing: &Existing) -> Result<Published, AttemptError> {
        let Self { ctx, target, content, .. } = *self;
        let published = Published {
            location: target.location.clone(),
            content: content.clone(),
            source: Some(self.source.clone()),
            stored_now: true,
            answers: true,
            stored_at: None,
            identity: None,
            replaced: None,
        };
        if let Existing::Ours(found) = existing
            && !target.requests.any()
            && target.is_satisfied_by(self.object.version())
            && found.is_intact(&content.checksum, content.size)
        {
            return Ok(Published { stored_now: false, identity: found.identity, ..published });
        }
        let mut location = target.location.clone();
        let mut kind = PutKind::of(self.object.version(), &location, existing, content);
        for _ in 0..MAX_LOCATIONS {
            if kind == PutKind::Overwrite {
                // The download took time: what is overwritten must still be ours, with the same content.
                let existing = find_ours(ctx, self.object.version(), &location).await?;
                kind = PutKind::of(self.object.version(), &location, &existing, content);
            }
            if kind == PutKind::FreshKey {
                self.retained(&location)?;
                location = self.fresh_location().await?;
                kind = PutKind::Create;
            }
            if !self.object.still(PutBasis::of).await? {
                return Err(AttemptError::Outdated);
            }
            if self.put(&location, kind).await? {
                self.warn();
                let found = self.verify(&location).await?;
                let existed = matches!(existing, Existing::Ours(_));
                let may_be_one = existed || !leaves_stored(self.object.version(), &location);
                let identity = found.identity.filter(|_| may_be_one);
                return Ok(Published { location, stored_at: found.stored_at, identity, ..published });
            }
            kind = PutKind::FreshKey;
        }
        let message = format!(
            "S3 reports other content at each of {MAX_LOCATIONS} new keys, the last one {location}: check which gateway is in \
             front of the store, and what else writes there."
        );
        Err(Failure::new(Reason::StorageUnavailable, message).into())
    }

    /// Fails if a fresh `fileName` would be the second for one content: with `Retain`, each leaves an object behind permanently,
    /// and a client that changes the name back each time (as GitOps does) would create one each time.
    fn retained(&self, location: &ObjectLocation) -> Result<(), Failure> {
        let version = self.object.version();
        let stored = changed_back(version, location, self.content);
        let is_kept = |_: &ObjectLocation| self.ctx.owners.fate(version) == Fate::Keep;
        let Some(stored) = stored.filter(is_kept) else { return Ok(()) };
        let file_name = stored.key.rsplit('/').next().unwrap_or_default();
        Err(Failure::new(
            Reason::KeyRetained,
            format!(
                "{location} contains older content of this Version, which deletionPolicy Retain keeps; the current content of the \
                 tag is already stored as {stored}, and is not stored again. Set spec.fileName to {file_name:?} or to an \
                 unused name, or remove the older object. If GitOps sets fileName, change it there."
            ),
        ))
    }

    /// Sets a fresh `fileName`, and records the location. The fetch permit is kept: the disk has room for one archive per permit.
    async fn fresh_location(&mut self) -> Result<ObjectLocation, AttemptError> {
        let file_name = fresh_file_name(self.target.format());
        let location = self.target.location_named(&file_name).map_err(Failure::from)?;
        self.object.write_file_name(&file_name).await?;
        record(self.object, &location).await?;
        Ok(location)
    }

    /// Sends the Events about an archive as soon as it is, or may be, stored: if the attempt fails later, the next one finds the
    /// object, and has no report about the archive.
    fn warn(&self) {
        for event in warnings::of_archive(&self.made.report) {
            self.ctx.events.send(self.object.version(), &(), event);
        }
    }

    /// Sends the PUT. Returns false if the location contains other content of this Version, which is not replaced.
    async fn put(&self, location: &ObjectLocation, kind: PutKind) -> Result<bool, AttemptError> {
        let Self { ctx, content, .. } = *self;
        let encryption = encryption(self.target);
        let ownership = self.ownership(location);
        let upload = Upload {
            body: Body::File(&self.made.file),
            size: content.size,
            sha256: &content.checksum,
            ownership: &ownership,
            encryption: &encryption,
            create_only: kind == PutKind::Create,
        };
        let sending = self.object.progress.sending().await;
        let unwanted = Unwanted::default();
        let still_wanted = || unwanted.check(self.object.still(PutBasis::of)).boxed();
        let result = ctx.put(location, &upload, &still_wanted).await;
        drop(sending);
        let outcome = result.map_err(|error| {
            // S3 may have stored it nevertheless.
            if matches!(error.cause, Cause::Network { .. } | Cause::Unavailable { .. }) {
                self.warn();
            }
            unwanted.or(classified(error))
        })?;
        if outcome == PutOutcome::Stored {
            ctx.metrics.stored_bytes.inc_by(content.size);
            return Ok(true);
        }
        // The object was stored by this attempt's own PUT, whose answer was lost, by an earlier attempt, or by another client.
        match find_ours(ctx, self.object.version(), location).await? {
            Existing::Ours(found) => Ok(content.is_in(&found)),
            Existing::None => {
                Err(classified(ctx.storage.refused_without_object(location, &encryption)).into())
            }
        }
    }

    fn ownership(&self, location: &ObjectLocation) -> Ownership {
        let Self { target, source, .. } = *self;
        let version = self.object.version();
        Ownership {
            namespace: version.namespace().to_owned(),
            version_name: version.name().to_owned(),
            module: target.module_name.clone(),
            version: target.release.to_string(),
            source: source.url.clone(),
            git_ref: source.ref_.clone(),
            commit: source.commit.clone().unwrap_or_default(),
            digest: self.content.digest.clone(),
            revision: archive::REVISION,
            archive: archive_of(target, location),
            request: user_request(version, target),
            module_request: target.requests.module_request.clone(),
        }
    }

    /// Returns the object if S3 reports this checksum for it.
    async fn verify(&self, location: &ObjectLocation) -> Result<Found, AttemptError> {
        let Content { checksum, size, .. } = self.content;
        let verified = self.ctx.storage.verify(location, &encryption(self.target), checksum, *size).await;
        verified.map_err(|error| {
            let failure = classified(error);
            // At the recorded location the recorded content is gone too: a PUT overwrites only the same content.
            let is_lost = failure.reason == Reason::ChecksumMismatch
                && self.object.version().status.is_recorded_at(location);
            AttemptFailure { is_stored: is_lost.then_some(false), ..failure.into() }.into()
        })
    }
}
