//! The `opendepot` binary.

fn main() {}
