//! Columns of the table of [`reasons`](super::reasons).

/// Whether a reason is a failure, and who resolves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The wanted state is reached.
    Done,
    /// Work is in progress.
    Progress,
    /// Work is suspended by the spec.
    Paused,
    /// A warning about an object that was stored. No failure has it.
    Note,
    /// A failure that requires manual action. Retried hourly, and on every change.
    Manual,
    /// A transient failure. Retried with back-off.
    Automatic,
    /// A missing tag. Transient, and retried hourly after six hours.
    Tag,
    /// A failure that ends at a known time.
    Scheduled,
    /// A transient failure that requires manual action once the same bytes were downloaded twice.
    UntilRepeated,
    /// The failure of other objects, which retry by themselves.
    Inherited,
}

/// What a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Work and rest without a failure.
    Work,
    /// The spec of a Module or Version, or the state of a Module's Versions.
    Spec,
    /// The address of a Module in the registry.
    Address,
    /// The operator's flags.
    Flags,
    /// The Secret with GitHub credentials. A change of the Secret may resolve the failure.
    Secret,
    /// Access to GitHub: other credentials may resolve the failure, since GitHub returns 404 for a private repository.
    Access,
    /// GitHub, and the connection to it.
    GitHub,
    /// The content of the archive: only other content or another limit resolves the failure.
    Content,
    /// The operator's work folder.
    Disk,
    /// A property of an archive that was stored.
    Warning,
    /// S3, and the object in it.
    Storage,
    /// The operator and the Kubernetes API.
    Operator,
}

/// The cheapest check that shows whether a failure still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    /// The spec and the flags. No request.
    Spec,
    /// The part of a fetch before the first request: allowed hosts and the Secret.
    FetchStart,
    /// A whole fetch.
    Fetch,
    /// A HEAD request to the bucket.
    Bucket,
}
