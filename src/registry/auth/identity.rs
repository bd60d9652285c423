//! The identity that sends a request.

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
    /// When the token expires, if it has an expiry.
    pub expires: Option<Timestamp>,
    /// Distinguishes what RBAC can distinguish: user, uid, groups and extra.
    pub(super) rights_key: [u8; 32],
    /// Distinguishes user and uid. Tokens of one service account differ in `extra`.
    pub(super) limit_key: [u8; 32],
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
        let limit_key = Fields::new().text(&user).text(uid.as_deref().unwrap_or_default()).digest();
        let rights = Fields::new().bytes(&limit_key).list(&groups).count(extra.len());
        let rights = extra.iter().fold(rights, |rights, (key, values)| rights.text(key).list(values));
        Self { kind, user, uid, groups, extra, expires, rights_key: rights.digest(), limit_key }
    }

    /// Without a token.
    pub fn anonymous() -> Self {
        let groups = vec!["system:unauthenticated".to_owned()];
        Self::new(Kind::Anonymous, "system:anonymous".to_owned(), None, groups, BTreeMap::new(), None)
    }
}

/// SHA-256 over fields, each with its length in front: other fields never have the same digest.
pub(super) struct Fields(Context);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn count(mut self, count: usize) -> Self {
        self.0.update(&u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut fields = self.count(bytes.len());
        fields.0.update(bytes);
        fields
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn list(self, list: &[String]) -> Self {
        list.iter().fold(self.count(list.len()), |fields, text| fields.text(text))
    }

    pub(super) fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}
