//! Reads what GitHub sends and writes what S3 keeps.
