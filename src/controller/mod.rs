//! Parts that all controllers share: the loop of a controller, requests to the API server, Events, failures, the leader lease and the record
//! of Modules that own Versions.

pub mod client;
pub mod connection;
pub mod events;
pub mod failure;
pub mod force_throttle;
pub mod lease;
pub mod object_metrics;
pub mod owners;
pub mod runner;
pub mod watch;
pub mod work_queue;
