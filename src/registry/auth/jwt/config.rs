//! `--auth-config`, checked. Each message names the field and what to write.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;
use url::Url;

use super::{prefixes, raw, shared};
use crate::domain::text::yaml_options;

/// An issuer of JWTs, and what its claims mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// As in the claim `iss`.
    pub url: String,
    /// Where its metadata is.
    pub discovery: Url,
    pub audiences: Vec<String>,
    /// PEM: the only certificates that are trusted for this issuer.
    pub certificate_authority: Option<String>,
    /// Claims and the values that they must have.
    pub required: Vec<(String, String)>,
    pub user: Mapped,
    pub groups: Groups,
    pub uid_claim: Option<String>,
}

/// A claim, and what is put in front of its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    pub claim: String,
    pub prefix: String,
}

/// Which claims make groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    None,
    /// Each value of one claim: PREFIX + value.
    Values(Mapped),
    /// Each of these claims: PREFIX + claim + `:` + value.
    Claims {
        claims: Vec<String>,
        prefix: String,
    },
}

impl IssuerConfig {
    /// The prefixes of users and groups.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let groups = match &self.groups {
            Groups::None => None,
            Groups::Values(Mapped { prefix, .. }) | Groups::Claims { prefix, .. } => Some(prefix.as_str()),
        };
        std::iter::once(self.user.prefix.as_str()).chain(groups)
    }
}

const CEL: &str = "CEL is not supported: write claim";

/// Parses and checks the text of the file.
pub(crate) fn parse(text: &str) -> Result<Vec<IssuerConfig>, String> {
    let document: raw::Document =
        serde_yaml::from_str_with_options(text, yaml_options()).map_err(|error| error.to_string())?;
    let version = document.api_version.strip_prefix("apiserver.config.k8s.io/");
    if !version.is_some_and(|version| ["v1", "v1beta1", "v1alpha1"].contains(&version)) {
        return Err("apiVersion: write apiserver.config.k8s.io/v1".into());
    }
    if document.kind != "AuthenticationConfiguration" {
        return Err("kind: write AuthenticationConfiguration".into());
    }
    absent(document.anonymous, "anonymous", "not supported: use the flag --anonymous")?;
    if document.jwt.is_empty() {
        return Err("jwt: write at least one issuer".into());
    }
    let mut issuers = Vec::new();
    for (number, jwt) in document.jwt.into_iter().enumerate() {
        issuers.push(issuer(jwt).map_err(|problem| format!("jwt[{number}].{problem}"))?);
    }
    distinct(&issuers)?;
    let numbered = issuers.iter().enumerate();
    let all = numbered.flat_map(|(number, issuer)| issuer.prefixes().map(move |prefix| (number, prefix)));
    prefixes::check(&all.collect::<Vec<_>>())?;
    Ok(issuers)
}

fn distinct(issuers: &[IssuerConfig]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for issuer in issuers {
        let discovery = issuer.discovery.as_str();
        if !seen.insert(issuer.url.as_str()) || !seen.insert(discovery) {
            return Err(format!("jwt: the url or discoveryURL of the issuer {} is listed twice", issuer.url));
        }
    }
    Ok(())
}

fn issuer(jwt: raw::Jwt) -> Result<IssuerConfig, String> {
    absent(jwt.user_validation_rules, "userValidationRules", "CEL is not supported: remove them")?;
    let raw = jwt.issuer;
    let url = https(&raw.url).map_err(|problem| format!("issuer.url: {problem}"))?;
    let discovery = match &raw.discovery_url {
        Some(text) if *text == raw.url => {
            return Err("issuer.discoveryURL: remove it, because it equals url".into());
        }
        Some(text) => https(text).map_err(|problem| format!("issuer.discoveryURL: {problem}"))?,
        None => well_known(&raw.url)?,
    };
    audiences(&raw)?;
    let mappings = jwt.claim_mappings;
    absent(mappings.extra, "claimMappings.extra", "CEL is not supported: remove it")?;
    let required = rules(jwt.claim_validation_rules)?;
    shared::check(&url, &required)?;
    Ok(IssuerConfig {
        url: raw.url,
        discovery,
        audiences: raw.audiences,
        certificate_authority: raw.certificate_authority,
        required,
        user: username(mappings.username).map_err(|problem| format!("claimMappings.username.{problem}"))?,
        groups: groups(mappings.groups).map_err(|problem| format!("claimMappings.groups.{problem}"))?,
        uid_claim: uid(mappings.uid).map_err(|problem| format!("claimMappings.uid.{problem}"))?,
    })
}

fn https(text: &str) -> Result<Url, String> {
    let example = "write an https URL without query, such as https://login.example.com";
    let url = Url::parse(text).map_err(|error| format!("{error}: {example}"))?;
    // The parser leaves out tabs and line breaks, but `iss` is compared with the text.
    let plain = url.scheme() == "https"
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err(example.into()) }
}

/// The same address as in Kubernetes and in the specification of OpenID Connect Discovery.
fn well_known(issuer: &str) -> Result<Url, String> {
    let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    Url::parse(&text).map_err(|error| format!("issuer.url: {error}"))
}

fn audiences(raw: &raw::Issuer) -> Result<(), String> {
    let distinct: BTreeSet<&String> = raw.audiences.iter().collect();
    if raw.audiences.is_empty() || raw.audiences.iter().any(String::is_empty) {
        return Err("issuer.audiences: write at least one, such as the registry's host".into());
    }
    if distinct.len() != raw.audiences.len() {
        return Err("issuer.audiences: one is listed twice".into());
    }
    match raw.audience_match_policy.as_deref() {
        Some("MatchAny") => Ok(()),
        None | Some("") if raw.audiences.len() == 1 => Ok(()),
        _ => Err("issuer.audienceMatchPolicy: write MatchAny".into()),
    }
}

fn rules(rules: Vec<raw::Rule>) -> Result<Vec<(String, String)>, String> {
    let mut required: Vec<(String, String)> = Vec::new();
    for (number, rule) in rules.into_iter().enumerate() {
        let at = format!("claimValidationRules[{number}]");
        if rule.expression.is_some() || rule.message.is_some() {
            return Err(format!("{at}: CEL is not supported: write claim and requiredValue"));
        }
        let (Some(claim), Some(value)) = (rule.claim.filter(filled), rule.required_value.filter(filled))
        else {
            return Err(format!("{at}: write claim and requiredValue"));
        };
        if required.iter().any(|(other, _)| *other == claim) {
            return Err(format!("{at}.claim: {claim} is listed twice"));
        }
        required.push((claim, value));
    }
    Ok(required)
}

fn username(raw: raw::Username) -> Result<Mapped, String> {
    absent(raw.expression, "expression", CEL)?;
    let claim = raw.claim.filter(filled).ok_or("claim: write one, such as sub")?;
    let prefix = raw.prefix.filter(filled).ok_or("prefix: write one, such as 'github:'")?;
    Ok(Mapped { claim, prefix })
}

fn groups(raw: Option<raw::Groups>) -> Result<Groups, String> {
    let Some(raw) = raw else { return Ok(Groups::None) };
    absent(raw.expression, "expression", CEL)?;
    let prefix = raw.prefix.filter(filled).ok_or("prefix: write one, such as 'github:'")?;
    match (raw.claim, raw.claims) {
        (Some(claim), None) if filled(&claim) => Ok(Groups::Values(Mapped { claim, prefix })),
        (None, Some(claims)) if !claims.is_empty() && claims.iter().all(filled) => {
            Ok(Groups::Claims { claims, prefix })
        }
        _ => Err("claim: write either claim or claims, such as groups".into()),
    }
}

fn uid(raw: Option<raw::Uid>) -> Result<Option<String>, String> {
    let Some(raw) = raw else { return Ok(None) };
    absent(raw.expression, "expression", CEL)?;
    raw.claim.filter(filled).map(Some).ok_or_else(|| "claim: write one, such as sub".into())
}

fn absent(field: Option<IgnoredAny>, name: &str, problem: &str) -> Result<(), String> {
    if field.is_some() { Err(format!("{name}: {problem}")) } else { Ok(()) }
}

#[expect(clippy::ptr_arg, reason = "for Option::filter")]
fn filled(text: &String) -> bool {
    !text.is_empty()
}
