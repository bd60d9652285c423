//! An identity provider: zitadel's, with one public client (authorization code with PKCE) and two users.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::authority::Authority;
use crate::background::eventually;
use crate::port::free_port;
use crate::process::{Folder, Process, Spec};
use crate::servers::{Server, binaries};
use crate::signing::SigningKey;

/// The client's name, which is the audience of its tokens.
pub const CLIENT: &str = "opendepot";
/// The password of every user.
pub const PASSWORD: &str = "correct horse";
/// A user with the groups `platform` and `sre`. Her subject is `id-ann`.
pub const ANN: &str = "ann";
/// A user without groups. His subject is `id-bob`.
pub const BOB: &str = "bob";

const USERS: &str = r#"{
  "id-ann": {"ID": "id-ann", "Username": "ann", "Password": "correct horse", "Email": "ann@example.com",
             "EmailVerified": true, "Groups": ["platform", "sre"]},
  "id-bob": {"ID": "id-bob", "Username": "bob", "Password": "correct horse", "Email": "bob@example.com",
             "EmailVerified": false, "Groups": []}
}"#;

/// What its access tokens are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTokens {
    /// JWTs for the client, as Dex and Keycloak issue them.
    Jwt,
    /// Texts that only the provider understands, as Google issues them.
    Opaque,
}

/// A running provider. It ends when this is dropped.
pub struct OpenId {
    spec: Spec,
    host: String,
    folder: Folder,
    process: Option<Process>,
    key: Option<SigningKey>,
}

impl OpenId {
    /// Starts one whose client may be sent back to `http://localhost:PORT/login`, with any port, and to `redirects`.
    pub async fn start(redirects: &[String], tokens: AccessTokens) -> Result<Self> {
        let mut provider = Self::new(redirects).await?;
        if tokens == AccessTokens::Opaque {
            provider.spec = provider.spec.arg("-opaque");
        }
        provider.restart().await?;
        Ok(provider)
    }

    /// Starts one that signs with a key of the test's own, for machines: each a client with `secret`, `audience` and `claims`.
    pub async fn for_machines(machines: &Value) -> Result<Self> {
        let mut provider = Self::new(&[]).await?;
        let (keys, file) = (provider.folder.sub("keys")?, provider.folder.path().join("machines.json"));
        std::fs::write(&file, machines.to_string()).context("cannot write machines.json")?;
        provider.spec = provider.spec.args(["-keys-dir".into(), keys, "-machines-file".into(), file]);
        provider.rotate("1")?;
        provider.restart().await?;
        Ok(provider)
    }

    /// Signs with a new key from now on. The earlier ones remain published.
    pub fn rotate(&mut self, kid: &str) -> Result<()> {
        let key = SigningKey::new(kid)?;
        // Renamed, since the folder is read at any time.
        let path = self.folder.path().join(format!("keys/{kid}"));
        std::fs::write(&path, key.pem()?)?;
        std::fs::rename(&path, path.with_extension("pem"))?;
        self.key = Some(key);
        Ok(())
    }

    /// The key that signs, of a provider for machines.
    pub fn key(&self) -> Result<&SigningKey> {
        self.key.as_ref().context("this provider keeps its key to itself")
    }

    async fn new(redirects: &[String]) -> Result<Self> {
        let [binary] = tokio::task::spawn_blocking(|| binaries([Server::OpenId])).await??;
        let folder = Folder::new("openid")?;
        let authority = Authority::new("openid")?;
        let identity = authority.server(&["127.0.0.1"])?;
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {name}")).map(|()| path)
        };
        let (certificate, key) =
            (write("tls.crt", &identity.certificate_pem)?, write("tls.key", &identity.key_pem)?);
        let (users, _) = (write("users.json", USERS)?, write("ca.crt", &authority.pem())?);
        let host = format!("127.0.0.1:{}", free_port()?);
        let mut all = vec!["http://localhost/login".to_owned()];
        all.extend_from_slice(redirects);
        let spec = Spec::new(binary, folder.path().join("openid.log"))
            .args(["-listen", &host, "-client", CLIENT, "-redirects", &all.join(",")])
            .args(["-tls-cert-file".into(), certificate, "-tls-key-file".into(), key])
            .args(["-users-file".into(), users]);
        Ok(Self { spec, host, folder, process: None, key: None })
    }

    /// Ends it and starts it again at the same address. It has forgotten who was signing in, and signs with another key.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        let process = Process::spawn(&self.spec)?;
        let host = &self.host;
        eventually(Duration::from_mins(1), || async {
            process.check_alive()?;
            let connected = tokio::net::TcpStream::connect(host).await;
            connected.context("the OpenID provider does not listen yet").map(drop)
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    /// The claim `iss`: `https://127.0.0.1:PORT`.
    pub fn issuer(&self) -> String {
        format!("https://{}", self.host)
    }

    /// The certificate of its authority, as PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}
