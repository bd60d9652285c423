//! OpenDepot turns a release of a Terraform or OpenTofu module on GitHub into an object in S3 that Terraform can use.
//!
//! ```text
//! kubectl ── Module ──► module::reconcile ── plan (pure) ──► apply: Version objects
//!                                                                │ watch
//! S3 ◄── storage ◄── archive (normalise, digest) ◄── github ◄── version::reconcile ── plan (pure) ──► status
//! ```
//!
//! One direction, no loop-backs: the Module controller knows nothing of GitHub or S3, the Version controller never reads
//! a Module, and `github`, `archive` and `storage` know nothing of Kubernetes.
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | flags, their environment twins and checks |
//! | [`operator`] | the composition root: clients, contexts, the admin server, one way to stop |
//! | [`scope`] | the watches and controllers of the cluster, or of one namespace |
//! | [`crd`] | the kinds Module and Version, and the lean forms that the watches keep |
//! | [`module`] | the Module controller |
//! | [`version`] | the Version controller |
//! | [`github`] | fetches archives, within GitHub's limits |
//! | [`archive`] | makes the same bytes of the same commit, and refuses what is dangerous |
//! | [`storage`] | puts objects into S3 and looks after them |
//! | [`owners`] | policies and recorded digests of the Modules, in memory: all that the Version controller knows of a Module |
//! | [`failure`] | the one table of failures: reason, class, back-off |
//! | [`lease`] | leader election: one process works, the others wait |
//! | [`api`] | merge patches with resourceVersion |
//! | [`events`], [`metrics`], [`census`], [`admin`], [`liveness`], [`telemetry`] | what operators of the operator see |
//! | [`spool`] | the folder where archives wait on disk |

pub mod admin;
pub mod api;
pub mod archive;
pub mod census;
pub mod cli;
pub mod crd;
pub mod events;
pub mod failure;
pub mod github;
pub mod lease;
pub mod liveness;
pub mod metrics;
pub mod module;
pub mod operator;
pub mod owners;
pub mod scope;
pub mod spool;
pub mod storage;
pub mod telemetry;
pub mod version;
