//! Value types and rules that every layer shares. No Kubernetes and no input or output.

pub(crate) mod address;
pub(crate) mod block;
pub(crate) mod certificates;
pub(crate) mod endpoint;
pub(crate) mod format;
pub(crate) mod hash;
pub(crate) mod location;
pub(crate) mod mutex;
pub(crate) mod names;
pub mod object_key;
pub(crate) mod release;
pub(crate) mod repository;
pub mod text;
pub(crate) mod time;

pub use address::Address;
pub use block::Block;
pub use certificates::{CertificatesError, certificates};
pub use endpoint::{Endpoint, EndpointError, canonical_endpoint, use_default_endpoint};
pub use format::ArchiveFormat;
pub(crate) use hash::hash_of;
pub use location::ObjectLocation;
pub use mutex::Mutex;
pub use object_key::{KeyError, object_key};
pub use release::Release;
pub use repository::{Reference, Repository, RepositoryError};
