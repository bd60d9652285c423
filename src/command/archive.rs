//! `opendepot archive`: what the operator would store for a tag, or for a local archive, and whether it would be rejected.

mod accepted;
mod token;

use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use secrecy::{ExposeSecret as _, SecretString};

pub use self::accepted::{Accepted, Warning};
use super::arguments::ArchiveLimits;
use super::output::Output;
use crate::archive;
use crate::controller::failure::Failure;
use crate::domain::{ArchiveFormat, Reference, Release, Repository};
use crate::github::{self, ClientError, Credential, FetchError, GitHub};
use crate::startup::{StartupError, ca_certificates};
use crate::workdir::temporary_file;

const EXAMPLES: &str = "\
Examples:
  # A tag of a public repository, or of a private one with GITHUB_TOKEN.
  opendepot archive my-org/terraform-aws-my-module v1.0.0
  # Of another host, with GH_ENTERPRISE_TOKEN if it is private.
  opendepot archive https://ghes.example.com/my-org/terraform-aws-my-module v1.0.0
  # Before there is a tag: a branch, a pull request as it would be merged, or a commit.
  opendepot archive my-org/terraform-aws-my-module main
  opendepot archive my-org/terraform-aws-my-module refs/pull/7/merge
  # Without GitHub: an archive like GitHub's of the checked-out commit.
  git archive --format=zip --prefix=module/ -o module.zip HEAD
  opendepot archive module.zip
  # The bytes that would be stored.
  opendepot archive my-org/terraform-aws-my-module v1.0.0 --write stored.zip

The exit status is 1 if the archive would be rejected. Nothing is stored in S3, and no cluster is needed.";

/// Arguments of `opendepot archive`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Repository: OWNER/REPO on github.com, or `https://HOST/OWNER/REPO`. Without REF: a local .zip, .tar.gz or .tgz file.
    #[arg(value_name = "REPO|FILE")]
    pub subject: String,

    /// A version, in the form of its tag: the tag with the other spelling (with or without v) is tried next. Or a branch, a full
    /// ref such as refs/pull/7/merge, or the full hash of a commit.
    #[arg(value_name = "REF", value_parser = NonEmptyStringValueParser::new())]
    pub reference: Option<String>,

    /// Format that would be stored (fileFormat of a Module). Default: zip, or that of a local file.
    #[arg(long, value_parser = format())]
    pub format: Option<ArchiveFormat>,

    /// Token for a private repository. Default for github.com and the host of `GITHUB_SERVER_URL`: that of `GITHUB_TOKEN`.
    /// Default for other hosts: that of `GH_ENTERPRISE_TOKEN`.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<SecretString>,

    #[command(flatten)]
    pub archives: ArchiveLimits,

    /// PEM file with CA certificates for GitHub, in addition to the system's.
    #[arg(long, env = "OPENDEPOT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Write the archive that would be stored to this file.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Output format.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Why there is no archive to store.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveCommandError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "{0:?} is not a repository: write OWNER/REPO or https://HOST/OWNER/REPO, and a tag; or a file that ends in .zip, .tar.gz or .tgz"
    )]
    Subject(String),
    #[error("a local file has no tags: leave out {0}")]
    FileWithReference(String),
    #[error("write the tag after the repository, such as v1.0.0, or a branch, a full ref or a commit")]
    NoReference,
    #[error(
        "repository {repository} has no branch or ref {name}: write a version's tag such as v1.0.0, a branch, a full ref such as \
         refs/pull/7/merge, or the full hash of a commit"
    )]
    ReferenceNotFound { repository: Repository, name: String },
    #[error(
        "the token contains characters that are not valid in a token: pass only the token, on one line, in --token, GITHUB_TOKEN or \
         GH_ENTERPRISE_TOKEN"
    )]
    Token,
    #[error("cannot read or write {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    #[error("{reason}: {message}")]
    Rejected { reason: &'static str, message: String },
}

/// As a Version would report it.
fn rejected(error: impl Into<Failure>) -> ArchiveCommandError {
    let Failure { reason, message, .. } = error.into();
    ArchiveCommandError::Rejected { reason: reason.as_str(), message }
}

/// The same for a failed fetch. A Version's message names the Secret, which this command does not use.
fn not_fetched(error: FetchError) -> ArchiveCommandError {
    const TOKEN: &str = "use a token that may read it, in --token, GITHUB_TOKEN (github.com) or GH_ENTERPRISE_TOKEN (other hosts)";
    let message = match &error {
        FetchError::RepositoryNotFound { repository, .. } => {
            format!("repository {repository} does not exist or is private: correct the address, or {TOKEN}")
        }
        FetchError::CredentialRefused { status, .. } => {
            format!("GitHub does not accept the token (HTTP {status}): {TOKEN}")
        }
        _ => return rejected(error),
    };
    rejected(Failure { message, ..error.into() })
}

/// Fetches and normalises an archive as the operator does.
///
/// # Errors
/// [`ArchiveCommandError`] if nothing would be stored.
pub async fn run(arguments: &Arguments) -> Result<Accepted, ArchiveCommandError> {
    let folder = std::env::temp_dir();
    let in_folder = |error| ArchiveCommandError::File { path: folder.clone(), error };
    let raw = temporary_file(&folder).map_err(in_folder)?;
    let (path, format, fetched) = if let Some(name) = &arguments.reference {
        let format = arguments.format.unwrap_or(ArchiveFormat::Zip);
        let file = raw.as_file().try_clone().map_err(in_folder)?;
        let fetched = fetch(arguments, name, format, &mut tokio::fs::File::from_std(file)).await?;
        (raw.path().to_owned(), format, Some(fetched))
    } else {
        let subject = &arguments.subject;
        let path = PathBuf::from(subject);
        let format = ArchiveFormat::of_file_name(subject).ok_or_else(|| match repository(subject) {
            Some(_) => ArchiveCommandError::NoReference,
            None => ArchiveCommandError::Subject(subject.clone()),
        })?;
        let of_file = |error| ArchiveCommandError::File { path: path.clone(), error };
        if !std::fs::metadata(&path).map_err(of_file)?.is_file() {
            return Err(of_file(std::io::Error::other("it is not a file")));
        }
        (path, format, None)
    };
    let wanted = arguments.format.unwrap_or(format);
    let normalised =
        archive::normalise(&path, wanted, &arguments.archives.limits(), &folder).map_err(rejected)?;
    let source = fetched.as_ref().map_or_else(|| arguments.subject.clone(), |fetched| fetched.url.clone());
    let accepted = Accepted::of(&normalised, source, fetched.map(|fetched| fetched.tag));
    if let Some(path) = &arguments.write {
        std::fs::copy(&normalised.file, path)
            .map_err(|error| ArchiveCommandError::File { path: path.clone(), error })?;
    }
    Ok(accepted)
}

async fn fetch(
    arguments: &Arguments,
    name: &str,
    format: ArchiveFormat,
    into: &mut tokio::fs::File,
) -> Result<github::Fetched, ArchiveCommandError> {
    let subject = &arguments.subject;
    let repository = repository(subject).ok_or_else(|| match ArchiveFormat::of_file_name(subject) {
        Some(_) => ArchiveCommandError::FileWithReference(name.to_owned()),
        None => ArchiveCommandError::Subject(subject.clone()),
    })?;
    // The user names the host on the command line, so it is allowed.
    let github = GitHub::new(&github::Settings {
        extra_hosts: vec![repository.host()],
        any_reference: true,
        max_archive_bytes: arguments.archives.max_archive_size,
        roots: ca_certificates(arguments.ca_file.as_deref())?,
        ..github::Settings::default()
    })?;
    let given = arguments.token.clone().filter(|token| !token.expose_secret().trim().is_empty());
    let of_environment = || token::of_environment(&repository.host(), |name| std::env::var(name).ok());
    let credential = match given.or_else(of_environment) {
        Some(token) => Credential::token(token.expose_secret().as_bytes()),
        None => Ok(Credential::Anonymous),
    };
    let credential = credential.map_err(|_| ArchiveCommandError::Token)?;
    let names = names(name);
    github.fetch(&repository, &names, format, &credential, into).await.map_err(|error| match error {
        FetchError::TagNotFound { .. } if names.len() == 1 => {
            ArchiveCommandError::ReferenceNotFound { repository, name: name.to_owned() }
        }
        error => not_fetched(error),
    })
}

/// What a name may mean: the two tags of a version, or one ref or commit. A branch needs no prefix.
fn names(name: &str) -> Vec<String> {
    let tag = name.strip_prefix("refs/tags/").unwrap_or(name);
    match (Release::parse(tag), Reference::of(name)) {
        (Ok(_), _) => Release::tags(tag).to_vec(),
        (Err(_), Reference::Other(name)) => vec![name.to_owned()],
        (Err(_), Reference::Tag(name)) => vec![format!("refs/heads/{name}")],
    }
}

/// Parses `--format`.
fn format() -> impl TypedValueParser<Value = ArchiveFormat> {
    let formats = [ArchiveFormat::Zip, ArchiveFormat::Tar];
    PossibleValuesParser::new(formats.map(ArchiveFormat::as_str))
        .map(|name| if name == "tar" { ArchiveFormat::Tar } else { ArchiveFormat::Zip })
}

fn repository(text: &str) -> Option<Repository> {
    match text.split_once('/') {
        Some((owner, name)) if !text.contains("://") => Repository::from_parts(owner, name).ok(),
        _ => Repository::parse(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_version_a_branch_a_ref_or_a_commit() {
        let commit = "c64684349319e64a72a4e1d382db3a36912c054e";
        for (name, expected) in [
            ("1.0.0", &["1.0.0", "v1.0.0"][..]),
            ("refs/tags/v1.0.0", &["v1.0.0", "1.0.0"]),
            ("main", &["refs/heads/main"]),
            ("feature/a", &["refs/heads/feature/a"]),
            ("refs/pull/7/merge", &["refs/pull/7/merge"]),
            (commit, &[commit]),
        ] {
            assert_eq!(names(name), expected, "{name}");
        }
    }

    #[test]
    fn a_repository_is_an_address_or_two_names() {
        let host = |text: &str| repository(text).map(|repository| repository.to_string());
        assert_eq!(host("my-org/net").as_deref(), Some("https://github.com/my-org/net"));
        assert_eq!(host("https://ghes.example.com/a/b.git").as_deref(), Some("https://ghes.example.com/a/b"));
        assert_eq!((host("net"), host("a/b/c"), host("http://github.com/a/b")), (None, None, None));
    }
}
