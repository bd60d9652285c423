//! The state that all fetches share: the transport, the rate limits and the installation tokens.

use std::time::Instant;

use super::{limit_times::Now, rate_limit::RateLimits, token::TokenCache};

#[derive(Debug)]
pub(super) struct Client<T> {
    pub(super) transport: T,
    pub(super) rate_limits: RateLimits,
    pub(super) tokens: TokenCache,
}

impl<T> Client<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, rate_limits: RateLimits::default(), tokens: TokenCache::new(Instant::now) }
    }

    pub(super) fn remaining(&self) -> Vec<(&'static str, i64)> {
        self.rate_limits.remaining(Now::read())
    }
}
