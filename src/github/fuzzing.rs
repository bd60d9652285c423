//! Entry points for the fuzz targets, which assert what is true for every input. Not part of the product.
#![allow(
    clippy::missing_panics_doc,
    clippy::implicit_hasher,
    reason = "a target that panics has found something"
)]

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};

use super::{
    credential::{Account, Identity},
    limit_times::Now,
    rate_limit::{Answer, RateLimits, Rejection},
    redaction::explanation,
    redirect::target,
};
use crate::domain::repository::authority;
use crate::domain::{ArchiveFormat, Reference, Repository};

/// Rate limits, explanation and redirect of any answer.
pub fn answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    let (sent, wall) = (Instant::now(), Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000));
    let at = |wait: SignedDuration| Now {
        monotonic: sent + Duration::try_from(wait).unwrap_or_default(),
        wall: wall + wait,
    };
    let now = at(SignedDuration::ZERO);
    let message = explanation(body, None);
    if let Some(text) = &message {
        assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
    }
    let account = Account { host: "api.github.com".into(), identity: Identity::Anonymous };
    let limits = RateLimits::default();
    for authorized in [true, false, true] {
        let answer = Answer { status, headers, message: message.as_deref(), authorized, sent };
        if let Err(Rejection::RateLimit(limit)) = limits.observe(&account, "net", answer, now) {
            assert_eq!(limits.check(&account, "net", now), Err(limit));
        }
    }
    if let Err(limit) = limits.check(&account, "net", now) {
        let wait = limit.until.duration_since(wall);
        assert!(wait.is_positive() && wait <= SignedDuration::from_mins(65), "{wait:?}");
        assert_eq!(limits.check(&account, "net", at(wait)), Ok(()));
    }
    if let Ok(repository) = Repository::from_parts("acme", "network")
        && let Ok(url) = target(repository.api(), headers)
    {
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none() && url.has_host(), "{url}");
    }
}

/// The addresses of a repository: only its own host, and paths below its own name.
pub fn addresses(repository: &Repository, tag: &str) {
    let (owner, name) = (repository.owner(), repository.name());
    for format in [ArchiveFormat::Zip, ArchiveFormat::Tar] {
        let site = repository.site_archive(Reference::Tag(tag), format);
        assert_eq!(authority(&site), repository.host());
        assert!(site.path().starts_with(&format!("/{owner}/{name}/archive/refs/tags/")), "{site}");
        let api = repository.api_archive(Reference::Tag(tag), format);
        assert_eq!(authority(&api), authority(repository.api()));
        assert!(api.path().contains(&format!("/repos/{owner}/{name}/")), "{api}");
        for url in [site, api] {
            assert!(url.scheme() == "https" && url.username().is_empty() && url.query().is_none(), "{url}");
        }
    }
}
