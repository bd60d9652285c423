//! The client's address: of the socket, or behind trusted proxies that of `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client of a request, as limits count it: its address, or the /64 network of an IPv6 address, since a client can use all of
/// it. IPv4 addresses are never in their IPv6 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self(address),
            IpAddr::V6(own) => Self(IpAddr::V6(Ipv6Addr::from_bits(own.to_bits() & (u128::MAX << 64)))),
        }
    }
}

/// A network of IPv4 addresses in IPv6 form, as one of IPv4: addresses of sockets are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let mapped = network.addr().to_canonical();
    let prefix = network.prefix_len().checked_sub(96).filter(|_| mapped != network.addr());
    prefix.and_then(|prefix| IpNet::new(mapped, prefix).ok()).unwrap_or(network)
}

/// The proxies of `--trusted-proxy`, whose `X-Forwarded-For` counts.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    warned: AtomicBool,
}

impl TrustedProxies {
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { networks: networks.into_iter().map(canonical).collect(), warned: AtomicBool::new(false) }
    }

    /// Whether an address is one of a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from this socket.
    pub fn peer(&self, socket: IpAddr, headers: &HeaderMap) -> Peer {
        let socket = socket.to_canonical();
        if self.contains(socket) {
            return Peer::of(self.forwarded(socket, headers));
        }
        self.warn_of_unknown_proxy(socket, headers);
        Peer::of(socket)
    }

    /// The rightmost address that is no trusted proxy. Each proxy appends the address that it was called from, so everything
    /// to the left of an untrusted address, or of a text that is no address, was written by the client.
    fn forwarded(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = socket;
        for value in headers.get_all(FORWARDED_FOR).into_iter().rev() {
            for entry in value.as_bytes().rsplit(|byte| *byte == b',') {
                let Some(address) = address(entry) else { return nearest };
                if !self.contains(address) {
                    return address;
                }
                nearest = address;
            }
        }
        nearest
    }

    /// A private address that sends the header is most likely a proxy. Without the flag, all its clients share the limits of
    /// one.
    fn warn_of_unknown_proxy(&self, socket: IpAddr, headers: &HeaderMap) {
        if self.networks.is_empty()
            && headers.contains_key(FORWARDED_FOR)
            && is_private(socket)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                peer = %socket,
                "a request has the header X-Forwarded-For, which is ignored: all clients of this proxy share one client's limits; \
                 name the proxy's network with --trusted-proxy"
            );
        }
    }
}

/// An entry of the header: an address, with a port that some proxies add.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse::<IpAddr>().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unique_local() || address.is_loopback() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()))
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn peer(proxies: &TrustedProxies, socket: &str, values: &[&str]) -> String {
        proxies.peer(socket.parse().unwrap(), &headers(values)).0.to_string()
    }

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        let mapped = proxies(&["::ffff:10.0.0.0/104"]);
        assert_eq!(peer(&mapped, "10.1.2.3", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(peer(&mapped, "11.1.2.3", &["192.0.2.1"]), "11.1.2.3");
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let trusted = proxies(&["10.0.0.0/8", "fd00::/8"]);
        for (socket, values, client) in [
            ("10.0.0.1", &["192.0.2.1"][..], "192.0.2.1"),
            ("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::"),
            ("10.0.0.1", &["6.6.6.6, 192.0.2.1, 10.2.3.4"], "192.0.2.1"),
            ("10.0.0.1", &["6.6.6.6", "192.0.2.1", "10.2.3.4"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::"),
            ("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1"),
            // All are proxies: the leftmost called the others.
            ("10.0.0.1", &["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
            // What is no address hides everything to the left of it.
            ("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, , 10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // From another address, the header is the client's own text.
            ("192.0.2.9", &["192.0.2.1"], "192.0.2.9"),
        ] {
            assert_eq!(peer(&trusted, socket, values), client, "{socket} {values:?}");
        }
    }

    #[test]
    fn without_the_flag_the_header_is_ignored_and_a_private_peer_is_warned_of_once() {
        let none = TrustedProxies::default();
        assert_eq!(peer(&none, "192.0.2.9", &["192.0.2.1"]), "192.0.2.9");
        assert!(!none.warned.load(Ordering::Relaxed), "a public address may send what it likes");
        assert_eq!(peer(&none, "10.0.0.1", &[]), "10.0.0.1");
        assert!(!none.warned.load(Ordering::Relaxed));
        assert_eq!(peer(&none, "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
        assert!(none.warned.load(Ordering::Relaxed));
        let named = proxies(&["172.16.0.0/12"]);
        peer(&named, "10.0.0.1", &["192.0.2.1"]);
        assert!(!named.warned.load(Ordering::Relaxed), "the flag is set");
    }

    #[test]
    fn limits_count_an_ipv6_network_as_one() {
        let network = |address: &str| Peer::of(address.parse().unwrap()).0.to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        #[test]
        fn nothing_left_of_an_untrusted_address_counts(left in "[ -~]{0,40}", right in any::<u32>(), hops in 0..4_usize) {
            let right = std::net::Ipv4Addr::from(right);
            prop_assume!(right.octets()[0] != 10);
            let hops = ", 10.1.2.3".repeat(hops);
            let value = HeaderValue::from_str(&format!("{left},{right}{hops}")).unwrap();
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), value)]);
            let peer = proxies(&["10.0.0.0/8"]).peer("10.0.0.1".parse().unwrap(), &headers);
            prop_assert_eq!(peer, Peer::of(right.into()));
        }

        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), value)]);
                proxies(&["10.0.0.0/8"]).peer("10.0.0.1".parse().unwrap(), &headers);
            }
        }
    }
}
