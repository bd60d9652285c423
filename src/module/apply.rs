//! Sends the requests of a plan: creates, then changes, then deletes.
//!
//! Each request tests what the plan is based on: a POST fails if the name is taken, a patch carries the resourceVersion, a
//! delete carries UID and resourceVersion. A request that fails this test is not an error: the cache is behind, and a later
//! reconcile is based on the change. [`Attempts`] decides when a refused request is sent again. A change that the API
//! server stores with other values than were sent counts as refused.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use kube::api::{Api, DeleteParams, DynamicObject, PostParams, Preconditions};

use super::altered::altered;
use super::attempts::Attempts;
use super::batch::{Batch, Due, Planned, RequestOutcome};
use super::client::ModuleClient;
use super::edit::{Change, VersionRef};
use super::patch::{merge_patch, new_version};
use super::permit::Permit;
use super::plan::Create;
use super::rejected_requests::rejection;
use super::view::ModuleView;
use crate::api::Version;
use crate::controller::client::{self, is_refusal};

/// If no answer comes within this time, nothing more is sent, and another Module may start.
const SLOW_ANSWER: Duration = Duration::from_secs(2);

/// What sending a plan did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Requests that the API server refused. The others were still sent.
    pub refused: usize,
    /// Whether requests are left that need not wait.
    pub has_more: bool,
}

/// Sends what is due until the cache shows a changed Module, or the time of a batch is over: a long list may take minutes. An error
/// concerns the API server as a whole and ends the batch; the next reconcile finds the requests that succeeded before it done.
pub(super) fn apply<'a>(
    client: &'a ModuleClient<'_>,
    module: &'a ModuleView,
    due: &'a Due<'a>,
    (attempts, permit): (&'a mut Attempts, &'a mut Permit),
) -> BoxFuture<'a, Result<Done, kube::Error>> {
    let api = client::objects::<Version>(&client.ctx.client, module.namespace());
    async move {
        let api = &api;
        let mut sender = Sender { client, attempts, permit, done: Done::default() };
        let create = |c| create(api, module, c).boxed();
        let created = sender.send("created", &due.create, create).await?;
        // If time ended the creates, nothing is deleted yet: a create is attempted first for each wanted version.
        let delete_now: &[_] = if sender.done.has_more { &[] } else { &due.delete };
        let change = |c| change(api, module, c).boxed();
        let changed = sender.send("changed", &due.change, change).await?;
        let deleted = sender.send("deleted", delete_now, |target| delete(api, target).boxed()).await?;
        if created + changed + deleted > 0 {
            tracing::info!(created, changed, deleted, "updated the Versions");
        }
        Ok(sender.done)
    }
    .boxed()
}

struct Sender<'a> {
    client: &'a ModuleClient<'a>,
    attempts: &'a mut Attempts,
    permit: &'a mut Permit,
    done: Done,
}

/// A request, and how it ended.
type Request<'a> = BoxFuture<'a, Result<RequestOutcome, kube::Error>>;

impl Sender<'_> {
    /// Sends a batch of requests of one kind. Each is made only when there is room for it. Returns how many succeeded.
    async fn send<'a, T: Planned>(
        &mut self,
        verb: &'static str,
        due: &[&'a T],
        request: impl Fn(&'a T) -> Request<'a>,
    ) -> Result<usize, kube::Error> {
        if due.is_empty() {
            return Ok(0);
        }
        if self.attempts.expects_refusal(due) {
            self.permit.give_way();
        }
        let mut batch = self.attempts.start(T::VERB);
        // An index instead of an iterator, whose adapters would have to be `Send` for every lifetime.
        let (mut sent, mut in_flight) = (0, FuturesUnordered::new());
        let (mut succeeded, mut error) = (0, None);
        let started = Instant::now();
        loop {
            while in_flight.len() < batch.max_in_flight(started.elapsed())
                && let Some(&item) = due.get(sent)
            {
                if self.client.is_outdated() {
                    batch.stop();
                    break;
                }
                let request = request(item);
                in_flight.push(async move { (item, request.await) });
                sent += 1;
            }
            let Some((item, result)) = self.next_answer(&mut in_flight, &mut batch).await else { break };
            let outcome = outcome(verb, item.name(), result).unwrap_or_else(|failed| {
                error = Some(failed);
                RequestOutcome::Failed
            });
            succeeded += usize::from(outcome == RequestOutcome::Done);
            self.done.refused += usize::from(matches!(outcome, RequestOutcome::Refused(_)));
            let when = (Instant::now(), rand::random());
            self.attempts.ended(&mut batch, (item.name(), item.planned_on()), outcome, when);
        }
        if sent > 0 {
            self.attempts.finish(&batch, (Instant::now(), rand::random()));
        }
        self.done.has_more |= sent < due.len() && !self.attempts.is_paused(T::VERB);
        error.map_or(Ok(succeeded), Err)
    }

    /// Waits for the next answer. If it is slow, nothing more is sent, and another Module may start.
    async fn next_answer<F: Future>(
        &mut self,
        in_flight: &mut FuturesUnordered<F>,
        batch: &mut Batch,
    ) -> Option<F::Output> {
        if let Ok(next) = tokio::time::timeout(SLOW_ANSWER, in_flight.next()).await {
            return next;
        }
        batch.stop();
        self.permit.give_way();
        in_flight.next().await
    }
}

/// What an answer means for its object. An error concerns all objects.
fn outcome(
    verb: &str,
    name: &str,
    result: Result<RequestOutcome, kube::Error>,
) -> Result<RequestOutcome, kube::Error> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(kube::Error::Api(status)) if client::is_outdated_status(&status) => {
            tracing::debug!(cause = status.message, "the object changed meanwhile; requeued");
            Ok(RequestOutcome::Outdated)
        }
        // A quota, an admission webhook, a rule of the schema: it concerns one object.
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            Ok(RequestOutcome::Refused(rejection(&format!("Version {name} cannot be {verb}"), &status)))
        }
        Err(error) => Err(error),
    }
}

async fn create(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    create: &Create,
) -> Result<RequestOutcome, kube::Error> {
    let object = new_version(module, create).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(client::FIELD_MANAGER.into()), ..PostParams::default() };
    // If the API server stored another configuration than was sent, the next plan contains a change, and that change reports it.
    api.create(&params, &object).await.map(|_| RequestOutcome::Done)
}

async fn change(
    api: &Api<DynamicObject>,
    module: &ModuleView,
    change: &Change,
) -> Result<RequestOutcome, kube::Error> {
    let VersionRef { name, uid, resource_version } = &change.target;
    let current = api.get(name).await?;
    if current.metadata.uid.as_ref() != Some(uid) {
        return Ok(RequestOutcome::Outdated);
    }
    let patch = merge_patch(module, change, &current);
    let stored = client::patch(api, name, Some(resource_version), patch).await?;
    tracing::debug!(version = name, edits = change.words(), "changed a Version");
    Ok(altered(module, change, &stored).map_or(RequestOutcome::Done, RequestOutcome::Refused))
}

async fn delete(api: &Api<DynamicObject>, target: &VersionRef) -> Result<RequestOutcome, kube::Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: Some(target.resource_version.clone()),
        }),
        ..DeleteParams::background()
    };
    api.delete(&target.name, &params).await.map(|_| RequestOutcome::Done)
}
