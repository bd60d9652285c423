//! JWTs of the issuers in `--auth-config`.

mod algorithm;
mod claims;
mod config;
mod fetch;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod key_ring;
mod keys;
mod prefixes;
mod raw;
mod shared;
mod verify;

pub(super) use self::config::parse;
pub use self::fetch::{Discovery, Endpoints};
pub use self::verify::Issuer;
pub(super) use self::verify::Issuers;

#[cfg(test)]
mod tests;
