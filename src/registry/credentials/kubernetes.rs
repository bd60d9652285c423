//! Tokens of a service account, requested with the user's kubeconfig.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use secrecy::SecretString;

use crate::controller::client::explain;
use crate::controller::connection::configuration;

/// Long enough for a run, short enough to be of little use to others.
const LIFE_SECONDS: i64 = 3600;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Requests a token for `audience`.
pub(super) async fn request(namespace: &str, name: &str, audience: &str) -> Result<SecretString, String> {
    let mut config = configuration().await.map_err(|error| error.to_string())?;
    config.read_timeout = Some(TIMEOUT);
    let client = Client::try_from(config).map_err(|error| explain(&error))?;
    let api: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let spec = TokenRequestSpec {
        audiences: vec![audience.to_owned()],
        expiration_seconds: Some(LIFE_SECONDS),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = api.create_token_request(name, &PostParams::default(), &request).await;
    let status = answer.map_err(|error| explain(&error))?.status.ok_or("the answer has no token")?;
    Ok(status.token.into())
}
