//! Who may see what: GitHub Apps with their keys, installations and tokens, and personal access tokens.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::jwt::{Jwt, Refusal};
use super::limits::Quota;
use crate::background::lock;

/// A GitHub App with one installation.
#[derive(Debug, Clone)]
pub struct App {
    /// The App's id, for `githubAppID`.
    pub id: u64,
    /// The installation's id, for `githubInstallID`.
    pub installation: u64,
    /// The private key as PEM, PKCS#1 (`RSA PRIVATE KEY`), as GitHub hands it out.
    pub pkcs1_pem: String,
    /// The same key as PEM, PKCS#8 (`PRIVATE KEY`).
    pub pkcs8_pem: String,
}

/// Whom a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) quota: Quota,
    /// Whether it was granted that: an App may have to do without.
    pub(super) reads_contents: bool,
    repositories: HashSet<String>,
}

impl Caller {
    pub(super) fn anonymous() -> Self {
        Self { quota: Quota::Anonymous, reads_contents: false, repositories: HashSet::new() }
    }

    /// Whether this one may see a private repository.
    pub(super) fn sees(&self, key: &str) -> bool {
        self.repositories.contains(key)
    }
}

#[derive(Debug)]
struct Installation {
    app: u64,
    repositories: HashSet<String>,
    lifetime: Duration,
    reads_contents: bool,
    /// New tokens are refused with this status for so long.
    settling: Option<(u16, Duration)>,
}

#[derive(Debug)]
struct Token {
    instance: String,
    quota: Quota,
    /// Those that the token was narrowed to, or all that a personal token is for.
    repositories: Option<HashSet<String>>,
    reads_contents: bool,
    minted: SystemTime,
    expires: Option<SystemTime>,
}

/// A new installation token.
#[derive(Debug)]
pub(super) struct Minted {
    pub(super) token: String,
    pub(super) permissions: Value,
    pub(super) expires: SystemTime,
}

#[derive(Debug, Default)]
struct Inner {
    apps: HashMap<u64, (String, Vec<u8>)>,
    installations: HashMap<u64, Installation>,
    tokens: HashMap<String, Token>,
}

/// All credentials of one GitHub.
#[derive(Debug, Default)]
pub(super) struct Access(Mutex<Inner>);

impl Access {
    pub(super) fn create_app(&self, instance: &str, repositories: HashSet<String>) -> Result<App> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut inner = lock(&self.0);
        let id = 1_000 + inner.apps.len() as u64;
        let installation = Installation {
            app: id,
            repositories,
            lifetime: Duration::from_hours(1),
            reads_contents: true,
            settling: None,
        };
        inner.apps.insert(id, (instance.to_owned(), key.public_key_raw().to_vec()));
        inner.installations.insert(500_000 + id, installation);
        Ok(App {
            id,
            installation: 500_000 + id,
            pkcs1_pem: pkcs1_pem(key.serialized_der())?,
            pkcs8_pem: key.serialize_pem(),
        })
    }

    pub(super) fn create_personal(&self, instance: &str, repositories: HashSet<String>) -> String {
        let token = format!("ghp_{}", random());
        let quota = Quota::Personal(token.clone());
        let grant = Token {
            instance: instance.to_owned(),
            quota,
            repositories: Some(repositories),
            reads_contents: true,
            minted: SystemTime::now(),
            expires: None,
        };
        lock(&self.0).tokens.insert(token.clone(), grant);
        token
    }

    pub(super) fn set_repositories(&self, installation: u64, repositories: HashSet<String>) {
        if let Some(found) = lock(&self.0).installations.get_mut(&installation) {
            found.repositories = repositories;
        }
    }

    pub(super) fn set_lifetime(&self, installation: u64, lifetime: Duration) {
        if let Some(found) = lock(&self.0).installations.get_mut(&installation) {
            found.lifetime = lifetime;
        }
    }

    pub(super) fn set_reads_contents(&self, installation: u64, reads: bool) {
        if let Some(found) = lock(&self.0).installations.get_mut(&installation) {
            found.reads_contents = reads;
        }
    }

    pub(super) fn set_settling(&self, installation: u64, settling: Option<(u16, Duration)>) {
        if let Some(found) = lock(&self.0).installations.get_mut(&installation) {
            found.settling = settling;
        }
    }

    /// The installation of a token that is not known everywhere yet, and the status that it is refused with.
    pub(super) fn unsettled(&self, authorization: Option<&str>) -> Option<(u64, u16)> {
        let inner = lock(&self.0);
        let token = inner.tokens.get(&secret(authorization?)?)?;
        let Quota::Installation(id) = token.quota else { return None };
        let (status, settled_after) = inner.installations.get(&id)?.settling?;
        (token.minted.elapsed().ok()? < settled_after).then_some((id, status))
    }

    pub(super) fn revoke(&self, quota: &Quota) {
        lock(&self.0).tokens.retain(|_, token| token.quota != *quota);
    }

    /// Whom an `Authorization` value stands for, or the quota that bad credentials count on.
    pub(super) fn caller(&self, instance: &str, authorization: Option<&str>) -> Result<Caller, Quota> {
        let Some(authorization) = authorization else { return Ok(Caller::anonymous()) };
        let secret = secret(authorization).unwrap_or_default();
        let inner = lock(&self.0);
        let good = |token: &&Token| {
            token.instance == instance && token.expires.is_none_or(|end| end > SystemTime::now())
        };
        let Some(token) = inner.tokens.get(&secret).filter(good) else { return Err(Quota::Rejected(secret)) };
        let granted = match &token.quota {
            Quota::Installation(id) => inner.installations.get(id).map(|found| found.repositories.clone()),
            _ => None,
        };
        let repositories = match (granted, token.repositories.clone()) {
            (Some(granted), Some(narrowed)) => granted.intersection(&narrowed).cloned().collect(),
            (granted, narrowed) => granted.or(narrowed).unwrap_or_default(),
        };
        Ok(Caller { quota: token.quota.clone(), reads_contents: token.reads_contents, repositories })
    }

    /// The App that a JWT proves to be, or why it does not.
    /// `ahead` is how many seconds the clock of this instance is ahead.
    pub(super) fn app(
        &self,
        instance: &str,
        authorization: Option<&str>,
        ahead: i64,
    ) -> Result<u64, Refusal> {
        let jwt = Jwt::parse(authorization.and_then(secret).as_deref())?;
        let inner = lock(&self.0);
        let (_, key) = inner
            .apps
            .get(&jwt.issuer)
            .filter(|(home, _)| home == instance)
            .ok_or_else(|| (404, "Integration not found".to_owned()))?;
        jwt.verify(key, ahead)?;
        Ok(jwt.issuer)
    }

    /// A token of an installation, for an App that has proved itself. `narrowed` has names without owner.
    pub(super) fn mint(
        &self,
        app: u64,
        installation: u64,
        narrowed: Option<Vec<String>>,
        permissions: Option<&serde_json::Map<String, Value>>,
    ) -> Result<Minted, Refusal> {
        let mut inner = lock(&self.0);
        let instance = inner.apps.get(&app).map(|(instance, _)| instance.clone()).unwrap_or_default();
        let found = inner.installations.get(&installation).filter(|found| found.app == app);
        let found = found.ok_or_else(|| (404, "Not Found".to_owned()))?;
        let repositories = match narrowed {
            None => None,
            Some(names) => Some(
                names
                    .iter()
                    .map(|name| {
                        let end = format!("/{}", name.to_lowercase());
                        found.repositories.iter().find(|key| key.ends_with(&end)).cloned()
                    })
                    .collect::<Option<HashSet<_>>>()
                    .ok_or_else(|| (422, "There is at least one repository that does not exist or is not accessible to the parent installation.".to_owned()))?,
            ),
        };
        let mut granted = serde_json::Map::from_iter([("metadata".to_owned(), json!("read"))]);
        if found.reads_contents {
            granted.insert("contents".to_owned(), json!("read"));
        }
        // No more than was granted; metadata is always there.
        let within = |(name, level): (&String, &Value)| granted.get(name) == Some(level);
        if permissions.is_some_and(|asked| asked.is_empty() || !asked.iter().all(within)) {
            return Err((422, "The permissions requested are not granted to this installation.".to_owned()));
        }
        let reads_contents =
            found.reads_contents && permissions.is_none_or(|asked| asked.contains_key("contents"));
        let granted = permissions.map_or(granted, |asked| {
            let mut narrowed = asked.clone();
            narrowed.insert("metadata".to_owned(), json!("read"));
            narrowed
        });
        let (token, expires) = (format!("ghs_{}", random()), SystemTime::now() + found.lifetime);
        let quota = Quota::Installation(installation);
        let grant = Token {
            instance,
            quota,
            repositories,
            reads_contents,
            minted: SystemTime::now(),
            expires: Some(expires),
        };
        inner.tokens.insert(token.clone(), grant);
        Ok(Minted { token, permissions: granted.into(), expires })
    }
}

/// What follows `Bearer` or `token`, or the password of `Basic`.
fn secret(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    match scheme.to_lowercase().as_str() {
        "bearer" | "token" => Some(rest.trim().to_owned()),
        "basic" => {
            let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
            pair.split_once(':').map(|(_, password)| password.to_owned())
        }
        _ => None,
    }
}

/// The PKCS#1 key inside a PKCS#8 one, as PEM: what its one `OCTET STRING` holds.
fn pkcs1_pem(pkcs8: &[u8]) -> Result<String> {
    // SEQUENCE (4 bytes of head), version (3), AlgorithmIdentifier of rsaEncryption (15), OCTET STRING (4).
    let inner = pkcs8.get(22..).and_then(|rest| rest.strip_prefix(&[0x04, 0x82]));
    let inner = inner.and_then(|rest| rest.get(2..)).context("not the PKCS#8 form of an RSA key")?;
    let text = STANDARD.encode(inner);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let (begin, end) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
    Ok(format!("{begin}\n{}\n{end}\n", lines.join("\n")))
}

/// 36 letters and digits, as in GitHub's tokens.
pub(super) fn random() -> String {
    let (a, b) = (uuid::Uuid::new_v4().simple().to_string(), uuid::Uuid::new_v4().simple().to_string());
    format!("{a}{}", &b[..4])
}
