//! JWTs of the issuers in `--auth-config`.

mod algorithm;
mod claims;
mod config;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod key_ring;
mod keys;
mod prefixes;
mod raw;
mod shared;
mod verify;

pub use self::config::parse;
pub use self::fetch::{Discovery, Endpoints};
pub use self::verify::{Issuer, Issuers};

#[cfg(test)]
mod tests;
