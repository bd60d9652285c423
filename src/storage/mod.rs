//! Stores objects in S3.
