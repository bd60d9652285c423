//! The content of a session: when it ends, and the token. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use super::cookie::LONGEST_CONTENT;

/// A session does not last longer, in seconds.
const LONGEST_SESSION: u64 = 12 * 60 * 60;

const RAW: u8 = 0;
const JWT: u8 = 1;

/// When a session ends that begins now with a token that expires then. All in Unix seconds.
pub(super) fn end(now: u64, expires: Option<u64>) -> u64 {
    let longest = now.saturating_add(LONGEST_SESSION);
    expires.map_or(longest, |expires| expires.min(longest))
}

/// The longest token of a session, in bytes.
pub(super) const LONGEST_TOKEN: usize = 3 << 10;

/// Whether a token fits into a cookie. One that is no JWT takes more room.
pub(super) fn fits(token: &str) -> bool {
    token.len() <= LONGEST_TOKEN && content(token, 0).len() <= LONGEST_CONTENT
}

/// The content of a cookie.
pub(super) fn content(token: &str, end: u64) -> Vec<u8> {
    let mut content = end.to_be_bytes().to_vec();
    if let Some([header, claims, signature]) = jwt_parts(token) {
        // Decoded, since a cookie is encoded again: browsers have no room for both.
        content.push(JWT);
        for part in [&header, &claims] {
            content.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        content.extend([header, claims, signature].concat());
    } else {
        content.push(RAW);
        content.extend(token.as_bytes());
    }
    content
}

/// The token of a session that has not ended.
pub(super) fn token(content: &[u8], now: u64) -> Option<SecretString> {
    let (end, rest) = content.split_first_chunk::<8>()?;
    if now >= u64::from_be_bytes(*end) {
        return None;
    }
    let (kind, rest) = rest.split_first()?;
    if *kind == RAW {
        return std::str::from_utf8(rest).ok().map(SecretString::from);
    }
    let (header, rest) = rest.split_first_chunk::<2>()?;
    let (claims, rest) = rest.split_first_chunk::<2>()?;
    let (header, rest) = rest.split_at_checked(u16::from_be_bytes(*header).into())?;
    let (claims, signature) = rest.split_at_checked(u16::from_be_bytes(*claims).into())?;
    let parts = [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
    Some(SecretString::from(parts.join(".")))
}

/// The decoded parts of a JWT, from which the same text can be made again.
fn jwt_parts(token: &str) -> Option<[Vec<u8>; 3]> {
    let parts: Option<Vec<Vec<u8>>> =
        token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect();
    let parts: [Vec<u8>; 3] = parts?.try_into().ok()?;
    parts.iter().all(|part| u16::try_from(part.len()).is_ok()).then_some(parts)
}
