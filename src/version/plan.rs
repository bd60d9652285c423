//! What a Version's reconcile should do next: a pure function from the Version as it is stored to a step.
//!
//! In: the full Version, its parts parsed. Out: the next step, with all that doing it needs. No client and no clock.
//! ([`super::triage`] has decided before that there is something to do at all.)

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use uuid::Uuid;

use super::triage::annotation;
use crate::api::check::Checked;
use crate::api::requests::PendingForce;
use crate::api::{
    FINALIZER, MODULE_REQUEST, ModuleConfig, REQUESTED_AT, VersionSpec, VersionStatus, condition,
};
use crate::controller::failure::{Failure, Reason};
use crate::domain::object_key::derived_file_name;
use crate::domain::{ObjectLocation, Release};
use crate::storage::Encryption;

/// How far the API server's clock may be ahead of this process's: more means that time has passed.
const SKEW: SignedDuration = SignedDuration::from_mins(10);

/// How the message begins about a `fileName` that ends in another format's extension.
const MISNAMED: &str = "spec.fileName is";

/// A Version as the API server stores it, its parts parsed.
#[derive(Clone, Debug)]
pub struct VersionView {
    /// `metadata`.
    pub metadata: ObjectMeta,
    /// `spec`, or what is wrong with it.
    pub spec: Result<VersionSpec, String>,
    /// `status`; empty where it cannot be read.
    pub status: VersionStatus,
    /// Whether `spec.moduleConfigRef.deletionPolicy` is Retain, read on its own: a broken spec never blocks deletion.
    pub retain: bool,
}

/// What to do next.
#[derive(Debug)]
pub enum Next<'a> {
    /// Nothing.
    Nothing,
    /// Add our finalizer, then go on.
    AddFinalizer,
    /// Delete what is stored, then let go.
    Delete,
    /// Say that work is stopped.
    Suspend,
    /// The spec cannot be worked with.
    Reject(Failure),
    /// Set `spec.forceSync` back: its outcome is in the status.
    ResetForce,
    /// Fetch, compare, store.
    Publish(Work<'a>),
    /// Look whether the object is still there, then say so.
    Verify(Work<'a>),
    /// Delete what a move left behind, once the object itself was seen.
    CleanUp(Work<'a>),
    /// The object is as wanted; only the status is behind.
    Record(Work<'a>),
}

/// What a publish needs to know.
#[derive(Clone, Debug)]
pub struct Work<'a> {
    /// The checked configuration.
    pub config: Checked<'a>,
    /// The whole of it.
    pub module: &'a ModuleConfig,
    /// The version.
    pub release: Release,
    /// Where the object shall be.
    pub place: ObjectLocation,
    /// The tags to try, in order.
    pub tags: Vec<String>,
    /// The requests that ask for a full sync.
    pub requests: Requests,
    /// The digest that the content must have.
    pub expected_digest: Option<String>,
}

/// Open requests for a full sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `spec.forceSync` is true and not handled at this generation.
    pub force_sync: bool,
    /// The user's annotation, where it is new.
    pub requested_at: Option<String>,
    /// The Module's annotation, where it is new.
    pub module_request: Option<String>,
    /// An earlier request failed for a passing reason.
    pub pending: bool,
}

impl Work<'_> {
    /// The lane of [`lane`].
    pub fn lane(&self) -> String {
        let named = self.module.repo_url.as_ref().or(self.module.repo_owner.as_ref());
        named.map(|name| name.to_ascii_lowercase()).unwrap_or_default()
    }

    /// How S3 shall encrypt the object.
    pub fn encryption(&self) -> Encryption {
        Encryption {
            server_side_encryption: self.config.s3.server_side_encryption.map(|sse| sse.as_str().to_owned()),
            kms_key_id: self.config.s3.kms_key_id.clone(),
        }
    }
}

impl Requests {
    /// Whether anything asks for a full sync.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

impl VersionView {
    /// `metadata.namespace`.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted.
    pub fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether the user or the Module has stopped all work for it.
    pub fn suspended_by_spec(&self) -> bool {
        self.spec.as_ref().is_ok_and(|spec| spec.suspend || spec.module_suspended.unwrap_or(false))
    }

    fn has_finalizer(&self) -> bool {
        self.metadata.finalizers.as_ref().is_some_and(|f| f.iter().any(|f| f == FINALIZER))
    }

    /// Whether the status says that `spec.forceSync` of this generation was handled, well or not.
    fn force_handled(&self) -> bool {
        let pending = PendingForce::parse(self.status.pending_force.as_deref());
        pending.is_some_and(|pending| pending.handles(self.metadata.generation.unwrap_or_default()))
    }

    /// `status.pendingForce` after an attempt that `requests` asked for.
    pub fn pending_force(&self, requests: &Requests, passes: bool) -> Option<PendingForce> {
        let generation = if requests.force_sync { self.metadata.generation.unwrap_or_default() } else { 0 };
        match (requests.any() && passes, requests.force_sync) {
            (true, _) => Some(PendingForce::Retry(generation)),
            (false, true) => Some(PendingForce::Done(generation)),
            (false, false) => None,
        }
    }

    /// What asks for a full sync now.
    pub fn requests(&self) -> Requests {
        let status = &self.status;
        let new = |key: &str, handled: &Option<String>| {
            annotation(&self.metadata, key).filter(|at| handled.as_deref() != Some(at)).map(str::to_owned)
        };
        let force_sync = self.spec.as_ref().is_ok_and(|spec| spec.force_sync);
        Requests {
            force_sync: force_sync && !self.force_handled(),
            requested_at: new(REQUESTED_AT, &status.last_handled_request),
            module_request: new(MODULE_REQUEST, &status.last_module_request),
            pending: matches!(
                PendingForce::parse(status.pending_force.as_deref()),
                Some(PendingForce::Retry(_))
            ),
        }
    }

    /// The work that this spec describes.
    pub fn work(&self) -> Result<Work<'_>, Failure> {
        let spec = self.spec.as_ref().map_err(|e| Failure::stalled(Reason::InvalidSpec, e.clone()))?;
        let invalid = |message: String| Failure::stalled(Reason::InvalidSpec, message);
        let release = Release::parse(&spec.version).map_err(|e| invalid(format!("spec.version: {e}")))?;
        let module = spec.module_config_ref.as_ref().ok_or_else(|| {
            invalid("spec.moduleConfigRef is missing: write it as in a Module's moduleConfig".into())
        })?;
        let config = module.check(self.name())?;
        if let Some(named) = spec.file_name.as_ref().filter(|name| module.file_format.conflicts_with(name)) {
            return Err(invalid(format!(
                "{MISNAMED} {named:?}, and moduleConfigRef.fileFormat is {}: Terraform takes the object for what its \
                 name says. Let fileName end in .{}, or change fileFormat.",
                module.file_format.as_str(),
                module.file_format.extension()
            )));
        }
        let place = config.place(&self.file_name(spec, module, &release))?;
        let repository = config.repository.to_string();
        let known = self.status.source.as_ref().filter(|s| s.url == repository);
        let tags = known.and_then(|s| s.ref_.strip_prefix("refs/tags/")).map_or_else(
            || Release::tags(&spec.version).to_vec(),
            |tag| {
                // What worked last comes first; should it be gone, the other spelling may be there.
                let mut tags = vec![tag.to_owned()];
                tags.extend(Release::tags(&spec.version).into_iter().filter(|t| t != tag));
                tags
            },
        );
        let pinned = module.immutable.unwrap_or(false).then(|| self.status.content_digest.clone()).flatten();
        Ok(Work {
            requests: self.requests(),
            expected_digest: spec.expected_digest.clone().or(pinned),
            config,
            module,
            release,
            place,
            tags,
        })
    }

    /// Whether the last word was that `fileName` and format contradict each other. Early releases stored such archives, and
    /// no look at the object shows which format it has: after a correction only a fetch can tell whether it is as wanted.
    fn was_misnamed(&self) -> bool {
        condition::find(&self.status.conditions, "Ready").is_some_and(|ready| {
            ready.reason == Reason::InvalidSpec.as_str() && ready.message.starts_with(MISNAMED)
        })
    }

    fn file_name(&self, spec: &VersionSpec, module: &ModuleConfig, release: &Release) -> String {
        let derived = || derived_file_name(self.namespace(), self.name(), release, module.file_format);
        spec.file_name.clone().unwrap_or_else(derived)
    }

    /// Where the spec says that the object is, also of a Version that would not be published like that.
    pub fn named_place(&self) -> Option<ObjectLocation> {
        let spec = self.spec.as_ref().ok()?;
        let module = spec.module_config_ref.as_ref()?;
        let release = Release::parse(&spec.version).ok()?;
        let config = module.check(self.name()).ok()?;
        config.place(&self.file_name(spec, module, &release)).ok()
    }

    /// Whether the status says that an object is stored just where, made from what, and of the content that `work` wants.
    pub fn stored_as_wanted(&self, work: &Work<'_>) -> bool {
        let status = &self.status;
        status.synced == Some(true)
            && status.checksum.is_some()
            && status.storage.as_ref().is_some_and(|storage| storage.is_same(&work.place))
            && work
                .expected_digest
                .as_ref()
                .is_none_or(|wanted| status.content_digest.as_ref() == Some(wanted))
            && status
                .source
                .as_ref()
                .is_none_or(|s| s.url.eq_ignore_ascii_case(&work.config.repository.to_string()))
    }

    /// Whether it knows what its content has to be, or was.
    pub fn knows_digest(&self) -> bool {
        self.status.content_digest.is_some()
            || self.spec.as_ref().is_ok_and(|spec| spec.expected_digest.is_some())
    }

    /// Whether the status shows that nothing was ever stored: each place is put on record before its first PUT, and
    /// the attempt that failed did not come that far. A name that is older than this object was restored from a backup:
    /// what the status said then is lost. A name that tells no time may be one of those, and is taken for new only where
    /// the store has `answered`: an outage passes, and the object can be looked for then.
    pub fn never_stored(&self, answered: bool) -> bool {
        let status = &self.status;
        let attempted = self.standing().is_some_and(|reason| !Reason::is_progress(reason));
        let blank = status.objects.is_empty() && status.storage.is_none();
        attempted && blank && !self.is_restored().unwrap_or(!answered)
    }

    /// Whether `spec.fileName` was made well before this object was: names that the operator makes carry their time. `None`:
    /// it tells no time.
    fn is_restored(&self) -> Option<bool> {
        let file_name = self.spec.as_ref().ok().and_then(|spec| spec.file_name.as_deref());
        let made = file_name.and_then(|name| Uuid::parse_str(name.split('.').next()?).ok()?.get_timestamp());
        let made = made.and_then(|at| Timestamp::from_second(i64::try_from(at.to_unix().0).ok()?).ok());
        let created = self.metadata.creation_timestamp.as_ref().map(|at| at.0);
        made.zip(created).map(|(made, created)| created.duration_since(made) > SKEW)
    }

    /// Places other than `current` where an object of this Version may still be. One with the same bucket and key is
    /// never among them, however its endpoint is spelled.
    pub fn left_behind(&self, current: &ObjectLocation) -> Vec<ObjectLocation> {
        self.status.objects.iter().filter(|p| !p.same_object(current)).cloned().collect()
    }

    /// Whether the status says that the object has this bucket and key, however its endpoint is spelled. What may be
    /// anybody's in another store is told from it by [`ObjectLocation::is_same`].
    pub fn stored_as(&self, place: &ObjectLocation) -> bool {
        self.status.storage.as_ref().is_some_and(|stored| stored.same_object(place))
    }
}

/// What to do with a Version, as it is stored now.
pub fn next(version: &VersionView, verify: bool) -> Next<'_> {
    if version.terminating() {
        return if version.has_finalizer() { Next::Delete } else { Next::Nothing };
    }
    if !version.has_finalizer() {
        return Next::AddFinalizer;
    }
    if version.suspended_by_spec() {
        return Next::Suspend;
    }
    if version.spec.as_ref().is_ok_and(|spec| spec.force_sync) && version.force_handled() {
        return Next::ResetForce;
    }
    let work = match version.work() {
        Ok(work) => work,
        Err(failure) => return Next::Reject(failure),
    };
    let standing = version.standing();
    if version.was_misnamed()
        || work.requests.any()
        || !version.stored_as_wanted(&work)
        || standing.is_some_and(Reason::needs_fetch)
    {
        return Next::Publish(work);
    }
    if !version.left_behind(&work.place).is_empty() {
        return Next::CleanUp(work);
    }
    // Where the last word was another than Ready, the object may well be as wanted: a look says so, without a fetch.
    let ready = condition::find(&version.status.conditions, "Ready");
    let unseen = ready.is_none() || standing.is_some();
    // Where the spec spells the same place in another way, a look shows that it can be reached like that.
    let spelled_anew = version.status.storage.as_ref() != Some(&work.place);
    if verify || unseen || spelled_anew {
        return Next::Verify(work);
    }
    let settled = ready.is_some_and(|c| c.status == "True")
        && version.status.observed_generation == version.metadata.generation
        && version.status.pending_force.is_none();
    if settled { Next::Nothing } else { Next::Record(work) }
}
