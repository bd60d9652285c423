//! Tokens of GitHub Actions' identity provider: no secret has to be kept anywhere.

use std::time::Duration;

use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct TokenResponse {
    value: String,
}

/// Requests a token for `audience`. `None` without the variables that GitHub sets in jobs with the permission `id-token: write`.
pub(super) async fn token(audience: &str) -> Option<Result<SecretString, String>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = SecretString::from(variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")?);
    Some(request(&variable("ACTIONS_ID_TOKEN_REQUEST_URL")?, &token, audience).await)
}

async fn request(url: &str, token: &SecretString, audience: &str) -> Result<SecretString, String> {
    let mut url = Url::parse(url).map_err(|error| format!("ACTIONS_ID_TOKEN_REQUEST_URL: {error}"))?;
    url.query_pairs_mut().append_pair("audience", audience);
    let builder = Client::builder().https_only(true).redirect(redirect::Policy::none()).timeout(TIMEOUT);
    let client = builder.build().map_err(|error| error.to_string())?;
    let request = client.get(url).bearer_auth(token.expose_secret());
    // The URL names the job, and is of no use to a reader.
    let failed = |error: reqwest::Error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{}{cause}", error.without_url())
    };
    let response = request.send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(format!("answer {}", response.status()));
    }
    response.json::<TokenResponse>().await.map(|answer| answer.value.into()).map_err(failed)
}
