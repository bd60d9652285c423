//! Properties of JWTs and of the settings for them, for the fuzz target.

use jiff::{SignedDuration, Timestamp};

use super::claims;
use super::config::{self, Groups, IssuerConfig, Mapped};
use super::fetch::jwks_address;
use super::keys::KeySet;
use super::verify::precheck;
use crate::registry::auth::token::Unverified;

/// The key of RFC 7515, A.3, and what it has signed there.
const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const PREFIX: &str = "ci:";

/// A configuration that is accepted keeps the names of its issuers apart.
pub(in crate::registry::auth) fn config(text: &str) {
    let Ok(issuers) = config::parse(text) else { return };
    assert!(!issuers.is_empty());
    for (number, issuer) in issuers.iter().enumerate() {
        assert!(issuer.url.to_ascii_lowercase().trim_start().starts_with("https:"), "{}", issuer.url);
        assert_eq!(issuer.discovery.scheme(), "https");
        assert!(!issuer.audiences.is_empty());
        let others = issuers.iter().enumerate().filter(|(other, _)| *other != number);
        let foreign: Vec<&str> = others.flat_map(|(_, other)| other.prefixes()).collect();
        for prefix in issuer.prefixes() {
            assert!(!prefix.is_empty() && !prefix.chars().any(char::is_control));
            for reserved in foreign.iter().copied().chain(["system:", "opendepot:"]) {
                assert!(
                    !prefix.starts_with(reserved) && !reserved.starts_with(prefix),
                    "{prefix} {reserved}"
                );
            }
        }
    }
}

/// A token counts only with a signature, for its audience and its time; its names have the issuer's prefix.
pub(in crate::registry::auth) fn token(jwt: &Unverified<'_>, keys: &[u8], audience: &str, clock: Timestamp) {
    if let Ok(expires) = precheck(jwt, &[audience.to_owned()], clock) {
        let header = jwt.header.as_ref();
        assert!(header.is_some_and(|header| !header.crit && !["none", "HS256"].contains(&&*header.alg)));
        assert!(jwt.is_for([audience]) && clock.duration_since(expires) < SignedDuration::from_secs(10));
    }
    let known = KeySet::parse(KEY.as_bytes()).unwrap_or_default();
    if known.verifies(jwt) {
        assert_eq!(jwt.message, SIGNED, "a forged token");
    }
    if let Ok(keys) = KeySet::parse(keys) {
        let has_key = jwt.header.as_ref().is_some_and(|header| keys.has_key_for(header));
        assert!(has_key || !keys.verifies(jwt));
    }
    if let Ok(address) = jwks_address(keys, "https://login.example.com") {
        assert_eq!(address.scheme(), "https");
    }
    if let Ok(identity) = claims::identity(&jwt.claims, &issuer(), clock) {
        for name in identity.groups.iter().chain([&identity.user]) {
            assert!(name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty()), "{name}");
            assert!(!name.chars().any(char::is_control), "{name:?}");
        }
        let email = jwt.claims.get("email_verified") == Some(&serde_json::Value::Bool(true));
        assert!(email && jwt.claims.get("owner").is_some_and(|owner| owner == "1"));
    }
}

fn issuer() -> IssuerConfig {
    let prefix = || PREFIX.to_owned();
    IssuerConfig {
        url: "https://login.example.com".into(),
        discovery: url::Url::parse("https://login.example.com").unwrap_or_else(|_| unreachable!()),
        audiences: Vec::new(),
        certificate_authority: None,
        required: vec![("owner".into(), "1".into())],
        user: Mapped { claim: "email".into(), prefix: prefix() },
        groups: Groups::Claims { claims: vec!["groups".into(), "repository".into()], prefix: prefix() },
        uid_claim: None,
    }
}
