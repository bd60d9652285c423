//! A way to the API server on which the watch of Versions can be held back or cut.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opendepot_testbed::process::Folder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::World;

/// What happens to the watch of Versions. Other requests pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Passes,
    /// Its connection stays, and nothing arrives on it.
    IsHeld,
    /// Its connection is closed, and a new one gets no answer.
    IsCut,
    /// Until the next list, a new watch is answered as the API server answers one whose events etcd has compacted.
    IsExpired,
    /// The same, but with HTTP 410 instead of an event, as some gateways do.
    IsGone,
    /// The same, as a load balancer answers while no API server is behind it.
    IsUnavailable,
    /// A new watch is answered, and ends at once.
    EndsAtOnce,
}

impl Watch {
    /// What the proxy itself answers to a new watch.
    fn answer(self) -> Option<String> {
        const EXPIRED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}"#;
        let (status, body) = match self {
            Self::Passes | Self::IsHeld | Self::IsCut => return None,
            Self::IsExpired => ("200 OK", format!("{{\"type\":\"ERROR\",\"object\":{EXPIRED}}}\n")),
            Self::IsGone => ("410 Gone", EXPIRED.to_owned()),
            Self::IsUnavailable => ("503 Service Unavailable", "no server is available".to_owned()),
            Self::EndsAtOnce => ("200 OK", String::new()),
        };
        let length = body.len();
        Some(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }
}

/// Plain HTTP to the operator, TLS to the API server, so that requests can be read.
pub(crate) struct WatchProxy {
    pub kubeconfig: PathBuf,
    state: watch::Sender<Watch>,
    answered: Arc<AtomicUsize>,
    _folder: Folder,
}

impl WatchProxy {
    /// To the API server that the operator's kubeconfig names.
    pub(crate) async fn of(world: &World) -> Self {
        let text = std::fs::read_to_string(world.bed.operator_kubeconfig()).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        let cluster = &mut kubeconfig["clusters"][0]["cluster"];
        let server = cluster["server"].as_str().unwrap().strip_prefix("https://").unwrap().to_owned();
        let ca_pem = STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *cluster = serde_json::json!({"server": format!("http://{}", listener.local_addr().unwrap())});
        let folder = Folder::new("watch-proxy").unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca_pem).unwrap()).unwrap();
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(tls));
        let (state, answered) = (watch::Sender::new(Watch::Passes), Arc::<AtomicUsize>::default());
        let (states, count) = (state.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, connector) = (server.clone(), connector.clone());
                let (states, count) = (states.clone(), Arc::clone(&count));
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(&server).await else { return };
                    let host = server.rsplit_once(':').unwrap().0.trim_matches(['[', ']']).to_owned();
                    let host = ServerName::try_from(host).unwrap();
                    let Ok(far) = connector.connect(host, far).await else { return };
                    pass(near, far, &states, &count).await;
                });
            }
        });
        Self { kubeconfig: path, state, answered, _folder: folder }
    }

    pub(crate) fn set(&self, state: Watch) {
        self.state.send_replace(state);
    }

    /// How many watches the proxy itself has answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

/// Passes one connection on, until either side ends it.
async fn pass(
    near: TcpStream,
    far: impl AsyncRead + AsyncWrite + Send + 'static,
    state: &watch::Sender<Watch>,
    answered: &AtomicUsize,
) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let (mut sent, mut received) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut states, mut is_watch) = (state.subscribe(), false);
    loop {
        let now = *states.borrow_and_update();
        let is_open = !is_watch || now == Watch::Passes;
        if is_watch && now == Watch::IsCut {
            return;
        }
        tokio::select! {
            Ok(()) = states.changed() => {}
            Ok(read @ 1..) = near_in.read(&mut sent) => {
                let text = String::from_utf8_lossy(&sent[..read]);
                let request = text.lines().next().unwrap_or_default();
                let is_of_versions = request.contains("/versions?");
                if is_of_versions && request.contains("watch=true") {
                    is_watch = true;
                    let answer = match states.wait_for(|state| *state != Watch::IsCut).await {
                        Ok(state) => state.answer(),
                        Err(_) => return,
                    };
                    if let Some(answer) = answer {
                        answered.fetch_add(1, Ordering::Relaxed);
                        let _ = near_out.write_all(answer.as_bytes()).await;
                        return;
                    }
                } else if is_of_versions && request.contains("limit=") {
                    state.send_if_modified(|now| {
                        let ends = matches!(now, Watch::IsExpired | Watch::IsGone | Watch::IsUnavailable);
                        if ends {
                            *now = Watch::Passes;
                        }
                        ends
                    });
                }
                if far_out.write_all(&sent[..read]).await.is_err() || far_out.flush().await.is_err() {
                    return;
                }
            }
            Ok(read @ 1..) = far_in.read(&mut received), if is_open => {
                if near_out.write_all(&received[..read]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}
