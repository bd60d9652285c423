//! Value types and rules that every layer shares. No Kubernetes and no input or output.

pub mod address;
pub mod endpoint;
pub mod format;
pub mod location;
pub mod names;
pub mod object_key;
pub mod release;
pub mod repository;
pub mod text;
pub mod time;

pub use address::Address;
pub use endpoint::{Endpoint, EndpointError, canonical_endpoint, use_default_endpoint};
pub use format::ArchiveFormat;
pub use location::ObjectLocation;
pub use object_key::{KeyError, object_key};
pub use release::Release;
pub use repository::{Repository, RepositoryError};
