//! The HTTP clients of the SDK: with and without the proxy, and with roots that are trusted in addition to the system's.

use aws_sdk_s3::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use super::proxy::Routed;

/// Why the PEM roots of `--ca-file` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaError {
    #[error("contains no certificate: use a file with one or more `-----BEGIN CERTIFICATE-----` blocks")]
    Empty,
    /// Counted from 1.
    #[error("certificate {number} cannot be read: {problem}; replace it, or remove it from the file")]
    Certificate { number: usize, problem: String },
}

/// The SDK's default client with additional roots. `build_https` would silently ignore the proxy.
pub(super) fn http_client(ca_pem: Option<&[u8]>) -> Result<Routed, CaError> {
    let mut roots = TrustStore::default();
    if let Some(pem) = ca_pem {
        check_roots(pem)?;
        roots = roots.with_pem_certificate(pem);
    }
    let proxied = client_through(ProxyConfig::from_env(), roots.clone());
    let direct = client_through(ProxyConfig::disabled(), roots);
    Ok(Routed { proxied, direct, small_buffers: false })
}

fn client_through(proxy: ProxyConfig, roots: TrustStore) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .proxy_config(proxy.clone());
        // Building a context cannot fail today. If that changes, only the system's roots are trusted.
        if let Ok(context) = TlsContext::builder().with_trust_store(roots.clone()).build() {
            connector = connector.tls_context(context);
        }
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// Parses the roots before the connector does, which panics on invalid ones.
fn check_roots(pem: &[u8]) -> Result<(), CaError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let wrong = |problem: String| CaError::Certificate { number: index + 1, problem };
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(CaError::Empty) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::storage) const ROOT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/root.pem"));

    #[test]
    fn roots_are_checked_before_they_are_used() {
        assert_eq!(check_roots(ROOT.as_bytes()), Ok(()));
        assert_eq!(check_roots(ROOT.repeat(2).as_bytes()), Ok(()));
        assert_eq!(check_roots(b""), Err(CaError::Empty));
        assert_eq!(check_roots(b"no certificate"), Err(CaError::Empty));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for damaged in [no_certificate, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let refused = check_roots(format!("{ROOT}{damaged}").as_bytes());
            assert!(matches!(refused, Err(CaError::Certificate { number: 2, .. })), "{refused:?}");
        }
    }
}
