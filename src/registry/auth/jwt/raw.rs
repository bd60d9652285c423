//! `--auth-config` as it is written: the format of Kubernetes' `AuthenticationConfiguration`, and `groups.claims` in addition.
//!
//! Unknown fields are errors. Fields with CEL are read only to report that they are not supported.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document {
    pub api_version: String,
    pub kind: String,
    #[serde(default)]
    pub jwt: Vec<Jwt>,
    pub anonymous: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Jwt {
    pub issuer: Issuer,
    #[serde(default)]
    pub claim_validation_rules: Vec<Rule>,
    pub claim_mappings: Mappings,
    pub user_validation_rules: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Issuer {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: Option<String>,
    pub certificate_authority: Option<String>,
    #[serde(default)]
    pub audiences: Vec<String>,
    pub audience_match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rule {
    pub claim: Option<String>,
    pub required_value: Option<String>,
    pub expression: Option<IgnoredAny>,
    /// Belongs to `expression`.
    pub message: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mappings {
    pub username: Username,
    pub groups: Option<Groups>,
    pub uid: Option<Uid>,
    pub extra: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Username {
    pub claim: Option<String>,
    pub prefix: Option<String>,
    pub expression: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Groups {
    pub claim: Option<String>,
    pub claims: Option<Vec<String>>,
    pub prefix: Option<String>,
    pub expression: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Uid {
    pub claim: Option<String>,
    pub expression: Option<IgnoredAny>,
}
