//! Entry point for the fuzz target of tokens, which asserts what must hold of every outcome. Not part of the product.
#![allow(clippy::missing_panics_doc, reason = "a target that panics has found something")]

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::bearer;
use super::identify::not_worth_a_review;
use super::jwt::fuzzing as jwt;
use super::token::{Unverified, is_token68};

const AUDIENCE: &str = "registry.acme.io";
const NOW: i64 = 1_800_000_000;

/// A value of `Authorization`, a key set, and an `AuthenticationConfiguration` of unknown origin.
pub fn token(value: &[u8], keys: &[u8], config: &str) {
    jwt::config(config);
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let Ok(Some(token)) = bearer::token(&HeaderMap::from_iter([(AUTHORIZATION, value)])) else { return };
    let token = token.expose_secret();
    assert!(is_token68(token) && token.len() <= 16 * 1024);
    let Some(parsed) = Unverified::parse(token) else { return };
    let clock = Timestamp::from_second(NOW).unwrap_or_default();
    if not_worth_a_review(&parsed, AUDIENCE, clock).is_none() {
        assert!(parsed.is_for([AUDIENCE]), "a review would be asked for with a token for another audience");
        assert!(parsed.expires().ok().flatten().is_none_or(|expires| expires > clock), "it has expired");
    }
    jwt::token(&parsed, keys, AUDIENCE, clock);
}
