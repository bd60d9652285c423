//! The audience for which tokens have to be issued.

use kube::Config;
use secrecy::{ExposeSecret, SecretString};

use super::settings::AccessError;
use super::token::Unverified;

/// The token with which this process talks to the API server, if it is one of a service account.
pub fn own_token(config: &Config) -> Option<SecretString> {
    let auth = &config.auth_info;
    if let Some(token) = &auth.token {
        return Some(token.clone());
    }
    let text = std::fs::read_to_string(auth.token_file.as_deref()?).ok()?;
    Some(SecretString::from(text.trim()))
}

/// Checks `--audience`. Tokens that open the Kubernetes API are not to be sent to a registry: their audience is refused.
pub(super) fn checked(
    audience: Option<&str>,
    own_token: Option<&SecretString>,
) -> Result<String, AccessError> {
    let audience = audience.unwrap_or_default();
    if audience.is_empty() {
        return Err(AccessError::NoAudience);
    }
    if !audience.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(AccessError::InvalidAudience(audience.into()));
    }
    let own = own_token.map(ExposeSecret::expose_secret).and_then(Unverified::parse);
    if own.is_some_and(|own| own.is_for([audience])) {
        return Err(AccessError::ApiAudience(audience.into()));
    }
    Ok(audience.to_owned())
}
