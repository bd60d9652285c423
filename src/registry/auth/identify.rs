//! Finds the identity of a token: a static one, a JWT of a configured issuer, or one that the API server reviews. The first
//! kind that matches decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::denied::{self, Denied};
use super::identity::{Fields, Identity, Kind};
use super::jwt::{Issuer, Issuers};
use super::limits::{Limit, LimitKey};
use super::review_cache::{Decision, ReviewCache, ReviewKey, ReviewKeys, ReviewResult, TIMES, Times};
use super::reviews::{Reviews, TokenReviewResult, life};
use super::static_tokens::{self, StaticTokens};
use super::token::Unverified;
use crate::registry::http::Peer;

/// Tokens that are remembered.
const TOKENS: usize = 4096;
const TOKEN_TIMES: Times = Times { yes: Duration::from_mins(2), ..TIMES };
/// Failed tokens each minute, for one peer.
const FAILED_TOKENS: u32 = 30;

pub(super) struct Identifier {
    audience: String,
    tokens: Arc<StaticTokens>,
    pub issuers: Issuers,
    reviews: Arc<Reviews>,
    /// By the digest of the token.
    identities: Arc<ReviewCache<Arc<Identity>, &'static str>>,
    failed_tokens: Arc<Limit>,
}

type Identified = Result<Arc<Identity>, Denied>;

impl Identifier {
    pub(super) fn new(
        audience: String,
        tokens: Arc<StaticTokens>,
        issuers: Issuers,
        reviews: Arc<Reviews>,
    ) -> Self {
        let identities = Arc::new(ReviewCache::new(TOKENS, TOKEN_TIMES));
        let failed_tokens = Arc::new(Limit::per_minute(FAILED_TOKENS));
        Self { audience, tokens, issuers, reviews, identities, failed_tokens }
    }

    /// Whose token it is, and the kind of the token for metrics. `Err`: a header without a usable token.
    pub(super) async fn identify(
        &self,
        token: Result<SecretString, Denied>,
        peer: Peer,
    ) -> (&'static str, Identified) {
        let now = Instant::now();
        let token = match token {
            Ok(token) => token,
            Err(denied) => {
                let key = Fields::new().text(&format!("{peer:?}")).text(denied.phrase()).digest();
                return ("unknown", Err(self.refuse(key, denied, peer, now)));
            }
        };
        let key = Fields::new().text(token.expose_secret()).digest();
        if token.expose_secret().starts_with(static_tokens::PREFIX) {
            let found = self.tokens.find(token.expose_secret());
            let result = found.map_err(|phrase| self.refuse(key, Denied::Unauthenticated(phrase), peer, now));
            return (Kind::Static.label(), result);
        }
        let keys = ReviewKeys { yes: key, no: key };
        if let Some(known) = self.identities.known(&keys, now) {
            let result = identified(known);
            return (result.as_ref().map_or("unknown", |identity| identity.kind.label()), result);
        }
        if let Err(retry_after) = self.failed_tokens.check(&LimitKey::Peer(peer), now) {
            return ("unknown", Err(too_many(retry_after)));
        }
        let (kind, outcome) = self.review(token, keys, now, peer).await;
        (kind.label(), identified(outcome))
    }

    /// Counts a failed token, if the peer may try another one.
    pub(super) fn count_failure(&self, peer: Peer) -> Result<(), Denied> {
        self.failed_tokens.take(LimitKey::Peer(peer), Instant::now()).map_err(too_many)
    }

    /// Takes back a failed token that was counted.
    pub(super) fn take_back_failure(&self, peer: Peer) {
        self.failed_tokens.take_back(LimitKey::Peer(peer), Instant::now());
    }

    /// Refuses a token without a review. While the refusal is remembered, the token counts only once, because a client sends it
    /// for each module of a configuration. If the peer has to wait, that is the answer instead.
    fn refuse(&self, key: ReviewKey, denied: Denied, peer: Peer, now: Instant) -> Denied {
        let keys = ReviewKeys { yes: key, no: key };
        if self.identities.known(&keys, now).is_some() {
            return denied;
        }
        if let Err(limited) = self.count_failure(peer) {
            return limited;
        }
        let _ = self.identities.store(&keys, ReviewResult::No(denied.phrase()), now);
        denied
    }

    async fn review(
        &self,
        token: SecretString,
        keys: ReviewKeys,
        now: Instant,
        peer: Peer,
    ) -> (Kind, Decision<Arc<Identity>, &'static str>) {
        // The claims are dropped before anything is awaited: they take several times the memory of their text.
        let (issuer, phrase) = Unverified::parse(token.expose_secret())
            .map(|jwt| {
                let issuer = jwt.issuer().and_then(|issuer| self.issuers.named(issuer));
                (issuer, not_worth_a_review(&jwt, &self.audience, Timestamp::now()))
            })
            .unwrap_or_default();
        if let Some(issuer) = issuer {
            let review = || counted(verified(issuer, token), Arc::clone(&self.failed_tokens), peer);
            return (Kind::Jwt, self.identities.ask(keys, now, || Ok(()), review).await.0);
        }
        if let Some(phrase) = phrase {
            let denied = self.refuse(keys.no, Denied::Unauthenticated(phrase), peer, now);
            return (Kind::Reviewed, Err(denied));
        }
        let review = || {
            let review = Arc::clone(&self.reviews).token(token, self.audience.clone());
            counted(review, Arc::clone(&self.failed_tokens), peer)
        };
        (Kind::Reviewed, self.identities.ask(keys, now, || Ok(()), review).await.0)
    }
}

fn too_many(retry_after: u32) -> Denied {
    Denied::TooMany { phrase: denied::TOO_MANY_FAILED_TOKENS, retry_after }
}

/// A JWT that the API server would refuse: expired, or for others.
pub(super) fn not_worth_a_review(
    jwt: &Unverified<'_>,
    audience: &str,
    clock: Timestamp,
) -> Option<&'static str> {
    match jwt.expires() {
        Err(phrase) => Some(phrase),
        Ok(Some(expires)) if expires <= clock => Some(denied::EXPIRED),
        Ok(_) => (!jwt.is_for([audience])).then_some(denied::OTHER_AUDIENCE),
    }
}

/// A review that counts a refused token of its peer. It counts here, since the client may close the connection before the review
/// ends: then nothing runs after the wait for the review.
async fn counted(
    review: impl Future<Output = TokenReviewResult>,
    failed_tokens: Arc<Limit>,
    peer: Peer,
) -> TokenReviewResult {
    let answer = review.await;
    if matches!(answer, ReviewResult::No(_)) {
        failed_tokens.record(LimitKey::Peer(peer), Instant::now());
    }
    answer
}

async fn verified(issuer: Arc<Issuer>, token: SecretString) -> TokenReviewResult {
    match issuer.verify(token.expose_secret(), Timestamp::now(), Instant::now()).await {
        Ok(identity) => ReviewResult::Yes { life: life(&identity), value: Arc::new(identity) },
        Err(Denied::Unauthenticated(phrase)) => ReviewResult::No(phrase),
        // How long keys count is limited where they are kept.
        Err(denied) => ReviewResult::Failed(denied),
    }
}

fn identified(outcome: Decision<Arc<Identity>, &'static str>) -> Identified {
    outcome?.map_err(Denied::Unauthenticated)
}
