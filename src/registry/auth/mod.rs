//! Who sends a request, and what this identity may download.
//!
//! The answer never depends on whether the module exists: permission is checked first.
//!
//! ```text
//! headers ─► bearer ─┬─ none: anonymous
//!                    ├─ odt_…: static_tokens
//!                    ├─ JWT of a configured issuer: jwt
//!                    └─ else: review (TokenReview)          ─► Identity ─► review (SubjectAccessReview)
//! ```

mod access;
mod audience;
mod bearer;
mod bounded;
mod denied;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod identify;
mod identity;
mod jwt;
mod limits;
mod module_ref;
mod refusal_log;
mod review;
mod review_cache;
mod reviews;
mod settings;
mod static_tokens;
pub(super) mod token;
pub(super) mod untrusted_json;

pub use self::access::Access;
pub use self::audience::own_token;
pub use self::denied::Denied;
pub use self::identity::{Identity, Kind};
pub use self::jwt::{Discovery, Endpoints, Issuer};
pub use self::module_ref::ModuleRef;
pub use self::review::Right;
pub use self::settings::{AccessError, AccessSettings};

#[cfg(test)]
pub(super) mod tests;
