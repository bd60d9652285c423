mod config;
mod keys;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::config::{IssuerConfig, parse};
use super::key_ring::{Pending, Source};
use super::keys::KeySet;

const ISSUER: &str = "https://login.example.com";

/// A key of an issuer.
enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let public: PublicKeyComponents<Vec<u8>> = key.public_key().into();
                json!({ "kty": "RSA", "kid": kid, "n": encode(&public.n), "e": encode(&public.e) })
            }
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "kid": kid, "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) })
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(key) => {
                let pss = header["alg"].as_str().unwrap().starts_with("PS");
                let encoding: &dyn RsaEncoding = if pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::Ec(key) => key.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", encode(&signature))
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// Serves one set of keys, or fails, and counts fetches.
#[derive(Clone, Default)]
struct Keys {
    set: Arc<std::sync::Mutex<Option<KeySet>>>,
    fetches: Arc<AtomicUsize>,
}

impl Keys {
    fn of(keys: &[Value]) -> Self {
        let all = Self::default();
        all.publish(keys);
        all
    }

    fn publish(&self, keys: &[Value]) {
        *self.set.lock().unwrap() = Some(key_set(keys));
    }

    fn stop(&self) {
        *self.set.lock().unwrap() = None;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Source for Keys {
    fn fetch(&self) -> Pending {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let set = self.set.lock().unwrap().clone().ok_or_else(|| "away".to_owned());
        Box::pin(async move {
            tokio::task::yield_now().await;
            set
        })
    }
}

/// One issuer with these mappings, as YAML.
fn issuer(mappings: &str) -> IssuerConfig {
    parse(&document(&format!(
        "- issuer: {{url: '{ISSUER}', audiences: [registry.acme.io]}}\n  claimMappings: {mappings}\n"
    )))
    .unwrap()
    .remove(0)
}

fn document(jwt: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n{jwt}")
}
