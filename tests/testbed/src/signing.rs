//! Keys with which a test signs tokens, also those that no identity provider would issue.

use anyhow::{Context, Result};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// An RSA key of an issuer.
pub struct SigningKey {
    pair: KeyPair,
    /// Its name in key sets.
    pub kid: String,
}

impl SigningKey {
    /// A fresh key.
    pub fn new(kid: &str) -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).context("cannot make an RSA key")?;
        Ok(Self { pair, kid: kid.to_owned() })
    }

    /// As it stands in a key set.
    pub fn jwk(&self) -> Value {
        let public: PublicKeyComponents<Vec<u8>> = self.pair.public_key().into();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": part(&public.n), "e": part(&public.e)})
    }

    /// A token with these claims, signed with RS256 whatever `header` says in addition.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let mut all = json!({"alg": "RS256", "typ": "JWT", "kid": self.kid});
        for (name, value) in header.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let message = message(&all, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .ok()
            .context("cannot sign")?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// As PEM (PKCS #8).
    pub(crate) fn pem(&self) -> Result<String> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().ok().context("cannot encode the key")?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
    }
}

/// What is signed of a token.
pub fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}
