//! Leader election on a `coordination.k8s.io/v1` Lease: of several processes one works, the others wait.
//!
//! In: a client, the Lease's name, and when to stop. Out: [`Leadership`], which is asked before each PUT and DELETE in S3.
//! [`election`] decides; this file reads and writes. Each write carries the resourceVersion that was read, so that of two
//! who take the Lease at once one is refused. kube-runtime has no leader election of its own.

pub mod election;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use tokio::time::Instant;
use uuid::Uuid;

use self::election::{Candidate, DURATION, LOOK, Next, PATIENCE, RENEW, Record, Refusal};
use crate::controller::client::FIELD_MANAGER;

/// How often the log says why the Lease cannot be had.
const COMPLAIN: Duration = Duration::from_mins(1);

/// Whether this process may act. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Mutex<Option<Instant>>>);

/// The Lease was lost.
#[derive(Debug, thiserror::Error)]
#[error("the lease could not be renewed in time, so another may lead now")]
pub struct Lost;

impl Default for Leadership {
    fn default() -> Self {
        Self::without_end()
    }
}

impl Leadership {
    /// Of a process that runs without leader election: it always leads.
    pub fn without_end() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    fn until(end: Instant) -> Self {
        Self(Arc::new(Mutex::new(Some(end))))
    }

    fn end(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Resolves when this process may act no longer.
    async fn ended(&self) {
        loop {
            match self.end() {
                None => std::future::pending().await,
                Some(end) if end <= Instant::now() => return,
                Some(end) => tokio::time::sleep_until(end).await,
            }
        }
    }

    /// Runs `work` while this process leads. Afterwards `work` is dropped where it stands, and nothing more comes of
    /// this: the process is about to end, and no outcome would be true.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => std::future::pending().await,
            result = work => result,
        }
    }
}

/// A Lease, and who wants it.
pub struct Election {
    api: Api<Lease>,
    name: String,
    namespace: String,
    identity: String,
}

/// A Lease that is held: what was last written.
pub struct Held {
    election: Election,
    lease: Lease,
    leadership: Leadership,
}

impl Election {
    /// For the Lease `namespace/name`.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            identity: format!("{}_{}", host.trim(), Uuid::new_v4()),
        }
    }

    /// Waits until the Lease is this process'. `waiting` is told who holds it meanwhile.
    pub async fn win(self, mut waiting: impl FnMut(&str)) -> Held {
        let mut candidate = Candidate::new(self.identity.clone());
        let mut complained: Option<Instant> = None;
        loop {
            match self.try_to_win(&mut candidate, &mut waiting).await {
                Ok(Some((lease, sent))) => {
                    let leadership = Leadership::until(election::term(sent));
                    tracing::info!(lease = self.name, identity = self.identity, "leading");
                    return Held { election: self, lease, leadership };
                }
                Ok(None) => complained = None,
                Err(error) if complained.is_none_or(|at| at.elapsed() >= COMPLAIN) => {
                    complained = Some(Instant::now());
                    tracing::error!(%error, "{}", self.advice());
                }
                Err(error) => tracing::debug!(%error, "the lease cannot be had"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn advice(&self) -> String {
        format!(
            "cannot read or write the Lease {}/{}, so this process does not work: allow get, create and update of \
             leases there, name another place with --lease-namespace, or run a single process with --leader-elect=false",
            self.namespace, self.name
        )
    }

    async fn try_to_win(
        &self,
        candidate: &mut Candidate,
        waiting: &mut impl FnMut(&str),
    ) -> Result<Option<(Lease, Instant)>, Failed> {
        let lease = patient(self.api.get_opt(&self.name)).await?;
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
                patient(self.api.create(&params, &self.written(lease, true))).await
            }
            Next::Take => self.write(self.written(lease, true)).await,
            Next::Renew => self.write(self.written(lease, false)).await,
        };
        match result {
            Ok(lease) => Ok(Some((lease, sent))),
            // Somebody else was faster.
            Err(Failed::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_already_exists() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// `lease` as this process writes it now.
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

    async fn write(&self, lease: Lease) -> Result<Lease, Failed> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        patient(self.api.replace(&self.name, &params, &lease)).await
    }
}

impl Held {
    /// What the rest of the process asks.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Renews, until the Lease is lost.
    pub async fn keep(&mut self) -> Lost {
        let leadership = self.leadership.clone();
        let lost = tokio::select! {
            biased;
            () = leadership.ended() => Lost,
            lost = self.renew_for_ever() => lost,
        };
        tracing::error!(error = %lost, "stopping at once");
        lost
    }

    async fn renew_for_ever(&mut self) -> Lost {
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
    /// Lease that another process holds, or that is gone, is lost.
    async fn renew(&mut self) -> Result<Duration, Lost> {
        let sent = Instant::now();
        let error = match self.election.write(self.election.written(self.lease.clone(), false)).await {
            Ok(lease) => {
                self.lease = lease;
                self.leadership.extend(election::term(sent));
                return Ok(RENEW);
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the lease was not renewed; retrying");
        let mut refusal = error.kind();
        if refusal == Refusal::Outdated {
            // A write whose answer was lost changed the resourceVersion, or another client labelled the Lease.
            match patient(self.election.api.get_opt(&self.election.name)).await {
                Ok(read) => {
                    let ours = |lease: &Lease| record(lease).holder.as_ref() == Some(&self.election.identity);
                    self.lease = read.filter(ours).ok_or(Lost)?;
                }
                Err(error) => refusal = error.kind(),
            }
        }
        Ok(election::pause_after(refusal))
    }

    /// Gives the Lease up, so that another need not wait for its end. Nothing may be done in its name any more.
    pub async fn release(self) {
        let given_up = async |lease: Lease| {
            let mut lease = self.election.written(lease, false);
            if let Some(spec) = &mut lease.spec {
                (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
            }
            self.election.write(lease).await
        };
        let mut result = given_up(self.lease.clone()).await;
        if matches!(&result, Err(Failed::Api(kube::Error::Api(status))) if status.is_conflict()) {
            // A renewal was under way when the signal came, or somebody labelled the Lease.
            let read = patient(self.election.api.get_opt(&self.election.name)).await.ok().flatten();
            let ours = |lease: &Lease| record(lease).holder.as_ref() == Some(&self.election.identity);
            if let Some(lease) = read.filter(ours) {
                result = given_up(lease).await;
            }
        }
        match result {
            Ok(_) => tracing::info!("the lease is given up"),
            Err(error) => tracing::warn!(%error, "the lease could not be given up; it runs out by itself"),
        }
    }
}

/// A request for the Lease that brought nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no answer within {PATIENCE:?}")]
    Late,
    #[error("{0}")]
    Api(kube::Error),
}

impl Failed {
    fn kind(&self) -> Refusal {
        match self {
            Self::Late => Refusal::Late,
            Self::Api(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Refusal::Outdated
            }
            Self::Api(_) => Refusal::Other,
        }
    }
}

async fn patient<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failed> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(result) => result.map_err(Failed::Api),
        Err(_) => Err(Failed::Late),
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

/// The namespace that this process belongs to: that of the service account which its token names, or else the one that
/// the configuration names (in a pod, the pod's own).
pub fn own_namespace(config: &Config) -> String {
    let token = config.auth_info.token.as_ref().map(secrecy::ExposeSecret::expose_secret);
    token.and_then(service_account).unwrap_or_else(|| config.default_namespace.clone())
}

/// The namespace in the subject `system:serviceaccount:NAMESPACE:NAME` of a service account's token. Its signature is the
/// API server's concern: nothing is granted for what this finds.
fn service_account(token: &str) -> Option<String> {
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let subject = claims["sub"].as_str()?.strip_prefix("system:serviceaccount:")?;
    Some(subject.split_once(':')?.0.to_owned())
}

#[cfg(test)]
mod tests;
