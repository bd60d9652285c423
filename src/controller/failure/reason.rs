//! The words for why something is as it is. In: nothing. Out: one CamelCase word for condition, Event and metric alike.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident),+ $(,)?) => {
        /// Why something is as it is: the same word in condition, Event and metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])* $name),+ }

        impl Reason {
            /// Every reason, for the documentation and the tests that compare it with the code.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word itself.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    /// Everything wanted is stored.
    Synced,
    /// A Module waits for its Versions.
    Progressing,
    /// A Version is being fetched and stored.
    Publishing,
    /// The stored object was lost or damaged, and is being restored.
    Restoring,
    /// Work is stopped, as asked.
    Suspended,
    /// The object is being deleted.
    Deleting,
    /// A field has a value that cannot be worked with.
    InvalidSpec,
    /// A Module does not name its provider.
    ProviderMissing,
    /// A wanted Version's name is held by somebody else.
    NameTaken,
    /// The API server refuses to create or change a Version: a quota, an admission webhook.
    VersionRefused,
    /// An immutable Module has no room to record the digests of further versions.
    RecordFull,
    /// Versions of a Module failed, not all for one reason.
    VersionsFailed,
    /// The repository's host is not allowed by --github-host.
    HostNotAllowed,
    /// The bucket or prefix is not allowed by --allow-storage.
    StorageNotAllowed,
    /// The endpoint is not allowed by --s3-endpoint.
    EndpointNotAllowed,
    /// The Secret with the GitHub credentials does not exist.
    SecretNotFound,
    /// The operator may not read the Secret.
    SecretForbidden,
    /// The Secret does not hold usable credentials.
    SecretInvalid,
    /// GitHub does not accept the credentials.
    CredentialsRefused,
    /// GitHub does not know the App's new token everywhere yet.
    TokenNotReady,
    /// GitHub knows the credentials and forbids the access.
    AccessForbidden,
    /// No such repository, or none that can be seen.
    RepositoryNotFound,
    /// The repository has no such tag (yet).
    TagNotFound,
    /// GitHub asks to wait.
    RateLimited,
    /// GitHub failed or could not be reached.
    GitHubUnavailable,
    /// GitHub answered something that means nothing here.
    UnexpectedAnswer,
    /// The archive ended before its end.
    DownloadIncomplete,
    /// What came is not an archive.
    NotAnArchive,
    /// The archive is damaged.
    ArchiveCorrupt,
    /// The archive holds no file.
    ArchiveEmpty,
    /// The archive holds something that must not be stored.
    ArchiveUnsafe,
    /// The archive exceeds a limit.
    ArchiveTooLarge,
    /// The operator's own disk or memory failed.
    SpoolFailed,
    /// An immutable version's tag now holds other content.
    ImmutableContentChanged,
    /// The same commit gave other content, as with git's export-subst.
    SameCommitOtherContent,
    /// Symbolic links were left out of what is stored.
    LinksSkipped,
    /// Files were left out of what is stored because a module cannot have such a path.
    FilesSkipped,
    /// Submodules are empty in what is stored.
    SubmodulesEmpty,
    /// Files are stored as Git LFS pointers.
    LfsPointers,
    /// The content of a version that is not immutable was replaced.
    ContentReplaced,
    /// The bucket does not exist.
    BucketNotFound,
    /// The bucket's name, region or endpoint is wrong.
    BucketMisconfigured,
    /// S3 denies the access.
    StorageAccessDenied,
    /// The operator has no AWS credentials that S3 accepts.
    StorageCredentialsInvalid,
    /// S3 asks for fewer requests.
    StorageThrottled,
    /// The encryption key cannot be used.
    EncryptionKeyUnusable,
    /// The store does not do what it is asked for, and says so.
    StorageRefused,
    /// S3 failed or could not be reached.
    StorageUnavailable,
    /// What S3 holds after a store is not what was sent.
    ChecksumMismatch,
    /// Another's object lies at the key.
    ObjectNotOurs,
    /// An older object of this Version, which is retained, holds the key.
    KeyRetained,
    /// The object moved, and what it left behind cannot be deleted yet.
    OldObjectKept,
    /// The Kubernetes API refused or failed.
    ApiUnavailable,
    /// A defect of the operator, caught.
    InternalError,
}

impl Reason {
    /// The reason with this word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }

    /// Whether a condition with this reason tells of progress or rest, not of a failure.
    pub fn is_progress(word: &str) -> bool {
        [Self::Synced, Self::Progressing, Self::Publishing, Self::Restoring, Self::Suspended, Self::Deleting]
            .iter()
            .any(|reason| reason.as_str() == word)
            || word.is_empty()
    }

    /// Whether an Event with this reason is about something that was stored all the same: no failure has it.
    pub fn is_note(self) -> bool {
        matches!(
            self,
            Self::LinksSkipped
                | Self::FilesSkipped
                | Self::SubmodulesEmpty
                | Self::LfsPointers
                | Self::ContentReplaced
        )
    }

    /// Whether finding out if a failure with this reason still stands costs a request to GitHub or S3; the others are
    /// found out at once after a restart, which may have brought the flag that they wait for.
    pub fn costs_requests(word: &str) -> bool {
        ![
            Self::InvalidSpec,
            Self::HostNotAllowed,
            Self::StorageNotAllowed,
            Self::EndpointNotAllowed,
            Self::SecretNotFound,
            Self::SecretForbidden,
            Self::SecretInvalid,
        ]
        .iter()
        .any(|reason| reason.as_str() == word)
    }

    /// Whether a failure with this reason speaks of reaching the bucket, not of what was to be stored there.
    pub fn is_about_storage(word: &str) -> bool {
        [
            Self::InvalidSpec,
            Self::StorageNotAllowed,
            Self::EndpointNotAllowed,
            Self::BucketNotFound,
            Self::BucketMisconfigured,
            Self::StorageAccessDenied,
            Self::StorageCredentialsInvalid,
            Self::StorageThrottled,
            Self::EncryptionKeyUnusable,
            Self::StorageRefused,
            Self::StorageUnavailable,
        ]
        .iter()
        .any(|reason| reason.as_str() == word)
    }

    /// Whether a failure with this reason that waits for a person is about what the tag holds: only another content, or
    /// another limit, ends it.
    pub fn is_about_content(self) -> bool {
        matches!(
            self,
            Self::NotAnArchive
                | Self::ArchiveCorrupt
                | Self::ArchiveEmpty
                | Self::ArchiveUnsafe
                | Self::ArchiveTooLarge
                | Self::ImmutableContentChanged
                | Self::SameCommitOtherContent
        )
    }

    /// Whether only another fetch can find out if a failure with this reason still stands; a look at the bucket cannot.
    pub fn needs_fetch(word: &str) -> bool {
        !Self::is_progress(word) && !Self::is_about_storage(word) && word != Self::OldObjectKept.as_str()
    }

    /// Whether a change of the credentials' Secret may end a failure with this reason.
    pub fn is_about_secret(word: &str) -> bool {
        [Self::SecretNotFound, Self::SecretForbidden, Self::SecretInvalid, Self::CredentialsRefused]
            .iter()
            .any(|reason| reason.as_str() == word)
    }

    /// Whether other credentials might not have met this failure: to those who may not see a repository GitHub says that
    /// there is none.
    pub fn may_be_about_secret(self) -> bool {
        Self::is_about_secret(self.as_str())
            || matches!(self, Self::RepositoryNotFound | Self::AccessForbidden)
    }

    /// The controllers and reasons that failures are counted by.
    pub fn counted() -> impl Iterator<Item = (&'static str, &'static str)> {
        let failures =
            Self::ALL.iter().filter(|reason| !Self::is_progress(reason.as_str()) && !reason.is_note());
        let of_modules = [Self::VersionRefused, Self::ApiUnavailable];
        let versions = failures.map(|reason| ("version", reason.as_str()));
        versions.chain(of_modules.map(|reason| ("module", reason.as_str())))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
