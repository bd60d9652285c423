//! The module registry of `opendepot serve`, from which Terraform and OpenTofu install modules by address.
//!
//! It watches Modules and Versions, answers from memory, and writes nothing. Kubernetes RBAC is the access list.
//!
//! | folder or file | content |
//! |---|---|
//! | `index` | which Module is served at which address, and which versions it has: folded from both watches |
//! | `path` | the paths of the API |
//! | `answers` | bodies of answers |
//! | `auth` | who sends a request, and what this identity may download |
//! | `link` | archive links, which carry a permission for at most ten minutes |
//! | `archive` | answers to archive links: a redirect to S3, or a stream |
//! | `http` | the listener: TLS, connection limits, peers, shutdown |

pub mod answers;
pub mod archive;
pub mod auth;
pub mod http;
pub mod index;
pub mod link;
pub mod metrics;
pub mod path;
