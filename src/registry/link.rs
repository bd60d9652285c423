//! Archive links: a permission to download one archive, for five to ten minutes. The clients send no token with an archive
//! request, so the link carries the decision.
//!
//! A link is base64url without padding of its expiry (Unix seconds, 4 bytes, big-endian) and the first 16 bytes of an
//! HMAC-SHA-256 over what it permits.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::seal::SealingKey;
use crate::domain::text::hex;
use crate::domain::{Address, Release};

/// Links of one window are equal, so that OpenTofu downloads an archive once for several submodules.
const WINDOW: u64 = 300;
/// The furthest expiry that is accepted, in seconds from now: two windows, and five minutes by which the clock of its replica may
/// be ahead.
const FURTHEST_EXPIRY: u64 = 2 * WINDOW + 300;
const EXPIRY_BYTES: usize = 4;
const MAC_BYTES: usize = 16;
/// The shortest key, in bytes.
pub const SHORTEST_KEY: usize = 32;

/// What a link permits.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'a> {
    /// The address, with the namespace's own name.
    pub address: &'a Address,
    pub release: &'a Release,
    /// SHA-256 of the archive.
    pub sha256: &'a [u8; 32],
}

/// The keys that links are made and checked with, and the keys of cookies that are derived from them.
pub struct LinkKeys {
    current: Keys,
    previous: Option<Keys>,
}

struct Keys {
    link: Key,
    cookies: SealingKey,
}

impl Keys {
    fn new(key: &[u8]) -> Self {
        Self { link: Key::new(HMAC_SHA256, key), cookies: SealingKey::derive(key) }
    }
}

/// What is wrong with a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    #[error(
        "holds no key: write a line of 32 or more random characters, such as the output of openssl rand -hex 32"
    )]
    Empty,
    #[error(
        "has a key of fewer than 32 bytes in line {0}: write a longer one, such as the output of openssl rand -hex 32"
    )]
    Short(usize),
    #[error("has more than two lines: the first is the current key, the second the previous one")]
    TooMany,
}

impl LinkKeys {
    /// Reads the lines of a key file: the current key and, on a second line, the previous one.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidKeys> {
        let mut lines = text
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .enumerate();
        let key = |(index, line): (usize, &[u8])| {
            if line.len() < SHORTEST_KEY { Err(InvalidKeys::Short(index + 1)) } else { Ok(Keys::new(line)) }
        };
        let mut filled = lines.by_ref().filter(|(_, line)| !line.is_empty());
        let current = key(filled.next().ok_or(InvalidKeys::Empty)?)?;
        let previous = filled.next().map(key).transpose()?;
        if filled.next().is_some() {
            return Err(InvalidKeys::TooMany);
        }
        Ok(Self { current, previous })
    }

    /// A random key, which no other replica has.
    pub fn random() -> Self {
        Self { current: Keys::new(&rand::random::<[u8; 32]>()), previous: None }
    }

    /// The link for a permit at a time in Unix seconds.
    pub fn link(&self, permit: Permit<'_>, now: u64) -> String {
        let expiry = expiry(now);
        let mut bytes = expiry.to_be_bytes().to_vec();
        bytes.extend(mac(&self.current.link, permit, expiry));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether a link is valid for a permit at a time in Unix seconds. Takes the same time for any link: a MAC is computed
    /// with each key, whatever the link is.
    pub fn permits(&self, link: &str, permit: Permit<'_>, now: u64) -> bool {
        let whole = decoded(link);
        let (expiry, sent) = whole.unwrap_or_default();
        let signed = |keys: &Keys| verify_slices_are_equal(&mac(&keys.link, permit, expiry), &sent).is_ok();
        let by_current = signed(&self.current);
        let by_previous = self.previous.as_ref().is_some_and(signed);
        (by_current | by_previous) && whole.is_some() && now < u64::from(expiry)
    }

    /// Seals a cookie with the current key.
    pub fn seal(&self, name: &str, content: &[u8]) -> Option<String> {
        self.current.cookies.seal(name, content)
    }

    /// Opens a cookie that was sealed with the current or the previous key.
    pub fn open(&self, name: &str, value: &str) -> Option<Vec<u8>> {
        let open = |keys: &Keys| keys.cookies.open(name, value);
        open(&self.current).or_else(|| self.previous.as_ref().and_then(open))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Whether a link has the form and an expiry of those that replicas make, whose clocks may be ahead.
pub fn is_current(link: &str, now: u64) -> bool {
    decoded(link)
        .map(|(expiry, _)| u64::from(expiry))
        .is_some_and(|expiry| now < expiry && expiry <= now + FURTHEST_EXPIRY)
}

/// The expiry and the MAC of a link.
fn decoded(link: &str) -> Option<(u32, [u8; MAC_BYTES])> {
    let bytes = URL_SAFE_NO_PAD.decode(link).ok()?;
    let (expiry, mac) = bytes.split_first_chunk::<EXPIRY_BYTES>()?;
    Some((u32::from_be_bytes(*expiry), mac.try_into().ok()?))
}

/// The end of the next window. The field lasts until 2106.
fn expiry(now: u64) -> u32 {
    u32::try_from((now / WINDOW + 2) * WINDOW).unwrap_or(u32::MAX)
}

fn mac(key: &Key, permit: Permit<'_>, expiry: u32) -> [u8; MAC_BYTES] {
    let Address { namespace, name, system } = permit.address;
    let text =
        format!("v1\n{namespace}\n{name}\n{system}\n{}\n{}\n{expiry}", permit.release, hex(permit.sha256));
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&sign(key, text.as_bytes()).as_ref()[..MAC_BYTES]);
    mac
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OTHER: &[u8] = b"fedcba9876543210fedcba9876543210";

    fn keys(lines: &[&[u8]]) -> LinkKeys {
        LinkKeys::parse(&lines.join(&b'\n')).unwrap()
    }

    #[test]
    fn a_link_permits_one_archive_until_the_end_of_the_next_window() {
        let address: Address = "platform/eks/aws".parse().unwrap();
        let release = Release::parse("21.18.0").unwrap();
        let sha256 = [7; 32];
        let permit = Permit { address: &address, release: &release, sha256: &sha256 };
        let keys = keys(&[KEY]);
        let now = 1_800_000_010;
        let link = keys.link(permit, now);
        assert_eq!(link, keys.link(permit, now + 289), "one window, one link");
        assert_ne!(link, keys.link(permit, now + 290));
        let expiry = 1_800_000_600;
        for (at, valid) in [(now, true), (expiry - 1, true), (expiry, false), (expiry + 1, false)] {
            assert_eq!(keys.permits(&link, permit, at), valid, "{at}");
        }
        for other in ["platform/eks/gcp", "platform/vpc/aws", "acme/eks/aws", "platforme/ks/aws"] {
            let address = other.parse().unwrap();
            assert!(!keys.permits(&link, Permit { address: &address, ..permit }, now), "{other}");
        }
        let other_release = Release::parse("21.18.1").unwrap();
        assert!(!keys.permits(&link, Permit { release: &other_release, ..permit }, now));
        assert!(!keys.permits(&link, Permit { sha256: &[8; 32], ..permit }, now));
        // The last character has two bits that mean nothing.
        let (start, last) = link.split_at(link.len() - 1);
        let similar = char::from(last.as_bytes()[0] + 1);
        assert!(!keys.permits(&format!("{start}{similar}"), permit, now), "{link} is the only spelling");
        // Another expiry, padding, and texts that are no link.
        let late = {
            let mut bytes = URL_SAFE_NO_PAD.decode(&link).unwrap();
            bytes[3] ^= 1;
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let longer = format!("{link}AA");
        let padded = format!("{link}=");
        for odd in [late.as_str(), &longer, &padded, &link[1..], "", "AAAA", "../..", "é"] {
            assert!(!keys.permits(odd, permit, now), "{odd}");
        }
        assert!(!keys.permits(&URL_SAFE_NO_PAD.encode([255; 20]), permit, now));
    }

    #[test]
    fn a_link_is_what_the_specification_says() {
        let address: Address = "platform/eks/aws".parse().unwrap();
        let release = Release::parse("v21.18.0+b1").unwrap();
        let permit = Permit { address: &address, release: &release, sha256: &[7; 32] };
        let text = format!("v1\nplatform\neks\naws\n21.18.0+b1\n{}\n1800000600", "07".repeat(32));
        let mac = sign(&Key::new(HMAC_SHA256, KEY), text.as_bytes());
        let bytes = [&1_800_000_600_u32.to_be_bytes()[..], &mac.as_ref()[..16]].concat();
        assert_eq!(keys(&[KEY]).link(permit, 1_800_000_000), URL_SAFE_NO_PAD.encode(bytes));
    }

    #[test]
    fn links_are_of_one_alphabet() {
        let address: Address = "a/b/c".parse().unwrap();
        let keys = keys(&[KEY]);
        let mut seen = 0;
        for number in 0..20 {
            let release = Release::parse(&format!("1.0.{number}")).unwrap();
            let permit = Permit { address: &address, release: &release, sha256: &[1; 32] };
            let link = keys.link(permit, 1_800_000_000);
            let other = link.replace('-', "+").replace('_', "/");
            assert!(other == link || !keys.permits(&other, permit, 1_800_000_000));
            seen += usize::from(other != link);
        }
        assert!(seen > 0);
    }

    proptest! {
        #[test]
        fn clocks_of_replicas_may_differ_by_five_minutes(now in 1_000_000_u64..4_000_000_000, ahead in 0..=300_u64) {
            let address: Address = "a/b/c".parse().unwrap();
            let release = Release::parse("1.0.0").unwrap();
            let permit = Permit { address: &address, release: &release, sha256: &[1; 32] };
            let keys = keys(&[KEY]);
            let link = keys.link(permit, now);
            prop_assert!(keys.permits(&link, permit, now + ahead), "checked by a clock that is ahead");
            prop_assert!(keys.permits(&link, permit, now - ahead), "checked by a clock that is behind");
            prop_assert!(!keys.permits(&link, permit, now + 601));
        }
    }

    #[test]
    fn the_previous_key_is_accepted_until_it_is_removed() {
        let address: Address = "a/b/c".parse().unwrap();
        let release = Release::parse("1.0.0").unwrap();
        let permit = Permit { address: &address, release: &release, sha256: &[1; 32] };
        let link = keys(&[KEY]).link(permit, 1_800_000_000);
        assert!(keys(&[OTHER, KEY]).permits(&link, permit, 1_800_000_000));
        assert!(!keys(&[OTHER]).permits(&link, permit, 1_800_000_000));
        assert_ne!(keys(&[OTHER, KEY]).link(permit, 1_800_000_000), link);
        let cookie = keys(&[KEY]).seal("name", b"content").unwrap();
        assert!(keys(&[OTHER, KEY]).open("name", &cookie).is_some());
        assert_eq!(keys(&[OTHER]).open("name", &cookie), None);
        let rotated = keys(&[OTHER, KEY]).seal("name", b"content").unwrap();
        assert_eq!(keys(&[KEY]).open("name", &rotated), None, "sealed with the current key");
    }

    #[test]
    fn a_key_is_changed_in_three_steps_whose_order_among_replicas_does_not_matter() {
        let address: Address = "a/b/c".parse().unwrap();
        let release = Release::parse("1.0.0").unwrap();
        let permit = Permit { address: &address, release: &release, sha256: &[1; 32] };
        let accepts = |by: &[&[u8]], from: &[&[u8]]| {
            keys(by).permits(&keys(from).link(permit, 1_800_000_000), permit, 1_800_000_000)
        };
        let steps: [&[&[u8]]; 4] = [&[KEY], &[KEY, OTHER], &[OTHER, KEY], &[OTHER]];
        for pair in steps.windows(2) {
            assert!(accepts(pair[0], pair[1]) && accepts(pair[1], pair[0]));
        }
        assert!(!accepts(steps[0], steps[2]), "without the first step, replicas that are late refuse links");
    }

    #[test]
    fn a_key_file_has_one_or_two_long_lines() {
        let parse = |text: &[u8]| LinkKeys::parse(text).map(|keys| keys.previous.is_some());
        assert_eq!(parse(KEY), Ok(false));
        assert_eq!(parse(&[KEY, b"\n"].concat()), Ok(false));
        assert_eq!(parse(&[KEY, b"\r\n", OTHER, b"\r\n"].concat()), Ok(true));
        assert_eq!(parse(b""), Err(InvalidKeys::Empty));
        assert_eq!(parse(b"\n\n"), Err(InvalidKeys::Empty));
        assert_eq!(parse(b"short"), Err(InvalidKeys::Short(1)));
        assert_eq!(parse(&[KEY, b"\nshort"].concat()), Err(InvalidKeys::Short(2)));
        assert_eq!(parse(&[KEY, b"\n", OTHER, b"\n", KEY].concat()), Err(InvalidKeys::TooMany));
    }
}
