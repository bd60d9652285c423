//! Checks of names that become parts of host names, addresses and object names.

/// A legal bucket name. Anything else could reach another bucket, or an access point, past the rules.
pub fn is_bucket_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().copied().all(legal)
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
}

/// A region's name, as one label of a host name.
pub fn is_region(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A DNS label in lower case, as names of namespaces are (RFC 1123).
pub fn is_dns_label(name: &str) -> bool {
    is_region(name)
        && !name.bytes().any(|byte| byte.is_ascii_uppercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
}
