//! The identity that verified claims make. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::config::{Groups, IssuerConfig, Mapped};
use crate::registry::auth::denied;
use crate::registry::auth::identity::{Identity, Kind};

type Claims = Map<String, Value>;

/// The identity, or the reason phrase. Such identities have only their own groups, not `system:authenticated`.
pub(super) fn identity(
    claims: &Claims,
    issuer: &IssuerConfig,
    expires: Timestamp,
) -> Result<Identity, &'static str> {
    let required =
        |(claim, value): &(String, String)| claims.get(claim).and_then(Value::as_str) == Some(value);
    if !issuer.required.iter().all(required) {
        return Err(denied::CLAIM_MISSING);
    }
    let Mapped { claim, prefix } = &issuer.user;
    if is_unverified(claims, claim) {
        return Err(denied::EMAIL_UNVERIFIED);
    }
    let user = format!("{prefix}{}", text(claims, claim)?);
    let uid = issuer.uid_claim.as_ref().map(|claim| text(claims, claim).map(str::to_owned)).transpose()?;
    let groups = groups(claims, &issuer.groups)?;
    Ok(Identity::new(Kind::Jwt, user, uid, groups, BTreeMap::new(), Some(expires)))
}

fn groups(claims: &Claims, mapping: &Groups) -> Result<Vec<String>, &'static str> {
    let mut groups = Vec::new();
    match mapping {
        Groups::None => {}
        Groups::Values(Mapped { claim, prefix }) => {
            groups.extend(values(claims, claim)?.iter().map(|value| format!("{prefix}{value}")));
        }
        Groups::Claims { claims: names, prefix } => {
            for name in names {
                groups.extend(values(claims, name)?.iter().map(|value| format!("{prefix}{name}:{value}")));
            }
        }
    }
    Ok(groups)
}

/// Whether a claim is an address that may be that of another user.
fn is_unverified(claims: &Claims, name: &str) -> bool {
    name == "email" && claims.get("email_verified") != Some(&Value::Bool(true))
}

/// A claim with a text that is not empty.
fn text<'a>(claims: &'a Claims, name: &str) -> Result<&'a str, &'static str> {
    match claims.get(name) {
        None | Some(Value::Null) => Err(denied::CLAIM_MISSING),
        Some(Value::String(value)) if usable(value) => Ok(value),
        Some(_) => Err(denied::CLAIM_UNUSABLE),
    }
}

/// A claim with a text or a list of texts. A claim that is missing makes no group, and neither does an empty
/// text, or an address that is not verified.
fn values<'a>(claims: &'a Claims, name: &str) -> Result<Vec<&'a str>, &'static str> {
    let is_elsewhere = || claims.get("_claim_names").is_some_and(|names| names.get(name).is_some());
    let list = match claims.get(name) {
        // Entra ID leaves the groups out if there are too many for the token: the user would seem to have none.
        None | Some(Value::Null) if is_elsewhere() => return Err(denied::CLAIM_UNUSABLE),
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(_) if is_unverified(claims, name) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let filled = list.iter().filter(|value| value.as_str() != Some(""));
    let texts: Option<Vec<&str>> = filled.map(|value| value.as_str().filter(|value| usable(value))).collect();
    texts.ok_or(denied::CLAIM_UNUSABLE)
}

/// A control character could break a log line, or make two names look alike.
fn usable(value: &str) -> bool {
    !value.is_empty() && !value.chars().any(char::is_control)
}
