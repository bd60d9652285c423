//! The audience for which tokens have to be issued. Usually it is the host in addresses.

use kube::Config;
use secrecy::{ExposeSecret, SecretString};

use super::denied::NO_TOKEN;
use super::settings::AccessError;
use super::token::Unverified;
use crate::domain::names::is_registry_host;

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

/// The reason phrase for requests without a token that need one, with the settings in which the clients look for a token.
pub(super) fn no_token(audience: &str, login: bool) -> &'static str {
    let is_host = is_registry_host(audience);
    let remedy = if is_host && audience.contains(':') {
        format!("write a credentials block for {audience}")
    } else if is_host {
        format!("set TF_TOKEN_{}", audience.replace('-', "__").replace('.', "_"))
    } else {
        "set TF_TOKEN_HOST, such as TF_TOKEN_registry_acme_io".to_owned()
    };
    let login = if login { ", or run terraform login" } else { "" };
    // Once for each process: reason phrases live as long as it.
    format!("{NO_TOKEN}: {remedy}{login}").leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_token_gets_the_name_of_its_setting() {
        for (audience, login, expected) in [
            ("registry.acme-corp.io", false, "set TF_TOKEN_registry_acme__corp_io"),
            ("registry.acme.io", true, "set TF_TOKEN_registry_acme_io, or run terraform login"),
            // A shell accepts no `:` in a variable.
            ("registry.acme.io:8443", false, "write a credentials block for registry.acme.io:8443"),
            ("acme", false, "set TF_TOKEN_HOST, such as TF_TOKEN_registry_acme_io"),
            ("https://acme.io", false, "set TF_TOKEN_HOST, such as TF_TOKEN_registry_acme_io"),
        ] {
            assert_eq!(no_token(audience, login), format!("token required: {expected}"), "{audience}");
        }
    }
}
