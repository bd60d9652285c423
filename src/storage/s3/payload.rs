//! The SHA-256 of a PUT's body as part of its signature: bucket policies can require that, and stores that reject the SHA-256 in
//! a header of its own verify the body nevertheless.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::text::hex;

/// Signs the body by its SHA-256 (hexadecimal), which the SDK does not do for streamed bodies.
#[derive(Debug)]
pub(super) struct SignedBody(Option<String>);

impl SignedBody {
    /// `sha256` is in base64. If it is no SHA-256, the body is not signed.
    pub(super) fn new(sha256: &str) -> Self {
        let bytes = STANDARD.decode(sha256).ok().filter(|bytes| bytes.len() == 32);
        Self(bytes.as_deref().map(hex))
    }
}

impl Intercept for SignedBody {
    fn name(&self) -> &'static str {
        "SignedBody"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(sha256) = &self.0 {
            config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(sha256.clone()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::SignedBody;

    #[test]
    fn the_signature_wants_hexadecimal() {
        let of_nothing = SignedBody::new("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_nothing.0.as_deref(), Some(expected));
        assert_eq!(SignedBody::new("c2hh").0, None);
        assert_eq!(SignedBody::new("?").0, None);
    }
}
