//! Certificates and protocols.

use std::path::{Path, PathBuf};

use opendepot_testbed::authority::Authority;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

struct Files {
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files =
            Self { authority: Authority::new("registry").unwrap(), folder: tempfile::tempdir().unwrap() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes another pair, and gives its certificate.
    fn renew(&self) -> Vec<u8> {
        let identity = self.authority.server(&["127.0.0.1"]).unwrap();
        std::fs::write(self.path("tls.crt"), &identity.certificate_pem).unwrap();
        std::fs::write(self.path("tls.key"), &identity.key_pem).unwrap();
        identity.certificate_der
    }

    fn load(&self) -> Result<Tls, TlsError> {
        Tls::load(&self.path("tls.crt"), &self.path("tls.key"))
    }

    async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await
    }
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn http_1_is_the_only_protocol_over_tls() {
    let files = Files::new();
    let tls = Arc::new(files.load().unwrap());
    let served = Served::with(LIMITS, Some(tls), TrustedProxies::default()).await;
    for offered in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let mut stream = files.connect(served.address, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(get("/").as_bytes()).await.unwrap();
        answer_ending(&mut stream, "hello").await;
    }
    assert!(files.connect(served.address, &[]).await.is_ok(), "without ALPN");
    assert!(files.connect(served.address, &["h2"]).await.is_err());
    assert!(!served.answer(get("/")).await.contains("200 OK"), "plain HTTP is not answered");
}

#[tokio::test]
async fn a_slow_handshake_ends_the_connection() {
    let files = Files::new();
    let tls = Arc::new(files.load().unwrap());
    let limits = Limits { headers: SHORT, ..LIMITS };
    let served = Served::with(limits, Some(tls), TrustedProxies::default()).await;
    let start = std::time::Instant::now();
    let mut stream = served.connect().await;
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    rest(&mut stream).await;
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_new_pair_is_served_and_a_broken_one_is_not() {
    let files = Files::new();
    let tls = Arc::new(files.load().unwrap());
    assert!(tls.not_after().unwrap() > jiff::Timestamp::now());
    let served = Served::with(LIMITS, Some(Arc::clone(&tls)), TrustedProxies::default()).await;
    let watched = tokio::spawn(Arc::clone(&tls).watch(Duration::from_millis(10)));
    let mut kept = files.connect(served.address, &[]).await.unwrap();
    let mut current = files.renew();
    let shows = async |expected: &[u8]| {
        let stream = files.connect(served.address, &[]).await.unwrap();
        certificate(&stream) == expected
    };
    let renewed = async |expected: &[u8]| {
        let until = async {
            while !shows(expected).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, until).await.expect("the new certificate");
    };
    renewed(&current).await;
    let other = files.authority.server(&["127.0.0.1"]).unwrap();
    for (name, content) in [
        ("tls.crt", other.certificate_pem.as_str()),
        ("tls.key", "damaged"),
        ("tls.crt", ""),
        ("tls.crt", "damaged"),
    ] {
        std::fs::write(files.path(name), content).unwrap();
        assert!(tls.replace().is_err() && shows(&current).await, "{name} {content:.20}");
    }
    std::fs::remove_file(files.path("tls.key")).unwrap();
    assert!(tls.replace().is_err() && shows(&current).await, "no key");
    current = files.renew();
    renewed(&current).await;
    kept.write_all(get("/").as_bytes()).await.unwrap();
    answer_ending(&mut kept, "hello").await;
    watched.abort();
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_with_words() {
    let files = Files::new();
    let (certificate, key) = (files.path("tls.crt"), files.path("tls.key"));
    let good = std::fs::read_to_string(&certificate).unwrap();
    let refused = |certificate: &Path, key: &Path| Tls::load(certificate, key).unwrap_err().to_string();
    let missing = files.path("missing");
    assert!(refused(&missing, &key).starts_with(&format!("cannot read {}", missing.display())));
    let said = refused(&key, &key);
    assert!(said.contains("tls.key holds no certificate that can be read: give a PEM file"), "{said}");
    let said = refused(&certificate, &certificate);
    assert!(said.contains("tls.crt holds no private key that can be read: give a PEM file"), "{said}");
    files.renew();
    std::fs::write(&certificate, good).unwrap();
    let said = refused(&certificate, &key);
    assert!(said.contains("tls.key is not the key of the certificate in"), "{said}");
    for text in
        ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n!"]
    {
        std::fs::write(&certificate, text).unwrap();
        let said = refused(&certificate, &key);
        assert!(said.contains("tls.crt"), "{said}");
    }
}
