//! Access control: identifies the sender of a request, and asks what this identity may download.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use kube::Client;

use super::audience;
use super::bearer;
use super::denied::{self, Denied};
use super::identity::Identity;
use super::review::{ApiServer, Reviewer};
use super::settings::{AccessError, AccessSettings};
use crate::registry::metrics::RegistryMetrics;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The Kubernetes namespace: an alias is resolved already.
    pub namespace: &'a str,
    /// The name in the address.
    pub name: &'a str,
    /// The system in the address.
    pub system: &'a str,
    /// `metadata.name` of the Module that holds the address, if there is one.
    pub holder: Option<&'a str>,
}

/// Access control of one process.
pub struct Access {
    audience: String,
    anonymous: bool,
    reviewer: Arc<dyn Reviewer>,
    metrics: RegistryMetrics,
}

impl Access {
    /// Checks the settings, and starts the tasks that keep tokens and keys current. They end with the returned value.
    pub fn start(
        settings: &AccessSettings,
        client: Client,
        metrics: RegistryMetrics,
    ) -> Result<Self, AccessError> {
        let audience = audience::checked(settings.audience.as_deref(), settings.own_token.as_ref())?;
        Ok(Self {
            audience,
            anonymous: settings.anonymous,
            reviewer: Arc::new(ApiServer { client }),
            metrics,
        })
    }

    /// Who sends the request.
    pub async fn identify(&self, headers: &HeaderMap, _peer: IpAddr) -> Result<Arc<Identity>, Denied> {
        let Some(token) = bearer::token(headers)? else {
            return if self.anonymous {
                Ok(Arc::new(Identity::anonymous()))
            } else {
                Err(Denied::Unauthenticated(denied::NO_TOKEN))
            };
        };
        let answer = self.reviewer.token(token, self.audience.clone()).await;
        self.metrics.reviewed("token", if answer.is_ok() { "answered" } else { "failed" });
        match answer {
            Ok(Some(identity)) => Ok(Arc::new(identity)),
            Ok(None) => Err(Denied::Unauthenticated(denied::NOT_ACCEPTED)),
            Err(_) => Err(Denied::api_server()),
        }
    }

    /// Whether `identity` may download what is `asked`. The answer, and the time it takes, do not depend on `holder`.
    pub async fn may_download(
        &self,
        identity: &Identity,
        _peer: IpAddr,
        asked: Asked<'_>,
    ) -> Result<(), Denied> {
        let name = asked.holder.unwrap_or(asked.name);
        match self.reviewer.access(identity, asked.namespace, name).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Denied::Forbidden),
            Err(_) => Err(Denied::api_server()),
        }
    }
}
