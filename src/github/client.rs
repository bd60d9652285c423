//! The state and the limits that all fetches share.

use std::time::{Duration, Instant};

use super::{
    rate_limit::RateLimits,
    refusals::{MissingRepositories, Refusals},
    settings::Settings,
    token::TokenCache,
};

pub(super) struct Client<T> {
    pub(super) transport: T,
    pub(super) rate_limits: RateLimits,
    pub(super) tokens: TokenCache,
    pub(super) refusals: Refusals,
    pub(super) missing: MissingRepositories,
    pub(super) max_archive_bytes: u64,
    pub(super) total_timeout: Duration,
    pub(super) any_reference: bool,
}

impl<T> Client<T> {
    pub(super) fn new(transport: T, settings: &Settings) -> Self {
        Self {
            transport,
            rate_limits: RateLimits::default(),
            tokens: TokenCache::new(Instant::now),
            refusals: Refusals::default(),
            missing: MissingRepositories::default(),
            max_archive_bytes: settings.max_archive_bytes,
            total_timeout: settings.total_timeout,
            any_reference: settings.any_reference,
        }
    }
}
