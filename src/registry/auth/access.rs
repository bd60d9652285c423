//! Access control: identifies the sender of a request, and decides what this identity may download.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;

use super::audience;
use super::bearer;
use super::denied::{self, Denied};
use super::identify::Identifier;
use super::identity::{Identity, Kind};
use super::jwt::{self, Issuer, Issuers};
use super::limits::{Limit, LimitKey};
use super::module_ref::{ModuleRef, keys};
use super::refusal_log::RefusalLog;
use super::review::{Reviewer, Right};
use super::review_cache::{Decision, ReviewCache, ReviewResult, TIMES};
use super::reviews::Reviews;
use super::settings::{AccessError, AccessSettings};
use super::static_tokens::StaticTokens;
use crate::registry::http::Peer;
use crate::registry::metrics::RegistryMetrics;

/// Decisions that are remembered.
const DECISIONS: usize = 16_384;
/// New reviews of permission, each minute, for one identity.
const NEW_REVIEWS: u32 = 600;
/// How long it takes until the last of them that lists leave to other requests are permitted again: 100 of 600.
const SPARED_BY_LISTS: Duration = Duration::from_secs(10);
/// Refusals each minute, for one identity.
const REFUSALS: u32 = 60;
/// Reviews at once, for one identity, that may become refusals: half of those that all identities together may have open.
const OPEN: u32 = 144;

/// Access control of one process.
pub struct Access {
    identifier: Identifier,
    /// The identity of requests without a token, where these are permitted.
    anonymous: Option<Arc<Identity>>,
    /// The phrase for requests without a token that need one.
    no_token: &'static str,
    decisions: Arc<ReviewCache<(), ()>>,
    new_reviews: Limit,
    pub(super) refusals: Arc<Limit>,
    open: Arc<Limit>,
    refusal_log: RefusalLog,
    reviews: Arc<Reviews>,
    metrics: RegistryMetrics,
    /// They keep tokens and keys current, and end when this is dropped.
    _tasks: JoinSet<()>,
}

impl Access {
    /// Checks the settings, and starts the tasks that keep tokens and keys current.
    pub fn start(
        settings: &AccessSettings,
        reviewer: impl Reviewer,
        metrics: RegistryMetrics,
    ) -> Result<Self, AccessError> {
        let audience = audience::checked(settings.audience.as_deref(), settings.own_token.as_ref())?;
        let no_token = audience::no_token(&audience, settings.login);
        let issuers = issuers(settings)?;
        let tokens = Arc::new(StaticTokens::open(settings.tokens_dir.clone())?);
        let mut tasks = JoinSet::new();
        for issuer in issuers.all.iter().map(Arc::clone) {
            tasks.spawn(async move { issuer.keep_keys_current().await });
        }
        tasks.spawn(Arc::clone(&tokens).keep_current());
        let reviews = Arc::new(Reviews::new(Box::new(reviewer), metrics.clone()));
        Ok(Self {
            identifier: Identifier::new(audience, tokens, issuers, Arc::clone(&reviews)),
            anonymous: settings.anonymous.then(|| Arc::new(Identity::anonymous())),
            no_token,
            decisions: Arc::new(ReviewCache::new(DECISIONS, TIMES)),
            new_reviews: Limit::per_minute(NEW_REVIEWS),
            refusals: Arc::new(Limit::per_minute(REFUSALS)),
            open: Arc::new(Limit::per_minute(OPEN)),
            refusal_log: RefusalLog::default(),
            reviews,
            metrics,
            _tasks: tasks,
        })
    }

    /// Who sends the request.
    pub async fn identify(&self, headers: &HeaderMap, peer: Peer) -> Result<Arc<Identity>, Denied> {
        let (kind, result) = match bearer::token(headers).transpose() {
            Some(token) => self.identifier.identify(token, peer).await,
            None => ("anonymous", self.anonymous.clone().ok_or(Denied::Unauthenticated(self.no_token))),
        };
        self.metrics.identified(kind, outcome(&result));
        result
    }

    /// Whose token it is. It is checked as that of an `Authorization` header.
    pub async fn identify_token(&self, token: &SecretString, peer: Peer) -> Result<Arc<Identity>, Denied> {
        let token = bearer::checked(token.expose_secret());
        let (kind, result) = self.identifier.identify(token, peer).await;
        self.metrics.identified(kind, outcome(&result));
        result
    }

    /// Counts a sign-in at the identity provider as a failed token, unless the peer has had too many.
    pub fn begin_sign_in(&self, peer: Peer) -> Result<(), Denied> {
        self.identifier.count_failure(peer)
    }

    /// Takes back what [`begin_sign_in`](Self::begin_sign_in) counted.
    pub fn uncount_sign_in(&self, peer: Peer) {
        self.identifier.take_back_failure(peer);
    }

    /// The issuer of `--auth-config` with this URL.
    pub fn issuer(&self, url: &str) -> Option<Arc<Issuer>> {
        self.identifier.issuers.named(url)
    }

    /// Whether `identity` may download `module`. The answer, and the time that it takes, do not depend on whether
    /// there is a holder.
    pub async fn may_download(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        module: ModuleRef<'_>,
    ) -> Result<(), Denied> {
        if self.permitted(identity, peer, Right::Download, module, Counts::AsRefusal).await? {
            return Ok(());
        }
        if identity.kind == Kind::Anonymous {
            return Err(Denied::Unauthenticated(self.no_token));
        }
        let ModuleRef { namespace, name, system, .. } = module;
        self.refusal_log.refused(identity, namespace, &format!("{namespace}/{name}/{system}"));
        Err(Denied::Forbidden)
    }

    /// Whether a list shows `module`, which the client named, to `identity`. Denials count against the client. They are not logged,
    /// since the words of a search may not be the name of a module.
    pub async fn finds(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        module: ModuleRef<'_>,
    ) -> Result<bool, Denied> {
        self.permitted(identity, peer, Right::Download, module, Counts::AsRefusal).await
    }

    /// Whether the last review of `module` gave `identity` the right, and the answer is kept. It may have ended since.
    pub fn had(&self, identity: &Identity, right: Right, module: ModuleRef<'_>) -> bool {
        let now = Instant::now();
        let has_yes = |identity| self.decisions.has_yes(&keys(identity, right, module), now);
        has_yes(identity) || self.anonymous.as_deref().is_some_and(has_yes)
    }

    /// Whether a page shows `module` to `identity`. Denials here do not count against the client: the page chose the
    /// modules, not the client.
    pub async fn sees(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        right: Right,
        module: ModuleRef<'_>,
    ) -> Result<bool, Denied> {
        self.permitted(identity, peer, right, module, Counts::AsNothing).await
    }

    /// Whether `identity` has permission.
    async fn permitted(
        &self,
        identity: &Arc<Identity>,
        peer: Peer,
        right: Right,
        module: ModuleRef<'_>,
        counts: Counts,
    ) -> Result<bool, Denied> {
        let limit_key = limit_key(identity, peer);
        let (own, is_new) = self.decide(identity, limit_key, right, module, counts).await;
        let anonymous = self.anonymous.as_ref().filter(|_| identity.kind != Kind::Anonymous);
        let decision = match (own, anonymous) {
            // What clients without a token may download is public: every identity may.
            (Ok(Err(())), Some(anonymous)) => {
                // Both reviews are one refusal.
                let again = if is_new { Counts::Already } else { counts };
                let (public, _) = self.decide(anonymous, limit_key, right, module, again).await;
                if is_new && counts == Counts::AsRefusal && public != Ok(Err(())) {
                    self.refusals.take_back(limit_key, Instant::now());
                }
                public
            }
            // What is public counts also while no review is possible.
            (Err(denied), Some(anonymous)) => {
                let public = keys(anonymous, right, module);
                self.decisions.yes_despite(denied, &public, Instant::now()).ok_or(denied).map(Ok)
            }
            (own, _) => own,
        };
        Ok(decision?.is_ok())
    }

    /// The decision, and whether this call caused the review, which counts for `limit_key`.
    async fn decide(
        &self,
        identity: &Arc<Identity>,
        limit_key: LimitKey,
        right: Right,
        module: ModuleRef<'_>,
        counts: Counts,
    ) -> (Decision<(), ()>, bool) {
        let now = Instant::now();
        let admit = || -> Result<(), Denied> {
            let limited = |phrase| move |retry_after| Denied::TooMany { phrase, retry_after };
            if counts != Counts::Already {
                self.refusals.check(&limit_key, now).map_err(limited(denied::TOO_MANY_REFUSALS))?;
            }
            let wait = limited(denied::TOO_MANY_REVIEWS);
            if counts == Counts::AsNothing {
                let earlier = now.checked_sub(SPARED_BY_LISTS).unwrap_or(now);
                self.new_reviews.check(&limit_key, earlier).map_err(wait)?;
            }
            if counts != Counts::AsRefusal {
                return self.new_reviews.take(limit_key, now).map_err(wait);
            }
            // What is rejected here is no new review.
            self.open.check(&limit_key, now).map_err(wait)?;
            self.new_reviews.take(limit_key, now).map_err(wait)?;
            self.open.take(limit_key, now).map_err(wait)
        };
        let review = || {
            let (namespace, name) = (module.namespace.to_owned(), module.object().to_owned());
            let review = Arc::clone(&self.reviews).access(Arc::clone(identity), right, namespace, name);
            let (refusals, open) = (Arc::clone(&self.refusals), Arc::clone(&self.open));
            async move {
                let (answer, now) = (review.await, Instant::now());
                if counts == Counts::AsRefusal {
                    open.take_back(limit_key, now);
                    if answer == ReviewResult::No(()) {
                        refusals.record_with_excess(limit_key, now, OPEN);
                    }
                }
                answer
            }
        };
        self.decisions.ask(keys(identity, right, module), now, admit, review).await
    }
}

/// What a review counts as for the client that causes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// As a refusal if that is its answer, also if the client leaves before.
    AsRefusal,
    /// As none: the client did not choose the module.
    AsNothing,
    /// As none: the review before it is the refusal.
    Already,
}

/// Whose limits count a review.
pub(super) fn limit_key(identity: &Identity, peer: Peer) -> LimitKey {
    match identity.kind {
        Kind::Anonymous => LimitKey::Peer(peer),
        _ => LimitKey::Identity(identity.limit_key),
    }
}

fn issuers(settings: &AccessSettings) -> Result<Issuers, AccessError> {
    let Some(path) = settings.auth_config.clone() else { return Ok(Issuers::default()) };
    let failed = |error| AccessError::AuthConfigFile { path: path.clone(), error };
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let configs = jwt::parse(&text).map_err(|problem| AccessError::AuthConfig { path, problem })?;
    Issuers::new(configs, &settings.roots)
}

/// The label in metrics.
fn outcome(result: &Result<Arc<Identity>, Denied>) -> &'static str {
    match result {
        Ok(_) => "accepted",
        Err(Denied::TooMany { .. }) => "limited",
        Err(Denied::Unavailable { .. }) => "unavailable",
        Err(_) => "refused",
    }
}
