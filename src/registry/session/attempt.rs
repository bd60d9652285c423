//! A sign-in that waits for the identity provider, as its cookie has it. Pure.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long people have at the provider, in seconds.
pub(super) const LIFETIME: u64 = 10 * 60;
const RANDOM_BYTES: usize = 32;

/// What binds the provider's answer to the browser that was sent there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub state: [u8; RANDOM_BYTES],
    pub nonce: [u8; RANDOM_BYTES],
    pub verifier: [u8; RANDOM_BYTES],
    /// The local path that the browser is sent to at the end.
    pub back: String,
    /// In Unix seconds.
    pub end: u64,
}

impl Attempt {
    pub fn new(back: &str, now: u64) -> Self {
        Self {
            state: rand::random(),
            nonce: rand::random(),
            verifier: rand::random(),
            back: back.to_owned(),
            end: now.saturating_add(LIFETIME),
        }
    }

    /// The content of a cookie.
    pub fn content(&self) -> Vec<u8> {
        let Self { state, nonce, verifier, back, end } = self;
        [end.to_be_bytes().as_slice(), state, nonce, verifier, back.as_bytes()].concat()
    }

    /// The attempt in a cookie, if it has not ended.
    pub fn open(content: &[u8], now: u64) -> Option<Self> {
        let (end, rest) = content.split_first_chunk::<8>()?;
        let (state, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (verifier, back) = rest.split_first_chunk()?;
        let end = u64::from_be_bytes(*end);
        let back = std::str::from_utf8(back).ok()?.to_owned();
        let attempt = Self { state: *state, nonce: *nonce, verifier: *verifier, back, end };
        (now < end).then_some(attempt)
    }

    /// Whether this is the attempt's `state`.
    pub fn has_state(&self, state: &str) -> bool {
        verify_slices_are_equal(text(&self.state).as_bytes(), state.as_bytes()).is_ok()
    }
}

/// Random bytes as they stand in URLs and claims.
pub(super) fn text(random: &[u8; RANDOM_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}
