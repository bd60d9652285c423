//! The certificate and key of the listener, read again while it serves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::not_after::not_after;
use crate::domain::Mutex;
use crate::registry::reread::read_again;

/// Why the files of `--tls-cert-file` and `--tls-key-file` cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot read {path}: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error(
        "{0} holds no certificate that can be read: give a PEM file with the server's certificate, followed by its issuers"
    )]
    Certificate(PathBuf),
    #[error("{0} holds no private key that can be read: give a PEM file with a key that is not encrypted")]
    Key(PathBuf),
    #[error("the key in {key} is not the key of the certificate in {certificate}")]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("the certificate in {certificate} cannot be used with the key in {key}: {error}")]
    Unusable { certificate: PathBuf, key: PathBuf, error: rustls::Error },
}

/// The certificate and key that new connections use.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    pair: ArcSwap<Pair>,
    /// What the pair was read from.
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Pair {
    config: Arc<ServerConfig>,
    not_after: Option<Timestamp>,
}

type Content = (Vec<u8>, Vec<u8>);

impl Tls {
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let content = read(certificate, key)?;
        let pair = ArcSwap::from_pointee(pair(certificate, key, &content)?);
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            pair,
            content: Mutex::new(content),
        })
    }

    /// The configuration of a new connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.pair.load().config)
    }

    /// When the certificate expires.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.pair.load().not_after
    }

    /// Reads the files at each interval, as long as it is polled.
    pub async fn watch(self: Arc<Self>, interval: Duration) {
        let tls = Arc::clone(&self);
        let log = move |error: &str| {
            let not_after = self.not_after().map(|time| time.to_string());
            tracing::error!(%error, not_after, "the TLS certificate was changed and cannot be used; the old one is served");
        };
        read_again(interval, move || tls.replace(), log).await;
    }

    /// Serves the pair in the files, unless it is served already.
    pub(super) fn replace(&self) -> Result<(), TlsError> {
        let found = read(&self.certificate, &self.key)?;
        let mut content = self.content.lock();
        if *content != found {
            self.pair.store(Arc::new(pair(&self.certificate, &self.key, &found)?));
            *content = found;
            let not_after = self.not_after().map(|time| time.to_string());
            tracing::info!(not_after, "read a new TLS certificate");
        }
        Ok(())
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Content, TlsError> {
    let file =
        |path: &Path| std::fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error });
    Ok((file(certificate)?, file(key)?))
}

fn pair(certificate: &Path, key: &Path, content: &Content) -> Result<Pair, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content.0).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::Certificate(certificate.to_owned()))?;
    let private = PrivateKeyDer::from_pem_slice(&content.1).map_err(|_| TlsError::Key(key.to_owned()))?;
    let not_after = chain.first().and_then(|leaf| not_after(leaf));
    let unusable = |error| {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate, key },
            error => TlsError::Unusable { certificate, key, error },
        }
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Pair { config: Arc::new(config), not_after })
}
