//! The registry's listener: TLS, connection limits, the peer's address, and shutdown.
//!
//! HTTP/1.1 only, over TLS by ALPN: clients print the reason phrase of an answer, and HTTP/2 has none.
//!
//! | file | content |
//! |---|---|
//! | `server` | [`serve`]: accepts connections until it is stopped |
//! | `connection` | one connection: handshake, requests, shutdown |
//! | `service` | from a connection's requests to the handler: the peer, rules for every request, panics |
//! | `rules` | what no request may contain |
//! | `activity` | what a connection does at the moment, and when it has taken too long |
//! | `socket` | the socket, which records its activity |
//! | `connections` | the open connections, and which one makes room |
//! | `peer` | the client's address behind trusted proxies |
//! | `tls`, `not_after` | the certificate, read again while it is served |
//! | `answer` | answers with a reason phrase |
//! | `entity_tag` | whether a client already has the content that it requests |
//! | `stop` | the stages of shutdown |

mod activity;
pub mod answer;
mod connection;
mod connections;
pub mod entity_tag;
mod limits;
mod not_after;
mod peer;
mod rules;
mod server;
mod service;
mod socket;
mod stop;
#[cfg(test)]
mod tests;
mod tls;

pub use answer::Body;
pub(super) use connections::count_down;
pub use limits::{Limits, MinimumRate};
pub use peer::{Peer, TrustedProxies};
pub use server::serve;
pub use service::Handler;
pub use stop::{Stop, Stopper};
pub use tls::{Tls, TlsError};
