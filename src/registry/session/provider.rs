//! The identity provider of `--login-issuer`: its endpoints, read in the background, and the exchange of a code for tokens.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::attempt::Attempt;
use super::callback::{self, Tokens};
use super::login::Login;
use super::sign_in_error::SignInError;
use crate::controller::bulkhead::Bulkhead;
use crate::domain::hash_of;
use crate::registry::auth::{Discovery, Endpoints};
use crate::registry::client::loggable;
use crate::registry::http::Peer;

const REFRESH: Duration = Duration::from_mins(10);
/// Time between attempts while they fail: from the first value to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Codes that are exchanged at once.
const EXCHANGES: usize = 16;
/// The same for one client.
const PER_PEER: usize = EXCHANGES / 2;

pub(super) struct Provider {
    pub login: Login,
    source: Discovery,
    known: ArcSwapOption<ProviderMetadata>,
    exchanges: Bulkhead,
}

/// The last metadata of the provider.
pub(super) struct ProviderMetadata {
    pub endpoints: Endpoints,
    /// The document of service discovery.
    pub document: Bytes,
}

impl Provider {
    pub(super) fn new(login: Login, source: Discovery) -> Self {
        Self { login, source, known: ArcSwapOption::empty(), exchanges: Bulkhead::new(EXCHANGES, PER_PEER) }
    }

    /// What is known; nothing until the provider has answered once.
    pub(super) fn known(&self) -> Option<Arc<ProviderMetadata>> {
        self.known.load_full()
    }

    /// Reads the metadata as long as it is polled. What was read last stays while the provider does not answer.
    pub(super) async fn keep_current(&self) {
        let mut retry = RETRY.0;
        loop {
            match self.source.endpoints().await {
                Ok(endpoints) => {
                    let document = self.login.discovery(&endpoints).into();
                    self.known.store(Some(Arc::new(ProviderMetadata { endpoints, document })));
                    retry = RETRY.0;
                    tokio::time::sleep(REFRESH).await;
                }
                Err(error) => {
                    let issuer = self.login.issuer.url();
                    tracing::warn!(
                        issuer,
                        error,
                        "cannot read the metadata of the identity provider of --login-issuer"
                    );
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Exchanges a code for tokens.
    pub(super) async fn exchange(
        &self,
        known: &ProviderMetadata,
        code: &str,
        attempt: &Attempt,
        peer: Peer,
    ) -> Result<Tokens, SignInError> {
        let Some(_permit) = self.exchanges.try_acquire(hash_of(peer)) else {
            return Err(SignInError::later("Too many people are signing in at the moment: try again."));
        };
        let form = self.login.exchange(code, attempt);
        let (status, body) = self.source.post(&known.endpoints.token, form).await.map_err(|error| {
            tracing::warn!(error, "cannot exchange a code at the identity provider");
            SignInError::provider("The identity provider does not answer: try again.")
        })?;
        callback::tokens(status.as_u16(), &body).map_err(|failed| {
            let problem = loggable(&failed.problem);
            tracing::warn!(%status, problem, "the identity provider did not exchange a code");
            let refused = SignInError::provider(
                "The identity provider did not confirm the sign-in: try again. If it fails again, the registry's log has the details.",
            );
            refused.counted(failed.is_code_wrong)
        })
    }
}
