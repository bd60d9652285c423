//! Leader election on a `coordination.k8s.io/v1` Lease: one replica is active, the others stand by.
//!
//! [`election`] decides; this file reads and writes the Lease. Each write contains the resourceVersion that was read, so that
//! the API server rejects one of two concurrent writes. kube-runtime 5.0 has no leader election.

pub(crate) mod election;
mod failed;
mod leadership;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use tokio::time::Instant;
use uuid::Uuid;

use self::election::{
    Candidate, DURATION, Next, POLL_INTERVAL, RENEW, Record, RenewalFailure, TERM, pause_after,
};
use self::failed::{Failed, with_timeout};
pub(crate) use self::leadership::Leadership;
use crate::controller::client::FIELD_MANAGER;
use crate::observe::log_limit::LogLimit;

/// Why the Lease was lost.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipLost {
    #[error("the lease could not be renewed in time, so another replica may be the leader now")]
    Expired,
    #[error("the lease was deleted, or has another holder, so another replica may be the leader now")]
    Taken,
}

/// A candidate for a Lease.
pub(crate) struct Election {
    api: Api<Lease>,
    name: String,
    namespace: String,
    identity: String,
}

/// The Lease that this process holds, as last written.
pub(crate) struct LeaderLease {
    election: Election,
    lease: Lease,
    pub leadership: Leadership,
}

impl Election {
    /// For the Lease `namespace/name`.
    pub(crate) fn new(client: Client, namespace: &str, name: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: format!("{}_{}", host.trim(), Uuid::new_v4()),
        }
    }

    /// Waits until this process holds the Lease. Calls `waiting` with the current holder at each attempt. `None`: `stop` has
    /// resolved, and this process does not hold the Lease.
    pub(crate) async fn acquire(
        self,
        mut stop: impl Future<Output = ()> + Unpin,
        mut waiting: impl FnMut(&str),
    ) -> Option<LeaderLease> {
        let mut candidate = Candidate::new(self.identity.clone());
        let mut failed = LogLimit::default();
        loop {
            // `stop` does not interrupt it: the API server may execute a write whose answer is not awaited.
            let attempt = self.try_to_acquire(&mut candidate, &mut waiting).await;
            let has_failed = attempt.is_err();
            match attempt {
                Ok(Some((lease, sent))) => {
                    let leadership = Leadership::until(sent + TERM);
                    tracing::info!(lease = self.name, identity = self.identity, "became leader");
                    return Some(LeaderLease { election: self, lease, leadership });
                }
                Ok(None) => failed = LogLimit::default(),
                Err(error) if failed.add().is_some() => {
                    tracing::error!(
                        %error,
                        fix = error.fix(),
                        "cannot read or write the Lease {}/{}, so this replica cannot become the leader",
                        self.namespace,
                        self.name
                    );
                }
                Err(error) => tracing::debug!(%error, "cannot acquire the lease"),
            }
            tokio::select! {
                () = &mut stop => {
                    if has_failed {
                        self.release_if_taken().await;
                    }
                    return None;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Releases the Lease if a write whose answer was lost has taken it.
    async fn release_if_taken(self) {
        if let Ok(Some(lease)) = self.read_own().await {
            let leadership = Leadership::until(Instant::now());
            LeaderLease { election: self, lease, leadership }.release().await;
        }
    }

    async fn try_to_acquire(
        &self,
        candidate: &mut Candidate,
        waiting: &mut impl FnMut(&str),
    ) -> Result<Option<(Lease, Instant)>, Failed> {
        let lease = with_timeout(self.api.get_opt(&self.name)).await?;
        let record = lease.as_ref().map(record);
        let sent = Instant::now();
        let lease = lease.unwrap_or_default();
        let result = match candidate.next(record.as_ref(), sent) {
            Next::Wait => {
                waiting(record.and_then(|record| record.holder).as_deref().unwrap_or_default());
                return Ok(None);
            }
            Next::Create => {
                let params =
                    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
                with_timeout(self.api.create(&params, &self.written(lease, true))).await
            }
            Next::Take => self.write(self.written(lease, true)).await,
            Next::Renew => self.write(self.written(lease, false)).await,
        };
        match result {
            Ok(lease) => Ok(Some((lease, sent))),
            // Another replica was faster.
            Err(failed) if failed.is_lost_race() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `lease` with this process as its holder, renewed now.
    fn written(&self, lease: Lease, taken: bool) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if taken { Some(now.clone()) } else { before.acquire_time.clone() },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(taken)),
            ..before
        };
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            ..lease.metadata
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Reads the Lease. Returns it if this process holds it.
    async fn read_own(&self) -> Result<Option<Lease>, Failed> {
        let read = with_timeout(self.api.get_opt(&self.name)).await?;
        Ok(read.filter(|lease| record(lease).holder.as_ref() == Some(&self.identity)))
    }

    async fn write(&self, lease: Lease) -> Result<Lease, Failed> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        with_timeout(self.api.replace(&self.name, &params, &lease)).await
    }
}

impl LeaderLease {
    /// Renews the Lease until it is lost.
    pub(crate) async fn renew_until_lost(&mut self) -> LeadershipLost {
        let leadership = self.leadership.clone();
        let lost = tokio::select! {
            biased;
            () = leadership.ended() => LeadershipLost::Expired,
            lost = self.renew_repeatedly() => lost,
        };
        tracing::error!(error = %lost, "lost the leader lease; stopping at once");
        lost
    }

    async fn renew_repeatedly(&mut self) -> LeadershipLost {
        let mut pause = RENEW;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.renew().await {
                Ok(pause) => pause,
                Err(lost) => return lost,
            };
        }
    }

    /// Renews once, and returns the pause before the next renewal. Failed renewals are retried while the term lasts; a
    /// Lease that another process holds, or that was deleted, is lost.
    async fn renew(&mut self) -> Result<Duration, LeadershipLost> {
        let sent = Instant::now();
        let error = match self.election.write(self.election.written(self.lease.clone(), false)).await {
            Ok(lease) => {
                self.lease = lease;
                self.leadership.extend(sent + TERM);
                return Ok(RENEW);
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "cannot renew the leader lease; retrying");
        let mut failure = error.kind();
        if failure == RenewalFailure::Outdated {
            // A write whose response was lost changed the resourceVersion, or another client labelled the Lease.
            match self.election.read_own().await {
                Ok(own) => self.lease = own.ok_or(LeadershipLost::Taken)?,
                Err(error) => failure = error.kind(),
            }
        }
        Ok(pause_after(failure))
    }

    /// Releases the Lease, so that another replica becomes the leader at once. This process must not act as the leader any more.
    pub(crate) async fn release(self) {
        let write_released = async |lease: Lease| {
            let mut lease = self.election.written(lease, false);
            if let Some(spec) = &mut lease.spec {
                (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
            }
            self.election.write(lease).await
        };
        let mut result = write_released(self.lease.clone()).await;
        if result.as_ref().is_err_and(Failed::is_lost_race) {
            // A renewal was in flight when the signal arrived, or another client labelled the Lease.
            if let Ok(Some(lease)) = self.election.read_own().await {
                result = write_released(lease).await;
            }
        }
        match result {
            Ok(_) => tracing::info!("released leader lease"),
            Err(error) => {
                tracing::warn!(%error, "cannot release the leader lease; it expires after 15 seconds");
            }
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity,
        renewed: spec.renew_time.map(|time| time.0.to_string()),
        duration: Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0)),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}

/// The operator's namespace: that of the service account in its token, else the default namespace of the configuration (in a
/// pod, the pod's own).
pub(crate) fn own_namespace(config: &Config) -> String {
    let token = config.auth_info.token.as_ref().map(secrecy::ExposeSecret::expose_secret);
    token.and_then(service_account).unwrap_or_else(|| config.default_namespace.clone())
}

/// The namespace in the subject `system:serviceaccount:NAMESPACE:NAME` of a service account's token. Its
/// signature is not checked, because nothing is granted by this.
fn service_account(token: &str) -> Option<String> {
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let subject = claims["sub"].as_str()?.strip_prefix("system:serviceaccount:")?;
    Some(subject.split_once(':')?.0.to_owned())
}

#[cfg(test)]
mod tests;
