//! `opendepot check`: whether cluster, AWS and GitHub allow what the operator does. Nothing is changed, except that a probe is
//! written to a bucket and deleted.

mod arguments;
mod aws;
mod cluster;
mod crds;
mod github;
pub mod report;
mod rights;
mod subject;

use std::collections::BTreeSet;

pub use self::arguments::Arguments;
use self::cluster::{Cluster, cluster};
use self::report::Line;
pub use self::report::Report;
use self::subject::Subject;
use crate::domain::Repository;
use crate::github::{self as client, Credential, GitHub};
use crate::startup::{StartupError, ca_certificates};
use crate::storage::Storage;

/// What prevents the checks.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error(transparent)]
    GitHub(#[from] client::ClientError),
}

/// Runs all checks.
///
/// # Errors
/// [`CheckError`] if an argument cannot be used.
pub async fn run(arguments: &Arguments) -> Result<Report, CheckError> {
    let roots = ca_certificates(arguments.ca_file.as_deref())?;
    let storage = Storage::new(&roots).await.map_err(StartupError::from)?;
    let extra_hosts = arguments.github_host.clone();
    let github = GitHub::new(&client::Settings { extra_hosts, roots, ..client::Settings::default() })?;

    let (mut lines, cluster) = cluster(arguments).await;
    let (subject, line) = subject::subject(arguments, cluster.as_ref()).await;
    lines.extend(line);
    let (storage_lines, github_lines) = futures::join!(
        check_storage(&storage, &subject),
        check_github(&github, arguments, &subject, cluster.as_ref()),
    );
    lines.extend(storage_lines);
    lines.extend(github_lines);
    Ok(Report::new(lines))
}

async fn check_storage(storage: &Storage, subject: &Subject) -> Vec<Line> {
    let endpoint = subject.bucket.as_ref().and_then(|(location, _)| location.endpoint.as_deref());
    let at_aws = endpoint.is_none() && storage.default_endpoint().is_none();
    let mut lines = vec![aws::identity(storage, at_aws).await];
    match &subject.bucket {
        Some((prefix, encryption)) => lines.extend(aws::probe(storage, prefix, encryption).await),
        None => {
            lines.push(Line::skipped("bucket", "no bucket is named: add --bucket and --region, or a Module"));
        }
    }
    lines
}

async fn check_github(
    github: &GitHub,
    arguments: &Arguments,
    subject: &Subject,
    cluster: Option<&Cluster>,
) -> Vec<Line> {
    let mut hosts: BTreeSet<String> = arguments.github_host.iter().cloned().collect();
    hosts.extend(subject.repository.as_ref().map(Repository::host));
    if hosts.is_empty() {
        hosts.insert("github.com".to_owned());
    }
    let mut lines = github::egress(github, &hosts).await;
    let Some(repository) = &subject.repository else {
        lines.push(Line::skipped("github", "no repository is named: add --repository, or a Module"));
        return lines;
    };
    let credential = match (&subject.secret, cluster) {
        (None, _) => Ok(Credential::Anonymous),
        (Some((namespace, name)), Some(cluster)) => {
            github::credential(&cluster.client, namespace, name).await
        }
        (Some(_), None) => Err(Line::skipped("github", "the Secret cannot be read without a cluster")),
    };
    lines.push(match credential {
        Ok(credential) => github::repository(github, repository, &credential).await,
        Err(line) => line,
    });
    lines
}
