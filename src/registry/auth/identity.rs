//! Who sends a request.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;

/// How an identity was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No token.
    Anonymous,
    /// A static token of `--tokens-dir`.
    Static,
    /// A JWT of an issuer in `--auth-config`.
    Jwt,
    /// Any other token, reviewed by the API server.
    Reviewed,
}

impl Kind {
    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Static => "static",
            Self::Jwt => "jwt",
            Self::Reviewed => "kubernetes",
        }
    }
}

/// An identity as Kubernetes RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub kind: Kind,
    pub user: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
    /// When the token expires, if it says so.
    pub expires: Option<Timestamp>,
    /// Distinguishes what RBAC can distinguish: user, uid, groups and extra.
    rights_key: [u8; 32],
    /// Distinguishes user and uid. Tokens of one service account differ in `extra`.
    limit_key: [u8; 32],
}

impl Identity {
    pub fn new(
        kind: Kind,
        user: String,
        uid: Option<String>,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
        expires: Option<Timestamp>,
    ) -> Self {
        let mut limit = Fields::new();
        limit.text(&user);
        limit.text(uid.as_deref().unwrap_or_default());
        let limit_key = limit.digest();
        let mut rights = Fields::new();
        rights.bytes(&limit_key);
        rights.list(&groups);
        rights.count(extra.len());
        for (key, values) in &extra {
            rights.text(key);
            rights.list(values);
        }
        Self { kind, user, uid, groups, extra, expires, rights_key: rights.digest(), limit_key }
    }

    /// Without a token.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self::new(Kind::Anonymous, "system:anonymous".to_owned(), None, groups, BTreeMap::new(), None)
    }

    pub(super) const fn rights_key(&self) -> &[u8; 32] {
        &self.rights_key
    }

    pub(super) const fn limit_key(&self) -> &[u8; 32] {
        &self.limit_key
    }
}

/// SHA-256 over fields, each with its length in front: other fields never have the same digest.
pub(super) struct Fields(Context);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(super) fn count(&mut self, count: usize) {
        self.0.update(&u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn list(&mut self, list: &[String]) {
        self.count(list.len());
        for text in list {
            self.text(text);
        }
    }

    pub(super) fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}
