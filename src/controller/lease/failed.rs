//! Failed requests for the Lease.

use kube::client::AuthError;
use kube::core::Status;

use super::election::{REQUEST_TIMEOUT, RenewalFailure};
use crate::controller::client::{explain, is_denied};

/// A failed request for the Lease.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("no response within {REQUEST_TIMEOUT:?}")]
    Late,
    #[error("{}", explain(.0))]
    Api(kube::Error),
}

impl Failed {
    /// The API server's answer, if it is about the Lease. A denial by a webhook is not, whatever its code.
    fn about_the_lease(&self) -> Option<&Status> {
        match self {
            Self::Api(kube::Error::Api(status)) if !is_denied(status) => Some(status),
            _ => None,
        }
    }

    /// What to do about it, if that is known.
    pub(super) fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Api(kube::Error::Api(_)) => match self.about_the_lease()?.code {
                401 => Some("renew the credentials of the ServiceAccount or the kubeconfig"),
                403 | 404 => Some(
                    "allow get, create and update of leases there, set another namespace with --lease-namespace, or run a \
                     single replica with --leader-elect=false",
                ),
                _ => None,
            },
            Self::Api(kube::Error::Service(cause)) if cause.is::<AuthError>() => None,
            _ => Some("check the network and the NetworkPolicy: the API server does not answer"),
        }
    }

    /// Whether another client wrote the Lease since it was read.
    pub(super) fn is_lost_race(&self) -> bool {
        self.about_the_lease().is_some_and(|status| status.is_conflict() || status.is_already_exists())
    }

    pub(super) fn kind(&self) -> RenewalFailure {
        match self.about_the_lease() {
            Some(status) if status.is_conflict() || status.is_not_found() => RenewalFailure::Outdated,
            _ if matches!(self, Self::Late) => RenewalFailure::Late,
            _ => RenewalFailure::Other,
        }
    }
}

/// The result of a request, which fails after [`REQUEST_TIMEOUT`].
pub(super) async fn with_timeout<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    let result = tokio::time::timeout(REQUEST_TIMEOUT, request).await.map_err(|_| Failed::Late)?;
    result.map_err(Failed::Api)
}
