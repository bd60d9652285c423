//! Decides on a JWT: header, times, audience, signature, claims, in this order.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use reqwest::Certificate;

use super::algorithm::Algorithm;
use super::claims;
use super::config::IssuerConfig;
use super::fetch::Discovery;
use super::key_ring::{KeyRing, REFRESH, Source};
use crate::registry::auth::denied::{self, Denied};
use crate::registry::auth::identity::Identity;
use crate::registry::auth::settings::AccessError;
use crate::registry::auth::token::Unverified;

/// By how much clocks may differ.
const LEEWAY: SignedDuration = SignedDuration::from_secs(10);

/// The issuers of `--auth-config`.
#[derive(Default)]
pub(crate) struct Issuers {
    pub all: Vec<Arc<Issuer>>,
}

pub struct Issuer {
    config: IssuerConfig,
    keys: KeyRing,
}

impl Issuers {
    pub(crate) fn new(configs: Vec<IssuerConfig>, roots: &[Certificate]) -> Result<Self, AccessError> {
        let issuer = |config: IssuerConfig| {
            let source = Discovery::new(&config, roots)?;
            Ok(Arc::new(Issuer::new(config, Box::new(source))))
        };
        Ok(Self { all: configs.into_iter().map(issuer).collect::<Result<_, AccessError>>()? })
    }

    /// The issuer that a token names.
    pub(crate) fn named(&self, issuer: &str) -> Option<Arc<Issuer>> {
        self.all.iter().find(|one| one.config.url == issuer).cloned()
    }
}

impl Issuer {
    pub fn new(config: IssuerConfig, source: Box<dyn Source>) -> Self {
        Self { keys: KeyRing::new(config.url.clone(), source), config }
    }

    pub async fn keep_keys_current(&self) {
        self.keys.keep_current(REFRESH).await;
    }

    /// The identity of a token.
    pub async fn verify(&self, token: &str, clock: Timestamp, now: Instant) -> Result<Identity, Denied> {
        let (jwt, expires) = self.check(token, &self.config.audiences, clock, now).await?;
        claims::identity(&jwt.claims, &self.config, expires).map_err(Denied::Unauthenticated)
    }

    /// Checks times, audience and signature. Returns the token's parts, and when it expires.
    pub async fn check<'a>(
        &self,
        token: &'a str,
        audiences: &[String],
        clock: Timestamp,
        now: Instant,
    ) -> Result<(Unverified<'a>, Timestamp), Denied> {
        let refused = Denied::Unauthenticated;
        let parse = || Unverified::parse(token).ok_or(refused(denied::MALFORMED));
        // Only the header is kept while the keys are fetched, since many tokens may wait for them at once: claims take several
        // times the memory of their text.
        let (header, expires) = {
            let jwt = parse()?;
            let expires = precheck(&jwt, audiences, clock).map_err(refused)?;
            (jwt.header.ok_or(refused(denied::MALFORMED))?, expires)
        };
        let loaded = self.keys.keys_for(&header, now).await?;
        let jwt = parse()?;
        if loaded.keys.verifies(&jwt) { Ok((jwt, expires)) } else { Err(refused(denied::BAD_SIGNATURE)) }
    }

    /// Its URL, which is the claim `iss`.
    pub fn url(&self) -> &str {
        &self.config.url
    }

    /// Whether the claims of a token name this issuer and this registry. Nothing is verified.
    pub fn claims(&self, jwt: &Unverified<'_>) -> bool {
        jwt.issuer() == Some(self.url()) && jwt.is_for(self.config.audiences.iter().map(String::as_str))
    }

    /// Whether the claims of a token make an identity. Nothing is verified.
    pub fn identifies(&self, jwt: &Unverified<'_>) -> bool {
        // The end of the identity does not matter here.
        jwt.header.is_some() && claims::identity(&jwt.claims, &self.config, Timestamp::MAX).is_ok()
    }

    /// Its metadata, with a client that trusts the same certificates.
    pub fn discovery(&self, roots: &[Certificate]) -> Result<Discovery, AccessError> {
        Discovery::new(&self.config, roots)
    }
}

/// Checks everything but the signature and the claims of the identity. Returns when the token expires.
pub(super) fn precheck(
    jwt: &Unverified<'_>,
    audiences: &[String],
    clock: Timestamp,
) -> Result<Timestamp, &'static str> {
    let header = jwt.header.as_ref().ok_or(denied::MALFORMED)?;
    if header.crit {
        return Err(denied::CRITICAL);
    }
    if Algorithm::named(&header.alg).is_none() {
        return Err(denied::BAD_ALGORITHM);
    }
    let expires = jwt.expires()?.ok_or(denied::NO_EXPIRY)?;
    let not_before = jwt.not_before()?;
    if clock.duration_since(expires) >= LEEWAY {
        return Err(denied::EXPIRED);
    }
    if not_before.is_some_and(|start| start.duration_since(clock) > LEEWAY) {
        return Err(denied::NOT_YET_VALID);
    }
    if !jwt.is_for(audiences.iter().map(String::as_str)) {
        return Err(denied::OTHER_AUDIENCE);
    }
    Ok(expires)
}
