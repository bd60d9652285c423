//! `opendepot archive`: what the operator would store for a tag, or for a local archive, and whether it would be rejected.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::output::Output;
use crate::archive::{self, ArchiveError, Limits, Normalised};
use crate::controller::failure::Failure;
use crate::domain::{ArchiveFormat, Reference, Release, Repository};
use crate::github::{self, ClientError, Credential, FetchError, GitHub};
use crate::startup::{StartupError, ca_certificates};
use crate::version::warnings;
use crate::workdir::temporary_file;

const EXAMPLES: &str = "\
Examples:
  # A tag of a public repository, or of a private one with GITHUB_TOKEN.
  opendepot archive my-org/terraform-aws-my-module v1.0.0
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
    #[arg(value_name = "REF", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reference: Option<String>,

    /// Format that would be stored (fileFormat of a Module). Default: zip, or that of a local file.
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Token for a private repository. Default: none.
    #[arg(long, env = "GITHUB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<SecretString>,

    /// PEM file with CA certificates for GitHub, in addition to the system's.
    #[arg(long, env = "OPENDEPOT_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Write the archive that would be stored to this file.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A format as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Zip,
    Tar,
}

/// An archive that would be stored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The URL that was fetched, or the file.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Instead of a tag: the full ref, or the commit that was named.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub files: u64,
    pub size: u64,
    /// SHA-256 in base64, as `status.checksum` of a Version.
    pub checksum: String,
    /// As `status.contentDigest` of a Version.
    pub content_digest: String,
    /// What the operator would report as Warning Events.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Warning {
    pub reason: &'static str,
    pub message: String,
}

/// Why there is no archive to store.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveCommandError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "{0:?} is no repository: write OWNER/REPO or https://HOST/OWNER/REPO, and a tag; or a file that ends in .zip, .tar.gz or .tgz"
    )]
    Subject(String),
    #[error("write the tag after the repository, such as v1.0.0, or a branch, a full ref or a commit")]
    NoReference,
    #[error(
        "repository {repository} has no branch or ref {name}: write a version's tag such as v1.0.0, a branch, a full ref such as \
         refs/pull/7/merge, or the full hash of a commit"
    )]
    ReferenceNotFound { repository: Repository, name: String },
    #[error("cannot read or write {path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    /// As a Version would report it.
    #[error("{reason}: {message}")]
    Rejected { reason: &'static str, message: String },
}

impl From<FetchError> for ArchiveCommandError {
    fn from(error: FetchError) -> Self {
        let message = error.to_string();
        Self::Rejected { reason: Failure::from(error).reason.as_str(), message }
    }
}

impl From<ArchiveError> for ArchiveCommandError {
    fn from(error: ArchiveError) -> Self {
        let Failure { reason, message, .. } = Failure::from(error);
        Self::Rejected { reason: reason.as_str(), message }
    }
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
        let format = arguments.format.map_or(ArchiveFormat::Zip, ArchiveFormat::from);
        let file = raw.as_file().try_clone().map_err(in_folder)?;
        let fetched = fetch(arguments, name, format, &mut tokio::fs::File::from_std(file)).await?;
        (raw.path().to_owned(), format, Some(fetched))
    } else {
        let path = PathBuf::from(&arguments.subject);
        let format = format_of(&arguments.subject).ok_or_else(|| match repository(&arguments.subject) {
            Some(_) => ArchiveCommandError::NoReference,
            None => ArchiveCommandError::Subject(arguments.subject.clone()),
        })?;
        std::fs::metadata(&path).map_err(|error| ArchiveCommandError::File { path: path.clone(), error })?;
        (path, format, None)
    };
    let wanted = arguments.format.map_or(format, ArchiveFormat::from);
    let normalised = archive::normalise(&path, wanted, &Limits::default(), &folder)?;
    let source = fetched.as_ref().map_or_else(|| arguments.subject.clone(), |fetched| fetched.url.clone());
    let accepted = describe(&normalised, source, fetched.map(|fetched| fetched.tag));
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
    let subject = || ArchiveCommandError::Subject(arguments.subject.clone());
    let repository = repository(&arguments.subject).ok_or_else(subject)?;
    // The host is that of the command line: it needs no other permission.
    let github = GitHub::new(&github::Settings {
        extra_hosts: vec![repository.host()],
        any_reference: true,
        ca_pem: ca_certificates(arguments.ca_file.as_deref())?,
        ..github::Settings::default()
    })?;
    let token = arguments.token.clone().filter(|token| !token.expose_secret().is_empty());
    let credential = token.map_or(Credential::Anonymous, Credential::Token);
    let names = names(name);
    github.fetch(&repository, &names, format, &credential, into).await.map_err(|error| match error {
        FetchError::TagNotFound { .. } if names.len() == 1 => {
            ArchiveCommandError::ReferenceNotFound { repository, name: name.to_owned() }
        }
        error => error.into(),
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

fn describe(normalised: &Normalised, source: String, fetched: Option<String>) -> Accepted {
    let is_tag = fetched.as_ref().is_some_and(|name| Release::parse(name).is_ok());
    let (tag, reference) = if is_tag { (fetched, None) } else { (None, fetched) };
    let warning =
        |warning: warnings::Warning| Warning { reason: warning.reason.as_str(), message: warning.text };
    Accepted {
        source,
        tag,
        reference,
        commit: normalised.commit.clone(),
        files: normalised.files,
        size: normalised.size,
        checksum: STANDARD.encode(normalised.sha256),
        content_digest: normalised.digest.to_string(),
        warnings: warnings::of_archive(&normalised.report).into_iter().map(warning).collect(),
    }
}

impl std::fmt::Display for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "accepted: {}", self.source)?;
        for (name, value) in [("tag", &self.tag), ("ref", &self.reference), ("commit", &self.commit)] {
            if let Some(value) = value {
                writeln!(f, "{name}: {value}")?;
            }
        }
        writeln!(f, "files: {}\nsize: {}\nchecksum: {}", self.files, self.size, self.checksum)?;
        write!(f, "contentDigest: {}", self.content_digest)?;
        self.warnings.iter().try_for_each(|w| write!(f, "\nwarning: {}: {}", w.reason, w.message))
    }
}

impl From<Format> for ArchiveFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Zip => Self::Zip,
            Format::Tar => Self::Tar,
        }
    }
}

fn repository(text: &str) -> Option<Repository> {
    match text.split_once('/') {
        Some((owner, name)) if !text.contains("://") => Repository::from_parts(owner, name).ok(),
        _ => Repository::parse(text).ok(),
    }
}

fn format_of(path: &str) -> Option<ArchiveFormat> {
    let path = path.to_ascii_lowercase();
    let endings =
        [(".zip", ArchiveFormat::Zip), (".tar.gz", ArchiveFormat::Tar), (".tgz", ArchiveFormat::Tar)];
    endings.into_iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, format)| format)
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
        assert_eq!(format_of("out/Module.TGZ"), Some(ArchiveFormat::Tar));
        assert_eq!((format_of("m.zip"), format_of("m.tar")), (Some(ArchiveFormat::Zip), None));
    }
}
