//! The form of tokens: `token68`, and JWTs before their signature is checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{denied, untrusted_json};

/// The parts of a JWT, decoded once: what is checked is what is used.
#[derive(Clone)]
pub struct Unverified<'a> {
    /// `None` if it cannot be used: its issuer refuses the token.
    pub header: Option<Header>,
    /// Values within lists and objects are kept only if they are scalars: no other ones are read.
    pub claims: Map<String, Value>,
    /// What is signed.
    pub message: &'a str,
    pub signature: Vec<u8>,
}

/// The fields of a header that count. Keys and key addresses in it (`jwk`, `jku`, `x5u`, `x5c`) are not read.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: Option<String>,
    /// Whether the field is there, with any value.
    #[serde(default, deserialize_with = "present")]
    pub crit: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// `None` if `token` is no JWT: three parts, of which the second is a JSON object in base64url. A token with an unreadable
    /// header or signature is a JWT too, so that its issuer decides.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: decode(header).and_then(|json| serde_json::from_slice(&json).ok()),
            claims: untrusted_json::object(&decode(claims)?)?,
            message,
            signature: decode(signature).unwrap_or_default(),
        })
    }

    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// `exp`, in whole seconds, or the reason phrase if it is no time.
    pub fn expires(&self) -> Result<Option<Timestamp>, &'static str> {
        time(self.claims.get("exp"))
    }

    /// `nbf`, in whole seconds.
    pub fn not_before(&self) -> Result<Option<Timestamp>, &'static str> {
        time(self.claims.get("nbf"))
    }

    /// Whether `aud`, a text or a list of texts, holds one of `audiences`.
    pub fn is_for<'b>(&self, audiences: impl IntoIterator<Item = &'b str>) -> bool {
        let own = match self.claims.get("aud") {
            Some(Value::String(one)) => std::slice::from_ref(one).iter().map(String::as_str).collect(),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        audiences.into_iter().any(|audience| own.contains(&audience))
    }
}

/// RFC 7519's `NumericDate`: seconds, possibly with a fraction, which is cut. A time that is out of range, which some issuers
/// write for "never", becomes the first or the last time in range.
fn time(claim: Option<&Value>) -> Result<Option<Timestamp>, &'static str> {
    let Some(claim) = claim else { return Ok(None) };
    let seconds = claim.as_i64().or_else(|| {
        let seconds = claim.as_f64()?;
        #[expect(clippy::cast_possible_truncation, reason = "a number out of range is the last one")]
        Some(seconds.floor() as i64)
    });
    let furthest = |seconds: i64| if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let time = |seconds| Timestamp::from_second(seconds).unwrap_or_else(|_| furthest(seconds));
    seconds.map(time).map(Some).ok_or(denied::MALFORMED)
}

/// The characters of a bearer token (RFC 9110).
pub(crate) fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}
