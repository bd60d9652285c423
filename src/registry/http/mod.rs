//! The registry's listener: TLS, connection limits, the peer's address, and shutdown.
