//! The module registry of `opendepot serve`, from which Terraform and OpenTofu install modules by address.
//!
//! It watches Modules and Versions, answers from memory, and writes nothing. Kubernetes RBAC is the access list.
//!
//! | folder or file | content |
//! |---|---|
//! | `index` | which Module is served at which address, and which versions it has: folded from both watches |
//! | `handler` | answers requests |
//! | `page` | pages for people, and the API that finds modules |
//! | `path` | the paths of the API |
//! | `responses` | answers of fixed words |
//! | `answers` | bodies of answers |
//! | `auth` | who sends a request, and what this identity may download |
//! | `link` | archive links, which carry a permission for at most ten minutes |
//! | `key_file` | the keys of links |
//! | `reread` | reads the files of mounted Secrets again |
//! | `seal` | cookies that only this registry can read |
//! | `session` | signing in to the page and with `terraform login`: sessions in cookies, the identity provider |
//! | `aliases` | second names of namespaces |
//! | `client` | the client of a request, from its headers |
//! | `metrics` | the metrics of `opendepot serve` |
//! | `archive` | answers to archive links: a redirect to S3, or a stream |
//! | `credentials` | the credentials helper of Terraform and OpenTofu, which gets tokens for a registry |
//! | `docs` | documentation of a module, read from its archive |
//! | `http` | the listener: TLS, connection limits, peers, shutdown |

pub mod aliases;
pub(crate) mod answers;
pub mod archive;
pub mod auth;
pub(crate) mod client;
pub mod credentials;
pub mod docs;
pub mod handler;
pub mod http;
pub mod index;
pub mod key_file;
pub mod link;
pub mod metrics;
pub mod page;
pub mod path;
pub mod reread;
mod responses;
mod seal;
pub mod session;
