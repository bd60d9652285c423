//! Issuers with unrelated users: anyone can get a token for any audience there, so that only a claim with the organisation
//! keeps other users out.

use url::Url;

/// Hosts, and the claims by which they name an organisation, a project or a user.
const SHARED: [(&str, &[&str]); 8] = [
    (
        "token.actions.githubusercontent.com",
        &[
            "repository_owner_id",
            "repository_owner",
            "repository_id",
            "repository",
            "enterprise_id",
            "enterprise",
            "sub",
        ],
    ),
    ("gitlab.com", &["namespace_id", "namespace_path", "project_id", "project_path", "sub"]),
    ("accounts.google.com", &["hd", "sub", "email"]),
    ("agent.buildkite.com", &["organization_id", "organization_slug", "sub"]),
    ("app.terraform.io", &["terraform_organization_id", "terraform_organization_name", "sub"]),
    ("oauth2.sigstore.dev", &["email", "sub"]),
    ("api.pulumi.com", &["https://pulumi.com/org_id", "https://pulumi.com/org", "sub"]),
    ("oidc.codefresh.io", &["account_id", "account_name", "pipeline_id", "sub"]),
];

/// Refuses such an issuer if no rule requires a value of one of these claims.
pub(super) fn check(issuer: &Url, required: &[(String, String)]) -> Result<(), String> {
    let Some((host, claims)) = SHARED.iter().find(|(host, _)| issuer.host_str() == Some(host)) else {
        return Ok(());
    };
    if required.iter().any(|(claim, _)| claims.contains(&claim.as_str())) {
        return Ok(());
    }
    Err(format!(
        "claimValidationRules: anyone can get a token from {host}: write a rule with a requiredValue for one of {}",
        claims.join(", ")
    ))
}
