mod access;
pub(crate) mod doubles;
mod headers;
mod limits;
mod review;
mod review_cache;
mod static_tokens;

use std::net::IpAddr;

/// The peer of most tests.
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
