//! The certificates of a PEM text that a user provides. Pure.

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

/// Why certificates cannot be trusted.
#[derive(Debug, Error)]
pub enum CertificatesError {
    #[error("contains no certificate: write one or more `-----BEGIN CERTIFICATE-----` blocks")]
    Empty,
    /// Counted from 1.
    #[error("certificate {number} cannot be read: {problem}; replace it, or remove it")]
    Damaged { number: usize, problem: String },
}

/// Checks each certificate, since the error of an HTTP client does not contain which one is invalid.
///
/// # Errors
/// [`CertificatesError`] if there is none, or one is damaged.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, CertificatesError> {
    let mut all = Vec::new();
    for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let damaged = |problem: String| CertificatesError::Damaged { number: index + 1, problem };
        let der = der.map_err(|error| damaged(error.to_string()))?;
        all.push(Certificate::from_der(&der).map_err(|error| damaged(error.to_string()))?);
        RootCertStore::empty().add(der).map_err(|error| damaged(error.to_string()))?;
    }
    if all.is_empty() { Err(CertificatesError::Empty) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/root.pem"));

    #[test]
    fn certificates_are_checked_before_they_are_used() {
        assert_eq!(certificates(ROOT.as_bytes()).unwrap().len(), 1);
        assert_eq!(certificates(ROOT.repeat(2).as_bytes()).unwrap().len(), 2);
        for empty in ["", "no certificate"] {
            assert!(matches!(certificates(empty.as_bytes()), Err(CertificatesError::Empty)), "{empty:?}");
        }
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for damaged in [no_certificate, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            let refused = certificates(format!("{ROOT}{damaged}").as_bytes());
            assert!(matches!(refused, Err(CertificatesError::Damaged { number: 2, .. })), "{refused:?}");
        }
    }
}
