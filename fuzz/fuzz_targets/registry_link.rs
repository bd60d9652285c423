//! Links that unknown senders make up: the content of a key file and, after a NUL, a link.
#![no_main]

use std::sync::LazyLock;

use opendepot::domain::{Address, Release};
use opendepot::registry::link::{LinkKeys, Permit};

const NOW: u64 = 1_800_000_000;

static ADDRESS: LazyLock<Address> = LazyLock::new(|| "platform/eks/aws".parse().expect("an address"));
static RELEASE: LazyLock<Release> = LazyLock::new(|| Release::parse("21.0.0").expect("a version"));
static KEYS: LazyLock<LinkKeys> = LazyLock::new(LinkKeys::random);

fn permit(sha256: &[u8; 32]) -> Permit<'_> {
    Permit { address: &ADDRESS, release: &RELEASE, sha256 }
}

libfuzzer_sys::fuzz_target!(|raw: &[u8]| {
    let mut parts = raw.splitn(2, |byte| *byte == 0);
    let (file, link) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let link = String::from_utf8_lossy(link);
    assert!(!KEYS.permits(&link, permit(&[1; 32]), NOW), "a link of a stranger");
    let Ok(keys) = LinkKeys::parse(file) else { return };
    let good = keys.link(permit(&[1; 32]), NOW);
    assert!(keys.permits(&good, permit(&[1; 32]), NOW));
    assert!(!keys.permits(&good, permit(&[2; 32]), NOW), "other bytes");
    assert!(!keys.permits(&good, permit(&[1; 32]), NOW + 601), "it has expired");
    // The key in the second line permits its links too, and the fuzzer may find one: it sees what is compared with `good`.
    let each = file.split(|byte| *byte == b'\n').filter_map(|line| LinkKeys::parse(line).ok());
    let made: Vec<String> = each.map(|keys| keys.link(permit(&[1; 32]), NOW)).collect();
    assert!(made.contains(&good));
    // One spelling of each link: no padding, no spare bits, nothing before or after it.
    let spelled = [format!("{good}="), format!("{good}{link}"), format!("{link}{good}"), link.into_owned()];
    for other in spelled.iter().filter(|other| !made.contains(other)) {
        assert!(!keys.permits(other, permit(&[1; 32]), NOW), "{other}");
    }
});
