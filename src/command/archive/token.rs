//! The token of the environment for a repository's host. Pure.

use secrecy::SecretString;
use url::Url;

use crate::domain::repository::authority;

/// The variable for github.com, and in GitHub Actions for the server that runs the workflow.
const TOKEN: &str = "GITHUB_TOKEN";
/// The address of that server.
const SERVER: &str = "GITHUB_SERVER_URL";
/// The variable for every other host, as for the command line of GitHub.
const OTHER_TOKEN: &str = "GH_ENTERPRISE_TOKEN";

/// The token for a host. The command's argument names the host, which must not receive the token of another one.
pub(super) fn of_environment(host: &str, variable: impl Fn(&str) -> Option<String>) -> Option<SecretString> {
    let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let server = value(SERVER).and_then(|url| Url::parse(&url).ok());
    let is_own = host == "github.com" || server.is_some_and(|url| authority(&url) == host);
    value(if is_own { TOKEN } else { OTHER_TOKEN }).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_is_sent_to_its_own_host_only() {
        let own = "https://ghes.example.com:8443";
        for (host, server, other, expected) in [
            ("github.com", "", "", Some("ghp_own")),
            ("github.com", own, "ghp_other", Some("ghp_own")),
            ("ghes.example.com:8443", own, "ghp_other", Some("ghp_own")),
            ("ghes.example.com", own, "ghp_other", Some("ghp_other")),
            ("other.example.com", "https://github.com", "", None),
            ("other.example.com", "other.example.com", "", None),
        ] {
            let variable = |name: &str| match name {
                TOKEN => Some("ghp_own".to_owned()),
                SERVER => Some(server.to_owned()),
                OTHER_TOKEN => Some(other.to_owned()),
                _ => None,
            };
            let token = of_environment(host, variable);
            assert_eq!(token.as_ref().map(ExposeSecret::expose_secret), expected, "{host} {server}");
        }
    }
}
