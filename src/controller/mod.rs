//! Parts that all controllers share: the loop of a controller, requests to the API server, Events, failures, the leader Lease and
//! the owner records.

mod bounded_client;
pub(crate) mod bulkhead;
pub mod client;
pub(crate) mod connection;
pub(crate) mod events;
pub mod failure;
pub(crate) mod force_throttle;
pub(crate) mod json_pruner;
pub(crate) mod lease;
pub(crate) mod object_metrics;
pub(crate) mod owners;
pub(crate) mod runner;
pub(crate) mod watch;
mod without_secrets;
pub(crate) mod work_queue;
