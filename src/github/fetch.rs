//! Fetches a tag's archive: which spelling of the tag exists, or what is missing.

use std::time::Instant;

use reqwest::Response;
use tokio::fs::File;
use url::Url;

use super::{
    account::Session,
    error::FetchError,
    limit_times::Now,
    redirect::new_address,
    session::{Doubt, End, Missing},
    transport::{Transport, drain, save},
};
use crate::domain::repository::authority;
use crate::domain::{ArchiveFormat, Reference};

/// An archive that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The spelling of the tag that exists.
    pub tag: String,
    /// The requested URL, without the token of the redirect target.
    pub url: String,
    pub bytes: u64,
    /// The repository's new address, if GitHub reports that it has moved.
    pub moved_to: Option<String>,
}

/// An archive that is about to be read.
struct Found {
    tag: String,
    url: Url,
    served_by: Url,
    /// Target of the last permanent redirect.
    moved: Option<Url>,
    response: Response,
}

impl<T: Transport> Session<'_, T> {
    /// Fetches the archive of the first of `tags` that exists and appends it to `into`.
    pub(super) async fn fetch(
        mut self,
        tags: &[String],
        format: ArchiveFormat,
        into: &mut File,
    ) -> Result<Fetched, FetchError> {
        let (client, repository) = (self.client, self.repository);
        let work = async {
            let found = self.find(tags, format).await?;
            let moved_to = new_address(repository, found.moved.as_ref(), &found.served_by);
            let bytes = save(found.response, &found.served_by, client.max_archive_bytes, into).await?;
            Ok(Fetched { tag: found.tag, url: found.url.into(), bytes, moved_to })
        };
        let time = client.total_timeout;
        let result = tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
            let what = format!("fetching from {repository} took longer than {} s", time.as_secs());
            Err(FetchError::Network { what })
        });
        client.missing.record(&self.account, &self.key, result.as_ref().err(), Instant::now());
        result
    }

    async fn find(&mut self, tags: &[String], format: ArchiveFormat) -> Result<Found, FetchError> {
        let authenticated = self.authenticated();
        let (mut found, mut doubted, mut repository_seen) = (None, Vec::new(), false);
        for tag in tags {
            match self.ask(tag, format).await? {
                Ok(archive) => {
                    found = Some(archive);
                    break;
                }
                Err(missing) => {
                    repository_seen |= missing.handed_over;
                    doubted.extend((missing.doubt == Doubt::Unproven).then_some(tag));
                }
            }
            if !authenticated && !repository_seen {
                return Err(self.no_repository());
            }
        }
        if found.is_none() && !repository_seen {
            self.repository_answers().await?;
        }
        // The token has worked in the meantime, so a 404 counts now. The first spelling is preferred.
        for tag in doubted {
            if let Ok(archive) = self.ask(tag, format).await? {
                return Ok(archive);
            }
        }
        let tried = tags.to_vec();
        found.ok_or_else(|| FetchError::TagNotFound { repository: self.repository.to_string(), tried })
    }

    async fn ask(&mut self, tag: &str, format: ArchiveFormat) -> Result<Result<Found, Missing>, FetchError> {
        let reference = if self.client.any_reference { Reference::of(tag) } else { Reference::Tag(tag) };
        let url = if self.authenticated() {
            self.repository.api_archive(reference, format)
        } else {
            self.repository.site_archive(reference, format)
        };
        let sent = Instant::now();
        match self.follow(&url).await? {
            End::Body { response, served_by, moved } => {
                let now = Now::read();
                self.client.rate_limits.served(&self.account, &self.key, sent, now);
                self.client.refusals.accepted(&self.account, now.monotonic);
                Ok(Ok(Found { tag: tag.to_owned(), url, served_by, moved, response: *response }))
            }
            End::Missing(missing) => Ok(Err(missing)),
        }
    }

    /// Fails if GitHub shows no such repository to the credential.
    pub(super) async fn repository_answers(&mut self) -> Result<(), FetchError> {
        match self.follow(&self.repository.api_repository()).await? {
            End::Body { response, .. } => {
                drain(*response).await;
                Ok(())
            }
            End::Missing(Missing { doubt: Doubt::None, .. }) => Err(self.no_repository()),
            End::Missing(_) => {
                let host = authority(self.repository.api());
                let what = format!("{host} finds no repository {} for the App", self.repository);
                Err(FetchError::TokenNotReady { status: 404, what })
            }
        }
    }
}

#[cfg(test)]
mod tests;
