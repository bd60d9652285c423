//! Stand-ins for the API server, and tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::auth::access::Access;
use crate::registry::auth::identity::{Identity, Kind};
use crate::registry::auth::review::{Pending, Reviewer, Right};
use crate::registry::auth::settings::AccessSettings;
use crate::registry::metrics::RegistryMetrics;

pub(crate) const AUDIENCE: &str = "registry.acme.io";

pub(crate) fn jwt(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

/// Settings with one identity provider, and the folder that holds its configuration.
pub(crate) fn with_issuer(issuer: &str, audience: &str) -> (TempDir, AccessSettings) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("auth.json");
    let text = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": issuer, "audiences": [audience]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "acme:"}},
        }],
    });
    std::fs::write(&config, text.to_string()).unwrap();
    (folder, AccessSettings { auth_config: Some(config), ..AccessSettings::default() })
}

/// An API server that knows the tokens `user-NAME`, and permits what is listed.
#[derive(Clone, Default)]
pub(crate) struct Server(pub Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// User, namespace, name; `*` is any name.
    pub permitted: Vec<(String, String, String)>,
    /// The same for those who may read the Module.
    pub readable: Vec<(String, String, String)>,
    pub away: bool,
    /// How long an access review takes.
    pub delay: Duration,
    /// Token reviews, by token, and access reviews as `USER NAMESPACE/NAME`, with `reads` after the user for that right.
    pub tokens: Vec<String>,
    pub accesses: Vec<String>,
}

impl Server {
    pub(crate) fn permit(&self, user: &str, namespace: &str, name: &str) {
        self.0.lock().unwrap().permitted.push((user.into(), namespace.into(), name.into()));
    }

    pub(crate) fn permit_read(&self, user: &str, namespace: &str, name: &str) {
        self.0.lock().unwrap().readable.push((user.into(), namespace.into(), name.into()));
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    /// Has access reviews take a while.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.0.lock().unwrap().delay = delay;
    }

    /// The numbers of token and access reviews.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.0.lock().unwrap();
        (state.tokens.len(), state.accesses.len())
    }

    pub(crate) fn access(&self, settings: AccessSettings) -> Access {
        let settings = AccessSettings { audience: Some(AUDIENCE.into()), ..settings };
        Access::start(&settings, self.clone(), RegistryMetrics::default()).unwrap()
    }
}

impl Reviewer for Server {
    fn token(&self, token: SecretString, audience: String) -> Pending<Option<Identity>> {
        assert_eq!(audience, AUDIENCE);
        let token = token.expose_secret().to_owned();
        let mut state = self.0.lock().unwrap();
        state.tokens.push(token.clone());
        let away = state.away;
        Box::pin(async move {
            // Others get in between.
            tokio::task::yield_now().await;
            if away {
                return Err("refused".to_owned());
            }
            let user = token.strip_prefix("user-");
            Ok(user.map(|user| {
                let groups = vec!["system:authenticated".into()];
                Identity::new(Kind::Reviewed, user.into(), None, groups, BTreeMap::new(), None)
            }))
        })
    }

    fn access(&self, identity: &Identity, right: Right, namespace: &str, name: &str) -> Pending<bool> {
        let mut state = self.0.lock().unwrap();
        let reads = if right == Right::Read { " reads" } else { "" };
        state.accesses.push(format!("{}{reads} {namespace}/{name}", identity.user));
        let all = if right == Right::Read { &state.readable } else { &state.permitted };
        let permitted = all
            .iter()
            .any(|(user, ns, one)| *user == identity.user && ns == namespace && (one == name || one == "*"));
        let (away, delay) = (state.away, state.delay);
        Box::pin(async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(delay).await;
            if away { Err("refused".to_owned()) } else { Ok(permitted) }
        })
    }
}
