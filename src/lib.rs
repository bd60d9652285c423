//! OpenDepot turns a release of a Terraform module on GitHub into an object in S3 that Terraform can use.

pub mod archive;
pub mod github;
pub mod storage;
