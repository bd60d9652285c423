//! JSON web tokens of GitHub Apps, judged as GitHub judges them.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The longest that a JWT may be good for.
const MAX_JWT_AGE: u64 = 600;

/// Why no installation token is given: HTTP status and message.
pub(super) type Refusal = (u16, String);

/// A JWT whose signature has not been verified yet.
pub(super) struct Jwt {
    pub(super) issuer: u64,
    signed: String,
    signature: Vec<u8>,
    claims: Value,
}

fn refuse(message: &str) -> Refusal {
    (401, message.to_owned())
}

fn undecodable() -> Refusal {
    refuse("A JSON web token could not be decoded")
}

impl Jwt {
    pub(super) fn parse(jwt: Option<&str>) -> Result<Self, Refusal> {
        let jwt = jwt.ok_or_else(|| refuse("Requires authentication"))?;
        let (signed, signature) = jwt.rsplit_once('.').ok_or_else(undecodable)?;
        let (header, claims) = signed.split_once('.').ok_or_else(undecodable)?;
        let decode = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (header, claims) = decode(header).zip(decode(claims)).ok_or_else(undecodable)?;
        if header["alg"] != "RS256" {
            return Err(undecodable());
        }
        let issuer = claims["iss"].as_u64().or_else(|| claims["iss"].as_str()?.parse().ok());
        let issuer = issuer.ok_or_else(|| refuse("'Issuer' claim ('iss') must be an Integer"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecodable())?;
        Ok(Self { issuer, signed: signed.to_owned(), signature, claims })
    }

    /// `ahead` is how many seconds the clock of this GitHub is ahead.
    pub(super) fn verify(&self, key: &[u8], ahead: i64) -> Result<(), Refusal> {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        key.verify(self.signed.as_bytes(), &self.signature).map_err(|_| undecodable())?;
        check_times(&self.claims, ahead).map_err(refuse)
    }
}

fn check_times(claims: &Value, ahead: i64) -> Result<(), &'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = now.saturating_add_signed(ahead);
    let issued = claims["iat"].as_u64().ok_or("Missing 'issued at' claim ('iat') in assertion")?;
    let expires = claims["exp"].as_u64().ok_or("Missing 'expiration time' claim ('exp') in assertion")?;
    if issued > now {
        return Err(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        );
    }
    if expires <= now {
        return Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        );
    }
    if expires > now + MAX_JWT_AGE {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    Ok(())
}
