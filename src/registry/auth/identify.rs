//! Finds out whose a token is: a static one, a JWT of a configured issuer, or one that the API server knows. The first kind
//! that matches decides.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::denied::{self, Denied};
use super::identity::{Identity, Kind};
use super::jwt::{Issuer, Issuers};
use super::limits::{Limit, Peer, Who};
use super::review_cache::{Answer, Failure, Keys, Outcome, ReviewCache, Times};
use super::reviews::{Reviews, TokenAnswer, life};
use super::static_tokens::{self, StaticTokens};
use super::token::Unverified;

/// Tokens that are remembered.
const TOKENS: usize = 4096;
const TIMES: Times = Times {
    yes: Duration::from_mins(2),
    no: Duration::from_secs(10),
    stale: Duration::from_mins(10),
    failure: Duration::from_secs(5),
};
/// Failed tokens each minute, for one peer.
const FAILED_TOKENS: u32 = 30;

pub(super) struct Identifier {
    audience: String,
    tokens: Arc<StaticTokens>,
    issuers: Issuers,
    reviews: Arc<Reviews>,
    /// By the digest of the token.
    identities: Arc<ReviewCache<Arc<Identity>, &'static str>>,
    failed_tokens: Limit,
}

type Identified = Result<Arc<Identity>, Denied>;

impl Identifier {
    pub(super) fn new(
        audience: String,
        tokens: Arc<StaticTokens>,
        issuers: Issuers,
        reviews: Arc<Reviews>,
    ) -> Self {
        let identities = Arc::new(ReviewCache::new(TOKENS, TIMES));
        let failed_tokens = Limit::per_minute(FAILED_TOKENS);
        Self { audience, tokens, issuers, reviews, identities, failed_tokens }
    }

    /// Whose token it is, and the kind of the token for metrics.
    pub(super) async fn identify(&self, token: SecretString, peer: IpAddr) -> (&'static str, Identified) {
        let peer = Who::Peer(Peer::from(peer));
        let now = Instant::now();
        if token.expose_secret().starts_with(static_tokens::PREFIX) {
            let found = self.tokens.find(token.expose_secret());
            let result = found.or_else(|phrase| {
                self.not_limited(&peer, now)?;
                Err(self.failed(Denied::Unauthenticated(phrase), peer))
            });
            return (Kind::Static.label(), result);
        }
        let key = sha256(token.expose_secret());
        if let Some(known) = self.identities.known(&Keys { yes: key, no: key }, now) {
            return (label(&known), known.and_then(|known| known.map_err(Denied::Unauthenticated)));
        }
        if let Err(denied) = self.not_limited(&peer, now) {
            return ("unknown", Err(denied));
        }
        let (kind, (outcome, started)) = self.review(token, key, now).await;
        let result = match outcome {
            Ok(Err(phrase)) if started => Err(self.failed(Denied::Unauthenticated(phrase), peer)),
            outcome => outcome.and_then(|known| known.map_err(Denied::Unauthenticated)),
        };
        (kind.label(), result)
    }

    /// Whether a peer may try another token.
    pub(super) fn may_try(&self, peer: IpAddr) -> Result<(), Denied> {
        self.not_limited(&Who::Peer(Peer::from(peer)), Instant::now())
    }

    /// Counts what failed elsewhere as a failed token.
    pub(super) fn record_failure(&self, peer: IpAddr) {
        self.failed_tokens.record(Who::Peer(Peer::from(peer)), Instant::now());
    }

    /// The issuer with this URL.
    pub(super) fn issuer(&self, url: &str) -> Option<Arc<Issuer>> {
        self.issuers.named(url)
    }

    /// Counts a header without a usable token as a failed one.
    pub(super) fn unreadable(&self, denied: Denied, peer: IpAddr) -> Denied {
        let peer = Who::Peer(Peer::from(peer));
        match self.not_limited(&peer, Instant::now()) {
            Ok(()) => self.failed(denied, peer),
            Err(limited) => limited,
        }
    }

    async fn review(
        &self,
        token: SecretString,
        key: [u8; 32],
        now: Instant,
    ) -> (Kind, (Outcome<Arc<Identity>, &'static str>, bool)) {
        let keys = Keys { yes: key, no: key };
        let jwt = Unverified::parse(token.expose_secret());
        let issuer = jwt.as_ref().and_then(|jwt| self.issuers.named(jwt.issuer()?));
        if let Some(issuer) = issuer {
            return (Kind::Jwt, self.identities.ask(keys, now, || Ok(()), || verified(issuer, token)).await);
        }
        if let Some(phrase) = jwt.and_then(|jwt| not_worth_a_review(&jwt, &self.audience, Timestamp::now())) {
            return (Kind::Reviewed, (Ok(Err(phrase)), true));
        }
        let review = || Arc::clone(&self.reviews).token(token, self.audience.clone());
        (Kind::Reviewed, self.identities.ask(keys, now, || Ok(()), review).await)
    }

    fn not_limited(&self, peer: &Who, now: Instant) -> Result<(), Denied> {
        let phrase = denied::TOO_MANY_FAILED_TOKENS;
        self.failed_tokens.check(peer, now).map_err(|retry_after| Denied::TooMany { phrase, retry_after })
    }

    fn failed(&self, denied: Denied, peer: Who) -> Denied {
        self.failed_tokens.record(peer, Instant::now());
        denied
    }
}

/// A JWT that the API server would refuse: expired, or for others.
pub(super) fn not_worth_a_review(
    jwt: &Unverified<'_>,
    audience: &str,
    clock: Timestamp,
) -> Option<&'static str> {
    match jwt.expires() {
        Err(_) => Some(denied::MALFORMED),
        Ok(Some(expires)) if expires <= clock => Some(denied::EXPIRED),
        Ok(_) => (!jwt.is_for([audience])).then_some(denied::OTHER_AUDIENCE),
    }
}

async fn verified(issuer: Arc<Issuer>, token: SecretString) -> TokenAnswer {
    let Some(jwt) = Unverified::parse(token.expose_secret()) else { return Answer::No(denied::MALFORMED) };
    match issuer.verify(&jwt, Timestamp::now(), Instant::now()).await {
        Ok(identity) => Answer::Yes { life: life(&identity), value: Arc::new(identity) },
        Err(Denied::Unauthenticated(phrase)) => Answer::No(phrase),
        // The keys have a time of their own for which they count.
        Err(denied) => Answer::Failed(Failure { denied, remember: false, stale: false }),
    }
}

fn label(known: &Outcome<Arc<Identity>, &'static str>) -> &'static str {
    match known {
        Ok(Ok(identity)) => identity.kind.label(),
        _ => "unknown",
    }
}

fn sha256(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}
