//! Signature algorithms of JWTs: RS, PS and ES. `none` and those with shared secrets do not exist here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

/// An algorithm, and the kind of key that it needs.
#[derive(Clone, Copy)]
pub(super) enum Algorithm {
    Rsa(&'static RsaParameters),
    Ec { curve: &'static str, algorithm: &'static EcdsaVerificationAlgorithm },
}

impl Algorithm {
    /// The algorithm that a header calls `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            "PS384" => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            "PS512" => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            "ES256" => Self::Ec { curve: "P-256", algorithm: &ECDSA_P256_SHA256_FIXED },
            "ES384" => Self::Ec { curve: "P-384", algorithm: &ECDSA_P384_SHA384_FIXED },
            "ES512" => Self::Ec { curve: "P-521", algorithm: &ECDSA_P521_SHA512_FIXED },
            _ => return None,
        })
    }
}
