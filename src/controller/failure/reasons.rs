//! The table of reasons: each with its kind, what it is about, how a later check resolves it, and the help text.
//!
//! The tables of docs/troubleshooting.md are generated from it: `UPDATE_GENERATED=1 cargo test --test it reasons`.

use super::columns::{About, Kind, Recheck};

macro_rules! reasons {
    ($($name:ident: $kind:ident, $about:ident, $recheck:ident, $meaning:literal, $remedy:literal;)+) => {
        /// Why an object is in its state: one word for conditions, Events and metric labels.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $meaning] $name),+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// Whether it is a failure, and who resolves it.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind),+ }
            }

            pub fn about(self) -> About {
                match self { $(Self::$name => About::$about),+ }
            }

            pub(super) fn recheck(self) -> Recheck {
                match self { $(Self::$name => Recheck::$recheck),+ }
            }

            /// What it means, in Markdown.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning),+ }
            }

            /// What to do, in Markdown.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),+ }
            }
        }
    };
}

reasons! {
    Synced: Done, Work, Bucket,
        "everything wanted is stored",
        "nothing";
    Progressing: Progress, Work, Bucket,
        "a Module waits for its Versions, or for the end of a forced sync; or a deleted Module or \
         Version, whose objects are deleted or retained, waits for the finalizers of other clients",
        "wait. If it lasts, find the Version that is not ready with the first command of this page";
    Publishing: Progress, Work, Bucket,
        "the version is being fetched and stored",
        "wait";
    Restoring: Progress, Work, Bucket,
        "the stored object was missing or damaged and is being restored",
        "wait, and find out who deletes objects in the bucket";
    Suspended: Paused, Work, Bucket,
        "`spec.suspend` of the Version or its Module is true; the message names an earlier failure, if any",
        "set `spec.suspend` to `false` where it is `true`, see [suspend](operations.md#suspend); an earlier failure is then checked again";
    InvalidSpec: Manual, Spec, Spec,
        "a field has an unusable value; the message names it. While a Module has this reason, nothing is \
         removed",
        "correct the field in the manifest, or with `kubectl edit`";
    ProviderMissing: Manual, Spec, Fetch,
        "`moduleConfig.provider` is missing; versions are stored anyway",
        "set it, for example to `aws`";
    RemovalUnconfirmed: Manual, Spec, Spec,
        "two or more stored versions are no longer listed, and the Module has `spec.removal: Confirm`; nothing is deleted",
        "put the entries back, or run the command in the message, which confirms the removal at this generation of the spec; see \
         [removing versions](publishing.md#remove-versions)";
    RemovingVersions: Note, Spec, Spec,
        "a Warning Event: two or more stored versions of a Module are no longer listed and are being deleted",
        "if that is a mistake, such as `kubectl apply` with a single entry, put the entries back; see \
         [removing versions](publishing.md#remove-versions)";
    NameTaken: Manual, Spec, Fetch,
        "a Version with a wanted name has another owner, belongs to the original OpenDepot, or has no owner; or \
         it was restored and its location is not the one that the Module wants",
        "run the command in the message, which lets the Module adopt the Version or removes it; or rename one of the two";
    VersionRefused: Automatic, Spec, Fetch,
        "the API server rejects the creation or a change of a Version, or its status (in the last case only an \
         Event and the log report it), or stores another value than the operator sent; the message names the field. A \
         Module that is deleted with `Retain` stays until its Versions have that policy",
        "check quotas, admission webhooks and admission policies of the namespace, and the operator's RBAC";
    RecordFull: Manual, Spec, Fetch,
        "an immutable Module records the digest of every version ever published, up to 10,000 digests or 512 \
         KiB, and the record is full: no new version is published, everything else works",
        "set `moduleConfig.immutable` to `false`, wait until `status.published` is removed, and set it to `true` \
         again. The digests of stored versions are kept, those of removed versions are discarded";
    VersionsFailed: Inherited, Spec, Fetch,
        "Versions of a Module failed for different reasons (if they all have one reason, the Module has that \
         reason too); the message quotes the first failure",
        "find that Version with the first command of this page, and its reason in these tables";
    Addressable: Done, Address, Spec,
        "the Module has the address in the message; versions that no client can parse are named",
        "nothing";
    NameNotAddressable: Manual, Address, Spec,
        "clients do not accept the module's name in an address, for example because of a dot",
        "set the annotation `opendepot.defdev.io/registry-name` of the Module to a name without it; no object moves";
    RegistryNameInvalid: Manual, Address, Spec,
        "clients do not accept the annotation `opendepot.defdev.io/registry-name` as a name",
        "write up to 64 letters, digits, `-` and `_`";
    ProviderNotAddressable: Manual, Address, Spec,
        "clients do not accept `moduleConfig.provider` in an address: they accept lower-case letters and digits, and no dash",
        "write the provider without a dash; this moves no object";
    AddressTaken: Manual, Address, Spec,
        "another Module of the namespace has the address, or had it when this one claimed it; the address is not reassigned \
         automatically",
        "choose another name with `opendepot.defdev.io/registry-name`; or, after the other Module is deleted, run the command \
         in the message";
    HostNotAllowed: Manual, Flags, FetchStart,
        "`repoUrl` names a host other than github.com",
        "use GitHub; for GitHub Enterprise (Server or `*.ghe.com`), run the operator with `--github-host HOST`";
    StorageNotAllowed: Manual, Flags, Spec,
        "the namespace is not allowed to store in that bucket and prefix",
        "use a permitted location, or run the operator with `--allow-storage`";
    EndpointNotAllowed: Manual, Flags, Spec,
        "the spec names an endpoint other than AWS",
        "run the operator with `--s3-endpoint URL`";
    SecretNotFound: Manual, Secret, FetchStart,
        "the Secret does not exist in the Module's namespace",
        "create it, or correct `secretName`";
    SecretForbidden: Manual, Secret, FetchStart,
        "the operator's service account has no permission to read the Secret",
        "grant `get` on it to the operator's ServiceAccount; see [security](security.md)";
    SecretInvalid: Manual, Secret, FetchStart,
        "a key of the Secret is missing or has an unusable value",
        "set the key that the message names: `githubAppID`, `githubInstallID` and `githubPrivateKey`, or \
         `githubToken`";
    CredentialsRefused: Manual, Secret, Fetch,
        "GitHub rejects the credentials",
        "on GitHub, check that the App is installed and not suspended, and its key not revoked, or that the token has \
         not expired; then update the Secret";
    TokenNotReady: Automatic, GitHub, Fetch,
        "the App's token is less than a minute old and not valid on all of GitHub's servers yet; or GitHub rejects a \
         personal token that worked within the last hour",
        "wait; after a minute GitHub's answer is final";
    AccessForbidden: Manual, Access, Fetch,
        "GitHub accepts the credentials but denies access",
        "read GitHub's answer in the message; causes are an App or token without the permission \"Contents: read\" \
         (`Resource not accessible`), SSO, IP allow lists, a repository that GitHub has disabled (HTTP 451 or `access \
         blocked`), an installation that was suspended within the last hour, and for anonymous requests a proxy or site that \
         blocks one repository";
    RepositoryNotFound: Manual, Access, Fetch,
        "the repository does not exist or is not visible with these credentials (GitHub also answers with a \
         login page)",
        "correct `repoUrl`, set `useAuthenticatedClient`, or give the App access";
    TagNotFound: Tag, GitHub, Fetch,
        "neither spelling of the version (with or without `v`) is a tag",
        "push the tag, or correct the version";
    RateLimited: Scheduled, GitHub, Fetch,
        "GitHub's rate limit is reached, or its site blocks an anonymous request with a web page",
        "wait, or put credentials of another account into the Secret, which is read each minute; see \
         [rate limits](operations.md#rate-limits)";
    GitHubUnavailable: Automatic, GitHub, Fetch,
        "GitHub failed, or could not be reached through the proxy, DNS and network policy of the operator's pod",
        "see githubstatus.com; if GitHub works, run `opendepot check` in the pod, whose line `egress` names what fails";
    UnexpectedAnswer: Automatic, GitHub, Fetch,
        "the response is not a valid response to a request for an archive",
        "check what is between the operator and GitHub: a gateway's login page, a redirect of the App's token \
         request (the message names both hosts; the redirect is not followed), or a host that is not GitHub. If the \
         message names another host for `repoUrl`, or clocks that differ, correct that";
    DownloadIncomplete: Automatic, GitHub, Fetch,
        "the connection ended before the archive was complete",
        "wait; if it persists, check the limits of the proxy";
    NotAnArchive: Manual, Content, Fetch,
        "the download is neither zip nor tar.gz",
        "the message names its type: it is usually a page from a proxy";
    ArchiveCorrupt: UntilRepeated, Content, Fetch,
        "the archive is damaged, truncated or empty",
        "wait for the next fetch. If the same bytes come twice, report the problem to GitHub, or publish a new \
         version";
    ArchiveEmpty: Manual, Content, Fetch,
        "the archive contains no file",
        "tag a commit that contains the module; check for `export-ignore`";
    ArchiveUnsafe: Manual, Content, Fetch,
        "the archive contains a path with `..`, an absolute path, a device, a link that leaves the module, or a \
         `.tf`, `.tf.json`, `.tofu` or `.tofu.json` file whose path is not UTF-8, has a control character, a \
         backslash or a name of more than 255 bytes, or starts with a drive letter",
        "remove or rename the file that the message names, and tag again";
    ArchiveTooLarge: Manual, Content, Fetch,
        "a limit of size, entries or compression ratio is exceeded",
        "make the module smaller, or raise `--max-archive-size`, `--max-unpacked-size` or `--max-entries`; the ratio \
         has no flag";
    SpoolFailed: Automatic, Disk, Fetch,
        "the operator's disk failed",
        "free or enlarge the volume of `--spool-dir`";
    ImmutableContentChanged: Manual, Content, Fetch,
        "the tag of an immutable version was moved, even if only execute bits of files changed; the stored \
         object is unchanged",
        "move the tag back, or publish a new version";
    SameCommitOtherContent: Manual, Content, Fetch,
        "the same commit produced other content. Causes are git's `export-subst`, and a change of GitHub's \
         setting \"Include Git LFS objects in archives\". The stored object is unchanged",
        "remove `export-subst` from the repository, or change the setting back";
    LinksSkipped: Note, Warning, Fetch,
        "symbolic links were left out: their target does not exist, is the link itself, is a folder that \
         contains the link, is in a submodule, or is not a valid file name (such as one with a newline at its \
         end)",
        "nothing, if the module works without them: Terraform could not have used them";
    FilesSkipped: Note, Warning, Fetch,
        "files were left out because their path is not UTF-8, has a control character, a backslash or a name of \
         more than 255 bytes, or starts with a drive letter; none of them is a Terraform file",
        "rename them in the repository, if the module needs them";
    SubmodulesEmpty: Note, Warning, Fetch,
        "the repository has git submodules, which are empty in GitHub's archives",
        "copy the files that the module needs into the repository, or call the submodule by its own `source`";
    LfsPointers: Note, Warning, Fetch,
        "files are stored as Git LFS pointers instead of their contents",
        "switch on \"Include Git LFS objects in archives\" in the repository's settings before you publish the \
         tag, or keep the files in git";
    ContentReplaced: Note, Warning, Fetch,
        "a tag was moved and the module is not `immutable`: the new content was stored under a new key, and the \
         old object was deleted (with `deletionPolicy: Retain` it stays)",
        "set `immutable` to prevent this";
    BucketNotFound: Automatic, Storage, Bucket,
        "the bucket does not exist",
        "create it, or correct the name, region or endpoint";
    BucketMisconfigured: Manual, Storage, Bucket,
        "the bucket's name, region or endpoint is wrong",
        "correct it; the message names the right region if S3 returned it";
    StorageAccessDenied: Automatic, Storage, Bucket,
        "S3 denies the operator's identity access to the object or the bucket",
        "give the operator's role the [policy](../examples/aws/s3-policy.json). Without `s3:ListBucket`, a \
         missing object has this reason too. To finish a deletion at once, set `deletionPolicy: Retain`";
    StorageCredentialsInvalid: Automatic, Storage, Bucket,
        "the operator has no AWS credentials, cannot load them, or S3 rejects them",
        "check IRSA or pod identity, the trust policy, the AWS profile and the clock";
    StorageThrottled: Automatic, Storage, Bucket,
        "S3 throttles requests",
        "wait; if it persists, lower `--max-fetches`";
    EncryptionKeyUnusable: Automatic, Storage, Bucket,
        "the KMS key cannot be used",
        "enable the key; give the role the [KMS policy](../examples/aws/kms-policy.json)";
    StorageRefused: Manual, Storage, Bucket,
        "the store, or a proxy in front of it, does not accept the request; the message has the reason. Causes are an encryption that \
         it lacks or that conflicts with `kmsKeyId`, a method that it forbids, retention that protects the object, and a \
         proxy in front of it that rejects large archives (HTTP 413)",
        "correct the spec or the store; see [stores](stores.md)";
    StorageUnavailable: Automatic, Storage, Bucket,
        "S3 failed, or could not be reached; the message has the cause",
        "run `opendepot check` in the pod; check the endpoint, the proxy, `--ca-file`, and the NetworkPolicy";
    ChecksumMismatch: Automatic, Storage, Fetch,
        "the object that S3 stored differs from the one that was sent",
        "wait; if it persists, check the disk and the proxy";
    ObjectNotOurs: Manual, Storage, Fetch,
        "the key holds an object that this Version did not store; it is neither overwritten nor deleted",
        "choose another prefix, name or `fileName`; remove that object only if nothing uses it";
    KeyRetained: Manual, Storage, Fetch,
        "`fileName` was changed back, for example by GitOps, to a key with older content of this Version, which \
         `deletionPolicy: Retain` keeps; the current content is already stored under another name",
        "set the `fileName` in the message, or an unused one; or remove the older object";
    OldObjectKept: Automatic, Storage, Bucket,
        "the version moved, and its old object cannot be deleted yet",
        "allow `s3:DeleteObject` at the old location";
    ApiUnavailable: Automatic, Operator, Fetch,
        "the Kubernetes API failed or could not be reached; only an Event and the log report it, not the status",
        "check the API server: `kubectl get --raw /readyz`";
    InternalError: Automatic, Operator, Fetch,
        "a defect of the operator, which was caught",
        "report it with the log of that minute; see [support](../SUPPORT.md)";
}
