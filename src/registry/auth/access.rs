//! Access control: identifies the sender of a request, and asks what this identity may download.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use kube::Client;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;

use super::audience;
use super::bearer;
use super::denied::{self, Denied};
use super::identify::Identifier;
use super::identity::{Fields, Identity, Kind};
use super::jwt::{self, Issuer, Issuers};
use super::limits::{Limit, Who};
use super::review::{ApiServer, Reviewer, Right};
use super::review_cache::{Keys, Outcome, ReviewCache, Times};
use super::reviews::Reviews;
use super::settings::{AccessError, AccessSettings};
use super::static_tokens::StaticTokens;
use crate::domain::Address;
use crate::registry::metrics::RegistryMetrics;

/// Decisions that are remembered.
const DECISIONS: usize = 16_384;
const TIMES: Times = Times {
    yes: Duration::from_mins(1),
    no: Duration::from_secs(10),
    stale: Duration::from_mins(10),
    failure: Duration::from_secs(5),
};
/// New reviews of permission, each minute, for one identity.
const NEW_REVIEWS: u32 = 600;
/// Refusals each minute, for one identity.
const REFUSALS: u32 = 60;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The Kubernetes namespace: an alias is resolved already.
    pub namespace: &'a str,
    /// The name in the address.
    pub name: &'a str,
    /// The system in the address.
    pub system: &'a str,
    /// `metadata.name` of the Module that holds the address, if there is one.
    pub holder: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// The module at an address, whose namespace is canonical and which the Module `holder` has.
    pub fn at(address: &'a Address, holder: Option<&'a str>) -> Self {
        let Address { namespace, name, system } = address;
        Self { namespace, name, system, holder }
    }

    /// The name that is reviewed: the holder's, else the one that was asked.
    pub fn object(&self) -> &'a str {
        self.holder.unwrap_or(self.name)
    }
}

/// Access control of one process.
pub struct Access {
    identifier: Identifier,
    /// Who everybody is without a token, where that is permitted.
    anonymous: Option<Arc<Identity>>,
    /// The phrase for those who sent no token and need one.
    no_token: &'static str,
    decisions: Arc<ReviewCache<(), ()>>,
    new_reviews: Limit,
    refusals: Limit,
    reviews: Arc<Reviews>,
    metrics: RegistryMetrics,
    /// Keep tokens and keys current, for as long as this lives.
    _tasks: JoinSet<()>,
}

impl Access {
    /// Checks the settings, and starts the tasks that keep tokens and keys current.
    pub fn start(
        settings: &AccessSettings,
        client: Client,
        metrics: RegistryMetrics,
    ) -> Result<Self, AccessError> {
        Self::with_reviewer(settings, Box::new(ApiServer { client }), metrics)
    }

    pub(super) fn with_reviewer(
        settings: &AccessSettings,
        reviewer: Box<dyn Reviewer>,
        metrics: RegistryMetrics,
    ) -> Result<Self, AccessError> {
        let audience = audience::checked(settings.audience.as_deref(), settings.own_token.as_ref())?;
        let issuers = issuers(settings)?;
        let tokens = StaticTokens::open(settings.tokens_dir.clone())
            .map_err(|(path, error)| AccessError::TokensDir { path, error })?;
        let tokens = Arc::new(tokens);
        let mut tasks = JoinSet::new();
        for issuer in issuers.all().iter().map(Arc::clone) {
            tasks.spawn(async move { issuer.keep_keys_current().await });
        }
        let current = Arc::clone(&tokens);
        tasks.spawn(async move { current.keep_current().await });
        let reviews = Arc::new(Reviews::new(reviewer, metrics.clone()));
        Ok(Self {
            identifier: Identifier::new(audience, tokens, issuers, Arc::clone(&reviews)),
            anonymous: settings.anonymous.then(|| Arc::new(Identity::anonymous())),
            no_token: if settings.login { denied::NO_TOKEN_BUT_LOGIN } else { denied::NO_TOKEN },
            decisions: Arc::new(ReviewCache::new(DECISIONS, TIMES)),
            new_reviews: Limit::per_minute(NEW_REVIEWS),
            refusals: Limit::per_minute(REFUSALS),
            reviews,
            metrics,
            _tasks: tasks,
        })
    }

    /// Who sends the request.
    pub async fn identify(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Arc<Identity>, Denied> {
        let (kind, result) = match bearer::token(headers) {
            Ok(None) => {
                let anonymous = self.anonymous.clone();
                ("anonymous", anonymous.ok_or(Denied::Unauthenticated(self.no_token)))
            }
            Ok(Some(token)) => self.identifier.identify(token, peer).await,
            Err(denied) => ("unknown", Err(self.identifier.unreadable(denied, peer))),
        };
        self.metrics.identified(kind, outcome(&result));
        result
    }

    /// Whose token it is. It is checked as that of an `Authorization` header.
    pub async fn identify_token(&self, token: &SecretString, peer: IpAddr) -> Result<Arc<Identity>, Denied> {
        let (kind, result) = match bearer::checked(token.expose_secret()) {
            Ok(token) => self.identifier.identify(token, peer).await,
            Err(denied) => ("unknown", Err(self.identifier.unreadable(denied, peer))),
        };
        self.metrics.identified(kind, outcome(&result));
        result
    }

    /// Whether a peer may try to sign in: it has not had too many failed tokens.
    pub fn may_sign_in(&self, peer: IpAddr) -> Result<(), Denied> {
        self.identifier.may_try(peer)
    }

    /// Counts a failed sign-in at the identity provider as a failed token.
    pub fn failed_to_sign_in(&self, peer: IpAddr) {
        self.identifier.record_failure(peer);
    }

    /// The issuer of `--auth-config` with this URL.
    pub fn issuer(&self, url: &str) -> Option<Arc<Issuer>> {
        self.identifier.issuer(url)
    }

    /// Whether `identity` may download what is `asked`. The answer, and the time that it takes, do not depend on whether
    /// there is a holder.
    pub async fn may_download(
        &self,
        identity: &Arc<Identity>,
        peer: IpAddr,
        asked: Asked<'_>,
    ) -> Result<(), Denied> {
        let who = payer(identity, peer);
        let (permitted, new) = self.permitted(identity, who, Right::Download, asked).await?;
        if permitted {
            return Ok(());
        }
        if new {
            self.refusals.record(who, Instant::now());
        }
        Err(match identity.kind {
            Kind::Anonymous => Denied::Unauthenticated(self.no_token),
            _ => Denied::Forbidden,
        })
    }

    /// Whether a page shows `identity` what is `asked`. A no counts as no refusal, since what a page shows is not guessed.
    pub async fn sees(
        &self,
        identity: &Arc<Identity>,
        peer: IpAddr,
        right: Right,
        asked: Asked<'_>,
    ) -> Result<bool, Denied> {
        let (permitted, _) = self.permitted(identity, payer(identity, peer), right, asked).await?;
        Ok(permitted)
    }

    /// Whether `identity` has permission, and whether this call caused a review.
    async fn permitted(
        &self,
        identity: &Arc<Identity>,
        who: Who,
        right: Right,
        asked: Asked<'_>,
    ) -> Result<(bool, bool), Denied> {
        let (own, mut new) = self.decide(identity, who, right, asked).await;
        let anonymous = self.anonymous.as_ref().filter(|_| identity.kind != Kind::Anonymous);
        let decision = match (own, anonymous) {
            // Public means everybody.
            (Ok(Err(())), Some(anonymous)) => {
                let (public, also_new) = self.decide(anonymous, who, right, asked).await;
                new |= also_new;
                public
            }
            (Err(denied), Some(anonymous)) => self.public(anonymous, right, asked).ok_or(denied).map(Ok),
            (own, _) => own,
        };
        Ok((decision?.is_ok(), new))
    }

    /// The decision, and whether this call caused the review. `who` pays for it.
    async fn decide(
        &self,
        identity: &Arc<Identity>,
        who: Who,
        right: Right,
        asked: Asked<'_>,
    ) -> (Outcome<(), ()>, bool) {
        let now = Instant::now();
        let admit = || {
            let limited = |phrase| move |retry_after| Denied::TooMany { phrase, retry_after };
            self.refusals.check(&who, now).map_err(limited(denied::TOO_MANY_REFUSALS))?;
            self.new_reviews.take(who, now).map_err(limited(denied::TOO_MANY_REVIEWS))
        };
        let review = || {
            let name = asked.object().to_owned();
            Arc::clone(&self.reviews).access(Arc::clone(identity), right, asked.namespace.to_owned(), name)
        };
        self.decisions.ask(keys(identity, right, asked), now, admit, review).await
    }

    /// What is public counts also where no review is possible now.
    fn public(&self, anonymous: &Identity, right: Right, asked: Asked<'_>) -> Option<()> {
        self.decisions.known_yes(&keys(anonymous, right, asked), Instant::now())
    }
}

/// Who pays for a review.
fn payer(identity: &Identity, peer: IpAddr) -> Who {
    match identity.kind {
        Kind::Anonymous => Who::Peer(peer.into()),
        _ => Who::Identity(*identity.limit_key()),
    }
}

fn issuers(settings: &AccessSettings) -> Result<Issuers, AccessError> {
    let Some(path) = settings.auth_config.clone() else { return Ok(Issuers::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(AccessError::AuthConfigFile { path, error }),
    };
    let configs = jwt::parse(&text).map_err(|problem| AccessError::AuthConfig { path, problem })?;
    Issuers::new(configs, settings.ca_pem.as_deref())
}

/// A yes is kept by the object that is downloaded, a no by the address that was asked. A no that were kept by the object would
/// be known already when another address of the same name is asked, and the time of the answer would show which of the two
/// has a holder.
fn keys(identity: &Identity, right: Right, asked: Asked<'_>) -> Keys {
    let key = |kind: &str, parts: &[&str]| {
        let mut fields = Fields::new();
        fields.bytes(identity.rights_key());
        fields.text(kind);
        for part in parts {
            fields.text(part);
        }
        fields.digest()
    };
    let object = [asked.namespace, asked.object()];
    match right {
        Right::Download => Keys {
            yes: key("object", &object),
            no: key("address", &[asked.namespace, asked.name, asked.system]),
        },
        // Asked only for Modules that are shown already.
        Right::Read => Keys { yes: key("read", &object), no: key("read", &object) },
    }
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
