//! OpenDepot publishes releases of Terraform and OpenTofu modules from GitHub as objects in S3.
//!
//! ```text
//! kubectl ── Module ──► module::reconcile ── plan (pure) ──► apply: Version objects
//!                                                                │ watch
//! S3 ◄── storage ◄── archive (normalise, digest) ◄── github ◄── version::reconcile ── decide (pure) ──► status
//! ```
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 0 | [`domain`] | value types that every layer shares: release, repository, format, location, key, names |
//! | 0 | [`workdir`] | the folder for temporary archives |
//! | 1 | [`observe`] | health checks, metrics, logs |
//! | 2 | [`github`] | fetches archives, within GitHub's limits |
//! | 2 | [`archive`] | converts an archive to canonical bytes, and refuses dangerous contents |
//! | 2 | [`storage`] | HEAD, GET, PUT and DELETE of objects in S3, and signed URLs |
//! | 3 | [`api`] | the kinds Module and Version, and the pruned forms that the watch caches hold |
//! | 4 | [`controller`] | what the controllers share: watches, API requests, Events, failures, leader election, owner records |
//! | 5 | [`module`] | the Module controller |
//! | 5 | [`version`] | the Version controller |
//! | 5 | [`registry`] | the module registry of `opendepot serve` |
//! | 6 | [`startup`] | what both servers read and install at their start |
//! | 6 | [`command`] | the commands for users: `check`, `publish`, `source`, `archive`, `validate`, `deprecate`, `withdraw` |
//! | 7 | [`cli`] | flags, their environment variables and checks |
//! | 7 | [`operator`] | composition of the operator: clients, contexts, watches, the admin server, shutdown |
//! | 7 | [`serve`] | composition of the registry |
//!
//! # Architecture invariants
//!
//! `tests/it/layers.rs` reads the imports of production code and fails when one of these is broken.
//!
//! - A module imports only from lower layers. Within a layer, only `command` imports `startup`, and only `operator` and `serve`
//!   import `cli`.
//! - `github`, `archive` and `storage` do not import each other, and do not depend on Kubernetes.
//! - `module` and `version` do not import each other. The Module controller imports neither `github` nor `storage`; the Version
//!   controller never reads a Module, only the records in [`controller::owners`].
//! - `registry` imports neither `github` nor `module` nor `version`. It writes nothing to the API server: `tests/it/rights.rs` shows
//!   that it has no right to.
//! - There are no import circles between files.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "tables of cases are long"))]

pub mod api;
pub mod archive;
pub mod cli;
pub mod command;
pub mod controller;
pub mod domain;
pub mod github;
pub mod module;
pub mod observe;
pub mod operator;
pub mod registry;
pub mod serve;
pub mod startup;
pub mod storage;
pub mod version;
pub(crate) mod workdir;
