//! What the identity provider sends back, and which of its tokens is taken. Pure.

use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use super::attempt::{Attempt, text};
use super::sign_in_error::SignInError;
use super::token;
use crate::registry::auth::token::Unverified;
use crate::registry::auth::{Issuer, untrusted_json};

/// What a browser brings back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CallbackQuery {
    pub state: String,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

impl CallbackQuery {
    /// Reads the query of the callback. A parameter that is there twice is none.
    pub(super) fn parse(query: &str) -> Self {
        let value = |name: &str| {
            let mut values = form_urlencoded::parse(query.as_bytes())
                .filter(|(key, value)| key == name && !value.is_empty());
            let first = values.next()?.1.into_owned();
            values.next().is_none().then_some(first)
        };
        Self {
            state: value("state").unwrap_or_default(),
            code: value("code"),
            error: value("error"),
            issuer: value("iss"),
        }
    }

    /// The code, unless the answer is from another issuer or an error.
    pub(super) fn code(&self, issuer: &str) -> Result<&str, SignInError> {
        if self.issuer.as_ref().is_some_and(|own| own != issuer) {
            return Err(SignInError::bad_request("Another identity provider has answered: start again."));
        }
        match (self.error.as_deref(), &self.code) {
            (None, Some(code)) => Ok(code),
            (Some("access_denied"), _) => Err(SignInError::forbidden(
                "The identity provider denied access: you are not allowed to sign in to this registry, or you cancelled.",
            )),
            (Some("temporarily_unavailable" | "server_error"), _) => {
                Err(SignInError::later("The identity provider has a problem at the moment: try again."))
            }
            (Some("invalid_scope"), _) => {
                Err(SignInError::provider("The identity provider rejects a scope of --login-scopes."))
            }
            (Some("unauthorized_client" | "invalid_client"), _) => Err(SignInError::provider(
                "The identity provider does not accept the client of --login-client.",
            )),
            _ => Err(SignInError::provider("The identity provider did not sign you in: start again.")),
        }
    }
}

/// What a code was exchanged for.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub id_token: String,
    access_token: Option<String>,
}

/// The words with which a provider refuses the client or the request, whatever the code is (RFC 6749, 5.2).
const REFUSES_CLIENT: [&str; 5] =
    ["invalid_request", "invalid_client", "invalid_scope", "unauthorized_client", "unsupported_grant_type"];

/// Why a code was not exchanged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotExchanged {
    /// The provider's words, for the log.
    pub problem: String,
    /// Whether the code is wrong. Otherwise the provider does not accept this registry, or is busy.
    pub is_code_wrong: bool,
}

/// The tokens in the provider's answer.
pub(super) fn tokens(status: u16, body: &[u8]) -> Result<Tokens, NotExchanged> {
    if status == 200 {
        let problem = "the answer has no id_token".to_owned();
        return serde_json::from_slice(body).map_err(|_| NotExchanged { problem, is_code_wrong: false });
    }
    let answer = untrusted_json::object(body).unwrap_or_default();
    let word = |name: &str| answer.get(name).and_then(Value::as_str);
    let words: Vec<&str> = ["error", "error_description"].into_iter().filter_map(word).collect();
    Err(NotExchanged { problem: words.join(": "), is_code_wrong: refuses_code(status, word("error")) })
}

/// Whether a status and the word with it mean that the code is wrong.
fn refuses_code(status: u16, error: Option<&str>) -> bool {
    matches!(status, 400..=499)
        && !matches!(status, 401 | 408 | 429)
        && error.is_none_or(|word| !REFUSES_CLIENT.contains(&word))
}

/// Whether an id token is the answer to this attempt: of the provider, for the client, with the attempt's nonce (OpenID Connect
/// Core, 3.1.3.7). Times and signature are checked elsewhere.
pub(super) fn is_answer(id_token: &Unverified<'_>, issuer: &str, client: &str, attempt: &Attempt) -> bool {
    let claim = |name: &str| id_token.claims.get(name);
    let many = claim("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    let party = claim("azp").map_or(!many, |party| party.as_str() == Some(client));
    id_token.issuer() == Some(issuer)
        && id_token.is_for([client])
        && party
        && claim("nonce").and_then(Value::as_str) == Some(text(&attempt.nonce).as_str())
}

/// The token of the session: the access token, as `terraform login` receives it, if it is a JWT for this registry with the claims
/// that an identity needs; else the id token, if that is one.
pub(super) fn choose<'a>(tokens: &'a Tokens, issuer: &Issuer) -> Result<&'a str, SignInError> {
    let all = [tokens.access_token.as_deref(), Some(tokens.id_token.as_str())];
    let parsed = all.into_iter().flatten().filter_map(|token| Some((token, Unverified::parse(token)?)));
    let ours: Vec<_> = parsed.filter(|(_, jwt)| issuer.claims(jwt)).collect();
    if ours.is_empty() {
        return Err(SignInError::provider(
            "The tokens of the identity provider are for another audience than those of --auth-config.",
        ));
    }
    // If no token has all claims, the first one is taken, and the refusal of the session names what it lacks.
    let any_complete = ours.iter().any(|(_, jwt)| issuer.identifies(jwt));
    let candidates = ours.iter().filter(|(_, jwt)| !any_complete || issuer.identifies(jwt));
    candidates.map(|(token, _)| *token).find(|token| token::fits(token)).ok_or_else(SignInError::too_long)
}
