//! Cookies that only this registry can read and write: AES-256-GCM with a key derived from the link key, so that all replicas
//! open what one has sealed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const SALT: &[u8] = b"opendepot registry";
const INFO: &[u8] = b"cookies";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Bytes that sealing adds to a content.
pub(super) const OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

/// A key for cookies.
pub(super) struct SealingKey([u8; 32]);

impl SealingKey {
    /// HKDF-SHA-256 (RFC 5869) of the link key. One block of output is all that is needed.
    pub(super) fn derive(link_key: &[u8]) -> Self {
        let extracted = sign(&Key::new(HMAC_SHA256, SALT), link_key);
        let expanded = sign(&Key::new(HMAC_SHA256, extracted.as_ref()), &[INFO, &[1]].concat());
        let mut key = [0; 32];
        key.copy_from_slice(expanded.as_ref());
        Self(key)
    }

    /// The value of a cookie. What was sealed under one name cannot be opened under another. `None` if the cipher fails.
    pub(super) fn seal(&self, name: &str, content: &[u8]) -> Option<String> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let mut sealed = content.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &sealed].concat()))
    }

    /// The content of a cookie that was sealed with this key under this name.
    pub(super) fn open(&self, name: &str, value: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()?;
        let mut content = sealed.to_vec();
        let opened =
            key.open_in_place(Nonce::from(nonce), Aad::from(name.as_bytes()), &mut content).ok()?.len();
        content.truncate(opened);
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
    use proptest::prelude::*;

    use super::*;

    const LINK_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn the_key_is_that_of_hkdf() {
        let mut key = [0; 32];
        let extracted = Salt::new(HKDF_SHA256, SALT).extract(LINK_KEY);
        extracted.expand(&[INFO], HKDF_SHA256).unwrap().fill(&mut key).unwrap();
        assert_eq!(SealingKey::derive(LINK_KEY).0, key);
    }

    #[test]
    fn a_cookie_opens_with_its_key_and_its_name_only() {
        let key = SealingKey::derive(LINK_KEY);
        let sealed = key.seal("session", b"content").unwrap();
        assert_eq!(key.open("session", &sealed).as_deref(), Some(b"content".as_slice()));
        assert_ne!(key.seal("session", b"content").unwrap(), sealed, "a new nonce each time");
        assert_eq!(key.open("sign-in", &sealed), None);
        assert_eq!(SealingKey::derive(b"another link key").open("session", &sealed), None);
        for odd in ["", "AAAA", "é", &"A".repeat(38), &format!("{sealed}="), &sealed[1..]] {
            assert_eq!(key.open("session", odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_noticed(content: Vec<u8>, at: prop::sample::Index, bit in 0_u8..8) {
            let key = SealingKey::derive(LINK_KEY);
            let sealed = key.seal("session", &content).unwrap();
            prop_assert_eq!(key.open("session", &sealed), Some(content));
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key.open("session", &URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn no_value_panics(value in ".{0,80}") {
            prop_assert_eq!(SealingKey::derive(LINK_KEY).open("session", &value), None);
        }
    }
}
