mod access;
pub(crate) mod doubles;
mod headers;
mod limits;
mod review;
mod review_cache;
mod static_tokens;

use std::net::{IpAddr, Ipv4Addr};

use crate::registry::http::Peer;

/// The peer of most tests.
const PEER: Peer = Peer::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
