//! Checks of names that become parts of host names, addresses and object names.

use url::quirks::domain_to_unicode;

/// Whether this is a valid bucket name. Other names could address another bucket or an access point, past the rules.
pub(crate) fn is_bucket_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let edge = |c: char| c.is_ascii_alphanumeric();
    (3..=63).contains(&name.len())
        && name.bytes().all(legal)
        && name.starts_with(edge)
        && name.ends_with(edge)
        && !name.contains("..")
}

/// Whether this is a valid region: one label of a host name.
pub(crate) fn is_region(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether this is a lower-case DNS label (RFC 1123), such as the name of a namespace.
pub(crate) fn is_dns_label(name: &str) -> bool {
    is_dns_subdomain(name, 63) && !name.contains('.')
}

/// Whether this is a lower-case DNS subdomain (RFC 1123) of at most `max` bytes, such as the name of an object.
pub(crate) fn is_dns_subdomain(name: &str, max: usize) -> bool {
    let label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(legal) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= max && name.split('.').all(label)
}

/// Whether Terraform and OpenTofu accept this as the host of a module's address: a name with a dot, in its Unicode form, and perhaps
/// a port.
pub(crate) fn is_registry_host(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "443"));
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
            && !label.ends_with('-')
    };
    let is_name = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    is_name && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// The same `HOST[:PORT]` in the form that Terraform and OpenTofu accept: an international name in Unicode.
pub(crate) fn unicode_host(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // Empty for an IP address, and for what is no host.
    let unicode = domain_to_unicode(name);
    if unicode.is_empty() { host.to_owned() } else { host.replacen(name, &unicode, 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_international_host_is_in_unicode_and_any_other_is_unchanged() {
        assert_eq!(unicode_host("xn--mdulos-bxa.acme.io:8443"), "módulos.acme.io:8443");
        for host in ["módulos.acme.io", "acme.io", "192.0.2.1:8443", "[::1]", "[::1]:8443", "https://a", ""]
        {
            assert_eq!(unicode_host(host), host);
        }
    }

    #[test]
    fn the_host_of_a_registry_is_one_that_the_clients_take() {
        for (host, is_taken) in [
            ("registry.acme.io", true),
            ("registry.acme.io:8443", true),
            ("192.0.2.1:8443", true),
            ("módulos.acme.io", true),
            ("localhost:8443", false),
            ("registry", false),
            ("xn--mdulos-bxa.acme.io", false),
            ("registry.XN--mdulos-bxa.io", false),
            ("[::1]:8443", false),
            ("my_registry:8443", false),
            ("my_registry.acme.io", false),
            (".", false),
            ("acme.", false),
            ("-a.acme.io", false),
            ("acme.io:", false),
            ("acme.io:+443", false),
            ("acme.io:70000", false),
            ("", false),
        ] {
            assert_eq!(is_registry_host(host), is_taken, "{host}");
        }
    }

    #[test]
    fn subdomains_are_labels_with_dots_between() {
        for (name, legal) in [
            ("a", true),
            ("opendepot-staging.1", true),
            ("", false),
            ("a..b", false),
            (".a", false),
            ("a.", false),
            ("-a", false),
            ("a-.b", false),
            ("A", false),
            ("a_b", false),
        ] {
            assert_eq!(is_dns_subdomain(name, 253), legal, "{name:?}");
        }
        assert!(is_dns_subdomain(&"a".repeat(230), 230) && !is_dns_subdomain(&"a".repeat(231), 230));
    }
}
