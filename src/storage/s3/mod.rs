//! The S3 protocol: clients, requests, and the meaning of answers.

pub(super) mod classify;
pub(super) mod client;
mod credentials;
mod default_chain;
pub(super) mod get;
pub(super) mod headers;
pub(super) mod http;
mod identity;
mod metadata_checksum;
mod payload;
mod plain_http;
mod proxy;
pub(super) mod requests;
mod sdk_error;
