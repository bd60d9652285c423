//! The public keys of an issuer (JWKS, RFC 7517).

use aws_lc_rs::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::Algorithm;
use crate::registry::auth::token::{Header, Unverified};

/// More keys are not looked at: without a `kid` each of them may be tried.
const MAX_KEYS: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    /// The only algorithm that the key is for, if it names one.
    alg: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: String, point: Vec<u8> },
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Parses a JWKS. Keys of other types and for other uses are left out.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let set: RawSet = serde_json::from_slice(json).map_err(|error| format!("not a key set: {error}"))?;
        let key = |value: Value| serde_json::from_value::<RawKey>(value).ok().and_then(Key::new);
        Ok(Self(set.keys.into_iter().filter_map(key).take(MAX_KEYS).collect()))
    }

    /// Whether there is no key that can be used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key fits the header: its `kid`, if it names one, and its algorithm.
    pub fn has_key_for(&self, header: &Header) -> bool {
        self.fitting(header).next().is_some()
    }

    /// Whether one of the fitting keys has signed this token.
    pub fn verifies(&self, jwt: &Unverified<'_>) -> bool {
        let Some(header) = &jwt.header else { return false };
        self.fitting(header)
            .any(|(key, algorithm)| key.verifies(algorithm, jwt.message.as_bytes(), &jwt.signature))
    }

    fn fitting(&self, header: &Header) -> impl Iterator<Item = (&Key, Algorithm)> {
        let algorithm = Algorithm::named(&header.alg);
        self.0.iter().filter_map(move |key| {
            let fits = header.kid.as_ref().is_none_or(|kid| key.kid.as_ref() == Some(kid))
                && key.alg.as_ref().is_none_or(|alg| *alg == header.alg);
            algorithm.filter(|algorithm| fits && key.is_for(*algorithm)).map(|algorithm| (key, algorithm))
        })
    }
}

impl Key {
    fn new(raw: RawKey) -> Option<Self> {
        let signs = raw.r#use.is_none_or(|usage| usage == "sig")
            && raw.key_ops.is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        let decode = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        let material = match raw.kty.as_str() {
            "RSA" => Material::Rsa { n: integer(decode(raw.n)?), e: integer(decode(raw.e)?) },
            "EC" => {
                let curve = raw.crv?;
                Material::Ec { point: point(&curve, &decode(raw.x)?, &decode(raw.y)?)?, curve }
            }
            _ => return None,
        };
        signs.then_some(Self { kid: raw.kid, alg: raw.alg, material })
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        match (&self.material, algorithm) {
            (Material::Rsa { .. }, Algorithm::Rsa(_)) => true,
            (Material::Ec { curve, .. }, Algorithm::Ec { curve: needed, .. }) => curve == needed,
            _ => false,
        }
    }

    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm) {
            (Material::Rsa { n, e }, Algorithm::Rsa(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Material::Ec { point, .. }, Algorithm::Ec { algorithm, .. }) => {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// Some issuers write leading zeros, which the library refuses.
fn integer(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.iter().position(|byte| *byte != 0) {
        Some(0) => bytes,
        Some(start) => bytes[start..].to_vec(),
        None => Vec::new(),
    }
}

/// The uncompressed point. Coordinates have the length of the curve (RFC 7518, 6.2.1.2).
fn point(curve: &str, x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    let length = match curve {
        "P-256" => 32,
        "P-384" => 48,
        "P-521" => 66,
        _ => return None,
    };
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}
