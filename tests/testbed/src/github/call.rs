//! A request to one part of GitHub, with its decoded path and what it says of its sender.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::faults::{Hop, Subject};
use super::state::{Credential, Edition, State};
use super::{repos, rest};
use crate::background::percent_decode;

/// A request to one part of GitHub.
#[derive(Debug)]
pub(super) struct Call {
    /// `github.com`, or the host of an Enterprise Server.
    pub(super) instance: String,
    edition: Edition,
    pub(super) hop: Hop,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The path inside this part of GitHub, as sent.
    pub(super) raw: String,
    segments: Vec<String>,
    pub(super) query: String,
}

impl Call {
    pub(super) fn new(state: &State, host: &str, parts: Parts, body: Bytes) -> Self {
        let path = parts.uri.path();
        let (instance, edition, hop, raw) =
            state.locate(host, path).unwrap_or((host, Edition::Server, Hop::Site, path));
        Self {
            instance: instance.to_owned(),
            edition,
            hop,
            body,
            raw: raw.to_owned(),
            segments: raw.split('/').skip(1).map(percent_decode).collect(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            method: parts.method,
            headers: parts.headers,
        }
    }

    /// The decoded parts of the path.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// The path as sent, from behind its first `parts` on: empty, or with a leading slash.
    pub(super) fn raw_after(&self, parts: usize) -> String {
        self.raw.split('/').skip(parts + 1).fold(String::new(), |path, part| path + "/" + part)
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
    }

    /// The installation that a token is asked of.
    pub(super) fn installation(&self) -> Option<u64> {
        match self.path()[..] {
            ["app", "installations", id, "access_tokens"] if self.method == Method::POST => id.parse().ok(),
            _ => None,
        }
    }

    /// The token in a link to an archive.
    pub(super) fn link(&self) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.into_owned().find(|(name, _)| name == "token").map(|(_, token)| token)
    }

    pub(super) fn api_url(&self) -> String {
        match self.edition {
            Edition::Public | Edition::DataResidency => format!("https://api.{}", self.instance),
            Edition::Server | Edition::Isolated => format!("https://{}/api/v3", self.instance),
        }
    }

    pub(super) fn codeload_url(&self) -> String {
        match self.edition {
            Edition::Server => format!("https://{}/_codeload", self.instance),
            _ => format!("https://codeload.{}", self.instance),
        }
    }

    /// Where those go who have to sign in first.
    pub(super) fn login_url(&self) -> String {
        let here: String = url::form_urlencoded::byte_serialize(self.raw.as_bytes()).collect();
        format!("https://{}/login?return_to={here}", self.instance)
    }

    pub(super) fn credential(&self) -> Credential {
        match self.authorization() {
            None => Credential::Nothing,
            Some(value) if value.contains("ghs_") => Credential::Installation,
            Some(value) if value.contains("ghp_") => Credential::Personal,
            Some(value) if value.matches('.').count() == 2 => Credential::Jwt,
            Some(_) => Credential::Unknown,
        }
    }

    pub(super) fn subject(&self, state: &State) -> Subject {
        let path = self.path();
        let repository = match (self.hop, &path[..]) {
            (Hop::Api, path) => rest::subject(state, &self.instance, path),
            (_, [owner, name, ..]) => Some(repos::key(&self.instance, owner, name)),
            _ => None,
        };
        Subject { repository, installation: self.installation().filter(|_| self.hop == Hop::Api) }
    }
}
