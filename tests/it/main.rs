//! OpenDepot as its users meet it: the built binary against a real control plane, a real S3 server and a local GitHub.
//!
//! One test program, so that all tests share one set of servers; each test has a namespace and a bucket of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::format_collect, missing_docs)]

mod admin;
mod api_reference;
mod bad_input;
mod commands;
mod compatibility;
mod conditions;
mod conformance;
mod costs;
mod crds;
mod credentials;
mod deploy;
mod digest_record;
mod docs;
mod examples;
mod flags;
mod force;
mod force_crash;
mod github_answers;
mod gitops;
mod held;
mod history;
mod immutable;
mod keeping;
mod kubectl;
mod large;
mod leadership;
mod least_rights;
mod life;
mod memory;
mod model;
mod monitoring;
mod moves;
mod odd_archives;
mod procedures;
mod project;
mod rate_limits;
mod refusals;
mod refused_puts;
mod requests;
mod restore;
mod retain;
mod rights;
mod seed;
mod spelling;
mod storage_faults;
mod stores;
mod support;
mod tenants;
mod terraform;
mod version_writes;
mod waiting;
mod workflows;
mod write_once;
